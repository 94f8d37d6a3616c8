//! Opening a store: its directory, its lock, sled itself, and its format.
//!
//! ```text
//! lock          held by the process that uses the store; its id inside
//! format        written once the store is whole: without it, an empty store is new
//! mark          how many groups of writes were durable
//! sled/         sled's files
//! set-aside/    snapshots that sled could not read; it rebuilds them. Stores that were never whole
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ::sled::{Db, Mode, Tree};
use serde::{Deserialize, Serialize};

use super::SledOptions;
use super::compact::complete_swap;
use super::draft::{Draft, Rows};
use super::flush::flush;
use super::mark::Mark;
use super::shared::Database;
use super::tails::Tails;
use super::{keys, unavailable};
use crate::error::{Error, ErrorKind, Result};
use crate::store::lock;
use crate::store::private::make_private;

/// The version of keys and rows that this program writes.
const FORMAT: u32 = 1;

/// sled moves pages above a quarter of this to files that it never syncs.
const SEGMENT_BYTES: usize = 8 << 20;

/// How often sled's own thread runs. It is the only one that gives space back; what is durable is
/// the writer's business.
const FLUSH_EVERY_MS: u64 = 500;

/// How long sled may take to let go of its files.
pub(super) const SHUT_DOWN: Duration = Duration::from_secs(10);

/// How often a lock that is held is tried again.
const LOCK_RETRY: Duration = Duration::from_millis(20);

#[derive(Debug, Serialize, Deserialize)]
struct FormatRow {
    #[serde(rename = "f")]
    format: u32,
}

/// The process that started sled first, whose memory this is; 0 if none has.
static STARTED_IN: AtomicU32 = AtomicU32::new(0);

/// Refuses what would wait for ever: sled's threads are those of the process that started it first,
/// and a process that was forked from it has their queues without them.
fn check_not_forked() -> Result<()> {
    let started_in = STARTED_IN.load(Ordering::Relaxed);
    if started_in == 0 || started_in == std::process::id() {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Config,
        "a sled store cannot be opened in a process that was forked after one was opened in its parent: \
         start the process anew instead (Python: the start method spawn or forkserver), fork before the \
         parent opens one, or keep the data in sqlite:///FILE",
    )
    .with_context("reason", "forked"))
}

/// Opens the store in this directory, or creates one. Blocks.
pub(super) fn open(directory: &Path, options: &SledOptions) -> Result<Database> {
    check_not_forked()?;
    create_directory(directory)?;
    let deadline = Instant::now() + options.lock_wait;
    let lock = lock(directory, deadline)?;
    open_locked(directory, options, Arc::new(lock))
}

/// Opens the store, whose lock we hold.
pub(super) fn open_locked(
    directory: &Path,
    options: &SledOptions,
    lock: Arc<File>,
) -> Result<Database> {
    complete_swap(directory)?;
    let marker = directory.join("format");
    let marked = read_marker(&marker)?;

    let deadline = Instant::now() + options.lock_wait;
    let files = directory.join("sled");
    let started = match start(&files, options, deadline) {
        Err(error) if error.kind() == ErrorKind::DataCorrupt && set_snapshots_aside(directory)? => {
            tracing::warn!(path = %directory.display(), "sled rebuilds its snapshot");
            start(&files, options, deadline)
        }
        Err(error) if error.kind() == ErrorKind::DataCorrupt && !marked => {
            tracing::warn!(path = %directory.display(), "a store whose creation was cut off is made anew");
            set_unfinished_aside(directory)?;
            start(&files, options, deadline)
        }
        started => started,
    };
    let db = started.map_err(|error| error.with_context("path", directory.display()))?;
    let data = OpenOptions::new()
        .write(true)
        .open(files.join("db"))
        .map_err(|error| lock::unusable(&files, error))?;
    check_format(&db, marked).map_err(|error| error.with_context("path", directory.display()))?;
    let groups = count_groups(&db).map_err(|error| error.with_context("path", directory.display()));
    let database = Database {
        mark: Mark::open(directory, groups?)?,
        db,
        data: Arc::new(data),
        lock,
    };
    if !marked {
        make_durable(directory, &database)?;
    }
    Ok(database)
}

fn create_directory(directory: &Path) -> Result<()> {
    if directory.exists() && !directory.is_dir() {
        return Err(Error::new(
            ErrorKind::Config,
            "the path of a store is a directory, not a file",
        )
        .with_context("path", directory.display()));
    }
    let missing: Vec<&Path> = directory
        .ancestors()
        .take_while(|path| !path.exists())
        .collect();
    make_private(directory).map_err(|error| lock::unusable(directory, error))?;
    for parent in missing.iter().filter_map(|path| path.parent()) {
        sync_directory(parent)?;
    }
    Ok(())
}

pub(super) fn lock(directory: &Path, deadline: Instant) -> Result<File> {
    lock::take(&directory.join("lock"), directory, deadline)
}

/// True if there is a store that was whole once.
fn read_marker(marker: &Path) -> Result<bool> {
    match fs::read_to_string(marker) {
        Ok(text) => {
            // A store of another format is not touched.
            text.trim().parse().map_or(Ok(()), check_version)?;
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(lock::unusable(marker, error)),
    }
}

fn check_version(format: u32) -> Result<()> {
    if format <= FORMAT {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::DataCorrupt,
        "the store was written by a newer version of this program: use that one",
    )
    .with_context("format", format)
    .with_context("newest_known", FORMAT))
}

