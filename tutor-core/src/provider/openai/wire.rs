//! The shape of a Chat Completions chunk: a union of all dialects.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::message::Usage;
use crate::provider::calls::Fragment;
use crate::provider::json::{Count, Wide, Word, lenient};

/// One event, or a whole reply: every field may be missing, null, or of a wrong type.
#[derive(Deserialize)]
pub(super) struct Chunk<'a> {
    #[serde(default, borrow)]
    pub(super) choices: Option<Vec<Option<Choice<'a>>>>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) usage: Option<WireUsage>,
    #[serde(default, borrow, deserialize_with = "lenient")]
    pub(super) x_groq: Option<Groq<'a>>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) r#type: Option<Word>,
    #[serde(default, borrow, deserialize_with = "lenient")]
    pub(super) candidates: Option<&'a RawValue>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) object: Option<Word>,
}

impl Chunk<'_> {
    /// True for an event of another protocol, which means that the base URL is wrong.
    pub(super) fn is_foreign(&self) -> bool {
        self.choices.is_none()
            && (self.candidates.is_some()
                || self
                    .object
                    .as_ref()
                    .is_some_and(|object| object.0 == "response")
                || self.r#type.as_ref().is_some_and(|kind| {
                    kind.0.starts_with("response.") || kind.0.starts_with("message")
                }))
    }
}

#[derive(Deserialize)]
pub(super) struct Groq<'a> {
    #[serde(default, deserialize_with = "lenient")]
    pub(super) usage: Option<WireUsage>,
    #[serde(default, borrow, deserialize_with = "lenient")]
    pub(super) error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
pub(super) struct Choice<'a> {
    #[serde(default, deserialize_with = "lenient")]
    pub(super) index: Option<i64>,
    #[serde(default, borrow)]
    pub(super) delta: Option<Message<'a>>,
    #[serde(default, borrow)]
    pub(super) message: Option<Message<'a>>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) finish_reason: Option<Word>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) native_finish_reason: Option<Word>,
    #[serde(default, borrow, deserialize_with = "lenient")]
    pub(super) error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
pub(super) struct Message<'a> {
    #[serde(default)]
    pub(super) content: Option<Pieces>,
    #[serde(default)]
    pub(super) refusal: Option<Wide>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) reasoning_content: Option<Wide>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) reasoning: Option<Wide>,
    #[serde(default, borrow, deserialize_with = "lenient")]
    pub(super) reasoning_details: Option<Vec<&'a RawValue>>,
    #[serde(default, borrow)]
    pub(super) tool_calls: Option<Vec<Option<CallDelta<'a>>>>,
    #[serde(default, borrow)]
    pub(super) function_call: Option<FunctionDelta<'a>>,
}

/// The readable part of a detail of thinking.
#[derive(Deserialize)]
pub(super) struct ReasoningDetail {
    #[serde(default, deserialize_with = "lenient")]
    text: Option<Wide>,
    #[serde(default, deserialize_with = "lenient")]
    summary: Option<Wide>,
}

impl ReasoningDetail {
    /// What `raw` says, if anything.
    pub(super) fn read(raw: &RawValue) -> Option<Wide> {
        let detail: Self = serde_json::from_str(raw.get()).ok()?;
        detail.text.or(detail.summary)
    }
}

/// A fragment of a call.
#[derive(Deserialize)]
pub(super) struct CallDelta<'a> {
    #[serde(default, deserialize_with = "lenient")]
    pub(super) index: Option<i64>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) id: Option<Word>,
    #[serde(default, borrow)]
    pub(super) function: Option<FunctionDelta<'a>>,
    #[serde(default, borrow, deserialize_with = "lenient")]
    pub(super) extra_content: Option<&'a RawValue>,
}

/// What a fragment adds.
#[derive(Default, Deserialize)]
pub(super) struct FunctionDelta<'a> {
    #[serde(default, deserialize_with = "lenient")]
    name: Option<Word>,
    #[serde(default, borrow, deserialize_with = "lenient")]
    arguments: Option<&'a RawValue>,
}

impl From<CallDelta<'_>> for Fragment {
    fn from(delta: CallDelta<'_>) -> Self {
        Self {
            index: delta.index,
            id: delta.id.map(|id| id.0).unwrap_or_default(),
            ..delta.function.unwrap_or_default().into()
        }
    }
}

impl From<FunctionDelta<'_>> for Fragment {
    fn from(delta: FunctionDelta<'_>) -> Self {
        Self {
            name: delta.name.map(|name| name.0).unwrap_or_default(),
            arguments: delta.arguments.map(arguments).unwrap_or_default(),
            ..Self::default()
        }
    }
}

/// The arguments of a tool call: a string's content, anything else as it stands.
fn arguments(raw: &RawValue) -> Wide {
    serde_json::from_str(raw.get()).unwrap_or_else(|_| Wide::from(raw.get()))
}

