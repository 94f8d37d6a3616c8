//! The chunks of a Chat Completions stream, as OpenAI and its many imitators send them.

use std::mem;

use serde_json::value::RawValue;

use super::thinking::{Replay, ThinkTags};
use super::wire::{Choice, Chunk, Message, Piece, ReasoningDetail, WireUsage, is_foreign, pieces};
use crate::message::{FinishReason, Usage};
use crate::provider::Delta;
use crate::provider::calls::{Calls, Fragment};
use crate::provider::fault::{Failure, Fault};
use crate::provider::json::{Joiner, Wide};
use crate::provider::mold::Mold;
use crate::provider::rejection::Rejection;
use crate::provider::reply::{Progress, Protocol, empty_output, push, read_document, read_json};

/// Whose thinking is sent again.
pub(super) const PROTOCOL: &str = "openai";

/// What has been read of one completion. Only choice 0 is ours.
#[derive(Debug, Default)]
pub(crate) struct ChatStream {
    text: Joiner,
    reasoning: Joiner,
    refusal: Joiner,
    /// Present if thinking is told from text by tags.
    tags: Option<ThinkTags>,
    /// Present if tools may be asked for.
    replay: Option<Replay>,
    calls: Calls,
    mold: Mold,
    usage: Usage,
    finish: Option<String>,
    native_finish: Option<String>,
    /// Some chunk of this protocol has come.
    begun: bool,
    said: bool,
    refused: bool,
    /// It was a whole reply, with nothing in it.
    is_document: bool,
}

impl Protocol for ChatStream {
    fn event(&mut self, json: &str, out: &mut Vec<Delta>) -> Result<Progress, Failure> {
        if let Some(text) = self.mold.text(json) {
            self.speak(text, out);
            return Ok(self.progress());
        }
        read_json(json, |json| {
            serde_json::from_str::<Chunk<'_>>(json).map(|chunk| self.chunk(chunk, json, out))
        })?
    }

    fn document(&mut self, json: &str, out: &mut Vec<Delta>) -> Result<(), Failure> {
        read_document(json, |json| {
            serde_json::from_str::<Chunk<'_>>(json).map(|chunk| self.chunk(chunk, json, out))
        })??;
        self.is_document = !self.said;
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<Delta>) -> Result<(), Failure> {
        let Some(finish) = self.finish.take() else {
            // `[DONE]` and nothing else is an answer, although an empty one.
            let fault = if self.begun && !self.is_document {
                Fault::TruncatedStream
            } else {
                Fault::EmptyResponse
            };
            return Err(Failure::new(fault));
        };
        push(out, Delta::Reasoning(self.reasoning.finish().to_owned()));
        let rest = self.text.finish().to_owned();
        self.say(rest, out);
        if let Some((thinking, text)) = self.tags.as_mut().map(ThinkTags::finish) {
            push(out, Delta::Reasoning(thinking));
            push(out, Delta::Text(text));
        }
        push(out, Delta::Refusal(self.refusal.finish().to_owned()));
        let reason = self.reason(&finish)?;
        let empty = !self.said && !self.refused && self.calls.is_empty();
        if let Some(data) = self
            .replay
            .take()
            .and_then(|it| it.finish(&self.calls.ids()))
        {
            let protocol = PROTOCOL.into();
            out.push(Delta::Replay { protocol, data });
        }
        out.extend(mem::take(&mut self.calls).finish(reason == FinishReason::Length));
        if empty && !matches!(reason, FinishReason::ContentFilter) {
            out.push(empty_output());
        }
        out.push(Delta::Finished { reason });
        Ok(())
    }
}

impl ChatStream {
    /// Nothing yet. Thinking is told from text by tags if `think_tags`, and kept to be sent again
    /// if there are `tools`.
    pub(crate) fn new(think_tags: bool, tools: bool) -> Self {
        Self {
            tags: think_tags.then(ThinkTags::default),
            replay: tools.then(Replay::default),
            ..Self::default()
        }
    }

