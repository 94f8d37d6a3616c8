//! Writing a store's files anew, so that nothing is left of what was deleted.
//!
//! ```text
//! compacting/          the new store, while it is filled; what of it is there is used again
//! compacting/ready     it is whole: from here on the swap is completed, by whoever opens the store
//! replaced/            the old files, until they are removed
//! ```

use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use ::sled::{Batch, Tree};

use super::open::{self, SHUT_DOWN, sync_directory};
use super::shared::Database;
use super::{SledOptions, SledStore, keys, unavailable};
use crate::error::{Error, ErrorKind, Result};
use crate::store::lock;

/// About how many bytes are copied at a time.
const STEP_BYTES: usize = 1 << 20;

/// How far a compaction is, or how it went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compaction {
    /// Entries copied so far.
    pub entries: u64,
    /// Bytes of the files before.
    pub bytes_before: u64,
    /// Bytes of the files now.
    pub bytes_after: u64,
}

impl SledStore {
    /// Writes the files of the store in this directory anew. Takes as much room again as the data
    /// has, and nobody can use the store meanwhile. Tells `progress` how far it is.
    ///
    /// Deleted data stays in the files of a store until sled happens to write over it; after this
    /// there is nothing left of it. Interrupted at any moment, the store is as it was or done, and
    /// calling this again goes on.
    ///
    /// # Errors
    /// `config` if there is no store; `store_locked`, `store_unavailable`, `data_corrupt` as for
    /// [`open`](Self::open).
    pub async fn compact(
        directory: impl AsRef<Path>,
        progress: impl FnMut(Compaction) + Send + 'static,
    ) -> Result<Compaction> {
        let directory = open::absolute(directory.as_ref())?;
        let work = move || {
            let mut progress = progress;
            let options = SledOptions::default();
            let working =
                AssertUnwindSafe(|| compact(&directory, &options, &mut progress, &mut |_| Ok(())));
            catch_unwind(working).unwrap_or_else(|_| {
                Err(Error::new(
                    ErrorKind::DataCorrupt,
                    "compacting the store panicked: verify it",
                ))
            })
        };
        tokio::task::spawn_blocking(work)
            .await
            .unwrap_or_else(|_| Err(Error::internal("the runtime is shutting down")))
    }
}

/// Where a test interrupts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    Copied,
    Whole,
    Ready,
    OldAway,
    NewThere,
    Done,
}

type Interrupt<'a> = &'a mut dyn FnMut(Moment) -> Result<()>;

fn compact(
    directory: &Path,
    options: &SledOptions,
    progress: &mut dyn FnMut(Compaction),
    interrupt: Interrupt<'_>,
) -> Result<Compaction> {
    if !directory.join("format").is_file() {
        return Err(
            Error::new(ErrorKind::Config, "there is no store in this directory")
                .with_context("path", directory.display()),
        );
    }
    let held = Arc::new(open::lock(directory, Instant::now() + options.lock_wait)?);
    let source = open::open_locked(directory, options, Arc::clone(&held))?;
    let mut done = Compaction {
        bytes_before: size(&directory.join("sled"))?,
        ..Compaction::default()
    };
    let new = directory.join("compacting");
    let target = match open::open(&new, options) {
        // What an interrupted compaction left may be damaged; nothing depends on it.
        Err(error) if error.kind() == ErrorKind::DataCorrupt => {
            remove(&new)?;
            open::open(&new, options)?
        }
        opened => opened?,
    };
    copy(&source.db, &target.db, &mut done, progress, interrupt)?;
    remove_others(&source.db, &target.db)?;
    open::make_durable(&new, &target)?;
    interrupt(Moment::Whole)?;
    shut_down(target, &new)?;
    shut_down(source, directory)?;

    let ready = new.join("ready");
    File::create(&ready)
        .and_then(|file| file.sync_all())
        .map_err(|error| lock::unusable(&ready, error))?;
    sync_directory(&new)?;
    interrupt(Moment::Ready)?;
    complete(directory, interrupt)?;
    remove(&directory.join("set-aside"))?;
    interrupt(Moment::Done)?;
    done.bytes_after = size(&directory.join("sled"))?;
    progress(done);
    // Only what opens is done.
    shut_down(open::open_locked(directory, options, held)?, directory)?;
    Ok(done)
}

/// Completes a swap that is ready. Does nothing if there is none. The lock of the directory is
/// held.
pub(super) fn complete_swap(directory: &Path) -> Result<()> {
    complete(directory, &mut |_| Ok(()))
}

fn complete(directory: &Path, interrupt: Interrupt<'_>) -> Result<()> {
    let (new, old) = (directory.join("compacting"), directory.join("replaced"));
    let (files, new_files) = (directory.join("sled"), new.join("sled"));
    if new.join("ready").exists() {
        if new_files.exists() {
            if files.exists() {
                // Left by an earlier one that was interrupted when all was done.
                remove(&old)?;
                rename(&files, &old)?;
                sync_directory(directory)?;
            }
            interrupt(Moment::OldAway)?;
            rename(&new_files, &files)?;
            sync_directory(&new)?;
            sync_directory(directory)?;
        }
        interrupt(Moment::NewThere)?;
        // The mark goes first: without it a directory that is half removed means nothing.
        let ready = new.join("ready");
        fs::remove_file(&ready).map_err(|error| lock::unusable(&ready, error))?;
        remove(&new)?;
    }
    if files.exists() {
        remove(&old)?;
    }
    Ok(())
}

