//! The libFuzzer program of the target `discv4_session`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    tercet_fuzz::discv4_session(data);
});
