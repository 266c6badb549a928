#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| vaylix_fuzz::request(data));
