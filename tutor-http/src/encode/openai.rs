//! OpenAI Chat Completions: `chat.completion.chunk` objects, and the whole `chat.completion`.

use bytes::{BufMut, BytesMut};
use serde::Serialize;
use serde_json::{Value, json};
use tutor_core::message::Part;
use tutor_core::time::Timestamp;
use tutor_core::{Content, Event, FinishReason, Reply, TurnEvent, TurnStatus, Usage};

use super::{DETACHED, DONE, Encoder, Flow, PendingCall, RESTARTED, STOPPED, data, put_json};
use crate::error::dialect;

/// The chunks of one completion.
#[derive(Debug)]
pub(crate) struct OpenAi {
    /// When the request came, in seconds since 1970.
    created: i64,
    /// True if the client asked for the usage.
    include_usage: bool,
    id: String,
    model: String,
    /// Calls that no tool of the server's has answered: the client's, if the reply ends with them.
    calls: Vec<PendingCall>,
    usage: Option<Usage>,
    sent: bool,
    /// What stands before and behind the text in the chunk of a text: nearly all chunks are such,
    /// and differ in nothing else.
    around: Option<(String, String)>,
}

impl OpenAi {
    pub(crate) fn new(created: i64, include_usage: bool) -> Self {
        Self {
            created,
            include_usage,
            id: String::new(),
            model: String::new(),
            calls: Vec::new(),
            usage: None,
            sent: false,
            around: None,
        }
    }

    fn text(&mut self, text: &str, out: &mut BytesMut) {
        let (before, behind) = self.around.take().unwrap_or_else(|| {
            let mut chunk = BytesMut::new();
            self.chunk(&json!({"content": ""}), None, &mut chunk);
            let chunk = String::from_utf8_lossy(&chunk);
            let (before, behind) = chunk.split_once("\"\"").unwrap_or_default();
            (before.to_owned(), behind.to_owned())
        });
        out.reserve(before.len() + behind.len() + text.len() + text.len() / 8 + 2);
        out.put_slice(before.as_bytes());
        put_json(out, &text);
        out.put_slice(behind.as_bytes());
        self.around = Some((before, behind));
    }

    fn chunk(&self, delta: &impl Serialize, finish_reason: Option<&str>, out: &mut BytesMut) {
        let choice = Choice {
            delta,
            finish_reason,
            index: 0,
            logprobs: None,
        };
        data(
            out,
            &self.frame(&[choice], self.include_usage.then_some(None)),
        );
    }

    fn frame<T>(&self, choices: T, usage: Option<Option<Value>>) -> Chunk<'_, T> {
        Chunk {
            choices,
            created: self.created,
            id: &self.id,
            model: &self.model,
            object: "chat.completion.chunk",
            usage,
        }
    }

    fn finish(&mut self, reason: FinishReason, out: &mut BytesMut) {
        if reason == FinishReason::ToolCalls {
            for (index, call) in std::mem::take(&mut self.calls).iter().enumerate() {
                let mut function = tool_call(call);
                function["index"] = json!(index);
                self.chunk(&json!({"tool_calls": [function]}), None, out);
            }
        }
        self.chunk(&json!({}), Some(finish_reason(reason)), out);
        if self.include_usage {
            let usage = usage(&self.usage.unwrap_or_default());
            let none: [Value; 0] = [];
            data(out, &self.frame(none, Some(Some(usage))));
        }
        out.put_slice(DONE);
    }
}

/// One event.
#[derive(Serialize)]
struct Chunk<'a, T> {
    choices: T,
    created: i64,
    id: &'a str,
    model: &'a str,
    object: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<Value>>,
}

#[derive(Serialize)]
struct Choice<'a, T> {
    delta: &'a T,
    finish_reason: Option<&'a str>,
    index: u8,
    logprobs: Option<()>,
}

