//! The body of an answer, turned into deltas.
//!
//! [`Reply`] does it without any input or output, so that every cut of every body can be tested;
//! [`completion`] feeds it from a socket.

use std::collections::VecDeque;
use std::mem;
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, Stream, StreamExt};
use memchr::memmem::Finder;
use serde::Deserialize;
use serde::de::IgnoredAny;
use tokio::time::{Sleep, sleep, timeout};

use super::fault::{Failure, Fault};
use super::http::{Answer, Body, HttpClient, MAX_DOCUMENT_BYTES, Media};
use super::json::escape_controls;
use super::rejection::Rejection;
use super::sse::{Decoder, Frame, LimitExceeded};
use super::values::{Splitter, Unsplittable};
use super::{CompletionStream, Delta};
use crate::error::Result;
use crate::event::Notice;

#[cfg(test)]
pub(crate) mod testing;

/// A mark that a text in UTF-8 may begin with.
pub(crate) const BOM: &[u8] = b"\xEF\xBB\xBF";
/// How long the rest is waited for when the reply is complete but not its protocol.
const TAIL_GRACE: Duration = Duration::from_secs(2);
/// The same while the usage has not come yet.
const USAGE_GRACE: Duration = Duration::from_secs(10);
/// How much is read, and for how long, to hand a connection back in a clean state.
const DRAIN_BYTES: usize = 64 << 10;
const DRAIN_TIME: Duration = Duration::from_secs(1);

/// What a wire protocol makes of the frames of a stream.
pub(crate) trait Protocol: Send + 'static {
    /// True if a body that begins like JSON is a sequence of events, and not one whole reply.
    const VALUES: bool = false;

    /// The data of one event; appends to `out` what it means.
    fn event(&mut self, json: &str, out: &mut Vec<Delta>) -> Result<Progress, Failure>;

    /// A whole reply, which servers that ignore `stream` give.
    fn document(&mut self, json: &str, out: &mut Vec<Delta>) -> Result<(), Failure>;

    /// The stream is over; appends what was kept back and `Finished`, or says why not.
    fn finish(&mut self, out: &mut Vec<Delta>) -> Result<(), Failure>;
}

/// How far a reply is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    not(any(feature = "provider-openai", feature = "provider-gemini")),
    expect(
        dead_code,
        reason = "only some protocols can be complete before their end"
    )
)]
pub(crate) enum Progress {
    /// More is to come.
    Running,
    /// The reply is complete; its usage may follow.
    Replied,
    /// Reply and usage are complete; only the protocol's end is missing.
    Counted,
    /// Nothing more will come.
    Ended,
}

/// A reply that is being received.
#[derive(Debug)]
pub(crate) struct Reply<P> {
    protocol: P,
    media: Media,
    reading: Reading,
    progress: Progress,
}

#[derive(Debug)]
enum Reading {
    /// Nothing but white space has come: it may become anything.
    Nothing(Start),
    Events(Decoder),
    Values(Splitter),
    Document(Vec<u8>),
}

/// The beginning of a body.
#[derive(Debug, Default)]
struct Start {
    bytes: Vec<u8>,
    /// How many of the bytes are white space, or the byte order mark before it.
    blank: usize,
}

impl Start {
    /// Takes the next bytes. The first one that means something, if it has come.
    fn push(&mut self, bytes: &[u8]) -> Option<u8> {
        self.bytes.extend_from_slice(bytes);
        let is_marked = |bytes: &[u8]| bytes.starts_with(BOM);
        if self.blank == 0 && is_marked(&self.bytes) {
            self.blank = BOM.len();
        }
        let rest = self.bytes[self.blank..].iter();
        let blank = rest.take_while(|byte| byte.is_ascii_whitespace()).count();
        self.blank += blank;
        let first = self.bytes.get(self.blank).copied();
        let may_be_mark = self.blank == 0 && BOM.starts_with(&self.bytes);
        first.filter(|_| !may_be_mark)
    }
}

impl<P: Protocol> Reply<P> {
    pub(crate) fn new(protocol: P, media: Media) -> Self {
        Self {
            protocol,
            media,
            reading: Reading::Nothing(Start::default()),
            progress: Progress::Running,
        }
    }

