//! What clients of every protocol are told of a conversation, and what becomes of it when they post
//! it again: after a failure, edited, from another protocol, or under a key.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::Notify;
use tutor_core::provider::scripted::{Step, text_script};
use tutor_core::provider::{Delta, ScriptedProvider};
use tutor_core::tool::FnTool;
use tutor_core::{Content, Error, ErrorKind, FinishReason, ToolSpec};
use tutor_http::Bounds;

use crate::client::{Request, Response};
use crate::files::form;
use crate::server::{Server, builder};

const PNG: &str = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ";
const TEXT: &str = "data:text/plain;base64,bm90ZXM=";

fn failing() -> Vec<Step> {
    vec![Step::Fail(|| {
        Error::new(ErrorKind::ProviderUnavailable, "the provider is down")
    })]
}

/// Asks for a tool.
fn asking(name: &str, call: &str) -> Vec<Step> {
    vec![
        Step::Yield(Delta::ToolCall {
            id: call.into(),
            name: name.into(),
            arguments: r#"{"a":1}"#.into(),
        }),
        Step::Yield(Delta::Finished {
            reason: FinishReason::ToolCalls,
        }),
    ]
}

/// A protocol, in whose words whole transcripts are posted.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Protocol {
    Ui,
    OpenAi,
    Anthropic,
    AgUi,
}

const ALL: [Protocol; 4] = [
    Protocol::Ui,
    Protocol::OpenAi,
    Protocol::Anthropic,
    Protocol::AgUi,
];

impl Protocol {
    fn name(self) -> &'static str {
        match self {
            Self::Ui => "ui",
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::AgUi => "agui",
        }
    }

    fn message(self, id: &str, text: &str) -> Value {
        match self {
            Self::Ui => {
                json!({"id": id, "role": "user", "parts": [{"type": "text", "text": text}]})
            }
            Self::AgUi => json!({"id": id, "role": "user", "content": text}),
            Self::OpenAi | Self::Anthropic => json!({"role": "user", "content": text}),
        }
    }

    fn tools(self) -> Value {
        let schema = json!({"type": "object"});
        match self {
            Self::Ui => json!({"add": {"description": "", "parameters": schema}}),
            Self::AgUi => json!([{"name": "add", "description": "", "parameters": schema}]),
            Self::OpenAi => {
                json!([{"type": "function", "function": {"name": "add", "parameters": schema}}])
            }
            Self::Anthropic => json!([{"name": "add", "input_schema": schema}]),
        }
    }

    fn request(self, session: &str, messages: &[Value]) -> Request {
        let request = match self {
            Self::Ui => {
                let body = json!({"id": session, "trigger": "submit-message",
                    "messages": messages, "tools": self.tools()});
                Request::post("/api/chat", &body)
            }
            Self::AgUi => {
                let body = json!({"threadId": session, "runId": "r", "messages": messages,
                    "tools": self.tools(), "state": {}, "context": [], "forwardedProps": {}});
                Request::post("/agui", &body)
            }
            Self::OpenAi => {
                let body = json!({"model": "script", "messages": messages,
                    "tools": self.tools()});
                Request::post("/v1/chat/completions", &body)
            }
            Self::Anthropic => {
                let body = json!({"model": "script", "max_tokens": 99, "messages": messages,
                    "tools": self.tools()});
                Request::post("/v1/messages", &body)
            }
        };
        match self {
            Self::Ui | Self::AgUi => request,
            Self::OpenAi | Self::Anthropic => request.header("X-Session-Id", session),
        }
    }

    async fn post(self, server: &Server, session: &str, messages: &[Value]) -> Response {
        self.request(session, messages).send(server.address).await
    }

    /// The conversation in this protocol's words.
    async fn history(self, server: &Server, session: &str) -> Vec<Value> {
        list(server, session, &format!("?format={}", self.name())).await
    }
}

async fn list(server: &Server, session: &str, query: &str) -> Vec<Value> {
    let path = format!("/api/sessions/{session}/messages{query}");
    let page = Request::get(&path).send(server.address).await.expect(200);
    page["messages"].as_array().unwrap().clone()
}