impl Encoder for OpenAi {
    fn event(&mut self, event: &TurnEvent, out: &mut BytesMut) -> Flow {
        match &event.event {
            Event::TurnStarted { turn_id, model, .. } => {
                self.id = completion_id(turn_id.as_str());
                self.model.clone_from(model);
                self.chunk(&json!({"role": "assistant", "content": ""}), None, out);
            }
            Event::TextDelta { text } => {
                self.sent = true;
                self.text(text, out);
            }
            Event::ReasoningDelta { text } => {
                self.sent = true;
                self.chunk(&json!({"reasoning_content": text}), None, out);
            }
            Event::ToolCall {
                call_id,
                name,
                arguments,
            } => self.calls.push(PendingCall {
                call_id: call_id.clone(),
                name: name.clone(),
                arguments: arguments.clone(),
            }),
            Event::ToolResult { call_id, .. } => self.calls.retain(|c| c.call_id != *call_id),
            Event::AttemptRestarted { .. } => {
                self.calls.clear();
                if self.sent {
                    data(
                        out,
                        &dialect::openai("server_error", "interrupted", RESTARTED),
                    );
                    return Flow::End;
                }
            }
            Event::Usage(usage) => self.usage = Some(*usage),
            Event::TurnFinished {
                status: TurnStatus::Cancelled,
                ..
            } => {
                let code = dialect::STOPPED_CODE;
                data(out, &dialect::openai("server_error", code, STOPPED));
                return Flow::End;
            }
            Event::TurnFinished { finish_reason, .. } => {
                self.finish(*finish_reason, out);
                return Flow::End;
            }
            Event::TurnFailed { error, .. } => {
                // Not closing without a word: clients would take the reply for whole.
                data(out, &dialect::openai_info(error));
                return Flow::End;
            }
            _ => {}
        }
        Flow::On
    }

    fn detach(&mut self, out: &mut BytesMut) -> Flow {
        data(
            out,
            &dialect::openai("server_error", "overloaded", DETACHED),
        );
        Flow::End
    }
}

/// The whole reply.
pub(crate) fn completion(reply: &Reply, created: i64) -> Value {
    let calls: Vec<Value> = if reply.finish_reason == FinishReason::ToolCalls {
        unanswered(&reply.message.content)
            .iter()
            .map(tool_call)
            .collect()
    } else {
        Vec::new()
    };
    let text = reply.text();
    let mut message = json!({"role": "assistant", "content": text, "refusal": null});
    if reply.finish_reason == FinishReason::Refusal {
        message["refusal"] = json!(text);
        message["content"] = Value::Null;
    }
    if !calls.is_empty() {
        message["tool_calls"] = Value::Array(calls);
    }
    json!({"id": completion_id(reply.turn_id.as_str()), "object": "chat.completion",
        "created": created, "model": reply.message.model.as_deref().unwrap_or_default(),
        "choices": [{"index": 0, "message": message, "logprobs": null,
            "finish_reason": finish_reason(reply.finish_reason)}],
        "usage": usage(&reply.usage.unwrap_or_default())})
}

/// The calls of a reply that have no result.
pub(super) fn unanswered(content: &Content) -> Vec<PendingCall> {
    let Content::Parts(parts) = content else {
        return Vec::new();
    };
    let is_answered = |id: &str| {
        parts
            .iter()
            .any(|part| matches!(part, Part::ToolResult { call_id, .. } if call_id == id))
    };
    let calls = parts.iter().filter_map(|part| match part {
        Part::ToolCall {
            call_id,
            name,
            arguments,
        } if !is_answered(call_id) => Some(PendingCall {
            call_id: call_id.clone(),
            name: name.clone(),
            arguments: arguments.clone(),
        }),
        _ => None,
    });
    calls.collect()
}

/// A time as this protocol has it.
pub(crate) fn unix_seconds(time: Timestamp) -> i64 {
    time.as_micros().div_euclid(1_000_000)
}

fn completion_id(turn: &str) -> String {
    format!("chatcmpl-{turn}")
}

fn tool_call(call: &PendingCall) -> Value {
    json!({"id": call.call_id, "type": "function",
        "function": {"name": call.name, "arguments": call.arguments_text()}})
}

/// Only these four are known to strict clients.
fn finish_reason(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Length => "length",
        FinishReason::ToolCalls => "tool_calls",
        FinishReason::ContentFilter => "content_filter",
        _ => "stop",
    }
}

