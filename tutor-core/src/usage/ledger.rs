//! Writes accounts: many changes in one write, by one task at a time.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) use super::account::{Spent, Wish};
use super::{Account, KIND, Quota, day_of, key, until_tomorrow};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{OwnerId, TurnId};
use crate::store::document::{Documents, put};
use crate::store::{Expect, RecordStore, SharedStore};
use crate::time::{SharedRuntime, Timestamp};
use crate::turn::{Turn, TurnKey, TurnStatus};

/// How long a change waits for others to be written with, if nobody waits for it.
const LINGER: Duration = Duration::from_secs(1);

/// Changes that may wait. Further ones that nobody waits for are dropped, others are refused.
const MAX_WAITING: usize = 65_536;

/// Changes that are written at a time.
const MAX_BATCH: usize = 1024;

/// How often a write is tried again because another instance changed an account.
const MAX_ATTEMPTS: usize = 16;

/// The accounts of all owners.
pub(crate) struct Ledger {
    documents: Option<Documents>,
    store: SharedStore,
    runtime: SharedRuntime,
    quota: Quota,
    queue: Mutex<Queue>,
    hurry: Notify,
    tasks: TaskTracker,
    closing: CancellationToken,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Entry>,
    is_worked_on: bool,
}

struct Entry {
    owner: OwnerId,
    day: String,
    change: Change,
    /// Who waits for it. What is told is what a reserved reply may have, in tokens.
    done: Option<oneshot::Sender<Result<u64>>>,
}

#[derive(Clone)]
enum Change {
    Reserve(Wish),
    Release(TurnId),
    /// With the turn if it has a reservation, which is settled once.
    Settle(Option<TurnId>, Spent),
    Rate(i64, i64),
    Upload(u64),
    /// Nothing: somebody wants all before it to be written.
    Flush,
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger")
            .field("quota", &self.quota)
            .finish_non_exhaustive()
    }
}

impl Ledger {
    pub(crate) fn new(
        records: Option<Arc<dyn RecordStore>>,
        store: SharedStore,
        runtime: SharedRuntime,
        quota: Quota,
        (tasks, closing): (TaskTracker, CancellationToken),
    ) -> Arc<Self> {
        Arc::new(Self {
            documents: records.map(Documents::new),
            store,
            runtime,
            quota,
            queue: Mutex::default(),
            hurry: Notify::new(),
            tasks,
            closing,
        })
    }

    /// How much each owner may use.
    pub(crate) fn quota(&self) -> &Quota {
        &self.quota
    }

    /// Reserves what a turn may need; `None` if nothing is limited, else the tokens that its reply
    /// may have. Durable when it returns.
    pub(crate) async fn reserve(
        self: &Arc<Self>,
        owner: &OwnerId,
        began: Timestamp,
        wish: Wish,
    ) -> Result<Option<u64>> {
        if !self.quota.limits_turns() {
            return Ok(None);
        }
        let granted = self.wait_for(owner, began, Change::Reserve(wish)).await?;
        Ok(self.quota.tokens_per_day.is_some().then_some(granted))
    }

    /// Gives up the reservation of a turn that did not begin.
    pub(crate) fn release(self: &Arc<Self>, owner: &OwnerId, began: Timestamp, turn: &TurnId) {
        if self.quota.limits_turns() {
            self.push(self.entry(owner, began, Change::Release(turn.clone())));
        }
    }

    /// Counts a turn that has ended.
    pub(crate) fn settle(self: &Arc<Self>, turn: &Turn, spent: Spent) {
        let reserved = self.quota.limits_turns().then(|| turn.id.clone());
        let change = Change::Settle(reserved, spent);
        self.push(self.entry(&turn.owner, turn.started_at, change));
    }

    /// Counts thumbs.
    pub(crate) fn rate(self: &Arc<Self>, owner: &OwnerId, up: i64, down: i64) {
        if (up, down) != (0, 0) {
            self.push(self.entry(owner, self.runtime.now(), Change::Rate(up, down)));
        }
    }

    /// Counts an upload, if it fits. Durable when it returns.
    pub(crate) async fn upload(self: &Arc<Self>, owner: &OwnerId, bytes: u64) -> Result<()> {
        let now = self.runtime.now();
        if self.quota.upload_bytes_per_day.is_none() {
            self.push(self.entry(owner, now, Change::Upload(bytes)));
            return Ok(());
        }
        self.wait_for(owner, now, Change::Upload(bytes)).await?;
        Ok(())
    }

    /// Waits until everything so far is written.
    pub(crate) async fn flush(self: &Arc<Self>) -> Result<()> {
        if self.documents.is_none() {
            return Ok(());
        }
        let now = self.runtime.now();
        self.wait_for(&OwnerId::default(), now, Change::Flush)
            .await?;
        Ok(())
    }

    fn entry(&self, owner: &OwnerId, at: Timestamp, change: Change) -> Entry {
        Entry {
            owner: owner.clone(),
            day: day_of(at),
            change,
            done: None,
        }
    }

