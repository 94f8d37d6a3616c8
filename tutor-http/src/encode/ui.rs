//! The UI message stream of the AI SDK, as its `useChat` reads it.
//!
//! Clients before certain releases refuse chunks with keys that they do not know, so by default
//! nothing is sent that release 5.0.0 does not know.

use bytes::{BufMut, BytesMut};
use serde_json::{Map, Value, json};
use tutor_core::{Event, FinishReason, TurnEvent, TurnStatus, Usage};

use super::{DETACHED, DONE, Encoder, Flow, data};

/// Which release of the SDK the client is, as far as it matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Sdk {
    /// Everything since 5.0.0.
    #[default]
    V5,
    /// Knows `finish.finishReason`.
    V5_0_92,
    /// Knows what 5.0.92 knows.
    V6,
    /// Knows what 6 knows.
    V7,
    /// Knows `reset-step`.
    V7_0_77,
}

impl Sdk {
    /// The release that the text names; `None` for one that nobody has heard of.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "5" | "5.0.0" => Self::V5,
            "5.0.92" => Self::V5_0_92,
            "6" => Self::V6,
            "7" => Self::V7,
            "7.0.77" => Self::V7_0_77,
            _ => return None,
        })
    }
}

/// The events of one turn as chunks of the AI SDK's UI message stream, for a host that sends them by
/// itself. Every release since 5.0.0 reads them.
#[derive(Debug)]
pub struct UiMessageChunks(Ui);

impl UiMessageChunks {
    /// The chunks of one turn, of which nothing was sent yet.
    #[expect(
        clippy::new_without_default,
        reason = "it is the beginning of something, not a value"
    )]
    pub fn new() -> Self {
        Self(Ui::new(Sdk::default()))
    }

    /// The chunks that the next event is: JSON objects with a `type`; none if there is no word for
    /// it.
    pub fn encode(&mut self, event: &TurnEvent) -> Vec<Value> {
        let mut chunks = Vec::new();
        let _ = self.0.chunks(event, &mut |chunk| chunks.push(chunk));
        chunks
    }
}

/// Where chunks go.
type Put<'a> = &'a mut dyn FnMut(Value);

/// The chunks of one message.
#[derive(Debug)]
pub(crate) struct Ui {
    sdk: Sdk,
    /// The text or reasoning block that is open.
    open: Option<Kind>,
    /// How many blocks were opened: each has an id of its own.
    blocks: usize,
    /// What the step that is open has had.
    step: Step,
    usage: Option<Usage>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Reasoning,
}

