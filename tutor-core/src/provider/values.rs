//! A stream of JSON objects: one a line, several on a line, or the elements of an array.

use std::mem;

use super::sse::{LimitExceeded, MAX_EVENT_BYTES, MAX_FRAMES, MAX_STREAM_BYTES, text};

/// Why a stream cannot be split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unsplittable {
    /// A limit was exceeded.
    Limit(LimitExceeded),
    /// Something that is no JSON object stands where one should.
    Stray,
}

/// How deep inside of a JSON value its bytes are. Looks at each byte once, so that the end of a
/// value that comes in pieces is found without reading it again with every piece.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Nesting {
    depth: usize,
    in_string: bool,
    escaped: bool,
    begun: bool,
}

impl Nesting {
    /// Takes the next byte.
    pub(crate) fn push(&mut self, byte: u8) {
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' if self.in_string => self.escaped = true,
            b'"' => (self.in_string, self.begun) = (!self.in_string, true),
            _ if self.in_string => {}
            b'{' | b'[' => (self.depth, self.begun) = (self.depth + 1, true),
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }

    /// True if no object, array or text is open.
    pub(crate) fn is_closed(self) -> bool {
        self.depth == 0 && !self.in_string
    }

    /// True if one was open, and is no more.
    pub(crate) fn has_closed(self) -> bool {
        self.begun && self.is_closed()
    }
}

/// Splits bytes, cut anywhere, into the objects that they hold. Looks at each byte once.
#[derive(Debug, Default)]
pub(crate) struct Splitter {
    /// The beginning of an object whose end has not come yet.
    object: Vec<u8>,
    nesting: Nesting,
    bytes: usize,
    objects: usize,
}

impl Splitter {
    /// Takes the next bytes, and appends the objects that they complete to `objects`.
    pub(crate) fn push(
        &mut self,
        bytes: &[u8],
        objects: &mut Vec<String>,
    ) -> Result<(), Unsplittable> {
        let exceeded = |name| Err(Unsplittable::Limit(LimitExceeded(name)));
        self.bytes = self.bytes.saturating_add(bytes.len());
        if self.bytes > MAX_STREAM_BYTES {
            return exceeded("stream_bytes");
        }
        let mut start = 0;
        for (at, byte) in bytes.iter().enumerate() {
            if self.nesting.is_closed() {
                match byte {
                    b'{' => {
                        self.nesting.push(*byte);
                        start = at;
                    }
                    // Between objects stand line ends, the commas and brackets of an array, and
                    // the byte order mark of a text.
                    b' ' | b'\t' | b'\r' | b'\n' | b',' | b'[' | b']' | 0xEF | 0xBB | 0xBF => {}
                    _ => return Err(Unsplittable::Stray),
                }
                continue;
            }
            self.nesting.push(*byte);
            if self.nesting.is_closed() {
                self.object.extend_from_slice(&bytes[start..=at]);
                self.objects += 1;
                if self.objects > MAX_FRAMES {
                    return exceeded("frames");
                }
                objects.push(text(&mem::take(&mut self.object)).into_owned());
            }
        }
        if self.is_amid() {
            self.object.extend_from_slice(&bytes[start..]);
        }
        if self.object.len() > MAX_EVENT_BYTES {
            return exceeded("event_bytes");
        }
        Ok(())
    }

    /// True if an object has begun and not ended.
    pub(crate) fn is_amid(&self) -> bool {
        !self.nesting.is_closed()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(chunks: &[&[u8]]) -> Result<(Vec<String>, bool), Unsplittable> {
        let (mut splitter, mut objects) = (Splitter::default(), Vec::new());
        for chunk in chunks {
            splitter.push(chunk, &mut objects)?;
        }
        Ok((objects, splitter.is_amid()))
    }

    fn objects(text: &str) -> Vec<String> {
        split(&[text.as_bytes()]).unwrap().0
    }

    #[test]
    fn objects_may_be_lines_neighbors_or_elements() {
        for text in [
            "{\"a\":1}\n{\"b\":{}}\n",
            "\r\n{\"a\":1}\r\n\r\n{\"b\":{}}",
            "{\"a\":1}{\"b\":{}}",
            "\u{feff}[{\"a\":1},\n{\"b\":{}}]",
        ] {
            assert_eq!(objects(text), ["{\"a\":1}", "{\"b\":{}}"], "{text}");
        }
    }

    #[test]
    fn brackets_and_quotes_inside_strings_are_text() {
        let text = r#"{"a":"}\"{[\\"}"#;
        assert_eq!(objects(text), [text]);
    }

    #[test]
    fn what_is_no_object_is_refused_and_what_is_cut_is_known() {
        assert_eq!(split(&[b"{} oops"]), Err(Unsplittable::Stray));
        assert_eq!(split(&[b"{}\n{\"a\""]), Ok((vec!["{}".to_owned()], true)));
    }

    #[test]
    fn every_limit_is_an_error() {
        let limit = |name| Err(Unsplittable::Limit(LimitExceeded(name)));
        let mut long = b"{\"".to_vec();
        long.resize(MAX_EVENT_BYTES + 1, b'x');
        assert_eq!(split(&[&long]), limit("event_bytes"));
        assert_eq!(split(&[&b"{}".repeat(MAX_FRAMES + 1)]), limit("frames"));
        assert_eq!(
            split(&[&vec![b' '; MAX_STREAM_BYTES + 1]]),
            limit("stream_bytes")
        );
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_objects(
            pieces in proptest::collection::vec(proptest::sample::select(&["{\"a\":", "\"é}\\\"\"", "}", "{", "\n", "[", "]", ",", "1"][..]), 0..40),
            size in 1..9usize,
        ) {
            let text = pieces.concat();
            let (mut whole, mut cut) = (Vec::new(), Vec::new());
            let (mut one, mut other) = (Splitter::default(), Splitter::default());
            let result = one.push(text.as_bytes(), &mut whole);
            let chunked = text.as_bytes().chunks(size).try_for_each(|chunk| other.push(chunk, &mut cut));
            prop_assert_eq!(result, chunked);
            prop_assert_eq!(whole, cut);
        }
    }
}
