//! A bus for instances in one process: for tests.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;

use super::{LiveBus, News};
use crate::error::{Error, ErrorKind, Result};
use crate::event::TurnEvent;
use crate::id::{OwnerId, SessionId};
use crate::turn::TurnKey;

/// Events of a turn that are kept; older ones are forgotten.
const MAX_KEPT: usize = 65_536;

/// Requests to stop that an instance has not looked at yet; older ones are lost.
const MAX_REQUESTS: usize = 1024;

/// Tells instances in the same process. Cheap to clone; clones share everything.
#[derive(Clone, Debug)]
pub struct MemoryBus(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    /// Counts what was told, to wake followers.
    told: watch::Sender<u64>,
    requests: broadcast::Sender<(String, TurnKey)>,
}

#[derive(Debug, Default)]
struct State {
    is_down: bool,
    turns: HashMap<TurnKey, Told>,
    running: HashMap<OwnerId, HashMap<TurnKey, Instant>>,
}

#[derive(Debug)]
struct Told {
    session: SessionId,
    events: Vec<Arc<TurnEvent>>,
    until: Instant,
}

impl Told {
    fn last(&self) -> u64 {
        self.events.last().map_or(0, |event| event.seq)
    }
}

impl Default for MemoryBus {
    fn default() -> Self {
        Self(Arc::new(Inner {
            state: Mutex::default(),
            told: watch::Sender::default(),
            requests: broadcast::Sender::new(MAX_REQUESTS),
        }))
    }
}

impl MemoryBus {
    /// A bus on which nothing was told yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on it fails, and has lost everything; or it works again.
    pub fn set_down(&self, is_down: bool) {
        *self.state() = State {
            is_down,
            ..State::default()
        };
        self.wake();
    }

    /// Forgets the events of all turns up to this number, as if there had been no room for them.
    pub fn lose(&self, up_to: u64) {
        for told in self.state().turns.values_mut() {
            told.events.retain(|event| event.seq > up_to);
        }
    }

    /// The turns about which something is kept.
    pub fn kept(&self) -> usize {
        let mut state = self.state();
        forget_old(&mut state);
        state.turns.len()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn up(&self) -> Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        if state.is_down {
            return Err(Error::new(
                ErrorKind::StoreUnavailable,
                "the bus between the instances is down",
            )
            .retryable(None));
        }
        forget_old(&mut state);
        Ok(state)
    }

    fn wake(&self) {
        self.0.told.send_modify(|count| *count += 1);
    }

    /// What is kept behind `after`.
    fn kept_behind(&self, turn: &TurnKey, after: u64) -> Result<Vec<TurnEvent>> {
        let state = self.up()?;
        let events = state.turns.get(turn).map_or(&[][..], |told| &told.events);
        let is_wanted = |event: &&Arc<TurnEvent>| event.seq > after || event.event.is_terminal();
        let wanted = events.iter().filter(is_wanted);
        Ok(wanted.map(|event| TurnEvent::clone(event)).collect())
    }
}

fn forget_old(state: &mut State) {
    let now = Instant::now();
    state.turns.retain(|_, told| told.until > now);
    for running in state.running.values_mut() {
        running.retain(|_, until| *until > now);
    }
    state.running.retain(|_, running| !running.is_empty());
}

#[async_trait]
impl LiveBus for MemoryBus {
    async fn announce(&self, news: Vec<News>) -> Result<Vec<u64>> {
        let mut has = Vec::with_capacity(news.len());
        {
            let mut state = self.up()?;
            for news in news {
                let (first, last) = news.range();
                let ends = news.is_end();
                let told = state.turns.entry(news.turn.clone()).or_insert(Told {
                    session: news.session,
                    events: Vec::new(),
                    until: Instant::now() + news.keep,
                });
                let before = told.last();
                if before + 1 >= first && before < last {
                    let new = news.events.into_iter().filter(|event| event.seq > before);
                    told.events.extend(new);
                    let excess = told.events.len().saturating_sub(MAX_KEPT);
                    told.events.drain(..excess);
                    told.until = Instant::now() + news.keep;
                }
                let after = told.last();
                if after == 0 {
                    state.turns.remove(&news.turn);
                }
                if ends && let Some(running) = state.running.get_mut(&news.turn.owner) {
                    running.remove(&news.turn);
                }
                has.push(after);
            }
        }
        self.wake();
        Ok(has)
    }

    fn follow(&self, turn: &TurnKey, after: u64) -> BoxStream<'static, Result<Vec<TurnEvent>>> {
        let follower = (
            self.clone(),
            turn.clone(),
            Some(after),
            self.0.told.subscribe(),
        );
        stream::unfold(follower, |(bus, turn, after, mut told)| async move {
            let after = after?;
            loop {
                told.mark_unchanged();
                match bus.kept_behind(&turn, after) {
                    Err(error) => return Some((Err(error), (bus, turn, None, told))),
                    Ok(events) => {
                        if let Some(last) = events.last() {
                            let next = (!last.event.is_terminal()).then_some(last.seq);
                            return Some((Ok(events), (bus, turn, next, told)));
                        }
                    }
                }
                // The sender lives as long as `bus`.
                let _ = told.changed().await;
            }
        })
        .boxed()
    }

    async fn ask_to_cancel(&self, turn: &TurnKey, instance: &str) -> Result<()> {
        drop(self.up()?);
        // Nobody may be there to hear it.
        let _ = self.0.requests.send((instance.to_owned(), turn.clone()));
        Ok(())
    }

    fn cancellations(&self, instance: &str) -> BoxStream<'static, TurnKey> {
        let listener = (self.0.requests.subscribe(), instance.to_owned());
        stream::unfold(listener, |(mut requests, instance)| async move {
            loop {
                match requests.recv().await {
                    Ok((whose, turn)) if whose == instance => {
                        return Some((turn, (requests, instance)));
                    }
                    Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
                }
            }
        })
        .boxed()
    }

    async fn enter(&self, turn: &TurnKey, max: usize, at_most: Duration) -> Result<bool> {
        let mut state = self.up()?;
        let running = state.running.entry(turn.owner.clone()).or_default();
        if running.len() >= max && !running.contains_key(turn) {
            return Ok(false);
        }
        running.insert(turn.clone(), Instant::now() + at_most);
        Ok(true)
    }

    async fn leave(&self, turn: &TurnKey) -> Result<()> {
        if let Some(running) = self.up()?.running.get_mut(&turn.owner) {
            running.remove(turn);
        }
        Ok(())
    }

    async fn forget(&self, owner: &OwnerId, session: Option<&SessionId>) -> Result<()> {
        self.up()?.turns.retain(|turn, told| {
            turn.owner != *owner || session.is_some_and(|session| told.session != *session)
        });
        Ok(())
    }

    async fn check(&self) -> Result<()> {
        self.up().map(drop)
    }
}
