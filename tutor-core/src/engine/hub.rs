//! Live turns: one log of events each, read by any number of subscribers.
//!
//! A subscriber has a place in the shared log and no buffer of its own, so a slow one costs
//! nothing and stalls nobody.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::log::EventLog;
use super::peers::{MAX_EVENTS, Outbox};
use crate::bus::News;
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Event, TurnEvent};
use crate::id::{OwnerId, SessionId};
use crate::limits::Limits;
use crate::store::TurnEnd;
use crate::turn::TurnKey;
use crate::usage::{Payer, Payers};

/// All turns that run here, and those that ended lately.
#[derive(Debug)]
pub(crate) struct Hub {
    state: Mutex<State>,
    limits: Limits,
    /// Where other instances are told from; `None` if there are none.
    outbox: Option<Arc<Outbox>>,
}

#[derive(Debug, Default)]
struct State {
    turns: HashMap<TurnKey, Arc<LiveTurn>>,
    live: usize,
    live_by_owner: HashMap<OwnerId, usize>,
    /// Of payers that may have so many at a time.
    live_by_payer: HashMap<String, usize>,
    /// Oldest first.
    ended: VecDeque<Ended>,
    ended_bytes: usize,
}

#[derive(Debug)]
struct Ended {
    key: TurnKey,
    bytes: usize,
    forget_at: Instant,
}

impl State {
    /// One turn more runs.
    fn enter(&mut self, live: &LiveTurn) {
        self.live += 1;
        *self
            .live_by_owner
            .entry(live.key.owner.clone())
            .or_default() += 1;
        for payer in bound(&live.payers) {
            *self.live_by_payer.entry(payer.id()).or_default() += 1;
        }
    }

    /// One turn less runs.
    fn leave(&mut self, live: &LiveTurn) {
        self.live -= 1;
        less(&mut self.live_by_owner, &live.key.owner);
        for payer in bound(&live.payers) {
            less(&mut self.live_by_payer, &payer.id());
        }
    }
}

/// Those whose turns at a time are bounded.
fn bound(payers: &[Payer]) -> impl Iterator<Item = &Payer> {
    payers.iter().filter(|payer| payer.max_live_turns.is_some())
}

fn less<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

