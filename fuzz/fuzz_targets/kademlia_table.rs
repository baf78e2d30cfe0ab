//! The libFuzzer program of the target `kademlia_table`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    tercet_fuzz::kademlia_table(data);
});
