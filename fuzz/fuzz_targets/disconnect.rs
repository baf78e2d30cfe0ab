//! The libFuzzer program of the target `disconnect`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    tercet_fuzz::disconnect(data);
});
