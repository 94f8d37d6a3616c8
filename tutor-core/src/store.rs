//! Storage: where conversations, turns and small records are kept.
//!
//! Implement [`SessionStore`] (and [`RecordStore`], for a whole backend) to add one;
//! [`conformance::store`](crate::conformance::store) is the executable form of the laws below.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use crate::error::{ErrorInfo, Result};
use crate::id::{MessageId, OwnerId, SessionId, TurnId};
use crate::message::{FinishReason, Message, Usage};
use crate::session::{
    MAX_PAGE, MessageCut, MessageQuery, Page, Session, SessionKey, SessionPatch, SessionQuery,
};
use crate::time::Timestamp;
use crate::trace::Trace;
use crate::turn::{Turn, TurnKey, TurnStatus};

pub mod document;
pub mod location;
#[cfg(any(feature = "store-sled", feature = "store-sqlite"))]
mod lock;
pub mod memory;
pub mod migration;
#[cfg(any(feature = "files", feature = "store-sled"))]
pub(crate) mod private;
pub(crate) mod rules;
#[cfg(feature = "store-sled")]
pub mod sled;
#[cfg(any(feature = "store-sqlite", feature = "store-postgres"))]
mod sql;
pub mod verify;
pub mod whole;

pub use document::Documents;
pub use location::Location;
pub use memory::MemoryStore;
#[cfg(feature = "store-sled")]
pub use sled::SledStore;
#[cfg(feature = "store-postgres")]
pub use sql::postgres::{PostgresOptions, PostgresStore};
#[cfg(feature = "store-sqlite")]
pub use sql::sqlite::SqliteStore;
pub use verify::verify;
pub use whole::{Existing, WholeSession};