impl Kind {
    fn chunk(self, what: &str) -> String {
        match self {
            Self::Text => format!("text-{what}"),
            Self::Reasoning => format!("reasoning-{what}"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Empty,
    Filled,
    /// Results of tools came last: what follows is a step of its own.
    Answered,
}

impl Ui {
    pub(crate) fn new(sdk: Sdk) -> Self {
        Self {
            sdk,
            open: None,
            blocks: 0,
            step: Step::Empty,
            usage: None,
        }
    }

    fn block_id(&self) -> String {
        format!("b{}", self.blocks)
    }

    fn delta(&mut self, kind: Kind, text: &str, put: Put<'_>) {
        if self.open != Some(kind) {
            self.fill(put);
            self.blocks += 1;
            put(json!({"type": kind.chunk("start"), "id": self.block_id()}));
            self.open = Some(kind);
        }
        put(json!({"type": kind.chunk("delta"), "id": self.block_id(), "delta": text}));
    }

    fn close(&mut self, put: Put<'_>) {
        if let Some(kind) = self.open.take() {
            put(json!({"type": kind.chunk("end"), "id": self.block_id()}));
        }
    }

    /// Makes room for a new part.
    fn fill(&mut self, put: Put<'_>) {
        self.close(put);
        if self.step == Step::Answered {
            self.next_step(put);
        }
        self.step = Step::Filled;
    }

    fn next_step(&mut self, put: Put<'_>) {
        put(json!({"type": "finish-step"}));
        put(json!({"type": "start-step"}));
        self.step = Step::Empty;
    }

    fn restart(&mut self, put: Put<'_>) {
        if self.step == Step::Empty {
            return;
        }
        self.close(put);
        if self.sdk >= Sdk::V7_0_77 {
            put(json!({"type": "reset-step"}));
            self.step = Step::Empty;
            return;
        }
        self.next_step(put);
        let what = json!({"code": "attempt_restarted",
            "message": "the reply above broke off, and begins anew"});
        put(json!({"type": "data-notice", "data": what}));
    }

    fn finish(&mut self, reason: FinishReason, status: TurnStatus, put: Put<'_>) {
        self.close(put);
        put(json!({"type": "finish-step"}));
        if status == TurnStatus::Cancelled {
            put(json!({"type": "abort"}));
            return;
        }
        let mut metadata = Map::new();
        metadata.insert("finishReason".to_owned(), json!(reason_name(reason)));
        if let Some(usage) = &self.usage {
            metadata.insert("usage".to_owned(), usage_object(usage));
        }
        let mut chunk = json!({"type": "finish", "messageMetadata": metadata});
        if self.sdk >= Sdk::V5_0_92 {
            chunk["finishReason"] = json!(reason_name(reason));
        }
        put(chunk);
    }

    /// The chunks that an event is, in order.
    fn chunks(&mut self, event: &TurnEvent, put: Put<'_>) -> Flow {
        match &event.event {
            Event::TurnStarted {
                turn_id,
                session_id,
                reply_message_id,
                provider,
                model,
                ..
            } => {
                let metadata = json!({"sessionId": session_id, "turnId": turn_id,
                    "provider": provider, "model": model});
                put(json!({"type": "start", "messageId": reply_message_id,
                        "messageMetadata": metadata}));
                put(json!({"type": "start-step"}));
            }
            Event::TextDelta { text } => self.delta(Kind::Text, text, put),
            Event::ReasoningDelta { text } => self.delta(Kind::Reasoning, text, put),
            Event::ToolCall {
                call_id,
                name,
                arguments,
            } => {
                self.fill(put);
                put(
                    json!({"type": "tool-input-available", "toolCallId": call_id,
                        "toolName": name, "input": arguments}),
                );
            }
            Event::ToolResult {
                call_id,
                result,
                is_error,
            } => {
                self.close(put);
                self.step = Step::Answered;
                let answer = if *is_error {
                    let why = match result {
                        Value::String(text) => text.clone(),
                        other => other.to_string(),
                    };
                    json!({"type": "tool-output-error", "toolCallId": call_id, "errorText": why})
                } else {
                    json!({"type": "tool-output-available", "toolCallId": call_id,
                        "output": result})
                };
                put(answer);
            }
            Event::AttemptRestarted { .. } => self.restart(put),
            Event::Notice(notice) => put(json!({"type": "data-notice", "transient": true,
                    "data": {"code": notice.code, "message": notice.message}})),
            Event::Data { name, value } => {
                put(json!({"type": format!("data-{name}"), "data": value}));
            }
            Event::Usage(usage) => self.usage = Some(*usage),
            Event::TurnFinished {
                finish_reason,
                status,
                ..
            } => {
                self.finish(*finish_reason, *status, put);
                return Flow::End;
            }
            Event::TurnFailed { error, .. } => {
                put(json!({"type": "error", "errorText": error.message}));
                return Flow::End;
            }
            _ => {}
        }
        Flow::On
    }
}

impl Encoder for Ui {
    const HEADERS: &'static [(&'static str, &'static str)] =
        &[("x-vercel-ai-ui-message-stream", "v1")];

    fn event(&mut self, event: &TurnEvent, out: &mut BytesMut) -> Flow {
        let flow = self.chunks(event, &mut |chunk| data(out, &chunk));
        if flow.is_over() {
            out.put_slice(DONE);
        }
        flow
    }

    /// Without `[DONE]`: clients of this protocol come back by their resume route.
    fn detach(&mut self, out: &mut BytesMut) -> Flow {
        data(out, &json!({"type": "error", "errorText": DETACHED}));
        out.put_slice(DONE);
        Flow::End
    }
}

fn reason_name(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
        FinishReason::ToolCalls => "tool-calls",
        FinishReason::ContentFilter | FinishReason::Refusal => "content-filter",
        _ => "other",
    }
}

fn usage_object(usage: &Usage) -> Value {
    let figures = [
        ("inputTokens", usage.input_tokens),
        ("outputTokens", usage.output_tokens),
        ("reasoningTokens", usage.reasoning_tokens),
        ("cachedInputTokens", usage.cached_input_tokens),
    ];
    let known = figures
        .into_iter()
        .filter_map(|(name, figure)| Some((name.to_owned(), json!(figure?))));
    Value::Object(known.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::testing::{
        call, cancelled, failed, finished, frames, notice, restarted, result, run, started, text,
        thought, used,
    };

    fn chunks(sdk: Sdk, events: &[TurnEvent]) -> Vec<Value> {
        let (out, flow) = run(&mut Ui::new(sdk), events);
        assert_eq!(flow, Flow::End);
        assert!(out.ends_with("data: [DONE]\n\n"));
        let sent = frames(&out);
        if sdk == Sdk::default() {
            let mut encoder = UiMessageChunks::new();
            let same: Vec<Value> = events.iter().flat_map(|it| encoder.encode(it)).collect();
            assert_eq!(sent, same);
        }
        sent
    }

    fn kinds(chunks: &[Value]) -> Vec<&str> {
        chunks.iter().map(|c| c["type"].as_str().unwrap()).collect()
    }

    #[test]
    fn the_default_is_what_the_first_release_knows() {
        let events = [started(), thought("hm"), text("Hi"), used(), finished("Hi")];
        let sent = chunks(Sdk::default(), &events);
        assert_eq!(
            kinds(&sent),
            [
                "start",
                "start-step",
                "reasoning-start",
                "reasoning-delta",
                "reasoning-end",
                "text-start",
                "text-delta",
                "text-end",
                "finish-step",
                "finish"
            ]
        );
        assert_eq!(sent[0]["messageId"], "r1");
        assert_ne!(sent[2]["id"], sent[5]["id"]);
        assert_eq!(
            sent[9],
            json!({"type": "finish", "messageMetadata": {"finishReason": "stop",
                "usage": {"inputTokens": 12, "outputTokens": 5}}})
        );
        let newer = chunks(Sdk::V6, &events);
        assert_eq!(newer[9]["finishReason"], "stop");
    }

    #[test]
    fn what_follows_a_tools_result_is_a_step_of_its_own() {
        let events = [
            started(),
            call("c1"),
            result("c1"),
            text("4"),
            finished("4"),
        ];
        assert_eq!(
            kinds(&chunks(Sdk::V5, &events)),
            [
                "start",
                "start-step",
                "tool-input-available",
                "tool-output-available",
                "finish-step",
                "start-step",
                "text-start",
                "text-delta",
                "text-end",
                "finish-step",
                "finish"
            ]
        );
    }

    #[test]
    fn a_restart_drops_what_was_sent_as_far_as_the_client_can() {
        let events = [
            started(),
            text("H"),
            restarted(),
            text("Hi"),
            finished("Hi"),
        ];
        let old = chunks(Sdk::V5, &events);
        assert!(kinds(&old).contains(&"data-notice") && !kinds(&old).contains(&"reset-step"));
        let new = chunks(Sdk::V7_0_77, &events);
        assert!(kinds(&new).contains(&"reset-step"));
        let silent = [started(), restarted(), text("Hi"), finished("Hi")];
        assert!(!kinds(&chunks(Sdk::V5, &silent)).contains(&"data-notice"));
    }

    #[test]
    fn an_end_that_is_no_finish_is_told() {
        let stopped = chunks(Sdk::V5, &[started(), text("H"), cancelled()]);
        assert_eq!(kinds(&stopped).last(), Some(&"abort"));
        let broken = chunks(Sdk::V5, &[started(), notice(), failed()]);
        assert_eq!(
            broken.last().unwrap(),
            &json!({"type": "error", "errorText": "the provider is overloaded"})
        );
    }
}