impl Hub {
    pub(crate) fn new(limits: Limits, outbox: Option<Arc<Outbox>>) -> Self {
        Self {
            state: Mutex::default(),
            limits,
            outbox,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens the log of a turn that is about to begin.
    pub(crate) fn open(
        &self,
        key: TurnKey,
        session: SessionId,
        payers: Payers,
        cancel: CancellationToken,
    ) -> Result<Arc<LiveTurn>> {
        let mut state = self.state();
        self.forget_old(&mut state);
        self.check(&state, &key.owner, &payers)?;
        let outbox = self.outbox.clone();
        let live = Arc::new_cyclic(|me| {
            LiveTurn::new(key.clone(), session, payers, cancel, me.clone(), outbox)
        });
        state.enter(&live);
        state.turns.insert(key, Arc::clone(&live));
        Ok(live)
    }

    /// Fails if there is no room for another turn of `owner`, before anything is done for one.
    pub(crate) fn check_room(&self, owner: &OwnerId, payers: &[Payer]) -> Result<()> {
        self.check(&self.state(), owner, payers)
    }

    fn check(&self, state: &State, owner: &OwnerId, payers: &[Payer]) -> Result<()> {
        if state.live >= self.limits.max_live_turns {
            return Err(Error::new(
                ErrorKind::Overloaded,
                "as many replies are being written as this server may write: try again in a moment",
            )
            .retryable(Some(Duration::from_secs(1))));
        }
        let own = state.live_by_owner.get(owner).copied();
        if own.unwrap_or(0) >= self.limits.max_live_turns_per_owner {
            return Err(too_many_of_one(self.limits.max_live_turns_per_owner));
        }
        for payer in payers {
            if let Some(max) = payer.max_live_turns
                && state.live_by_payer.get(&payer.id()).copied().unwrap_or(0) >= max
            {
                return Err(too_many(
                    &format!("for this {}", payer.kind),
                    &format!("{}_live_turns", payer.kind),
                    max,
                ));
            }
        }
        Ok(())
    }

    /// Forgets a turn that never began.
    pub(crate) fn abandon(&self, key: &TurnKey) {
        let mut state = self.state();
        if let Some(live) = state.turns.remove(key) {
            state.leave(&live);
        }
    }

    /// Publishes the terminal event, and keeps the log for a while. The turn makes room for
    /// another one before anybody can know that it has ended.
    pub(crate) fn end(&self, live: &LiveTurn, terminal: Event, bytes: usize) {
        let all = live.log().events.bytes() + bytes;
        {
            let mut state = self.state();
            state.leave(live);
            state.ended_bytes += all;
            state.ended.push_back(Ended {
                key: live.key.clone(),
                bytes: all,
                forget_at: Instant::now() + self.limits.replay_retention,
            });
            self.forget_old(&mut state);
        }
        live.publish(terminal, bytes);
    }

    fn forget_old(&self, state: &mut State) {
        let now = Instant::now();
        while let Some(oldest) = state.ended.front()
            && (oldest.forget_at <= now || state.ended_bytes > self.limits.replay_bytes)
        {
            state.ended_bytes -= oldest.bytes;
            state.turns.remove(&oldest.key);
            state.ended.pop_front();
        }
    }

    /// The log of a turn that runs here or ended lately.
    pub(crate) fn find(&self, key: &TurnKey) -> Option<Arc<LiveTurn>> {
        let mut state = self.state();
        self.forget_old(&mut state);
        state.turns.get(key).cloned()
    }

    /// Forgets the log of a turn that was ended in another way than it says.
    pub(crate) fn forget(&self, key: &TurnKey) {
        self.state().turns.remove(key);
    }

    /// True if the turn runs here.
    pub(crate) fn is_live(&self, key: &TurnKey) -> bool {
        self.state()
            .turns
            .get(key)
            .is_some_and(|live| !live.has_ended())
    }

    /// The turns of this owner that run here.
    pub(crate) fn live_of(&self, owner: &OwnerId) -> Vec<Arc<LiveTurn>> {
        let state = self.state();
        let own = state.turns.values();
        own.filter(|live| live.key.owner == *owner && !live.has_ended())
            .cloned()
            .collect()
    }

    /// The number of turns that run here.
    pub(crate) fn live_count(&self) -> usize {
        self.state().live
    }
}

/// The refusal of a turn of somebody who has as many as one may have.
pub(super) fn too_many_of_one(max: usize) -> Error {
    too_many("for you", "live_turns", max)
}

fn too_many(whose: &str, limit: &str, max: usize) -> Error {
    Error::new(
        ErrorKind::RateLimited,
        format!(
            "as many replies are being written {whose} as may be at a time: wait for one to end"
        ),
    )
    .retryable(Some(Duration::from_secs(1)))
    .with_context("limit", limit)
    .with_context("quota", max)
    .with_context("remaining", 0)
    .with_context("reset", 1)
}

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
    fn new(
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::id::TurnId;

    fn key(n: usize) -> TurnKey {
        TurnKey::new(OwnerId::default(), TurnId::new(format!("t{n}")).unwrap())
    }

    fn open_of(hub: &Hub, key: TurnKey) -> Result<Arc<LiveTurn>> {
        let session = SessionId::new("s").unwrap();
        hub.open(key, session, Payers::default(), CancellationToken::new())
    }

    fn open(hub: &Hub, n: usize) -> Arc<LiveTurn> {
        open_of(hub, key(n)).unwrap()
    }

    fn text(n: usize) -> Event {
        Event::TextDelta {
            text: n.to_string(),
        }
    }

    fn end() -> Event {
        Event::TurnFailed {
            error: Error::internal("test").info(),
            partial: None,
        }
    }

    proptest! {
        #[test]
        fn replay_then_follow_equals_the_original(events in 0usize..200, cut in 0usize..202, joined_at in 0usize..202) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let hub = Hub::new(Limits::default(), None);
                let live = open(&hub, 0);
                let mut joined = None;
                for n in 0..events {
                    if n == joined_at {
                        joined = Some(Arc::clone(&live).subscribe(cut as u64));
                    }
                    live.publish(text(n), 1);
                }
                let joined = joined.unwrap_or_else(|| Arc::clone(&live).subscribe(cut as u64));
                live.publish(end(), 0);
                let whole: Vec<_> = Arc::clone(&live).subscribe(0).collect().await;
                prop_assert_eq!(whole.len(), events + 1);
                prop_assert!(whole.iter().zip(1..).all(|(event, seq)| event.seq == seq));
                let tail: Vec<_> = joined.collect().await;
                prop_assert_eq!(&tail[..], &whole[cut.min(events)..]);
                Ok(())
            })?;
        }
    }

    #[tokio::test]
    async fn one_turn_too_many_is_refused_and_an_ended_one_makes_room() {
        let hub = Hub::new(
            Limits {
                max_live_turns: 1,
                ..Limits::default()
            },
            None,
        );
        let live = open(&hub, 0);
        let error = open_of(&hub, key(1)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Overloaded);
        assert!(error.is_retryable());
        hub.end(&live, end(), 0);
        open(&hub, 1);
        assert_eq!(hub.live_count(), 1);
    }

    #[tokio::test]
    async fn one_owner_cannot_take_all_turns_and_others_are_served() {
        let hub = Hub::new(
            Limits {
                max_live_turns_per_owner: 2,
                ..Limits::default()
            },
            None,
        );
        let first = open(&hub, 0);
        let second = open(&hub, 1);
        let error = open_of(&hub, key(2)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::RateLimited);
        assert!(error.is_retryable());
        let other = TurnKey::new(OwnerId::new("other").unwrap(), TurnId::new("t").unwrap());
        open_of(&hub, other).unwrap();
        hub.end(&first, end(), 0);
        open(&hub, 2);
        hub.abandon(&second.key);
        open(&hub, 3);
        assert_eq!(hub.live_count(), 3);
    }

    #[tokio::test]
    async fn a_payer_has_its_own_bound_whoever_the_owners_are() {
        let hub = Hub::new(Limits::default(), None);
        let open = |n: usize, payers: &[&str]| {
            let payers = payers
                .iter()
                .map(|name| Payer::new("address", *name).with_max_live_turns(1));
            let owner = OwnerId::new(format!("o{n}")).unwrap();
            let key = TurnKey::new(owner, TurnId::new("t").unwrap());
            let session = SessionId::new("s").unwrap();
            hub.open(key, session, payers.collect(), CancellationToken::new())
        };
        let first = open(0, &["a", "b"]).unwrap();
        for payer in ["a", "b"] {
            let error = open(1, &[payer]).unwrap_err();
            assert_eq!(error.context_value("limit"), Some("address_live_turns"));
        }
        let other = open(2, &["c"]).unwrap();
        hub.end(&first, end(), 0);
        open(3, &["a", "b"]).unwrap();
        hub.abandon(&other.key);
        open(4, &["c"]).unwrap();
        open(5, &[]).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn ended_turns_are_forgotten_by_age_and_by_size() {
        let limits = Limits {
            replay_bytes: 3000,
            ..Limits::default()
        };
        let hub = Hub::new(limits.clone(), None);
        for n in 0..2 {
            let live = open(&hub, n);
            hub.end(&live, end(), 2000);
        }
        assert!(
            hub.find(&key(0)).is_none(),
            "the older one exceeded the size"
        );
        assert!(hub.find(&key(1)).is_some());
        tokio::time::advance(limits.replay_retention).await;
        assert!(hub.find(&key(1)).is_none(), "too old");
    }
}
