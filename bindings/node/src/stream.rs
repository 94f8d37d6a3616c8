//! [`NativeStream`]: the events of a turn, in batches.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex as SyncMutex, OnceLock, PoisonError};

use futures_util::FutureExt;
use napi::bindgen_prelude::{Env, PromiseRaw};
use napi_derive::napi;
use serde_json::Value;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tutor_core::tool::SharedTool;
use tutor_core::{Error, Event, Result, SessionId, TurnEvent, TurnId, TurnStream, json};
use tutor_http::{UiMessageChunks, UiRequest};

use crate::data::{NativeError, Outcome, object, promise};
use crate::tutor::{Slot, opened};

/// Events that cross at a time, at most.
const BATCH: usize = 64;

/// Some events of a turn.
#[napi(object)]
pub struct Batch {
    /// A JSON array of events, or of chunks.
    pub events: String,
    /// True if nothing comes after them.
    pub done: bool,
    /// Why the turn failed, if it did.
    pub failure: Option<NativeError>,
    /// Why there are no events at all.
    pub error: Option<NativeError>,
}

/// A stream of events, which begins when the first batch is asked for.
#[napi]
pub struct NativeStream {
    shared: Arc<Shared>,
}

struct Shared {
    slot: Slot,
    state: Mutex<State>,
    /// Nobody wants more events: pending and later batches are empty.
    closed: CancellationToken,
    /// The turn is to be stopped; its last events are still wanted.
    stop: CancellationToken,
    /// Where chunks of the AI SDK are wanted instead of events.
    chunks: SyncMutex<Option<UiMessageChunks>>,
    /// The turn and its conversation, once they are known.
    names: OnceLock<(TurnId, SessionId)>,
    /// The question asks for JSON.
    has_output: AtomicBool,
    /// The question had been asked before.
    is_replay: AtomicBool,
    /// Letting go of the stream stops the turn.
    owns_turn: AtomicBool,
    /// The turn had ended when the stream was let go of.
    has_ended: AtomicBool,
}

enum State {
    Ask(String, Result<Vec<SharedTool>>),
    Follow(String, f64),
    Open(Box<TurnStream>),
    /// All events have crossed; whether they were read by then, JavaScript knows.
    Read(TurnId),
    Ended,
}

impl NativeStream {
    pub(crate) fn ask(slot: Slot, request: String, tools: Result<Vec<SharedTool>>) -> Self {
        Self::new(slot, State::Ask(request, tools))
    }

    pub(crate) fn follow(slot: Slot, turn: String, after: f64) -> Self {
        Self::new(slot, State::Follow(turn, after))
    }

    fn new(slot: Slot, state: State) -> Self {
        let shared = Arc::new(Shared {
            slot,
            state: Mutex::new(state),
            closed: CancellationToken::new(),
            stop: CancellationToken::new(),
            chunks: SyncMutex::default(),
            names: OnceLock::new(),
            has_output: AtomicBool::new(false),
            is_replay: AtomicBool::new(false),
            owns_turn: AtomicBool::new(false),
            has_ended: AtomicBool::new(false),
        });
        Self { shared }
    }
}

#[napi]
impl NativeStream {
    /// The events that have come already; `None` if one has to wait.
    #[napi]
    pub fn poll(&self) -> Option<Batch> {
        let mut state = self.shared.state.try_lock().ok()?;
        let State::Open(stream) = &mut *state else {
            return None;
        };
        let first = stream.next().now_or_never()?;
        Some(self.shared.batch(&mut state, first))
    }

    /// The turn; `None` before it has begun.
    #[napi(getter)]
    pub fn turn_id(&self) -> Option<String> {
        let names = self.shared.names.get();
        names.map(|(turn, _)| turn.to_string())
    }

    /// Its conversation; `None` before the turn has begun.
    #[napi(getter)]
    pub fn session_id(&self) -> Option<String> {
        let names = self.shared.names.get();
        names.map(|(_, session)| session.to_string())
    }

    /// True if the question had been asked before, under the same idempotency key.
    #[napi(getter)]
    pub fn is_replay(&self) -> bool {
        self.shared.is_replay.load(Ordering::Relaxed)
    }

