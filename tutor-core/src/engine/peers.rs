//! The other instances on the same store: telling them what happens in the turns that run here, and
//! stopping those that they ask to stop.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::Engine;
use super::live::LiveTurn;
use crate::bus::{News, SharedBus};
use crate::error::Result;
use crate::id::{OwnerId, SessionId};
use crate::store::RunningTurn;
use crate::turn::TurnKey;

/// How long events are gathered before the others are told. It bounds what a turn costs, and is what
/// their followers are behind.
const GATHER: Duration = Duration::from_millis(30);

/// Turns about which something is told at a time.
const MAX_TURNS: usize = 64;

/// Events of one turn that are told at a time.
pub(super) const MAX_EVENTS: usize = 256;

/// Turns that are kept in mind because the bus was not there when they ended; the oldest ones go
/// first, and count until what counts them expires.
const MAX_LEFT: usize = 4096;

/// How long the bus may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long it is left alone when it failed.
const PAUSE: Duration = Duration::from_millis(500);

/// How long those who cannot wait do without it then.
const LEFT_ALONE: Duration = Duration::from_secs(1);

/// How long what was read of running turns is good enough for followers.
const FRESH: Duration = Duration::from_millis(400);

/// How long the events of a turn that has ended are kept on the bus: whoever comes later reads the
/// store.
const KEEP_ENDED: Duration = Duration::from_secs(60);

/// What an engine has to do with others.
#[derive(Debug)]
pub(crate) struct Peers {
    pub(super) bus: SharedBus,
    pub(crate) outbox: Arc<Outbox>,
    /// How often the bus could not be used, and the store was instead.
    fallbacks: AtomicU64,
    /// When it failed last.
    failed: Mutex<Option<Instant>>,
    running: tokio::sync::Mutex<Option<(Instant, Arc<Vec<RunningTurn>>)>>,
    tasks: TaskTracker,
    stop: CancellationToken,
    /// Ends the tasks of an engine that was dropped and not closed.
    _stop_on_drop: DropGuard,
}

impl Peers {
    pub(crate) fn new(bus: SharedBus, keep_running: Duration) -> Self {
        let stop = CancellationToken::new();
        Self {
            bus,
            outbox: Arc::new(Outbox::new(keep_running)),
            fallbacks: AtomicU64::new(0),
            failed: Mutex::default(),
            running: tokio::sync::Mutex::default(),
            tasks: TaskTracker::new(),
            _stop_on_drop: stop.clone().drop_guard(),
            stop,
        }
    }

    /// Begins to tell the others, and to listen to them.
    pub(crate) fn start(self: &Arc<Self>, engine: &Arc<Engine>) {
        let mut requests = self.bus.cancellations(&engine.instance);
        let (engine, stop) = (Arc::downgrade(engine), self.stop.clone());
        self.tasks.spawn(stop.run_until_cancelled_owned(async move {
            while let Some(turn) = requests.next().await {
                let Some(engine) = engine.upgrade() else {
                    return;
                };
                if let Some(live) = engine.hub.find(&turn) {
                    tracing::debug!(turn = %turn.id, "another instance asked to stop a turn");
                    live.cancel.cancel();
                }
            }
        }));
        let (outbox, bus, stop) = (
            Arc::clone(&self.outbox),
            Arc::clone(&self.bus),
            self.stop.clone(),
        );
        let peers = Arc::downgrade(self);
        self.tasks.spawn(async move {
            let failed = || {
                if let Some(peers) = peers.upgrade() {
                    peers.failed();
                }
            };
            outbox.empty(bus, stop, failed).await;
        });
    }

