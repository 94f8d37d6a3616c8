//! Opening a database file: its lock, its connections, its schema.
//!
//! ```text
//! FILE          the database
//! FILE-wal      what was written since the last checkpoint
//! FILE-shm      the index of FILE-wal
//! FILE-lock     held by the process that writes; its id inside, and that the database was whole once
//! ```

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection as _, SqlitePool};

use crate::error::{Error, ErrorKind, Result};
use crate::store::lock;
use crate::store::migration::MigrationPlan;
use crate::store::sql::connection::Connection;
use crate::store::sql::{fault, migrate};

/// The most reads at a time; more wait. Each has a thread.
const MAX_READERS: u32 = 4;

/// How long a process that is still letting go of the file is waited for.
const LOCK_WAIT: Duration = Duration::from_secs(2);

/// How long another program that writes to the file is waited for.
const BUSY_WAIT: Duration = Duration::from_secs(5);

/// What the file of the lock says behind the process id, of a database that was whole.
const WHOLE: &str = "\nwhole";

/// What every database file begins with.
const MAGIC: &[u8] = b"SQLite format 3\0";

/// The open files of a store.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) file: PathBuf,
    pub(super) writer: SqliteConnection,
    pub(super) readers: SqlitePool,
    /// Let go of last.
    pub(super) lock: File,
}

pub(super) async fn open(file: &Path) -> Result<Opened> {
    let (file, lock, was_whole) = take(file).await?;
    let opened = connect(&file).await;
    let (writer, readers) = opened.map_err(|error| named(error, &file))?;
    if !was_whole {
        note_whole(&lock);
    }
    Ok(Opened {
        file,
        writer,
        readers,
        lock,
    })
}

fn note_whole(mut lock: &File) {
    if let Err(error) = lock.write_all(WHOLE.as_bytes()) {
        tracing::warn!(%error, "if the database file is emptied, nobody will notice");
    }
}

async fn connect(file: &Path) -> Result<(SqliteConnection, SqlitePool)> {
    let mut writer = writer(file).await?;
    migrate::run(&mut Connection::Sqlite(&mut writer), None, &mut |_| Ok(())).await?;
    let readers = SqlitePoolOptions::new()
        .max_connections(MAX_READERS)
        .test_before_acquire(false)
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_with(options(file).pragma("query_only", "1"))
        .await
        .map_err(fault::of)?;
    Ok((writer, readers))
}

pub(super) async fn migrate(file: &Path, to: Option<u32>, dry_run: bool) -> Result<MigrationPlan> {
    if dry_run && !file.exists() {
        // A plan makes no file.
        let mut empty = SqliteConnection::connect("sqlite::memory:")
            .await
            .map_err(fault::of)?;
        return migrate::plan(&mut Connection::Sqlite(&mut empty), to).await;
    }
    let (file, _lock, _) = take(file).await?;
    let migrated = async {
        let mut writer = if dry_run {
            reader(&file).await?
        } else {
            writer(&file).await?
        };
        let mut connection = Connection::Sqlite(&mut writer);
        let plan = if dry_run {
            migrate::plan(&mut connection, to).await?
        } else {
            migrate::run(&mut connection, to, &mut |_| Ok(())).await?
        };
        writer.close().await.map_err(fault::of)?;
        Ok(plan)
    };
    migrated.await.map_err(|error| named(error, &file))
}

fn options(file: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(file)
        .busy_timeout(BUSY_WAIT)
        .disable_statement_logging()
}

/// The connection that writes. A new file is made.
pub(super) async fn writer(file: &Path) -> Result<SqliteConnection> {
    options(file)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        // On macOS only this reaches the disk.
        .pragma("fullfsync", "1")
        .pragma("checkpoint_fullfsync", "1")
        // What is deleted is gone.
        .pragma("secure_delete", "1")
        .connect()
        .await
        .map_err(fault::of)
}

