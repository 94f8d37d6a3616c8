//! All integration tests of the crate, in one binary.

mod boundaries;
mod laws;
mod simulation;
mod support;
mod tidy;
