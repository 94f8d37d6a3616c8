//! The events of a Responses stream.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;

use serde_json::Value;
use serde_json::value::RawValue;

use super::wire::{Event, Item, Response, WireUsage, read_part};
use crate::message::{FinishReason, Usage};
use crate::provider::Delta;
use crate::provider::calls::{Calls, Fragment};
use crate::provider::fault::{Failure, Fault};
use crate::provider::json::{Joiner, Wide, Word};
use crate::provider::rejection::Rejection;
use crate::provider::reply::{
    Progress, Protocol, empty_output, limit, push, read_document, read_json,
};

/// The most items and parts of one response.
const MAX_PARTS: usize = 4096;
/// The largest thinking that is kept to be sent again, in bytes of JSON.
const MAX_REPLAY_BYTES: usize = 1 << 20;

/// Whose thinking is sent again.
pub(super) const PROTOCOL: &str = "openai-responses";

/// What has been read of one response.
///
/// The same text comes up to four times: in deltas, and as a whole with the end of its part, of its
/// item, and of the response. The first of these that comes counts.
#[derive(Debug, Default)]
pub(crate) struct ResponseStream {
    text: Joiner,
    refusal: Joiner,
    reasoning: Joiner,
    /// The parts of which something was said, by item and part.
    said: BTreeSet<(i64, i64)>,
    refused: bool,
    /// The item and part of the thinking that came last.
    thought: Option<(i64, i64)>,
    /// Items whose thinking has come.
    thoughts: BTreeSet<i64>,
    calls: Calls,
    /// The places of calls, by item.
    places: BTreeMap<i64, usize>,
    /// Thinking is kept to be sent again.
    keeps: bool,
    replay: Vec<Value>,
    replay_bytes: usize,
    usage: Usage,
    begun: bool,
    end: Option<FinishReason>,
}

impl Protocol for ResponseStream {
    fn event(&mut self, json: &str, out: &mut Vec<Delta>) -> Result<Progress, Failure> {
        read_json(json, |json| {
            serde_json::from_str::<Event<'_>>(json).map(|event| self.take(event, out))
        })?
    }

    fn document(&mut self, json: &str, out: &mut Vec<Delta>) -> Result<(), Failure> {
        read_document(json, |json| {
            serde_json::from_str::<Response<'_>>(json).map(|response| {
                if response.status.is_none() && response.output.is_none() {
                    return Err(Failure::hopeless(Fault::Malformed));
                }
                self.end(response, out)
            })
        })?
    }

    fn finish(&mut self, out: &mut Vec<Delta>) -> Result<(), Failure> {
        let Some(mut reason) = self.end.take() else {
            return Err(Failure::new(if self.begun {
                Fault::TruncatedStream
            } else {
                Fault::EmptyResponse
            }));
        };
        push(out, Delta::Reasoning(self.reasoning.finish().to_owned()));
        push(out, Delta::Text(self.text.finish().to_owned()));
        push(out, Delta::Refusal(self.refusal.finish().to_owned()));
        if reason == FinishReason::Stop {
            if self.refused {
                reason = FinishReason::Refusal;
            } else if !self.calls.is_empty() {
                reason = FinishReason::ToolCalls;
            }
        }
        let empty = self.said.is_empty() && self.calls.is_empty();
        if empty && reason != FinishReason::ContentFilter {
            out.push(empty_output());
        }
        if !self.replay.is_empty() {
            out.push(Delta::Replay {
                protocol: PROTOCOL.into(),
                data: Value::Array(mem::take(&mut self.replay)),
            });
        }
        out.extend(mem::take(&mut self.calls).finish(reason == FinishReason::Length));
        out.push(Delta::Finished { reason });
        Ok(())
    }
}

impl ResponseStream {
    /// Nothing yet. Thinking is kept to be sent again if there are `tools`.
    pub(crate) fn new(tools: bool) -> Self {
        Self {
            keeps: tools,
            ..Self::default()
        }
    }

