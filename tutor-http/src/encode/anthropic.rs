//! Anthropic Messages: named events, and the whole message.

use bytes::BytesMut;
use serde_json::{Value, json};
use tutor_core::{Event, FinishReason, Reply, TurnEvent, TurnStatus, Usage};

use super::openai::unanswered;
use super::{DETACHED, Encoder, Flow, PendingCall, RESTARTED, STOPPED, named};
use crate::error::dialect;

/// The events of one message.
#[derive(Debug, Default)]
pub(crate) struct Anthropic {
    /// How many content blocks were opened.
    blocks: usize,
    open: Option<Kind>,
    calls: Vec<PendingCall>,
    usage: Usage,
}

/// A kind of content block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Thinking,
}

impl Anthropic {
    fn open(&mut self, kind: Kind, out: &mut BytesMut) {
        if self.open == Some(kind) {
            return;
        }
        self.close(out);
        let block = match kind {
            Kind::Text => json!({"type": "text", "text": ""}),
            Kind::Thinking => json!({"type": "thinking", "thinking": "", "signature": ""}),
        };
        self.start(&block, out);
        self.open = Some(kind);
    }

    fn start(&mut self, block: &Value, out: &mut BytesMut) {
        let index = self.blocks;
        self.blocks += 1;
        named(
            out,
            &json!({"type": "content_block_start", "index": index, "content_block": block}),
        );
    }

    /// Something for the block that was opened last.
    fn delta(&self, delta: &Value, out: &mut BytesMut) {
        let index = self.blocks.saturating_sub(1);
        named(
            out,
            &json!({"type": "content_block_delta", "index": index, "delta": delta}),
        );
    }

    fn stop(&self, out: &mut BytesMut) {
        let index = self.blocks.saturating_sub(1);
        named(out, &json!({"type": "content_block_stop", "index": index}));
    }

    fn close(&mut self, out: &mut BytesMut) {
        if self.open.take().is_some() {
            self.stop(out);
        }
    }

    fn finish(&mut self, reason: FinishReason, out: &mut BytesMut) {
        self.close(out);
        if reason == FinishReason::ToolCalls {
            for call in std::mem::take(&mut self.calls) {
                let block =
                    json!({"type": "tool_use", "id": call.call_id, "name": call.name, "input": {}});
                self.start(&block, out);
                let json = call.arguments_text();
                self.delta(
                    &json!({"type": "input_json_delta", "partial_json": json}),
                    out,
                );
                self.stop(out);
            }
        }
        named(
            out,
            &json!({"type": "message_delta",
                "delta": {"stop_reason": stop_reason(reason), "stop_sequence": null},
                "usage": usage(&self.usage)}),
        );
        named(out, &json!({"type": "message_stop"}));
    }
}

impl Encoder for Anthropic {
    const HEARTBEAT: &'static [u8] = b"event: ping\ndata: {\"type\":\"ping\"}\n\n";

    fn event(&mut self, event: &TurnEvent, out: &mut BytesMut) -> Flow {
        match &event.event {
            Event::TurnStarted {
                reply_message_id,
                model,
                ..
            } => named(
                out,
                &json!({"type": "message_start", "message": {
                    "id": message_id(reply_message_id.as_str()), "type": "message",
                    "role": "assistant", "model": model, "content": [], "stop_reason": null,
                    "stop_sequence": null, "usage": usage(&Usage::default())}}),
            ),
            Event::TextDelta { text } => {
                self.open(Kind::Text, out);
                self.delta(&json!({"type": "text_delta", "text": text}), out);
            }
            Event::ReasoningDelta { text } => {
                self.open(Kind::Thinking, out);
                self.delta(&json!({"type": "thinking_delta", "thinking": text}), out);
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
                if self.blocks > 0 {
                    named(out, &dialect::anthropic("api_error", RESTARTED));
                    return Flow::End;
                }
            }
            Event::Usage(usage) => self.usage = *usage,
            Event::TurnFinished {
                status: TurnStatus::Cancelled,
                ..
            } => {
                named(out, &dialect::anthropic("api_error", STOPPED));
                return Flow::End;
            }
            Event::TurnFinished { finish_reason, .. } => {
                self.finish(*finish_reason, out);
                return Flow::End;
            }
            Event::TurnFailed { error, .. } => {
                named(out, &dialect::anthropic_info(error));
                return Flow::End;
            }
            _ => {}
        }
        Flow::On
    }

    fn detach(&mut self, out: &mut BytesMut) -> Flow {
        named(out, &dialect::anthropic("overloaded_error", DETACHED));
        Flow::End
    }
}

