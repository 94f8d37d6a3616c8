//! What [`Tutor`](crate::Tutor) runs: the turn, from its begin to its end.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::error::{Error, ErrorKind, Result};
use crate::file::SharedFileSource;
use crate::id::{MessageId, TurnId};
use crate::limits::Limits;
use crate::message::Message;
use crate::provider::Catalog;
use crate::provider::router::Router;
use crate::session::{Branch, MessageQuery, MessageRange, SessionKey};
use crate::store::{RecordStore, SharedStore, rules};
use crate::time::{SharedRuntime, Timestamp};
use crate::turn::{ChatRequest, Turn, TurnKey, TurnStatus};
use crate::usage::ledger::{Charged, Ledger};
use crate::usage::{Payer, Payers};

mod background;
pub(crate) mod branch;
pub(crate) mod context;
pub(crate) mod hub;
mod draft;
mod follow;
mod history;
pub(crate) mod live;
mod log;
pub(crate) mod output;
pub(crate) mod peers;
pub(crate) mod prepare;
mod recover;
mod repeated;
mod results;
mod run;
mod schema;
#[cfg(test)]
pub(crate) mod testing;
mod title;
mod tokens;
pub(crate) mod tools;

use hub::Hub;
use live::LiveTurn;
use peers::Peers;

/// How often a turn is prepared again because the conversation moved in between.
const MAX_ATTEMPTS: usize = 4;

/// Everything that turns share.
pub(crate) struct Engine {
    pub(crate) store: SharedStore,
    pub(crate) providers: RwLock<Arc<Router>>,
    /// Where what is not a conversation is kept; `None` if nowhere.
    pub(crate) records: Option<Arc<dyn RecordStore>>,
    pub(crate) hub: Hub,
    /// The other instances on the same store; `None` if they are told nothing.
    pub(crate) peers: Option<Arc<Peers>>,
    pub(crate) runtime: SharedRuntime,
    /// What models cost.
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) limits: Limits,
    /// What owners use.
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) system_prompt: Option<String>,
    pub(crate) tools: tools::Toolbox,
    pub(crate) files: Option<SharedFileSource>,
    pub(crate) improves_titles: bool,
    pub(crate) summarizes: bool,
    pub(crate) summarizing: background::Summarizing,
    /// Turns that nobody ran any more and that this engine ended.
    pub(crate) recovered: AtomicUsize,
    /// Names this engine in the turns that it runs.
    pub(crate) instance: String,
    pub(crate) tasks: TaskTracker,
    /// Cancelled when no new turn is taken any more.
    pub(crate) closing: CancellationToken,
    /// True when the store is closed, or about to be.
    pub(crate) closed: AtomicBool,
    /// Cancelled when running turns have to end.
    pub(crate) halt: CancellationToken,
}