/// Who said what, in the active branch.
async fn said(server: &Server, session: &str) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let messages = list(server, session, "?limit=200").await;
    let said = messages
        .iter()
        .map(|m| (text(&m["role"]), text(&m["content"])));
    said.collect()
}

fn pairs(said: &[(String, String)]) -> Vec<(&str, &str)> {
    said.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect()
}

/// What the model saw last.
fn seen(provider: &ScriptedProvider) -> Vec<String> {
    let request = provider.requests().pop().unwrap();
    request.messages.iter().map(|m| m.content.text()).collect()
}

#[tokio::test]
async fn a_message_that_is_edited_after_its_failure_is_answered_in_its_new_words() {
    for protocol in [Protocol::Ui, Protocol::AgUi] {
        let provider = ScriptedProvider::new([
            failing(),
            failing(),
            failing(),
            text_script("Fine."),
            text_script("Good."),
        ]);
        let server = Server::with_provider(provider.clone()).await;
        let first = [protocol.message("u1", "wrong")];
        protocol.post(&server, "s", &first).await;
        // The same words: the same message.
        protocol.post(&server, "s", &first).await;
        assert_eq!(pairs(&said(&server, "s").await), [("user", "wrong")]);
        // Other words under its id, and the same once more when these fail, too.
        let edited = [protocol.message("u1", "right")];
        protocol.post(&server, "s", &edited).await;
        assert_eq!(pairs(&said(&server, "s").await), [("user", "right")]);
        let answered = protocol.post(&server, "s", &edited).await;
        assert_eq!(answered.status, 200, "{protocol:?}");
        assert_eq!(seen(&provider), ["right"], "{protocol:?}");
        let expected = [("user", "right"), ("assistant", "Fine.")];
        assert_eq!(pairs(&said(&server, "s").await), expected, "{protocol:?}");
        assert_eq!(list(&server, "s", "?branch=all").await.len(), 3);
        // It goes on from there.
        let mut history = protocol.history(&server, "s").await;
        history.push(protocol.message("u2", "more"));
        assert_eq!(protocol.post(&server, "s", &history).await.status, 200);
        assert_eq!(seen(&provider), ["right", "Fine.", "more"], "{protocol:?}");
    }
}

#[tokio::test]
async fn an_answered_message_that_comes_again_in_other_words_is_edited_in_ag_ui() {
    let provider = ScriptedProvider::new(["One.", "Two."].map(text_script));
    let server = Server::with_provider(provider.clone()).await;
    let run = async |text| {
        let messages = [Protocol::AgUi.message("u1", text)];
        Protocol::AgUi.post(&server, "s", &messages).await.text()
    };
    run("one").await;
    for _ in 0..2 {
        assert!(run("one").await.contains("MESSAGES_SNAPSHOT"));
        assert_eq!(provider.requests().len(), 1);
    }
    assert!(run("two").await.contains("TEXT_MESSAGE_CONTENT"));
    assert_eq!(seen(&provider), ["two"]);
    assert!(run("two").await.contains("MESSAGES_SNAPSHOT"));
    assert_eq!(provider.requests().len(), 2);
}

#[tokio::test]
async fn a_request_that_is_tried_again_does_not_double_what_was_said() {
    for protocol in ALL {
        let provider = ScriptedProvider::new([
            failing(),
            failing(),
            text_script("Light."),
            failing(),
            failing(),
            failing(),
            text_script("Both."),
        ]);
        let server = Server::with_provider(provider.clone()).await;
        let one = [protocol.message("u1", "one")];
        for _ in 0..3 {
            protocol.post(&server, "s", &one).await;
        }
        let mut expected = vec![("user", "one"), ("assistant", "Light.")];
        assert_eq!(pairs(&said(&server, "s").await), expected, "{protocol:?}");
        // Also of several messages that nobody answered.
        let mut transcript = protocol.history(&server, "s").await;
        transcript.push(protocol.message("u2", "two"));
        protocol.post(&server, "s", &transcript).await;
        transcript.push(protocol.message("u3", "three"));
        for _ in 0..3 {
            protocol.post(&server, "s", &transcript).await;
        }
        expected.extend([("user", "two"), ("user", "three"), ("assistant", "Both.")]);
        assert_eq!(pairs(&said(&server, "s").await), expected, "{protocol:?}");
        assert_eq!(provider.requests().len(), 7);
    }
}

