//! The libFuzzer program of the target `lookup`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    tercet_fuzz::lookup(data);
});
