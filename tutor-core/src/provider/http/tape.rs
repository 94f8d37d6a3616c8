//! The seam of recordings: a request's context may carry a tape, onto which its exchanges are
//! written as they happen, or from which they are played instead of being sent.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use reqwest::{Body, RequestBuilder, Response};
use tokio::time::Instant;

use super::transport;
use crate::provider::fault::{Failure, Fault};
use crate::provider::health::millis;
use crate::provider::key::ApiKey;
use crate::provider::recording::{End, Exchange, Piece};

/// How much of the bodies is recorded, in bytes. More is left out.
const MAX_RECORDED_BYTES: usize = 16 << 20;

/// The headers of an answer that matter for what becomes of it.
const HEADERS: &[&str] = &[
    "content-type",
    "retry-after",
    "retry-after-ms",
    "x-should-retry",
    "date",
    "x-request-id",
    "request-id",
    "mistral-correlation-id",
    "x-generation-id",
    "apim-request-id",
];

/// What a request's context carries to be recorded or played.
pub(crate) enum Tape {
    Recording {
        start: Instant,
        tracks: Mutex<Tracks>,
    },
    Playing {
        exchanges: Vec<Exchange>,
        next: AtomicUsize,
        paced: bool,
    },
}

/// What was recorded so far.
#[derive(Default)]
pub(crate) struct Tracks {
    pub(crate) exchanges: Vec<Exchange>,
    /// The keys that were used, to be covered.
    pub(crate) keys: Vec<String>,
    bytes: usize,
}

impl Tape {
    pub(crate) fn recording() -> Self {
        Self::Recording {
            start: Instant::now(),
            tracks: Mutex::default(),
        }
    }

    pub(crate) fn playing(exchanges: Vec<Exchange>, paced: bool) -> Self {
        Self::Playing {
            exchanges,
            next: AtomicUsize::new(0),
            paced,
        }
    }

    /// Takes what was recorded.
    pub(crate) fn take(&self) -> Tracks {
        match self {
            Self::Recording { tracks, .. } => std::mem::take(&mut *lock(tracks)),
            Self::Playing { .. } => Tracks::default(),
        }
    }

    /// Sends the request and records what comes back, or plays that.
    pub(crate) async fn exchange(
        self: &Arc<Self>,
        request: RequestBuilder,
        path: &str,
        key: Option<&ApiKey>,
    ) -> Result<Response, Failure> {
        let (start, tracks) = match &**self {
            Self::Recording { start, tracks } => (*start, tracks),
            Self::Playing { .. } => return self.play().await,
        };
        let number = {
            let mut tracks = lock(tracks);
            tracks.keys.extend(key.map(|key| key.expose().to_owned()));
            tracks.exchanges.push(Exchange {
                path: path.to_owned(),
                sent_ms: millis(start.elapsed()),
                answered_ms: None,
                status: None,
                headers: Vec::new(),
                frames: Vec::new(),
                end: End::Dropped,
            });
            tracks.exchanges.len() - 1
        };
        let sent = request.send().await;
        let mut response = match sent {
            Ok(response) => response,
            Err(error) => {
                self.with(number, |exchange, _| exchange.end = End::Broken);
                return Err(transport(error));
            }
        };
        self.with(number, |exchange, _| {
            exchange.answered_ms = Some(millis(start.elapsed()));
            exchange.status = Some(response.status().as_u16());
            let headers = response.headers();
            let kept = HEADERS.iter().filter_map(|name| {
                let value = headers.get(*name)?.to_str().ok()?;
                Some(((*name).to_owned(), value.to_owned()))
            });
            exchange.headers = kept.collect();
        });
        let mut head = http::Response::new(());
        *head.status_mut() = response.status();
        *head.headers_mut() = std::mem::take(response.headers_mut());
        let tape = Arc::clone(self);
        let body = response
            .bytes_stream()
            .map(Some)
            .chain(stream::iter([None]));
        // The end is noted where it is seen, and is not an item.
        let body = body.filter_map(move |item| {
            match &item {
                Some(Ok(bytes)) => tape.keep(number, millis(start.elapsed()), bytes),
                Some(Err(_)) => tape.with(number, |exchange, _| exchange.end = End::Broken),
                None => tape.with(number, |exchange, _| {
                    if exchange.end == End::Dropped {
                        exchange.end = End::Complete;
                    }
                }),
            }
            std::future::ready(item)
        });
        Ok(Response::from(head.map(|()| Body::wrap_stream(body))))
    }

