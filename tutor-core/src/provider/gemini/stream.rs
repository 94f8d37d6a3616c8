//! The chunks of a `streamGenerateContent` answer.

use std::mem;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::message::{FinishReason, Usage};
use crate::provider::Delta;
use crate::provider::calls::Calls;
use crate::provider::fault::{Failure, Fault};
use crate::provider::json::{Joiner, Wide, Word, count, lenient, raw};
use crate::provider::reply::{Progress, Protocol, empty_output, push, read_document, read_json};

/// The largest signature of one part that is kept to be sent again, in bytes.
const MAX_SIGNATURE_BYTES: usize = 64 << 10;

/// Whose signatures are sent again.
pub(super) const PROTOCOL: &str = "gemini";

/// What has been read of one completion. Only candidate 0 is ours.
#[derive(Debug, Default)]
pub(crate) struct ContentStream {
    text: Joiner,
    reasoning: Joiner,
    calls: Calls,
    /// The signature of the call at each place.
    signatures: Vec<(usize, String)>,
    /// The signature of what was said.
    signature: Option<String>,
    usage: Usage,
    finish: Option<FinishReason>,
    begun: bool,
    said: bool,
}

impl Protocol for ContentStream {
    /// Without `alt=sse`, which proxies drop, the answer is an array of chunks.
    const VALUES: bool = true;

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
        let Some(mut reason) = self.finish.take() else {
            return Err(Failure::new(if self.begun {
                Fault::TruncatedStream
            } else {
                Fault::EmptyResponse
            }));
        };
        push(out, Delta::Reasoning(self.reasoning.finish().to_owned()));
        push(out, Delta::Text(self.text.finish().to_owned()));
        if reason == FinishReason::Stop && !self.calls.is_empty() {
            reason = FinishReason::ToolCalls;
        }
        let empty = !self.said && self.calls.is_empty();
        if empty && !matches!(reason, FinishReason::ContentFilter | FinishReason::Pause) {
            out.push(empty_output());
        }
        if let Some(data) = self.replay() {
            let protocol = PROTOCOL.into();
            out.push(Delta::Replay { protocol, data });
        }
        out.extend(mem::take(&mut self.calls).finish(reason == FinishReason::Length));
        out.push(Delta::Finished { reason });
        Ok(())
    }
}

impl ContentStream {
    fn chunk(&mut self, chunk: Chunk<'_>, out: &mut Vec<Delta>) -> Result<Progress, Failure> {
        if chunk.is_foreign() && !self.begun {
            return Err(Failure::hopeless(Fault::Malformed));
        }
        self.begun = true;
        let blocked = chunk
            .prompt_feedback
            .and_then(|feedback| feedback.block_reason)
            .filter(|reason| !reason.0.ends_with("UNSPECIFIED"));
        let candidates = chunk.candidates.unwrap_or_default();
        if let (Some(reason), true) = (blocked, candidates.is_empty()) {
            return Err(Failure::new(Fault::ContentFiltered)
                .with_status(200)
                .with_token("provider_code", Some(&reason.0)));
        }
        if let Some(usage) = chunk.usage_metadata.map(WireUsage::normalized)
            && !usage.is_empty()
            && usage != self.usage
        {
            self.usage = usage;
            out.push(Delta::Usage(usage));
        }
        let mut said = false;
        for candidate in candidates.into_iter().flatten() {
            if candidate.index.is_none_or(|index| index == 0) {
                said |= self.candidate(candidate, out)?;
            }
        }
        // A reason to finish may come before the end: only the end of the stream is one.
        Ok(match self.finish {
            Some(_) if !said => Progress::Replied,
            _ => Progress::Running,
        })
    }

