//! [`Tutor`]: the engine as its users see it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

pub use crate::engine::branch::MAX_SIBLINGS;
pub use crate::engine::context::Context;
use crate::engine::{Asked, Engine};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{MessageId, OwnerId, SessionId, TurnId};
use crate::limits::Limits;
use crate::message::{Message, Metadata};
use crate::provider::router::Router;
use crate::provider::{Catalog, ModelInfo, ProviderInfo, SharedProvider};
use crate::session::{
    Branch, Cursor, MAX_PAGE, MAX_TITLE_CHARS, MessageQuery, MessageRange, Page, Session,
    SessionKey, SessionPatch, SessionQuery,
};
use crate::store::StoreInfo;
use crate::trace::Trace;
use crate::turn::{ChatRequest, Reply, Turn, TurnKey};
use crate::usage::Payers;

mod builder;
mod feedback;
mod instances;
mod search;
mod stream;
mod transfer;
mod usage;

pub use builder::TutorBuilder;
pub use feedback::{Feedback, MAX_COMMENT_CHARS, Rating};
pub use search::{MAX_QUERY_CHARS, MAX_WORDS};
pub use stream::TurnStream;

/// A tutor: conversations with learners, durable and streamed.
///
/// Cheap to clone; clones share everything. A handle is scoped to one owner and cannot name
/// another one's data; [`for_owner`](Self::for_owner) makes a handle for somebody else.
///
/// Must be used inside a tokio runtime.
#[derive(Clone, Debug)]
pub struct Tutor {
    engine: Arc<Engine>,
    owner: OwnerId,
    payers: Payers,
}

impl Tutor {
    /// Begins to configure a tutor.
    pub fn builder() -> TutorBuilder {
        TutorBuilder::default()
    }

    /// A tutor that keeps its data in this directory and answers by the demo provider.
    ///
    /// # Errors
    /// `store_locked` if another process uses the directory, `store_unavailable` or
    /// `data_corrupt` if it cannot be used, naming it.
    #[cfg(feature = "store-sled")]
    pub async fn open(path: impl AsRef<std::path::Path>) -> Result<Self> {
        let store = crate::store::SledStore::open(path).await?;
        Self::builder().data(store).build().await
    }

    /// The same tutor for another owner.
    #[must_use]
    pub fn for_owner(&self, owner: OwnerId) -> Self {
        Self {
            owner,
            ..self.clone()
        }
    }

    /// Whose data this handle reads and writes.
    pub fn owner(&self) -> &OwnerId {
        &self.owner
    }

    /// Asks, and waits for the whole reply.
    ///
    /// # Cancellation
    /// Dropping the future cancels the turn, unless the request is
    /// [`detached`](ChatRequest::detached).
    ///
    /// # Errors
    /// Those of [`stream`](Self::stream), and what ended the turn. Whatever had arrived by then is
    /// stored.
    pub async fn chat(&self, request: impl Into<ChatRequest>) -> Result<Reply> {
        self.stream(request).await?.reply().await
    }

    /// Asks, and returns the events as they come. When this returns, the learner's words are
    /// stored.
    ///
    /// A request with an idempotency key that was sent before gives the events of the turn that
    /// it began, from the first.
    ///
    /// # Cancellation
    /// Dropping the future or the stream cancels the turn, unless the request is
    /// [`detached`](ChatRequest::detached); what had arrived is kept.
    ///
    /// # Errors
    /// Before anything is stored: `invalid_input`, `too_large`; `not_found` for the session or a
    /// message; `rate_limited` if the owner has as many turns running as one may have, or has used
    /// their [quota](TutorBuilder::quota); `conflict`
    /// if the session has a running turn (its id is in the context as
    /// `turn`) or the idempotency key names another request; `overloaded`; errors of the store.
    /// Later failures are the stream's last event.
    pub async fn stream(&self, request: impl Into<ChatRequest>) -> Result<TurnStream> {
        let request = request.into();
        let has_output = request.output.is_some();
        let cancel = CancellationToken::new();
        let guard = (!request.detached).then(|| cancel.clone().drop_guard());
        let begin = self.engine.begin(
            self.owner.clone(),
            Arc::clone(&self.payers),
            request,
            cancel.clone(),
        );
        // A future of kilobytes would be moved into each that waits for it.
        let (asked, is_new) = Box::pin(begin).await?;
        let stream = match asked {
            Asked::Live(live, turn) => TurnStream::live(live, turn, 0, guard),
            Asked::Elsewhere(peers, turn) => {
                TurnStream::elsewhere(&self.engine, &peers, turn, 0, (cancel, guard))
            }
            Asked::Ended(turn) => self.replay(turn, 0).await?,
        };
        Ok(stream.with_output(has_output).with_replay(!is_new))
    }

