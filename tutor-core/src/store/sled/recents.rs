//! Records that were read lately, in memory: a small document that is read again and again, such as
//! an account or the length of a list, is had without a thread that may block.
//!
//! What is here is what the tree has: both change together, while no read goes on in the tree.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::recent::Recent;
use crate::store::Record;

/// The most bytes of all records, by estimate. The least recently used go first.
const MAX_BYTES: usize = 8 << 20;
/// A larger record is read from the tree.
const MAX_RECORD_BYTES: usize = 4 << 10;
/// What a record takes besides its key and its value, about.
const RECORD_BYTES: usize = 200;

/// Records by the keys of their rows.
#[derive(Debug)]
pub(super) struct Recents(Mutex<Recent<Vec<u8>, Record>>);

impl Default for Recents {
    fn default() -> Self {
        Self(Mutex::new(Recent::new(MAX_BYTES)))
    }
}

impl Recents {
    /// A record, if it is here.
    pub(super) fn get(&self, name: &[u8]) -> Option<Record> {
        self.lock().get(name).cloned()
    }

    /// Keeps what was read.
    pub(super) fn learn(&self, name: Vec<u8>, record: &Record) {
        keep(&mut self.lock(), name, record.clone());
    }

    /// Follows a write. What nobody has read is not kept: most of it is never asked for alone.
    pub(super) fn follow(&self, name: Vec<u8>, record: Option<Record>) {
        let mut recents = self.lock();
        if recents.take(&name).is_some()
            && let Some(record) = record
        {
            keep(&mut recents, name, record);
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, Recent<Vec<u8>, Record>> {
        // Whoever panicked has at most left something out.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn keep(recents: &mut Recent<Vec<u8>, Record>, name: Vec<u8>, record: Record) {
    if record.value.len() <= MAX_RECORD_BYTES {
        // The key is here three times.
        let bytes = RECORD_BYTES + 3 * name.len() + record.value.len();
        recents.put(name, record, bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(size: usize) -> Record {
        Record {
            key: "a".to_owned(),
            value: vec![1; size],
            version: 1,
        }
    }

    #[test]
    fn only_what_was_read_is_kept_and_follows_what_is_written() {
        let (recents, name) = (Recents::default(), b"ra".to_vec());
        recents.follow(name.clone(), Some(record(1)));
        assert_eq!(recents.get(&name), None);
        recents.learn(name.clone(), &record(1));
        recents.follow(name.clone(), Some(record(2)));
        assert_eq!(recents.get(&name), Some(record(2)));
        recents.follow(name.clone(), Some(record(MAX_RECORD_BYTES + 1)));
        assert_eq!(recents.get(&name), None, "too large");
        recents.learn(name.clone(), &record(1));
        recents.follow(name.clone(), None);
        assert_eq!(recents.get(&name), None, "deleted");
        recents.learn(name.clone(), &record(1));
        recents.clear();
        assert_eq!(recents.get(&name), None);
    }
}
