//! The examples are the binaries of this crate; its tests run them.