#[tokio::test]
async fn a_key_is_refused_for_another_request_in_every_protocol() {
    for protocol in ALL {
        let provider = ScriptedProvider::new(["First.", "Second."].map(text_script));
        let server = Server::with_provider(provider.clone()).await;
        let send = async |session: &str, messages: &[Value], key: &str| {
            let request = protocol.request(session, messages);
            request
                .header("Idempotency-Key", key)
                .send(server.address)
                .await
        };
        let one = [protocol.message("u1", "one")];
        let answered = send("a", &one, "k1").await;
        assert_eq!(answered.status, 200, "{}", answered.text());
        let mut transcript = protocol.history(&server, "a").await;
        transcript.push(protocol.message("u2", "two"));
        assert_eq!(send("a", &transcript, "k2").await.status, 200);
        let wrong = match protocol {
            Protocol::Ui | Protocol::AgUi => 422,
            Protocol::OpenAi | Protocol::Anthropic => 400,
        };
        for (session, messages) in [
            ("b", &one[..]),
            ("a", &[protocol.message("u1", "other")]),
            ("a", &transcript),
        ] {
            let refused = send(session, messages, "k1").await;
            refused.expect(wrong);
            assert_eq!(refused.header("x-session-id"), None);
        }
        // The same is the same, whatever was said since.
        for (messages, key) in [(&one[..], "k1"), (&transcript, "k2")] {
            let again = send("a", messages, key).await;
            assert_eq!(again.status, 200, "{protocol:?}: {}", again.text());
            assert_eq!(again.header("idempotency-replayed"), Some("true"));
            assert_eq!(again.header("x-session-id"), Some("a"));
        }
        assert_eq!(provider.requests().len(), 2, "{protocol:?}");
        assert_eq!(said(&server, "a").await.len(), 4);
    }
}

/// A question with everything that one can have, and a reply that waits for a tool of the client's.
async fn asked(server: &Server) -> Value {
    let upload = form("notes.txt", b"Notes.").send(server.address).await;
    let upload = upload.expect(201)["id"].clone();
    let message = json!({"role": "user", "content": [
        {"type": "text", "text": "Look: "},
        {"type": "image_url", "image_url": {"url": PNG}},
        {"type": "image_url", "image_url": {"url": "https://a.example/b.png"}},
        {"type": "file", "file": {"file_id": upload}},
        {"type": "file", "file": {"file_data": TEXT, "filename": "n.txt"}},
        {"type": "text", "text": "what is it?"}]});
    let asked = Protocol::OpenAi.post(server, "s", &[message]).await;
    let asked = asked.expect(200);
    assert_eq!(asked["choices"][0]["finish_reason"], "tool_calls");
    upload
}

/// What the client's tool gave, behind what the client knows.
fn with_result(protocol: Protocol, mut history: Vec<Value>) -> Vec<Value> {
    match protocol {
        Protocol::Ui => {
            let parts = history.last_mut().unwrap()["parts"].as_array_mut().unwrap();
            let call = parts.last_mut().unwrap();
            assert_eq!(call["state"], "input-available");
            call["state"] = json!("output-available");
            call["output"] = json!({"sum": 2});
        }
        Protocol::OpenAi => history.push(json!({"role": "tool", "tool_call_id": "c1",
            "content": "{\"sum\":2}"})),
        Protocol::Anthropic => history.push(json!({"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "c1", "content": "{\"sum\":2}"}]})),
        Protocol::AgUi => history.push(json!({"id": "t1", "role": "tool", "toolCallId": "c1",
            "content": "{\"sum\":2}"})),
    }
    history
}

