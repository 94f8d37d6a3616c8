//! The events of a Messages stream.

use std::collections::BTreeMap;
use std::mem;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::event::Notice;
use crate::message::{FinishReason, Usage};
use crate::provider::Delta;
use crate::provider::fault::{Failure, Fault};
use crate::provider::json::{Count, Joiner, Wide, Word, lenient};
use crate::provider::reply::{Progress, Protocol, limit, read_document, read_json};

/// The most content blocks of one message.
const MAX_BLOCKS: usize = 4096;
/// The longest input of one tool call, in bytes.
const MAX_INPUT_BYTES: usize = 1 << 20;

/// What has been read of one message.
#[derive(Debug, Default)]
pub(crate) struct MessageStream {
    id: Option<String>,
    blocks: BTreeMap<i64, Block>,
    usage: WireUsage,
    reported: Usage,
    stop: Option<String>,
    said: bool,
    stopped: bool,
}

#[derive(Debug)]
enum Block {
    Text(Joiner),
    Thinking(Joiner),
    Call(Call),
    /// Of no use here, but its deltas are expected.
    Other,
}

#[derive(Debug)]
struct Call {
    id: String,
    name: String,
    /// The input that came with the block, which counts if no fragment of it comes.
    initial: String,
    input: String,
    joiner: Joiner,
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
        let mut blocks = mem::take(&mut self.blocks);
        for block in blocks.values_mut() {
            end_block(block, out);
        }
        let calls: Vec<Call> = blocks
            .into_values()
            .filter_map(|block| {
                if let Block::Call(call) = block {
                    Some(call)
                } else {
                    None
                }
            })
            .collect();
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
            out.push(Delta::Notice(Notice::new(
                "empty_output",
                "the model ended its reply without saying anything",
            )));
        }
        out.extend(
            calls
                .into_iter()
                .filter_map(|call| call.finish(reason == FinishReason::Length)),
        );
        out.push(Delta::Finished { reason });
        Ok(())
    }
}

impl MessageStream {
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
                *self = Self::default();
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
        for (index, block) in (0..).zip(content) {
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
        if self.blocks.len() >= MAX_BLOCKS {
            return Err(limit("blocks"));
        }
        let word = |word: Option<Word>| word.map(|word| word.0).unwrap_or_default();
        let block = match start.r#type.as_ref().map_or("", |kind| kind.0.as_str()) {
            "text" => Block::Text(Joiner::default()),
            "thinking" => Block::Thinking(Joiner::default()),
            "tool_use" => Block::Call(Call {
                id: word(start.id),
                name: word(start.name),
                initial: start
                    .input
                    .map_or_else(String::new, |input| input.get().to_owned()),
                input: String::new(),
                joiner: Joiner::default(),
            }),
            _ => Block::Other,
        };
        self.blocks.insert(index, block);
        let rest = BlockDelta {
            text: start.text,
            thinking: start.thinking,
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
                let text = joiner.push(&delta.text.unwrap_or_default());
                self.said |= !text.is_empty();
                push(out, Delta::Text(text));
            }
            Some(Block::Thinking(joiner)) => {
                push(
                    out,
                    Delta::Reasoning(joiner.push(&delta.thinking.unwrap_or_default())),
                );
            }
            Some(Block::Call(call)) => {
                let fragment = call.joiner.push(&delta.partial_json.unwrap_or_default());
                if call.input.len() + fragment.len() > MAX_INPUT_BYTES {
                    return Err(limit("argument_bytes"));
                }
                call.input.push_str(&fragment);
            }
            Some(Block::Other) => {}
            // Something is missing before it: the reply would have a hole.
            None => return Err(Failure::new(Fault::Malformed)),
        }
        Ok(())
    }

    /// Takes a snapshot: what it does not mention stays as it was.
    fn count(&mut self, usage: Option<WireUsage>, out: &mut Vec<Delta>) {
        self.usage.update(usage.unwrap_or_default());
        let usage = self.usage.normalized();
        if usage != self.reported {
            self.reported = usage;
            out.push(Delta::Usage(usage));
        }
    }
}

impl Call {
    /// The call; `None` if a length limit cut it.
    fn finish(mut self, cut: bool) -> Option<Delta> {
        let rest = self.joiner.finish();
        self.input.push_str(rest);
        let fragments = !self.input.trim().is_empty();
        let whole = |text: &str| serde_json::from_str::<IgnoredAny>(text).is_ok();
        let arguments = if fragments { self.input } else { self.initial };
        let empty = arguments.trim().is_empty() || arguments.trim() == "null";
        // Cut before its first fragment, a call has only the empty input that it began with.
        let begun = fragments || !matches!(arguments.trim(), "" | "{}" | "null");
        if cut && !(begun && whole(&arguments)) {
            return None;
        }
        let arguments = if empty { "{}".to_owned() } else { arguments };
        Some(Delta::ToolCall {
            id: self.id,
            name: self.name,
            arguments,
        })
    }
}

