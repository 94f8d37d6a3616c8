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

use super::account::Terms;
pub(crate) use super::account::{Spent, Wish};
use super::{Account, DAY_MICROS, KIND, PAYER_KIND, Payer, Quota, day_of, key, until_tomorrow};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{OwnerId, TurnId};
use crate::session::MAX_PAGE;
use crate::store::document::{Documents, put, remove};
use crate::store::{Expect, KeyRange, RecordStore, SharedStore};
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

/// The accounts of all owners, and of whoever else pays.
pub(crate) struct Ledger {
    documents: Option<Documents>,
    store: SharedStore,
    runtime: SharedRuntime,
    quota: Quota,
    queue: Mutex<Queue>,
    hurry: Notify,
    /// The day on which payers' accounts of earlier days were removed last.
    cleared: Mutex<String>,
    tasks: TaskTracker,
    closing: CancellationToken,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Entry>,
    is_worked_on: bool,
}

/// Who used something, or wants to.
#[derive(Clone, Copy)]
pub(crate) struct Charged<'a> {
    pub(crate) owner: &'a OwnerId,
    pub(crate) payers: &'a [Payer],
}

/// Where an account is.
type Place = (&'static str, String);

/// An account that is to be changed.
struct Charge {
    place: Place,
    owner: OwnerId,
    /// The kind of the payer; `None` for the owner.
    payer: Option<&'static str>,
    quota: Quota,
}

impl Charge {
    fn terms(&self, reset: u64) -> Terms<'_> {
        Terms {
            quota: &self.quota,
            payer: self.payer,
            reset,
        }
    }
}

/// An account as it was found, and as it is to be.
struct Opened {
    before: Account,
    account: Account,
    expect: Expect,
}

struct Entry {
    /// The owner's account first.
    charges: Vec<Charge>,
    change: Change,
    /// Who waits for it. What is told is what a reserved reply may have, in tokens.
    done: Option<oneshot::Sender<Result<u64>>>,
}

