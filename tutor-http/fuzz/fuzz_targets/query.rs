//! Paths, queries, cursors and headers of reading routes: never a 500.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tutor_http_fuzz::query(data));
