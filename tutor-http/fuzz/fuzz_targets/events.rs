//! Replies of a model as event streams: whatever it writes stays inside of its events.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tutor_http_fuzz::events(data));