#[tokio::test]
async fn files_and_calls_are_told_and_taken_back_in_every_protocol_and_not_doubled() {
    for protocol in ALL {
        let provider = ScriptedProvider::new([
            asking("add", "c1"),
            failing(),
            failing(),
            text_script("Two."),
            text_script("Yes."),
            text_script("Elsewhere."),
        ]);
        let server = Server::with_provider(provider.clone()).await;
        let upload = asked(&server).await;
        let history = protocol.history(&server, "s").await;
        assert_eq!(history.len(), 2, "{protocol:?}");
        let told = json!(history).to_string();
        let url = format!("/api/files/{}", upload.as_str().unwrap());
        let (image, file, id) = match protocol {
            Protocol::Ui | Protocol::OpenAi => (PNG, TEXT, upload.as_str().unwrap()),
            Protocol::Anthropic => (&PNG[22..], &TEXT[23..], upload.as_str().unwrap()),
            Protocol::AgUi => (&PNG[22..], &TEXT[23..], url.as_str()),
        };
        for part in [
            image,
            file,
            id,
            "https://a.example/b.png",
            "notes.txt",
            "c1",
        ] {
            assert!(
                told.contains(part),
                "{protocol:?} is not told {part}: {told}"
            );
        }
        // A page that is loaded again goes on where the reply waits for it, also after failures.
        let answered = with_result(protocol, history);
        for _ in 0..2 {
            protocol.post(&server, "s", &answered).await;
        }
        // Also what a failed turn left is told and taken back.
        let failed = protocol.history(&server, "s").await;
        let sent = if protocol == Protocol::Ui {
            &answered
        } else {
            &failed
        };
        let told = protocol.post(&server, "s", sent).await;
        assert_eq!(told.status, 200, "{protocol:?}: {}", told.text());
        assert_eq!(said(&server, "s").await.len(), 4, "{protocol:?}");
        assert_eq!(provider.requests().len(), 4);
        let mut whole = protocol.history(&server, "s").await;
        whole.push(protocol.message("u9", "Sure?"));
        let goes_on = protocol.post(&server, "s", &whole).await;
        assert_eq!(goes_on.status, 200, "{protocol:?}: {}", goes_on.text());
        assert_eq!(said(&server, "s").await.len(), 6, "{protocol:?}");
        // Another conversation begins with all of it, and the model sees the same.
        let elsewhere = protocol.post(&server, "other", &whole).await;
        assert_eq!(elsewhere.status, 200, "{protocol:?}: {}", elsewhere.text());
        let requests = provider.requests();
        let contents = |n: usize| {
            let messages = requests[n].messages.iter();
            messages.map(|m| m.content.text()).collect::<String>()
        };
        assert_eq!(contents(5), contents(4), "{protocol:?}");
        assert!(contents(5).contains("Notes."));
    }
}

#[tokio::test]
async fn a_question_with_files_is_not_doubled_when_it_is_posted_again_as_it_is_told() {
    for protocol in ALL {
        let provider = ScriptedProvider::new([failing(), text_script("A cat.")]);
        let server = Server::with_provider(provider.clone()).await;
        let upload = form("notes.txt", b"Notes.").send(server.address).await;
        let content = json!([{"type": "text", "text": "Look: "}, {"type": "image", "url": PNG},
            {"type": "file", "file_id": upload.expect(201)["id"]},
            {"type": "file", "file_id": TEXT, "name": "n.txt", "media_type": "text/plain"}]);
        let body = json!({"messages": [{"role": "user", "content": content}]});
        let failed = Request::post("/api/chat", &body).send(server.address).await;
        let session = failed.expect(503)["session_id"].clone();
        let session = session.as_str().unwrap();
        let history = protocol.history(&server, session).await;
        let answered = protocol.post(&server, session, &history).await;
        assert_eq!(answered.status, 200, "{protocol:?}: {}", answered.text());
        assert_eq!(said(&server, session).await.len(), 2, "{protocol:?}");
    }
}

