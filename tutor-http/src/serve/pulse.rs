//! A connection of HTTP/2 is closed when its client leaves an answer unread, or asks for nothing:
//! hyper bounds neither. A client that opens no window keeps its socket writable, so that it does
//! not show there.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use hyper::body::Body as _;
use tokio::time::Instant;

use crate::watched::watched;

/// What goes on on one connection. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Pulse(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// Requests that are being answered, by their numbers: since when a piece of the answer waits
    /// to be sent, if it does.
    answers: HashMap<u64, Option<Instant>>,
    next: u64,
    /// When the last answer ended.
    idle_since: Instant,
}

impl Pulse {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(State {
            answers: HashMap::new(),
            next: 0,
            idle_since: Instant::now(),
        })))
    }

    fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        // No panic is possible while it is held.
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A request begins to be answered.
    pub(super) fn begin(&self) -> Answer {
        let number = self.with(|state| {
            let number = state.next;
            state.next += 1;
            state.answers.insert(number, None);
            number
        });
        Answer {
            pulse: self.clone(),
            number,
        }
    }

    /// Over when the client has left an answer unread for `stall`, or asked nothing for `idle`.
    pub(super) async fn stopped(&self, stall: Duration, idle: Duration) {
        loop {
            let now = Instant::now();
            // Nothing that begins now is over before.
            let soonest = now + stall.min(idle);
            let until = self.with(|state| {
                if state.answers.is_empty() {
                    return state.idle_since + idle;
                }
                let waiting = state.answers.values().flatten().min();
                waiting.map_or(soonest, |since| *since + stall)
            });
            if until <= now {
                return;
            }
            tokio::time::sleep_until(until.min(soonest)).await;
        }
    }
}

/// A request that is being answered, until this is dropped.
#[derive(Debug)]
pub(super) struct Answer {
    pulse: Pulse,
    number: u64,
}

impl Answer {
    /// The body of its answer, watched until it is sent.
    pub(super) fn watch(self, body: Body) -> Body {
        if body.is_end_stream() {
            return body;
        }
        // From now on it is the client's turn.
        self.mark(Some(Instant::now()));
        // It is asked for its next piece when there is room for it.
        watched(body, move |asked, _| {
            // A piece is the client's to take; none yet is ours to make.
            self.mark(asked.is_ready().then(Instant::now));
        })
    }

    fn mark(&self, waits_since: Option<Instant>) {
        let number = self.number;
        self.pulse
            .with(|state| state.answers.insert(number, waits_since));
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        let number = self.number;
        self.pulse.with(|state| {
            state.answers.remove(&number);
            state.idle_since = Instant::now();
        });
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::BodyExt;

    use super::*;

    const STALL: Duration = Duration::from_secs(30);
    const IDLE: Duration = Duration::from_secs(10);

    /// How long it took until the connection was over.
    async fn until_stopped(pulse: &Pulse) -> Duration {
        let began = Instant::now();
        pulse.stopped(STALL, IDLE).await;
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_asks_nothing_is_over() {
        let pulse = Pulse::new();
        assert_eq!(until_stopped(&pulse).await, IDLE);
        let answer = pulse.begin();
        let waiting = pulse.clone();
        let waiting = tokio::spawn(async move { until_stopped(&waiting).await });
        // Making an answer may take long.
        tokio::time::sleep(100 * IDLE).await;
        assert!(!waiting.is_finished());
        drop(answer.watch(Body::empty()));
        assert_eq!(waiting.await.unwrap(), 101 * IDLE);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_not_read_ends_the_connection_and_one_that_is_slow_to_make_does_not()
    {
        let pulse = Pulse::new();
        let unread = pulse.begin().watch(Body::from("x"));
        assert_eq!(until_stopped(&pulse).await, STALL);
        drop(unread);

        let pieces = futures_util::stream::unfold(2, |left| async move {
            tokio::time::sleep(100 * STALL).await;
            (left > 0).then(|| (Ok::<_, axum::Error>(Bytes::from("x")), left - 1))
        });
        let mut body = pulse.begin().watch(Body::from_stream(pieces));
        let waiting = pulse.clone();
        let waiting = tokio::spawn(async move { waiting.stopped(STALL, IDLE).await });
        while body.frame().await.is_some() {}
        assert!(!waiting.is_finished());
    }
}