    /// True if it says that more will come.
    fn candidate(
        &mut self,
        candidate: Candidate<'_>,
        out: &mut Vec<Delta>,
    ) -> Result<bool, Failure> {
        let parts = candidate.content.and_then(|content| content.parts);
        let parts: Vec<_> = parts.into_iter().flatten().collect();
        let more = !parts.is_empty() && candidate.finish_reason.is_none();
        for part in parts {
            // What a part is beside text and calls is of no use here.
            if let Ok(part) = serde_json::from_str::<Part<'_>>(part.get()) {
                self.part(part, out)?;
            }
        }
        let finish = candidate.finish_reason.map(|finish| finish.0);
        if let Some(finish) = finish.filter(|finish| !finish.ends_with("UNSPECIFIED")) {
            self.finish = Some(reason(&finish)?);
        }
        Ok(more)
    }

    fn part(&mut self, part: Part<'_>, out: &mut Vec<Delta>) -> Result<(), Failure> {
        let signature = part
            .thought_signature
            .map(|signature| signature.0)
            .filter(|signature| signature.len() <= MAX_SIGNATURE_BYTES);
        if let Some(call) = part.function_call {
            let word = |word: Option<Word>| word.map(|word| word.0).unwrap_or_default();
            let arguments = call.args.map(|args| Wide::from(args.get()));
            let at = self.calls.add(
                word(call.id),
                word(call.name),
                arguments.unwrap_or_default(),
            )?;
            self.signatures
                .extend(signature.map(|signature| (at, signature)));
            return Ok(());
        }
        self.signature = signature.or(self.signature.take());
        let Some(text) = part.text else { return Ok(()) };
        if part.thought == Some(true) {
            push(out, Delta::Reasoning(self.reasoning.push(text)));
        } else {
            self.said |= !text.is_empty();
            push(out, Delta::Text(self.text.push(text)));
        }
        Ok(())
    }

    /// The signatures by the ids of their calls; that of the text has no name.
    fn replay(&mut self) -> Option<Value> {
        let ids = self.calls.ids();
        let calls = mem::take(&mut self.signatures).into_iter();
        let calls = calls.filter_map(|(at, signature)| Some((ids.get(at)?.clone(), signature)));
        let text = self.signature.take().map(|text| (String::new(), text));
        let data: Map<String, Value> = calls
            .chain(text)
            .map(|(id, signature)| (id, signature.into()))
            .collect();
        (!data.is_empty()).then_some(Value::Object(data))
    }
}

/// What a reason to finish means.
fn reason(finish: &str) -> Result<FinishReason, Failure> {
    let fault = |fault| Err(Failure::new(fault).with_token("provider_code", Some(finish)));
    Ok(match finish {
        "STOP" => FinishReason::Stop,
        "MAX_TOKENS" => FinishReason::Length,
        "SAFETY" | "RECITATION" | "LANGUAGE" | "BLOCKLIST" | "PROHIBITED_CONTENT" | "SPII"
        | "MODEL_ARMOR" | "ESCALATION" => FinishReason::ContentFilter,
        image if image.starts_with("IMAGE_") => FinishReason::ContentFilter,
        "MALFORMED_FUNCTION_CALL"
        | "UNEXPECTED_TOOL_CALL"
        | "TOO_MANY_TOOL_CALLS"
        | "MALFORMED_RESPONSE"
        | "MISSING_THOUGHT_SIGNATURE" => return fault(Fault::ModelOutputInvalid),
        "CONTINUATION" => FinishReason::Pause,
        "PUP_LIMITED_DISABLED" => return fault(Fault::Permission),
        _ => FinishReason::Other,
    })
}

/// One chunk: every field may be missing, null, of a wrong type, or written in snake case.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Chunk<'a> {
    #[serde(default, borrow)]
    candidates: Option<Vec<Option<Candidate<'a>>>>,
    #[serde(default, alias = "usage_metadata", deserialize_with = "lenient")]
    usage_metadata: Option<WireUsage>,
    #[serde(default, alias = "prompt_feedback", deserialize_with = "lenient")]
    prompt_feedback: Option<Feedback>,
    #[serde(default, borrow, deserialize_with = "raw")]
    choices: Option<&'a RawValue>,
    #[serde(default, deserialize_with = "lenient")]
    r#type: Option<Word>,
}

