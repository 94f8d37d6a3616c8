//! One turn, from its begin to its end.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::Engine;
use super::background::Afterwork;
use super::draft::Draft;
use super::live::LiveTurn;
use super::output::{self, Form};
use super::prepare::Prepared;
use super::tools::Toolbox;
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Event, Notice};
use crate::limits::Limits;
use crate::message::{FinishReason, Message, MessageStatus, Role};
use crate::provider::{
    CompletionRequest, CompletionStream, Delta, PromptMessage, Provider as _, SharedProvider,
};
use crate::store::{BegunTurn, Checkpoint, TurnEnd};
use crate::tool::ToolCall;
use crate::trace;
use crate::turn::{ChatRequest, Turn, TurnStatus};
use crate::usage::Payers;
use crate::usage::ledger::Spent;

/// How many steps a provider may take before time limits and checkpoints are looked after, however
/// fast it is.
const IN_A_ROW: usize = 64;

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
        mut prepared: Box<Prepared>,
        payers: Payers,
        request: &ChatRequest,
        cancel: CancellationToken,
    ) -> Result<Launched> {
        let turn = prepared.new_turn.turn.clone();
        let (session, stop) = (turn.session_id.clone(), cancel.clone());
        let live = self.hub.open(turn.key(), session, payers, stop)?;
        // A model's name is what a caller wrote; the provider's is the operator's.
        let span = tracing::info_span!("turn", turn = %turn.id, provider = turn.provider);
        prepared.completion.context.cancel = cancel;
        prepared.completion.context.span = span.clone();
        prepared.completion.context.extensions = request.extensions.clone();
        let (begun, launched) = oneshot::channel();
        // Boxed: each step on the way to its task would move kilobytes.
        let run = Box::pin(Arc::clone(self).run(prepared, Arc::clone(&live), begun));
        self.tasks.spawn(run.instrument(span));
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
        prepared: Box<Prepared>,
        live: Arc<LiveTurn>,
        begun: oneshot::Sender<Result<BegunTurn>>,
    ) {
        // Boxed, as is the end: a turn spends its life between them, and should not keep room for
        // both meanwhile.
        let Some(mut running) = Box::pin(self.store_begin(prepared, &live, begun)).await else {
            return;
        };
        tracing::debug!("turn began");
        live.publish(trace::started(&running.exchange.turn), 0);
        let catalog = Arc::clone(&self.catalog);
        let turn = &running.exchange.turn;
        let mut draft = Draft::new(Arc::clone(&live), turn, catalog, running.asked);
        let reply = async {
            for notice in std::mem::take(&mut running.notices) {
                draft.publish(Event::Notice(notice));
            }
            self.drive(
                &mut draft,
                &live,
                running.connected,
                running.deadline,
                &mut running.exchange,
            )
            .await
        };
        let outcome = AssertUnwindSafe(reply)
            .catch_unwind()
            .await
            .unwrap_or_else(|_| Err(panicked()))
            .map_err(|error| {
                if running.names_model {
                    error
                } else {
                    without_choice(error)
                }
            });
        let turn = running.exchange.turn;
        let ended = self.finish(turn, draft, &live, outcome, running.input_tokens);
        if Box::pin(ended).await == TurnStatus::Completed {
            self.do_afterwork(running.afterwork);
        }
    }

    /// Stores that the turn begins, and tells `begun`; `None` if it does not.
    async fn store_begin(
        &self,
        prepared: Box<Prepared>,
        live: &LiveTurn,
        begun: oneshot::Sender<Result<BegunTurn>>,
    ) -> Option<Running> {
        let Prepared {
            new_turn,
            route,
            completion,
            notices,
            deadline,
            tools,
            form,
            afterwork,
            names_model,
            wish,
        } = *prepared;
        let asked = Instant::now();
        // The provider is asked while the begin is written: durability costs no time to first
        // token. Nothing that it says leaves the engine before the begin is durable.
        let exchange = Exchange {
            provider: Arc::clone(&route.provider),
            // Kept only if it may be needed again.
            request: (!tools.is_empty() || form.is_some()).then(|| completion.clone()),
            turn: new_turn.turn.clone(),
            tools,
            form,
        };
        let mut call = ask(route.provider, completion);
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
        is_new.then_some(Running {
            connected: match early {
                Some(result) => std::future::ready(result).boxed(),
                None => call,
            },
            exchange,
            asked,
            notices,
            deadline,
            afterwork,
            names_model,
            input_tokens: wish.input_tokens,
        })
    }

    /// Turns what the provider says into events, calls the tools that it asks for, and asks again,
    /// until it is done or something stops it.
    async fn drive(
        &self,
        draft: &mut Draft,
        live: &LiveTurn,
        connected: BoxFuture<'_, Result<CompletionStream>>,
        deadline: Instant,
        exchange: &mut Exchange,
    ) -> Result<FinishReason> {
        let limits = &self.limits;
        let mut phase = Phase::Connecting(connected);
        let (mut rounds, mut repaired) = (0, false);
        let mut timeout = pin!(tokio::time::sleep_until(deadline));
        let mut cancelled = pin!(live.cancel.cancelled());
        let mut halted = pin!(self.halt.cancelled());
        let mut tick = tokio::time::interval_at(
            Instant::now() + limits.checkpoint_interval,
            limits.checkpoint_interval,
        );
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut renewed = Instant::now();
        let mut saving = None;
        let mut in_a_row = 0;
        loop {
            let next = async {
                match &mut phase {
                    Phase::Connecting(connected) => Step::Connected(connected.await),
                    Phase::Streaming(stream) => Step::Delta(stream.next().await),
                    Phase::Calling(tools) => Step::Answered(tools.await),
                }
            };
            let step = tokio::select! {
                biased;
                // What there is comes first: asking everything else for each delta would cost more
                // than the delta does.
                step = next, if in_a_row < IN_A_ROW => step,
                () = &mut cancelled => return Ok(FinishReason::Cancelled),
                () = &mut halted => return Err(interrupted("the engine was shut down while this reply was written")),
                () = &mut timeout => {
                    return Err(Error::new(ErrorKind::Timeout, "the reply took longer than this turn may take").retryable(None));
                }
                () = async { match &mut saving { Some(saving) => saving.await, None => std::future::pending().await } } => {
                    saving = None;
                    continue;
                }
                _ = tick.tick(), if saving.is_none() => {
                    let due = renewed.elapsed() >= limits.lease / 3;
                    if draft.is_dirty() || due {
                        renewed = Instant::now();
                        saving = Some(self.checkpoint(draft, live).boxed());
                    }
                    continue;
                }
                () = std::future::ready(()), if in_a_row >= IN_A_ROW => {
                    in_a_row = 0;
                    continue;
                }
            };
            if live.cancel.is_cancelled() {
                return Ok(FinishReason::Cancelled);
            }
            in_a_row += 1;
            match step {
                Step::Connected(result) => phase = Phase::Streaming(result?),
                Step::Delta(None) => {
                    return Err(interrupted(
                        "the provider's stream ended without saying that the reply is complete",
                    )
                    .retryable(None));
                }
                Step::Delta(Some(delta)) => {
                    let ended = draft.take(delta?);
                    draft.check(limits)?;
                    if let Some(reason) = ended {
                        phase = if exchange.calls_tools(draft, reason) {
                            rounds += 1;
                            if rounds > limits.max_tool_rounds {
                                return Err(too_many_rounds(limits.max_tool_rounds));
                            }
                            Phase::Calling(exchange.call_tools(draft, limits))
                        } else if let Some(why) = exchange.misfit(draft, reason) {
                            if repaired {
                                return Err(output::invalid());
                            }
                            repaired = true;
                            Phase::Connecting(exchange.ask_to_repair(draft, &why))
                        } else {
                            return Ok(reason);
                        };
                    }
                    // A provider that is always ready must not keep a worker to itself.
                    tokio::task::coop::consume_budget().await;
                }
                Step::Answered(results) => {
                    for result in results {
                        draft.publish(result);
                    }
                    draft.check(limits)?;
                    if !draft.open_calls().is_empty() {
                        // The caller makes them, and comes back with what came of it.
                        return Ok(FinishReason::ToolCalls);
                    }
                    phase = Phase::Connecting(exchange.go_on(draft));
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
        input_tokens: u64,
    ) -> TurnStatus {
        let now = self.runtime.now();
        if let Some(usage) = draft.usage().filter(|usage| !usage.is_empty()) {
            draft.publish(Event::Usage(usage));
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
        let mut end = TurnEnd {
            status,
            reply,
            error: error.as_ref().map(Error::info),
            finish_reason,
            usage: draft.usage(),
            trace: std::mem::take(&mut draft.trace),
            ended_at: now,
            expected_lease: None,
        };
        let spent = Spent {
            status,
            usage: draft.spent(input_tokens),
            first_token: draft.first_token(),
        };
        self.ledger.settle(&turn, &live.payers, spent);
        let stored = async { self.store.finish_turn(&live.key, end.clone()).await };
        let stored = AssertUnwindSafe(stored)
            .catch_unwind()
            .await
            // Whoever follows the turn must be told that it is over.
            .unwrap_or_else(|_| {
                Err(Error::internal(
                    "the store panicked: this is a bug in the store",
                ))
            });
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
                trace::terminal(&turn, end.reply.take())
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
        let turn_status = match &terminal {
            Some(Event::TurnFinished { status, .. }) => *status,
            _ => TurnStatus::Failed,
        };
        if let Some(terminal) = terminal {
            self.hub.end(live, terminal, draft.text_len());
        }
        turn_status
    }
}

/// Asks a provider. Its panic is its error.
fn ask<'a>(
    provider: SharedProvider,
    request: CompletionRequest,
) -> BoxFuture<'a, Result<CompletionStream>> {
    AssertUnwindSafe(async move { provider.stream(request).await })
        .catch_unwind()
        .map(|result| result.unwrap_or_else(|_| Err(panicked())))
        .boxed()
}

/// A turn whose begin is stored.
struct Running {
    /// What the provider answers.
    connected: BoxFuture<'static, Result<CompletionStream>>,
    exchange: Exchange,
    /// When the provider was asked.
    asked: Instant,
    notices: Vec<Notice>,
    deadline: Instant,
    afterwork: Afterwork,
    /// True if the caller chose the model.
    names_model: bool,
    input_tokens: u64,
}

/// What a turn needs to go on behind its first completion.
struct Exchange {
    provider: SharedProvider,
    /// What the first completion was asked for; `None` if there cannot be another one.
    request: Option<CompletionRequest>,
    turn: Turn,
    tools: Toolbox,
    form: Option<Form>,
}

impl Exchange {
    /// True if the completion ended because tools are to be called, and there are some.
    fn calls_tools(&self, draft: &Draft, reason: FinishReason) -> bool {
        // Some servers say `stop` although they ask for tools.
        let asks = matches!(reason, FinishReason::ToolCalls | FinishReason::Stop);
        asks && !self.tools.is_empty() && !draft.open_calls().is_empty()
    }

    fn call_tools(&self, draft: &Draft, limits: &Limits) -> BoxFuture<'static, Vec<Event>> {
        let context = self.request.as_ref().map(|request| &request.context);
        let calls = draft
            .open_calls()
            .into_iter()
            .map(|(id, name, arguments)| ToolCall {
                id,
                context: context.cloned().unwrap_or_default(),
                ..ToolCall::new(
                    name,
                    arguments,
                    self.turn.session_id.clone(),
                    self.turn.id.clone(),
                )
            })
            .collect();
        self.tools.clone().answer(calls, limits.clone()).boxed()
    }

    /// Asks the model to go on with what its tools answered.
    fn go_on<'a>(&mut self, draft: &mut Draft) -> BoxFuture<'a, Result<CompletionStream>> {
        draft.next_completion();
        self.ask_again(draft.prompt())
    }

    /// Why the reply does not have the form that was asked for, if so.
    fn misfit(&self, draft: &Draft, reason: FinishReason) -> Option<String> {
        let form = self.form.as_ref()?;
        match reason {
            // Who declines is not argued with.
            FinishReason::Refusal | FinishReason::ContentFilter => None,
            _ => form.check(&draft.current_text()).err(),
        }
    }

    /// Makes the reply void, tells the model what is wrong with it, and asks again.
    fn ask_to_repair<'a>(
        &mut self,
        draft: &mut Draft,
        why: &str,
    ) -> BoxFuture<'a, Result<CompletionStream>> {
        let mut more = draft.prompt();
        more.push(PromptMessage {
            role: Role::User,
            content: output::repair_prompt(why).into(),
        });
        draft.restart("invalid_output".to_owned());
        draft.next_completion();
        self.ask_again(more)
    }

    fn ask_again<'a>(
        &mut self,
        more: Vec<PromptMessage>,
    ) -> BoxFuture<'a, Result<CompletionStream>> {
        let Some(mut request) = self.request.clone() else {
            return futures_util::future::ready(Err(Error::internal(
                "a request that may be needed again was not kept",
            )))
            .boxed();
        };
        request.messages.extend(more);
        ask(Arc::clone(&self.provider), request)
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