    /// The events of a turn after number `after` (0 for all): first those that have happened,
    /// then those that come. Any number of subscribers may listen; dropping the stream leaves the
    /// turn alone. A number beyond the last event gives that one alone.
    ///
    /// A turn of another instance on the same store is followed through the
    /// [bus](TutorBuilder::bus).
    ///
    /// # Errors
    /// `not_found`; `conflict` for a turn of another instance, without a bus; errors of the store.
    pub async fn events(&self, turn: &TurnId, after: u64) -> Result<TurnStream> {
        let turn = self.turn(turn).await?;
        match self.engine.find(turn).await? {
            Asked::Live(live, turn) => Ok(TurnStream::live(live, turn, after, None)),
            Asked::Elsewhere(peers, turn) => {
                let cancel = (CancellationToken::new(), None);
                Ok(TurnStream::elsewhere(
                    &self.engine,
                    &peers,
                    turn,
                    after,
                    cancel,
                ))
            }
            Asked::Ended(turn) => self.replay(turn, after).await,
        }
    }

    async fn replay(&self, turn: Turn, after: u64) -> Result<TurnStream> {
        let reply = self.engine.reply(&turn).await?;
        let events = Trace::replay(&turn, reply.as_ref());
        Ok(TurnStream::stored(turn, events, after))
    }

    /// Stops a turn and returns it as it ended. What had arrived is kept. A turn that has ended
    /// already is returned as it is.
    ///
    /// # Errors
    /// `not_found`; `conflict` if it runs on another instance that cannot be asked, or does not
    /// answer; errors of the store.
    pub async fn cancel(&self, turn: &TurnId) -> Result<Turn> {
        self.engine.cancel(&self.turn_key(turn)).await
    }

    /// A turn.
    ///
    /// # Errors
    /// `not_found`; errors of the store.
    pub async fn turn(&self, turn: &TurnId) -> Result<Turn> {
        self.engine.turn(&self.turn_key(turn)).await
    }

    /// A page of sessions, the latest used first. `limit` is 1 to [`MAX_PAGE`]; `cursor` goes on
    /// behind an earlier page.
    ///
    /// # Errors
    /// `invalid_input` for a limit or cursor that is none; errors of the store.
    pub async fn sessions(&self, limit: usize, cursor: Option<Cursor>) -> Result<Page<Session>> {
        check_limit(limit)?;
        self.engine
            .store
            .sessions(SessionQuery {
                owner: self.owner.clone(),
                limit,
                cursor,
            })
            .await
    }

    /// A session.
    ///
    /// # Errors
    /// `not_found`; errors of the store.
    pub async fn session(&self, id: &SessionId) -> Result<Session> {
        let session = self.engine.store.session(&self.session_key(id)).await?;
        session.ok_or_else(|| Error::not_found("session", id))
    }

    /// Creates an empty session.
    ///
    /// # Errors
    /// `conflict` if the id is taken; `invalid_input`, `too_large`; errors of the store.
    pub async fn create_session(&self, new: NewSession) -> Result<Session> {
        let NewSession {
            id,
            title,
            metadata,
        } = new;
        let own_title = title.is_some();
        let title = title.unwrap_or_else(|| "New conversation".to_owned());
        self.check_session(Some(&title), Some(&metadata))?;
        let engine = &self.engine;
        let now = engine.runtime.now();
        let id = match id {
            Some(id) => id,
            None => SessionId::new(engine.runtime.new_id())?,
        };
        let session = Session {
            id,
            owner: self.owner.clone(),
            title,
            created_at: now,
            updated_at: now,
            message_count: 0,
            head: None,
            running_turn: None,
            preferences: Metadata::new(),
            metadata,
            own_title,
            summary: None,
        };
        engine.store.create_session(session.clone()).await?;
        Ok(session)
    }

    /// Changes a session's title or metadata and returns it; what is `None` stays as it is.
    ///
    /// # Errors
    /// `not_found`, `invalid_input`, `too_large`; errors of the store.
    pub async fn update_session(
        &self,
        id: &SessionId,
        title: Option<String>,
        metadata: Option<Metadata>,
    ) -> Result<Session> {
        self.check_session(title.as_deref(), metadata.as_ref())?;
        let patch = SessionPatch {
            title,
            metadata,
            updated_at: self.engine.runtime.now(),
            ..SessionPatch::default()
        };
        self.engine
            .store
            .update_session(&self.session_key(id), patch)
            .await
    }

