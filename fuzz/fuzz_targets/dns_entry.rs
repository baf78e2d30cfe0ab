//! The libFuzzer program of the target `dns_entry`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    tercet_fuzz::dns_entry(data);
});
