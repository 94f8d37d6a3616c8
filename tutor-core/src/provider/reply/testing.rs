//! What the tests of the protocols share.

use serde_json::Value;

use super::{Progress, Protocol, Reply};
use crate::provider::Delta;
use crate::provider::fault::Fault;
use crate::provider::http::Media;

/// These values as the events of a stream.
pub(crate) fn body(events: &[Value]) -> String {
    events
        .iter()
        .map(|event| format!("data: {event}\n\n"))
        .collect()
}

/// What a protocol makes of a body: its deltas without the signs of life, and how it failed, with
/// whether that may be tried again.
pub(crate) fn run(protocol: impl Protocol, body: &str) -> (Vec<Delta>, Option<(Fault, bool)>) {
    let (mut reply, mut out) = (Reply::new(protocol, Media::EventStream), Vec::new());
    let end = match reply.push(body.as_bytes(), &mut out) {
        Ok(Progress::Ended) => Ok(()),
        Ok(_) => reply.finish(&mut out),
        Err(failure) => Err(failure),
    };
    out.retain(|delta| *delta != Delta::Heartbeat);
    let retryable = |failure: crate::provider::fault::Failure| {
        (failure.fault(), failure.into_error("p").is_retryable())
    };
    (out, end.err().map(retryable))
}
