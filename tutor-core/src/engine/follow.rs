//! Turns that run on another instance: their events, and stopping them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use tokio::time::{Instant, sleep, timeout};

use super::peers::{Peers, pause, within};
use super::{Engine, elsewhere};
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Event, TurnEvent};
use crate::id::OwnerId;
use crate::trace::Trace;
use crate::turn::{Turn, TurnKey, TurnStatus};

/// How long a turn may be silent before it is looked whether it still runs.
const SILENCE: Duration = Duration::from_secs(2);

/// How often in a row the store may fail a follower before it gives up, and has to come back.
const MAX_FAILURES: usize = 40;

/// How long another instance may take to stop a turn.
const CANCEL_PATIENCE: Duration = Duration::from_secs(10);

/// How often it is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

impl Engine {
    /// The events behind `after` of a turn that runs on another instance. Ends without a terminal
    /// event only if neither the bus nor the store could be read for long.
    pub(crate) fn follow(
        self: &Arc<Self>,
        peers: &Arc<Peers>,
        turn: &Turn,
        after: u64,
    ) -> BoxStream<'static, Arc<TurnEvent>> {
        let follower = Follower {
            heard: Some(peers.bus.follow(&turn.key(), after)),
            engine: Arc::clone(self),
            peers: Arc::clone(peers),
            key: turn.key(),
            known: after,
            has_told: false,
            ready: VecDeque::new(),
            is_over: false,
            failures: 0,
        };
        stream::unfold(follower, |mut follower| async move {
            let event = follower.next().await?;
            Some((event, follower))
        })
        .fuse()
        .boxed()
    }

    /// Stops a turn that runs on another instance, and waits until it has ended.
    pub(super) async fn cancel_elsewhere(&self, turn: Turn) -> Result<Turn> {
        let peers = self.peers.as_ref().ok_or_else(elsewhere)?;
        let key = turn.key();
        let give_up = Instant::now() + CANCEL_PATIENCE;
        let mut pause = Duration::from_millis(20);
        let mut asked: Option<Instant> = None;
        loop {
            if asked.is_none_or(|at| at.elapsed() >= ASK_AGAIN) {
                if let Err(error) = within(peers.bus.ask_to_cancel(&key, &turn.instance)).await {
                    peers.failed();
                    return Err(elsewhere().with_source(error));
                }
                asked = Some(Instant::now());
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(320));
            let turn = self.turn(&key).await?;
            if turn.status != TurnStatus::Running {
                return Ok(turn);
            }
            if self.is_overdue(&turn) && self.reclaim(&key).await? {
                return self.turn(&key).await;
            }
            if Instant::now() >= give_up {
                return Err(elsewhere());
            }
        }
    }

    /// Stops an owner's turns that run on other instances, as far as they can be asked: one that
    /// cannot finds nothing to go on with when what it writes to is deleted.
    pub(super) async fn cancel_all_elsewhere(&self, owner: &OwnerId) -> Result<()> {
        for running in self.store.running_turns().await? {
            if running.turn.owner != *owner {
                continue;
            }
            match self.cancel(&running.turn.key()).await {
                Err(error) if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::NotFound) => {
                }
                cancelled => drop(cancelled?),
            }
        }
        Ok(())
    }

    /// True if the instance that runs a turn has given no sign of life for too long.
    fn is_overdue(&self, turn: &Turn) -> bool {
        turn.lease_until <= self.runtime.now()
    }
}

/// Reads what the bus tells of a turn, and what the store has of it where the bus does not.
struct Follower {
    engine: Arc<Engine>,
    peers: Arc<Peers>,
    key: TurnKey,
    /// What the bus tells; `None` while the store is read instead.
    heard: Option<BoxStream<'static, Result<Vec<TurnEvent>>>>,
    /// The number of the last event that the reader has, or will have from `ready`.
    known: u64,
    /// True if that number is not the reader's word.
    has_told: bool,
    ready: VecDeque<Arc<TurnEvent>>,
    is_over: bool,
    failures: usize,
}