impl Chunk<'_> {
    /// True for an event of another protocol, which means that the base URL is wrong.
    fn is_foreign(&self) -> bool {
        let ours = self.candidates.is_some()
            || self.usage_metadata.is_some()
            || self.prompt_feedback.is_some();
        !ours && (self.choices.is_some() || self.r#type.is_some())
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Feedback {
    #[serde(default, alias = "block_reason", deserialize_with = "lenient")]
    block_reason: Option<Word>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Candidate<'a> {
    #[serde(default, deserialize_with = "lenient")]
    index: Option<i64>,
    #[serde(default, borrow)]
    content: Option<Content<'a>>,
    #[serde(default, alias = "finish_reason", deserialize_with = "lenient")]
    finish_reason: Option<Word>,
}

#[derive(Deserialize)]
struct Content<'a> {
    #[serde(default, borrow)]
    parts: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Part<'a> {
    #[serde(default, deserialize_with = "lenient")]
    text: Option<Wide>,
    #[serde(default, deserialize_with = "lenient")]
    thought: Option<bool>,
    #[serde(default, alias = "thought_signature", deserialize_with = "lenient")]
    thought_signature: Option<Word>,
    #[serde(default, borrow, alias = "function_call")]
    function_call: Option<FunctionCall<'a>>,
}

#[derive(Deserialize)]
struct FunctionCall<'a> {
    #[serde(default, deserialize_with = "lenient")]
    id: Option<Word>,
    #[serde(default, deserialize_with = "lenient")]
    name: Option<Word>,
    #[serde(default, borrow, deserialize_with = "raw")]
    args: Option<&'a RawValue>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireUsage {
    #[serde(default, alias = "prompt_token_count", deserialize_with = "count")]
    prompt_token_count: Option<u64>,
    #[serde(
        default,
        alias = "tool_use_prompt_token_count",
        deserialize_with = "count"
    )]
    tool_use_prompt_token_count: Option<u64>,
    #[serde(
        default,
        alias = "cached_content_token_count",
        deserialize_with = "count"
    )]
    cached_content_token_count: Option<u64>,
    #[serde(default, alias = "candidates_token_count", deserialize_with = "count")]
    candidates_token_count: Option<u64>,
    #[serde(default, alias = "thoughts_token_count", deserialize_with = "count")]
    thoughts_token_count: Option<u64>,
}

