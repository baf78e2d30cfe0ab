//! The libFuzzer program of the target `discv5_packet`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    tercet_fuzz::discv5_packet(data);
});
