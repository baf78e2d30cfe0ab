//! The libFuzzer program of the target `hello`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    tercet_fuzz::hello(data);
});