    fn take(&mut self, event: Event<'_>, out: &mut Vec<Delta>) -> Result<Progress, Failure> {
        let Some(kind) = event.r#type.map(|kind| kind.0) else {
            // Another protocol: the base URL is wrong.
            return Err(Failure::hopeless(Fault::Malformed));
        };
        let Some(kind) = kind.strip_prefix("response.") else {
            let foreign = kind.starts_with("message_") || kind.starts_with("content_block");
            return match foreign && !self.begun {
                true => Err(Failure::hopeless(Fault::Malformed)),
                false => Ok(Progress::Running),
            };
        };
        self.begun = true;
        let item = event.output_index.unwrap_or(0);
        let part = (item, event.content_index.unwrap_or(0));
        let whole = |text: Option<Wide>| text.unwrap_or_default();
        match kind {
            "output_text.delta" => self.say(part, whole(event.delta), out)?,
            "output_text.done" => self.say_once(part, whole(event.text), out)?,
            "refusal.delta" => self.refuse(part, whole(event.delta), out)?,
            "refusal.done" => self.refuse_once(part, whole(event.refusal), out)?,
            "reasoning_summary_text.delta" | "reasoning_text.delta" | "reasoning.delta" => {
                let part = (item, event.summary_index.unwrap_or(part.1));
                self.think(part, whole(event.delta), out)?;
            }
            "output_item.added" => {
                if let Some(added) = event.item.and_then(Item::call) {
                    self.call(item, added)?;
                }
            }
            "function_call_arguments.delta" => {
                let at = self.place(event.output_index)?;
                self.calls.append(at, whole(event.delta))?;
            }
            "function_call_arguments.done" => {
                let at = self.place(event.output_index)?;
                let arguments = whole(event.arguments);
                let fragment = Fragment {
                    arguments,
                    ..Fragment::default()
                };
                self.calls.complete(at, fragment)?;
            }
            "output_item.done" => {
                if let Some(raw) = event.item {
                    self.item(item, raw, out)?;
                }
            }
            "completed" | "incomplete" | "failed" | "cancelled" => {
                let mut response = event.response.unwrap_or_default();
                response.status.get_or_insert(Word(kind.to_owned()));
                self.end(response, out)?;
                self.finish(out)?;
                return Ok(Progress::Ended);
            }
            _ => {}
        }
        Ok(Progress::Running)
    }

    /// The response is over.
    fn end(&mut self, response: Response<'_>, out: &mut Vec<Delta>) -> Result<(), Failure> {
        self.begun = true;
        let status = response.status.map(|status| status.0).unwrap_or_default();
        if let Some(error) = response.error.filter(|error| error.get().starts_with('{')) {
            return Err(Rejection::of_body(error.get()).into_failure(None));
        }
        let reason = response
            .incomplete_details
            .and_then(|details| details.reason)
            .map(|reason| reason.0);
        self.end = Some(match (status.as_str(), reason.as_deref()) {
            ("completed" | "", _) => FinishReason::Stop,
            ("incomplete", Some("max_output_tokens")) => FinishReason::Length,
            ("incomplete", Some("content_filter")) => FinishReason::ContentFilter,
            ("incomplete", _) => FinishReason::Other,
            ("failed" | "cancelled", _) => {
                let failure = Failure::new(Fault::Server);
                return Err(failure.with_token("provider_code", Some(&status)));
            }
            // Still at work, and nothing more will come.
            _ => return Err(Failure::new(Fault::TruncatedStream)),
        });
        if self.said.is_empty() && self.calls.is_empty() {
            let items = response.output.into_iter().flatten();
            for (at, item) in (0..).zip(items) {
                self.item(at, item, out)?;
            }
        }
        let usage = response.usage.map(WireUsage::normalized);
        if let Some(usage) = usage.filter(|usage| !usage.is_empty()) {
            self.usage = usage;
            out.push(Delta::Usage(usage));
        }
        Ok(())
    }

    /// An item as a whole: what of it has not come yet is taken.
    fn item(&mut self, at: i64, raw: &RawValue, out: &mut Vec<Delta>) -> Result<(), Failure> {
        let Ok(item) = serde_json::from_str::<Item<'_>>(raw.get()) else {
            return Ok(());
        };
        match item.r#type.as_ref().map_or("", |kind| kind.0.as_str()) {
            "message" => {
                for (part, content) in (0..).zip(item.content.into_iter().flatten()) {
                    let Some(content) = read_part(content) else {
                        continue;
                    };
                    if let Some(text) = content.text {
                        self.say_once((at, part), text, out)?;
                    }
                    if let Some(refusal) = content.refusal {
                        self.refuse_once((at, part), refusal, out)?;
                    }
                }
            }
            "function_call" => self.call(at, item)?,
            "reasoning" => {
                if !self.thoughts.contains(&at) {
                    let parts = item.summary.into_iter().chain(item.content).flatten();
                    for (part, content) in (0..).zip(parts) {
                        if let Some(text) = read_part(content).and_then(|content| content.text) {
                            self.think((at, part), text, out)?;
                        }
                    }
                }
                // Only the finished item is complete, and only what is encrypted can be sent again.
                self.replay_bytes += raw.get().len();
                if self.keeps
                    && item.encrypted_content.is_some()
                    && self.replay_bytes <= MAX_REPLAY_BYTES
                {
                    self.replay.extend(serde_json::from_str::<Value>(raw.get()));
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// A call with what is known of it now.
    fn call(&mut self, at: i64, item: Item<'_>) -> Result<(), Failure> {
        let word = |word: Option<Word>| word.map(|word| word.0).unwrap_or_default();
        let id = item.call_id.or(item.id);
        let fragment = Fragment {
            index: None,
            id: word(id),
            name: word(item.name),
            arguments: item.arguments.unwrap_or_default(),
        };
        match self.places.get(&at) {
            Some(place) => self.calls.complete(*place, fragment),
            None => {
                let place = self
                    .calls
                    .add(fragment.id, fragment.name, fragment.arguments)?;
                self.places.insert(at, place);
                Ok(())
            }
        }
    }

    /// The place of the call that an item is; of the latest one if the item has no number.
    fn place(&self, item: Option<i64>) -> Result<usize, Failure> {
        let place = match item {
            Some(item) => self.places.get(&item),
            None => self.places.values().max(),
        };
        // Something is missing before it.
        place.copied().ok_or_else(|| Failure::new(Fault::Malformed))
    }

    fn say(&mut self, at: (i64, i64), text: Wide, out: &mut Vec<Delta>) -> Result<(), Failure> {
        if text.is_empty() {
            return Ok(());
        }
        self.mark(at)?;
        push(out, Delta::Text(self.text.push(text)));
        Ok(())
    }

    fn say_once(
        &mut self,
        at: (i64, i64),
        text: Wide,
        out: &mut Vec<Delta>,
    ) -> Result<(), Failure> {
        if self.said.contains(&at) {
            return Ok(());
        }
        self.say(at, text, out)
    }

    fn refuse(&mut self, at: (i64, i64), text: Wide, out: &mut Vec<Delta>) -> Result<(), Failure> {
        if text.is_empty() {
            return Ok(());
        }
        self.mark(at)?;
        self.refused = true;
        push(out, Delta::Refusal(self.refusal.push(text)));
        Ok(())
    }

    fn refuse_once(
        &mut self,
        at: (i64, i64),
        text: Wide,
        out: &mut Vec<Delta>,
    ) -> Result<(), Failure> {
        if self.said.contains(&at) {
            return Ok(());
        }
        self.refuse(at, text, out)
    }

    fn think(&mut self, at: (i64, i64), text: Wide, out: &mut Vec<Delta>) -> Result<(), Failure> {
        if text.is_empty() {
            return Ok(());
        }
        // Parts are paragraphs.
        if self.thought.is_some_and(|last| last != at) {
            push(out, Delta::Reasoning("\n\n".to_owned()));
        }
        self.thought = Some(at);
        self.thoughts.insert(at.0);
        if self.thoughts.len() > MAX_PARTS {
            return Err(limit("parts"));
        }
        push(out, Delta::Reasoning(self.reasoning.push(text)));
        Ok(())
    }

    fn mark(&mut self, at: (i64, i64)) -> Result<(), Failure> {
        self.said.insert(at);
        if self.said.len() > MAX_PARTS {
            return Err(limit("parts"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::provider::reply::testing::{self, body};

    fn run(body: &str) -> (Vec<Delta>, Option<(Fault, bool)>) {
        testing::run(ResponseStream::default(), body)
    }

    fn completed(output: &Value) -> Value {
        json!({"type": "response.completed", "response": {"status": "completed", "output": output}})
    }

    fn text(text: &str) -> Delta {
        Delta::Text(text.to_owned())
    }

    const END: Delta = Delta::Finished {
        reason: FinishReason::Stop,
    };

    #[test]
    fn the_same_text_from_several_sources_is_said_once() {
        let part = json!([{"type": "output_text", "text": "Hi"}]);
        let message = json!({"type": "message", "content": part});
        let delta = json!({"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "Hi"});
        let done = json!({"type": "response.output_text.done", "output_index": 0, "content_index": 0, "text": "Hi"});
        let item = json!({"type": "response.output_item.done", "output_index": 0, "item": message});
        let end = completed(&json!([message]));
        let all = [delta, done, item, end];
        for first in 0..all.len() {
            assert_eq!(run(&body(&all[first..])), (vec![text("Hi"), END], None));
        }
    }

    #[test]
    fn a_second_message_is_said_too() {
        let item = |at: i64, said: &str| json!({"type": "response.output_item.done", "output_index": at, "item": {"type": "message", "content": [{"type": "output_text", "text": said}]}});
        let events = [item(0, "a"), item(2, "b"), completed(&json!([]))];
        assert_eq!(run(&body(&events)), (vec![text("a"), text("b"), END], None));
    }

    #[test]
    fn a_call_may_come_in_pieces_or_whole() {
        let item = json!({"type": "function_call", "id": "fc", "call_id": "c", "name": "f", "arguments": ""});
        let whole = json!({"type": "function_call", "id": "fc", "call_id": "c", "name": "f", "arguments": "{\"x\":1}"});
        let added = json!({"type": "response.output_item.added", "output_index": 1, "item": item});
        let delta = |more: &str| json!({"type": "response.function_call_arguments.delta", "output_index": 1, "delta": more});
        let done = json!({"type": "response.output_item.done", "output_index": 1, "item": whole});
        let expected = vec![
            Delta::ToolCall {
                id: "c".to_owned(),
                name: "f".to_owned(),
                arguments: "{\"x\":1}".to_owned(),
            },
            Delta::Finished {
                reason: FinishReason::ToolCalls,
            },
        ];
        for events in [
            vec![added.clone(), delta("{\"x\""), delta(":1}")],
            vec![added, delta("{\"x\""), delta(":1}"), done.clone()],
            vec![done],
            vec![],
        ] {
            let output = if events.is_empty() {
                json!([whole])
            } else {
                json!([])
            };
            let events: Vec<_> = events.into_iter().chain([completed(&output)]).collect();
            assert_eq!(run(&body(&events)), (expected.clone(), None));
        }
        assert_eq!(run(&body(&[delta("{}")])).1, Some((Fault::Malformed, true)));
    }

    #[test]
    fn what_ends_a_response_is_known() {
        let end = |status: &str, details: &Value| {
            let response = json!({"status": status, "incomplete_details": details, "output": [{"type": "message", "content": [{"text": "x"}]}]});
            (
                run(&body(&[
                    json!({"type": format!("response.{status}"), "response": response}),
                ])),
                run(&response.to_string()),
            )
        };
        for (status, details, reason) in [
            ("completed", json!(null), FinishReason::Stop),
            (
                "incomplete",
                json!({"reason": "max_output_tokens"}),
                FinishReason::Length,
            ),
            (
                "incomplete",
                json!({"reason": "content_filter"}),
                FinishReason::ContentFilter,
            ),
            (
                "incomplete",
                json!({"reason": "max_messages"}),
                FinishReason::Other,
            ),
        ] {
            let expected = (vec![text("x"), Delta::Finished { reason }], None);
            assert_eq!(end(status, &details), (expected.clone(), expected));
        }
        let (streamed, whole) = end("failed", &json!(null));
        assert_eq!(
            (streamed.1, whole.1),
            (Some((Fault::Server, true)), Some((Fault::Server, true)))
        );
    }

    #[test]
    fn only_its_own_terminal_ends_a_response() {
        let delta = json!({"type": "response.output_text.delta", "delta": "x"});
        let cut = (vec![text("x")], Some((Fault::TruncatedStream, true)));
        assert_eq!(run(&body(std::slice::from_ref(&delta))), cut);
        assert_eq!(run(&(body(&[delta]) + "data: [DONE]\n\n")), cut);
    }

    #[test]
    fn another_protocol_at_this_address_is_hopeless() {
        for foreign in [
            json!({"choices": [{"delta": {"content": "x"}}]}),
            json!({"type": "message_start", "message": {"id": "m"}}),
        ] {
            assert_eq!(
                run(&body(&[foreign])),
                (Vec::new(), Some((Fault::Malformed, false)))
            );
        }
        let whole = json!({"choices": [{"message": {"content": "x"}}]}).to_string();
        assert_eq!(run(&whole), (Vec::new(), Some((Fault::Malformed, false))));
    }
}
