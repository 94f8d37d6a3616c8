//! The lock of a store in files: one process at a time, and the others learn which.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result};

/// How often a lock that is held is tried again.
const LOCK_RETRY: Duration = Duration::from_millis(20);

/// Takes the lock of the store at `store`, held as long as the file lives. Blocks.
///
/// # Errors
/// `store_locked` with the `path` of the store and the `pid` of the process that has it;
/// `store_unavailable` if the lock's file cannot be used.
pub(super) fn take(lock: &Path, store: &Path, deadline: Instant) -> Result<File> {
    let fail = |error| unusable(lock, error);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(lock)
        .map_err(fail)?;
    loop {
        match file.try_lock() {
            Ok(()) => break,
            // The lock of a process that was killed is held until its memory is taken down.
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => thread::sleep(LOCK_RETRY),
            Err(TryLockError::WouldBlock) => return Err(held(lock, store)),
            Err(TryLockError::Error(error)) => return Err(fail(error)),
        }
    }
    file.set_len(0).map_err(fail)?;
    write!(file, "{}", std::process::id()).map_err(fail)?;
    Ok(file)
}

/// Another process has the store.
pub(super) fn held(lock: &Path, store: &Path) -> Error {
    let owner = fs::read_to_string(lock).unwrap_or_default();
    // The pid comes first.
    let pid = owner.lines().next().unwrap_or("unknown");
    Error::new(
        ErrorKind::StoreLocked,
        "the store is in use: close it there, or use another location",
    )
    .with_context("path", store.display())
    .with_context("pid", pid)
}

/// A file of a store that the operating system does not let us use.
pub(super) fn unusable(path: &Path, error: io::Error) -> Error {
    Error::new(
        ErrorKind::StoreUnavailable,
        "the store's files cannot be used: check the path, its permissions and the disk",
    )
    .with_context("path", path.display())
    .with_source(error)
}
