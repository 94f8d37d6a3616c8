//! The events of a Messages stream.

use std::collections::BTreeMap;
use std::mem;

use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::wire::{BlockDelta, BlockStart, Event, Message, WireUsage};
use crate::message::{FinishReason, Usage};
use crate::provider::Delta;
use crate::provider::calls::Calls;
use crate::provider::fault::{Failure, Fault};
use crate::provider::json::{Joiner, Wide, Word};
use crate::provider::reply::{
    Progress, Protocol, empty_output, limit, push, read_document, read_json,
};

/// The most content blocks of one message.
const MAX_BLOCKS: usize = 4096;
/// The largest thinking that is kept to be sent again, in bytes.
const MAX_REPLAY_BYTES: usize = 1 << 20;

/// Whose thinking is sent again.
pub(super) const PROTOCOL: &str = "anthropic";

/// What has been read of one message.
#[derive(Debug, Default)]
pub(crate) struct MessageStream {
    id: Option<String>,
    blocks: BTreeMap<i64, Block>,
    /// Blocks whose index another one took.
    replaced: Vec<Block>,
    calls: Calls,
    /// Thinking is kept to be sent again.
    keeps: bool,
    replay_bytes: usize,
    usage: WireUsage,
    reported: Usage,
    stop: Option<String>,
    said: bool,
    stopped: bool,
}

#[derive(Debug)]
enum Block {
    Text(Joiner),
    Thinking {
        joiner: Joiner,
        text: String,
        signature: String,
    },
    /// The data of thinking that is not shown.
    Redacted(String),
    Call {
        /// Its place among the calls.
        at: usize,
        /// The input that came with the block, which counts if no fragment of it comes.
        initial: String,
    },
    /// Of no use here, but its deltas are expected.
    Other,
}

impl Protocol for MessageStream {
    fn event(&mut self, json: &str, out: &mut Vec<Delta>) -> Result<Progress, Failure> {
        read_json(json, |json| {
            serde_json::from_str::<Event<'_>>(json).map(|event| self.take(event, out))
        })?
    }

    fn document(&mut self, json: &str, out: &mut Vec<Delta>) -> Result<(), Failure> {
        read_document(json, |json| {
            serde_json::from_str::<Message<'_>>(json).map(|message| self.whole(message, out))
        })?
    }

    fn finish(&mut self, out: &mut Vec<Delta>) -> Result<(), Failure> {
        let stop = self.stop.take().filter(|_| self.stopped).ok_or_else(|| {
            let begun = self.id.is_some() || !self.blocks.is_empty();
            Failure::new(if begun {
                Fault::TruncatedStream
            } else {
                Fault::EmptyResponse
            })
        })?;
        let blocks = mem::take(&mut self.replaced)
            .into_iter()
            .chain(mem::take(&mut self.blocks).into_values());
        let mut thinking = Vec::new();
        for mut block in blocks {
            end_block(&mut block, out);
            match block {
                Block::Call { at, initial } if self.calls.is_bare(at) && initial != "{}" => {
                    self.calls.append(at, Wide::from(initial.as_str()))?;
                }
                block => thinking.extend(block.thinking()),
            }
        }
        if !thinking.is_empty() && self.keeps && self.replay_bytes <= MAX_REPLAY_BYTES {
            out.push(Delta::Replay {
                protocol: PROTOCOL.into(),
                data: Value::Array(thinking),
            });
        }
        let calls = mem::take(&mut self.calls);
        let reason = match stop.as_str() {
            "end_turn" | "stop_sequence" if !calls.is_empty() => FinishReason::ToolCalls,
            "end_turn" | "stop_sequence" => FinishReason::Stop,
            "max_tokens" | "model_context_window_exceeded" => FinishReason::Length,
            "tool_use" => FinishReason::ToolCalls,
            "pause_turn" => FinishReason::Pause,
            "refusal" => FinishReason::Refusal,
            _ => FinishReason::Other,
        };
        if !self.said
            && calls.is_empty()
            && matches!(
                stop.as_str(),
                "end_turn" | "max_tokens" | "model_context_window_exceeded"
            )
        {
            out.push(empty_output());
        }
        out.extend(calls.finish(reason == FinishReason::Length));
        out.push(Delta::Finished { reason });
        Ok(())
    }
}

impl MessageStream {
    /// Nothing yet. Thinking is kept to be sent again if there are `tools`.
    pub(crate) fn new(tools: bool) -> Self {
        Self {
            keeps: tools,
            ..Self::default()
        }
    }