/// A string, or an array of typed parts.
#[derive(Debug, Default)]
pub(super) struct Pieces(pub(super) Vec<Piece>);

#[derive(Debug)]
pub(super) enum Piece {
    Text(Wide),
    Thought(Wide),
}

#[derive(Deserialize)]
struct TypedPart {
    #[serde(default, deserialize_with = "lenient")]
    text: Option<Wide>,
    #[serde(default, deserialize_with = "lenient")]
    thinking: Option<Thoughts>,
}

/// Not like [`Pieces`] inside of it: what a server may nest must not be read by recursion.
#[derive(Deserialize)]
#[serde(transparent)]
struct Thoughts(#[serde(deserialize_with = "thoughts")] Vec<Wide>);

#[derive(Deserialize)]
struct Thought {
    #[serde(default, deserialize_with = "lenient")]
    text: Option<Wide>,
}

/// Reads a string, or an array of parts with texts.
fn thoughts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Wide>, D::Error> {
    let raw = <&'de RawValue>::deserialize(deserializer)?;
    let thoughts = if raw.get().starts_with('"') {
        serde_json::from_str(raw.get()).map(|text| vec![text])
    } else {
        serde_json::from_str::<Vec<Option<Thought>>>(raw.get())
            .map(|parts| parts.into_iter().filter_map(|part| part?.text).collect())
    };
    thoughts.map_err(de::Error::custom)
}

impl<'de> Deserialize<'de> for Pieces {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PiecesVisitor;
        impl<'de> Visitor<'de> for PiecesVisitor {
            type Value = Pieces;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of parts")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Pieces, A::Error> {
                let mut pieces = Vec::new();
                while let Some(part) = parts.next_element::<Option<TypedPart>>()? {
                    let Some(part) = part else { continue };
                    pieces.extend(part.text.map(Piece::Text));
                    let thoughts = part.thinking.map(|thoughts| thoughts.0);
                    pieces.extend(thoughts.into_iter().flatten().map(Piece::Thought));
                }
                Ok(Pieces(pieces))
            }
        }
        let raw = <&'de RawValue>::deserialize(deserializer)?;
        let pieces = if raw.get().starts_with('"') {
            serde_json::from_str(raw.get()).map(|text| Self(vec![Piece::Text(text)]))
        } else {
            serde_json::Deserializer::from_str(raw.get()).deserialize_seq(PiecesVisitor)
        };
        pieces.map_err(de::Error::custom)
    }
}

#[derive(Clone, Copy, Deserialize)]
pub(super) struct WireUsage {
    #[serde(default, deserialize_with = "lenient")]
    prompt_tokens: Option<Count>,
    #[serde(default, deserialize_with = "lenient")]
    completion_tokens: Option<Count>,
    #[serde(default, deserialize_with = "lenient")]
    total_tokens: Option<Count>,
    #[serde(default, deserialize_with = "lenient")]
    prompt_cache_hit_tokens: Option<Count>,
    #[serde(default, deserialize_with = "lenient")]
    prompt_tokens_details: Option<PromptDetails>,
    #[serde(default, deserialize_with = "lenient")]
    completion_tokens_details: Option<CompletionDetails>,
}

#[derive(Clone, Copy, Deserialize)]
struct PromptDetails {
    #[serde(default, deserialize_with = "lenient")]
    cached_tokens: Option<Count>,
    #[serde(default, deserialize_with = "lenient")]
    cache_write_tokens: Option<Count>,
}

#[derive(Clone, Copy, Deserialize)]
struct CompletionDetails {
    #[serde(default, deserialize_with = "lenient")]
    reasoning_tokens: Option<Count>,
}

impl WireUsage {
    pub(super) fn normalized(self) -> Usage {
        let count = |count: Option<Count>| count.map(|count| count.0);
        let input = count(self.prompt_tokens);
        let reasoning = self
            .completion_tokens_details
            .and_then(|details| count(details.reasoning_tokens));
        let mut output = count(self.completion_tokens);
        // xAI counts reasoning beside the completion and not as a part of it; the total tells.
        if let (Some(input), Some(completion), Some(reasoning), Some(total)) =
            (input, output, reasoning, count(self.total_tokens))
            && reasoning > 0
            && total > input + completion
        {
            output = Some(total - input);
        }
        let cached = self
            .prompt_tokens_details
            .and_then(|details| count(details.cached_tokens));
        Usage {
            input_tokens: input,
            cached_input_tokens: cached.or(count(self.prompt_cache_hit_tokens)),
            cache_write_tokens: self
                .prompt_tokens_details
                .and_then(|details| count(details.cache_write_tokens)),
            output_tokens: output,
            reasoning_tokens: reasoning,
            cost_usd: None,
        }
    }
}
