//! The decoder of server-sent events: never panics, and every chunking gives the same frames.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tutor_core::conformance::traffic;

fuzz_target!(|body: &[u8]| {
    let whole = traffic::frames([body]);
    assert_eq!(traffic::frames(body.chunks(1)), whole);
});
