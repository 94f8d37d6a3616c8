//! What the writer and all readers of a store share: the open database, or why there is none.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use ::sled::{Db, Tree};
use tokio::sync::Semaphore;

use super::unavailable;
use crate::error::{Error, ErrorKind, Result};
use crate::store::{Durability, rules};

/// The most reads at a time; more wait. Each occupies a thread.
const MAX_READS: usize = 8;

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) location: PathBuf,
    pub(super) durability: Durability,
    pub(super) reads: Semaphore,
    /// Held for reading while a read is made, so that it sees no write come in between, and for
    /// writing while a batch is applied; not while one is synced.
    state: RwLock<State>,
}

#[derive(Debug)]
enum State {
    Open(Box<Database>),
    Closed,
    Failed(&'static str),
}

/// The open files of a store.
#[derive(Debug)]
pub(super) struct Database {
    pub(super) db: Db,
    /// The file in which sled keeps the data.
    pub(super) data: File,
    /// Let go of last.
    pub(super) _lock: File,
}

impl Shared {
    pub(super) fn new(location: PathBuf, durability: Durability, database: Database) -> Self {
        Self {
            location,
            durability,
            reads: Semaphore::new(MAX_READS),
            state: RwLock::new(State::Open(Box::new(database))),
        }
    }

    /// Gives the database to `work`, while no batch is applied.
    pub(super) fn with<T>(&self, work: impl FnOnce(&Database) -> Result<T>) -> Result<T> {
        match &*self.state_for_reading() {
            State::Open(database) => work(database),
            state => Err(state.error()),
        }
    }

    /// Gives the database to `work` alone.
    pub(super) fn with_exclusively<T>(
        &self,
        work: impl FnOnce(&Database) -> Result<T>,
    ) -> Result<T> {
        match &*self.state_for_writing() {
            State::Open(database) => work(database),
            state => Err(state.error()),
        }
    }

    /// Reads from the database. If sled panics, the store fails and the process lives.
    pub(super) fn read<T>(&self, read: impl FnOnce(&Tree) -> Result<T>) -> Result<T> {
        let reading = AssertUnwindSafe(|| self.with(|database| read(&database.db)));
        catch_unwind(reading).unwrap_or_else(|_| {
            self.fail("a read of the store panicked: reopen it");
            Err(self.error())
        })
    }

    /// Makes everything durable and lets go of the files. Later calls do nothing.
    pub(super) fn close(&self) -> Result<()> {
        let state = std::mem::replace(&mut *self.state_for_writing(), State::Closed);
        let State::Open(database) = state else {
            return Ok(());
        };
        let closing = AssertUnwindSafe(move || {
            database.db.flush().map_err(unavailable)?;
            database.data.sync_all().map_err(|error| {
                Error::new(
                    ErrorKind::StoreUnavailable,
                    "the store's file cannot be synced",
                )
                .with_source(error)
            })
        });
        catch_unwind(closing).unwrap_or_else(|_| {
            Err(Error::new(
                ErrorKind::StoreUnavailable,
                "closing the store panicked",
            ))
        })
    }

    /// Lets go of the database, of which nobody knows what of the last writes it holds. What is
    /// unknown is neither acknowledged nor read.
    pub(super) fn fail(&self, why: &'static str) {
        let mut state = self.state_for_writing();
        if matches!(*state, State::Open(_)) {
            tracing::error!(path = %self.location.display(), why, "the store failed");
            let database = std::mem::replace(&mut *state, State::Failed(why));
            drop(state);
            // A database that failed may fail again when it is dropped; there is nobody to tell.
            let _ = catch_unwind(AssertUnwindSafe(move || drop(database)));
        }
    }

    /// Why the store cannot be used.
    pub(super) fn error(&self) -> Error {
        self.state_for_reading().error()
    }

    // A panic while a lock was held has failed the store, or is about to.
    fn state_for_reading(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn state_for_writing(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn error(&self) -> Error {
        match self {
            Self::Closed => rules::closed(),
            Self::Failed(why) => Error::new(ErrorKind::StoreUnavailable, *why),
            Self::Open(_) => Error::new(ErrorKind::StoreUnavailable, "the store dropped this call"),
        }
    }
}
