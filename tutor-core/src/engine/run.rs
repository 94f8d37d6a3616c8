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
use super::draft::Draft;
use super::hub::LiveTurn;
use super::prepare::Prepared;
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::message::{FinishReason, Message, MessageStatus};
use crate::provider::{CompletionStream, Delta, Provider};
use crate::store::{BegunTurn, Checkpoint, TurnEnd};
use crate::trace;
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
        let provider = route.provider;
        // Owned, so that it can be dropped before the end of the turn is written.
        let mut call = AssertUnwindSafe(async move { provider.stream(completion).await })
            .catch_unwind()
            .map(|result| result.unwrap_or_else(|_| Err(panicked())))
            .boxed();
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
            let connected = async move {
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
                        // A provider that is always ready must not keep a worker to itself.
                        tokio::task::coop::consume_budget().await;
                    }
                },
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
        draft.saved();
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
                    // Not the whole error: a plug-in may have put anything into it.
                    Some(error) => tracing::warn!(
                        code = error.code(),
                        reason = error.context_value("reason"),
                        request_id = error.context_value("request_id"),
                        "turn failed"
                    ),
                }
                if let Some(error) = error {
                    live.fail(error);
                }
                trace::terminal(&turn, reply.as_ref())
            }
            Err(failure) => {
                // What cannot be stored is not called finished: the client sees a failure, and
                // the turn is ended in the store as soon as somebody needs it.
                tracing::error!(
                    code = failure.code(),
                    "the end of a turn could not be stored"
                );
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