    fn keep(&self, number: usize, at_ms: u64, bytes: &Bytes) {
        self.with(number, |exchange, room| {
            if bytes.len() > *room || exchange.end == End::Cut {
                exchange.end = End::Cut;
                return;
            }
            *room -= bytes.len();
            exchange.frames.push(Piece::new(at_ms, bytes));
        });
    }

    /// Changes an exchange; the number is how many more bytes may be recorded.
    fn with(&self, number: usize, change: impl FnOnce(&mut Exchange, &mut usize)) {
        let Self::Recording { tracks, .. } = self else {
            return;
        };
        let mut tracks = lock(tracks);
        let mut room = MAX_RECORDED_BYTES - tracks.bytes;
        // It may have been taken already: the end of a connection is not waited for.
        if let Some(exchange) = tracks.exchanges.get_mut(number) {
            change(exchange, &mut room);
            tracks.bytes = MAX_RECORDED_BYTES - room;
        }
    }

    async fn play(&self) -> Result<Response, Failure> {
        let Self::Playing {
            exchanges,
            next,
            paced,
        } = self
        else {
            return Err(Failure::hopeless(Fault::Connection));
        };
        let Some(exchange) = exchanges.get(next.fetch_add(1, Ordering::Relaxed)).cloned() else {
            return Err(Failure::hopeless(Fault::Connection).with_fact("recording", "is over"));
        };
        let pause = |from: u64, to: u64| {
            let pause = Duration::from_millis(to.saturating_sub(from));
            async move {
                if *paced {
                    tokio::time::sleep(pause).await;
                }
            }
        };
        let (Some(status), Some(answered)) = (exchange.status, exchange.answered_ms) else {
            return match exchange.end {
                End::Broken => Err(Failure::new(Fault::Connection)),
                // Nobody waited for the answer then; whoever does not wait now is right again.
                _ => std::future::pending().await,
            };
        };
        pause(exchange.sent_ms, answered).await;
        let mut head = http::Response::builder().status(status);
        for (name, value) in &exchange.headers {
            head = head.header(name, value);
        }
        let (end, paced) = (exchange.end, *paced);
        let frames = exchange.frames.into_iter().scan(answered, |before, piece| {
            let pause = piece.at_ms.saturating_sub(*before);
            *before = piece.at_ms;
            Some((Duration::from_millis(pause), piece.bytes()))
        });
        let frames =
            stream::iter(frames.collect::<Vec<_>>()).then(move |(pause, bytes)| async move {
                if paced {
                    tokio::time::sleep(pause).await;
                }
                Ok::<_, std::io::Error>(Bytes::from(bytes))
            });
        let last = stream::once(async move {
            match end {
                End::Complete | End::Cut => None,
                End::Broken => Some(Err(std::io::ErrorKind::ConnectionReset.into())),
                End::Dropped => std::future::pending().await,
            }
        });
        let body = frames.chain(last.filter_map(std::future::ready));
        head.body(Body::wrap_stream(body))
            .map(Response::from)
            .map_err(|_| Failure::hopeless(Fault::Malformed))
    }
}

fn lock(tracks: &Mutex<Tracks>) -> MutexGuard<'_, Tracks> {
    tracks.lock().unwrap_or_else(PoisonError::into_inner)
}
