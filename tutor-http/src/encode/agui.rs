//! AG-UI: the events that its clients' state machine accepts.
//!
//! Absent members are left out, never null; nothing follows the last event, not even `[DONE]`.

use bytes::BytesMut;
use serde_json::{Value, json};
use tutor_core::{Event, TurnEvent, TurnStatus};

use super::{DETACHED, Encoder, Flow, STOPPED, data};
use crate::error::dialect::STOPPED_CODE;

/// The sentence for a client whose snapshot would be too large.
const TRUNCATED: &str = "the thread is too long to be sent at once: its oldest messages are listed at \
    /api/sessions/{session_id}/messages";

/// The events of one run.
#[derive(Debug)]
pub(crate) struct AgUi {
    thread_id: String,
    run_id: String,
    message_id: String,
    open: Option<Kind>,
    /// How many messages of the reply were opened: each needs an id of its own.
    messages: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Reasoning,
}

impl AgUi {
    pub(crate) fn new(thread_id: String, run_id: String) -> Self {
        Self {
            thread_id,
            run_id,
            message_id: String::new(),
            open: None,
            messages: 0,
        }
    }

    /// The event that begins a run.
    pub(crate) fn begin(&self, out: &mut BytesMut) {
        self.run("RUN_STARTED", out);
    }

    /// The event that ends it well.
    pub(crate) fn end(&self, out: &mut BytesMut) {
        self.run("RUN_FINISHED", out);
    }

    /// The thread's messages.
    pub(crate) fn snapshot(&self, messages: &[Value], out: &mut BytesMut) {
        data(
            out,
            &json!({"type": "MESSAGES_SNAPSHOT", "messages": messages}),
        );
    }

    fn run(&self, kind: &str, out: &mut BytesMut) {
        data(
            out,
            &json!({"type": kind, "threadId": self.thread_id, "runId": self.run_id}),
        );
    }

    /// The first text has the id of the stored reply; what else is opened has ids made from it.
    fn current_id(&self) -> String {
        match (self.open, self.messages) {
            (Some(Kind::Reasoning), n) => format!("{}-reasoning-{n}", self.message_id),
            (_, 0 | 1) => self.message_id.clone(),
            (_, n) => format!("{}-{n}", self.message_id),
        }
    }

    fn delta(&mut self, kind: Kind, text: &str, out: &mut BytesMut) {
        if self.open != Some(kind) {
            self.close(out);
            self.open = Some(kind);
            if kind == Kind::Text {
                self.messages += 1;
            }
            let id = self.current_id();
            match kind {
                Kind::Text => data(
                    out,
                    &json!({"type": "TEXT_MESSAGE_START", "messageId": id, "role": "assistant"}),
                ),
                Kind::Reasoning => {
                    data(out, &json!({"type": "REASONING_START", "messageId": id}));
                    data(
                        out,
                        &json!({"type": "REASONING_MESSAGE_START", "messageId": id,
                            "role": "reasoning"}),
                    );
                }
            }
        }
        let name = match kind {
            Kind::Text => "TEXT_MESSAGE_CONTENT",
            Kind::Reasoning => "REASONING_MESSAGE_CONTENT",
        };
        data(
            out,
            &json!({"type": name, "messageId": self.current_id(), "delta": text}),
        );
    }

    fn close(&mut self, out: &mut BytesMut) {
        let id = self.current_id();
        match self.open.take() {
            Some(Kind::Text) => data(out, &json!({"type": "TEXT_MESSAGE_END", "messageId": id})),
            Some(Kind::Reasoning) => {
                data(
                    out,
                    &json!({"type": "REASONING_MESSAGE_END", "messageId": id}),
                );
                data(out, &json!({"type": "REASONING_END", "messageId": id}));
            }
            None => {}
        }
    }

    fn call(&mut self, call_id: &str, name: &str, arguments: &Value, out: &mut BytesMut) {
        self.close(out);
        let arguments = match arguments {
            Value::String(raw) => raw.clone(),
            object => object.to_string(),
        };
        data(
            out,
            &json!({"type": "TOOL_CALL_START", "toolCallId": call_id, "toolCallName": name}),
        );
        data(
            out,
            &json!({"type": "TOOL_CALL_ARGS", "toolCallId": call_id, "delta": arguments}),
        );
        data(
            out,
            &json!({"type": "TOOL_CALL_END", "toolCallId": call_id}),
        );
    }

    /// That the oldest messages are missing in a snapshot.
    pub(crate) fn truncated(out: &mut BytesMut) {
        let what = json!({"code": "history_truncated", "message": TRUNCATED});
        Self::custom("notice", &what, out);
    }

    fn custom(name: &str, value: &Value, out: &mut BytesMut) {
        data(
            out,
            &json!({"type": "CUSTOM", "name": name, "value": value}),
        );
    }

    fn fail(message: &str, code: &str, out: &mut BytesMut) -> Flow {
        data(
            out,
            &json!({"type": "RUN_ERROR", "message": message, "code": code}),
        );
        Flow::End
    }
}

