//! The libFuzzer program of the target `enr`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    tercet_fuzz::enr(data);
});