#[tokio::test]
async fn what_a_tool_of_the_server_answered_is_told_and_may_be_posted_again() {
    for protocol in ALL {
        // The model fails behind the tool: the reply ends with its answer.
        let provider =
            ScriptedProvider::new([asking("look_up", "c1"), failing(), text_script("Well.")]);
        let spec = ToolSpec::new("look_up", "", json!({"type": "object"}));
        let tool = FnTool::new(spec, |_| async { Ok(json!({"found": 7})) });
        let server = Server::with(builder(provider.clone()).tool(tool), Bounds::default()).await;
        let messages = [protocol.message("u1", "one")];
        protocol.post(&server, "s", &messages).await;
        let mut history = protocol.history(&server, "s").await;
        assert!(json!(history).to_string().contains("found"), "{history:?}");
        if protocol == Protocol::AgUi {
            // There is nothing to answer in that.
            let known = protocol.post(&server, "s", &history).await.text();
            assert!(known.contains("MESSAGES_SNAPSHOT"), "{known}");
        }
        history.push(protocol.message("u2", "two"));
        let answered = protocol.post(&server, "s", &history).await;
        assert_eq!(answered.status, 200, "{protocol:?}: {}", answered.text());
        let said = said(&server, "s").await;
        let roles: Vec<_> = said.iter().map(|(role, _)| role.as_str()).collect();
        assert_eq!(
            roles,
            ["user", "assistant", "user", "assistant"],
            "{protocol:?}"
        );
        assert_eq!(said[2].1, "two");
    }
}

#[tokio::test]
async fn results_on_the_next_page_are_shown_with_their_call() {
    let provider = ScriptedProvider::new([asking("add", "c1"), text_script("Two.")]);
    let server = Server::with_provider(provider).await;
    asked(&server).await;
    let history = Protocol::OpenAi.history(&server, "s").await;
    let answered = with_result(Protocol::OpenAi, history);
    Protocol::OpenAi
        .post(&server, "s", &answered)
        .await
        .expect(200);
    let results = list(&server, "s", "").await[2]["id"].clone();
    let query = format!("?format=ui&before={}", results.as_str().unwrap());
    let page = list(&server, "s", &query).await;
    assert_eq!(page[1]["parts"][0]["state"], "output-available");
}

