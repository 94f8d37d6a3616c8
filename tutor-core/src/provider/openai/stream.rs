//! The chunks of a Chat Completions stream, as OpenAI and its many imitators send them.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::calls::{CallDelta, Calls, FunctionDelta};
use crate::event::Notice;
use crate::message::{FinishReason, Usage};
use crate::provider::Delta;
use crate::provider::fault::{Failure, Fault};
use crate::provider::json::{Count, Joiner, Wide, Word, lenient};
use crate::provider::rejection::Rejection;
use crate::provider::reply::{Progress, Protocol, read_document, read_json};

/// What has been read of one completion. Only choice 0 is ours.
#[derive(Debug, Default)]
pub(crate) struct ChatStream {
    text: Joiner,
    reasoning: Joiner,
    refusal: Joiner,
    calls: Calls,
    usage: Usage,
    finish: Option<String>,
    native_finish: Option<String>,
    /// Some chunk of this protocol has come.
    begun: bool,
    said: bool,
    refused: bool,
}

impl Protocol for ChatStream {
    fn event(&mut self, json: &str, out: &mut Vec<Delta>) -> Result<Progress, Failure> {
        read_json(json, |json| {
            serde_json::from_str::<Chunk<'_>>(json).map(|chunk| self.chunk(chunk, out))
        })?
    }

    fn document(&mut self, json: &str, out: &mut Vec<Delta>) -> Result<(), Failure> {
        read_document(json, |json| {
            serde_json::from_str::<Chunk<'_>>(json).map(|chunk| self.chunk(chunk, out))
        })??;
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<Delta>) -> Result<(), Failure> {
        let Some(finish) = self.finish.take() else {
            // `[DONE]` and nothing else is an answer, although an empty one.
            let fault = if self.begun {
                Fault::TruncatedStream
            } else {
                Fault::EmptyResponse
            };
            return Err(Failure::new(fault));
        };
        push(out, Delta::Reasoning(self.reasoning.finish().to_owned()));
        push(out, Delta::Text(self.text.finish().to_owned()));
        push(out, Delta::Refusal(self.refusal.finish().to_owned()));
        let reason = self.reason(&finish)?;
        let empty = !self.said && !self.refused && self.calls.is_empty();
        out.extend(std::mem::take(&mut self.calls).finish(reason == FinishReason::Length));
        if empty && !matches!(reason, FinishReason::ContentFilter) {
            out.push(Delta::Notice(Notice::new(
                "empty_output",
                "the model ended its reply without saying anything",
            )));
        }
        out.push(Delta::Finished { reason });
        Ok(())
    }
}

impl ChatStream {
    fn chunk(&mut self, chunk: Chunk<'_>, out: &mut Vec<Delta>) -> Result<Progress, Failure> {
        if let Some(error) = chunk.x_groq.as_ref().and_then(|groq| groq.error) {
            return Err(Rejection::of_body(error.get()).into_failure(None));
        }
        if chunk.is_foreign() && !self.begun {
            return Err(Failure::hopeless(Fault::Malformed));
        }
        self.begun = true;
        for choice in chunk.choices.unwrap_or_default() {
            if choice.index.is_none_or(|index| index == 0) {
                self.choice(choice, out)?;
            }
        }
        let usage = chunk
            .usage
            .or_else(|| chunk.x_groq.and_then(|groq| groq.usage))
            .map(WireUsage::normalized);
        if let Some(usage) = usage.filter(|usage| !usage.is_empty() && *usage != self.usage) {
            self.usage = usage;
            out.push(Delta::Usage(usage));
        }
        Ok(match (&self.finish, self.usage.is_empty()) {
            (None, _) => Progress::Running,
            (Some(_), true) => Progress::Replied,
            (Some(_), false) => Progress::Counted,
        })
    }

    fn choice(&mut self, choice: Choice<'_>, out: &mut Vec<Delta>) -> Result<(), Failure> {
        if let Some(delta) = choice.delta.or(choice.message) {
            let details = delta
                .reasoning_details
                .unwrap_or_default()
                .into_iter()
                .filter_map(|detail| detail.text);
            let reasoning = [delta.reasoning_content, delta.reasoning]
                .into_iter()
                .flatten()
                .chain(details);
            // Servers repeat the same thought under several names.
            if let Some(thought) = reasoning.into_iter().find(|thought| !thought.is_empty()) {
                push(out, Delta::Reasoning(self.reasoning.push(&thought)));
            }
            for piece in delta.content.unwrap_or_default().0 {
                match piece {
                    Piece::Text(text) => {
                        self.said |= !text.is_empty();
                        push(out, Delta::Text(self.text.push(&text)));
                    }
                    Piece::Thought(thought) => {
                        push(out, Delta::Reasoning(self.reasoning.push(&thought)))
                    }
                }
            }
            if let Some(refusal) = delta.refusal {
                self.refused |= !refusal.is_empty();
                push(out, Delta::Refusal(self.refusal.push(&refusal)));
            }
            for call in delta.tool_calls.unwrap_or_default() {
                self.calls.push(call)?;
            }
            if let Some(function) = delta.function_call {
                self.calls.push(CallDelta {
                    index: Some(0),
                    id: None,
                    function: Some(function),
                })?;
            }
        }
        if let Some(finish) = choice.finish_reason.filter(|finish| !finish.0.is_empty()) {
            self.finish = Some(finish.0);
            self.native_finish = choice.native_finish_reason.map(|finish| finish.0);
        }
        Ok(())
    }

