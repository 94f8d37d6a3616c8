//! Server-sent events, decoded from bytes as they come.
//!
//! By the WHATWG rules, with what providers made necessary: an event that ends with the stream
//! instead of a blank line is kept if it is whole, `[DONE]` is a frame of its own, comments are
//! reported, invalid UTF-8 is replaced, a field named `error` is an error, and a bare JSON object
//! between the events, which is how some servers report an error, is an event.

use std::borrow::Cow;
use std::mem;

use memchr::memchr2;
use serde::de::IgnoredAny;

use super::reply::BOM;
use super::values::Nesting;

/// The longest line, in bytes.
pub(crate) const MAX_LINE_BYTES: usize = 8 << 20;
/// The largest data of one event, in bytes.
pub(crate) const MAX_EVENT_BYTES: usize = 16 << 20;
/// The most bytes of one stream.
pub(crate) const MAX_STREAM_BYTES: usize = 64 << 20;
/// The most frames of one stream.
pub(crate) const MAX_FRAMES: usize = 1_000_000;

/// What a stream consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// An event with data.
    Event {
        /// The `event:` field; empty if there was none.
        name: &'a str,
        /// The `data:` lines, joined by line feeds; never empty.
        data: &'a str,
    },
    /// The value of a field named `error`, which the standard does not have.
    Error(&'a str),
    /// A comment: a sign of life.
    Comment,
    /// An event whose data is `[DONE]`.
    Done,
}

/// The name of the limit that a stream exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitExceeded(pub &'static str);

/// The decoder of one stream. It hands the frames out as they end, until one is refused.
#[derive(Debug, Default)]
pub struct Decoder {
    /// The beginning of a line whose end has not come yet.
    line: Vec<u8>,
    /// A carriage return was the last byte: a line feed now belongs to it.
    after_cr: bool,
    /// The first line, which may begin with a byte order mark, is over.
    past_first_line: bool,
    name: String,
    data: Option<Vec<u8>>,
    /// Lines of a JSON object that stands outside of any field, until it is whole.
    stray: Option<(Vec<u8>, Nesting)>,
    bytes: usize,
    frames: usize,
}