    /// Takes the next bytes, cut anywhere. After an error or [`Progress::Ended`] nothing more is to
    /// be pushed.
    pub(crate) fn push(&mut self, bytes: &[u8], out: &mut Vec<Delta>) -> Result<Progress, Failure> {
        match &mut self.reading {
            Reading::Nothing(start) => {
                // Only the body tells: content types are often wrong or missing.
                let next = match start.push(bytes) {
                    None if start.bytes.len() > MAX_DOCUMENT_BYTES => {
                        return Err(limit("document_bytes"));
                    }
                    None => return Ok(self.progress),
                    Some(b'<') => return Err(Failure::hopeless(Fault::Malformed).with_status(200)),
                    Some(b'{' | b'[') if P::VALUES => Reading::Values(Splitter::default()),
                    Some(b'{' | b'[') => Reading::Document(Vec::new()),
                    Some(_) => Reading::Events(Decoder::default()),
                };
                let start = mem::take(&mut start.bytes);
                self.reading = next;
                self.push(&start, out)
            }
            Reading::Events(decoder) => {
                let (protocol, progress) = (&mut self.protocol, &mut self.progress);
                let mut take = |frame: Frame<'_>| take_frame(protocol, progress, frame, out);
                match decoder.push(bytes, &mut take) {
                    // What comes after the end does not matter.
                    Err(_) if self.progress == Progress::Ended => Ok(Progress::Ended),
                    pushed => pushed.map(|()| self.progress),
                }
            }
            Reading::Values(splitter) => {
                let mut objects = Vec::new();
                let split = splitter.push(bytes, &mut objects);
                self.objects(objects, out)?;
                if self.progress != Progress::Ended {
                    split.map_err(|reason| match reason {
                        Unsplittable::Limit(limit) => Failure::from(limit),
                        Unsplittable::Stray => Failure::hopeless(Fault::Malformed),
                    })?;
                }
                Ok(self.progress)
            }
            Reading::Document(document) => {
                document.extend_from_slice(bytes);
                if document.len() > MAX_DOCUMENT_BYTES {
                    Err(limit("document_bytes"))
                } else {
                    Ok(self.progress)
                }
            }
        }
    }

