//! The libFuzzer program of the target `nodedb_contact`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    tercet_fuzz::nodedb_contact(data);
});
