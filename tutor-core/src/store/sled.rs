//! The embedded store: one directory, no set-up, every acknowledged write on the disk.

mod check;
mod compact;
mod draft;
mod envelope;
mod flush;
mod keys;
mod mark;
mod open;
mod reads;
mod recents;
mod records;
mod rows;
mod salvage;
mod shared;
mod subject;
mod syncer;
mod tails;
mod writer;
mod writes;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use ::sled::Tree;
use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};

pub use self::compact::Compaction;
use self::draft::Draft;
use self::shared::Shared;
use self::writer::{Job, MAX_QUEUE, Write, Writer};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{OwnerId, SessionId, TurnId};
use crate::message::Message;
use crate::session::{
    MessageCut, MessageQuery, Page, Session, SessionKey, SessionPatch, SessionQuery,
};
use crate::store::{
    BegunTurn, Checkpoint, Durability, Existing, KeyRange, NewTurn, Record, RecordStore,
    RecordWrite, RunningTurn, SessionStore, StorageCheck, StoreInfo, TurnEnd, WholeSession, rules,
};
use crate::turn::{Turn, TurnKey};

/// A store in a directory of the local file system, used by one process at a time.
///
/// Clones share the store. It closes when the last one is dropped; [`SessionStore::close`] also
/// waits for that.
///
/// # Durability
/// What was acknowledged survives the end of the process by any means and, with
/// [`Durability::Power`], power loss, on a disk that honors flushes. Damage to the files
/// themselves (bit rot, truncation) can cost what came since the last backup. A failed write or
/// sync fails the store: nothing is acknowledged or read until it is opened again.
///
/// A disk without room is no such failure: writes are refused while less than 20 MiB are free,
/// reads go on, and so do writes when there is room. Where the file system does not tell of a
/// limit (a quota of the user), reads may have to wait for room too.
///
/// # Damage
/// A store whose file was cut off is `data_corrupt`: a small file beside it, `mark`, says how much
/// was acknowledged. What stays unnoticed is a cut after a power failure, for what came since the
/// store was last closed.
///
/// A record whose bytes are damaged is `data_corrupt` with its key as `record`, and so is a page with
/// it; other records stay readable. A session whose own row is damaged is listed as "Damaged
/// conversation", a damaged turn is left out of [`SessionStore::running_turns`], and both can be
/// deleted with their session.
///
/// # Space
/// Space comes back slowly after deletions, and what was deleted stays in the files until sled
/// happens to write over it; [`compact`](Self::compact) leaves nothing of it. The process uses up to
/// four times the cache capacity.
#[derive(Clone, Debug)]
pub struct SledStore {
    shared: Arc<Shared>,
    jobs: mpsc::Sender<Job>,
}

impl SledStore {
    /// Opens the store in this directory, which is created if need be.
    ///
    /// # Errors
    /// * `store_locked` if a process uses it; the context has its `pid`.
    /// * `store_unavailable` if the directory cannot be used.
    /// * `data_corrupt` if its files are damaged or of a newer version.
    /// * `config` if the path is no directory, or if this process was forked from one that had opened
    ///   such a store: threads do not survive that (the context has the `reason` `forked`).
    pub async fn open(directory: impl AsRef<Path>) -> Result<Self> {
        Self::options().open(directory).await
    }

    /// What can be chosen.
    pub fn options() -> SledOptions {
        SledOptions::default()
    }

    /// Reads on a thread that may block.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Tree) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let stopped = || Error::new(ErrorKind::StoreUnavailable, "the runtime is shutting down");
        let _turn = self.shared.reads.acquire().await.map_err(|_| stopped())?;
        let shared = Arc::clone(&self.shared);
        let reading = tokio::task::spawn_blocking(move || shared.read(read));
        reading.await.map_err(|_| stopped())?
    }

    /// Has the writer write, and waits until it is durable.
    async fn write<T: Send + 'static>(
        &self,
        write: impl FnOnce(&mut Draft<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.submit(Write::new(true, write)).await
    }

    async fn submit<T>(&self, (write, result): (Write, oneshot::Receiver<Result<T>>)) -> Result<T> {
        if self.jobs.send(Job::Write(write)).await.is_err() {
            return Err(self.shared.error());
        }
        result.await.unwrap_or_else(|_| Err(self.shared.error()))
    }
}

/// How a [`SledStore`] is opened.
#[derive(Clone, Debug)]
#[must_use]
pub struct SledOptions {
    cache_capacity: u64,
    durability: Durability,
    lock_wait: Duration,
}

/// The smallest cache, in bytes.
pub const MIN_CACHE_CAPACITY: u64 = 1 << 20;

impl Default for SledOptions {
    fn default() -> Self {
        Self {
            cache_capacity: 64 << 20,
            durability: Durability::Power,
            lock_wait: Duration::from_secs(2),
        }
    }
}

impl SledOptions {
    /// Bytes of data kept in memory: 64 MiB by default, at least [`MIN_CACHE_CAPACITY`].
    pub fn cache_capacity(mut self, bytes: u64) -> Self {
        self.cache_capacity = bytes;
        self
    }

