//! The events of one turn, as a stream.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::stream::{self, BoxStream};
use futures_util::{Stream, StreamExt};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::engine::live::LiveTurn;
use crate::engine::peers::Peers;
use crate::engine::{Engine, output};
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Event, TurnEvent};
use crate::id::{SessionId, TurnId};
use crate::turn::{Reply, Turn, TurnStatus};

/// The events of one turn, numbered without gaps. The last one is terminal; after it the stream
/// yields nothing, however often it is asked.
///
/// A failed turn ends with `turn.failed`; [`error`](Self::error) then has the whole error.
pub struct TurnStream {
    turn: Turn,
    events: BoxStream<'static, Arc<TurnEvent>>,
    live: Option<Arc<LiveTurn>>,
    // Dropped before `elsewhere`, which would stop listening to it.
    cancel_on_drop: Option<DropGuard>,
    elsewhere: Option<Elsewhere>,
    /// True if the request asked for JSON.
    has_output: bool,
    is_replay: bool,
}

/// What a stream has to do with an instance that runs its turn.
struct Elsewhere {
    /// Has that instance stop the turn.
    cancel: CancellationToken,
    /// Ends the task that would tell it so.
    _done: DropGuard,
    has_ended: bool,
}

impl TurnStream {
    pub(crate) fn elsewhere(
        engine: &Arc<Engine>,
        peers: &Arc<Peers>,
        turn: Turn,
        after: u64,
        (cancel, guard): (CancellationToken, Option<DropGuard>),
    ) -> Self {
        let events = engine.follow(peers, &turn, after);
        let done = CancellationToken::new();
        let (asking, wish, over) = (Arc::clone(engine), cancel.clone(), done.clone());
        let key = turn.key();
        engine.tasks.spawn(async move {
            tokio::select! {
                biased;
                () = wish.cancelled() => {
                    if let Err(error) = asking.cancel(&key).await {
                        tracing::warn!(turn = %key.id, code = error.code(), "a turn of another instance could not be stopped");
                    }
                }
                () = over.cancelled() => {}
                () = asking.closing.cancelled() => {}
            }
        });
        Self {
            events,
            live: None,
            cancel_on_drop: guard,
            elsewhere: Some(Elsewhere {
                cancel,
                _done: done.drop_guard(),
                has_ended: false,
            }),
            ..Self::stored(turn, Vec::new(), 0)
        }
    }

    pub(crate) fn live(
        live: Arc<LiveTurn>,
        turn: Turn,
        after: u64,
        guard: Option<DropGuard>,
    ) -> Self {
        let events = Arc::clone(&live).subscribe(after);
        Self {
            turn,
            events,
            live: Some(live),
            cancel_on_drop: guard,
            elsewhere: None,
            has_output: false,
            is_replay: false,
        }
    }

    /// Has the reply read as JSON, as it is if its request asked for JSON: for the events of a turn
    /// that are read again.
    #[must_use]
    pub fn with_output(mut self, has_output: bool) -> Self {
        self.has_output = has_output;
        self
    }

    /// Notes that an earlier request began the turn.
    pub(crate) fn with_replay(mut self, is_replay: bool) -> Self {
        self.is_replay = is_replay;
        self
    }

    pub(crate) fn stored(turn: Turn, events: Vec<TurnEvent>, after: u64) -> Self {
        let after = usize::try_from(after)
            .unwrap_or(usize::MAX)
            .min(events.len().saturating_sub(1));
        let events = stream::iter(events.into_iter().skip(after).map(Arc::new))
            .fuse()
            .boxed();
        Self {
            turn,
            events,
            live: None,
            cancel_on_drop: None,
            elsewhere: None,
            has_output: false,
            is_replay: false,
        }
    }

    /// The turn.
    pub fn turn_id(&self) -> &TurnId {
        &self.turn.id
    }

    /// The conversation, also if it was just created.
    pub fn session_id(&self) -> &SessionId {
        &self.turn.session_id
    }

    /// True if the request had been sent before, under the same idempotency key: its turn was
    /// found, and nothing was begun.
    pub fn is_replay(&self) -> bool {
        self.is_replay
    }

