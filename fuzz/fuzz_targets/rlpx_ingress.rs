//! The libFuzzer program of the target `rlpx_ingress`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    tercet_fuzz::rlpx_ingress(data);
});