impl Encoder for AgUi {
    fn event(&mut self, event: &TurnEvent, out: &mut BytesMut) -> Flow {
        match &event.event {
            Event::TurnStarted {
                reply_message_id, ..
            } => {
                self.message_id = reply_message_id.to_string();
                self.begin(out);
            }
            Event::TextDelta { text } => self.delta(Kind::Text, text, out),
            Event::ReasoningDelta { text } => self.delta(Kind::Reasoning, text, out),
            Event::ToolCall {
                call_id,
                name,
                arguments,
            } => self.call(call_id, name, arguments, out),
            Event::ToolResult {
                call_id, result, ..
            } => {
                self.close(out);
                let content = match result {
                    Value::String(text) => text.clone(),
                    other => other.to_string(),
                };
                data(
                    out,
                    &json!({"type": "TOOL_CALL_RESULT", "toolCallId": call_id,
                        "messageId": format!("{}-{call_id}", self.message_id), "content": content}),
                );
            }
            Event::AttemptRestarted { attempt, reason } => {
                self.close(out);
                let what = json!({"attempt": attempt, "reason": reason});
                Self::custom("attempt.restarted", &what, out);
            }
            Event::Notice(notice) => {
                let what = json!({"code": notice.code, "message": notice.message});
                Self::custom("notice", &what, out);
            }
            Event::Data { name, value } => Self::custom(name, value, out),
            Event::TurnFinished { status, .. } => {
                self.close(out);
                if *status == TurnStatus::Cancelled {
                    return Self::fail(STOPPED, STOPPED_CODE, out);
                }
                self.end(out);
                return Flow::End;
            }
            Event::TurnFailed { error, .. } => {
                return Self::fail(&error.message, &error.code, out);
            }
            _ => {}
        }
        Flow::On
    }

    fn detach(&mut self, out: &mut BytesMut) -> Flow {
        Self::fail(DETACHED, "overloaded", out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::testing::{
        call, cancelled, failed, finished, frames, notice, restarted, result, run, started, text,
        thought,
    };

    fn events(events: &[TurnEvent]) -> Vec<Value> {
        let (out, flow) = run(&mut AgUi::new("s1".into(), "run1".into()), events);
        assert_eq!(flow, Flow::End);
        assert!(!out.contains("[DONE]") && !out.contains("null"));
        frames(&out)
    }

    /// The rules of the client's state machine.
    fn check(events: &[Value]) {
        let mut open = Vec::new();
        for (i, event) in events.iter().enumerate() {
            let kind = event["type"].as_str().unwrap();
            assert_eq!(i == 0, kind == "RUN_STARTED");
            let id = event["messageId"].as_str().or(event["toolCallId"].as_str());
            let id = id.unwrap_or_default().to_owned();
            match kind {
                "TEXT_MESSAGE_START" | "TOOL_CALL_START" | "REASONING_MESSAGE_START" => {
                    assert!(!open.contains(&id), "{id} is open");
                    open.push(id);
                }
                "TEXT_MESSAGE_CONTENT" | "TOOL_CALL_ARGS" | "REASONING_MESSAGE_CONTENT" => {
                    assert!(open.contains(&id), "{id} is not open");
                }
                "TEXT_MESSAGE_END" | "TOOL_CALL_END" | "REASONING_MESSAGE_END" => {
                    open.retain(|other| *other != id);
                }
                "RUN_FINISHED" => assert!(open.is_empty() && i == events.len() - 1),
                _ => {}
            }
        }
    }

    #[test]
    fn the_clients_state_machine_accepts_every_turn() {
        check(&events(&[
            started(),
            notice(),
            thought("hm"),
            text("Hi"),
            finished("Hi"),
        ]));
        check(&events(&[
            started(),
            text("a"),
            call("c1"),
            result("c1"),
            text("4"),
            finished("4"),
        ]));
        check(&events(&[
            started(),
            text("H"),
            restarted(),
            text("Hi"),
            finished("Hi"),
        ]));
        check(&events(&[
            started(),
            thought("a"),
            text("b"),
            thought("c"),
            text("d"),
            finished("bd"),
        ]));
    }

    #[test]
    fn a_failure_is_an_error_and_nothing_follows() {
        let sent = events(&[started(), text("H"), failed()]);
        assert_eq!(sent.last().unwrap()["type"], "RUN_ERROR");
        assert_eq!(sent.last().unwrap()["code"], "provider_unavailable");
    }

    #[test]
    fn a_reply_that_was_stopped_is_an_error_behind_its_text() {
        let sent = events(&[started(), text("H"), cancelled()]);
        let kinds: Vec<_> = sent.iter().map(|e| e["type"].as_str().unwrap()).collect();
        assert_eq!(kinds[kinds.len() - 2..], ["TEXT_MESSAGE_END", "RUN_ERROR"]);
        assert_eq!(sent.last().unwrap()["code"], "cancelled");
    }

    #[test]
    fn the_first_text_has_the_stored_replys_id() {
        let sent = events(&[started(), thought("hm"), text("Hi"), finished("Hi")]);
        let text = sent
            .iter()
            .find(|e| e["type"] == "TEXT_MESSAGE_START")
            .unwrap();
        assert_eq!(text["messageId"], "r1");
    }
}