/// Where sessions, messages and turns are kept.
///
/// # Behavior
/// * Every write is all or nothing, and durable when it returns (as far as
///   [`StoreInfo::durability`] promises). A failed write has changed nothing that can be read.
/// * A read sees every write that was acknowledged before it began.
/// * The owner is part of every key: another owner's data is `None` or `not_found`, like absent
///   data.
/// * Dropping the future of a write leaves it either done or not done.
///
/// # Errors
/// Besides those named at a method, any may fail with `store_unavailable` or `data_corrupt`.
#[async_trait]
pub trait SessionStore: fmt::Debug + Send + Sync + 'static {
    /// What this store is and promises.
    fn info(&self) -> StoreInfo;

    /// Stores a new, empty session.
    ///
    /// # Errors
    /// `conflict` if the owner has a session of this id.
    async fn create_session(&self, session: Session) -> Result<()>;

    /// The session, or `None`.
    async fn session(&self, key: &SessionKey) -> Result<Option<Session>>;

    /// The sessions of one owner, newest `updated_at` first; of equal times, the greater id first.
    ///
    /// # Errors
    /// `invalid_input` for a cursor that no list returned, or a limit out of range.
    async fn sessions(&self, query: SessionQuery) -> Result<Page<Session>>;

    /// Changes a session and returns it as it is then. `updated_at` never goes back.
    ///
    /// # Errors
    /// `not_found`; `invalid_input` for a head that is not in the session.
    async fn update_session(&self, key: &SessionKey, patch: SessionPatch) -> Result<Session>;

    /// Deletes a session with all its messages, turns and their idempotency keys. False if there
    /// was none.
    async fn delete_session(&self, key: &SessionKey) -> Result<bool>;

    /// Messages of one session. Reading the newest N of a branch costs O(N), whatever the length
    /// of the session.
    ///
    /// [`MessageRange::Before`](crate::session::MessageRange::Before) a message of a branch reads
    /// that message's own ancestors: paging back goes on where it began, also if the active branch
    /// changes meanwhile.
    ///
    /// # Errors
    /// `not_found` for the session; `invalid_input` for a message in the query that is not in the
    /// session, for [`MessageRange::After`](crate::session::MessageRange::After) a message that is
    /// not on the branch, and for a limit out of range.
    async fn messages(&self, query: MessageQuery) -> Result<Page<Message>>;

    /// Deletes a message, and all that follows it if that is asked for; with them the ended turns
    /// that they were written by or that answer them, and those turns' idempotency keys. If the
    /// head was deleted, what the message followed becomes the head; if it followed nothing, the
    /// message that was stored last of those that are left. Returns how many messages
    /// were deleted. Rare: may cost as much as reading the session.
    ///
    /// # Errors
    /// `not_found` for the session or the message; `conflict` if the session has a running turn
    /// (its id is in the context as `turn`), or if other messages follow this one and are not to
    /// be deleted with it (the context has one of them as `follower`).
    async fn delete_message(&self, key: &SessionKey, cut: MessageCut) -> Result<u64>;

    /// Begins a turn: stores the session if it is new, the learner's messages and the running
    /// turn, and makes the last message the head. Decides about retries: the only place where an
    /// idempotency key is taken.
    ///
    /// Checked in this order; when a check fails nothing is written:
    /// 1. The key is taken by a turn with the same fingerprint: [`BegunTurn::Existing`]. With
    ///    another fingerprint: `conflict`.
    /// 2. [`NewTurn::new_session`] is set and the owner has a session of that id: `conflict`. It
    ///    is not set and there is none: `not_found`.
    /// 3. The session has a running turn: `conflict`, whose context `turn` is its id.
    /// 4. The head is not [`NewTurn::expected_head`]: `conflict`, whose context `head` is the
    ///    actual one (or `none`).
    /// 5. A message id, or the reply's, is taken in the session: `conflict`. A parent is neither in
    ///    the session nor earlier in the batch, or the answered message is not a learner's:
    ///    `invalid_input`. The owner has a turn of that id: `conflict`.
    ///
    /// # Errors
    /// `conflict`, `not_found`, `invalid_input` as above; `invalid_input` for a turn that
    /// contradicts itself: not running, its parts of different sessions, or its last message not
    /// the one it answers.
    async fn begin_turn(&self, turn: NewTurn) -> Result<BegunTurn>;

    /// Saves how far a running turn is, and renews its lease. May be lost by a crash.
    ///
    /// # Errors
    /// `not_found`; `conflict` if the turn has ended; `invalid_input` for a partial reply that is
    /// not this turn's.
    async fn checkpoint_turn(&self, key: &TurnKey, checkpoint: Checkpoint) -> Result<()>;

    /// Ends a turn: stores the reply (if any), makes it the head if the head is still the message
    /// that it answers, and frees the session. Once.
    ///
    /// # Errors
    /// `not_found`; `conflict` if the turn has ended, or its lease is not the expected one;
    /// `invalid_input` for a status that is no end, or a reply that is not this turn's.
    async fn finish_turn(&self, key: &TurnKey, end: TurnEnd) -> Result<Turn>;

    /// The turn, or `None`. While it runs, its trace and lease are those of its last checkpoint.
    async fn turn(&self, key: &TurnKey) -> Result<Option<Turn>>;

    /// The turn that has taken this idempotency key, or `None`.
    async fn turn_by_key(&self, owner: &OwnerId, idempotency_key: &str) -> Result<Option<Turn>>;

    /// All running turns of all owners, each with its last checkpoint. For recovery.
    async fn running_turns(&self) -> Result<Vec<RunningTurn>>;

    /// Owners that have sessions, in the order of their bytes: the first ones greater than `after`.
    /// For those who go through everything: the one reading without an owner.
    ///
    /// # Errors
    /// `invalid_input` for a limit out of range (1 to [`MAX_PAGE`](crate::session::MAX_PAGE)).
    async fn owners(&self, after: Option<OwnerId>, limit: usize) -> Result<Vec<OwnerId>>;

    /// The sessions of one owner in the order of their ids' bytes: the first ones greater than
    /// `after`. Unlike [`sessions`](Self::sessions), a session that is used meanwhile keeps its
    /// place.
    ///
    /// # Errors
    /// As [`owners`](Self::owners).
    async fn session_ids(
        &self,
        owner: &OwnerId,
        after: Option<SessionId>,
        limit: usize,
    ) -> Result<Vec<SessionId>>;

    /// A session with everything in it, as it was at one moment, or `None`. For those who carry it
    /// elsewhere: costs as much as it is long, also in memory.
    async fn whole_session(&self, key: &SessionKey) -> Result<Option<WholeSession>>;

    /// Stores a session from elsewhere with everything in it, exactly as it is: ids, times, order
    /// and all. One write, however long it is.
    ///
    /// # Errors
    /// `invalid_input` if it [contradicts itself](WholeSession::check). `conflict`, and nothing is
    /// written, if the owner has a session of this id that is not to be replaced, or that has a
    /// running turn (its id is in the context as `turn`); or if another session of the owner has a
    /// turn of one of these ids or idempotency keys (the context has the `turn`).
    async fn import_session(&self, whole: WholeSession, existing: Existing) -> Result<()>;

    /// Turns of a session, running and ended, in the order of their ids' bytes: the first ones
    /// greater than `after`.
    ///
    /// # Errors
    /// `not_found` for the session; `invalid_input` for a limit out of range (1 to
    /// [`MAX_PAGE`](crate::session::MAX_PAGE)).
    async fn turns(
        &self,
        session: &SessionKey,
        after: Option<TurnId>,
        limit: usize,
    ) -> Result<Vec<Turn>>;

    /// Checks what only the store itself can see: every raw entry, its checksum, and that whatever
    /// leads somewhere leads to something. [`verify`] calls it. Writes go on meanwhile.
    async fn check(&self) -> Result<StorageCheck>;

    /// Makes everything durable and lets go of files and connections. Later calls fail with
    /// `store_unavailable`. Idempotent.
    async fn close(&self) -> Result<()>;
}

