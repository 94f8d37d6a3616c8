//! The events of Gemini: never panic, end once, and are the same in every chunking.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tutor_core::conformance::traffic;
use tutor_core::provider::ProviderKind;

fuzz_target!(|body: &[u8]| traffic::check(ProviderKind::Gemini, body));