    /// The body is over.
    pub(crate) fn finish(&mut self, out: &mut Vec<Delta>) -> Result<(), Failure> {
        match mem::replace(&mut self.reading, Reading::Nothing(Start::default())) {
            Reading::Nothing(_) if self.media == Media::EventStream => {
                Err(Failure::new(Fault::TruncatedStream))
            }
            Reading::Nothing(_) => Err(Failure::new(Fault::EmptyResponse)),
            Reading::Events(mut decoder) => {
                let (protocol, progress) = (&mut self.protocol, &mut self.progress);
                decoder
                    .finish(&mut |frame: Frame<'_>| take_frame(protocol, progress, frame, out))?;
                if self.progress == Progress::Ended {
                    Ok(())
                } else {
                    self.protocol.finish(out)
                }
            }
            Reading::Values(splitter) if splitter.is_amid() => {
                Err(Failure::new(Fault::TruncatedStream))
            }
            Reading::Values(_) => self.protocol.finish(out),
            Reading::Document(document) => {
                let text = String::from_utf8_lossy(&document);
                let text = text.trim_start_matches('\u{feff}');
                if let Some(rejection) = Rejection::within(text) {
                    return Err(rejection.into_failure(Some(200)));
                }
                self.protocol.document(text, out)?;
                self.protocol.finish(out)
            }
        }
    }

    /// The connection broke. A reply that was complete is not harmed by that.
    pub(crate) fn broken(&mut self, failure: Failure, out: &mut Vec<Delta>) -> Result<(), Failure> {
        if self.progress == Progress::Running {
            Err(failure)
        } else {
            self.protocol.finish(out)
        }
    }

    fn objects(&mut self, objects: Vec<String>, out: &mut Vec<Delta>) -> Result<(), Failure> {
        for object in objects {
            let before = out.len();
            if let Some(rejection) = rejection("", &object) {
                return Err(rejection.into_failure(None));
            }
            self.progress = self.protocol.event(&object, out)?;
            if self.progress == Progress::Ended {
                break;
            }
            if out.len() == before {
                live(out);
            }
        }
        Ok(())
    }
}

/// Hands a frame to the protocol, unless one before was the end.
fn take_frame<P: Protocol>(
    protocol: &mut P,
    progress: &mut Progress,
    frame: Frame<'_>,
    out: &mut Vec<Delta>,
) -> Result<(), Failure> {
    if *progress == Progress::Ended {
        return Ok(());
    }
    let before = out.len();
    match frame {
        Frame::Comment => {}
        Frame::Done => {
            protocol.finish(out)?;
            *progress = Progress::Ended;
        }
        Frame::Error(text) => return Err(Rejection::of_body(text).into_failure(None)),
        Frame::Event { name, data } => {
            if let Some(rejection) = rejection(name, data) {
                return Err(rejection.into_failure(None));
            }
            *progress = protocol.event(data, out)?;
        }
    }
    if *progress != Progress::Ended && out.len() == before {
        live(out);
    }
    Ok(())
}

/// The error that an event is, if it is one.
fn rejection(name: &str, data: &str) -> Option<Rejection> {
    static ERROR: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new("error"));
    if name != "error" && ERROR.find(data.as_bytes()).is_none() {
        return None;
    }
    let within = |data: &str| Rejection::within(data);
    within(data)
        .or_else(|| within(&escape_controls(data)?))
        .or_else(|| {
            #[derive(Deserialize)]
            struct Tagged {
                #[serde(rename = "type")]
                _type: IgnoredAny,
            }
            // The name alone counts only where the data does not say what it is.
            let unnamed = name == "error" && serde_json::from_str::<Tagged>(data).is_err();
            unnamed.then(|| Rejection::of_body(data))
        })
}

/// Reads the JSON object of an event or a document with `read`.
///
/// What begins like JSON and is not what it should be is an accident that may not happen again; a
/// sentence where JSON belongs is an answer.
pub(crate) fn read_json<T>(
    text: &str,
    mut read: impl FnMut(&str) -> serde_json::Result<T>,
) -> Result<T, Failure> {
    let text = text.trim_start();
    if !text.starts_with('{') {
        let accident = text.starts_with('[');
        return Err(Failure::new(Fault::Malformed).with_retryable(accident));
    }
    read(text)
        .or_else(|error| escape_controls(text).map_or(Err(error), |repaired| read(&repaired)))
        .map_err(|_| Failure::new(Fault::Malformed))
}

/// [`read_json`] for a document, which may have been cut off.
pub(crate) fn read_document<T>(
    text: &str,
    read: impl FnMut(&str) -> serde_json::Result<T>,
) -> Result<T, Failure> {
    read_json(text, read).map_err(|failure| match serde_json::from_str::<IgnoredAny>(text) {
        Err(error) if error.is_eof() => Failure::new(Fault::TruncatedStream),
        _ => failure,
    })
}

/// Adds a delta, unless it is a text without any letter.
pub(crate) fn push(out: &mut Vec<Delta>, delta: Delta) {
    let is_empty = match &delta {
        Delta::Text(text) | Delta::Reasoning(text) | Delta::Refusal(text) => text.is_empty(),
        _ => false,
    };
    if !is_empty {
        out.push(delta);
    }
}

/// Adds a sign of life; one is enough for all that came at once.
fn live(out: &mut Vec<Delta>) {
    if !matches!(out.last(), Some(Delta::Heartbeat)) {
        out.push(Delta::Heartbeat);
    }
}

/// What is told of a reply without any text or call.
pub(crate) fn empty_output() -> Delta {
    Delta::Notice(Notice::new(
        "empty_output",
        "the model ended its reply without saying anything",
    ))
}

impl From<LimitExceeded> for Failure {
    fn from(exceeded: LimitExceeded) -> Self {
        limit(exceeded.0)
    }
}