    /// The type inside the data counts, not the name of the event, which proxies drop.
    fn take(&mut self, event: Event<'_>, out: &mut Vec<Delta>) -> Result<Progress, Failure> {
        let Some(kind) = event.r#type.map(|kind| kind.0) else {
            // Another protocol: the base URL is wrong.
            return Err(Failure::hopeless(Fault::Malformed));
        };
        match kind.as_str() {
            "message_start" => self.start(event.message.unwrap_or_default(), out),
            "content_block_start" => {
                let block = event.content_block.unwrap_or_default();
                self.open(event.index.unwrap_or(0), block, out)?;
            }
            "content_block_delta" => self.delta(
                event.index.unwrap_or(0),
                event.delta.unwrap_or_default(),
                out,
            )?,
            "content_block_stop" => {
                if let Some(block) = self.blocks.get_mut(&event.index.unwrap_or(0)) {
                    end_block(block, out);
                }
            }
            "message_delta" => {
                if let Some(stop) = event.delta.and_then(|delta| delta.stop_reason) {
                    self.stop = Some(stop.0);
                }
                self.count(event.usage, out);
            }
            "message_stop" => {
                self.stopped = true;
                self.finish(out)?;
                return Ok(Progress::Ended);
            }
            kind if kind.starts_with("response.") => {
                return Err(Failure::hopeless(Fault::Malformed));
            }
            _ => {}
        }
        Ok(Progress::Running)
    }

    /// A message begins. A second one with another id means that a gateway asked again: what came
    /// before belongs to a reply that will never end.
    fn start(&mut self, message: Message<'_>, out: &mut Vec<Delta>) {
        let id = message.id.map(|id| id.0).unwrap_or_default();
        match &self.id {
            Some(before) if *before == id => return,
            Some(_) => {
                *self = Self::new(self.keeps);
                out.push(Delta::Restart {
                    reason: "upstream_restarted".to_owned(),
                });
            }
            None => {}
        }
        self.id = Some(id);
        self.count(message.usage, out);
    }

    fn whole(&mut self, message: Message<'_>, out: &mut Vec<Delta>) -> Result<(), Failure> {
        let Some(content) = message.content else {
            return Err(Failure::hopeless(Fault::Malformed));
        };
        for (index, block) in (0..).zip(content.into_iter().flatten()) {
            self.open(index, block, out)?;
        }
        self.count(message.usage, out);
        self.stop = message.stop_reason.map(|stop| stop.0);
        self.stopped = true;
        Ok(())
    }

    fn open(
        &mut self,
        index: i64,
        start: BlockStart<'_>,
        out: &mut Vec<Delta>,
    ) -> Result<(), Failure> {
        if self.blocks.len() + self.replaced.len() >= MAX_BLOCKS {
            return Err(limit("blocks"));
        }
        let word = |word: Option<Word>| word.map(|word| word.0).unwrap_or_default();
        let block = match start.r#type.as_ref().map_or("", |kind| kind.0.as_str()) {
            "text" => Block::Text(Joiner::default()),
            "thinking" => Block::Thinking {
                joiner: Joiner::default(),
                text: String::new(),
                signature: String::new(),
            },
            "redacted_thinking" => {
                let data = start.data.map(Wide::into_text).unwrap_or_default();
                self.replay_bytes += data.len();
                Block::Redacted(data)
            }
            "tool_use" => Block::Call {
                at: self
                    .calls
                    .add(word(start.id), word(start.name), Wide::default())?,
                initial: start
                    .input
                    .map(RawValue::get)
                    .unwrap_or_default()
                    .to_owned(),
            },
            _ => Block::Other,
        };
        self.replaced.extend(self.blocks.insert(index, block));
        let rest = BlockDelta {
            text: start.text,
            thinking: start.thinking,
            signature: start.signature,
            ..BlockDelta::default()
        };
        self.delta(index, rest, out)
    }

    fn delta(
        &mut self,
        index: i64,
        delta: BlockDelta,
        out: &mut Vec<Delta>,
    ) -> Result<(), Failure> {
        match self.blocks.get_mut(&index) {
            Some(Block::Text(joiner)) => {
                let text = joiner.push(delta.text.unwrap_or_default());
                self.said |= !text.is_empty();
                push(out, Delta::Text(text));
            }
            Some(Block::Thinking {
                joiner,
                text,
                signature,
            }) => {
                let thought = joiner.push(delta.thinking.unwrap_or_default());
                let signed = delta.signature.unwrap_or_default().into_text();
                self.replay_bytes += thought.len() + signed.len();
                if self.keeps && self.replay_bytes <= MAX_REPLAY_BYTES {
                    text.push_str(&thought);
                    signature.push_str(&signed);
                }
                push(out, Delta::Reasoning(thought));
            }
            Some(Block::Call { at, .. }) => {
                let fragment = delta.partial_json.unwrap_or_default();
                self.calls.append(*at, fragment)?;
            }
            Some(Block::Redacted(_) | Block::Other) => {}
            // Something is missing before it: the reply would have a hole.
            None => return Err(Failure::new(Fault::Malformed)),
        }
        Ok(())
    }

    fn count(&mut self, usage: Option<WireUsage>, out: &mut Vec<Delta>) {
        self.usage.update(usage.unwrap_or_default());
        let usage = self.usage.normalized();
        if usage != self.reported {
            self.reported = usage;
            out.push(Delta::Usage(usage));
        }
    }
}

