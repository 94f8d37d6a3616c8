//! Stored messages in the words of other protocols, for clients that restore a conversation. What
//! they get here they may post again as their transcript.

use std::borrow::Cow;

use serde_json::Value;
use tutor_core::message::Part;
use tutor_core::{Content, Message, Role};

mod agui;
mod anthropic;
mod openai;
mod ui;

pub(crate) use agui::agui;
pub(crate) use anthropic::anthropic;
pub(crate) use openai::openai;
pub(crate) use ui::ui;

/// A part of a message up to the results of tools, for protocols in which these are messages of
/// their own.
#[derive(Default)]
struct Step<'a> {
    /// Text, images, files and calls, in order.
    said: Vec<&'a Part>,
    results: Vec<Answer<'a>>,
}

/// What a tool answered.
#[derive(Clone, Copy)]
struct Answer<'a> {
    call_id: &'a str,
    result: &'a Value,
    is_error: bool,
}

impl Answer<'_> {
    fn text(&self) -> String {
        plain(self.result)
    }
}

impl Step<'_> {
    fn text(&self) -> String {
        self.said.iter().filter_map(|part| part.as_text()).collect()
    }

    fn is_text(&self) -> bool {
        self.said.iter().all(|part| part.as_text().is_some())
    }
}

/// The parts of a content; a text is one part.
fn parts(content: &Content) -> Cow<'_, [Part]> {
    match content {
        Content::Text(text) => Cow::Owned(vec![Part::Text { text: text.clone() }]),
        Content::Parts(parts) => Cow::Borrowed(parts),
    }
}

/// At least one step. A learner's message is one: what the client's tools answered, and what else
/// was said then. A reply is as many as it went on after tools had answered.
fn steps(role: Role, parts: &[Part]) -> Vec<Step<'_>> {
    let mut steps = vec![Step::default()];
    for part in parts {
        let has_results = steps.last().is_some_and(|step| !step.results.is_empty());
        if role == Role::Assistant && has_results && answer(part).is_none() {
            steps.push(Step::default());
        }
        let Some(step) = steps.last_mut() else { break };
        match (answer(part), part) {
            (Some(answer), _) => step.results.push(answer),
            (None, Part::Replay { .. }) => {}
            (None, _) => step.said.push(part),
        }
    }
    // What is for the provider alone may come last.
    if steps.len() > 1 && steps.last().is_some_and(|step| step.said.is_empty()) {
        steps.pop();
    }
    steps
}

fn answer(part: &Part) -> Option<Answer<'_>> {
    match part {
        Part::ToolResult {
            call_id,
            result,
            is_error,
            ..
        } => Some(Answer {
            call_id,
            result,
            is_error: *is_error,
        }),
        _ => None,
    }
}

/// The type and the base64 of a `data:` URL.
fn embedded(url: &str) -> Option<(&str, &str)> {
    url.strip_prefix("data:")?.split_once(";base64,")
}

/// Where an upload is read.
fn upload(file_id: &str) -> String {
    format!("/api/files/{file_id}")
}

/// The type of a file that nobody knows.
const UNKNOWN_TYPE: &str = "application/octet-stream";

/// A call's arguments as a text of JSON.
fn arguments_text(arguments: &Value) -> String {
    plain(arguments)
}