    /// True if the turn has ended, whether its events were read or not; `None` while they are being
    /// read.
    #[napi(getter)]
    pub fn has_ended(&self) -> Option<bool> {
        let state = self.shared.state.try_lock().ok()?;
        Some(match &*state {
            State::Ask(..) | State::Follow(..) => false,
            State::Open(stream) => stream.has_ended(),
            State::Read(_) => true,
            State::Ended => self.shared.has_ended.load(Ordering::Relaxed),
        })
    }

    /// From now on batches have chunks of the AI SDK's UI message stream instead of events.
    #[napi]
    pub fn encode_chunks(&self) {
        *lock(&self.shared.chunks) = Some(UiMessageChunks::new());
    }

    /// Waits for events, or for the end.
    #[napi]
    pub fn next<'e>(&self, env: &'e Env) -> napi::Result<PromiseRaw<'e, Batch>> {
        let shared = Arc::clone(&self.shared);
        env.spawn_future(async move { Ok(shared.next().await) })
    }

    /// Reads to the end, and puts the reply together.
    #[napi]
    pub fn reply<'e>(&self, env: &'e Env) -> napi::Result<PromiseRaw<'e, Outcome>> {
        let shared = Arc::clone(&self.shared);
        promise(env, async move { shared.reply().await })
    }

    /// Stops the turn, and waits until it has ended. The stream goes on to its last event.
    #[napi]
    pub fn cancel<'e>(&self, env: &'e Env) -> napi::Result<PromiseRaw<'e, Outcome>> {
        let shared = Arc::clone(&self.shared);
        promise(env, async move {
            shared.stop.cancel();
            let mut state = shared.state.lock().await;
            let turn = match &*state {
                State::Open(stream) => stream.turn_id().clone(),
                State::Follow(turn, _) => TurnId::new(turn)?,
                State::Ask(..) | State::Read(_) | State::Ended => {
                    *state = State::Ended;
                    return Ok(Value::Null);
                }
            };
            drop(state);
            opened(&shared.slot)?.cancel(&turn).await?;
            Ok(Value::Null)
        })
    }

    /// Lets go of the stream: of a question, that stops the turn, and this waits until it has
    /// ended. Pending batches come empty.
    #[napi]
    pub fn close<'e>(&self, env: &'e Env) -> napi::Result<PromiseRaw<'e, Outcome>> {
        self.shared.closed.cancel();
        let shared = Arc::clone(&self.shared);
        promise(env, async move {
            // Held to the end: whoever closes it too waits as well.
            let mut state = shared.state.lock().await;
            match std::mem::replace(&mut *state, State::Ended) {
                State::Open(stream) => {
                    let has_ended = stream.has_ended();
                    stream.close().await;
                    let has_ended = has_ended || shared.owns_turn.load(Ordering::Relaxed);
                    shared.has_ended.store(has_ended, Ordering::Relaxed);
                }
                State::Read(_) => shared.has_ended.store(true, Ordering::Relaxed),
                State::Ask(..) | State::Follow(..) | State::Ended => {}
            }
            Ok(Value::Null)
        })
    }
}

impl Shared {
    async fn next(&self) -> Batch {
        let mut state = self.state.lock().await;
        let work = async {
            if let Err(error) = self.open(&mut state).await {
                *state = State::Ended;
                return Batch {
                    error: Some(error.into()),
                    ..empty()
                };
            }
            let State::Open(stream) = &mut *state else {
                return empty();
            };
            let first = tokio::select! {
                biased;
                () = self.stop.cancelled() => {
                    stream.cancel();
                    stream.next().await
                }
                first = stream.next() => first,
            };
            self.batch(&mut state, first)
        };
        tokio::select! {
            biased;
            () = self.closed.cancelled() => empty(),
            batch = work => batch,
        }
    }