impl WireUsage {
    fn normalized(self) -> Usage {
        let sum = |one: Option<u64>, other: Option<u64>| match (one, other) {
            (None, None) => None,
            (one, other) => Some(one.unwrap_or(0) + other.unwrap_or(0)),
        };
        Usage {
            input_tokens: sum(self.prompt_token_count, self.tool_use_prompt_token_count),
            cached_input_tokens: self.cached_content_token_count,
            // Thoughts are counted beside the candidates.
            output_tokens: sum(self.candidates_token_count, self.thoughts_token_count),
            reasoning_tokens: self.thoughts_token_count,
            ..Usage::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::provider::reply::testing;

    fn run(body: &str) -> (Vec<Delta>, Option<(Fault, bool)>) {
        testing::run(ContentStream::default(), body)
    }

    /// The events with the line ends that this server has.
    fn body(chunks: &[Value]) -> String {
        testing::body(chunks).replace('\n', "\r\n")
    }

    fn parts(parts: &Value) -> Value {
        json!({"candidates": [{"index": 0, "content": {"role": "model", "parts": parts}}]})
    }

    fn finish(reason: &str) -> Value {
        json!({"candidates": [{"content": {}, "finishReason": reason}]})
    }

    fn text(text: &str) -> Delta {
        Delta::Text(text.to_owned())
    }

    #[test]
    fn reasons_to_finish_are_known() {
        let said = parts(&json!([{"text": "x"}]));
        for (finish_reason, reason) in [
            ("STOP", FinishReason::Stop),
            ("MAX_TOKENS", FinishReason::Length),
            ("RECITATION", FinishReason::ContentFilter),
            ("IMAGE_SAFETY", FinishReason::ContentFilter),
            ("CONTINUATION", FinishReason::Pause),
            ("OTHER", FinishReason::Other),
            ("NEWLY_INVENTED", FinishReason::Other),
        ] {
            assert_eq!(
                run(&body(&[said.clone(), finish(finish_reason)])),
                (vec![text("x"), Delta::Finished { reason }], None),
                "{finish_reason}"
            );
        }
        for (finish_reason, fault, retryable) in [
            ("UNEXPECTED_TOOL_CALL", Fault::ModelOutputInvalid, true),
            ("PUP_LIMITED_DISABLED", Fault::Permission, false),
        ] {
            assert_eq!(
                run(&body(&[said.clone(), finish(finish_reason)])),
                (vec![text("x")], Some((fault, retryable)))
            );
        }
    }

    #[test]
    fn calls_come_whole_and_with_their_signatures() {
        let chunk = parts(&json!([
            {"functionCall": {"name": "f", "args": {"x": 1}}, "thoughtSignature": "S"},
            {"functionCall": {"name": "g", "id": "own"}},
        ]));
        let call = |id: &str, name: &str, arguments: &str| Delta::ToolCall {
            id: id.to_owned(),
            name: name.to_owned(),
            arguments: arguments.to_owned(),
        };
        let expected = vec![
            Delta::Replay {
                protocol: PROTOCOL.into(),
                data: json!({"call_0": "S"}),
            },
            call("call_0", "f", "{\"x\":1}"),
            call("own", "g", "{}"),
            Delta::Finished {
                reason: FinishReason::ToolCalls,
            },
        ];
        assert_eq!(run(&body(&[chunk, finish("STOP")])), (expected, None));
    }

    #[test]
    fn a_reason_to_finish_in_the_middle_is_not_the_end() {
        let chunks = [
            parts(&json!([{"text": "a"}])),
            finish("STOP"),
            parts(&json!([{"codeExecutionResult": {"output": "4"}}, {"text": "b"}])),
        ];
        let reason = FinishReason::Stop;
        let expected = vec![text("a"), text("b"), Delta::Finished { reason }];
        assert_eq!(run(&body(&chunks)), (expected, None));
    }

    #[test]
    fn an_array_without_events_is_read_the_same() {
        let chunks = [parts(&json!([{"text": "a"}])), finish("STOP")];
        let array = serde_json::to_string_pretty(&chunks).unwrap();
        assert_eq!(run(&array), run(&body(&chunks)));
        let cut = &array[..array.len() - 9];
        assert_eq!(run(cut).1, Some((Fault::TruncatedStream, true)));
        let error = json!([{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "details": [
            {"violations": [{"quotaId": "GenerateRequestsPerMinutePerProject"}]},
            {"retryDelay": "34.4s"},
        ]}}]);
        assert_eq!(run(&error.to_string()).1, Some((Fault::RateLimited, true)));
    }

    #[test]
    fn snake_case_is_read_too() {
        let chunk = json!({"candidates": [{"content": {"parts": [{"text": "a"}]}, "finish_reason": "STOP"}], "usage_metadata": {"prompt_token_count": 3, "tool_use_prompt_token_count": 2, "thoughts_token_count": 4}});
        let usage = Usage {
            input_tokens: Some(5),
            output_tokens: Some(4),
            reasoning_tokens: Some(4),
            ..Usage::default()
        };
        let reason = FinishReason::Stop;
        let expected = vec![Delta::Usage(usage), text("a"), Delta::Finished { reason }];
        assert_eq!(run(&body(&[chunk])), (expected, None));
    }

    #[test]
    fn a_blocked_prompt_is_an_error_and_another_protocol_is_hopeless() {
        let blocked = json!({"promptFeedback": {"blockReason": "SAFETY"}});
        assert_eq!(
            run(&body(&[blocked])).1,
            Some((Fault::ContentFiltered, false))
        );
        let foreign = json!({"choices": [{"delta": {"content": "x"}}]});
        assert_eq!(run(&body(&[foreign])).1, Some((Fault::Malformed, false)));
        assert_eq!(run("").1, Some((Fault::TruncatedStream, true)));
        let cut = body(&[parts(&json!([{"text": "a"}]))]);
        assert_eq!(run(&cut).1, Some((Fault::TruncatedStream, true)));
    }
}