    /// Tells what is left to be told, and goes.
    pub(crate) async fn close(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// The bus did not have what was asked for.
    pub(super) fn fell_back(&self) {
        self.fallbacks.fetch_add(1, Ordering::Relaxed);
    }

    /// The bus could not be used.
    pub(super) fn failed(&self) {
        self.fell_back();
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// True while the bus is left alone, because it failed a moment ago: what must not wait for it
    /// does without.
    pub(super) fn is_left_alone(&self) -> bool {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.is_some_and(|at| at.elapsed() < LEFT_ALONE)
    }

    pub(crate) fn fallbacks(&self) -> u64 {
        self.fallbacks.load(Ordering::Relaxed)
    }

    /// Forgets what the others were told about turns of an owner, or of one of their sessions. They
    /// have ended. What cannot be forgotten now goes by itself a little later.
    pub(crate) async fn forget(&self, owner: &OwnerId, session: Option<&SessionId>) {
        self.outbox.drained().await;
        let forgotten = within(self.bus.forget(owner, session)).await;
        if let Err(error) = forgotten {
            self.failed();
            tracing::warn!(
                code = error.code(),
                "what other instances were told about deleted turns is forgotten a little later"
            );
        }
    }

    /// What the store has of running turns, at most a moment ago: one reading for all followers.
    pub(super) async fn running(&self, engine: &Engine) -> Result<Arc<Vec<RunningTurn>>> {
        let mut running = self.running.lock().await;
        if let Some((at, turns)) = &*running
            && at.elapsed() < FRESH
        {
            return Ok(Arc::clone(turns));
        }
        let turns = Arc::new(engine.store.running_turns().await?);
        *running = Some((Instant::now(), Arc::clone(&turns)));
        Ok(turns)
    }
}

/// What the bus answers, if it does so in time.
pub(super) async fn within<T>(asked: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(PATIENCE, asked).await.unwrap_or_else(|_| {
        Err(crate::error::Error::new(
            crate::error::ErrorKind::StoreUnavailable,
            "the bus between the instances did not answer in time",
        )
        .retryable(None))
    })
}

/// Turns of which the others have not been told everything yet. Their events are in their logs, so
/// that this holds nothing but their names: as many as run, and those that ended a moment ago.
#[derive(Debug)]
pub(crate) struct Outbox {
    waiting: Mutex<VecDeque<Arc<LiveTurn>>>,
    /// Turns that are counted on the bus and do not run any more.
    left: Mutex<VecDeque<TurnKey>>,
    filled: Notify,
    /// Wakes those who wait until it is empty.
    emptied: Notify,
    keep_running: Duration,
}

impl Outbox {
    fn new(keep_running: Duration) -> Self {
        Self {
            waiting: Mutex::default(),
            left: Mutex::default(),
            filled: Notify::new(),
            emptied: Notify::new(),
            keep_running,
        }
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Arc<LiveTurn>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There is something new in this turn, which was not waiting yet.
    pub(super) fn put(&self, live: Arc<LiveTurn>) {
        self.waiting().push_back(live);
        self.filled.notify_one();
    }

    fn left(&self) -> MutexGuard<'_, VecDeque<TurnKey>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The turn is counted on the bus, and has ended without the bus being told.
    pub(super) fn leave(&self, turn: TurnKey) {
        let mut left = self.left();
        if left.len() == MAX_LEFT {
            left.pop_front();
        }
        left.push_back(turn);
        self.filled.notify_one();
    }

    /// Waits until nothing is waiting, but not for long.
    async fn drained(&self) {
        let empty = async {
            loop {
                let emptied = self.emptied.notified();
                if self.waiting().is_empty() {
                    return;
                }
                emptied.await;
            }
        };
        // Whatever is left is forgotten by itself.
        let _ = timeout(PATIENCE, empty).await;
    }

    /// Tells what is waiting, as it comes, until it is told to stop; then what is left.
    async fn empty(&self, bus: SharedBus, stop: CancellationToken, failed: impl Fn()) {
        let mut is_down = false;
        loop {
            let is_last = tokio::select! {
                biased;
                () = stop.cancelled() => true,
                () = self.filled.notified() => false,
            };
            if !is_last {
                // Woken earlier when it has to stop.
                let _ = timeout(GATHER, stop.cancelled()).await;
            }
            while let Err(error) = self.round(&bus).await {
                failed();
                if !is_down {
                    is_down = true;
                    tracing::warn!(
                        code = error.code(),
                        "other instances cannot be told about the turns that run here; their \
                         followers read the store"
                    );
                }
                // Whoever follows a turn that has ended finds it in the store.
                self.waiting().retain(|live| {
                    let runs = !live.has_ended();
                    if !runs {
                        self.leave(live.key.clone());
                    }
                    runs
                });
                if is_last || stop.is_cancelled() {
                    self.emptied.notify_waiters();
                    return;
                }
                self.emptied.notify_waiters();
                let _ = timeout(PAUSE, stop.cancelled()).await;
            }
            if std::mem::take(&mut is_down) {
                tracing::info!("other instances are told about the turns that run here again");
            }
            self.emptied.notify_waiters();
            if is_last {
                return;
            }
        }
    }

    /// Tells what is waiting now, in as many rounds as it takes.
    async fn round(&self, bus: &SharedBus) -> Result<()> {
        while let Some(turn) = { self.left().front().cloned() } {
            within(bus.leave(&turn)).await?;
            self.left().pop_front();
        }
        loop {
            let turns: Vec<_> = {
                let waiting = self.waiting();
                waiting.iter().take(MAX_TURNS).cloned().collect()
            };
            if turns.is_empty() {
                return Ok(());
            }
            let news: Vec<(usize, News)> = turns
                .iter()
                .enumerate()
                .filter_map(|(i, live)| Some((i, live.news(self.keep_running, KEEP_ENDED)?)))
                .collect();
            let told: Vec<usize> = news.iter().map(|(i, _)| *i).collect();
            let news: Vec<News> = news.into_iter().map(|(_, news)| news).collect();
            if !news.is_empty() {
                let has = within(bus.announce(news)).await?;
                for (i, has) in told.into_iter().zip(has) {
                    turns[i].told(has);
                }
            }
            // Only this task takes any out, so that the first ones still are the first ones.
            let mut waiting = self.waiting();
            for live in turns {
                waiting.pop_front();
                if !live.rests() {
                    waiting.push_back(live);
                }
            }
        }
    }
}

/// Waits a little: for followers whose turn runs elsewhere.
pub(super) async fn pause() {
    sleep(PAUSE).await;
}