/// The whole reply.
pub(crate) fn message(reply: &Reply) -> Value {
    let mut content = Vec::new();
    let text = reply.text();
    if !text.is_empty() {
        content.push(json!({"type": "text", "text": text}));
    }
    if reply.finish_reason == FinishReason::ToolCalls {
        for call in unanswered(&reply.message.content) {
            content.push(
                json!({"type": "tool_use", "id": call.call_id, "name": call.name,
                "input": call.arguments}),
            );
        }
    }
    json!({"id": message_id(reply.message.id.as_str()), "type": "message", "role": "assistant",
        "model": reply.message.model.as_deref().unwrap_or_default(), "content": content,
        "stop_reason": stop_reason(reply.finish_reason), "stop_sequence": null,
        "usage": usage(&reply.usage.unwrap_or_default())})
}

fn message_id(id: &str) -> String {
    format!("msg_{id}")
}

fn stop_reason(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Length => "max_tokens",
        FinishReason::ToolCalls => "tool_use",
        FinishReason::ContentFilter | FinishReason::Refusal => "refusal",
        FinishReason::Pause => "pause_turn",
        _ => "end_turn",
    }
}

/// Input tokens without those of the cache, as this protocol counts. Unknown figures are zero:
/// the clients want numbers.
fn usage(usage: &Usage) -> Value {
    let read = usage.cached_input_tokens.unwrap_or(0);
    let written = usage.cache_write_tokens.unwrap_or(0);
    let input = usage.input_tokens.unwrap_or(0);
    json!({"input_tokens": input.saturating_sub(read).saturating_sub(written),
        "cache_creation_input_tokens": written, "cache_read_input_tokens": read,
        "output_tokens": usage.output_tokens.unwrap_or(0)})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::testing::{
        call, cancelled, ended, failed, finished, frames, restarted, run, started, text, thought,
        used,
    };

    fn events(events: &[TurnEvent]) -> Vec<Value> {
        let (out, flow) = run(&mut Anthropic::default(), events);
        assert_eq!(flow, Flow::End);
        let names: Vec<_> = out
            .lines()
            .filter_map(|l| l.strip_prefix("event: "))
            .collect();
        let frames = frames(&out);
        assert!(
            names
                .iter()
                .zip(&frames)
                .all(|(name, data)| *name == data["type"])
        );
        assert_eq!(names.len(), frames.len());
        frames
    }

    fn kinds(events: &[Value]) -> Vec<&str> {
        events.iter().map(|e| e["type"].as_str().unwrap()).collect()
    }

    #[test]
    fn blocks_are_numbered_opened_and_closed() {
        let sent = events(&[started(), thought("hm"), text("Hi"), used(), finished("Hi")]);
        assert_eq!(
            kinds(&sent),
            [
                "message_start",
                "content_block_start",
                "content_block_delta",
                "content_block_stop",
                "content_block_start",
                "content_block_delta",
                "content_block_stop",
                "message_delta",
                "message_stop"
            ]
        );
        let indexes: Vec<_> = sent[1..7]
            .iter()
            .map(|e| e["index"].as_u64().unwrap())
            .collect();
        assert_eq!(indexes, [0, 0, 0, 1, 1, 1]);
        assert_eq!(sent[7]["delta"]["stop_reason"], "end_turn");
        assert_eq!(sent[7]["usage"]["output_tokens"], 5);
    }

    #[test]
    fn a_failure_is_an_error_event() {
        let sent = events(&[started(), text("Hi"), failed()]);
        assert_eq!(sent.last().unwrap()["error"]["type"], "overloaded_error");
    }

    #[test]
    fn a_reply_that_was_stopped_is_not_called_complete() {
        let sent = events(&[started(), text("Hi"), cancelled()]);
        assert_eq!(sent.last().unwrap()["error"]["type"], "api_error");
        assert!(!kinds(&sent).contains(&"message_stop"));
    }

    #[test]
    fn a_call_that_nobody_answered_is_the_clients() {
        let sent = events(&[started(), call("c1"), ended(FinishReason::ToolCalls)]);
        assert_eq!(sent[1]["content_block"]["input"], json!({}));
        assert_eq!(sent[2]["delta"]["partial_json"], r#"{"a":2}"#);
        assert_eq!(sent[4]["delta"]["stop_reason"], "tool_use");
    }

    #[test]
    fn a_restart_matters_only_once_something_was_sent() {
        let sent = events(&[started(), restarted(), text("Hi"), finished("Hi")]);
        assert_eq!(kinds(&sent).last(), Some(&"message_stop"));
        let sent = events(&[started(), text("H"), restarted()]);
        assert_eq!(kinds(&sent).last(), Some(&"error"));
    }
}
