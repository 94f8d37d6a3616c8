//! One turn, from its begin to its end.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;

use futures_util::{FutureExt, StreamExt};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::Engine;
use super::hub::LiveTurn;
use super::prepare::Prepared;
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Event, Notice};
use crate::message::{
    Audience, Author, Content, FinishReason, Message, MessageStatus, Metadata, Part, Role, Usage,
};
use crate::provider::{CompletionStream, Delta, Provider};
use crate::store::{BegunTurn, Checkpoint, TurnEnd};
use crate::trace::{self, Trace};
use crate::turn::{ChatRequest, Turn, TurnStatus};

/// What came of the attempt to begin a turn.
pub(super) enum Launched {
    /// It runs.
    New(Arc<LiveTurn>, Turn),
    /// Somebody else took the idempotency key first.
    Existing(Turn),
}

impl Engine {
    /// Begins a prepared turn on a task of its own, so that nobody who goes away can leave it
    /// half done.
    pub(super) async fn launch(
        self: &Arc<Self>,
        mut prepared: Prepared,
        request: &ChatRequest,
        cancel: CancellationToken,
    ) -> Result<Launched> {
        let turn = prepared.new_turn.turn.clone();
        let live = self.hub.open(turn.key(), cancel.clone())?;
        // A model's name is what a caller wrote; the provider's is the operator's.
        let span = tracing::info_span!("turn", turn = %turn.id, provider = turn.provider);
        prepared.completion.context.cancel = cancel;
        prepared.completion.context.span = span.clone();
        prepared.completion.context.extensions = request.extensions.clone();
        let (begun, launched) = oneshot::channel();
        let (engine, runner) = (Arc::clone(self), Arc::clone(&live));
        self.tasks
            .spawn(async move { engine.run(prepared, runner, begun).await }.instrument(span));
        match launched.await {
            Ok(Ok(BegunTurn::New)) => Ok(Launched::New(live, turn)),
            Ok(Ok(BegunTurn::Existing(turn))) => Ok(Launched::Existing(*turn)),
            Ok(Err(error)) => Err(error),
            Err(_) => {
                self.hub.abandon(&live.key);
                Err(Error::internal("a turn's task ended before the turn began"))
            }
        }
    }

    async fn run(
        self: Arc<Self>,
        prepared: Prepared,
        live: Arc<LiveTurn>,
        begun: oneshot::Sender<Result<BegunTurn>>,
    ) {
        let Prepared {
            new_turn,
            route,
            completion,
            notices,
            deadline,
        } = prepared;
        let turn = new_turn.turn.clone();
        // The provider is asked while the begin is written: durability costs no time to first
        // token. Nothing that it says leaves the engine before the begin is durable.
        let mut call = pin!(
            AssertUnwindSafe(async { route.provider.stream(completion).await })
                .catch_unwind()
                .map(|result| result.unwrap_or_else(|_| Err(panicked())))
        );
        let mut write = pin!(self.store.begin_turn(new_turn));
        let mut early = None;
        let outcome = loop {
            tokio::select! {
                biased;
                outcome = &mut write => break outcome,
                result = &mut call, if early.is_none() => early = Some(result),
            }
        };
        let is_new = matches!(outcome, Ok(BegunTurn::New));
        if !is_new {
            self.hub.abandon(&live.key);
        }
        // Whoever asked may be gone; the turn is stored and goes on unless it is cancelled.
        let _ = begun.send(outcome);
        if !is_new {
            return;
        }
        tracing::debug!("turn began");
        live.publish(trace::started(&turn), 0);
        let mut draft = Draft::new(&turn);
        let reply = async {
            for notice in notices {
                draft.publish(&live, Event::Notice(notice));
            }
            let connected = async {
                match early {
                    Some(result) => result,
                    None => call.await,
                }
            };
            self.drive(&mut draft, &live, connected, deadline).await
        };
        let outcome = AssertUnwindSafe(reply)
            .catch_unwind()
            .await
            .unwrap_or_else(|_| Err(panicked()));
        self.finish(turn, draft, &live, outcome).await;
    }

