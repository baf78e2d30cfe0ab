//! The libFuzzer program of the target `chain_folder`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    tercet_fuzz::chain_folder(data);
});
