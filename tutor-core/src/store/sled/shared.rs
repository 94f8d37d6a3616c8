//! What the writer and all readers of a store share: the open database, or why there is none.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use ::sled::{Db, Tree};
use tokio::sync::Semaphore;

use super::flush::flush;
use super::mark::Mark;
use super::open::{open_locked, write_snapshot};
use super::recents::Recents;
use super::tails::{Effect, Tails};
use super::{SledOptions, disk_is_full};
use crate::error::{Error, ErrorKind, Result};
use crate::store::{WriteCount, rules};

/// The most reads at a time; more wait. Each occupies a thread.
const MAX_READS: usize = 8;

/// A store that has written this much is closed with a new snapshot.
const SNAPSHOT_BYTES: u64 = 64 << 20;

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) location: PathBuf,
    pub(super) options: SledOptions,
    pub(super) reads: Semaphore,
    pub(super) tails: Tails,
    pub(super) recents: Recents,
    pub(super) written: WriteCount,
    /// How many times sled was told to flush.
    pub(super) flushes: AtomicU64,
    /// Bytes written since the store was opened, about.
    pub(super) written_bytes: AtomicU64,
    /// Which flush is under way; 0 for none.
    pub(super) flushing: AtomicU64,
    /// True while the state is: known without waiting for a batch that is applied.
    open: AtomicBool,
    /// Held for reading while a read is made, so that it sees no write come in between, and for
    /// writing while a batch is applied; not while one is synced.
    state: RwLock<State>,
}

#[derive(Debug)]
enum State {
    Open(Box<Database>),
    Closed,
    Failed(&'static str),
    /// A write met a full disk, and so did opening the store again. The lock is kept.
    Full(Arc<File>),
}

/// The open files of a store.
#[derive(Debug)]
pub(super) struct Database {
    pub(super) db: Db,
    /// The file in which sled keeps the data.
    pub(super) data: Arc<File>,
    pub(super) mark: Mark,
    /// Let go of last.
    pub(super) lock: Arc<File>,
}

impl Shared {
    pub(super) fn new(location: PathBuf, options: SledOptions, database: Database) -> Self {
        Self {
            location,
            options,
            reads: Semaphore::new(MAX_READS),
            tails: Tails::default(),
            recents: Recents::default(),
            written: WriteCount::default(),
            flushes: AtomicU64::new(0),
            written_bytes: AtomicU64::new(0),
            flushing: AtomicU64::new(0),
            open: AtomicBool::new(true),
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

    /// What is in memory, while the store is open.
    pub(super) fn in_memory<T>(&self, find: impl FnOnce(&Self) -> Option<T>) -> Option<T> {
        self.open
            .load(Ordering::Acquire)
            .then(|| find(self))
            .flatten()
    }

    /// Has what is in memory follow what was written.
    pub(super) fn follow(&self, effects: Vec<Effect>) {
        let mut of_sessions = Vec::with_capacity(effects.len());
        for effect in effects {
            match effect {
                Effect::Record(name, record) => self.recents.follow(name, record),
                effect => of_sessions.push(effect),
            }
        }
        self.tails.follow(of_sessions);
    }

    /// Forgets what is in memory.
    pub(super) fn forget(&self) {
        self.tails.clear();
        self.recents.clear();
    }

    /// From now on nothing is read any more.
    fn shut(&self) {
        self.open.store(false, Ordering::Release);
        self.forget();
    }

    /// Makes everything durable and lets go of the files. Later calls do nothing.
    pub(super) fn close(&self) -> Result<()> {
        self.shut();
        let state = std::mem::replace(&mut *self.state_for_writing(), State::Closed);
        let State::Open(database) = state else {
            return Ok(());
        };
        let closing = AssertUnwindSafe(move || {
            flush(&database.db)?;
            database.data.sync_all().map_err(|error| {
                Error::new(
                    ErrorKind::StoreUnavailable,
                    "the store's file cannot be synced",
                )
                .with_source(error)
            })?;
            database.mark.set_durably();
            let lock = Arc::clone(&database.lock);
            drop(database);
            if self.written_bytes.load(Ordering::Relaxed) >= SNAPSHOT_BYTES
                && let Err(error) = write_snapshot(&self.location, &self.options)
            {
                tracing::warn!(%error, "the next opening of the store takes longer");
            }
            // Only now may others have the store.
            drop(lock);
            Ok(())
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
        self.shut();
        let mut state = self.state_for_writing();
        if matches!(*state, State::Open(_)) {
            tracing::error!(path = %self.location.display(), why, "the store failed");
            let database = std::mem::replace(&mut *state, State::Failed(why));
            drop(state);
            // A database that failed may fail again when it is dropped; there is nobody to tell.
            let _ = catch_unwind(AssertUnwindSafe(move || drop(database)));
        }
    }

    /// Opens the store again, after a write for which the disk had no room: sled refuses all that
    /// follow such a one. What the write left is what a crash would have left: all of it or
    /// nothing.
    pub(super) fn reopen(&self) {
        self.shut();
        let mut state = self.state_for_writing();
        let lock = match &*state {
            State::Open(database) => Arc::clone(&database.lock),
            State::Full(lock) => Arc::clone(lock),
            State::Closed | State::Failed(_) => return,
        };
        let failed = std::mem::replace(&mut *state, State::Full(Arc::clone(&lock)));
        let _ = catch_unwind(AssertUnwindSafe(move || drop(failed)));
        let opening = AssertUnwindSafe(|| open_locked(&self.location, &self.options, lock));
        match catch_unwind(opening) {
            Ok(Ok(database)) => {
                *state = State::Open(Box::new(database));
                // A read that was under way may have left something.
                self.forget();
                self.open.store(true, Ordering::Release);
            }
            Ok(Err(error)) => tracing::warn!(%error, "the store waits for room on its disk"),
            Err(_) => *state = State::Failed("opening the store again panicked: restart"),
        }
    }

    /// True if the store waits for room on its disk, and cannot be read meanwhile.
    pub(super) fn waits_for_room(&self) -> bool {
        matches!(&*self.state_for_reading(), State::Full(_))
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
            Self::Full(_) => disk_is_full(),
            Self::Failed(why) => Error::new(ErrorKind::StoreUnavailable, *why),
            Self::Open(_) => Error::new(ErrorKind::StoreUnavailable, "the store dropped this call"),
        }
    }
}