    fn check_session(&self, title: Option<&str>, metadata: Option<&Metadata>) -> Result<()> {
        if let Some(title) = title
            && (title.trim().is_empty() || title.chars().count() > MAX_TITLE_CHARS)
        {
            return Err(Error::invalid_input(format!(
                "a title has 1 to {MAX_TITLE_CHARS} characters"
            ))
            .with_context("field", "title"));
        }
        metadata.map_or(Ok(()), |metadata| self.engine.check_metadata(metadata))
    }

    /// Deletes a session with everything in it, cancelling its running turn. False if there was
    /// none.
    ///
    /// # Errors
    /// Errors of the store.
    pub async fn delete_session(&self, id: &SessionId) -> Result<bool> {
        let key = self.session_key(id);
        match self.running_turn(&key).await {
            // A damaged session can be deleted: that is what its error advises.
            Err(error) if error.kind() == ErrorKind::DataCorrupt => {}
            Err(error) => return Err(error),
            Ok(Some(running)) => match self.engine.cancel(&self.turn_key(&running)).await {
                // An instance that cannot be asked to stop finds nothing to go on with.
                Err(error)
                    if matches!(error.kind(), ErrorKind::DataCorrupt | ErrorKind::Conflict) => {}
                cancelled => drop(cancelled?),
            },
            Ok(None) => {}
        }
        self.forget_feedback(id).await?;
        let deleted = self.engine.store.delete_session(&key).await?;
        if let Some(peers) = &self.engine.peers {
            peers.forget(&self.owner, Some(id)).await;
        }
        Ok(deleted)
    }

    async fn running_turn(&self, session: &SessionKey) -> Result<Option<TurnId>> {
        let session = self.engine.store.session(session).await?;
        Ok(session.and_then(|session| session.running_turn))
    }

    /// A page of a session's messages, oldest first.
    ///
    /// # Errors
    /// `not_found` for the session; `invalid_input` for a limit, or a message that is not in the
    /// session; errors of the store.
    pub async fn messages(&self, session: &SessionId, range: Messages) -> Result<Page<Message>> {
        check_limit(range.limit)?;
        let query = MessageQuery {
            session: self.session_key(session),
            branch: range.branch,
            range: range.range,
            limit: range.limit,
        };
        self.engine.store.messages(query).await
    }

    /// The messages that follow what this one follows, itself among them, in the order in which
    /// they were stored: replies that were written again, or a learner's message as it was edited.
    /// At most [`MAX_SIBLINGS`].
    ///
    /// # Errors
    /// `not_found` for the session or the message; errors of the store.
    pub async fn siblings(&self, session: &SessionId, id: &MessageId) -> Result<Vec<Message>> {
        self.engine.siblings(&self.session_key(session), id).await
    }

    /// Switches the active branch to the one that ends with this message, and returns the session.
    /// The next message follows it. A reply that is being written stays on its own branch.
    ///
    /// # Errors
    /// `not_found` for the session or the message; errors of the store.
    pub async fn set_head(&self, session: &SessionId, head: &MessageId) -> Result<Session> {
        self.engine.set_head(&self.session_key(session), head).await
    }

    /// Deletes a message for good, with the turn that wrote or answered it and that turn's
    /// idempotency key; with `with_branch` also all that follows it, on every branch. If the head
    /// is among them, what the message followed becomes the head. Returns how many messages were
    /// deleted.
    ///
    /// # Errors
    /// `not_found` for the session or the message; `conflict` if other messages follow this one
    /// and `with_branch` is false, or while a turn runs in the session; errors of the store.
    pub async fn delete_message(
        &self,
        session: &SessionId,
        id: &MessageId,
        with_branch: bool,
    ) -> Result<u64> {
        let key = self.session_key(session);
        let deleted = self.engine.delete_message(&key, id, with_branch).await?;
        self.forget_orphaned_feedback(session).await?;
        Ok(deleted)
    }

    /// What a model would be sent of a conversation as it is now, before the next message: within
    /// `tokens`, or within what the limits and the window of the session's model allow.
    ///
    /// # Errors
    /// `not_found`; `invalid_input` if the session's preferences name a provider or model that is
    /// not configured any more; errors of the store.
    pub async fn context(&self, session: &SessionId, tokens: Option<usize>) -> Result<Context> {
        let key = self.session_key(session);
        self.engine.context_of(&key, tokens).await
    }

    /// The turn that this idempotency key names.
    ///
    /// # Errors
    /// Errors of the store.
    pub async fn turn_by_key(&self, idempotency_key: &str) -> Result<Option<Turn>> {
        let store = &self.engine.store;
        store.turn_by_key(&self.owner, idempotency_key).await
    }

