//! The libFuzzer program of the target `nodedb_row`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    tercet_fuzz::nodedb_row(data);
});
