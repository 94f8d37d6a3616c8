//! The laws of [`RecordStore`](crate::RecordStore): each a function that takes an empty store and
//! panics where the law is broken. [`record_laws!`](crate::record_laws) runs them all.

pub mod scanning;
pub mod writing;

use crate::store::{Expect, RecordWrite};

/// A write of a value.
pub fn put(kind: &str, key: &str, value: &[u8], expect: Expect) -> RecordWrite {
    RecordWrite {
        kind: kind.to_owned(),
        key: key.to_owned(),
        value: Some(value.to_vec()),
        expect,
    }
}

/// A deletion.
pub fn delete(kind: &str, key: &str, expect: Expect) -> RecordWrite {
    RecordWrite {
        value: None,
        ..put(kind, key, b"", expect)
    }
}