    /// The turn that this idempotency key names, if it was begun by a request of this
    /// [`fingerprint`](ChatRequest::fingerprint).
    ///
    /// # Errors
    /// `conflict` if the key names a turn of another request; errors of the store.
    pub async fn turn_of_request(&self, key: &str, fingerprint: u64) -> Result<Option<Turn>> {
        self.engine.taken(&self.owner, key, fingerprint).await
    }

    /// The configured providers, the default first.
    pub fn providers(&self) -> Vec<ProviderInfo> {
        let router = self.engine.router();
        router.providers().map(|provider| provider.info()).collect()
    }

    /// Has these providers answer from now on, the first or the named one by default, for this
    /// tutor and all its clones. Turns that run are not disturbed.
    ///
    /// # Errors
    /// `config` for providers that contradict each other, or if there are none. Then nothing is
    /// changed.
    pub fn replace_providers(
        &self,
        providers: Vec<SharedProvider>,
        default: Option<&str>,
    ) -> Result<()> {
        if providers.is_empty() {
            return Err(Error::new(ErrorKind::Config, "a tutor needs a provider"));
        }
        self.engine.replace_router(Router::new(providers, default)?);
        Ok(())
    }

    /// The models of one provider.
    ///
    /// # Errors
    /// `not_found` for the provider; what the provider answers.
    pub async fn models(&self, provider: &str) -> Result<Vec<ModelInfo>> {
        let router = self.engine.router();
        let found = router.providers().find(|p| p.info().name == provider);
        match found.cloned() {
            Some(provider) => {
                let models = provider.models().await?.into_iter();
                Ok(models.map(|it| self.engine.catalog.described(it)).collect())
            }
            None => Err(Error::not_found("provider", provider)),
        }
    }

    /// The bounds under which it works.
    pub fn limits(&self) -> &Limits {
        &self.engine.limits
    }

    /// What is known of models.
    pub fn catalog(&self) -> &Catalog {
        &self.engine.catalog
    }

    /// Where the data is, and what acknowledged writes survive.
    pub fn store_info(&self) -> StoreInfo {
        self.engine.store.info()
    }

    /// Closes the tutor and all its clones: takes no new turn, waits
    /// [`close_grace`](crate::Limits::close_grace) for those that run, ends the others as
    /// interrupted, and closes the store. Idempotent.
    ///
    /// # Errors
    /// Errors of the store.
    pub async fn close(&self) -> Result<()> {
        self.engine.close(self.engine.limits.close_grace).await
    }

    /// [`close`](Self::close) with another grace.
    ///
    /// # Errors
    /// Errors of the store.
    pub async fn close_within(&self, grace: Duration) -> Result<()> {
        self.engine.close(grace).await
    }

    fn session_key(&self, id: &SessionId) -> SessionKey {
        SessionKey::new(self.owner.clone(), id.clone())
    }

    fn turn_key(&self, id: &TurnId) -> TurnKey {
        TurnKey::new(self.owner.clone(), id.clone())
    }
}

fn check_limit(limit: usize) -> Result<()> {
    if (1..=MAX_PAGE).contains(&limit) {
        return Ok(());
    }
    Err(
        Error::invalid_input(format!("a page has 1 to {MAX_PAGE} items"))
            .with_context("field", "limit"),
    )
}

/// A session to create.
#[derive(Clone, Default, PartialEq)]
pub struct NewSession {
    /// Its id; `None` for a new one.
    pub id: Option<SessionId>,
    /// Its title, 1 to [`MAX_TITLE_CHARS`] characters.
    pub title: Option<String>,
    /// The caller's own data.
    pub metadata: Metadata,
}

impl fmt::Debug for NewSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewSession")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// Which messages of a session to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Messages {
    /// At most this many, 1 to [`MAX_PAGE`].
    pub limit: usize,
    /// Along which branch.
    pub branch: Branch,
    /// From where, in which direction.
    pub range: MessageRange,
}

impl Messages {
    /// The newest `limit` messages of the active branch.
    pub fn latest(limit: usize) -> Self {
        Self {
            limit,
            branch: Branch::Active,
            range: MessageRange::Latest,
        }
    }

    /// The newest `limit` messages of the active branch older than this one.
    pub fn before(message: MessageId, limit: usize) -> Self {
        Self {
            limit,
            branch: Branch::Active,
            range: MessageRange::Before(message),
        }
    }

    /// The oldest `limit` messages of the active branch newer than this one.
    pub fn after(message: MessageId, limit: usize) -> Self {
        Self {
            limit,
            branch: Branch::Active,
            range: MessageRange::After(message),
        }
    }
}

impl Default for Messages {
    /// The newest [`MAX_PAGE`] messages of the active branch.
    fn default() -> Self {
        Self::latest(MAX_PAGE)
    }
}