impl Block {
    /// Thinking as it is to be sent again: unchanged, and only if it is signed.
    fn thinking(self) -> Option<Value> {
        match self {
            Self::Thinking {
                text, signature, ..
            } if !signature.is_empty() => {
                Some(json!({"type": "thinking", "thinking": text, "signature": signature}))
            }
            Self::Redacted(data) => Some(json!({"type": "redacted_thinking", "data": data})),
            _ => None,
        }
    }
}

fn end_block(block: &mut Block, out: &mut Vec<Delta>) {
    match block {
        Block::Text(joiner) => push(out, Delta::Text(joiner.finish().to_owned())),
        Block::Thinking { joiner, text, .. } => {
            let rest = joiner.finish();
            text.push_str(rest);
            push(out, Delta::Reasoning(rest.to_owned()));
        }
        Block::Redacted(_) | Block::Call { .. } | Block::Other => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::reply::testing::{self, body};

    fn run(body: &str) -> (Vec<Delta>, Option<(Fault, bool)>) {
        testing::run(MessageStream::new(true), body)
    }

    fn open(index: i64, block: &Value) -> Value {
        json!({"type": "content_block_start", "index": index, "content_block": block})
    }

    fn delta(index: i64, delta: &Value) -> Value {
        json!({"type": "content_block_delta", "index": index, "delta": delta})
    }

    fn message(mut blocks: Vec<Value>, stop: &str) -> Vec<Value> {
        blocks.insert(0, json!({"type": "message_start", "message": {"id": "m1"}}));
        blocks.push(json!({"type": "message_delta", "delta": {"stop_reason": stop}}));
        blocks.push(json!({"type": "message_stop"}));
        blocks
    }

    fn tool(id: &str) -> Value {
        json!({"type": "tool_use", "id": id, "name": "f", "input": {}})
    }

    fn fragment(json: &str) -> Value {
        json!({"type": "input_json_delta", "partial_json": json})
    }

    fn call(id: &str, arguments: &str) -> Delta {
        Delta::ToolCall {
            id: id.to_owned(),
            name: "f".to_owned(),
            arguments: arguments.to_owned(),
        }
    }

    #[test]
    fn stop_reasons_are_known_and_others_are_other() {
        let said = || vec![open(0, &json!({"type": "text", "text": "x"}))];
        for (stop, reason) in [
            ("end_turn", FinishReason::Stop),
            ("stop_sequence", FinishReason::Stop),
            ("max_tokens", FinishReason::Length),
            ("model_context_window_exceeded", FinishReason::Length),
            ("tool_use", FinishReason::ToolCalls),
            ("pause_turn", FinishReason::Pause),
            ("refusal", FinishReason::Refusal),
            ("compaction", FinishReason::Other),
        ] {
            let expected = vec![Delta::Text("x".to_owned()), Delta::Finished { reason }];
            assert_eq!(
                run(&body(&message(said(), stop))),
                (expected, None),
                "{stop}"
            );
        }
    }

    #[test]
    fn tool_inputs_are_put_together_and_empty_ones_are_objects() {
        let blocks = vec![
            open(0, &tool("a")),
            open(1, &tool("b")),
            delta(0, &fragment("")),
            delta(0, &fragment("{\"x\":")),
            delta(1, &fragment("")),
            delta(0, &fragment("1}")),
            open(
                2,
                &json!({"type": "tool_use", "id": "c", "name": "f", "input": {"y": 2}}),
            ),
        ];
        let calls = vec![
            call("a", "{\"x\":1}"),
            call("b", "{}"),
            call("c", "{\"y\":2}"),
            Delta::Finished {
                reason: FinishReason::ToolCalls,
            },
        ];
        assert_eq!(run(&body(&message(blocks, "tool_use"))), (calls, None));
    }

    #[test]
    fn a_tool_input_that_a_limit_cut_is_left_out() {
        let blocks = vec![
            open(0, &tool("a")),
            delta(0, &fragment("{}")),
            open(1, &tool("b")),
            delta(1, &fragment("{\"x")),
            open(2, &tool("c")),
        ];
        let expected = vec![
            call("a", "{}"),
            Delta::Finished {
                reason: FinishReason::Length,
            },
        ];
        assert_eq!(run(&body(&message(blocks, "max_tokens"))), (expected, None));
    }

    #[test]
    fn a_second_message_voids_the_first() {
        let mut events = vec![
            json!({"type": "message_start", "message": {"id": "m0", "usage": {"input_tokens": 9}}}),
        ];
        events.extend([open(0, &json!({"type": "text", "text": "lost"}))]);
        events.extend(message(
            vec![open(0, &json!({"type": "text", "text": "kept"}))],
            "end_turn",
        ));
        let counted = Usage {
            input_tokens: Some(9),
            ..Usage::default()
        };
        let expected = vec![
            Delta::Usage(counted),
            Delta::Text("lost".to_owned()),
            Delta::Restart {
                reason: "upstream_restarted".to_owned(),
            },
            Delta::Text("kept".to_owned()),
            Delta::Finished {
                reason: FinishReason::Stop,
            },
        ];
        assert_eq!(run(&body(&events)), (expected, None));
    }

    #[test]
    fn usage_is_the_sum_of_what_the_cache_took_part_in() {
        let start = json!({"type": "message_start", "message": {"id": "m", "usage": {
            "input_tokens": 0, "cache_read_input_tokens": 5, "cache_creation_input_tokens": null, "output_tokens": 1,
        }}});
        let last = json!({"type": "message_delta", "delta": {"stop_reason": "refusal"}, "usage": {
            "input_tokens": 10, "output_tokens": 7, "output_tokens_details": {"thinking_tokens": 3},
        }});
        let (deltas, _) = run(&body(&[start, last, json!({"type": "message_stop"})]));
        let usage = |input, output, reasoning| {
            let cached = Some(5);
            Delta::Usage(Usage {
                input_tokens: Some(input),
                cached_input_tokens: cached,
                output_tokens: Some(output),
                reasoning_tokens: reasoning,
                ..Usage::default()
            })
        };
        let expected = [
            usage(5, 1, None),
            usage(15, 7, Some(3)),
            Delta::Finished {
                reason: FinishReason::Refusal,
            },
        ];
        assert_eq!(deltas, expected);
    }

    #[test]
    fn an_error_at_any_place_is_the_end() {
        for (kind, fault, retryable) in [
            ("overloaded_error", Fault::Overloaded, true),
            ("api_error", Fault::Server, true),
            ("rate_limit_error", Fault::RateLimited, true),
            ("timeout_error", Fault::Timeout, true),
            ("invalid_request_error", Fault::InvalidRequest, false),
            ("billing_error", Fault::QuotaExhausted, false),
        ] {
            let error = json!({"type": "error", "error": {"type": kind, "message": "x"}});
            let events = [
                open(0, &json!({"type": "text", "text": "x"})),
                error,
                json!({"type": "message_stop"}),
            ];
            let (deltas, failure) = run(&body(&events));
            assert_eq!(
                (deltas.len(), failure),
                (1, Some((fault, retryable))),
                "{kind}"
            );
        }
    }

    #[test]
    fn a_whole_message_is_taken_where_a_stream_was_asked_for() {
        let whole = json!({"type": "message", "id": "m", "stop_reason": "tool_use", "usage": {"output_tokens": 2}, "content": [
            {"type": "thinking", "thinking": "hm", "signature": "s"},
            {"type": "text", "text": "x"},
            {"type": "tool_use", "id": "a", "name": "f", "input": {"y": 2}},
        ]});
        let expected = vec![
            Delta::Reasoning("hm".to_owned()),
            Delta::Text("x".to_owned()),
            Delta::Usage(Usage {
                output_tokens: Some(2),
                ..Usage::default()
            }),
            Delta::Replay {
                protocol: PROTOCOL.into(),
                data: json!([{"type": "thinking", "thinking": "hm", "signature": "s"}]),
            },
            call("a", "{\"y\":2}"),
            Delta::Finished {
                reason: FinishReason::ToolCalls,
            },
        ];
        assert_eq!(run(&whole.to_string()), (expected, None));
    }

    #[test]
    fn another_protocol_at_this_address_is_hopeless() {
        for foreign in [
            json!({"choices": [{"delta": {"content": "x"}}]}),
            json!({"type": "response.created"}),
        ] {
            assert_eq!(
                run(&body(&[foreign])),
                (Vec::new(), Some((Fault::Malformed, false)))
            );
        }
        let whole = json!({"choices": [{"message": {"content": "x"}}]}).to_string();
        assert_eq!(run(&whole), (Vec::new(), Some((Fault::Malformed, false))));
    }

    #[test]
    fn only_its_own_terminal_ends_a_message() {
        let mut events = message(
            vec![open(0, &json!({"type": "text", "text": "x"}))],
            "end_turn",
        );
        events.pop();
        let (deltas, failure) = run(&(body(&events) + "data: [DONE]\n\n"));
        assert_eq!(
            (deltas, failure),
            (
                vec![Delta::Text("x".to_owned())],
                Some((Fault::TruncatedStream, true))
            )
        );
    }
}