    async fn wait_for(
        self: &Arc<Self>,
        owner: &OwnerId,
        at: Timestamp,
        change: Change,
    ) -> Result<u64> {
        let (done, told) = oneshot::channel();
        let entry = Entry {
            done: Some(done),
            ..self.entry(owner, at, change)
        };
        self.push(entry);
        told.await
            .unwrap_or_else(|_| Err(Error::internal("an account's change was not written")))
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(self: &Arc<Self>, entry: Entry) {
        if self.documents.is_none() {
            return;
        }
        let must_work = {
            let mut queue = self.queue();
            if queue.waiting.len() >= MAX_WAITING {
                drop(queue);
                let full = "more is used than can be written: try again in a moment";
                match entry.done {
                    Some(done) => {
                        let full = Error::new(ErrorKind::Overloaded, full).retryable(None);
                        // Who gave up waiting does not need to know.
                        let _ = done.send(Err(full));
                    }
                    None => tracing::warn!("what was used is not counted: too much waits"),
                }
                return;
            }
            if entry.done.is_some() {
                self.hurry.notify_one();
            }
            queue.waiting.push(entry);
            !std::mem::replace(&mut queue.is_worked_on, true)
        };
        if must_work {
            let ledger = Arc::clone(self);
            self.tasks.spawn(async move { ledger.work().await });
        }
    }

    /// Writes until nothing waits any more.
    async fn work(self: Arc<Self>) {
        loop {
            let is_urgent = self
                .queue()
                .waiting
                .iter()
                .any(|entry| entry.done.is_some());
            if !is_urgent {
                tokio::select! {
                    () = tokio::time::sleep(LINGER) => {}
                    () = self.hurry.notified() => {}
                    () = self.closing.cancelled() => {}
                }
            }
            let batch = {
                let mut queue = self.queue();
                if queue.waiting.is_empty() {
                    queue.is_worked_on = false;
                    return;
                }
                let count = queue.waiting.len().min(MAX_BATCH);
                queue.waiting.drain(..count).collect()
            };
            self.write(batch).await;
        }
    }

    async fn write(&self, batch: Vec<Entry>) {
        let mut outcomes = Err(too_busy());
        for _ in 0..MAX_ATTEMPTS {
            // A store that panics must not keep everybody waiting for ever.
            let writing = AssertUnwindSafe(self.try_write(&batch)).catch_unwind();
            outcomes = writing
                .await
                .unwrap_or_else(|_| Err(Error::internal("the store panicked")));
            match &outcomes {
                Err(error) if error.kind() == ErrorKind::Conflict => {
                    tokio::task::yield_now().await;
                }
                _ => break,
            }
        }
        match outcomes {
            Ok(outcomes) => {
                for (entry, outcome) in batch.into_iter().zip(outcomes) {
                    tell(entry, outcome);
                }
            }
            Err(error) => {
                tracing::warn!(code = error.code(), "what was used could not be written");
                let error = match error.kind() {
                    ErrorKind::Conflict => too_busy(),
                    _ => error,
                };
                for entry in batch {
                    tell(entry, Err(error.clone()));
                }
            }
        }
    }

    /// One write of all changes; what came of each, in order.
    async fn try_write(&self, batch: &[Entry]) -> Result<Vec<Result<u64>>> {
        let Some(documents) = &self.documents else {
            return Err(Error::internal("there is no place for accounts"));
        };
        let now = self.runtime.now();
        let mut accounts: BTreeMap<String, (Account, Account, Expect)> = BTreeMap::new();
        let mut outcomes = Vec::with_capacity(batch.len());
        for entry in batch {
            if let Change::Flush = entry.change {
                outcomes.push(Ok(0));
                continue;
            }
            let key = key(&entry.owner, &entry.day);
            if !accounts.contains_key(&key) {
                let found = documents.get::<Account>(KIND, &key).await?;
                let (mut account, expect) = match found {
                    Some((account, version)) => (account, Expect::Version(version)),
                    None => (Account::default(), Expect::Absent),
                };
                let before = account.clone();
                for turn in account.lapsed(now) {
                    self.resolve(&mut account, &entry.owner, turn).await?;
                }
                accounts.insert(key.clone(), (before, account, expect));
            }
            let outcome = match accounts.get_mut(&key) {
                Some((_, account, _)) => self.apply(account, &entry.change, now),
                None => Err(Error::internal("an account was not read")),
            };
            outcomes.push(outcome);
        }
        let mut writes = Vec::new();
        for (key, (before, account, expect)) in accounts {
            if account != before {
                writes.push(put(KIND, &key, &account, expect)?);
            }
        }
        documents.commit(writes).await?;
        Ok(outcomes)
    }

    fn apply(&self, account: &mut Account, change: &Change, now: Timestamp) -> Result<u64> {
        let reset = until_tomorrow(now);
        match change {
            Change::Reserve(wish) => return account.reserve(wish, &self.quota, reset),
            Change::Release(turn) => {
                account.release(turn);
            }
            // A reservation that is not there any more has been settled.
            Change::Settle(Some(turn), spent) => {
                if account.release(turn) {
                    account.settle(spent);
                }
            }
            Change::Settle(None, spent) => account.settle(spent),
            Change::Rate(up, down) => account.rate(*up, *down),
            Change::Upload(bytes) => account.upload(*bytes, &self.quota, reset)?,
            Change::Flush => {}
        }
        Ok(0)
    }

    /// Settles a reservation that a crash left, by what is stored of the turn.
    async fn resolve(&self, account: &mut Account, owner: &OwnerId, turn: TurnId) -> Result<()> {
        let key = TurnKey::new(owner.clone(), turn.clone());
        match self.store.turn(&key).await? {
            Some(stored) if stored.status == TurnStatus::Running => {}
            Some(stored) => {
                account.release(&turn);
                account.settle(&Spent {
                    status: stored.status,
                    usage: stored.usage.unwrap_or_default(),
                    first_token: None,
                });
            }
            // It never began, or is deleted.
            None => {
                account.release(&turn);
            }
        }
        Ok(())
    }
}

fn too_busy() -> Error {
    Error::new(
        ErrorKind::Overloaded,
        "too many replies of one owner begin at once: try again in a moment",
    )
    .retryable(Some(Duration::from_secs(1)))
}

fn tell(entry: Entry, outcome: Result<u64>) {
    if let Some(done) = entry.done {
        // Who gave up waiting does not need to know.
        let _ = done.send(outcome);
    }
}