async fn reader(file: &Path) -> Result<SqliteConnection> {
    let options = options(file).pragma("query_only", "1");
    options.connect().await.map_err(fault::of)
}

/// Checks the path, and takes the lock. Gives the path without links, and whether the database was
/// whole once.
async fn take(file: &Path) -> Result<(PathBuf, File, bool)> {
    let file = file.to_owned();
    let taking = tokio::task::spawn_blocking(move || {
        let file = place(&file)?;
        let place = beside(&file, "-lock");
        let before = fs::read_to_string(&place).unwrap_or_default();
        let lock = lock::take(&place, &file, Instant::now() + LOCK_WAIT)?;
        let was_whole = before.ends_with(WHOLE);
        if was_whole {
            // The next one is to find what this one found, whatever comes now.
            note_whole(&lock);
        }
        check_header(&file, was_whole)?;
        Ok((file, lock, was_whole))
    });
    taking.await.unwrap_or_else(|_| {
        Err(Error::new(
            ErrorKind::StoreUnavailable,
            "the runtime is shutting down",
        ))
    })
}

/// The absolute path of the file, through links: two names of one file have one lock.
fn place(file: &Path) -> Result<PathBuf> {
    let config =
        |message| Err(Error::new(ErrorKind::Config, message).with_context("path", file.display()));
    if file.is_dir() {
        return config("the path of a database is a file, not a directory");
    }
    match fs::canonicalize(file) {
        Ok(path) => return Ok(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(lock::unusable(file, error)),
    }
    let name = file.file_name();
    let parent = file.parent().map(|parent| match parent.as_os_str().len() {
        0 => Path::new("."),
        _ => parent,
    });
    match (name, parent.map(fs::canonicalize)) {
        (Some(name), Some(Ok(parent))) if parent.is_dir() => Ok(parent.join(name)),
        (Some(_), Some(Err(error))) if error.kind() == io::ErrorKind::NotFound => config(
            "the directory of the database file does not exist: create it, or name another path",
        ),
        (Some(_), Some(Err(error))) => Err(lock::unusable(file, error)),
        _ => config("the path of a database is a file in a directory"),
    }
}

fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(file);
    name.push(suffix);
    name.into()
}

/// Refuses a file that is something else, that may not be written, and that has lost its content.
fn check_header(file: &Path, was_whole: bool) -> Result<()> {
    let mut start = Vec::new();
    // SQLite would open a file that may only be read, and refuse the first write.
    match OpenOptions::new().read(true).write(true).open(file) {
        Ok(opened) => {
            let limit = MAGIC.len() as u64;
            opened
                .take(limit)
                .read_to_end(&mut start)
                .map_err(|error| lock::unusable(file, error))?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(lock::unusable(file, error)),
    }
    let corrupt = |message| {
        Err(Error::new(ErrorKind::DataCorrupt, message).with_context("path", file.display()))
    };
    if !start.is_empty() && start != MAGIC {
        return corrupt(
            "the file is no SQLite database, or its first page is damaged: name another file, or \
             restore a backup",
        );
    }
    if start.is_empty() && was_whole && file.exists() {
        return corrupt(
            "the database file is empty, and was not: restore a backup, or remove it to begin anew",
        );
    }
    let log = beside(file, "-wal");
    let logged = fs::metadata(&log).map_or(0, |log| log.len());
    if start.is_empty() && logged > 0 {
        return corrupt(
            "the database file is empty or missing, but there is a log of it (-wal): restore a \
             backup, or move the log away to begin anew",
        );
    }
    Ok(())
}

/// Says which file it is about.
pub(super) fn named(error: Error, file: &Path) -> Error {
    let concerns_the_file = matches!(
        error.kind(),
        ErrorKind::DataCorrupt
            | ErrorKind::StoreUnavailable
            | ErrorKind::StoreLocked
            | ErrorKind::Config
            | ErrorKind::Internal
    );
    if concerns_the_file && error.context_value("path").is_none() {
        return error.with_context("path", file.display());
    }
    error
}
