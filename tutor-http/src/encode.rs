//! Wire protocols: each a pure function from an event (and a small state) to bytes.

pub(crate) mod native;