/// What a turn waits for.
enum Phase<'a> {
    Connecting(BoxFuture<'a, Result<CompletionStream>>),
    Streaming(CompletionStream),
    Calling(BoxFuture<'static, Vec<Event>>),
}

enum Step {
    Connected(Result<CompletionStream>),
    Delta(Option<Result<Delta>>),
    Answered(Vec<Event>),
}

fn too_many_rounds(max: usize) -> Error {
    Error::new(
        ErrorKind::TooLarge,
        format!("the model asked for tools more than {max} times in this turn"),
    )
    .with_context("limit", "max_tool_rounds")
}

/// What an unknown model is to somebody who did not choose it: not their mistake.
fn without_choice(error: Error) -> Error {
    let is_unknown_model = error.kind() == ErrorKind::InvalidInput
        && error.context_value("reason") == Some("not_found");
    if !is_unknown_model {
        return error;
    }
    let told = Error::new(
        ErrorKind::ProviderRejected,
        "the provider does not know the model that this tutor asks for: whoever runs it must check the default model",
    );
    error
        .context()
        .fold(told, |told, (key, value)| told.with_context(key, value))
}

fn panicked() -> Error {
    Error::internal("the provider panicked: this is a bug in the provider")
}

fn interrupted(message: &'static str) -> Error {
    Error::new(ErrorKind::Interrupted, message)
}
