//! Access tokens, API keys, refresh tokens and tickets: only what we made ourselves is let in.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tutor_http_fuzz::token(data));