#[derive(Clone)]
enum Change {
    Reserve(Wish),
    Release(TurnId),
    /// Where the turn has a reservation, it is settled once.
    Settle(TurnId, Spent),
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
            cleared: Mutex::default(),
            tasks,
            closing,
        })
    }

    /// How much each owner may use.
    pub(crate) fn quota(&self) -> &Quota {
        &self.quota
    }

    /// Reserves what a turn may need, with all who pay or with none; `None` if nothing is limited,
    /// else the tokens that its reply may have. Durable when it returns.
    pub(crate) async fn reserve(
        self: &Arc<Self>,
        charged: Charged<'_>,
        began: Timestamp,
        wish: Wish,
    ) -> Result<Option<u64>> {
        let mut quotas = self.quotas(charged);
        if !quotas.clone().any(Quota::limits_turns) {
            return Ok(None);
        }
        let is_bound = quotas.any(|quota| quota.tokens_per_day.is_some());
        let granted = self.wait_for(charged, began, Change::Reserve(wish)).await?;
        Ok(is_bound.then_some(granted))
    }

    /// Gives up the reservation of a turn that did not begin.
    pub(crate) fn release(self: &Arc<Self>, charged: Charged<'_>, began: Timestamp, turn: &TurnId) {
        if self.quotas(charged).any(Quota::limits_turns) {
            self.push(self.entry(charged, began, Change::Release(turn.clone())));
        }
    }

    /// Counts a turn that has ended.
    pub(crate) fn settle(self: &Arc<Self>, turn: &Turn, payers: &[Payer], spent: Spent) {
        let change = Change::Settle(turn.id.clone(), spent);
        let charged = Charged {
            owner: &turn.owner,
            payers,
        };
        self.push(self.entry(charged, turn.started_at, change));
    }

    /// Counts thumbs.
    pub(crate) fn rate(self: &Arc<Self>, owner: &OwnerId, up: i64, down: i64) {
        if (up, down) != (0, 0) {
            let now = self.runtime.now();
            self.push(self.entry(Charged::alone(owner), now, Change::Rate(up, down)));
        }
    }

    /// Counts an upload, if it fits. Durable when it returns.
    pub(crate) async fn upload(self: &Arc<Self>, charged: Charged<'_>, bytes: u64) -> Result<()> {
        let (now, change) = (self.runtime.now(), Change::Upload(bytes));
        let mut quotas = self.quotas(charged);
        if !quotas.any(|quota| quota.upload_bytes_per_day.is_some()) {
            self.push(self.entry(charged, now, change));
            return Ok(());
        }
        self.wait_for(charged, now, change).await?;
        Ok(())
    }

    /// Waits until everything so far is written.
    pub(crate) async fn flush(self: &Arc<Self>) -> Result<()> {
        if self.documents.is_none() {
            return Ok(());
        }
        let (now, owner) = (self.runtime.now(), OwnerId::default());
        self.wait_for(Charged::alone(&owner), now, Change::Flush)
            .await?;
        Ok(())
    }

    /// What limits what is used.
    fn quotas<'a>(&'a self, charged: Charged<'a>) -> impl Iterator<Item = &'a Quota> + Clone {
        let payers = charged.payers.iter().map(|payer| &payer.quota);
        std::iter::once(&self.quota).chain(payers)
    }

    fn entry(&self, charged: Charged<'_>, at: Timestamp, change: Change) -> Entry {
        let day = day_of(at);
        let own = Charge {
            place: (KIND, key(charged.owner, &day)),
            owner: charged.owner.clone(),
            payer: None,
            quota: self.quota.clone(),
        };
        let payers = charged.payers.iter().filter(|payer| payer.is_counted());
        let payers = payers.map(|payer| Charge {
            place: (PAYER_KIND, format!("/{day}/{}", payer.id())),
            owner: charged.owner.clone(),
            payer: Some(payer.kind),
            quota: payer.quota.clone(),
        });
        Entry {
            charges: std::iter::once(own).chain(payers).collect(),
            change,
            done: None,
        }
    }

    async fn wait_for(
        self: &Arc<Self>,
        charged: Charged<'_>,
        at: Timestamp,
        change: Change,
    ) -> Result<u64> {
        let (done, told) = oneshot::channel();
        let entry = Entry {
            done: Some(done),
            ..self.entry(charged, at, change)
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
        let mut accounts: BTreeMap<Place, Opened> = BTreeMap::new();
        let mut outcomes = Vec::with_capacity(batch.len());
        for entry in batch {
            if let Change::Flush = entry.change {
                outcomes.push(Ok(0));
                continue;
            }
            for charge in &entry.charges {
                if !accounts.contains_key(&charge.place) {
                    let opened = self.open(documents, charge, now).await?;
                    accounts.insert(charge.place.clone(), opened);
                }
            }
            outcomes.push(apply(&mut accounts, entry, until_tomorrow(now)));
        }
        let mut writes = Vec::new();
        for ((kind, key), opened) in accounts {
            if opened.account != opened.before {
                writes.push(put(kind, &key, &opened.account, opened.expect)?);
            }
        }
        documents.commit(writes).await?;
        if batch.iter().any(|entry| entry.charges.len() > 1) {
            self.clear(documents, now).await;
        }
        Ok(outcomes)
    }

    /// The account as it is stored, without reservations that a crash left.
    async fn open(&self, documents: &Documents, charge: &Charge, now: Timestamp) -> Result<Opened> {
        let (kind, key) = &charge.place;
        let (mut account, expect) = match documents.get::<Account>(kind, key).await? {
            Some((account, version)) => (account, Expect::Version(version)),
            None => (Account::default(), Expect::Absent),
        };
        let before = account.clone();
        for (turn, owner) in account.lapsed(now) {
            let owner = owner.as_ref().unwrap_or(&charge.owner);
            self.resolve(&mut account, owner, turn).await?;
        }
        Ok(Opened {
            before,
            account,
            expect,
        })
    }

    /// Removes payers' accounts of days that limit nothing any more, once a day. That of yesterday may
    /// still have turns that run.
    async fn clear(&self, documents: &Documents, now: Timestamp) {
        let (today, yesterday) = (
            day_of(now),
            day_of(Timestamp::from_micros(now.as_micros() - DAY_MICROS)),
        );
        {
            let mut cleared = self.cleared.lock().unwrap_or_else(PoisonError::into_inner);
            if *cleared == today {
                return;
            }
            *cleared = today;
        }
        if let Err(error) = remove_before(documents, &format!("/{yesterday}")).await {
            tracing::warn!(
                code = error.code(),
                "accounts of earlier days could not be removed"
            );
        }
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

impl<'a> Charged<'a> {
    /// The owner, and nobody else.
    pub(crate) fn alone(owner: &'a OwnerId) -> Self {
        Self { owner, payers: &[] }
    }
}

/// Makes one change in all its accounts, or in none.
fn apply(accounts: &mut BTreeMap<Place, Opened>, entry: &Entry, reset: u64) -> Result<u64> {
    let charges = &entry.charges;
    match &entry.change {
        Change::Reserve(wish) => return reserve(accounts, charges, wish, reset),
        Change::Upload(bytes) => {
            for charge in charges {
                let terms = charge.terms(reset);
                opened(accounts, charge)?.check_upload(*bytes, terms)?;
            }
        }
        _ => {}
    }
    for charge in charges {
        let account = opened(accounts, charge)?;
        match &entry.change {
            Change::Release(turn) => {
                account.release(turn);
            }
            // A reservation that is not there any more has been settled.
            Change::Settle(turn, spent) => {
                if account.release(turn) || !charge.quota.limits_turns() {
                    account.settle(spent);
                }
            }
            Change::Rate(up, down) => account.rate(*up, *down),
            Change::Upload(bytes) => account.upload(*bytes),
            Change::Reserve(_) | Change::Flush => {}
        }
    }
    Ok(0)
}

/// Reserves with all whose turns are limited: what the reply may have is the least that any of them
/// has left.
fn reserve(
    accounts: &mut BTreeMap<Place, Opened>,
    charges: &[Charge],
    wish: &Wish,
    reset: u64,
) -> Result<u64> {
    let mut wish = wish.clone();
    let limited = charges.iter().filter(|charge| charge.quota.limits_turns());
    for charge in limited.clone() {
        match opened(accounts, charge)?.reserve(&wish, charge.terms(reset)) {
            Ok(granted) => wish.output_tokens = granted,
            Err(refusal) => {
                for charge in limited {
                    opened(accounts, charge)?.release(&wish.turn);
                }
                return Err(refusal);
            }
        }
    }
    Ok(wish.output_tokens)
}

fn opened<'a>(
    accounts: &'a mut BTreeMap<Place, Opened>,
    charge: &Charge,
) -> Result<&'a mut Account> {
    match accounts.get_mut(&charge.place) {
        Some(opened) => Ok(&mut opened.account),
        None => Err(Error::internal("an account was not read")),
    }
}

/// Removes payers' accounts whose keys are before this one.
async fn remove_before(documents: &Documents, end: &str) -> Result<()> {
    loop {
        let records = documents.records();
        let found = records
            .scan(PAYER_KIND, KeyRange::default(), MAX_PAGE)
            .await?;
        let is_last = found.len() < MAX_PAGE;
        let old: Vec<_> = found
            .iter()
            .map(|record| record.key.as_str())
            .take_while(|key| *key < end)
            .collect();
        if old.is_empty() {
            return Ok(());
        }
        let reaches_newer = old.len() < found.len();
        let removals = old.into_iter().map(|key| remove(PAYER_KIND, key));
        documents.commit(removals.collect()).await?;
        if is_last || reaches_newer {
            return Ok(());
        }
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
