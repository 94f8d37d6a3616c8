//! What went over the wire in one completion, as a file: for a bug report, and to be replayed.

use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::CompletionRequest;
use crate::error::{Error, ErrorKind, Result};

/// The format that is written and read.
const FORMAT: u32 = 1;
/// How many recordings a directory holds of one provider. More are not written.
const MAX_FILES: usize = 1000;
/// The largest file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 256 << 20;
/// How keys begin, and how much of what follows is surely one, in bytes.
const KEY_PREFIXES: &[(&str, usize)] = &[
    ("sk-", 8),
    ("Bearer ", 8),
    ("AIza", 20),
    ("gsk_", 8),
    ("xai-", 8),
];

/// One completion as it went over the wire, with times: every attempt, frame by frame.
///
/// It has the words of the model, which is what it is for. It has neither keys, which are replaced
/// by stars of the same number wherever they appear, nor the learner's words: of the request it has
/// the shape, and where a provider repeats it in an error there are stars.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Recording {
    format: u32,
    /// The protocol: the name of a [`ProviderKind`](super::ProviderKind).
    pub kind: String,
    /// The provider's name.
    pub provider: String,
    /// The model that was asked for.
    pub model: String,
    /// What was asked, without the words.
    pub request: Shape,
    /// What was sent and received, one for each attempt.
    pub exchanges: Vec<Exchange>,
}

/// A request without its words.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Shape {
    /// Characters of the instructions.
    pub system_chars: Option<usize>,
    /// Characters of each message.
    pub message_chars: Vec<usize>,
    /// Its sampling temperature.
    pub temperature: Option<f64>,
    /// Its limit of the reply.
    pub max_tokens: Option<u64>,
    /// How many tools it offers.
    pub tools: usize,
    /// True if it wants a certain form of reply.
    pub has_output_schema: bool,
}

/// One request and its answer. Times are milliseconds from the beginning of the completion.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Exchange {
    /// The path that was asked for.
    pub path: String,
    /// When it was sent.
    pub sent_ms: u64,
    /// When the answer began; `None` if it never did.
    pub answered_ms: Option<u64>,
    /// The HTTP status.
    pub status: Option<u16>,
    /// Those headers of the answer that matter.
    pub headers: Vec<(String, String)>,
    /// The body, in the pieces in which it came.
    pub frames: Vec<Piece>,
    /// How it ended.
    pub end: End,
}

/// A piece of a body.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Piece {
    /// When it came.
    pub at_ms: u64,
    /// Its bytes, if they are text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Its bytes in hexadecimal, if they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hex: Option<String>,
}

/// How an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// The answer was complete.
    Complete,
    /// The connection could not be made, or broke.
    Broken,
    /// Nobody waited for more.
    Dropped,
    /// There was more than a recording holds.
    Cut,
}

impl Piece {
    pub(crate) fn new(at_ms: u64, bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self {
                at_ms,
                text: Some(text.to_owned()),
                hex: None,
            },
            Err(_) => Self {
                at_ms,
                text: None,
                hex: Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect()),
            },
        }
    }

    /// The bytes, as they came.
    pub fn bytes(&self) -> Vec<u8> {
        if let Some(text) = &self.text {
            return text.clone().into_bytes();
        }
        let hex = self.hex.as_deref().unwrap_or_default().as_bytes();
        let digit = |digit: u8| char::from(digit).to_digit(16).unwrap_or_default();
        let byte = |pair: &[u8]| {
            let value = pair.iter().fold(0, |value, d| value * 16 + digit(*d));
            u8::try_from(value).unwrap_or_default()
        };
        hex.chunks(2).map(byte).collect()
    }
}

impl Shape {
    pub(crate) fn of(request: &CompletionRequest) -> Self {
        Self {
            system_chars: request.system.as_ref().map(|text| text.chars().count()),
            message_chars: request
                .messages
                .iter()
                .map(|message| message.content.text().chars().count())
                .collect(),
            temperature: request.temperature,
            max_tokens: request.max_tokens,
            tools: request.tools.len(),
            has_output_schema: request.output.is_some(),
        }
    }
}