    /// Turns what the provider says into events, until it is done or something stops it.
    async fn drive(
        &self,
        draft: &mut Draft,
        live: &LiveTurn,
        connected: impl Future<Output = Result<CompletionStream>>,
        deadline: Instant,
    ) -> Result<FinishReason> {
        let limits = &self.limits;
        let mut connected = pin!(connected.fuse());
        let mut stream: Option<CompletionStream> = None;
        let mut timeout = pin!(tokio::time::sleep_until(deadline));
        let mut tick = tokio::time::interval_at(
            Instant::now() + limits.checkpoint_interval,
            limits.checkpoint_interval,
        );
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut renewed = Instant::now();
        let mut saving = None;
        loop {
            let next = async {
                match &mut stream {
                    Some(stream) => Step::Delta(stream.next().await),
                    None => Step::Connected((&mut connected).await),
                }
            };
            tokio::select! {
                biased;
                () = live.cancel.cancelled() => return Ok(FinishReason::Cancelled),
                () = self.halt.cancelled() => return Err(interrupted("the engine was shut down while this reply was written")),
                () = &mut timeout => {
                    return Err(Error::new(ErrorKind::Timeout, "the reply took longer than this turn may take").retryable(None));
                }
                step = next => match step {
                    Step::Connected(result) => stream = Some(result?),
                    Step::Delta(None) => {
                        return Err(interrupted("the provider's stream ended without saying that the reply is complete").retryable(None));
                    }
                    Step::Delta(Some(delta)) => {
                        if let Some(reason) = draft.take(live, delta?) {
                            return Ok(reason);
                        }
                        draft.check(limits)?;
                    }
                },
                () = async { match &mut saving { Some(saving) => saving.await, None => std::future::pending().await } } => {
                    saving = None;
                }
                _ = tick.tick(), if saving.is_none() => {
                    let due = renewed.elapsed() >= limits.lease / 3;
                    if draft.is_dirty() || due {
                        renewed = Instant::now();
                        saving = Some(self.checkpoint(draft, live).boxed());
                    }
                }
            }
        }
    }

    /// Saves how far the turn is. A failure costs only what a crash would lose.
    fn checkpoint(&self, draft: &mut Draft, live: &LiveTurn) -> impl Future<Output = ()> + use<> {
        let checkpoint = Checkpoint {
            partial: draft.message(MessageStatus::Partial, None, self.runtime.now()),
            trace: draft.trace.clone(),
            lease_until: self.runtime.now().saturating_add(self.limits.lease),
        };
        draft.dirty = false;
        let (store, key) = (Arc::clone(&self.store), live.key.clone());
        async move {
            if let Err(error) = store.checkpoint_turn(&key, checkpoint).await {
                tracing::warn!(code = error.code(), "the partial reply could not be saved");
            }
        }
    }

    /// Stores how the turn ended, then says so.
    async fn finish(
        &self,
        mut turn: Turn,
        mut draft: Draft,
        live: &LiveTurn,
        outcome: Result<FinishReason>,
    ) {
        let now = self.runtime.now();
        if let Some(usage) = draft.usage.filter(|usage| !usage.is_empty()) {
            draft.publish(live, Event::Usage(usage));
        }
        let (status, error, finish_reason) = match outcome {
            Ok(FinishReason::Cancelled) => {
                (TurnStatus::Cancelled, None, Some(FinishReason::Cancelled))
            }
            Ok(reason) => (TurnStatus::Completed, None, Some(reason)),
            Err(error) if self.halt.is_cancelled() => (TurnStatus::Interrupted, Some(error), None),
            Err(error) => (TurnStatus::Failed, Some(error), None),
        };
        let reply = match status {
            TurnStatus::Completed => Some(draft.whole(MessageStatus::Complete, finish_reason, now)),
            TurnStatus::Cancelled => Some(draft.whole(MessageStatus::Partial, finish_reason, now)),
            _ => draft.message(MessageStatus::Partial, None, now),
        };
        let end = TurnEnd {
            status,
            reply: reply.clone(),
            error: error.as_ref().map(Error::info),
            finish_reason,
            usage: draft.usage,
            trace: std::mem::take(&mut draft.trace),
            ended_at: now,
            expected_lease: None,
        };
        let stored = self.store.finish_turn(&live.key, end.clone()).await;
        let terminal = match stored {
            Ok(turn) => {
                match &error {
                    None => tracing::debug!(status = turn.status.as_str(), "turn ended"),
                    Some(error) => {
                        tracing::warn!(code = error.code(), error = %error, "turn failed")
                    }
                }
                if let Some(error) = error {
                    live.fail(error);
                }
                trace::terminal(&turn, reply.as_ref())
            }
            Err(failure) => {
                // What cannot be stored is not called finished: the client sees a failure, and
                // the turn is ended in the store as soon as somebody needs it.
                tracing::error!(code = failure.code(), error = %failure, "the end of a turn could not be stored");
                let end = unstorable(end, &failure);
                end.apply_to(&mut turn);
                live.keep_end(end);
                live.fail(failure);
                trace::terminal(&turn, None)
            }
        };
        if let Some(terminal) = terminal {
            self.hub.end(live, terminal, draft.text.len());
        }
    }
}

/// The end of a turn whose real end could not be stored.
fn unstorable(end: TurnEnd, failure: &Error) -> TurnEnd {
    let partial = |reply: Message| Message {
        status: MessageStatus::Partial,
        finish_reason: None,
        ..reply
    };
    TurnEnd {
        status: TurnStatus::Failed,
        reply: end
            .reply
            .filter(|reply| !reply.content.is_empty())
            .map(partial),
        error: Some(failure.info()),
        finish_reason: None,
        ..end
    }
}

enum Step {
    Connected(Result<CompletionStream>),
    Delta(Option<Result<Delta>>),
}

