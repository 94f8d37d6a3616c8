//! What a database's refusals mean.
//!
//! Their texts are not passed on: a database quotes values, and values are learners' words. A code
//! tells an operator enough.

use sqlx::Error as SqlError;
use sqlx::error::DatabaseError;

use crate::error::{Error, ErrorKind};
use crate::store::rules;

/// The error that this one is to a caller.
pub(super) fn of(error: SqlError) -> Error {
    match error {
        SqlError::Database(refusal) => refused(&*refusal),
        SqlError::PoolClosed => rules::closed(),
        SqlError::PoolTimedOut => {
            unavailable("no connection to the database became free or could be made in time")
        }
        SqlError::Io(error) => {
            unavailable("the connection to the database failed").with_context("io", error.kind())
        }
        SqlError::Tls(_) => unavailable(
            "no TLS connection to the database: check the certificates and the sslmode of its URL",
        ),
        SqlError::WorkerCrashed => unavailable("the thread of a database connection stopped"),
        SqlError::Configuration(_) => Error::new(
            ErrorKind::Config,
            "the URL of the database cannot be used: check its host, port and options",
        ),
        SqlError::ColumnDecode { .. } | SqlError::Decode(_) => Error::new(
            ErrorKind::DataCorrupt,
            "a value of the database cannot be read: restore a backup",
        ),
        // The rest can only come of a statement that this crate has wrong, or of a server that
        // does not speak the protocol.
        _ => unavailable("the database answered what is not understood"),
    }
}

fn unavailable(message: &'static str) -> Error {
    Error::new(ErrorKind::StoreUnavailable, message).retryable(None)
}

fn refused(refusal: &dyn DatabaseError) -> Error {
    let code = refusal.code().unwrap_or_default();
    let error = match code.parse::<u32>() {
        // SQLSTATEs have five places; SQLite's codes of errors have at most four.
        Ok(number) if code.len() < 5 => sqlite(number),
        _ => postgres(&code),
    };
    error.with_context("code", code)
}

/// By the primary code, which is the last byte of the extended one.
fn sqlite(code: u32) -> Error {
    // SQLITE_IOERR_SHORT_READ: the file ends before its content does.
    if code == 522 {
        return Error::new(
            ErrorKind::DataCorrupt,
            "the database file is too short: restore a backup",
        );
    }
    match code & 0xff {
        // The statements are right: it is the tables that are not.
        1 => Error::new(
            ErrorKind::DataCorrupt,
            "the tables of the database are not as this program made them: restore a backup",
        ),
        5 | 6 => Error::new(
            ErrorKind::StoreLocked,
            "another program is writing to the database file: close it there",
        )
        .retryable(None),
        7 => unavailable("the database ran out of memory"),
        8 => unavailable("the database file cannot be written: check its permissions"),
        10 => unavailable("the database file cannot be read or written: check the disk"),
        11 => Error::new(
            ErrorKind::DataCorrupt,
            "the database file is damaged: restore a backup",
        ),
        13 => unavailable("the disk of the database is full: make room"),
        14 => unavailable("the database file cannot be opened: check the path and its permissions"),
        26 => Error::new(
            ErrorKind::DataCorrupt,
            "the file is no SQLite database, or its first page is damaged: name another file, or \
             restore a backup",
        ),
        _ => Error::internal("the database refused a statement"),
    }
}

fn postgres(code: &str) -> Error {
    match code {
        "28P01" | "28000" => {
            unavailable("the database refused the user or password: check its URL")
        }
        "3D000" => unavailable("the server has no such database: create it, or check the URL"),
        "42501" => unavailable("the database user may not do this: grant it the rights"),
        "40001" | "40P01" => unavailable("the write met another one: try again"),
        "53100" => unavailable("the disk of the database is full: make room"),
        "57014" => unavailable("the database gave up a statement that took too long"),
        "25006" => unavailable("the database only allows reading: name the primary server"),
        "XX001" | "XX002" => Error::new(
            ErrorKind::DataCorrupt,
            "the server found its files damaged: restore a backup",
        ),
        _ if code.starts_with("08") || code.starts_with("57P") => {
            unavailable("the database is starting, stopping or not reachable")
        }
        _ if code.starts_with("53") => unavailable("the database server is out of resources"),
        _ => Error::internal("the database refused a statement"),
    }
}

/// True if a sync failed: nobody knows what of earlier writes is on the disk.
#[cfg(feature = "store-sqlite")]
pub(super) fn is_failed_sync(error: &Error) -> bool {
    // SQLITE_IOERR_FSYNC and SQLITE_IOERR_DIR_FSYNC.
    matches!(error.context_value("code"), Some("1034" | "1290"))
}
