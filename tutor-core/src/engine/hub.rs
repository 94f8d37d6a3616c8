//! All live turns of an engine, and how many of whom there may be.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::live::LiveTurn;
use super::peers::Outbox;
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::id::{OwnerId, SessionId};
use crate::limits::Limits;
use crate::turn::TurnKey;
use crate::usage::{Payer, Payers};

/// What is held of an ended turn beside its events, about.
const ENDED_BYTES: usize = 2 << 10;

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
        let all = ENDED_BYTES + live.bytes() + bytes;
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

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;
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
            replay_bytes: ENDED_BYTES + 3000,
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