impl Recording {
    pub(crate) fn new(
        kind: &str,
        provider: String,
        request: &CompletionRequest,
        exchanges: Vec<Exchange>,
        keys: &[String],
    ) -> Self {
        let words: Vec<String> = request
            .messages
            .iter()
            .map(|message| message.content.text())
            .chain(request.system.clone())
            .collect();
        let exchanges = exchanges
            .into_iter()
            .map(|exchange| exchange.redacted(keys, &words));
        Self {
            format: FORMAT,
            kind: kind.to_owned(),
            provider,
            model: request.model.clone(),
            request: Shape::of(request),
            exchanges: exchanges.collect(),
        }
    }

    /// Reads a file that [`save_in`](Self::save_in) wrote. Blocks.
    ///
    /// # Errors
    /// `invalid_input` if it cannot be read, or is no recording of this version.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let wrong = |what: &'static str| {
            Error::new(ErrorKind::InvalidInput, what).with_context("path", path.display())
        };
        let unreadable =
            |error: std::io::Error| wrong("the recording cannot be read").with_source(error);
        if std::fs::metadata(path).map_err(unreadable)?.len() > MAX_FILE_BYTES {
            return Err(wrong("the recording is too large"));
        }
        let text = std::fs::read(path).map_err(unreadable)?;
        // What a parser says may quote the file.
        let recording: Self =
            serde_json::from_slice(&text).map_err(|_| wrong("the file is no recording"))?;
        if recording.format != FORMAT {
            return Err(wrong("the recording is of another version of this program"));
        }
        Ok(recording)
    }

    /// Writes it into a file of its own in `directory`, which is made if it is missing; only the
    /// owner can read the file. Blocks.
    ///
    /// # Errors
    /// `invalid_input` if it cannot be written, or the directory has 1000 recordings of the
    /// provider already.
    pub fn save_in(&self, directory: &Path) -> Result<PathBuf> {
        let failed = |error: std::io::Error| {
            Error::new(ErrorKind::InvalidInput, "the recording cannot be written")
                .with_context("directory", directory.display())
                .with_source(error)
        };
        let text = serde_json::to_vec_pretty(self)
            .map_err(|error| Error::internal("a recording is no JSON").with_source(error))?;
        std::fs::create_dir_all(directory).map_err(failed)?;
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
        let name: String = self.provider.chars().map(plain).collect();
        for number in 1..=MAX_FILES {
            let path = directory.join(format!("{name}-{number:04}.json"));
            let mut options = std::fs::OpenOptions::new();
            options.write(true).create_new(true);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            match options.open(&path) {
                Ok(mut file) => {
                    file.write_all(&text).map_err(failed)?;
                    return Ok(path);
                }
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Err(
            Error::invalid_input("the directory is full of recordings: remove some")
                .with_context("directory", directory.display()),
        )
    }
}

impl Exchange {
    fn redacted(mut self, keys: &[String], words: &[String]) -> Self {
        let mut body: Vec<u8> = self.frames.iter().flat_map(Piece::bytes).collect();
        for key in keys {
            cover(&mut body, key.as_bytes());
        }
        cover_likely_keys(&mut body);
        // A model may say what the learner said; an error has no reason to.
        if !self
            .status
            .is_some_and(|status| (200..300).contains(&status))
        {
            for word in words.iter().filter(|word| !word.is_empty()) {
                cover(&mut body, word.as_bytes());
                let escaped = serde_json::Value::from(word.as_str()).to_string();
                cover(&mut body, &escaped.as_bytes()[1..escaped.len() - 1]);
            }
        }
        let mut rest = body.as_slice();
        for frame in &mut self.frames {
            let (bytes, after) = rest.split_at(frame.bytes().len().min(rest.len()));
            *frame = Piece::new(frame.at_ms, bytes);
            rest = after;
        }
        self
    }
}

/// Puts stars wherever `secret` is.
fn cover(body: &mut [u8], secret: &[u8]) {
    if secret.is_empty() || secret.len() > body.len() {
        return;
    }
    for at in 0..=body.len() - secret.len() {
        if body[at..].starts_with(secret) {
            body[at..at + secret.len()].fill(b'*');
        }
    }
}

/// Puts stars over what begins like a key.
fn cover_likely_keys(body: &mut [u8]) {
    let is_key = |b: &u8| b.is_ascii_alphanumeric() || b"_-.".contains(b);
    for (prefix, least) in KEY_PREFIXES {
        let mut at = 0;
        while at + prefix.len() < body.len() {
            let begins = body[at..].starts_with(prefix.as_bytes())
                && (at == 0 || !body[at - 1].is_ascii_alphanumeric());
            if begins {
                let start = at + prefix.len();
                let long = body[start..].iter().take_while(|b| is_key(b)).count();
                if long >= *least {
                    body[start..start + long].fill(b'*');
                }
                at = start + long;
            } else {
                at += 1;
            }
        }
    }
}

impl fmt::Debug for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recording")
            .field("kind", &self.kind)
            .field("provider", &self.provider)
            .field("request", &self.request)
            .field("exchanges", &self.exchanges)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange")
            .field("path", &self.path)
            .field("status", &self.status)
            .field("frames", &self.frames.len())
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} bytes at {} ms>", self.bytes().len(), self.at_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_words_are_covered_also_across_pieces_and_lengths_stay() {
        let said = "say \"it\"";
        let body = br#"{"error": "key canary-key or sk-12345678x was sent: say \"it\""}"#;
        let exchange = |status| Exchange {
            path: "/".to_owned(),
            sent_ms: 0,
            answered_ms: Some(1),
            status: Some(status),
            headers: Vec::new(),
            frames: body.chunks(7).map(|bytes| Piece::new(2, bytes)).collect(),
            end: End::Complete,
        };
        let request = CompletionRequest::new("m", said);
        let keys = ["canary-key".to_owned()];
        let recording = Recording::new(
            "openai",
            "main".to_owned(),
            &request,
            vec![exchange(401), exchange(200)],
            &keys,
        );
        let bodies: Vec<_> = recording
            .exchanges
            .iter()
            .map(|e| e.frames.iter().flat_map(Piece::bytes).collect::<Vec<u8>>())
            .map(|bytes| String::from_utf8(bytes).unwrap())
            .collect();
        assert_eq!(
            bodies[0],
            r#"{"error": "key ********** or sk-********* was sent: **********"}"#
        );
        assert!(bodies[1].contains(r#"say \"it\""#) && !bodies[1].contains("canary"));
        assert_eq!(bodies[0].len(), body.len());
        assert!(!format!("{recording:?}").contains("say"));
    }

    #[test]
    fn a_file_is_read_back_as_it_was_and_a_foreign_one_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let request = CompletionRequest::new("m", "?");
        let exchange = Exchange {
            path: "/v1".to_owned(),
            sent_ms: 0,
            answered_ms: None,
            status: None,
            headers: vec![("retry-after".to_owned(), "1".to_owned())],
            frames: vec![Piece::new(1, b"a"), Piece::new(2, b"\xff\x00")],
            end: End::Broken,
        };
        let recording = Recording::new("openai", "a/b".to_owned(), &request, vec![exchange], &[]);
        let path = recording.save_in(&directory.path().join("new")).unwrap();
        assert_eq!(Recording::open(&path).unwrap(), recording);
        let second = recording.save_in(&directory.path().join("new")).unwrap();
        assert_ne!(second, path);
        let bytes = recording.exchanges[0].frames[1].bytes();
        assert_eq!(bytes, b"\xff\x00");
        let foreign = directory.path().join("x.json");
        std::fs::write(&foreign, "{\"canary\": 1}").unwrap();
        let error = Recording::open(&foreign).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(!format!("{error:?}").contains("canary"));
    }
}