/// A session store behind a pointer.
pub type SharedStore = Arc<dyn SessionStore>;

/// A whole backend: conversations and records in one place. Every type that implements both
/// traits is one.
pub trait Store: SessionStore + RecordStore {}

impl<T: SessionStore + RecordStore + ?Sized> Store for T {}

/// What a store is and promises.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreInfo {
    /// Such as `sled`; for people.
    pub name: String,
    /// Where the data is, without credentials; for people.
    pub location: String,
    /// What an acknowledged write survives.
    pub durability: Durability,
    /// True if no other process can use the same data while this store is open. Then turns that
    /// are running at start-up are recovered at once.
    pub exclusive: bool,
    /// What it has written since it was opened.
    pub written: Written,
}

/// How a store groups its writes: `writes` divided by `groups` share one wait for the disk. Zero
/// where the store does not group them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Groups that were made durable together.
    pub groups: u64,
    /// Writes in them.
    pub writes: u64,
}

/// [`Written`], while it is counted.
#[derive(Debug, Default)]
#[cfg(any(feature = "store-sled", feature = "store-sqlite"))]
pub(crate) struct WriteCount {
    groups: std::sync::atomic::AtomicU64,
    writes: std::sync::atomic::AtomicU64,
}

#[cfg(any(feature = "store-sled", feature = "store-sqlite"))]
impl WriteCount {
    /// One group more, of so many writes.
    pub(crate) fn add(&self, writes: usize) {
        use std::sync::atomic::Ordering::Relaxed;
        self.groups.fetch_add(1, Relaxed);
        self.writes.fetch_add(writes as u64, Relaxed);
    }

    pub(crate) fn read(&self) -> Written {
        use std::sync::atomic::Ordering::Relaxed;
        Written {
            groups: self.groups.load(Relaxed),
            writes: self.writes.load(Relaxed),
        }
    }
}

/// What an acknowledged write survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// Nothing: the data is in memory.
    None,
    /// The end of the process, by `kill -9` too.
    Process,
    /// Power loss as well.
    Power,
}

/// What [`SessionStore::check`] found.
#[derive(Clone, Debug, Default)]
pub struct StorageCheck {
    /// Raw entries, rows or pages looked at.
    pub entries: u64,
    /// Their bytes; 0 if the store does not know.
    pub bytes: u64,
    /// What is wrong.
    pub problems: verify::Problems,
}

/// A turn to begin. See [`SessionStore::begin_turn`].
#[derive(Clone, Debug, PartialEq)]
pub struct NewTurn {
    /// The turn, `Running`.
    pub turn: Turn,
    /// The session to create with it; `None` if it exists. Its head and counts are the store's
    /// business.
    pub new_session: Option<Session>,
    /// The session's head when the turn was prepared.
    pub expected_head: Option<MessageId>,
    /// What to store, in order: imported messages, then the learner's, of which the last is the
    /// one that the turn answers. Empty when another reply
    /// to a stored message is asked for; then that message becomes the head.
    pub messages: Vec<Message>,
    /// The preferences to keep with the session.
    pub preferences: crate::message::Metadata,
    /// A title made from the learner's first message: ignored if the session's is the caller's
    /// own.
    pub made_title: Option<String>,
}

/// What [`SessionStore::begin_turn`] found.
#[derive(Clone, Debug, PartialEq)]
pub enum BegunTurn {
    /// The turn is stored.
    New,
    /// The same request was sent before: this is its turn, running or ended.
    Existing(Box<Turn>),
}

