//! What the protocols make of bytes, without sockets: for tests and fuzzers.

use crate::error::Result;
use crate::provider::anthropic::stream::MessageStream;
use crate::provider::gemini::stream::ContentStream;
use crate::provider::http::Media;
use crate::provider::ollama;
use crate::provider::openai::stream::ChatStream;
use crate::provider::reply::{Progress, Protocol, Reply};
use crate::provider::responses::stream::ResponseStream;
use crate::provider::sse::{Decoder, Frame, LimitExceeded};
use crate::provider::{Delta, ProviderKind};

/// Reads the body of an answer in this protocol, as it comes in `chunks`. Signs of life are left
/// out. The demo provider has no protocol: nothing is read.
pub fn read<'a>(
    kind: ProviderKind,
    chunks: impl IntoIterator<Item = &'a [u8]>,
) -> Vec<Result<Delta>> {
    match kind {
        ProviderKind::OpenAi => feed(ChatStream::new(false, true), chunks),
        ProviderKind::OpenAiResponses => feed(ResponseStream::new(true), chunks),
        ProviderKind::Anthropic => feed(MessageStream::new(true), chunks),
        ProviderKind::Gemini => feed(ContentStream::default(), chunks),
        ProviderKind::Ollama => feed(ollama::stream::ChatStream::default(), chunks),
        ProviderKind::Demo => Vec::new(),
    }
}

fn feed<'a, P: Protocol>(
    protocol: P,
    chunks: impl IntoIterator<Item = &'a [u8]>,
) -> Vec<Result<Delta>> {
    let (mut reply, mut out) = (Reply::new(protocol, Media::EventStream), Vec::new());
    let mut progress = Ok(Progress::Running);
    for chunk in chunks {
        progress = reply.push(chunk, &mut out);
        if matches!(progress, Ok(Progress::Ended) | Err(_)) {
            break;
        }
    }
    let end = match progress {
        Ok(Progress::Ended) => Ok(()),
        Ok(_) => reply.finish(&mut out),
        Err(failure) => Err(failure),
    };
    let deltas = out.into_iter().filter(|delta| *delta != Delta::Heartbeat);
    let failure = end.err().map(|failure| failure.into_error("traffic"));
    deltas.map(Ok).chain(failure.map(Err)).collect()
}

/// Reads a body whole and byte by byte, and panics unless both give the same, with one end, last.
pub fn check(kind: ProviderKind, body: &[u8]) {
    let whole = read(kind, [body]);
    let single = read(kind, body.chunks(1));
    assert_eq!(format!("{whole:?}"), format!("{single:?}"));
    let ends = |item: &Result<Delta>| matches!(item, Err(_) | Ok(Delta::Finished { .. }));
    let end = whole.iter().position(ends);
    assert_eq!(end, whole.len().checked_sub(1));
}

/// How many frames an event stream has that comes in `chunks`; `None` if it exceeds a limit.
pub fn frames<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Option<usize> {
    let (mut decoder, mut frames) = (Decoder::default(), 0);
    let mut count = |_: Frame<'_>| -> std::result::Result<(), LimitExceeded> {
        frames += 1;
        Ok(())
    };
    for chunk in chunks {
        decoder.push(chunk, &mut count).ok()?;
    }
    decoder.finish(&mut count).ok()?;
    Some(frames)
}
