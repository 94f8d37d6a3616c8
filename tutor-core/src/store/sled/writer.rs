//! The one thread that writes: it takes what is waiting, writes it as one batch, syncs once, and
//! then answers all. A lone writer never waits for company; the sync that runs is the time in
//! which a group gathers.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::draft::Draft;
use super::flush::FLUSH_PATIENCE;
use super::shared::Shared;
use super::{disk_is_full, unavailable};
use crate::error::{Error, ErrorKind, Result};
use crate::store::Durability;

/// The most writes that wait for the writer; who comes later waits for a place.
pub(super) const MAX_QUEUE: usize = 1024;
/// The most writes of one group. Readers wait while a group is applied.
const MAX_GROUP: usize = 64;
/// A group that has written this many bytes takes no more writes.
const MAX_GROUP_BYTES: usize = 4 << 20;

/// Free bytes of the disk below which nothing is written. sled recovers from a write that the disk
/// refuses only by being opened again, and then needs room itself: for a segment to clear, a
/// segment to go on in, and a snapshot.
const RESERVED_BYTES: u64 = 20 << 20;
/// How long no write is tried after one for which there was no room.
const FULL_PAUSE: Duration = Duration::from_secs(1);

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
    /// When to try again to write to a disk that was full.
    pub(super) paused_until: Option<Instant>,
    /// How many times sled was told to flush.
    pub(super) flushes: u64,
}

impl Writer {
    /// Makes a flush end that waits for a write which has failed: sled 0.34 forgets to wake it when
    /// the write was one of its background threads'. Another flush meets the error, and wakes all.
    pub(super) fn watch(shared: &Arc<Shared>) -> io::Result<()> {
        let watched = Arc::downgrade(shared);
        let work = move || {
            let mut before = 0;
            loop {
                thread::sleep(FLUSH_PATIENCE);
                let Some(shared) = watched.upgrade() else {
                    return;
                };
                let now = shared.flushing.load(Ordering::Acquire);
                if now != 0 && now == before {
                    let flushing = AssertUnwindSafe(|| {
                        shared.with(|database| database.db.flush().map_err(unavailable))
                    });
                    // The writer is told the same.
                    let _ = catch_unwind(flushing);
                }
                before = now;
            }
        };
        thread::Builder::new()
            .name("tutor-store-watch".to_owned())
            .spawn(work)
            .map(drop)
    }

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
        if written.is_ok() {
            self.shared.written.add(answers.len());
        }
        let error = written.err().map(|failure| self.recover(failure));
        for answer in answers {
            answer(error.clone().map_or(Ok(()), Err));
        }
        close
    }

    /// Does what can be done after a failure, and says what to tell those who wait.
    fn recover(&mut self, failure: Failure) -> Error {
        match failure {
            Failure::Refused(error) => error,
            Failure::Apply(error) if is_full(&error) => {
                tracing::warn!(%error, "the disk is full");
                self.paused_until = Some(Instant::now() + FULL_PAUSE);
                self.shared.reopen();
                disk_is_full()
            }
            failure => {
                self.shared.fail(failure.advice());
                self.shared.error()
            }
        }
    }

    /// Refuses a write for which the disk has no room, while nothing is changed yet.
    fn check_room(&self, bytes: usize) -> Result<()> {
        if self.paused_until.is_some_and(|end| Instant::now() < end) {
            return Err(disk_is_full());
        }
        let needed = RESERVED_BYTES.saturating_add(2 * bytes as u64);
        match fs2::available_space(&self.shared.location) {
            Ok(free) if free < needed => Err(disk_is_full()),
            // Where nobody can tell, the disk itself will.
            _ => Ok(()),
        }
    }

    fn commit(
        &mut self,
        first: Write,
        answers: &mut Vec<Answer>,
        close: &mut Option<oneshot::Sender<Result<()>>>,
    ) -> Result<(), Failure> {
        if self.shared.waits_for_room() && self.check_room(0).is_ok() {
            self.shared.reopen();
        }
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
            let bytes = draft.bytes();
            Ok(draft
                .into_batch()
                .map(|(batch, effects)| (batch, effects, bytes)))
        });
        // A store that is closed has dropped the write, and with it the caller's hope.
        let Ok(Some((batch, effects, bytes))) = drafted else {
            return Ok(());
        };
        self.check_room(bytes).map_err(Failure::Refused)?;
        shared
            .with_exclusively(|database| {
                database.db.apply_batch(batch).map_err(unavailable)?;
                shared.tails.follow(effects);
                Ok(())
            })
            .map_err(Failure::Apply)?;
        if durable {
            self.make_durable()?;
        }
        self.paused_until = None;
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

    fn make_durable(&mut self) -> Result<(), Failure> {
        // On Linux, sled 0.34 hands its file to `sync_file_range`, which flushes no device.
        self.flushes += 1;
        self.shared.flushing.store(self.flushes, Ordering::Release);
        let flushed = self
            .shared
            .with(|database| database.db.flush().map_err(unavailable));
        self.shared.flushing.store(0, Ordering::Release);
        flushed.map_err(Failure::Apply)?;
        if self.shared.options.durability < Durability::Power {
            return Ok(());
        }
        self.shared
            .with(|database| {
                database.data.sync_data().map_err(|error| {
                    Error::new(
                        ErrorKind::StoreUnavailable,
                        "the store's file cannot be synced",
                    )
                    .with_source(error)
                })
            })
            .map_err(Failure::Sync)
    }
}

/// Why a group was not acknowledged. But for the first, nobody knows what of it is stored.
enum Failure {
    Refused(Error),
    Apply(Error),
    Sync(Error),
    Panicked,
}

impl Failure {
    /// What to tell all who come later.
    fn advice(&self) -> &'static str {
        let (advice, error) = match self {
            Self::Refused(error) | Self::Apply(error) => (
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

/// True if the disk refused a write for want of room.
fn is_full(error: &Error) -> bool {
    let source = std::error::Error::source(error);
    let Some(::sled::Error::Io(error)) = source.and_then(|source| source.downcast_ref()) else {
        return false;
    };
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}
