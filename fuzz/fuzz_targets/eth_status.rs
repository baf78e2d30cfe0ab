//! The libFuzzer program of the target `eth_status`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    tercet_fuzz::eth_status(data);
});