    /// True if the turn has ended, whether its events were read or not; of a turn of another instance
    /// only when they were.
    pub fn has_ended(&self) -> bool {
        match (&self.live, &self.elsewhere) {
            (Some(live), _) => live.has_ended(),
            (None, Some(elsewhere)) => elsewhere.has_ended,
            (None, None) => true,
        }
    }

    /// The next event; `None` after the terminal one.
    pub async fn next(&mut self) -> Option<Arc<TurnEvent>> {
        let event = self.events.next().await?;
        self.seen(&event);
        Some(event)
    }

    /// Stops the turn. The stream goes on to its terminal event. Idempotent.
    pub fn cancel(&self) {
        if let Some(live) = &self.live {
            live.cancel.cancel();
        }
        if let Some(elsewhere) = &self.elsewhere {
            elsewhere.cancel.cancel();
        }
    }

    /// Why the turn failed; `None` while it has not.
    pub fn error(&self) -> Option<Error> {
        match &self.live {
            Some(live) => live.failure(),
            None => self.turn.error.clone().map(Error::from),
        }
    }

    /// Lets go like dropping the stream, and waits for what that does: if it cancels the turn,
    /// then until the turn has ended and its session is free.
    pub async fn close(mut self) {
        drop(self.cancel_on_drop.take());
        if let Some(live) = &self.live
            && live.cancel.is_cancelled()
        {
            live.ended().await;
        }
        if let Some(elsewhere) = &self.elsewhere
            && elsewhere.cancel.is_cancelled()
        {
            while self.events.next().await.is_some() {}
        }
    }

    /// Reads to the end and puts the reply together.
    ///
    /// # Errors
    /// What ended the turn.
    pub async fn reply(mut self) -> Result<Reply> {
        self.read_reply().await
    }

    /// [`reply`](Self::reply) for a caller that may stop waiting, and then
    /// [`close`](Self::close)s the stream.
    ///
    /// # Errors
    /// What ended the turn.
    pub async fn read_reply(&mut self) -> Result<Reply> {
        let mut warnings = Vec::new();
        while let Some(event) = self.next().await {
            match &event.event {
                Event::Notice(notice) => warnings.push(notice.clone()),
                Event::TurnFailed { error, .. } => {
                    return Err(self
                        .error()
                        .unwrap_or_else(|| Error::from(error.clone()))
                        .with_context("turn", self.turn_id())
                        .with_context("session", self.session_id()));
                }
                Event::TurnFinished {
                    message,
                    finish_reason,
                    status,
                } => {
                    return Ok(Reply {
                        message: Box::as_ref(message).clone(),
                        session_id: self.turn.session_id.clone(),
                        turn_id: self.turn.id.clone(),
                        status: *status,
                        finish_reason: *finish_reason,
                        usage: message.usage,
                        warnings,
                        output: (self.has_output && *status == TurnStatus::Completed)
                            .then(|| output::value(&message.content))
                            .flatten(),
                    });
                }
                _ => {}
            }
        }
        if self.elsewhere.is_some() {
            return Err(Error::new(
                ErrorKind::StoreUnavailable,
                "the reply, which another instance writes, could not be followed any further: read it again",
            )
            .retryable(None)
            .with_context("turn", self.turn_id())
            .with_context("session", self.session_id()));
        }
        Err(Error::internal(
            "a turn's events ended without a terminal one",
        ))
    }

    fn seen(&mut self, event: &TurnEvent) {
        if !event.event.is_terminal() {
            return;
        }
        if let Some(guard) = self.cancel_on_drop.take() {
            guard.disarm();
        }
        if let Some(elsewhere) = &mut self.elsewhere {
            elsewhere.has_ended = true;
            if let Event::TurnFailed { error, .. } = &event.event {
                self.turn.error = Some(error.clone());
            }
        }
    }
}

impl Stream for TurnStream {
    type Item = Arc<TurnEvent>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = self.events.poll_next_unpin(cx);
        if let Poll::Ready(Some(event)) = &polled {
            self.seen(event);
        }
        polled
    }
}

impl fmt::Debug for TurnStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TurnStream")
            .field("turn", &self.turn.id)
            .finish_non_exhaustive()
    }
}