    fn reason(&self, finish: &str) -> Result<FinishReason, Failure> {
        let cut = self.native_finish.as_deref().is_some_and(|native| {
            matches!(
                native.to_ascii_lowercase().as_str(),
                "length" | "max_tokens" | "max_output_tokens"
            )
        });
        Ok(match finish {
            "length" | "max_tokens" | "model_length" => FinishReason::Length,
            "tool_calls" | "function_call" if cut => FinishReason::Length,
            "tool_calls" | "function_call" => FinishReason::ToolCalls,
            "stop" if self.refused => FinishReason::Refusal,
            "stop" if !self.calls.is_empty() => FinishReason::ToolCalls,
            "stop" => FinishReason::Stop,
            "content_filter" => FinishReason::ContentFilter,
            "insufficient_system_resource" => {
                return Err(
                    Failure::new(Fault::Overloaded).with_token("provider_code", Some(finish))
                );
            }
            "error" => {
                return Err(Failure::new(Fault::Server).with_token("provider_code", Some(finish)));
            }
            _ => FinishReason::Other,
        })
    }
}

fn push(out: &mut Vec<Delta>, delta: Delta) {
    if !matches!(&delta, Delta::Text(text) | Delta::Reasoning(text) | Delta::Refusal(text) if text.is_empty())
    {
        out.push(delta);
    }
}

/// One event, or a whole reply: every field may be missing, null, or of a wrong type.
#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(default, borrow)]
    choices: Option<Vec<Choice<'a>>>,
    #[serde(default, deserialize_with = "lenient")]
    usage: Option<WireUsage>,
    #[serde(default, borrow, deserialize_with = "lenient")]
    x_groq: Option<Groq<'a>>,
    #[serde(default, deserialize_with = "lenient")]
    r#type: Option<Word>,
    #[serde(default, borrow, deserialize_with = "lenient")]
    candidates: Option<&'a RawValue>,
    #[serde(default, deserialize_with = "lenient")]
    object: Option<Word>,
}

impl Chunk<'_> {
    /// True for an event of another protocol, which means that the base URL is wrong.
    fn is_foreign(&self) -> bool {
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
struct Groq<'a> {
    #[serde(default, deserialize_with = "lenient")]
    usage: Option<WireUsage>,
    #[serde(default, borrow, deserialize_with = "lenient")]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(default, deserialize_with = "lenient")]
    index: Option<i64>,
    #[serde(default, borrow)]
    delta: Option<Message<'a>>,
    #[serde(default, borrow)]
    message: Option<Message<'a>>,
    #[serde(default, deserialize_with = "lenient")]
    finish_reason: Option<Word>,
    #[serde(default, deserialize_with = "lenient")]
    native_finish_reason: Option<Word>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(default)]
    content: Option<Pieces>,
    #[serde(default)]
    refusal: Option<Wide>,
    #[serde(default, deserialize_with = "lenient")]
    reasoning_content: Option<Wide>,
    #[serde(default, deserialize_with = "lenient")]
    reasoning: Option<Wide>,
    #[serde(default, deserialize_with = "lenient")]
    reasoning_details: Option<Vec<ReasoningDetail>>,
    #[serde(default, borrow)]
    tool_calls: Option<Vec<CallDelta<'a>>>,
    #[serde(default, borrow)]
    function_call: Option<FunctionDelta<'a>>,
}

#[derive(Deserialize)]
struct ReasoningDetail {
    #[serde(default, deserialize_with = "lenient")]
    text: Option<Wide>,
}

/// A string, or an array of typed parts.
#[derive(Debug, Default)]
struct Pieces(Vec<Piece>);

#[derive(Debug)]
enum Piece {
    Text(Wide),
    Thought(Wide),
}

#[derive(Deserialize)]
struct TypedPart {
    #[serde(default, deserialize_with = "lenient")]
    text: Option<Wide>,
    #[serde(default)]
    thinking: Option<Pieces>,
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
                while let Some(part) = parts.next_element::<TypedPart>()? {
                    pieces.extend(part.text.map(Piece::Text));
                    let thoughts = part.thinking.unwrap_or_default().0.into_iter();
                    pieces
                        .extend(thoughts.map(|(Piece::Text(text) | Piece::Thought(text))| {
                            Piece::Thought(text)
                        }));
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
struct WireUsage {
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
    fn normalized(self) -> Usage {
        let count = |count: Option<Count>| count.map(|count| count.0);
        let input = count(self.prompt_tokens);
        let reasoning = self
            .completion_tokens_details
            .and_then(|details| count(details.reasoning_tokens));
        let mut output = count(self.completion_tokens);
        // xAI counts reasoning beside the completion and not as a part of it; the total tells.
        if let (Some(input), Some(completion), Some(reasoning), Some(total)) =
            (input, output, reasoning, count(self.total_tokens))
            && input + completion + reasoning == total
        {
            output = Some(completion + reasoning);
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