/// Starts sled. On damaged files it may panic, or say that they are.
fn start(files: &Path, options: &SledOptions, deadline: Instant) -> Result<Db> {
    let config = ::sled::Config::new()
        .path(files)
        .mode(Mode::HighThroughput)
        .segment_size(SEGMENT_BYTES)
        .cache_capacity(options.cache_capacity)
        .flush_every_ms(Some(FLUSH_EVERY_MS));
    STARTED_IN.store(std::process::id(), Ordering::Relaxed);
    loop {
        let started = catch_unwind(AssertUnwindSafe(|| config.open()));
        return match started {
            Ok(Ok(db)) => Ok(db),
            Ok(Err(error)) if is_lock(&error) => {
                if Instant::now() < deadline {
                    thread::sleep(LOCK_RETRY);
                    continue;
                }
                {
                    let directory = files.parent().unwrap_or(files);
                    Err(lock::held(&directory.join("lock"), directory).with_source(error))
                }
            }
            Ok(Err(::sled::Error::Io(error))) if is_about_the_disk(&error) => {
                Err(lock::unusable(files, error))
            }
            Ok(Err(error)) => Err(corrupt().with_source(error)),
            Err(_) => Err(corrupt()),
        };
    }
}

/// Has sled write down where everything is, so that the next opening need not read all that was
/// written since this one. sled does that only when it is opened. Nobody uses the store, whose lock
/// we hold.
pub(super) fn write_snapshot(directory: &Path, options: &SledOptions) -> Result<()> {
    let deadline = Instant::now() + SHUT_DOWN;
    start(&directory.join("sled"), options, deadline).map(drop)
}

/// sled has no error of its own for this.
fn is_lock(error: &::sled::Error) -> bool {
    matches!(error, ::sled::Error::Io(error) if error.to_string().contains("could not acquire lock"))
}

/// Not about what is in the files.
fn is_about_the_disk(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, InvalidInput, Other, UnexpectedEof};
    !matches!(
        error.kind(),
        InvalidData | InvalidInput | Other | UnexpectedEof
    )
}

fn corrupt() -> Error {
    Error::new(
        ErrorKind::DataCorrupt,
        "the store's files are damaged: move the directory away and restore a backup",
    )
}

/// Moves away what sled can rebuild. False if there was nothing.
fn set_snapshots_aside(directory: &Path) -> Result<bool> {
    let aside = directory.join("set-aside");
    let fail = |error| lock::unusable(directory, error);
    let mut moved = false;
    for entry in fs::read_dir(directory.join("sled")).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        if entry.file_name().to_string_lossy().starts_with("snap.") {
            fs::create_dir_all(&aside).map_err(fail)?;
            fs::rename(entry.path(), aside.join(entry.file_name())).map_err(fail)?;
            moved = true;
        }
    }
    Ok(moved)
}

/// Moves away the files of a store that was never whole: nothing of it was ever acknowledged.
fn set_unfinished_aside(directory: &Path) -> Result<()> {
    let fail = |error| lock::unusable(directory, error);
    let aside = directory.join("set-aside");
    fs::create_dir_all(&aside).map_err(fail)?;
    let place = (1..)
        .map(|n| aside.join(format!("unfinished-{n}")))
        .find(|place| !place.exists());
    place.map_or(Ok(()), |place| {
        fs::rename(directory.join("sled"), place).map_err(fail)
    })
}

/// Checks the format of a store, or writes that of a new one.
fn check_format(tree: &Tree, marked: bool) -> Result<()> {
    let checking = AssertUnwindSafe(|| {
        if let Some(row) = tree.row::<FormatRow>(keys::FORMAT)? {
            return check_version(row.format);
        }
        if marked || tree.first().map_err(unavailable)?.is_some() {
            return Err(Error::new(
                ErrorKind::DataCorrupt,
                "the store has lost its data: move the directory away and restore a backup",
            ));
        }
        let tails = Tails::default();
        let mut draft = Draft::new(tree, &tails);
        draft.insert(keys::FORMAT, &FormatRow { format: FORMAT })?;
        draft.settle(true);
        let (batch, _) = draft.into_batch().unwrap_or_default();
        tree.apply_batch(batch).map_err(unavailable)
    });
    catch_unwind(checking).unwrap_or_else(|_| Err(corrupt()))
}

/// How many groups of writes the store has; 0 if it is of a release that did not count them.
fn count_groups(tree: &Tree) -> Result<u64> {
    let counting = AssertUnwindSafe(|| Ok(tree.row(keys::GROUPS)?.unwrap_or(0)));
    catch_unwind(counting).unwrap_or_else(|_| Err(corrupt()))
}

/// Makes a new store survive a power failure, then marks it as whole.
pub(super) fn make_durable(directory: &Path, database: &Database) -> Result<()> {
    flush(&database.db)?;
    let files = directory.join("sled");
    let fail = |error| lock::unusable(&files, error);
    for entry in fs::read_dir(&files).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        if path.is_file() {
            OpenOptions::new()
                .write(true)
                .open(&path)
                .and_then(|file| file.sync_all())
                .map_err(fail)?;
        }
    }
    sync_directory(&files)?;
    sync_directory(directory)?;
    let marker = directory.join("format");
    File::create(&marker)
        .and_then(|mut file| {
            writeln!(file, "{FORMAT}")?;
            file.sync_all()
        })
        .map_err(|error| lock::unusable(&marker, error))?;
    sync_directory(directory)
}

/// Makes the names in a directory durable, where that takes doing.
pub(super) fn sync_directory(directory: &Path) -> Result<()> {
    if cfg!(not(unix)) {
        return Ok(());
    }
    File::open(directory)
        .and_then(|opened| opened.sync_all())
        .map_err(|error| lock::unusable(directory, error))
}

/// The absolute form of a path.
pub(super) fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|error| {
        Error::new(
            ErrorKind::Config,
            "the path of a store is a directory, not empty",
        )
        .with_source(error)
    })
}
