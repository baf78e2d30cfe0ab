//! The libFuzzer program of the target `rlpx_frames`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    tercet_fuzz::rlpx_frames(data);
});
