//! The libFuzzer program of the target `rlpx_payload`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    tercet_fuzz::rlpx_payload(data);
});