/// The messages of the snapshot in a run.
fn snapshot(run: &str) -> Vec<Value> {
    let line = run.lines().find(|line| line.contains("MESSAGES_SNAPSHOT"));
    let event: Value = serde_json::from_str(&line.unwrap()["data: ".len()..]).unwrap();
    event["messages"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_snapshot_is_the_whole_thread_however_long_and_has_the_calls_that_wait() {
    let provider = ScriptedProvider::new([asking("add", "c1")]);
    let server = Server::with_provider(provider).await;
    let long: Vec<_> = (0..601)
        .map(|n| {
            let role = if n % 2 == 0 { "user" } else { "assistant" };
            json!({"role": role, "content": format!("m{n}")})
        })
        .collect();
    Protocol::OpenAi
        .post(&server, "long", &long)
        .await
        .expect(200);
    let run = Protocol::AgUi.post(&server, "long", &[]).await.text();
    let messages = snapshot(&run);
    assert_eq!(messages.len(), 602);
    assert_eq!(messages[0]["content"], "m0");
    let call = &messages[601]["toolCalls"][0];
    assert_eq!(
        (&call["id"], &call["function"]["name"]),
        (&json!("c1"), &json!("add"))
    );
    let unknown = Protocol::AgUi.post(&server, "unknown", &[]).await.text();
    assert!(snapshot(&unknown).is_empty());
}

#[tokio::test]
async fn a_reply_that_was_stopped_is_not_called_complete() {
    let complete = [
        "[DONE]",
        "message_stop",
        "end_turn",
        "RUN_FINISHED",
        "\"stop\"",
    ];
    for (protocol, streamed) in [
        (Protocol::OpenAi, true),
        (Protocol::OpenAi, false),
        (Protocol::Anthropic, true),
        (Protocol::Anthropic, false),
        (Protocol::AgUi, true),
    ] {
        let script = vec![
            Step::Yield(Delta::Text("half ".into())),
            Step::Wait(Arc::new(Notify::new())),
        ];
        let server = Server::with_provider(ScriptedProvider::new([script])).await;
        let address = server.address;
        let mut body = json!({"model": "script", "max_tokens": 9, "threadId": "s", "runId": "r",
            "metadata": {"session_id": "s"}, "messages": [protocol.message("u1", "one")]});
        if streamed {
            body["stream"] = json!(true);
        }
        let path = match protocol {
            Protocol::OpenAi => "/v1/chat/completions",
            Protocol::Anthropic => "/v1/messages",
            _ => "/agui",
        };
        let request = Request::post(path, &body).header("Idempotency-Key", "k");
        let asking = request.clone();
        let answer = tokio::spawn(async move { asking.send(address).await });
        // Behind the first word, which is what was kept.
        loop {
            let running = Request::get("/api/chat/s/stream")
                .open(address)
                .await
                .unwrap();
            if running.status != 200 {
                tokio::task::yield_now().await;
                continue;
            }
            let mut running = running;
            while let Some(event) = running.event().await {
                if event.data.is_some_and(|data| data["type"] == "text-delta") {
                    break;
                }
            }
            break;
        }
        let stop = Request::post("/api/chat/s/stop", &json!({}));
        assert_eq!(stop.send(address).await.expect(200)["stopped"], true);
        let first = answer.await.unwrap();
        // The same, when it is asked again under its key.
        for answer in [first, request.send(address).await] {
            assert_eq!(
                answer.status,
                if streamed { 200 } else { 499 },
                "{protocol:?}"
            );
            let text = answer.text();
            assert!(
                text.contains("the reply was stopped"),
                "{protocol:?}: {text}"
            );
            assert_eq!(text.contains("half"), streamed, "{protocol:?}: {text}");
            for word in complete {
                assert!(!text.contains(word), "{protocol:?}: {text}");
            }
            assert_eq!(answer.header("x-session-id"), Some("s"));
        }
        let stored = list(&server, "s", "").await;
        assert_eq!(
            (&stored[1]["content"], &stored[1]["status"]),
            (&json!("half "), &json!("partial"))
        );
    }
}

#[tokio::test]
async fn texts_at_which_a_reply_should_end_are_refused() {
    let provider = ScriptedProvider::reply("Fine.");
    let server = Server::with_provider(provider.clone()).await;
    for (protocol, name) in [
        (Protocol::OpenAi, "stop"),
        (Protocol::Anthropic, "stop_sequences"),
    ] {
        let ask = async |value: Value| {
            let (path, mut body) = match protocol {
                Protocol::OpenAi => ("/v1/chat/completions", json!({"model": "script"})),
                _ => ("/v1/messages", json!({"model": "script", "max_tokens": 9})),
            };
            body["messages"] = json!([{"role": "user", "content": "?"}]);
            body[name] = value;
            Request::post(path, &body).send(server.address).await
        };
        let asked = provider.requests().len();
        for wrong in [json!("."), json!(["a", "b"]), json!(5), json!({})] {
            let refused = ask(wrong).await.expect(400);
            let message = refused["error"]["message"].as_str().unwrap();
            assert!(
                message.contains(name) && message.contains("leave"),
                "{message}"
            );
        }
        assert_eq!(provider.requests().len(), asked);
        for nothing in [json!(null), json!([]), json!("")] {
            ask(nothing).await.expect(200);
        }
    }
}

#[tokio::test]
async fn ag_ui_clients_may_send_files_as_older_ones_do() {
    let provider = ScriptedProvider::reply("Fine.");
    let server = Server::with_provider(provider.clone()).await;
    let upload = form("notes.txt", b"Notes.").send(server.address).await;
    let message = json!({"id": "u1", "role": "user", "content": [
        {"type": "text", "text": "Look"},
        {"type": "binary", "mimeType": "image/png", "data": &PNG[22..]},
        {"type": "binary", "mimeType": "text/plain", "id": upload.expect(201)["id"]},
        {"type": "binary", "mimeType": "text/plain", "data": &TEXT[23..], "filename": "n.txt"}]});
    Protocol::AgUi.post(&server, "s", &[message]).await;
    let sent = provider.requests().pop().unwrap().messages.pop().unwrap();
    let Content::Parts(parts) = sent.content else {
        panic!("no parts");
    };
    assert_eq!(parts.len(), 4);
    let elsewhere = json!({"id": "u2", "role": "user", "content": [
        {"type": "document", "source": {"type": "url", "value": "https://a.example/b.pdf"}}]});
    let refused = Protocol::AgUi.post(&server, "s", &[elsewhere]).await;
    assert!(refused.expect(422).to_string().contains("upload the file"));
}