    fn chunk(
        &mut self,
        chunk: Chunk<'_>,
        json: &str,
        out: &mut Vec<Delta>,
    ) -> Result<Progress, Failure> {
        if let Some(error) = chunk.x_groq.as_ref().and_then(|groq| groq.error) {
            return Err(Rejection::of_body(error.get()).into_failure(None));
        }
        if chunk.choices.is_none() && !self.begun && is_foreign(json) {
            return Err(Failure::hopeless(Fault::Malformed));
        }
        self.begun = true;
        if let Some(text) = chunk.only_text() {
            self.mold.take(json, text);
        }
        for choice in chunk.choices.into_iter().flatten().flatten() {
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
        Ok(self.progress())
    }

    fn progress(&self) -> Progress {
        match (&self.finish, self.usage.is_empty()) {
            (None, _) => Progress::Running,
            (Some(_), true) => Progress::Replied,
            (Some(_), false) => Progress::Counted,
        }
    }

    fn choice(&mut self, choice: Choice<'_>, out: &mut Vec<Delta>) -> Result<(), Failure> {
        if let Some(error) = choice.error.filter(|error| error.get().starts_with('{')) {
            return Err(Rejection::of_body(error.get()).into_failure(None));
        }
        if let Some(delta) = choice.delta.or(choice.message) {
            self.message(delta, out)?;
        }
        if let Some(finish) = choice.finish_reason.filter(|finish| !finish.0.is_empty()) {
            self.finish = Some(finish.0);
            self.native_finish = choice.native_finish_reason.map(|finish| finish.0);
        }
        Ok(())
    }

    fn message(&mut self, delta: Message<'_>, out: &mut Vec<Delta>) -> Result<(), Failure> {
        // Servers repeat the same thought under several names.
        let details = delta.reasoning_details.unwrap_or_default();
        let plain = [delta.reasoning_content, delta.reasoning]
            .into_iter()
            .flatten()
            .find(|thought| !thought.is_empty());
        if let Some(thought) = plain {
            self.think(thought, out);
        } else {
            for detail in &details {
                if let Some(thought) = ReasoningDetail::read(detail) {
                    self.think(thought, out);
                }
            }
        }
        if let Some(replay) = &mut self.replay {
            details.iter().for_each(|detail| replay.detail(detail));
        }
        if let Some(content) = delta.content {
            self.content(content, out)?;
        }
        if let Some(refusal) = delta.refusal {
            self.refused |= !refusal.is_empty();
            push(out, Delta::Refusal(self.refusal.push(refusal)));
        }
        for call in delta.tool_calls.into_iter().flatten().flatten() {
            let signature = call.extra_content;
            let at = self.calls.push(call.into())?;
            if let (Some(signature), Some(replay)) = (signature, &mut self.replay) {
                replay.signature(at, signature);
            }
        }
        if let Some(function) = delta.function_call {
            self.calls.push(Fragment {
                index: Some(0),
                ..function.into()
            })?;
        }
        Ok(())
    }

    fn content(&mut self, content: &RawValue, out: &mut Vec<Delta>) -> Result<(), Failure> {
        let pieces = match Wide::of_raw(content) {
            Some(text) => {
                self.speak(text, out);
                return Ok(());
            }
            None => pieces(content).map_err(|_| Failure::new(Fault::Malformed))?,
        };
        for piece in pieces {
            match piece {
                Piece::Text(text) => self.speak(text, out),
                Piece::Thought(thought) => self.think(thought, out),
            }
        }
        Ok(())
    }

    fn speak(&mut self, text: Wide, out: &mut Vec<Delta>) {
        self.said |= !text.is_empty();
        let text = self.text.push(text);
        self.say(text, out);
    }

    fn think(&mut self, thought: Wide, out: &mut Vec<Delta>) {
        let thought = self.reasoning.push(thought);
        if let Some(replay) = &mut self.replay {
            replay.text(&thought);
        }
        push(out, Delta::Reasoning(thought));
    }

    fn say(&mut self, text: String, out: &mut Vec<Delta>) {
        match &mut self.tags {
            None => push(out, Delta::Text(text)),
            Some(tags) => {
                let (thinking, text) = tags.push(&text);
                push(out, Delta::Reasoning(thinking));
                push(out, Delta::Text(text));
            }
        }
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::provider::reply::testing::{self, body};

    fn run(body: &str) -> (Vec<Delta>, Option<(Fault, bool)>) {
        testing::run(ChatStream::default(), body)
    }

    fn delta(delta: &Value) -> Value {
        json!({"choices": [{"index": 0, "delta": delta}]})
    }

    fn calls(calls: &Value) -> Value {
        delta(&json!({"tool_calls": calls}))
    }

    fn finish(reason: &str) -> Value {
        json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
    }

    fn call(id: &str, name: &str, arguments: &str) -> Delta {
        Delta::ToolCall {
            id: id.to_owned(),
            name: name.to_owned(),
            arguments: arguments.to_owned(),
        }
    }

    fn text(text: &str) -> Delta {
        Delta::Text(text.to_owned())
    }

    fn end(reason: FinishReason) -> Delta {
        Delta::Finished { reason }
    }

    #[track_caller]
    fn assert_finishes(events: &[Value], expected: &[Delta]) {
        assert_eq!(
            run(&(body(events) + "data: [DONE]\n\n")),
            (expected.to_vec(), None)
        );
    }

    #[test]
    fn indices_are_names_and_never_positions() {
        let one = |index: i64| json!([{"index": index, "id": "a", "function": {"name": "f", "arguments": "{\"x\""}}]);
        let more = |index: i64| json!([{"index": index, "function": {"arguments": ":1}"}}]);
        for index in [1, -1, i64::MAX] {
            let expected = [call("a", "f", "{\"x\":1}"), end(FinishReason::ToolCalls)];
            assert_finishes(
                &[
                    calls(&one(index)),
                    calls(&more(index)),
                    finish("tool_calls"),
                ],
                &expected,
            );
        }
    }

    #[test]
    fn a_call_that_gets_its_id_late_is_one_call() {
        let begin = json!([{"index": 0, "function": {"name": "f", "arguments": "{"}}]);
        let id = json!([{"index": 0, "id": "a", "function": {"arguments": "}"}}]);
        let expected = [call("a", "f", "{}"), end(FinishReason::ToolCalls)];
        assert_finishes(
            &[calls(&begin), calls(&id), finish("tool_calls")],
            &expected,
        );
    }

    #[test]
    fn calls_without_any_key_are_told_apart_by_their_names() {
        let whole = |name: &str| json!([{"function": {"name": name, "arguments": {"x": 1}}}]);
        let expected = [
            call("call_0", "f", "{\"x\":1}"),
            call("call_1", "g", "{\"x\":1}"),
            end(FinishReason::ToolCalls),
        ];
        assert_finishes(
            &[calls(&whole("f")), calls(&whole("g")), finish("stop")],
            &expected,
        );
    }

    #[test]
    fn an_id_of_our_own_is_none_of_the_servers() {
        let both = json!([{"index": 0, "function": {"name": "f"}}, {"index": 1, "id": "call_0", "function": {"name": "g"}}]);
        let expected = [
            call("call_1", "f", "{}"),
            call("call_0", "g", "{}"),
            end(FinishReason::ToolCalls),
        ];
        assert_finishes(&[calls(&both), finish("tool_calls")], &expected);
    }

    #[test]
    fn arguments_that_are_no_json_are_kept_as_they_are() {
        let broken = json!([{"index": 0, "id": "a", "function": {"name": "z", "arguments": "{\"q\": nope"}}]);
        let expected = [call("a", "z", "{\"q\": nope"), end(FinishReason::ToolCalls)];
        assert_finishes(&[calls(&broken), finish("tool_calls")], &expected);
    }

    #[test]
    fn a_call_that_a_limit_cut_is_left_out() {
        let cut = json!([
            {"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}},
            {"index": 1, "id": "b", "function": {"name": "g", "arguments": "{\"no"}},
            {"index": 2, "id": "c", "function": {"name": "h"}},
        ]);
        let expected = [call("a", "f", "{}"), end(FinishReason::Length)];
        assert_finishes(&[calls(&cut), finish("length")], &expected);
        let mut native = finish("tool_calls");
        native["choices"][0]["native_finish_reason"] = json!("MAX_TOKENS");
        assert_finishes(&[calls(&cut), native], &expected);
    }

    #[test]
    fn a_legacy_function_call_is_a_call() {
        let function = |function: &Value| delta(&json!({"function_call": function}));
        let events = [
            function(&json!({"name": "f", "arguments": ""})),
            function(&json!({"arguments": "{}"})),
            finish("function_call"),
        ];
        assert_finishes(
            &events,
            &[call("call_0", "f", "{}"), end(FinishReason::ToolCalls)],
        );
    }

    #[test]
    fn content_may_be_an_array_of_text_and_thoughts() {
        let parts = json!({"content": [
            {"type": "thinking", "thinking": [{"type": "text", "text": "Let me "}]},
            {"type": "thinking", "thinking": "think"},
            {"type": "text", "text": "Bon"},
            {"type": "reference", "reference_ids": [1]},
        ]});
        let thought = |text: &str| Delta::Reasoning(text.to_owned());
        assert_finishes(
            &[
                delta(&parts),
                delta(&json!({"content": "jour"})),
                finish("stop"),
            ],
            &[
                thought("Let me "),
                thought("think"),
                text("Bon"),
                text("jour"),
                end(FinishReason::Stop),
            ],
        );
    }

    #[test]
    fn finish_reasons_of_all_dialects_are_known() {
        for (reason, expected) in [
            ("stop", FinishReason::Stop),
            ("length", FinishReason::Length),
            ("model_length", FinishReason::Length),
            ("content_filter", FinishReason::ContentFilter),
            ("eos_token", FinishReason::Other),
        ] {
            assert_finishes(
                &[delta(&json!({"content": "x"})), finish(reason)],
                &[text("x"), end(expected)],
            );
        }
        for (reason, fault) in [
            ("error", Fault::Server),
            ("insufficient_system_resource", Fault::Overloaded),
        ] {
            let (deltas, failure) =
                run(&(body(&[delta(&json!({"content": "x"})), finish(reason)])
                    + "data: [DONE]\n\n"));
            assert_eq!((deltas, failure), (vec![text("x")], Some((fault, true))));
        }
    }

    #[test]
    fn counts_that_are_floats_are_counts_and_absurd_ones_are_not() {
        let usage = |usage: Value| json!({"usage": usage});
        let events = [
            delta(&json!({"content": "y"})),
            usage(json!({"prompt_tokens": 12.0, "completion_tokens": 3.0, "total_tokens": 15.0})),
            usage(
                json!({"prompt_tokens": -1, "completion_tokens": 1e300, "prompt_tokens_details": "none"}),
            ),
            finish("stop"),
        ];
        let counted = Usage {
            input_tokens: Some(12),
            output_tokens: Some(3),
            ..Usage::default()
        };
        assert_finishes(
            &events,
            &[text("y"), Delta::Usage(counted), end(FinishReason::Stop)],
        );
    }

    #[test]
    fn usage_that_only_groq_sends_is_found() {
        let mut last = finish("stop");
        last["x_groq"] = json!({"id": "r", "usage": {"prompt_tokens": 3, "completion_tokens": 2}});
        let counted = Usage {
            input_tokens: Some(3),
            output_tokens: Some(2),
            ..Usage::default()
        };
        let expected = [text("x"), Delta::Usage(counted), end(FinishReason::Stop)];
        assert_finishes(&[delta(&json!({"content": "x"})), last], &expected);
    }

    #[test]
    fn an_event_that_is_no_json_leaves_no_hole() {
        let good = body(&[delta(&json!({"content": "good "}))]);
        let rest = body(&[delta(&json!({"content": "bad"})), finish("stop")]);
        let (deltas, failure) = run(&format!("{good}data: {{\"choices\":[{{\"del\n\n{rest}"));
        assert_eq!(
            (deltas, failure),
            (vec![text("good ")], Some((Fault::Malformed, true)))
        );
    }

    #[test]
    fn another_protocol_at_this_address_is_hopeless() {
        for foreign in [
            json!({"type": "response.created", "response": {"id": "r"}}),
            json!({"type": "message_start", "message": {"id": "m"}}),
            json!({"candidates": [{"content": {"parts": [{"text": "x"}]}}]}),
        ] {
            assert_eq!(
                run(&body(&[foreign])),
                (Vec::new(), Some((Fault::Malformed, false)))
            );
        }
    }

    #[test]
    fn an_error_is_not_undone_by_what_follows() {
        let error = json!({"error": {"message": "x", "type": "InternalServerError", "param": null, "code": 500}});
        let (deltas, failure) =
            run(&(body(&[delta(&json!({"content": "Once"})), error]) + "data: [DONE]\n\n"));
        assert_eq!(
            (deltas, failure),
            (vec![text("Once")], Some((Fault::Server, true)))
        );
    }

    #[test]
    fn a_name_of_error_counts_where_the_data_does_not_say_what_it_is() {
        for (data, fault) in [
            (
                "{\"message\":\"x\",\"code\":\"rate_limit_exceeded\"}",
                Fault::RateLimited,
            ),
            ("something broke", Fault::Server),
        ] {
            assert_eq!(
                run(&format!("event: error\ndata: {data}\n\n")).1,
                Some((fault, true))
            );
        }
    }

    #[test]
    fn raw_control_characters_do_not_break_an_event() {
        let event = "data: {\"choices\":[{\"delta\":{\"content\":\"a\tb\"},\"finish_reason\":\"stop\"}]}\n\n";
        assert_eq!(
            run(event),
            (vec![text("a\tb"), end(FinishReason::Stop)], None)
        );
    }

    #[test]
    fn a_whole_reply_may_come_after_blank_lines_and_may_be_cut() {
        let reply = json!({"choices": [{"message": {"role": "assistant", "content": "56"}, "finish_reason": "stop"}]}).to_string();
        assert_eq!(
            run(&format!("\n\n  \n{reply}")),
            (vec![text("56"), end(FinishReason::Stop)], None)
        );
        assert_eq!(
            run(&format!("\u{feff}{reply}")),
            (vec![text("56"), end(FinishReason::Stop)], None)
        );
        assert_eq!(
            run(&reply[..reply.len() - 3]),
            (Vec::new(), Some((Fault::TruncatedStream, true)))
        );
        let error =
            json!({"error": {"message": "The server had an error", "type": "server_error"}})
                .to_string();
        assert_eq!(run(&error), (Vec::new(), Some((Fault::Server, true))));
    }

    #[test]
    fn done_without_any_chunk_is_empty_and_without_a_finish_is_truncated() {
        assert_eq!(
            run("data: [DONE]\n\n").1,
            Some((Fault::EmptyResponse, true))
        );
        let unfinished = body(&[delta(&json!({"content": "x"}))]) + "data: [DONE]\n\n";
        assert_eq!(
            run(&unfinished),
            (vec![text("x")], Some((Fault::TruncatedStream, true)))
        );
    }

    #[test]
    fn a_reply_without_output_is_finished_and_says_so() {
        let (deltas, failure) = run(&body(&[finish("stop")]));
        assert!(failure.is_none());
        assert!(
            matches!(&deltas[..], [Delta::Notice(notice), Delta::Finished { .. }] if notice.code == "empty_output")
        );
    }
}