/// A turn that somebody asked for.
#[derive(Debug)]
pub(crate) enum Asked {
    /// It runs here, or ended here lately.
    Live(Arc<LiveTurn>, Turn),
    /// It runs on another instance, which tells what happens in it.
    Elsewhere(Arc<Peers>, Turn),
    /// It ended before; everything about it is stored.
    Ended(Turn),
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("store", &self.store)
            .field("providers", &self.router())
            .field("live_turns", &self.hub.live_count())
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// Who answers, at the moment.
    pub(crate) fn router(&self) -> Arc<Router> {
        Arc::clone(
            &self
                .providers
                .read()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    /// Has others answer from now on. Turns that run are not disturbed.
    pub(crate) fn replace_router(&self, router: Router) {
        let mut providers = self
            .providers
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *providers = Arc::new(router);
    }

    /// Begins the turn that `request` asks for, or finds the one that it began earlier. When this
    /// returns, the learner's words are stored. True if the turn is new.
    pub(crate) async fn begin(
        self: &Arc<Self>,
        owner: crate::OwnerId,
        payers: Payers,
        request: ChatRequest,
        cancel: CancellationToken,
    ) -> Result<(Asked, bool)> {
        if self.closed.load(Ordering::Acquire) {
            return Err(rules::closed());
        }
        if self.closing.is_cancelled() {
            return Err(Error::new(
                ErrorKind::Overloaded,
                "this tutor is closing: ask again when it is open, or another instance",
            )
            .retryable(None));
        }
        self.check(&request)?;
        let fingerprint = prepare::fingerprint(&request);
        let mut attempt = 1;
        loop {
            if let Some(key) = &request.idempotency_key
                && let Some(turn) = self.taken(&owner, key, fingerprint).await?
            {
                return Ok((Box::pin(self.find(turn)).await?, false));
            }
            // A refusal costs next to nothing: that is how others are still served.
            self.hub.check_room(&owner, &payers)?;
            let mut prepared = match self.prepare(&owner, &request, fingerprint).await {
                Ok(prepared) => prepared,
                Err(error)
                    if attempt < MAX_ATTEMPTS && self.reclaim_blocker(&owner, &error).await? =>
                {
                    attempt += 1;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let (began, turn) = self.reserve(&mut prepared, &payers).await?;
            let key = TurnKey::new(owner.clone(), turn.clone());
            let launched = match self.enter(&key).await {
                Ok(()) => {
                    let payers = Arc::clone(&payers);
                    self.launch(prepared, payers, &request, cancel.clone())
                        .await
                }
                Err(refused) => Err(refused),
            };
            if !matches!(launched, Ok(run::Launched::New(..))) {
                let charged = Charged {
                    owner: &owner,
                    payers: &payers,
                };
                self.ledger.release(charged, began, &turn);
                self.leave(key);
            }
            match launched {
                Ok(run::Launched::New(live, turn)) => return Ok((Asked::Live(live, turn), true)),
                Ok(run::Launched::Existing(turn)) => {
                    return Ok((Box::pin(self.find(turn)).await?, false));
                }
                Err(error)
                    if attempt < MAX_ATTEMPTS && self.may_prepare_again(&owner, &error).await? =>
                {
                    attempt += 1
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Counts a turn together with those of the same owner on other instances, if that bounds
    /// anything. Without them it is counted here alone.
    async fn enter(&self, key: &TurnKey) -> Result<()> {
        let Some(peers) = self.shared_bound() else {
            return Ok(());
        };
        if peers.is_left_alone() {
            return Ok(());
        }
        let max = self.limits.max_live_turns_per_owner;
        let at_most = self.limits.turn_timeout + self.limits.lease;
        match peers::within(peers.bus.enter(key, max, at_most)).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(hub::too_many_of_one(max)),
            Err(_) => {
                peers.failed();
                Ok(())
            }
        }
    }

    /// The turn is not counted any more.
    pub(crate) fn leave(&self, key: TurnKey) {
        if let Some(peers) = self.shared_bound() {
            peers.outbox.leave(key);
        }
    }

    /// The others, if an owner's turns have a bound of their own.
    fn shared_bound(&self) -> Option<&Arc<Peers>> {
        let limits = &self.limits;
        let is_bound = limits.max_live_turns_per_owner < limits.max_live_turns;
        self.peers.as_ref().filter(|_| is_bound)
    }

    /// Reserves what the turn may need, and bounds its reply by what there is.
    async fn reserve(
        &self,
        prepared: &mut prepare::Prepared,
        payers: &[Payer],
    ) -> Result<(Timestamp, TurnId)> {
        let turn = &prepared.new_turn.turn;
        let (began, id, owner) = (turn.started_at, turn.id.clone(), turn.owner.clone());
        let wish = prepared.wish.clone();
        let wished = wish.output_tokens;
        let charged = Charged {
            owner: &owner,
            payers,
        };
        let granted = self.ledger.reserve(charged, began, wish).await?;
        if let Some(granted) = granted.filter(|granted| *granted < wished) {
            prepared.completion.max_tokens = Some(granted);
        }
        Ok((began, id))
    }

    /// The turn that has taken an idempotency key.
    pub(crate) async fn taken(
        &self,
        owner: &crate::OwnerId,
        key: &str,
        fingerprint: u64,
    ) -> Result<Option<Turn>> {
        match self.store.turn_by_key(owner, key).await? {
            Some(turn) if turn.fingerprint == fingerprint => Ok(Some(turn)),
            Some(turn) => Err(rules::key_reused(&turn.id)),
            None => Ok(None),
        }
    }

    /// True if preparing the turn again may succeed: the conversation moved in between, or was
    /// blocked by a turn that nobody runs any more.
    async fn may_prepare_again(&self, owner: &crate::OwnerId, error: &Error) -> Result<bool> {
        let moved = error.kind() == ErrorKind::Conflict && error.context_value("head").is_some();
        Ok(moved || self.reclaim_blocker(owner, error).await?)
    }

    /// If `error` says that a turn blocks the session, and nobody runs that turn any more, ends
    /// it and returns true.
    async fn reclaim_blocker(&self, owner: &crate::OwnerId, error: &Error) -> Result<bool> {
        if error.kind() != ErrorKind::Conflict {
            return Ok(false);
        }
        match error.context_value("turn").map(TurnId::new) {
            Some(Ok(id)) => Box::pin(self.reclaim(&TurnKey::new(owner.clone(), id))).await,
            _ => Ok(false),
        }
    }

    /// Where to read the events of a stored turn.
    pub(crate) async fn find(&self, turn: Turn) -> Result<Asked> {
        let key = turn.key();
        if let Some(live) = self.hub.find(&key) {
            return Ok(Asked::Live(live, turn));
        }
        if turn.status != TurnStatus::Running {
            return Ok(Asked::Ended(turn));
        }
        // It may have ended between the two look-ups, or its instance may be gone.
        self.reclaim(&key).await?;
        let turn = self.turn(&key).await?;
        if turn.status != TurnStatus::Running {
            return Ok(Asked::Ended(turn));
        }
        match &self.peers {
            Some(peers) => Ok(Asked::Elsewhere(Arc::clone(peers), turn)),
            None => Err(elsewhere()),
        }
    }

    /// The stored turn.
    pub(crate) async fn turn(&self, key: &TurnKey) -> Result<Turn> {
        self.store
            .turn(key)
            .await?
            .ok_or_else(|| Error::not_found("turn", &key.id))
    }

    /// The stored reply of an ended turn; `None` if nothing had arrived.
    pub(crate) async fn reply(&self, turn: &Turn) -> Result<Option<Message>> {
        if !turn.has_reply {
            return Ok(None);
        }
        let session = SessionKey::new(turn.owner.clone(), turn.session_id.clone());
        self.message(session, turn.reply_message_id.clone())
            .await
            .map(Some)
    }

    /// A stored message.
    pub(crate) async fn message(&self, session: SessionKey, id: MessageId) -> Result<Message> {
        let query = MessageQuery {
            session,
            branch: Branch::Leaf(id.clone()),
            range: MessageRange::Latest,
            limit: 1,
        };
        let page = self.store.messages(query).await?;
        page.items
            .into_iter()
            .next_back()
            .ok_or_else(|| Error::not_found("message", id))
    }

    /// Stops a turn, and waits until it has ended.
    pub(crate) async fn cancel(&self, key: &TurnKey) -> Result<Turn> {
        if let Some(live) = self.hub.find(key) {
            live.cancel.cancel();
            live.ended().await;
        }
        let turn = self.turn(key).await?;
        if turn.status != TurnStatus::Running {
            return Ok(turn);
        }
        if self.reclaim(key).await? {
            return self.turn(key).await;
        }
        Box::pin(self.cancel_elsewhere(turn)).await
    }

    /// Stops all turns of an owner, wherever they run, and forgets what was told about them.
    pub(crate) async fn cancel_all(&self, owner: &crate::OwnerId) {
        let live = self.hub.live_of(owner);
        for turn in &live {
            turn.cancel.cancel();
        }
        for turn in live {
            turn.ended().await;
        }
        if let Some(peers) = &self.peers {
            if let Err(error) = self.cancel_all_elsewhere(owner).await {
                tracing::warn!(
                    code = error.code(),
                    "turns that run on other instances were not stopped"
                );
            }
            peers.forget(owner, None).await;
        }
    }

    /// Takes no new turn, gives the running ones `grace` to end, ends the others as interrupted,
    /// and closes the store. Idempotent.
    pub(crate) async fn close(&self, grace: std::time::Duration) -> Result<()> {
        self.closing.cancel();
        self.tasks.close();
        if tokio::time::timeout(grace, self.tasks.wait())
            .await
            .is_err()
        {
            self.halt.cancel();
            self.tasks.wait().await;
        }
        if let Some(peers) = &self.peers {
            peers.close().await;
        }
        self.closed.store(true, Ordering::Release);
        self.store.close().await
    }
}

/// The refusal of what only another instance can do, which cannot be asked.
fn elsewhere() -> Error {
    Error::conflict("this turn runs on another instance, which cannot be asked: try again")
        .retryable(Some(std::time::Duration::from_secs(1)))
}

/// What needs records, in a tutor that keeps none.
pub(crate) fn no_records() -> Error {
    Error::new(
        ErrorKind::Config,
        "this tutor keeps nothing but conversations: give its builder a place for records, too",
    )
}
