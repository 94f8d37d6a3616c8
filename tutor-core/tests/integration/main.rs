//! All integration tests of the crate, in one binary.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod boundaries;
mod laws;
mod simulation;
mod stores;
mod support;
mod tidy;