impl Follower {
    async fn next(&mut self) -> Option<Arc<TurnEvent>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.is_over {
                return None;
            }
            let Some(heard) = &mut self.heard else {
                self.look().await;
                if self.ready.is_empty() && !self.is_over {
                    pause().await;
                }
                if !self.is_over {
                    self.heard = Some(self.peers.bus.follow(&self.key, self.known));
                }
                continue;
            };
            match timeout(SILENCE, heard.next()).await {
                Ok(Some(Ok(events))) => self.hear(events),
                Ok(Some(Err(_)) | None) => {
                    self.heard = None;
                    self.peers.failed();
                }
                Err(_) => self.look().await,
            }
        }
    }

    /// Takes what the bus tells, up to a gap: that is in the store.
    fn hear(&mut self, events: Vec<TurnEvent>) {
        for event in events {
            if event.seq <= self.known {
                // A place beyond the end gives the terminal event alone.
                if event.event.is_terminal() {
                    self.end_with(event);
                }
            } else if event.seq == self.known + 1 {
                self.give(event);
            } else {
                self.heard = None;
                self.peers.fell_back();
                return;
            }
        }
    }

    fn give(&mut self, event: TurnEvent) {
        self.known = event.seq;
        self.has_told = true;
        self.is_over = event.event.is_terminal();
        self.ready.push_back(Arc::new(event));
    }

    /// The last event, under a number that goes on from what the reader has.
    fn end_with(&mut self, terminal: TurnEvent) {
        self.is_over = true;
        let seq = if self.has_told {
            self.known + 1
        } else {
            terminal.seq
        };
        self.ready
            .push_back(Arc::new(TurnEvent { seq, ..terminal }));
    }

    /// Takes what the store has.
    async fn look(&mut self) {
        match self.read().await {
            Ok(()) => self.failures = 0,
            Err(error) => {
                self.failures += 1;
                if self.failures >= MAX_FAILURES {
                    tracing::warn!(turn = %self.key.id, code = error.code(), "a turn of another instance could not be followed any further");
                    self.is_over = true;
                }
            }
        }
    }

    async fn read(&mut self) -> Result<()> {
        let Some(turn) = self.engine.store.turn(&self.key).await? else {
            let error = Error::not_found("turn", &self.key.id).info();
            let seq = self.known.saturating_add(1);
            let event = Event::TurnFailed {
                error,
                partial: None,
            };
            self.end_with(TurnEvent { seq, event });
            return Ok(());
        };
        if turn.status != TurnStatus::Running {
            let reply = self.engine.reply(&turn).await?;
            self.catch_up(Trace::replay(&turn, reply.as_ref()));
            return Ok(());
        }
        if self.engine.is_overdue(&turn) && self.engine.reclaim(&self.key).await? {
            return Box::pin(self.read()).await;
        }
        if self.heard.is_some() && turn.trace.last() > self.known {
            // Its instance saves what it cannot tell.
            self.heard = None;
            self.peers.fell_back();
        }
        if self.heard.is_none() {
            let running = self.peers.running(&self.engine).await?;
            let mine = |running: &&crate::store::RunningTurn| running.turn.key() == self.key;
            if let Some(running) = running.iter().find(mine) {
                let saved = Trace::replay_saved(&running.turn, running.partial.as_ref());
                self.catch_up(saved);
            }
        }
        Ok(())
    }

    /// Takes what the reader does not have of `events`, which are all from the first.
    fn catch_up(&mut self, events: Vec<TurnEvent>) {
        for event in events {
            if event.seq == self.known.saturating_add(1) {
                self.give(event);
            } else if event.event.is_terminal() {
                // What the reader has seen and its instance could not save is not in the store.
                self.end_with(event);
            }
        }
    }
}