    /// What an acknowledged write survives: [`Durability::Power`] by default, or
    /// [`Durability::Process`], which waits for no disk.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// How long to wait for a process that is still letting go of the store: 2 seconds by default.
    pub fn lock_wait(mut self, wait: Duration) -> Self {
        self.lock_wait = wait;
        self
    }

    /// Opens the store in this directory, which is created if need be.
    ///
    /// # Errors
    /// As [`SledStore::open`]; `config` for options out of range.
    pub async fn open(self, directory: impl AsRef<Path>) -> Result<SledStore> {
        self.check()?;
        let directory = open::absolute(directory.as_ref())?;
        let (jobs, waiting) = mpsc::channel(MAX_QUEUE);
        let (opened, result) = oneshot::channel();
        let work = move || {
            let opening = AssertUnwindSafe(|| open::open(&directory, &self));
            let database = catch_unwind(opening).unwrap_or_else(|_| {
                Err(Error::new(
                    ErrorKind::DataCorrupt,
                    "opening the store panicked: restore a backup",
                )
                .with_context("path", directory.display()))
            });
            match database {
                Ok(database) => {
                    let shared = Arc::new(Shared::new(directory, self, database));
                    if let Err(error) = Writer::watch(&shared) {
                        tracing::warn!(%error, "a failing disk may make the store wait for ever");
                    }
                    // If nobody waits any more, the queue is closed and the writer ends at once.
                    let _ = opened.send(Ok(Arc::clone(&shared)));
                    Writer::new(shared, waiting).run();
                }
                Err(error) => drop(opened.send(Err(error))),
            }
        };
        thread::Builder::new()
            .name("tutor-store".to_owned())
            .spawn(work)
            .map_err(|error| {
                Error::new(
                    ErrorKind::StoreUnavailable,
                    "the store's thread cannot start",
                )
                .with_source(error)
            })?;
        let stopped = |_| {
            Error::new(
                ErrorKind::StoreUnavailable,
                "the store's thread has stopped",
            )
        };
        let shared = result.await.map_err(stopped)??;
        Ok(SledStore { shared, jobs })
    }

    fn check(&self) -> Result<()> {
        if self.cache_capacity < MIN_CACHE_CAPACITY {
            return Err(Error::new(
                ErrorKind::Config,
                format!("the cache of a store has at least {MIN_CACHE_CAPACITY} bytes"),
            ));
        }
        if self.durability == Durability::None {
            return Err(Error::new(
                ErrorKind::Config,
                "a store in files survives the process or power loss; use a memory store for less",
            ));
        }
        Ok(())
    }
}

#[async_trait]
impl SessionStore for SledStore {
    fn info(&self) -> StoreInfo {
        StoreInfo {
            name: "sled".to_owned(),
            location: self.shared.location.display().to_string(),
            durability: self.shared.options.durability,
            exclusive: true,
            written: self.shared.written.read(),
        }
    }

    async fn create_session(&self, session: Session) -> Result<()> {
        self.write(|draft| writes::create_session(draft, session))
            .await
    }

    async fn session(&self, key: &SessionKey) -> Result<Option<Session>> {
        if let Some(session) = self.shared.in_memory(|shared| shared.tails.session(key)) {
            return Ok(Some(session));
        }
        let key = key.clone();
        self.read(move |tree| Ok(reads::session(tree, &key)?.map(|stored| stored.session)))
            .await
    }

    async fn sessions(&self, query: SessionQuery) -> Result<Page<Session>> {
        rules::check_limit(query.limit)?;
        self.read(move |tree| reads::sessions(tree, &query)).await
    }

    async fn update_session(&self, key: &SessionKey, patch: SessionPatch) -> Result<Session> {
        let key = key.clone();
        self.write(move |draft| writes::update_session(draft, &key, patch))
            .await
    }

    async fn delete_session(&self, key: &SessionKey) -> Result<bool> {
        let key = key.clone();
        self.write(move |draft| writes::delete_session(draft, &key))
            .await
    }

    async fn messages(&self, query: MessageQuery) -> Result<Page<Message>> {
        rules::check_limit(query.limit)?;
        if let Some(page) = self.shared.in_memory(|shared| shared.tails.page(&query)) {
            return Ok(page);
        }
        let shared = Arc::clone(&self.shared);
        self.read(move |tree| {
            let (page, session) = reads::messages(tree, &query)?;
            if let Some(session) = session {
                shared.tails.learn(session, &page.items);
            }
            Ok(page)
        })
        .await
    }

    async fn delete_message(&self, key: &SessionKey, cut: MessageCut) -> Result<u64> {
        let key = key.clone();
        self.write(move |draft| writes::delete_message(draft, &key, &cut))
            .await
    }

    async fn begin_turn(&self, turn: NewTurn) -> Result<BegunTurn> {
        rules::check_new_turn(&turn)?;
        self.write(|draft| writes::begin_turn(draft, turn)).await
    }