/// A named limit was exceeded.
pub(crate) fn limit(name: &'static str) -> Failure {
    Failure::hopeless(Fault::Malformed).with_fact("limit", name)
}

/// The deltas of `answer`, after the notices.
pub(crate) fn completion<P: Protocol>(
    client: HttpClient,
    answer: Answer,
    protocol: P,
    notices: Vec<Notice>,
) -> CompletionStream {
    let answered = answer
        .request_id
        .clone()
        .map(|request_id| Delta::Accepted { request_id });
    let receiver = Receiver {
        client,
        reply: Reply::new(protocol, answer.media),
        body: Some(answer.body),
        tail: None,
        queue: answered
            .into_iter()
            .chain(notices.into_iter().map(Delta::Notice))
            .collect(),
        out: Vec::new(),
        failure: None,
        request_id: answer.request_id,
    };
    receiver.boxed()
}

/// The deltas of an answer, as they come.
struct Receiver<P> {
    client: HttpClient,
    reply: Reply<P>,
    /// `None` once everything was received.
    body: Option<Body>,
    /// How complete the reply is, and what ends the wait for the end of its stream.
    tail: Option<(Progress, Pin<Box<Sleep>>)>,
    queue: VecDeque<Delta>,
    /// Empty between two pieces of the body, and kept for its memory.
    out: Vec<Delta>,
    failure: Option<Failure>,
    request_id: Option<String>,
}

impl<P> Unpin for Receiver<P> {}

impl<P: Protocol> Stream for Receiver<P> {
    type Item = Result<Delta>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if let Some(delta) = this.queue.pop_front() {
                return Poll::Ready(Some(Ok(delta)));
            }
            if let Some(failure) = this.failure.take() {
                let failure = failure.with_token("request_id", this.request_id.as_deref());
                return Poll::Ready(Some(Err(this.client.error(failure))));
            }
            let Some(body) = &mut this.body else {
                return Poll::Ready(None);
            };
            let piece = match (body.poll_next_unpin(cx), &mut this.tail) {
                (Poll::Ready(piece), _) => piece,
                (Poll::Pending, Some((_, grace))) => {
                    ready!(grace.as_mut().poll(cx));
                    None
                }
                (Poll::Pending, None) => return Poll::Pending,
            };
            this.receive(piece);
        }
    }
}

impl<P: Protocol> Receiver<P> {
    /// Takes the next piece of the body; `None` if it is over, or waited for no longer.
    fn receive(&mut self, piece: Option<Result<Bytes, Failure>>) {
        let out = &mut self.out;
        let received = match piece {
            Some(Ok(bytes)) => self.reply.push(&bytes, out),
            Some(Err(failure)) => self.reply.broken(failure, out).map(|()| Progress::Ended),
            None => self.reply.finish(out).map(|()| Progress::Ended),
        };
        match received {
            Ok(Progress::Running) => {
                self.tail = None;
                if out.is_empty() {
                    out.push(Delta::Heartbeat);
                }
            }
            Ok(Progress::Ended) => drain(self.body.take()),
            Ok(progress) => {
                if self
                    .tail
                    .as_ref()
                    .is_none_or(|(before, _)| *before != progress)
                {
                    let grace = if progress == Progress::Counted {
                        TAIL_GRACE
                    } else {
                        USAGE_GRACE
                    };
                    self.tail = Some((progress, Box::pin(sleep(grace))));
                }
            }
            Err(failure) => {
                self.failure = Some(failure);
                self.body = None;
            }
        }
        self.queue.extend(self.out.drain(..));
    }
}

/// Reads what little may follow the end of a reply, so that its connection can be used again.
fn drain(body: Option<Body>) {
    let Some(mut body) = body else { return };
    // Nearly always the end is there already.
    if let Some(None | Some(Err(_))) = body.next().now_or_never() {
        return;
    }
    tokio::spawn(timeout(DRAIN_TIME, async move {
        let mut read = 0;
        while let Some(Ok(chunk)) = body.next().await {
            read += chunk.len();
            if read > DRAIN_BYTES {
                break;
            }
        }
    }));
}
