//! An event stream as a response: what is there at once, then what comes, with signs of life, until
//! the turn ends or the server stops.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt, Stream, stream};
use http::{HeaderValue, header};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tutor_core::{TurnEvent, TurnStream};

use crate::encode::native;
use crate::state::AppState;

/// Bytes of events that are sent in one piece when more are there already.
const MAX_CHUNK_BYTES: usize = 16 << 10;

/// The response that streams `events`. `first` was taken from them already.
pub(crate) fn respond(
    state: &AppState,
    first: Option<Arc<TurnEvent>>,
    events: TurnStream,
) -> Response {
    let chunks = chunks(first, events, state.bounds.heartbeat, &state.draining);
    let mut response = Response::new(Body::from_stream(chunks));
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, "text/event-stream; charset=utf-8"),
        (header::CACHE_CONTROL, "no-cache, no-transform"),
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

struct State {
    first: Option<Arc<TurnEvent>>,
    events: TurnStream,
    heartbeat: Duration,
    draining: std::pin::Pin<Box<WaitForCancellationFutureOwned>>,
    ended: bool,
}

impl State {
    async fn next(&mut self) -> Option<Arc<TurnEvent>> {
        match self.first.take() {
            Some(first) => Some(first),
            None => self.events.next().await,
        }
    }
}

fn chunks(
    first: Option<Arc<TurnEvent>>,
    events: TurnStream,
    heartbeat: Duration,
    draining: &CancellationToken,
) -> impl Stream<Item = Result<Bytes, std::convert::Infallible>> + use<> {
    let state = State {
        first,
        events,
        heartbeat,
        draining: Box::pin(draining.clone().cancelled_owned()),
        ended: false,
    };
    stream::unfold(state, |mut state| async move {
        if state.ended {
            return None;
        }
        let heartbeat = state.heartbeat;
        let mut draining = state.draining.as_mut();
        let next = async {
            match state.first.take() {
                Some(first) => Some(first),
                None => state.events.next().await,
            }
        };
        let chunk = tokio::select! {
            biased;
            event = next => match event {
                Some(event) => gather(event, &mut state),
                // Only a terminal event ends a turn; anything else is a place to resume from.
                None => {
                    state.ended = true;
                    native::RESUME
                }
            },
            () = &mut draining => {
                state.ended = true;
                native::RESUME
            }
            () = tokio::time::sleep(heartbeat) => native::HEARTBEAT,
        };
        Some((Ok(chunk), state))
    })
}

/// `event`, and what is there behind it already.
fn gather(event: Arc<TurnEvent>, state: &mut State) -> Bytes {
    let mut out = BytesMut::new();
    let mut next = Some(event);
    while let Some(event) = next.take() {
        native::encode(&event, &mut out);
        state.ended = event.event.is_terminal();
        if state.ended || out.len() >= MAX_CHUNK_BYTES {
            break;
        }
        // A stream that is over tells so again when it is asked properly.
        next = state.next().now_or_never().flatten();
    }
    out.freeze()
}