fn end_block(block: &mut Block, out: &mut Vec<Delta>) {
    match block {
        Block::Text(joiner) => push(out, Delta::Text(joiner.finish().to_owned())),
        Block::Thinking(joiner) => push(out, Delta::Reasoning(joiner.finish().to_owned())),
        Block::Call(_) | Block::Other => {}
    }
}

fn push(out: &mut Vec<Delta>, delta: Delta) {
    if !matches!(&delta, Delta::Text(text) | Delta::Reasoning(text) if text.is_empty()) {
        out.push(delta);
    }
}

/// One event: every field may be missing, null, or of a wrong type.
#[derive(Deserialize)]
struct Event<'a> {
    #[serde(default, deserialize_with = "lenient")]
    r#type: Option<Word>,
    #[serde(default, deserialize_with = "lenient")]
    index: Option<i64>,
    #[serde(default, borrow)]
    message: Option<Message<'a>>,
    #[serde(default, borrow)]
    content_block: Option<BlockStart<'a>>,
    #[serde(default)]
    delta: Option<BlockDelta>,
    #[serde(default, deserialize_with = "lenient")]
    usage: Option<WireUsage>,
}

#[derive(Default, Deserialize)]
struct Message<'a> {
    #[serde(default, deserialize_with = "lenient")]
    id: Option<Word>,
    #[serde(default, borrow)]
    content: Option<Vec<BlockStart<'a>>>,
    #[serde(default, deserialize_with = "lenient")]
    stop_reason: Option<Word>,
    #[serde(default, deserialize_with = "lenient")]
    usage: Option<WireUsage>,
}

#[derive(Default, Deserialize)]
struct BlockStart<'a> {
    #[serde(default, deserialize_with = "lenient")]
    r#type: Option<Word>,
    #[serde(default, deserialize_with = "lenient")]
    id: Option<Word>,
    #[serde(default, deserialize_with = "lenient")]
    name: Option<Word>,
    #[serde(default, borrow, deserialize_with = "lenient")]
    input: Option<&'a RawValue>,
    #[serde(default)]
    text: Option<Wide>,
    #[serde(default)]
    thinking: Option<Wide>,
}

#[derive(Default, Deserialize)]
struct BlockDelta {
    #[serde(default)]
    text: Option<Wide>,
    #[serde(default)]
    thinking: Option<Wide>,
    #[serde(default)]
    partial_json: Option<Wide>,
    #[serde(default, deserialize_with = "lenient")]
    stop_reason: Option<Word>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
struct WireUsage {
    #[serde(default, deserialize_with = "lenient")]
    input_tokens: Option<Count>,
    #[serde(default, deserialize_with = "lenient")]
    cache_read_input_tokens: Option<Count>,
    #[serde(default, deserialize_with = "lenient")]
    cache_creation_input_tokens: Option<Count>,
    #[serde(default, deserialize_with = "lenient")]
    output_tokens: Option<Count>,
    #[serde(default, deserialize_with = "lenient")]
    output_tokens_details: Option<OutputDetails>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct OutputDetails {
    #[serde(default, deserialize_with = "lenient")]
    thinking_tokens: Option<Count>,
}

impl WireUsage {
    fn update(&mut self, newer: Self) {
        self.input_tokens = newer.input_tokens.or(self.input_tokens);
        self.cache_read_input_tokens = newer
            .cache_read_input_tokens
            .or(self.cache_read_input_tokens);
        self.cache_creation_input_tokens = newer
            .cache_creation_input_tokens
            .or(self.cache_creation_input_tokens);
        self.output_tokens = newer.output_tokens.or(self.output_tokens);
        self.output_tokens_details = newer.output_tokens_details.or(self.output_tokens_details);
    }

    fn normalized(self) -> Usage {
        let count = |count: Option<Count>| count.map(|count| count.0);
        let (read, written) = (
            count(self.cache_read_input_tokens),
            count(self.cache_creation_input_tokens),
        );
        Usage {
            // What the cache took part in is counted beside the input.
            input_tokens: count(self.input_tokens)
                .map(|input| input + read.unwrap_or(0) + written.unwrap_or(0)),
            cached_input_tokens: read,
            cache_write_tokens: written,
            output_tokens: count(self.output_tokens),
            reasoning_tokens: self
                .output_tokens_details
                .and_then(|details| count(details.thinking_tokens)),
            cost_usd: None,
        }
    }
}
