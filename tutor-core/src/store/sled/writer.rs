//! The one thread that writes: it takes what is waiting, applies it in batches, syncs once for all,
//! and then answers. A lone writer never waits for company.
//!
//! While a sync runs, on another thread, more is applied: it shares the next one. Whether a sync is
//! begun while writes wait, or only when all are applied, depends on which takes longer: on a slow
//! disk as many as can be share a sync, on a fast one nobody waits for the slower processor.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::draft::Draft;
use super::flush::FLUSH_PATIENCE;
use super::shared::{Database, Shared};
use super::syncer::{Sync, Syncer};
use super::{disk_is_full, keys, unavailable};
use crate::error::{Error, Result};
use crate::store::Durability;

/// The most writes that wait for the writer; who comes later waits for a place.
pub(super) const MAX_QUEUE: usize = 1024;
/// The most writes that are applied as one batch. Readers wait while it is applied.
const MAX_BATCH: usize = 16;
/// A batch that has written this many bytes takes no more writes.
const MAX_BATCH_BYTES: usize = 1 << 20;
/// The most writes that share a sync.
const MAX_GROUP: usize = 64;

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

/// Writes that are applied and wait for a sync.
#[derive(Default)]
struct Applied {
    answers: Vec<Answer>,
    /// True if any of them must survive a crash.
    durable: bool,
    /// How many groups of writes the tree has with them.
    groups: u64,
}

impl Applied {
    fn answer(self, how: &Result<()>) {
        for answer in self.answers {
            answer(how.clone());
        }
    }
}

/// How long things took lately: each new time counts a quarter.
#[derive(Clone, Copy, Default)]
struct Pace {
    one_write: Duration,
    sync: Duration,
}

impl Pace {
    fn learn(known: &mut Duration, new: Duration) {
        *known = (*known * 3 + new) / 4;
    }

    /// True if a sync that begins now would be over before so many writes are applied. Then nobody
    /// waits for it; else more writes would rather share it.
    fn is_worth_it(&self, waiting: usize) -> bool {
        self.one_write * u32::try_from(waiting).unwrap_or(u32::MAX) >= self.sync
    }
}

