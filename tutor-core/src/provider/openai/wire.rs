//! The shape of a Chat Completions chunk: a union of all dialects.

use serde::Deserialize;
use serde::de::{self, Deserializer};
use serde_json::value::RawValue;

use crate::message::Usage;
use crate::provider::calls::Fragment;
use crate::provider::json::{Wide, Word, count, lenient, raw};
use crate::provider::usage::{InputDetails, OutputDetails};

/// One event, or a whole reply: every field may be missing, null, or of a wrong type.
#[derive(Deserialize)]
pub(super) struct Chunk<'a> {
    #[serde(default, borrow)]
    pub(super) choices: Option<Vec<Option<Choice<'a>>>>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) usage: Option<WireUsage>,
    #[serde(default, borrow, deserialize_with = "lenient")]
    pub(super) x_groq: Option<Groq<'a>>,
}

impl Chunk<'_> {
    /// The text of the reply as it stands in the chunk, if the chunk has nothing else to say.
    pub(super) fn only_text(&self) -> Option<&str> {
        let Some([Some(choice)]) = self.choices.as_deref() else {
            return None;
        };
        let says_more = self.usage.is_some()
            || self.x_groq.is_some()
            || choice.index.is_some_and(|index| index != 0)
            || choice.message.is_some()
            || choice.finish_reason.is_some()
            || choice.native_finish_reason.is_some()
            || choice.error.is_some();
        let delta = choice.delta.as_ref().filter(|_| !says_more)?;
        let says_more = delta.refusal.is_some()
            || delta.reasoning_content.is_some()
            || delta.reasoning.is_some()
            || delta.reasoning_details.is_some()
            || delta.tool_calls.is_some()
            || delta.function_call.is_some();
        let text = delta.content.filter(|_| !says_more)?.get();
        text.starts_with('"').then_some(text)
    }
}

/// What tells events of other protocols.
#[derive(Deserialize)]
struct Foreign<'a> {
    #[serde(default, borrow, deserialize_with = "raw")]
    r#type: Option<&'a RawValue>,
    #[serde(default, borrow, deserialize_with = "raw")]
    candidates: Option<&'a RawValue>,
    #[serde(default, borrow, deserialize_with = "raw")]
    object: Option<&'a RawValue>,
}

/// True for an event of another protocol, which means that the base URL is wrong.
pub(super) fn is_foreign(json: &str) -> bool {
    let begins = |word: Option<&RawValue>, with: &str| {
        word.and_then(|word| word.get().strip_prefix('"'))
            .is_some_and(|word| word.starts_with(with))
    };
    serde_json::from_str::<Foreign<'_>>(json).is_ok_and(|event| {
        event.candidates.is_some()
            || begins(event.object, "response\"")
            || begins(event.r#type, "response.")
            || begins(event.r#type, "message")
    })
}

#[derive(Deserialize)]
pub(super) struct Groq<'a> {
    #[serde(default, deserialize_with = "lenient")]
    pub(super) usage: Option<WireUsage>,
    #[serde(default, borrow, deserialize_with = "raw")]
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
    #[serde(default, borrow, deserialize_with = "raw")]
    pub(super) error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
pub(super) struct Message<'a> {
    /// A string, or an array of typed parts.
    #[serde(default, borrow, deserialize_with = "raw")]
    pub(super) content: Option<&'a RawValue>,
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
    #[serde(default, borrow, deserialize_with = "raw")]
    pub(super) extra_content: Option<&'a RawValue>,
}

/// What a fragment adds.
#[derive(Default, Deserialize)]
pub(super) struct FunctionDelta<'a> {
    #[serde(default, deserialize_with = "lenient")]
    name: Option<Word>,
    #[serde(default, borrow, deserialize_with = "raw")]
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

/// The parts of a content that is no string.
///
/// # Errors
/// For what is no array of objects.
pub(super) fn pieces(content: &RawValue) -> serde_json::Result<Vec<Piece>> {
    let parts: Vec<Option<TypedPart>> = serde_json::from_str(content.get())?;
    let mut pieces = Vec::new();
    for part in parts.into_iter().flatten() {
        pieces.extend(part.text.map(Piece::Text));
        let thoughts = part.thinking.map(|thoughts| thoughts.0);
        pieces.extend(thoughts.into_iter().flatten().map(Piece::Thought));
    }
    Ok(pieces)
}

#[derive(Clone, Copy, Deserialize)]
pub(super) struct WireUsage {
    #[serde(default, deserialize_with = "count")]
    prompt_tokens: Option<u64>,
    #[serde(default, deserialize_with = "count")]
    completion_tokens: Option<u64>,
    #[serde(default, deserialize_with = "count")]
    total_tokens: Option<u64>,
    #[serde(default, deserialize_with = "count")]
    prompt_cache_hit_tokens: Option<u64>,
    #[serde(default, deserialize_with = "lenient")]
    prompt_tokens_details: Option<InputDetails>,
    #[serde(default, deserialize_with = "lenient")]
    completion_tokens_details: Option<OutputDetails>,
}

impl WireUsage {
    pub(super) fn normalized(self) -> Usage {
        let details = self.prompt_tokens_details.unwrap_or_default();
        let output_details = self.completion_tokens_details.unwrap_or_default();
        let (input, reasoning) = (self.prompt_tokens, output_details.reasoning_tokens);
        let mut output = self.completion_tokens;
        // xAI counts reasoning beside the completion and not as a part of it; the total tells.
        if let (Some(input), Some(completion), Some(reasoning), Some(total)) =
            (input, output, reasoning, self.total_tokens)
            && reasoning > 0
            && total > input + completion
        {
            output = Some(total - input);
        }
        Usage {
            input_tokens: input,
            cached_input_tokens: details.cached_tokens.or(self.prompt_cache_hit_tokens),
            output_tokens: output,
            reasoning_tokens: reasoning,
            ..details.written()
        }
    }
}
