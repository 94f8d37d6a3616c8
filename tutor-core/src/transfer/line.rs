//! One line of an export.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Counts;
use crate::error::{Error, Result};
use crate::id::OwnerId;
use crate::message::Message;
use crate::session::Session;
use crate::time::Timestamp;
use crate::turn::Turn;

/// The version of the format that this program writes. It reads this one and all before it.
pub const VERSION: u32 = 1;

/// The longest line, in bytes. A longer one is no export.
pub const MAX_LINE_BYTES: usize = 64 << 20;

pub(super) const FORMAT: &str = "neuro-tutor-export";

const CHECKSUM: &[u8] = br#"{"crc32":""#;
const CHECKSUM_DIGITS: usize = 8;

/// What a line holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Line {
    Header(Header),
    Session(Box<SessionLine>),
    Message(Box<Message>),
    Turn(Box<TurnLine>),
    Record(RecordLine),
    End(Counts),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    pub(super) format: String,
    pub(super) version: u32,
    /// Whose data; everybody's without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) owner: Option<OwnerId>,
    /// Only sessions that changed then or later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) since: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct SessionLine {
    #[serde(flatten)]
    pub(super) session: Session,
    #[serde(default)]
    pub(super) turn_count: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct TurnLine {
    #[serde(flatten)]
    pub(super) turn: Turn,
    /// The reply so far of a running turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) partial: Option<Message>,
}

/// A small document; its bytes as text if they are UTF-8, else in base 64.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RecordLine {
    pub(super) kind: String,
    pub(super) key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
}

impl std::fmt::Debug for RecordLine {
    /// Values may be secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecordLine")
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

impl RecordLine {
    pub(super) fn new(kind: &str, key: String, value: Vec<u8>) -> Self {
        let (text, base64) = match String::from_utf8(value) {
            Ok(text) => (Some(text), None),
            Err(error) => (None, Some(encode(error.as_bytes()))),
        };
        Self {
            kind: kind.to_owned(),
            key,
            text,
            base64,
        }
    }

    /// The bytes of the document; `None` if the line does not say them.
    pub(super) fn value(self) -> Option<Vec<u8>> {
        match (self.text, self.base64) {
            (Some(text), None) => Some(text.into_bytes()),
            (None, Some(text)) => decode(&text),
            _ => None,
        }
    }
}

fn encode(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn decode(text: &str) -> Option<Vec<u8>> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).ok()
}

impl Line {
    /// Appends the line, with its checksum and its end. `checksum` is the one before, and becomes
    /// this one's.
    pub(super) fn write(&self, out: &mut Vec<u8>, checksum: &mut u32) -> Result<()> {
        let body = serde_json::to_vec(self)
            .map_err(|_| Error::internal("a line of an export cannot be written"))?;
        *checksum = self.checksum(&body, *checksum);
        let crc = format!("{checksum:08x}");
        out.extend_from_slice(CHECKSUM);
        out.extend_from_slice(crc.as_bytes());
        out.extend_from_slice(b"\",");
        out.extend_from_slice(body.get(1..).unwrap_or_default());
        out.push(b'\n');
        Ok(())
    }

    /// Within a session, lines are told to follow each other.
    fn checksum(&self, body: &[u8], before: u32) -> u32 {
        let start = match self {
            Self::Message(_) | Self::Turn(_) => before,
            _ => 0,
        };
        let mut hasher = crc32fast::Hasher::new_with_initial(start);
        hasher.update(body);
        hasher.finalize()
    }

    /// Reads a line without its end. Also tells its checksum, if it has one; `before` is that of
    /// the line before.
    ///
    /// # Errors
    /// `invalid_input`, without a word of the line.
    pub(super) fn read(line: &[u8], before: u32) -> Result<(Self, Option<u32>)> {
        let Some(rest) = line.strip_prefix(CHECKSUM) else {
            return Ok((parse(line)?, None));
        };
        let split = rest.split_at_checked(CHECKSUM_DIGITS);
        let crc = split.and_then(|(crc, _)| {
            let text = std::str::from_utf8(crc).ok()?;
            let is_ours = text.bytes().all(|b| b"0123456789abcdef".contains(&b));
            is_ours.then(|| u32::from_str_radix(text, 16).ok())?
        });
        let body = split.and_then(|(_, rest)| rest.strip_prefix(b"\","));
        let (Some(crc), Some(body)) = (crc, body) else {
            return Err(damaged());
        };
        let body = [b"{", body].concat();
        // A damaged line may be no line at all any more.
        let line = parse(&body).map_err(|_| damaged())?;
        if line.checksum(&body, before) != crc {
            return Err(damaged());
        }
        if !line.says_all_of(&body)? {
            return Err(Error::invalid_input(
                "the line says something that this version does not know and would lose: use a \
                 newer one",
            ));
        }
        Ok((line, Some(crc)))
    }

