//! Bodies of JSON, by every route that reads one: answered in its protocol, and never by a 500.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tutor_http_fuzz::json(data));
