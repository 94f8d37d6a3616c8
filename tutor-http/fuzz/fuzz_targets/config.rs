//! Configuration files: settings, or one line that says what is wrong.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tutor_http_fuzz::config(data));
