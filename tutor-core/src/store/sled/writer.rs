//! The one thread that writes: it takes what is waiting, writes it as one batch, syncs once, and
//! then answers all. A lone writer never waits for company; the sync that runs is the time in
//! which a group gathers.

use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::draft::Draft;
use super::shared::Shared;
use super::unavailable;
use crate::error::{Error, ErrorKind, Result};
use crate::store::Durability;

/// The most writes that wait for the writer; who comes later waits for a place.
pub(super) const MAX_QUEUE: usize = 1024;
/// The most writes of one group. Readers wait while a group is applied.
const MAX_GROUP: usize = 64;
/// A group that has written this many bytes takes no more writes.
const MAX_GROUP_BYTES: usize = 4 << 20;

/// Makes what was written to sled's file durable.
pub(super) type Sync = fn(&File) -> io::Result<()>;

/// Work for the writer.
pub(super) enum Job {
    Write(Write),
    Close(oneshot::Sender<Result<()>>),
}

/// One write, still to be made.
pub(super) struct Write {
    /// False if it need not survive a crash.
    durable: bool,
    make: Box<dyn FnOnce(&mut Draft<'_>) -> Made + Send>,
}

/// A write that is in the draft, or was refused.
struct Made {
    accepted: bool,
    answer: Answer,
}

/// Tells the caller how it went, once it is known whether the group was written.
type Answer = Box<dyn FnOnce(Result<()>) + Send>;

impl Write {
    /// A write, and where its result will be. The result is dropped if the writer fails.
    pub(super) fn new<T: Send + 'static>(
        durable: bool,
        make: impl FnOnce(&mut Draft<'_>) -> Result<T> + Send + 'static,
    ) -> (Self, oneshot::Receiver<Result<T>>) {
        let (sender, receiver) = oneshot::channel();
        let make = Box::new(move |draft: &mut Draft<'_>| {
            let result = make(draft);
            Made {
                accepted: result.is_ok(),
                // Nobody may wait for it any more.
                answer: Box::new(move |group| drop(sender.send(group.and(result)))),
            }
        });
        (Self { durable, make }, receiver)
    }
}

/// The writer of one store.
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) jobs: mpsc::Receiver<Job>,
    pub(super) sync: Sync,
}

impl Writer {
    /// Works until nobody holds the store any more, then closes it.
    pub(super) fn run(mut self) {
        while let Some(job) = self.jobs.blocking_recv() {
            let close = match job {
                Job::Write(write) => self.write_group(write),
                Job::Close(answer) => Some(answer),
            };
            if let Some(answer) = close {
                // Nobody may wait for it any more.
                let _ = answer.send(self.shared.close());
            }
        }
        if let Err(error) = self.shared.close() {
            tracing::error!(%error, "the store was not closed cleanly");
        }
    }

    /// Makes this write and those that wait behind it. Gives back the wish to close that came
    /// among them.
    fn write_group(&mut self, first: Write) -> Option<oneshot::Sender<Result<()>>> {
        let mut answers = Vec::new();
        let mut close = None;
        let writing = AssertUnwindSafe(|| self.commit(first, &mut answers, &mut close));
        let written = catch_unwind(writing).unwrap_or_else(|_| Err(Failure::Panicked));
        if let Err(failure) = &written {
            self.shared.fail(failure.advice());
        }
        for answer in answers {
            answer(written.as_ref().map_err(|_| self.shared.error()).copied());
        }
        close
    }

    fn commit(
        &mut self,
        first: Write,
        answers: &mut Vec<Answer>,
        close: &mut Option<oneshot::Sender<Result<()>>>,
    ) -> Result<(), Failure> {
        let mut durable = false;
        let shared = Arc::clone(&self.shared);
        let drafted = shared.with(|database| {
            let mut draft = Draft::new(&database.db);
            let mut next = Some(first);
            while let Some(write) = next {
                let made = (write.make)(&mut draft);
                durable |= write.durable && made.accepted && draft.has_changes();
                draft.settle(made.accepted);
                answers.push(made.answer);
                let full = answers.len() == MAX_GROUP || draft.bytes() >= MAX_GROUP_BYTES;
                next = if full { None } else { self.take_next(close) };
            }
            Ok(draft.into_batch())
        });
        // A store that is closed has dropped the write, and with it the caller's hope.
        let Ok(Some(batch)) = drafted else {
            return Ok(());
        };
        shared
            .with_exclusively(|database| database.db.apply_batch(batch).map_err(unavailable))
            .map_err(Failure::Apply)?;
        if durable {
            self.make_durable().map_err(Failure::Sync)?;
        }
        Ok(())
    }

    fn take_next(&mut self, close: &mut Option<oneshot::Sender<Result<()>>>) -> Option<Write> {
        match self.jobs.try_recv().ok()? {
            Job::Write(write) => Some(write),
            Job::Close(answer) => {
                *close = Some(answer);
                None
            }
        }
    }

    fn make_durable(&self) -> Result<()> {
        self.shared.with(|database| {
            // On Linux, sled 0.34 hands its file to `sync_file_range`, which flushes no device.
            database.db.flush().map_err(unavailable)?;
            if self.shared.durability < Durability::Power {
                return Ok(());
            }
            (self.sync)(&database.data).map_err(|error| {
                Error::new(
                    ErrorKind::StoreUnavailable,
                    "the store's file cannot be synced",
                )
                .with_source(error)
            })
        })
    }
}

/// After one of these, nobody knows what of a group is stored.
enum Failure {
    Apply(Error),
    Sync(Error),
    Panicked,
}

impl Failure {
    /// What to tell all who come later.
    fn advice(&self) -> &'static str {
        let (advice, error) = match self {
            Self::Apply(error) => (
                "a write of the store failed: check the disk and reopen it",
                error,
            ),
            Self::Sync(error) => (
                "a sync of the store failed: check the disk and reopen it",
                error,
            ),
            Self::Panicked => return "a write of the store panicked: reopen it",
        };
        tracing::error!(%error, "a group of writes failed");
        advice
    }
}