    async fn checkpoint_turn(&self, key: &TurnKey, checkpoint: Checkpoint) -> Result<()> {
        let key = key.clone();
        self.submit(Write::new(false, move |draft| {
            writes::checkpoint_turn(draft, &key, checkpoint)
        }))
        .await
    }

    async fn finish_turn(&self, key: &TurnKey, end: TurnEnd) -> Result<Turn> {
        let key = key.clone();
        self.write(move |draft| writes::finish_turn(draft, &key, end))
            .await
    }

    async fn turn(&self, key: &TurnKey) -> Result<Option<Turn>> {
        let key = key.clone();
        self.read(move |tree| reads::turn(tree, &key)).await
    }

    async fn turn_by_key(&self, owner: &OwnerId, idempotency_key: &str) -> Result<Option<Turn>> {
        let (owner, key) = (owner.clone(), idempotency_key.to_owned());
        self.read(move |tree| reads::turn_of(tree, &owner, &key))
            .await
    }

    async fn running_turns(&self) -> Result<Vec<RunningTurn>> {
        self.read(reads::running_turns).await
    }

    async fn owners(&self, after: Option<OwnerId>, limit: usize) -> Result<Vec<OwnerId>> {
        rules::check_limit(limit)?;
        self.read(move |tree| reads::owners(tree, after, limit))
            .await
    }

    async fn session_ids(
        &self,
        owner: &OwnerId,
        after: Option<SessionId>,
        limit: usize,
    ) -> Result<Vec<SessionId>> {
        rules::check_limit(limit)?;
        let owner = owner.clone();
        self.read(move |tree| reads::session_ids(tree, &owner, after, limit))
            .await
    }

    async fn whole_session(&self, key: &SessionKey) -> Result<Option<WholeSession>> {
        let key = key.clone();
        self.read(move |tree| reads::whole_session(tree, &key))
            .await
    }

    async fn import_session(&self, whole: WholeSession, existing: Existing) -> Result<()> {
        whole.check()?;
        self.write(move |draft| writes::import_session(draft, whole, existing))
            .await
    }

    async fn turns(
        &self,
        session: &SessionKey,
        after: Option<TurnId>,
        limit: usize,
    ) -> Result<Vec<Turn>> {
        rules::check_limit(limit)?;
        let key = session.clone();
        self.read(move |tree| reads::turns(tree, &key, after, limit))
            .await
    }

    async fn check(&self) -> Result<StorageCheck> {
        let mut found = StorageCheck::default();
        let mut last = None;
        loop {
            let next;
            (next, found) = self
                .read(move |tree| Ok((check::some(tree, last.as_deref(), &mut found)?, found)))
                .await?;
            if next.is_none() {
                return Ok(found);
            }
            last = next;
        }
    }

    async fn close(&self) -> Result<()> {
        let (answer, closed) = oneshot::channel();
        if self.jobs.send(Job::Close(answer)).await.is_err() {
            return Err(self.shared.error());
        }
        closed.await.unwrap_or_else(|_| Err(self.shared.error()))
    }
}

#[async_trait]
impl RecordStore for SledStore {
    async fn get(&self, kind: &str, key: &str) -> Result<Option<Record>> {
        let name = keys::record(kind, key);
        if let Some(record) = self.shared.in_memory(|shared| shared.recents.get(&name)) {
            return Ok(Some(record));
        }
        let (shared, key) = (Arc::clone(&self.shared), key.to_owned());
        self.read(move |tree| {
            let record = records::get(tree, &name, key)?;
            if let Some(record) = &record {
                shared.recents.learn(name, record);
            }
            Ok(record)
        })
        .await
    }

    async fn kinds(&self) -> Result<Vec<String>> {
        self.read(records::kinds).await
    }

    async fn scan(&self, kind: &str, range: KeyRange, limit: usize) -> Result<Vec<Record>> {
        let kind = kind.to_owned();
        self.read(move |tree| records::scan(tree, &kind, &range, limit))
            .await
    }

    async fn commit(&self, writes: Vec<RecordWrite>) -> Result<()> {
        writes.iter().try_for_each(rules::check_record_write)?;
        self.write(|draft| records::commit(draft, writes)).await
    }
}

/// What every write gets until there is room.
fn disk_is_full() -> Error {
    Error::new(
        ErrorKind::StoreUnavailable,
        "the store's disk is full: make room, then send the request again under the same key",
    )
    .retryable(Some(Duration::from_secs(1)))
}

/// What sled says when it cannot read or write.
fn unavailable(error: ::sled::Error) -> Error {
    let error_of = |kind, message| Error::new(kind, message);
    match &error {
        ::sled::Error::Corruption { .. } => error_of(
            ErrorKind::DataCorrupt,
            "the store's files are damaged: restore a backup",
        ),
        _ => error_of(
            ErrorKind::StoreUnavailable,
            "the store's files cannot be read or written",
        ),
    }
    .with_source(error)
}