/// How far a running turn is.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// The reply so far, `Partial`; `None` to renew the lease only and keep reply and trace.
    pub partial: Option<Message>,
    /// How the reply's text was streamed so far.
    pub trace: Trace,
    /// The new end of the lease.
    pub lease_until: Timestamp,
}

/// A running turn and its last checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct RunningTurn {
    /// The turn. Its trace and lease are those of the checkpoint.
    pub turn: Turn,
    /// The reply so far, if any was saved.
    pub partial: Option<Message>,
}

/// How a turn ends. See [`SessionStore::finish_turn`].
#[derive(Clone, Debug, PartialEq)]
pub struct TurnEnd {
    /// Anything but `Running`.
    pub status: TurnStatus,
    /// The reply to store; `None` if nothing had arrived.
    pub reply: Option<Message>,
    /// Why it failed.
    pub error: Option<ErrorInfo>,
    /// Why the reply ended.
    pub finish_reason: Option<FinishReason>,
    /// What it consumed.
    pub usage: Option<Usage>,
    /// How the reply was streamed.
    pub trace: Trace,
    /// When it ended.
    pub ended_at: Timestamp,
    /// End it only if its lease is still this one: recovery takes over from an instance that may
    /// be alive.
    pub expected_lease: Option<Timestamp>,
}

impl TurnEnd {
    /// Makes `turn` what it is after this end. Every store uses it.
    pub fn apply_to(&self, turn: &mut Turn) {
        turn.status = self.status;
        turn.ended_at = Some(self.ended_at);
        turn.has_reply = self.reply.is_some();
        turn.error.clone_from(&self.error);
        turn.finish_reason = self.finish_reason;
        turn.usage = self.usage;
        turn.trace.clone_from(&self.trace);
    }
}

/// Small versioned documents, for what is not a conversation.
///
/// # Behavior
/// The same as [`SessionStore`]. Versions of one key grow with every write and are never reused,
/// also not after a deletion.
///
/// # Whose they are
/// The key of a record that is somebody's is their [`OwnerId`], or begins with it and a slash
/// (which no owner's id has): so it is exported and erased with them. The key of one that is
/// nobody's begins with a slash.
#[async_trait]
pub trait RecordStore: fmt::Debug + Send + Sync + 'static {
    /// The record, or `None`.
    async fn get(&self, kind: &str, key: &str) -> Result<Option<Record>>;

    /// All kinds of which there are records, in the order of their bytes.
    async fn kinds(&self) -> Result<Vec<String>>;

    /// Records of one kind in the order of their keys' bytes.
    async fn scan(&self, kind: &str, range: KeyRange, limit: usize) -> Result<Vec<Record>>;

    /// Applies all writes in order, or none. A write of a key that an earlier one wrote finds
    /// what that one left.
    ///
    /// # Errors
    /// `conflict` if a record's version is not the expected one; its context has `kind` and
    /// `index` of the write. `invalid_input` if a kind or key is longer than
    /// [`MAX_RECORD_KEY_BYTES`].
    async fn commit(&self, writes: Vec<RecordWrite>) -> Result<()>;
}

/// The longest kind, and the longest key, of a record in bytes.
pub const MAX_RECORD_KEY_BYTES: usize = 1024;

/// A stored document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The key, unique in its kind.
    pub key: String,
    /// Its bytes.
    pub value: Vec<u8>,
    /// At least 1; grows with every write of this key.
    pub version: u64,
}

/// Which keys to scan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyRange {
    /// Only keys that begin with this.
    pub prefix: String,
    /// Only keys greater than this one.
    pub after: Option<String>,
}

/// All records of a kind whose keys begin with `prefix`, in the order of their keys, read page by
/// page. For prefixes that name one owner's or one session's few records: all are in memory.
///
/// # Errors
/// Errors of the store.
pub async fn scan_all(records: &dyn RecordStore, kind: &str, prefix: &str) -> Result<Vec<Record>> {
    let mut found: Vec<Record> = Vec::new();
    loop {
        let range = KeyRange {
            prefix: prefix.to_owned(),
            after: found.last().map(|record| record.key.clone()),
        };
        let page = records.scan(kind, range, MAX_PAGE).await?;
        let is_last = page.len() < MAX_PAGE;
        found.extend(page);
        if is_last {
            return Ok(found);
        }
    }
}

