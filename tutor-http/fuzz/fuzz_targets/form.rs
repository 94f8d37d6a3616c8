//! Uploads: kept as they are, or refused.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tutor_http_fuzz::form(data));
