//! The libFuzzer program of the target `discv4_message`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    tercet_fuzz::discv4_message(data);
});
