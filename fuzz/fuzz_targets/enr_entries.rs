//! The libFuzzer program of the target `enr_entries`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    tercet_fuzz::enr_entries(data);
});
