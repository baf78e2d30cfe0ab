//! The libFuzzer program of the target `rlpx_auth`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    tercet_fuzz::rlpx_auth(data);
});