impl Decoder {
    /// Decodes the next bytes, cut anywhere, and hands what they complete to `take`.
    ///
    /// # Errors
    /// The name of the bound that the stream exceeds; what `take` refuses.
    pub fn push<E: From<LimitExceeded>>(
        &mut self,
        mut bytes: &[u8],
        take: &mut impl FnMut(Frame<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.bytes = self.bytes.saturating_add(bytes.len());
        if self.bytes > MAX_STREAM_BYTES {
            return Err(LimitExceeded("stream_bytes").into());
        }
        while !bytes.is_empty() {
            if mem::take(&mut self.after_cr) && bytes[0] == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let end = memchr2(b'\r', b'\n', bytes);
            let part = &bytes[..end.unwrap_or(bytes.len())];
            if self.line.len() + part.len() > MAX_LINE_BYTES {
                return Err(LimitExceeded("line_bytes").into());
            }
            let Some(end) = end else {
                self.line.extend_from_slice(part);
                break;
            };
            self.after_cr = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            if !self.line.is_empty() {
                self.line.extend_from_slice(part);
                self.end_line(take)?;
            } else if let Some(data) = self.only_data(part, bytes) {
                // Most events are one line with a blank one behind it, and need not be copied.
                self.past_first_line = true;
                self.event(data, take)?;
            } else {
                self.take_line(part, take)?;
            }
        }
        Ok(())
    }

    /// The data of an event that has no other line than this one, as what follows shows.
    fn only_data<'a>(&self, line: &'a [u8], rest: &[u8]) -> Option<&'a [u8]> {
        let rest = match rest {
            [b'\n', rest @ ..] if self.after_cr => rest,
            rest => rest,
        };
        let ends = matches!(rest, [b'\n' | b'\r', ..]);
        let data = line.strip_prefix(b"data:")?;
        let is_only = ends && self.data.is_none() && self.stray.is_none();
        is_only.then(|| data.strip_prefix(b" ").unwrap_or(data))
    }

    /// The stream is over: an event without a blank line after it counts if it is whole.
    ///
    /// # Errors
    /// As of [`push`](Self::push).
    pub fn finish<E: From<LimitExceeded>>(
        &mut self,
        take: &mut impl FnMut(Frame<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if !self.line.is_empty() {
            self.end_line(take)?;
        }
        self.end_stray(take)?;
        let whole = self.data.as_deref().is_some_and(|data| {
            let text = String::from_utf8_lossy(data);
            is_done(&text) || serde_json::from_str::<IgnoredAny>(&text).is_ok()
        });
        if whole { self.end_event(take) } else { Ok(()) }
    }

    fn end_line<E: From<LimitExceeded>>(
        &mut self,
        take: &mut impl FnMut(Frame<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut buffer = mem::take(&mut self.line);
        self.take_line(&buffer, take)?;
        // The allocation serves the next line, unless this one was extraordinary.
        if buffer.capacity() <= 64 << 10 {
            buffer.clear();
            self.line = buffer;
        }
        Ok(())
    }

    fn take_line<E: From<LimitExceeded>>(
        &mut self,
        mut line: &[u8],
        take: &mut impl FnMut(Frame<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if !mem::replace(&mut self.past_first_line, true) {
            line = line.strip_prefix(BOM).unwrap_or(line);
        }
        if self.stray.is_some() || line.starts_with(b"{") {
            // Fields begin again: what stood between them was something else.
            if !line.starts_with(b"data:") {
                return self.take_stray(line, take);
            }
            self.stray = None;
        }
        if line.is_empty() {
            return self.end_event(take);
        }
        let (field, value) = match line.iter().position(|b| *b == b':') {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, &b""[..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"" => {
                self.count()?;
                take(Frame::Comment)
            }
            b"data" => {
                match &mut self.data {
                    Some(data) => {
                        data.push(b'\n');
                        data.extend_from_slice(value);
                    }
                    None => self.data = Some(value.to_vec()),
                }
                let size = self.data.as_ref().map_or(0, Vec::len);
                if size > MAX_EVENT_BYTES {
                    return Err(LimitExceeded("event_bytes").into());
                }
                Ok(())
            }
            b"event" => {
                self.name.clear();
                self.name.push_str(&text(value));
                Ok(())
            }
            b"error" => {
                self.count()?;
                take(Frame::Error(&text(value)))
            }
            // `id` and `retry` are for reconnecting, which a POST cannot do.
            _ => Ok(()),
        }
    }

    fn take_stray<E: From<LimitExceeded>>(
        &mut self,
        line: &[u8],
        take: &mut impl FnMut(Frame<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let (stray, nesting) = self.stray.get_or_insert_default();
        stray.extend_from_slice(line);
        stray.push(b'\n');
        if stray.len() > MAX_EVENT_BYTES {
            return Err(LimitExceeded("event_bytes").into());
        }
        line.iter().for_each(|byte| nesting.push(*byte));
        // Reading it after each line to see whether it is whole would be quadratic.
        if nesting.is_closed() {
            self.end_stray(take)?;
        }
        Ok(())
    }

    /// Hands a stray object out if it is whole.
    fn end_stray<E: From<LimitExceeded>>(
        &mut self,
        take: &mut impl FnMut(Frame<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some((stray, _)) = self.stray.take() else {
            return Ok(());
        };
        if serde_json::from_slice::<IgnoredAny>(&stray).is_err() {
            return Ok(());
        }
        self.count()?;
        take(Frame::Event {
            name: "",
            data: &text(&stray),
        })
    }

    fn end_event<E: From<LimitExceeded>>(
        &mut self,
        take: &mut impl FnMut(Frame<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        match self.data.take() {
            Some(data) => self.event(&data, take),
            None => {
                self.name.clear();
                Ok(())
            }
        }
    }

    fn event<E: From<LimitExceeded>>(
        &mut self,
        data: &[u8],
        take: &mut impl FnMut(Frame<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let data = text(data);
        if !data.trim().is_empty() {
            self.count()?;
            take(match is_done(&data) {
                true => Frame::Done,
                false => Frame::Event {
                    name: &self.name,
                    data: &data,
                },
            })?;
        }
        self.name.clear();
        Ok(())
    }

    /// One frame more.
    fn count(&mut self) -> Result<(), LimitExceeded> {
        self.frames += 1;
        if self.frames > MAX_FRAMES {
            return Err(LimitExceeded("frames"));
        }
        Ok(())
    }
}

fn is_done(data: &str) -> bool {
    data.trim() == "[DONE]"
}

/// The text that these bytes are; what is no UTF-8 is replaced.
pub(crate) fn text(bytes: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(bytes);
    if matches!(text, Cow::Owned(_)) {
        tracing::warn!("a provider sent invalid UTF-8, which was replaced");
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A frame, as it is printed.
    fn keep(kept: &mut Vec<String>) -> impl FnMut(Frame<'_>) -> Result<(), LimitExceeded> {
        |frame| {
            kept.push(format!("{frame:?}"));
            Ok(())
        }
    }

    fn decode(chunks: &[&[u8]]) -> Result<Vec<String>, LimitExceeded> {
        let (mut decoder, mut frames) = (Decoder::default(), Vec::new());
        for chunk in chunks {
            decoder.push(chunk, &mut keep(&mut frames))?;
        }
        decoder.finish(&mut keep(&mut frames))?;
        Ok(frames)
    }

    fn frames(text: impl AsRef<[u8]>) -> Vec<String> {
        decode(&[text.as_ref()]).unwrap()
    }

    fn event(name: &str, data: &str) -> String {
        format!("{:?}", Frame::Event { name, data })
    }

    #[test]
    fn lines_end_with_cr_lf_or_crlf_and_nothing_else() {
        for end in ["\n", "\r", "\r\n"] {
            let text =
                format!("data: a{end}{end}data: b\u{2028}\u{2029}\u{85}\u{b}\u{c}{end}{end}");
            assert_eq!(
                frames(text),
                [
                    event("", "a"),
                    event("", "b\u{2028}\u{2029}\u{85}\u{b}\u{c}")
                ]
            );
        }
        assert_eq!(
            frames("data: a\n\r\ndata: b\r\r"),
            [event("", "a"), event("", "b")]
        );
    }

    #[test]
    fn a_carriage_return_ends_its_line_at_once_and_swallows_a_later_line_feed() {
        let (mut decoder, mut out) = (Decoder::default(), Vec::new());
        decoder.push(b"data: a\r\n\r", &mut keep(&mut out)).unwrap();
        assert_eq!(out, [event("", "a")]);
        decoder.push(b"\ndata: b\n\n", &mut keep(&mut out)).unwrap();
        assert_eq!(out, [event("", "a"), event("", "b")]);
    }

    #[test]
    fn one_leading_byte_order_mark_is_dropped() {
        assert_eq!(frames("\u{feff}data: a\n\n"), [event("", "a")]);
        assert_eq!(
            decode(&[b"\xEF", b"\xBB", b"\xBFdata: a\n\n"]).unwrap(),
            [event("", "a")]
        );
        assert_eq!(
            frames("\u{feff}\u{feff}data: a\n\ndata: b\n\n"),
            [event("", "b")]
        );
        assert!(frames("\n\u{feff}data: a\n\n").is_empty());
    }

    #[test]
    fn data_may_lack_its_space_and_span_lines() {
        assert_eq!(
            frames("data:a\ndata:  b\ndata\ndata: c\n\n"),
            [event("", "a\n b\n\nc")]
        );
    }

    #[test]
    fn unknown_fields_and_events_without_data_are_ignored() {
        let text = " data: no\nDATA: no\nid: 1\nretry: 5\nevent: x\n\nevent\ndata\n\nfoo\nevent: y\ndata: a\n\ndata: b\n\n";
        assert_eq!(frames(text), [event("y", "a"), event("", "b")]);
    }

    #[test]
    fn blank_lines_dispatch_nothing_and_comments_are_signs_of_life() {
        assert_eq!(
            frames("\n\n\n: hi\n:\n\n\ndata: a\n: in between\n\n"),
            [
                "Comment".to_owned(),
                "Comment".to_owned(),
                "Comment".to_owned(),
                event("", "a"),
            ]
        );
    }

    #[test]
    fn a_field_named_error_is_an_error() {
        assert_eq!(
            frames("error: {\"code\":400}\n\n"),
            [format!("{:?}", Frame::Error("{\"code\":400}"))]
        );
    }

    #[test]
    fn done_is_recognized_with_white_space_around_it() {
        assert_eq!(
            frames("data:[DONE]\n\ndata:  [DONE] \n\ndata: [DONE]"),
            ["Done", "Done", "Done"]
        );
        assert_eq!(frames("data: [DONE]x\n\n"), [event("", "[DONE]x")]);
    }

    #[test]
    fn at_the_end_a_pending_event_counts_only_if_it_is_whole() {
        assert_eq!(frames("data: {\"a\":1}"), [event("", "{\"a\":1}")]);
        assert_eq!(frames("data: {\"a\":1}\n"), [event("", "{\"a\":1}")]);
        assert!(frames("data: {\"a\":1").is_empty());
        assert_eq!(
            frames("data: {\"a\":\ndata: 1}\n"),
            [event("", "{\"a\":\n1}")]
        );
        assert!(frames("data: [DON").is_empty());
    }

    #[test]
    fn a_bare_object_between_events_is_one() {
        let bare = "{\n  \"error\": {\n    \"code\": 503\n  }\n}";
        let one = event("", &format!("{bare}\n"));
        for end in ["", "\n", "\n\n"] {
            assert_eq!(
                frames(format!("data: a\n\n{bare}{end}")),
                [event("", "a"), one.clone()]
            );
        }
        assert_eq!(
            frames("{\"a\":1}\ndata: b\n\n"),
            [event("", "{\"a\":1}\n"), event("", "b")]
        );
        assert_eq!(frames("{ oops\ndata: b\n\n"), [event("", "b")]);
    }

    #[test]
    fn many_lines_of_one_stray_object_take_no_quadratic_time() {
        let mut lines = b"{\"a\":{\n".to_vec();
        for _ in 0..500_000 {
            lines.extend_from_slice(b"},\"a\":{\n");
        }
        lines.extend_from_slice(b"}}\n");
        let start = std::time::Instant::now();
        assert_eq!(decode(&[&lines]).unwrap().len(), 1);
        // Reading them again with every line would take hours.
        assert!(start.elapsed() < std::time::Duration::from_secs(60));
    }

    #[test]
    fn invalid_utf8_is_replaced_and_the_event_kept() {
        assert_eq!(
            frames(b"data: caf\xE9!\n\ndata: b\n\n"),
            [event("", "caf\u{fffd}!"), event("", "b")]
        );
    }

    #[test]
    fn every_limit_is_an_error() {
        let long = vec![b'x'; MAX_LINE_BYTES + 1];
        assert_eq!(decode(&[&long]), Err(LimitExceeded("line_bytes")));
        let mut line = b"data:".to_vec();
        line.resize(MAX_LINE_BYTES, b'x');
        line.push(b'\n');
        assert_eq!(
            decode(&[&line, &line, &line]),
            Err(LimitExceeded("event_bytes"))
        );
        line.push(b'\n');
        assert_eq!(
            decode(&[line.as_slice(); 9]),
            Err(LimitExceeded("stream_bytes"))
        );
        let comments = b":\n".repeat(MAX_FRAMES + 1);
        assert_eq!(decode(&[&comments]), Err(LimitExceeded("frames")));
    }

    const PIECES: &[&[u8]] = &[
        b"\n",
        b"\r",
        b"\r\n",
        b"\n\n",
        b"data: ",
        b"data:",
        b"data",
        b": c",
        b"event: e",
        b"error: x",
        b"{\"a\":1}",
        b"[DONE]",
        b"\xEF\xBB\xBF",
        b"\xE9",
        b"\xC3\xA9\xF0\x9F\x98\x80",
        b" ",
        b"id: 7",
        b"{\n\"a\":",
        b"1\n}",
    ];

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_frames(
            pieces in proptest::collection::vec(proptest::sample::select(PIECES), 0..40),
            cuts in proptest::collection::vec(0..400usize, 0..8),
        ) {
            let bytes = pieces.concat();
            let whole = decode(&[&bytes]).unwrap();
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            prop_assert_eq!(&decode(&single).unwrap(), &whole);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).chain([0, bytes.len()]).collect();
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            prop_assert_eq!(&decode(&chunks).unwrap(), &whole);
        }
    }
}