/// A text as it is, anything else as JSON.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// True if a reply asks for something that nothing in it answers.
pub(crate) fn waits(message: &Message) -> bool {
    let parts = parts(&message.content);
    let answers = |id: &str| parts.iter().filter_map(answer).any(|it| it.call_id == id);
    message.role == Role::Assistant
        && parts
            .iter()
            .any(|part| matches!(part, Part::ToolCall { call_id, .. } if !answers(call_id)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Messages with everything that one can have.
    fn messages() -> Vec<Message> {
        let of = |id: &str, role: &str, content: Value| {
            serde_json::from_value(json!({"id": id, "session_id": "s", "role": role,
                "content": content, "author": "learner", "timestamp": "2026-01-01T00:00:00Z"}))
            .unwrap()
        };
        let call = |id: &str| json!({"type": "tool_call", "call_id": id, "name": "add", "arguments": {"a": 1}});
        let result = |id: &str, is_error: bool| {
            json!({"type": "tool_result", "call_id": id, "name": "add",
            "result": {"sum": 2}, "is_error": is_error})
        };
        let text = |text: &str| json!({"type": "text", "text": text});
        vec![
            of(
                "u1",
                "user",
                json!([text("look"),
                {"type": "image", "url": "https://a.example/b.png"},
                {"type": "image", "url": "data:image/png;base64,AAAA", "media_type": "image/png"},
                {"type": "file", "file_id": "f1", "name": "n.pdf", "media_type": "application/pdf"},
                {"type": "file", "file_id": "data:text/plain;base64,QQ==", "name": "n.txt"}]),
            ),
            of(
                "a1",
                "assistant",
                json!([text("I add."), call("c1"), result("c1", false),
                {"type": "replay", "protocol": "p", "data": 1}, text("Two. And?"), call("c2")]),
            ),
            of("u2", "user", json!([result("c2", true), text("well")])),
            of("a2", "assistant", json!("Done.")),
        ]
    }

    #[test]
    fn the_ai_sdk_gets_files_and_calls_with_their_results() {
        let ui = ui(&messages(), &[]);
        assert_eq!(
            ui[0]["parts"],
            json!([
                {"type": "text", "text": "look"},
                {"type": "file", "mediaType": "image/*", "url": "https://a.example/b.png"},
                {"type": "file", "mediaType": "image/png", "url": "data:image/png;base64,AAAA"},
                {"type": "file", "mediaType": "application/pdf", "filename": "n.pdf", "url": "/api/files/f1"},
                {"type": "file", "mediaType": "text/plain", "filename": "n.txt", "url": "data:text/plain;base64,QQ=="},
            ])
        );
        assert_eq!(
            ui[1]["parts"],
            json!([
                {"type": "text", "text": "I add."},
                {"type": "tool-add", "toolCallId": "c1", "state": "output-available", "input": {"a": 1},
                    "output": {"sum": 2}},
                {"type": "text", "text": "Two. And?"},
                {"type": "tool-add", "toolCallId": "c2", "state": "output-error", "input": {"a": 1},
                    "errorText": "{\"sum\":2}"},
            ])
        );
        assert_eq!(ui[2]["parts"], json!([{"type": "text", "text": "well"}]));
        assert_eq!(ui.len(), 4);
    }

    #[test]
    fn openai_gets_files_calls_and_messages_of_tools() {
        let call = |id: &str| {
            json!([{"id": id, "type": "function",
            "function": {"name": "add", "arguments": "{\"a\":1}"}}])
        };
        assert_eq!(
            json!(openai(&messages())),
            json!([
                {"role": "user", "content": [
                    {"type": "text", "text": "look"},
                    {"type": "image_url", "image_url": {"url": "https://a.example/b.png"}},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                    {"type": "file", "file": {"file_id": "f1", "filename": "n.pdf"}},
                    {"type": "file", "file": {"file_data": "data:text/plain;base64,QQ==", "filename": "n.txt"}}]},
                {"role": "assistant", "content": "I add.", "tool_calls": call("c1")},
                {"role": "tool", "tool_call_id": "c1", "content": "{\"sum\":2}"},
                {"role": "assistant", "content": "Two. And?", "tool_calls": call("c2")},
                {"role": "tool", "tool_call_id": "c2", "content": "{\"sum\":2}"},
                {"role": "user", "content": "well"},
                {"role": "assistant", "content": "Done."},
            ])
        );
    }

    #[test]
    fn anthropic_gets_images_documents_calls_and_results() {
        let call =
            |id: &str| json!({"type": "tool_use", "id": id, "name": "add", "input": {"a": 1}});
        assert_eq!(
            json!(anthropic(&messages())),
            json!([
                {"role": "user", "content": [
                    {"type": "text", "text": "look"},
                    {"type": "image", "source": {"type": "url", "url": "https://a.example/b.png"}},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
                    {"type": "document", "title": "n.pdf", "source": {"type": "file", "file_id": "f1"}},
                    {"type": "document", "title": "n.txt",
                        "source": {"type": "base64", "media_type": "text/plain", "data": "QQ=="}}]},
                {"role": "assistant", "content": [{"type": "text", "text": "I add."}, call("c1")]},
                {"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "c1", "content": "{\"sum\":2}"}]},
                {"role": "assistant", "content": [{"type": "text", "text": "Two. And?"}, call("c2")]},
                {"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "c2", "content": "{\"sum\":2}", "is_error": true},
                    {"type": "text", "text": "well"}]},
                {"role": "assistant", "content": [{"type": "text", "text": "Done."}]},
            ])
        );
    }

    #[test]
    fn ag_ui_gets_media_calls_and_messages_of_tools_under_ids_of_their_own() {
        let call = |id: &str| {
            json!([{"id": id, "type": "function",
            "function": {"name": "add", "arguments": "{\"a\":1}"}}])
        };
        assert_eq!(
            json!(agui(&messages())),
            json!([
                {"id": "u1", "role": "user", "content": [
                    {"type": "text", "text": "look"},
                    {"type": "image", "source": {"type": "url", "value": "https://a.example/b.png"}},
                    {"type": "image", "source": {"type": "data", "value": "AAAA", "mimeType": "image/png"}},
                    {"type": "document", "metadata": {"filename": "n.pdf"},
                        "source": {"type": "url", "value": "/api/files/f1", "mimeType": "application/pdf"}},
                    {"type": "document", "metadata": {"filename": "n.txt"},
                        "source": {"type": "data", "value": "QQ==", "mimeType": "text/plain"}}]},
                {"id": "a1", "role": "assistant", "content": "I add.", "toolCalls": call("c1")},
                {"id": "a1-c1", "role": "tool", "toolCallId": "c1", "content": "{\"sum\":2}"},
                {"id": "a1-2", "role": "assistant", "content": "Two. And?", "toolCalls": call("c2")},
                {"id": "u2-c2", "role": "tool", "toolCallId": "c2", "content": "{\"sum\":2}",
                    "error": "{\"sum\":2}"},
                {"id": "u2", "role": "user", "content": "well"},
                {"id": "a2", "role": "assistant", "content": "Done."},
            ])
        );
    }

    #[test]
    fn results_alone_are_the_message_that_is_stored() {
        let results: Message = serde_json::from_value(json!({"id": "u", "session_id": "s",
            "role": "user", "author": "learner", "timestamp": "2026-01-01T00:00:00Z", "content": [
                {"type": "tool_result", "call_id": "c1", "result": "1"},
                {"type": "tool_result", "call_id": "c2", "result": "2"}]}))
        .unwrap();
        let ids: Vec<_> = agui(std::slice::from_ref(&results))
            .iter()
            .map(|m| m["id"].clone())
            .collect();
        assert_eq!(ids, ["u-c1", "u"]);
        assert_eq!(openai(std::slice::from_ref(&results)).len(), 2);
        assert!(ui(&[results], &[]).is_empty());
    }
}