fn panicked() -> Error {
    Error::internal("the provider panicked: this is a bug in the provider")
}

fn interrupted(message: &'static str) -> Error {
    Error::new(ErrorKind::Interrupted, message)
}

/// The reply as far as it is.
struct Draft {
    turn: Turn,
    text: String,
    calls: Vec<Part>,
    trace: Trace,
    usage: Option<Usage>,
    attempt: u32,
    events: usize,
    /// Bytes of everything that arrived, also of what a restart made void.
    bytes: usize,
    dirty: bool,
}

impl Draft {
    fn new(turn: &Turn) -> Self {
        Self {
            turn: turn.clone(),
            text: String::new(),
            calls: Vec::new(),
            trace: Trace::default(),
            usage: None,
            attempt: 1,
            events: 0,
            bytes: 0,
            dirty: false,
        }
    }

    fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// Takes a step of the provider; the reason if it was the last one.
    fn take(&mut self, live: &LiveTurn, delta: Delta) -> Option<FinishReason> {
        match delta {
            Delta::Text(text) | Delta::Refusal(text) => {
                if !text.is_empty() {
                    self.publish(live, Event::TextDelta { text });
                }
            }
            Delta::Reasoning(text) => {
                if !text.is_empty() {
                    self.publish(live, Event::ReasoningDelta { text });
                }
            }
            Delta::ToolCall {
                id,
                name,
                arguments,
            } => {
                let arguments = match serde_json::from_str(&arguments) {
                    Ok(value @ serde_json::Value::Object(_)) => value,
                    Ok(_) | Err(_) => serde_json::Value::String(arguments),
                };
                self.publish(
                    live,
                    Event::ToolCall {
                        call_id: id,
                        name,
                        arguments,
                    },
                );
            }
            Delta::Restart { reason } => {
                self.attempt += 1;
                let attempt = self.attempt;
                self.publish(live, Event::AttemptRestarted { attempt, reason });
            }
            Delta::Notice(Notice { code, message }) => {
                self.publish(live, Event::Notice(Notice { code, message }));
            }
            Delta::Usage(usage) => self.usage = Some(usage),
            Delta::Heartbeat => {}
            Delta::Finished { reason } => return Some(reason),
        }
        None
    }

    /// Publishes an event and keeps what it says.
    fn publish(&mut self, live: &LiveTurn, event: Event) {
        self.trace.record(&event, &self.text);
        let bytes = match &event {
            Event::TextDelta { text } => {
                self.text.push_str(text);
                text.len()
            }
            Event::ReasoningDelta { text } => text.len(),
            Event::ToolCall {
                call_id,
                name,
                arguments,
            } => {
                self.calls.push(Part::ToolCall {
                    call_id: call_id.clone(),
                    name: name.clone(),
                    arguments: arguments.clone(),
                });
                name.len() + arguments.to_string().len()
            }
            Event::AttemptRestarted { .. } => {
                self.text.clear();
                self.calls.clear();
                0
            }
            _ => 0,
        };
        self.events += 1;
        self.bytes += bytes;
        self.dirty = true;
        live.publish(event, bytes);
    }

    fn check(&self, limits: &crate::limits::Limits) -> Result<()> {
        if self.bytes > limits.max_reply_bytes {
            return Err(too_large("bytes", limits.max_reply_bytes));
        }
        if self.events > limits.max_events {
            return Err(too_large("events", limits.max_events));
        }
        Ok(())
    }

    /// The reply as a message; `None` if nothing has arrived.
    fn message(
        &self,
        status: MessageStatus,
        finish_reason: Option<FinishReason>,
        timestamp: crate::time::Timestamp,
    ) -> Option<Message> {
        let is_empty = self.text.is_empty() && self.calls.is_empty();
        (!is_empty).then(|| self.whole(status, finish_reason, timestamp))
    }

    fn whole(
        &self,
        status: MessageStatus,
        finish_reason: Option<FinishReason>,
        timestamp: crate::time::Timestamp,
    ) -> Message {
        let text = (!self.text.is_empty()).then(|| Part::Text {
            text: self.text.clone(),
        });
        let content = if self.calls.is_empty() {
            Content::Text(self.text.clone())
        } else {
            Content::Parts(text.into_iter().chain(self.calls.iter().cloned()).collect())
        };
        Message {
            id: self.turn.reply_message_id.clone(),
            session_id: self.turn.session_id.clone(),
            parent_id: Some(self.turn.user_message_id.clone()),
            turn_id: Some(self.turn.id.clone()),
            role: Role::Assistant,
            content,
            status,
            author: Author::Tutor,
            visible_to: Audience::everyone(),
            timestamp,
            provider: Some(self.turn.provider.clone()),
            model: Some(self.turn.model.clone()),
            usage: self.usage,
            finish_reason,
            metadata: Metadata::new(),
        }
    }
}

fn too_large(what: &str, max: usize) -> Error {
    Error::new(
        ErrorKind::TooLarge,
        format!("the reply has more than {max} {what}"),
    )
}