    /// True if nothing that the text says was lost when it was read.
    fn says_all_of(&self, body: &[u8]) -> Result<bool> {
        let again = serde_json::to_vec(self)
            .map_err(|_| Error::internal("a line of an export cannot be written"))?;
        if again == body {
            return Ok(true);
        }
        let value = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).map_err(|_| damaged());
        Ok(covers(&value(&again)?, &value(body)?))
    }
}

/// True if all that `text` says is in `read`, which may say more.
fn covers(read: &Value, text: &Value) -> bool {
    match (read, text) {
        (Value::Object(read), Value::Object(text)) => text.iter().all(|(name, text)| {
            read.get(name)
                .map_or_else(|| text.is_null(), |read| covers(read, text))
        }),
        (Value::Array(read), Value::Array(text)) => {
            read.len() == text.len() && read.iter().zip(text).all(|(a, b)| covers(a, b))
        }
        (read, text) => read == text,
    }
}

fn parse(body: &[u8]) -> Result<Line> {
    // What serde says may quote the line.
    serde_json::from_slice(body).map_err(|error| {
        let what = match error.classify() {
            serde_json::error::Category::Data => "the line is not one of an export",
            _ => "the line is not whole JSON",
        };
        Error::invalid_input(what).with_context("column", error.column())
    })
}

fn damaged() -> Error {
    Error::invalid_input(
        "the line, or the one before it, is damaged or missing: its checksum does not fit",
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::conformance::sample;

    fn written(line: &Line) -> Vec<u8> {
        let mut out = Vec::new();
        line.write(&mut out, &mut 0).unwrap();
        assert_eq!(out.pop(), Some(b'\n'));
        out
    }

    fn session() -> Line {
        let mut session = sample::session("o", "s", 5);
        session.metadata = sample::object(
            "n",
            serde_json::json!([0.1, 1e-7, u64::MAX, {"b": 1, "a": []}]),
        );
        Line::Session(Box::new(SessionLine {
            session,
            turn_count: 3,
        }))
    }

    #[test]
    fn a_line_is_read_as_it_was_written_with_or_without_its_checksum() {
        let line = session();
        let text = written(&line);
        assert_eq!(Line::read(&text, 0).unwrap().0, line);
        let bare = serde_json::to_vec(&line).unwrap();
        assert_eq!(Line::read(&bare, 0).unwrap(), (line, None));
    }

    #[test]
    fn what_a_newer_program_added_is_refused_and_what_an_older_one_left_out_is_not() {
        let Value::Object(mut body) = serde_json::to_value(session()).unwrap() else {
            panic!();
        };
        let read = |body: &serde_json::Map<String, Value>| {
            let body = serde_json::to_vec(body).unwrap();
            let crc = crc32fast::hash(&body);
            let rest = std::str::from_utf8(&body[1..]).unwrap();
            Line::read(format!("{{\"crc32\":\"{crc:08x}\",{rest}").as_bytes(), 0)
        };
        let members = body["session"].as_object_mut().unwrap();
        members.remove("preferences");
        members.insert("unset".to_owned(), Value::Null);
        assert!(read(&body).is_ok());
        body["session"]
            .as_object_mut()
            .unwrap()
            .insert("mood".to_owned(), "good".into());
        assert!(read(&body).unwrap_err().message().contains("newer"));
    }

    #[test]
    fn a_document_of_any_bytes_comes_back() {
        for value in [&b""[..], b"text", b"{\"a\":1}", &[0xff, 0, 7]] {
            let line = RecordLine::new("k", "1".to_owned(), value.to_vec());
            let (read, _) = Line::read(&written(&Line::Record(line.clone())), 0).unwrap();
            assert_eq!(read, Line::Record(line.clone()));
            assert_eq!(line.value().unwrap(), value);
        }
    }

    proptest! {
        #[test]
        fn one_flipped_bit_is_found(at in any::<prop::sample::Index>(), bit in 0..8) {
            let mut text = written(&session());
            let at = at.index(text.len());
            text[at] ^= 1_u8 << bit;
            let error = Line::read(&text, 0).unwrap_err();
            prop_assert!(!error.to_string().contains("Licht"), "{}", error);
        }

        #[test]
        fn bytes_that_are_no_line_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            prop_assert!(Line::read(&bytes, 0).is_err());
        }
    }
}