    async fn reply(&self) -> Result<Value> {
        let mut state = self.state.lock().await;
        self.open(&mut state).await?;
        if let State::Read(turn) = &*state {
            // Events had come faster than they were read.
            let stream = opened(&self.slot)?.events(turn, 0).await?;
            *state = State::Open(Box::new(
                stream.with_output(self.has_output.load(Ordering::Relaxed)),
            ));
        }
        let State::Open(stream) = &mut *state else {
            return Err(left());
        };
        let reply = tokio::select! {
            biased;
            () = self.closed.cancelled() => return Err(left()),
            reply = stream.read_reply() => reply,
        };
        self.has_ended.store(true, Ordering::Relaxed);
        *state = State::Ended;
        Ok(json::reply(&reply?))
    }

    async fn open(&self, state: &mut State) -> Result<()> {
        let stream = match &*state {
            State::Open(_) | State::Read(_) | State::Ended => return Ok(()),
            State::Ask(request, tools) => {
                let tutor = opened(&self.slot)?;
                let mut members = object(request)?;
                let ui = members.remove("ui");
                let mut request = json::chat_request(members)?;
                request.tools = tools.clone()?;
                if let Some(body) = ui {
                    let asked = UiRequest::read(&body, request.session_id.clone())?;
                    request = asked.request(&tutor, request).await;
                }
                self.owns_turn.store(!request.detached, Ordering::Relaxed);
                self.has_output
                    .store(request.output.is_some(), Ordering::Relaxed);
                tutor.stream(request).await?
            }
            State::Follow(turn, after) => {
                let after = number(*after)?;
                opened(&self.slot)?
                    .events(&TurnId::new(turn)?, after)
                    .await?
            }
        };
        self.is_replay.store(stream.is_replay(), Ordering::Relaxed);
        self.names
            .get_or_init(|| (stream.turn_id().clone(), stream.session_id().clone()));
        *state = State::Open(Box::new(stream));
        Ok(())
    }

    /// `first`, and what else has come.
    fn batch(&self, state: &mut State, first: Option<Arc<TurnEvent>>) -> Batch {
        let mut events = Vec::with_capacity(BATCH);
        let mut failure = None;
        let mut done = first.is_none();
        let mut next = first;
        if let State::Open(stream) = state {
            while let Some(event) = next.take() {
                done = event.event.is_terminal();
                if matches!(event.event, Event::TurnFailed { .. }) {
                    failure = stream.error().map(|error| {
                        error
                            .with_context("turn", stream.turn_id())
                            .with_context("session", stream.session_id())
                            .into()
                    });
                }
                events.push(event);
                if !done && events.len() < BATCH {
                    next = stream.next().now_or_never().flatten();
                }
            }
        }
        if done {
            *state = match state {
                State::Open(stream) => State::Read(stream.turn_id().clone()),
                _ => State::Ended,
            };
        }
        match self.written(&events) {
            Ok(events) => Batch {
                events,
                done,
                failure,
                error: None,
            },
            Err(error) => {
                *state = State::Ended;
                let error =
                    Error::internal("an event cannot be written as JSON").with_source(error);
                Batch {
                    error: Some(error.into()),
                    ..empty()
                }
            }
        }
    }

    /// Events, or what they are in chunks, as a JSON array.
    fn written(&self, events: &[Arc<TurnEvent>]) -> serde_json::Result<String> {
        if let Some(encoder) = &mut *lock(&self.chunks) {
            let chunks: Vec<Value> = events.iter().flat_map(|it| encoder.encode(it)).collect();
            return serde_json::to_string(&chunks);
        }
        let events: Vec<&TurnEvent> = events.iter().map(Arc::as_ref).collect();
        serde_json::to_string(&events)
    }
}

fn lock<T>(mutex: &SyncMutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn left() -> Error {
    Error::invalid_input("this stream was left, or has ended: the reply is read once")
}

fn empty() -> Batch {
    Batch {
        events: "[]".to_owned(),
        done: true,
        failure: None,
        error: None,
    }
}

/// The number of an event.
fn number(after: f64) -> Result<u64> {
    // Beyond this, doubles have gaps; no turn has as many events.
    const MAX: f64 = 9_007_199_254_740_991.0;
    if (0.0..=MAX).contains(&after) && after.fract() == 0.0 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "whole and in range"
        )]
        return Ok(after as u64);
    }
    Err(
        Error::invalid_input("after is the number of an event: whole, and at least 0")
            .with_context("field", "after"),
    )
}
