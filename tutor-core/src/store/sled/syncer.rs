//! The thread that waits for the disk, so that the writer can go on with what is waiting.

use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use ::sled::Db;

use super::shared::{Database, Shared};
use super::unavailable;
use super::writer::Failure;
use crate::error::{Error, ErrorKind};
use crate::store::Durability;

/// What makes one group durable. Neither locks nor closes anything.
pub(super) struct Sync {
    db: Db,
    data: Arc<File>,
}

impl Sync {
    /// Makes everything durable that is applied now.
    pub(super) fn of(database: &Database) -> Self {
        Self {
            db: database.db.clone(),
            data: Arc::clone(&database.data),
        }
    }

    /// Waits for the disk.
    pub(super) fn run(self, shared: &Shared) -> Result<(), Failure> {
        let syncing = AssertUnwindSafe(|| self.flush_and_sync(shared));
        let done = catch_unwind(syncing).unwrap_or(Err(Failure::Panicked));
        // From here on the store can be closed.
        drop(self);
        done
    }

    fn flush_and_sync(&self, shared: &Shared) -> Result<(), Failure> {
        // On Linux, sled 0.34 hands its file to `sync_file_range`, which flushes no device.
        let flush = shared.flushes.fetch_add(1, Ordering::Relaxed) + 1;
        shared.flushing.store(flush, Ordering::Release);
        let flushed = self.db.flush().map_err(unavailable);
        shared.flushing.store(0, Ordering::Release);
        flushed.map_err(Failure::Apply)?;
        if shared.options.durability < Durability::Power {
            return Ok(());
        }
        self.data.sync_data().map_err(|error| {
            Failure::Sync(
                Error::new(
                    ErrorKind::StoreUnavailable,
                    "the store's file cannot be synced",
                )
                .with_source(error),
            )
        })
    }
}

/// The thread. It ends with this value.
pub(super) struct Syncer {
    requests: Sender<Sync>,
    results: Receiver<Result<(), Failure>>,
}

impl Syncer {
    pub(super) fn start(shared: &Arc<Shared>) -> io::Result<Self> {
        let shared = Arc::clone(shared);
        let (requests, waiting) = channel::<Sync>();
        let (done, results) = channel();
        let work = move || {
            for sync in waiting {
                if done.send(sync.run(&shared)).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new()
            .name("tutor-store-sync".to_owned())
            .spawn(work)?;
        Ok(Self { requests, results })
    }

    /// Begins a sync; one at a time. Gives it back if the thread has ended.
    pub(super) fn begin(&self, sync: Sync) -> Result<(), Sync> {
        self.requests.send(sync).map_err(|refused| refused.0)
    }

    /// How the sync went, if it is over.
    pub(super) fn poll(&self) -> Option<Result<(), Failure>> {
        use std::sync::mpsc::TryRecvError;
        match self.results.try_recv() {
            Ok(result) => Some(result),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Err(Failure::Panicked)),
        }
    }

    /// Waits for the end of the sync.
    pub(super) fn wait(&self) -> Result<(), Failure> {
        self.results.recv().unwrap_or(Err(Failure::Panicked))
    }
}
