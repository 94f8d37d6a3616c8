//! A file beside sled's that says how many groups of writes were durable: sled takes a log whose
//! end is missing for one that ends there, and would forget what was acknowledged without a word.
//!
//! The tree has the same number, written with each group; it can only be less if the log lost its
//! end. The mark costs no sync: it is written behind the group's, so that it never promises more
//! than the disk has, and a process that is killed leaves it as it was. Only closing the store
//! syncs it. After a power failure it may be older, and then finds less.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, ErrorKind, Result};
use crate::store::lock;

/// The name of the file, in the directory of the store.
pub(super) const NAME: &str = "mark";

/// A number of 20 digits, a space, its checksum in 8 hexadecimal digits, a line feed.
const BYTES: usize = 30;

/// The open mark of a store.
#[derive(Debug)]
pub(super) struct Mark {
    file: File,
    /// How many groups the tree has.
    groups: AtomicU64,
}

impl Mark {
    /// Opens the mark of the store in this directory, whose tree has so many groups.
    ///
    /// # Errors
    /// `data_corrupt` if there were more.
    pub(super) fn open(directory: &Path, groups: u64) -> Result<Self> {
        let path = directory.join(NAME);
        let fail = |error| lock::unusable(&path, error);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(fail)?;
        let mut bytes = Vec::new();
        file.by_ref()
            .take(BYTES as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(fail)?;
        // A store of an older release has none, a power failure may have left none, and damage to
        // the mark itself is no damage to the store.
        if !bytes.is_empty() && parse(&bytes).is_none() {
            tracing::warn!(path = %path.display(), "the mark of the store is damaged: it is made anew");
        }
        match parse(&bytes) {
            Some(marked) if marked > groups => Err(Error::new(
                ErrorKind::DataCorrupt,
                "the store's file has lost its end, and with it writes that were acknowledged: \
                 restore a backup, or remove the file `mark` to go on with what is left",
            )
            .with_context("path", directory.join("sled").join("db").display())
            .with_context("mark", path.display())
            .with_context("lost_groups", marked - groups)),
            _ => Ok(Self {
                file,
                groups: AtomicU64::new(groups),
            }),
        }
    }

    /// The number of the group that is written next.
    pub(super) fn next(&self) -> u64 {
        self.groups.load(Ordering::Relaxed) + 1
    }

    /// The tree has the next group: gives its number. One thread writes.
    pub(super) fn advance(&self) -> u64 {
        self.groups.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The groups up to this one are durable.
    pub(super) fn set(&self, groups: u64) {
        let number = format!("{groups:020}");
        let line = format!("{number} {:08x}\n", crc32fast::hash(number.as_bytes()));
        if let Err(error) = write_at_start(&self.file, line.as_bytes()) {
            // The writes are as durable as they were.
            tracing::warn!(%error, "the mark of the store cannot be written");
        }
    }

    /// All groups are durable. Lets the mark itself survive a power failure.
    pub(super) fn set_durably(&self) {
        self.set(self.groups.load(Ordering::Relaxed));
        if let Err(error) = self.file.sync_all() {
            tracing::warn!(%error, "the mark of the store cannot be synced");
        }
    }
}

fn parse(bytes: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?;
    let (number, checksum) = text.split_once(' ')?;
    let written = u32::from_str_radix(checksum, 16).ok()?;
    (bytes.len() == BYTES && written == crc32fast::hash(number.as_bytes()))
        .then(|| number.parse().ok())
        .flatten()
}

#[cfg(unix)]
fn write_at_start(file: &File, bytes: &[u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, 0)
}

#[cfg(not(unix))]
fn write_at_start(mut file: &File, bytes: &[u8]) -> io::Result<()> {
    use std::io::{Seek, SeekFrom, Write};
    file.seek(SeekFrom::Start(0))?;
    file.write_all(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn with(groups: u64) -> (tempfile::TempDir, Mark) {
        let directory = tempfile::tempdir().unwrap();
        let mark = Mark::open(directory.path(), groups).unwrap();
        (directory, mark)
    }

    #[test]
    fn a_tree_with_fewer_groups_than_were_marked_is_refused() {
        let (directory, mark) = with(41);
        assert_eq!(mark.next(), 42);
        assert_eq!(mark.advance(), 42);
        mark.set(42);
        for enough in [42, 43] {
            Mark::open(directory.path(), enough).unwrap();
        }
        let error = Mark::open(directory.path(), 40).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DataCorrupt);
        assert_eq!(error.context_value("lost_groups"), Some("2"));
        assert!(error.context_value("path").unwrap().ends_with("sled/db"));
        fs::remove_file(directory.path().join(NAME)).unwrap();
        Mark::open(directory.path(), 40).unwrap();
    }

    #[test]
    fn a_damaged_mark_is_none() {
        let (directory, mark) = with(1 << 40);
        mark.set_durably();
        let path = directory.path().join(NAME);
        let sound = fs::read(&path).unwrap();
        assert_eq!(sound.len(), BYTES);
        for at in 0..BYTES {
            let mut damaged = sound.clone();
            damaged[at] ^= 1;
            for content in [&damaged[..], &sound[..at]] {
                fs::write(&path, content).unwrap();
                Mark::open(directory.path(), 1).unwrap();
            }
        }
        fs::write(&path, sound).unwrap();
        Mark::open(directory.path(), 1).unwrap_err();
    }
}
