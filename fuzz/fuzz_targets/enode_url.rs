//! The libFuzzer program of the target `enode_url`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    tercet_fuzz::enode_url(data);
});
