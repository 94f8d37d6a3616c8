//! An event stream as a response: what is there at once, then what comes, with signs of life, until
//! the turn ends or the server stops.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt, Stream, stream};
use http::{HeaderName, HeaderValue, header};
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tutor_core::{Error, Event, TurnEvent, TurnStream};

use crate::allowance::StreamPlace;
use crate::encode::{Encoder, Flow, heartbeat};
use crate::error::ApiError;
use crate::metrics::Held;
use crate::people::principal::unauthorized;
use crate::state::{AppState, Caller};

/// Bytes of events that are sent in one piece when more are there already.
const MAX_CHUNK_BYTES: usize = 16 << 10;

/// How long a response waits for the first sign of success, so that an early failure can still be
/// a status.
const OPENING: Duration = Duration::from_secs(2);

/// The response that streams `events`. `first` were taken from them already.
pub(crate) fn respond<E: Encoder>(
    state: &AppState,
    encoder: E,
    first: impl IntoIterator<Item = Arc<TurnEvent>>,
    events: TurnStream,
) -> Response {
    let state = Box::new(State {
        encoder,
        first: first.into_iter().collect(),
        events,
        heartbeat: state.bounds.heartbeat,
        alarm: Box::pin(sleep(state.bounds.heartbeat)),
        silent_since: Instant::now(),
        draining: Box::pin(state.draining.clone().cancelled_owned()),
        caller: state.caller.clone(),
        _place: state.place.clone(),
        recheck: state.bounds.recheck,
        recheck_at: Instant::now() + state.bounds.recheck,
        next: Next::Events,
        _held: state.metrics.stream(),
    });
    stream_response::<E>(Body::from_stream(chunks(state)))
}

/// A response with the headers of an encoder's streams.
pub(crate) fn stream_response<E: Encoder>(body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, E::CONTENT_TYPE),
        (header::CACHE_CONTROL, "no-cache, no-transform"),
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    for (name, value) in E::HEADERS {
        headers.insert(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    }
    response
}

/// Waits a moment for the first part of a reply.
///
/// # Errors
/// What ended the turn, if it ended before.
pub(crate) async fn opening(events: &mut TurnStream) -> Result<Vec<Arc<TurnEvent>>, ApiError> {
    let until = Instant::now() + OPENING;
    let mut taken = Vec::new();
    while let Ok(Some(event)) = tokio::time::timeout_at(until, events.next()).await {
        if let Event::TurnFailed { error, .. } = &event.event {
            let error = events.error().unwrap_or_else(|| Error::from(error.clone()));
            return Err(error.into());
        }
        let is_preface = matches!(event.event, Event::TurnStarted { .. } | Event::Notice(_));
        taken.push(event);
        if !is_preface {
            break;
        }
    }
    Ok(taken)
}

struct State<E> {
    encoder: E,
    first: VecDeque<Arc<TurnEvent>>,
    events: TurnStream,
    heartbeat: Duration,
    /// Rings when a heartbeat is due, or before: setting it anew with every event would cost more
    /// than the event does.
    alarm: Pin<Box<Sleep>>,
    silent_since: Instant,
    draining: Pin<Box<WaitForCancellationFutureOwned>>,
    caller: Option<Caller>,
    /// Free again when the stream is over.
    _place: Option<Arc<StreamPlace>>,
    /// How often it is asked whether the caller may still read, and when next.
    recheck: Duration,
    recheck_at: Instant,
    next: Next,
    _held: Held,
}

#[derive(Clone, Copy)]
enum Next {
    Events,
    Nothing,
    Break,
}

impl<E: Encoder> State<E> {
    async fn event(&mut self) -> Option<Arc<TurnEvent>> {
        match self.first.pop_front() {
            Some(first) => Some(first),
            None => self.events.next().await,
        }
    }

    fn follow(&mut self, flow: Flow) {
        self.next = match flow {
            Flow::On => Next::Events,
            Flow::End => Next::Nothing,
            Flow::Abort => Next::Break,
        };
    }

    /// `event`, and what is there behind it already.
    fn gather(&mut self, event: Arc<TurnEvent>) -> Bytes {
        let mut out = BytesMut::new();
        let mut next = Some(event);
        while let Some(event) = next.take() {
            let flow = self.encoder.event(&event, &mut out);
            self.follow(flow);
            if flow.is_over() || out.len() >= MAX_CHUNK_BYTES {
                break;
            }
            // A stream that is over tells so again when it is asked properly.
            next = self.event().now_or_never().flatten();
        }
        out.freeze()
    }

    fn detach(&mut self) -> Bytes {
        let mut out = BytesMut::new();
        let flow = self.encoder.detach(&mut out);
        self.follow(flow);
        out.freeze()
    }

    async fn chunk(&mut self) -> Option<io::Result<Bytes>> {
        loop {
            match self.next {
                Next::Events => {}
                Next::Nothing => return None,
                Next::Break => {
                    self.next = Next::Nothing;
                    return Some(Err(io::Error::other("the reply broke off")));
                }
            }
            let Self {
                first,
                events,
                draining,
                alarm,
                silent_since,
                heartbeat: every,
                ..
            } = self;
            let next = async {
                match first.pop_front() {
                    Some(first) => Some(first),
                    None => events.next().await,
                }
            };
            let what = tokio::select! {
                biased;
                event = next => match event {
                    Some(event) => What::Event(event),
                    // Only a terminal event ends a turn; anything else is a place to resume from.
                    None => What::Detach,
                },
                () = draining.as_mut() => What::Detach,
                () = silence(alarm, *silent_since + *every) => What::Heartbeat,
            };
            self.silent_since = Instant::now();
            let chunk = match what {
                What::Event(event) => self.gather(event),
                What::Detach => self.detach(),
                What::Heartbeat => heartbeat::<E>(),
            };
            if self.caller.is_some() && self.recheck_at <= Instant::now() {
                self.recheck_at = Instant::now() + self.recheck;
                if let Some(caller) = &self.caller
                    && !caller.is_welcome().await
                {
                    // Whoever has no right to the rest has none to this part either.
                    let mut out = BytesMut::new();
                    let flow = self.encoder.turn_away(&unauthorized(), &mut out);
                    self.follow(flow);
                    if !flow.is_over() {
                        self.next = Next::Nothing;
                    }
                    if !out.is_empty() {
                        return Some(Ok(out.freeze()));
                    }
                    continue;
                }
            }
            // An empty chunk would say that the body is over.
            if !chunk.is_empty() {
                return Some(Ok(chunk));
            }
        }
    }
}

/// Waits until `due`.
async fn silence(alarm: &mut Pin<Box<Sleep>>, due: Instant) {
    loop {
        alarm.as_mut().await;
        if alarm.deadline() >= due {
            return;
        }
        alarm.as_mut().reset(due);
    }
}

enum What {
    Event(Arc<TurnEvent>),
    Detach,
    Heartbeat,
}

/// In a box, because it moves with every chunk.
fn chunks<E: Encoder>(state: Box<State<E>>) -> impl Stream<Item = io::Result<Bytes>> + use<E> {
    stream::unfold(state, |mut state| async move {
        let chunk = state.chunk().await?;
        Some((chunk, state))
    })
}