/// Copies what the target does not have yet.
fn copy(
    source: &Tree,
    target: &Tree,
    done: &mut Compaction,
    progress: &mut dyn FnMut(Compaction),
    interrupt: Interrupt<'_>,
) -> Result<()> {
    let (mut batch, mut bytes) = (Batch::default(), 0);
    for entry in source.iter() {
        let (key, value) = entry.map_err(unavailable)?;
        done.entries += 1;
        if target.get(&key).map_err(unavailable)?.as_ref() != Some(&value) {
            bytes += key.len() + value.len();
            batch.insert(key, value);
        }
        if bytes >= STEP_BYTES {
            let full = std::mem::take(&mut batch);
            target.apply_batch(full).map_err(unavailable)?;
            bytes = 0;
        }
        if done.entries.is_multiple_of(1000) {
            progress(*done);
        }
    }
    target.apply_batch(batch).map_err(unavailable)?;
    interrupt(Moment::Copied)
}

/// Removes what an interrupted compaction copied and was deleted since, and checks that the rest
/// is the same.
fn remove_others(source: &Tree, target: &Tree) -> Result<()> {
    let mut theirs = source.iter();
    for entry in target.iter() {
        let (key, value) = entry.map_err(unavailable)?;
        match source.get(&key).map_err(unavailable)? {
            None => {
                target.remove(&key).map_err(unavailable)?;
            }
            Some(expected) if expected == value => match theirs.next() {
                Some(Ok((next, _))) if next == key => {}
                _ => return Err(differs(&key)),
            },
            Some(_) => return Err(differs(&key)),
        }
    }
    match theirs.next() {
        None => Ok(()),
        Some(_) => Err(differs(keys::FORMAT)),
    }
}

fn differs(key: &[u8]) -> Error {
    Error::new(
        ErrorKind::DataCorrupt,
        "the new files are not what the old ones are: verify the store",
    )
    .with_context("record", key.escape_ascii())
}

/// Drops a database, and waits until nothing of it writes to its files any more.
fn shut_down(database: Database, directory: &Path) -> Result<()> {
    let data = directory.join("sled").join("db");
    drop(database);
    let file = File::open(&data).map_err(|error| lock::unusable(&data, error))?;
    let deadline = Instant::now() + SHUT_DOWN;
    // sled holds this lock as long as anything of it is alive.
    while file.try_lock().is_err() {
        if Instant::now() > deadline {
            return Err(Error::new(
                ErrorKind::StoreUnavailable,
                "the store does not let go of its files: try again",
            ));
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(|error| lock::unusable(from, error))
}

fn remove(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(lock::unusable(directory, error))
        }
        _ => Ok(()),
    }
}

/// The bytes of all files in a directory.
fn size(directory: &Path) -> Result<u64> {
    let fail = |error| lock::unusable(directory, error);
    let mut bytes = 0;
    for entry in fs::read_dir(directory).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let about = entry.metadata().map_err(fail)?;
        bytes += if about.is_dir() {
            size(&entry.path())?
        } else {
            about.len()
        };
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::sample::{Contents, contents, line, session_key};
    use crate::store::SessionStore;

    const ALL: [Moment; 6] = [
        Moment::Copied,
        Moment::Whole,
        Moment::Ready,
        Moment::OldAway,
        Moment::NewThere,
        Moment::Done,
    ];

    async fn read(directory: &Path) -> Contents {
        let store = SledStore::open(directory).await.unwrap();
        let check = store.check().await.unwrap();
        assert!(check.problems.is_empty(), "{:?}", check.problems.kept());
        let all = contents(&store, &["a", "b"]).await;
        store.close().await.unwrap();
        all
    }

    async fn change(directory: &Path, change: impl AsyncFnOnce(&SledStore)) {
        let store = SledStore::open(directory).await.unwrap();
        change(&store).await;
        store.close().await.unwrap();
    }

    fn run_until(directory: &Path, moment: Option<Moment>) -> Result<Compaction> {
        compact(
            directory,
            &SledOptions::default(),
            &mut |_| (),
            &mut |now| {
                if Some(now) == moment {
                    Err(Error::internal("interrupted"))
                } else {
                    Ok(())
                }
            },
        )
    }

    #[tokio::test]
    async fn interrupted_at_any_moment_nothing_is_lost_and_the_next_one_goes_on() {
        for moment in ALL {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path();
            change(path, async |store| {
                line(store, "a", "s", 20).await;
                line(store, "b", "t", 3).await;
            })
            .await;
            let before = read(path).await;
            run_until(path, Some(moment)).unwrap_err();
            assert!(read(path).await == before, "{moment:?}");
            // What happens meanwhile counts.
            change(path, async |store| {
                assert!(store.delete_session(&session_key("b", "t")).await.unwrap());
                line(store, "b", "u", 2).await;
            })
            .await;
            let before = read(path).await;
            run_until(path, None).unwrap();
            assert!(read(path).await == before, "{moment:?}");
            for left in ["compacting", "replaced", "set-aside"] {
                assert!(!path.join(left).exists(), "{left} after {moment:?}");
            }
        }
    }

    #[test]
    fn where_no_store_is_none_is_made() {
        let directory = tempfile::tempdir().unwrap();
        let error = run_until(directory.path(), None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
