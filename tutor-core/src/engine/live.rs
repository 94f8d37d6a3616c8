//! One turn that runs, or ended lately: its log, read by any number of subscribers.
//!
//! A subscriber has a place in the shared log and no buffer of its own, so a slow one costs
//! nothing and stalls nobody.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::log::EventLog;
use super::peers::{MAX_EVENTS, Outbox};
use crate::bus::News;
use crate::error::Error;
use crate::event::{Event, TurnEvent};
use crate::id::SessionId;
use crate::store::TurnEnd;
use crate::turn::TurnKey;
use crate::usage::Payers;

/// One turn's events so far, and the way to stop it.
#[derive(Debug)]
pub(crate) struct LiveTurn {
    pub(crate) key: TurnKey,
    /// Who pays besides the owner.
    pub(crate) payers: Payers,
    session: SessionId,
    pub(crate) cancel: CancellationToken,
    log: Mutex<Log>,
    /// Wakes subscribers when something was published.
    published: Notify,
    /// Why the turn failed, with the source that events do not carry.
    failure: OnceLock<Error>,
    /// How the turn ended, if that could not be stored.
    unstored: Mutex<Option<TurnEnd>>,
    me: Weak<Self>,
    outbox: Option<Arc<Outbox>>,
    /// True while the turn waits in the outbox.
    waits: AtomicBool,
}

#[derive(Debug, Default)]
struct Log {
    events: EventLog,
    ended: bool,
    /// The events that other instances were told, counted from the first.
    told: usize,
}

impl LiveTurn {
    pub(super) fn new(
        key: TurnKey,
        session: SessionId,
        payers: Payers,
        cancel: CancellationToken,
        me: Weak<Self>,
        outbox: Option<Arc<Outbox>>,
    ) -> Self {
        Self {
            key,
            payers,
            session,
            cancel,
            me,
            outbox,
            waits: AtomicBool::new(false),
            log: Mutex::default(),
            published: Notify::new(),
            failure: OnceLock::new(),
            unstored: Mutex::default(),
        }
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the log needs in memory.
    pub(super) fn bytes(&self) -> usize {
        self.log().events.bytes()
    }

    /// Appends an event and wakes the subscribers. `bytes` is the size of what it holds. Returns its
    /// index.
    pub(crate) fn publish(&self, event: Event, bytes: usize) -> usize {
        let index = {
            let mut log = self.log();
            debug_assert!(!log.ended, "nothing follows a terminal event");
            log.ended = event.is_terminal();
            log.events.push(event, bytes)
        };
        self.published.notify_waiters();
        if let Some(outbox) = &self.outbox
            && !self.waits.swap(true, Ordering::AcqRel)
            && let Some(me) = self.me.upgrade()
        {
            outbox.put(me);
        }
        index
    }

    /// The text of the `text.delta`s among the events with these indices.
    pub(crate) fn text(&self, events: Range<usize>) -> String {
        self.log().events.text(events)
    }

    /// What other instances are to be told next, if anything.
    pub(super) fn news(&self, keep_running: Duration, keep_ended: Duration) -> Option<News> {
        let log = self.log();
        let end = log.events.len().min(log.told.saturating_add(MAX_EVENTS));
        let events: Vec<_> = (log.told..end)
            .filter_map(|at| log.events.get(at))
            .collect();
        let ends = events.last()?.event.is_terminal();
        Some(News {
            turn: self.key.clone(),
            session: self.session.clone(),
            events,
            keep: if ends { keep_ended } else { keep_running },
        })
    }

    /// Other instances can read the events up to this number. If they had been told more, that is
    /// told again, unless the turn has ended: then it is in the store, or deleted.
    pub(super) fn told(&self, has: u64) {
        let mut log = self.log();
        let has = usize::try_from(has).unwrap_or(usize::MAX);
        let is_lost = log.ended && has < log.told;
        log.told = if is_lost { usize::MAX } else { has }.min(log.events.len());
    }

    /// True if the others know everything. Then whatever is published next puts the turn into the
    /// outbox again.
    pub(super) fn rests(&self) -> bool {
        let log = self.log();
        let rests = log.told == log.events.len();
        if rests {
            // While nothing can be published.
            self.waits.store(false, Ordering::Release);
        }
        rests
    }

    /// True if the terminal event is there.
    pub(crate) fn has_ended(&self) -> bool {
        self.log().ended
    }

    /// Keeps the error that the terminal event is about to tell.
    pub(crate) fn fail(&self, error: Error) {
        // A turn ends once; a second error could only be a consequence of the first.
        let _ = self.failure.set(error);
    }

    /// Why the turn failed, if it did so here.
    pub(crate) fn failure(&self) -> Option<Error> {
        self.failure.get().cloned()
    }

    /// Keeps an end that could not be stored, until it can.
    pub(crate) fn keep_end(&self, end: TurnEnd) {
        *self.unstored.lock().unwrap_or_else(PoisonError::into_inner) = Some(end);
    }

    /// The end that could not be stored.
    pub(crate) fn unstored_end(&self) -> Option<TurnEnd> {
        self.unstored
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Waits for the terminal event.
    pub(crate) async fn ended(&self) {
        loop {
            // Before looking, so that nothing is missed in between.
            let published = self.published.notified();
            if self.log().ended {
                return;
            }
            published.await;
        }
    }

    /// The events after number `after`: those that are there, then those that come. A place
    /// beyond the end gives the terminal event alone.
    pub(crate) fn subscribe(self: Arc<Self>, after: u64) -> BoxStream<'static, Arc<TurnEvent>> {
        let subscriber = Subscriber {
            live: self,
            next: usize::try_from(after).unwrap_or(usize::MAX),
            ended: false,
        };
        stream::unfold(subscriber, |mut subscriber| async move {
            let event = subscriber.next().await?;
            Some((event, subscriber))
        })
        .fuse()
        .boxed()
    }
}

#[derive(Debug)]
struct Subscriber {
    live: Arc<LiveTurn>,
    /// The index of the next event to take.
    next: usize,
    ended: bool,
}

impl Subscriber {
    async fn next(&mut self) -> Option<Arc<TurnEvent>> {
        if self.ended {
            return None;
        }
        if let Some(event) = self.take() {
            return Some(event);
        }
        let live = Arc::clone(&self.live);
        loop {
            // Before looking again, so that nothing is missed in between.
            let published = live.published.notified();
            if let Some(event) = self.take() {
                return Some(event);
            }
            published.await;
        }
    }

    /// Takes the next event, if it is there.
    fn take(&mut self) -> Option<Arc<TurnEvent>> {
        let log = self.live.log();
        let at = match log.ended {
            true => self.next.min(log.events.len() - 1),
            false => self.next,
        };
        let event = log.events.get(at)?;
        self.next = at + 1;
        self.ended = log.ended && self.next == log.events.len();
        Some(event)
    }
}