/// Unknown figures are zero: strict clients want numbers.
fn usage(usage: &Usage) -> Value {
    let (input, output) = (
        usage.input_tokens.unwrap_or(0),
        usage.output_tokens.unwrap_or(0),
    );
    json!({"prompt_tokens": input, "completion_tokens": output,
        "total_tokens": input.saturating_add(output),
        "prompt_tokens_details": {"cached_tokens": usage.cached_input_tokens.unwrap_or(0)},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens.unwrap_or(0)}})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::testing::{
        call, cancelled, ended, failed, finished, frames, restarted, result, run, started, text,
        used,
    };

    fn chunks(include_usage: bool, events: &[TurnEvent]) -> (Vec<Value>, bool, Flow) {
        let (out, flow) = run(&mut OpenAi::new(7, include_usage), events);
        let done = out.ends_with("data: [DONE]\n\n");
        (frames(&out), done, flow)
    }

    #[test]
    fn a_reply_is_a_role_its_text_a_reason_and_done() {
        let events = [started(), text("Hi"), used(), finished("Hi")];
        let (chunks, done, flow) = chunks(false, &events);
        assert!(done && flow == Flow::End);
        let deltas: Vec<_> = chunks.iter().map(|c| &c["choices"][0]["delta"]).collect();
        assert_eq!(
            deltas,
            [
                &json!({"role": "assistant", "content": ""}),
                &json!({"content": "Hi"}),
                &json!({})
            ]
        );
        assert_eq!(chunks[2]["choices"][0]["finish_reason"], "stop");
        for chunk in &chunks {
            assert_eq!(chunk["id"], "chatcmpl-t1");
            assert_eq!(
                (&chunk["object"], &chunk["created"], &chunk["model"]),
                (&json!("chat.completion.chunk"), &json!(7), &json!("m1"))
            );
            assert!(chunk.get("usage").is_none());
        }
    }

    #[test]
    fn the_usage_comes_last_without_choices_when_it_is_asked_for() {
        let (chunks, _, _) = chunks(true, &[started(), text("Hi"), used(), finished("Hi")]);
        let (last, earlier) = chunks.split_last().unwrap();
        assert!(earlier.iter().all(|chunk| chunk["usage"].is_null()));
        assert_eq!(last["choices"], json!([]));
        assert_eq!(last["usage"]["total_tokens"], 17);
    }

    #[test]
    fn a_failure_is_told_and_not_followed_by_done() {
        let (chunks, done, flow) = chunks(false, &[started(), text("Hi"), failed()]);
        assert!(!done && flow == Flow::End);
        let error = &chunks.last().unwrap()["error"];
        assert_eq!(error["code"], "provider_unavailable");
        assert_eq!(error["param"], Value::Null);
    }

    #[test]
    fn a_reply_that_was_stopped_is_not_called_complete() {
        let (chunks, done, flow) = chunks(false, &[started(), text("Hi"), cancelled()]);
        assert!(!done && flow == Flow::End);
        assert_eq!(chunks.last().unwrap()["error"]["code"], "cancelled");
        assert!(
            chunks
                .iter()
                .all(|c| c["choices"][0]["finish_reason"].is_null())
        );
    }

    #[test]
    fn a_call_that_the_server_answers_is_its_own_business() {
        let events = [
            started(),
            call("c1"),
            result("c1"),
            text("4"),
            finished("4"),
        ];
        let (chunks, _, _) = chunks(false, &events);
        assert!(
            chunks
                .iter()
                .all(|c| c["choices"][0]["delta"].get("tool_calls").is_none())
        );
    }

    #[test]
    fn a_call_that_nobody_answered_is_the_clients() {
        let events = [started(), call("c1"), ended(FinishReason::ToolCalls)];
        let (chunks, _, _) = chunks(false, &events);
        let call = &chunks[1]["choices"][0]["delta"]["tool_calls"][0];
        assert_eq!((&call["index"], &call["id"]), (&json!(0), &json!("c1")));
        assert_eq!(call["function"]["arguments"], r#"{"a":2}"#);
        assert_eq!(chunks[2]["choices"][0]["finish_reason"], "tool_calls");
    }

    #[test]
    fn a_restart_matters_only_once_something_was_sent() {
        let (_, done, _) = chunks(false, &[started(), restarted(), text("Hi"), finished("Hi")]);
        assert!(done);
        let (chunks, done, _) = chunks(false, &[started(), text("H"), restarted()]);
        assert!(!done && chunks.last().unwrap()["error"].is_object());
    }
}