/// One write of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordWrite {
    /// The kind of record.
    pub kind: String,
    /// The key in that kind.
    pub key: String,
    /// The new bytes; `None` deletes.
    pub value: Option<Vec<u8>>,
    /// What must be there for the commit to happen.
    pub expect: Expect,
}

/// What a write expects to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Anything.
    Any,
    /// Nothing.
    Absent,
    /// This version.
    Version(u64),
}

macro_rules! forward_stores {
    ($pointer:ty) => {
        #[async_trait]
        #[deny(clippy::missing_trait_methods)]
        impl<T: SessionStore + ?Sized> SessionStore for $pointer {
            fn info(&self) -> StoreInfo {
                (**self).info()
            }
            async fn create_session(&self, session: Session) -> Result<()> {
                (**self).create_session(session).await
            }
            async fn session(&self, key: &SessionKey) -> Result<Option<Session>> {
                (**self).session(key).await
            }
            async fn sessions(&self, query: SessionQuery) -> Result<Page<Session>> {
                (**self).sessions(query).await
            }
            async fn update_session(
                &self,
                key: &SessionKey,
                patch: SessionPatch,
            ) -> Result<Session> {
                (**self).update_session(key, patch).await
            }
            async fn delete_session(&self, key: &SessionKey) -> Result<bool> {
                (**self).delete_session(key).await
            }
            async fn messages(&self, query: MessageQuery) -> Result<Page<Message>> {
                (**self).messages(query).await
            }
            async fn delete_message(&self, key: &SessionKey, cut: MessageCut) -> Result<u64> {
                (**self).delete_message(key, cut).await
            }
            async fn begin_turn(&self, turn: NewTurn) -> Result<BegunTurn> {
                (**self).begin_turn(turn).await
            }
            async fn checkpoint_turn(&self, key: &TurnKey, checkpoint: Checkpoint) -> Result<()> {
                (**self).checkpoint_turn(key, checkpoint).await
            }
            async fn finish_turn(&self, key: &TurnKey, end: TurnEnd) -> Result<Turn> {
                (**self).finish_turn(key, end).await
            }
            async fn turn(&self, key: &TurnKey) -> Result<Option<Turn>> {
                (**self).turn(key).await
            }
            async fn turn_by_key(
                &self,
                owner: &OwnerId,
                idempotency_key: &str,
            ) -> Result<Option<Turn>> {
                (**self).turn_by_key(owner, idempotency_key).await
            }
            async fn running_turns(&self) -> Result<Vec<RunningTurn>> {
                (**self).running_turns().await
            }
            async fn owners(&self, after: Option<OwnerId>, limit: usize) -> Result<Vec<OwnerId>> {
                (**self).owners(after, limit).await
            }
            async fn session_ids(
                &self,
                owner: &OwnerId,
                after: Option<SessionId>,
                limit: usize,
            ) -> Result<Vec<SessionId>> {
                (**self).session_ids(owner, after, limit).await
            }
            async fn whole_session(&self, key: &SessionKey) -> Result<Option<WholeSession>> {
                (**self).whole_session(key).await
            }
            async fn import_session(&self, whole: WholeSession, existing: Existing) -> Result<()> {
                (**self).import_session(whole, existing).await
            }
            async fn turns(
                &self,
                session: &SessionKey,
                after: Option<TurnId>,
                limit: usize,
            ) -> Result<Vec<Turn>> {
                (**self).turns(session, after, limit).await
            }
            async fn check(&self) -> Result<StorageCheck> {
                (**self).check().await
            }
            async fn close(&self) -> Result<()> {
                (**self).close().await
            }
        }

        #[async_trait]
        #[deny(clippy::missing_trait_methods)]
        impl<T: RecordStore + ?Sized> RecordStore for $pointer {
            async fn get(&self, kind: &str, key: &str) -> Result<Option<Record>> {
                (**self).get(kind, key).await
            }
            async fn kinds(&self) -> Result<Vec<String>> {
                (**self).kinds().await
            }
            async fn scan(&self, kind: &str, range: KeyRange, limit: usize) -> Result<Vec<Record>> {
                (**self).scan(kind, range, limit).await
            }
            async fn commit(&self, writes: Vec<RecordWrite>) -> Result<()> {
                (**self).commit(writes).await
            }
        }
    };
}
forward_stores!(Arc<T>);
forward_stores!(Box<T>);