/// The writer of one store.
pub(super) struct Writer {
    shared: Arc<Shared>,
    jobs: mpsc::Receiver<Job>,
    /// When to try again to write to a disk that was full.
    paused_until: Option<Instant>,
    applied: Applied,
    /// What the thread is at that waits for the disk, and since when.
    syncing: Option<(Applied, Instant)>,
    syncer: Option<Syncer>,
    pace: Pace,
    /// Wishes to close that came among writes.
    closes: Vec<oneshot::Sender<Result<()>>>,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, jobs: mpsc::Receiver<Job>) -> Self {
        let syncer = Syncer::start(&shared);
        if let Err(error) = &syncer {
            tracing::warn!(%error, "the store writes and waits for the disk on one thread");
        }
        Self {
            shared,
            jobs,
            paused_until: None,
            applied: Applied::default(),
            syncing: None,
            syncer: syncer.ok(),
            pace: Pace::default(),
            closes: Vec::new(),
        }
    }

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
        while let Some(job) = self.next() {
            match job {
                Job::Write(write) => self.write(write),
                Job::Close(answer) => self.closes.push(answer),
            }
            if !self.closes.is_empty() {
                self.settle();
                for answer in std::mem::take(&mut self.closes) {
                    // Nobody may wait for it any more.
                    let _ = answer.send(self.shared.close());
                }
            }
        }
        if let Err(error) = self.shared.close() {
            tracing::error!(%error, "the store was not closed cleanly");
        }
    }

    /// The next job. While there is none, what is applied is made durable. `None` at the end of
    /// all, with nothing left to do.
    fn next(&mut self) -> Option<Job> {
        loop {
            self.collect();
            if self.applied.answers.len() < MAX_GROUP
                && let Ok(job) = self.jobs.try_recv()
            {
                return Some(job);
            }
            if self.syncing.is_some() {
                self.finish_sync();
            } else if self.applied.answers.is_empty() {
                return self.jobs.blocking_recv();
            } else {
                self.sync();
            }
        }
    }

    /// Makes everything durable that is applied, and answers.
    fn settle(&mut self) {
        self.finish_sync();
        self.sync();
    }

    /// Applies this write and some that wait behind it, and begins to make them durable if that
    /// costs nobody anything.
    fn write(&mut self, first: Write) {
        let mut answers = Vec::new();
        let start = Instant::now();
        let applying = AssertUnwindSafe(|| self.apply(first, &mut answers));
        let applied = catch_unwind(applying).unwrap_or(Err(Failure::Panicked));
        let count = u32::try_from(answers.len()).unwrap_or(u32::MAX).max(1);
        Pace::learn(&mut self.pace.one_write, start.elapsed() / count);
        match applied {
            Ok(durable) => {
                self.applied.answers.append(&mut answers);
                self.applied.durable |= durable;
            }
            Err(Failure::Refused(error)) => {
                for answer in answers {
                    answer(Err(error.clone()));
                }
                return;
            }
            Err(failure) => {
                self.applied.answers.append(&mut answers);
                self.finish_sync();
                self.fail(failure);
                return;
            }
        }
        if !self.applied.durable {
            std::mem::take(&mut self.applied).answer(&Ok(()));
        } else if self.syncing.is_none()
            && !self.jobs.is_empty()
            && self.pace.is_worth_it(self.jobs.len())
        {
            self.begin_sync();
        }
    }

    /// Tells all whose writes are not known to be durable that they may be lost.
    fn fail(&mut self, failure: Failure) {
        let error = self.recover(failure);
        std::mem::take(&mut self.applied).answer(&Err(error));
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

    /// Applies a batch of writes. True if any of them must be made durable.
    fn apply(&mut self, first: Write, answers: &mut Vec<Answer>) -> Result<bool, Failure> {
        if self.shared.waits_for_room() && self.check_room(0).is_ok() {
            self.shared.reopen();
        }
        let mut durable = false;
        let shared = Arc::clone(&self.shared);
        let drafted = shared.with(|database| {
            let mut draft = Draft::new(&database.db, &shared.tails);
            let mut next = Some(first);
            while let Some(write) = next {
                let made = (write.make)(&mut draft);
                durable |= write.durable && made.accepted && draft.has_changes();
                draft.settle(made.accepted);
                answers.push(made.answer);
                let full = answers.len() == MAX_BATCH || draft.bytes() >= MAX_BATCH_BYTES;
                next = if full { None } else { self.take_next() };
            }
            if !draft.is_empty() {
                draft.insert(keys::GROUPS, &database.mark.next())?;
                draft.settle(true);
            }
            let bytes = draft.bytes();
            Ok(draft
                .into_batch()
                .map(|(batch, effects)| (batch, effects, bytes)))
        });
        // A store that is closed has dropped the write, and with it the caller's hope.
        let Some((batch, effects, bytes)) = drafted.map_err(Failure::Refused)? else {
            return Ok(false);
        };
        self.check_room(bytes).map_err(Failure::Refused)?;
        shared
            .written_bytes
            .fetch_add(bytes as u64, Ordering::Relaxed);
        self.applied.groups = shared
            .with_exclusively(|database| {
                database.db.apply_batch(batch).map_err(unavailable)?;
                shared.follow(effects);
                Ok(database.mark.advance())
            })
            .map_err(Failure::Apply)?;
        self.paused_until = None;
        Ok(durable)
    }

    fn take_next(&mut self) -> Option<Write> {
        match self.jobs.try_recv().ok()? {
            Job::Write(write) => Some(write),
            Job::Close(answer) => {
                self.closes.push(answer);
                None
            }
        }
    }

    /// Has the other thread wait for the disk.
    fn begin_sync(&mut self) {
        let sync = self.shared.with(|database| Ok(Sync::of(database)));
        if let (Some(syncer), Ok(sync)) = (&self.syncer, sync)
            && syncer.begin(sync).is_ok()
        {
            let applied = std::mem::take(&mut self.applied);
            self.syncing = Some((applied, Instant::now()));
        }
    }

    /// Answers those whose sync is over.
    fn collect(&mut self) {
        if self.syncing.is_some()
            && let Some(result) = self.syncer.as_ref().and_then(Syncer::poll)
        {
            self.end_sync(result);
        }
    }

    /// Waits for the sync that is under way, if one is.
    fn finish_sync(&mut self) {
        if self.syncing.is_some()
            && let Some(syncer) = &self.syncer
        {
            let result = syncer.wait();
            self.end_sync(result);
        }
    }

    fn end_sync(&mut self, result: Result<(), Failure>) {
        if let Some((mut applied, start)) = self.syncing.take() {
            if result.is_err() {
                // Nobody knows either what is left of those that were applied on top of it.
                let later = std::mem::take(&mut self.applied);
                applied.answers.extend(later.answers);
            }
            self.tell(applied, start, result);
        }
    }

    /// Waits for the disk on this thread.
    fn sync(&mut self) {
        let applied = std::mem::take(&mut self.applied);
        if applied.answers.is_empty() {
            return;
        }
        let start = Instant::now();
        let result = match self.shared.with(|database| Ok(Sync::of(database))) {
            Ok(sync) => sync.run(&self.shared),
            // A reader has met damage and failed the store.
            Err(error) => Err(Failure::Sync(error)),
        };
        self.tell(applied, start, result);
    }

    fn tell(&mut self, applied: Applied, start: Instant, result: Result<(), Failure>) {
        match result {
            Ok(()) => {
                Pace::learn(&mut self.pace.sync, start.elapsed());
                self.shared.written.add(applied.answers.len());
                if self.shared.options.durability == Durability::Power {
                    // A store that has failed meanwhile has none.
                    let _ = self.shared.with(|database: &Database| {
                        database.mark.set(applied.groups);
                        Ok(())
                    });
                }
                applied.answer(&Ok(()));
            }
            Err(failure) => {
                let error = self.recover(failure);
                applied.answer(&Err(error));
            }
        }
    }
}

/// Why a group was not acknowledged. But for the first, nobody knows what of it is stored.
pub(super) enum Failure {
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
