//! Tools that the client runs, in every protocol that has them.

use serde_json::{Value, json};
use tutor_core::provider::scripted::{Step, text_script};
use tutor_core::provider::{Delta, ScriptedProvider};
use tutor_core::{Content, FinishReason, message::Part};

use crate::client::{Request, SentEvent};
use crate::server::Server;

/// Asks for the clock, and then tells the time.
fn provider() -> ScriptedProvider {
    let call = Step::Yield(Delta::ToolCall {
        id: "c1".into(),
        name: "clock".into(),
        arguments: r#"{"zone":"UTC"}"#.into(),
    });
    let done = Step::Yield(Delta::Finished {
        reason: FinishReason::ToolCalls,
    });
    ScriptedProvider::new([vec![call, done], text_script("It is noon.")])
}

fn schema() -> Value {
    json!({"type": "object", "properties": {"zone": {"type": "string"}}})
}

/// What the model was told that the tool answered.
#[track_caller]
fn expect_told(provider: &ScriptedProvider, expected: &Value) {
    let requests = provider.requests();
    assert_eq!(requests.len(), 2);
    for request in &requests {
        assert_eq!(request.tools.len(), 1);
        assert_eq!(request.tools[0].name, "clock");
        assert_eq!(request.tools[0].parameters, schema());
    }
    let Content::Parts(parts) = &requests[1].messages.last().unwrap().content else {
        panic!("no result was told");
    };
    let [
        Part::ToolResult {
            call_id,
            name,
            result,
            ..
        },
    ] = &parts[..]
    else {
        panic!("{parts:?}");
    };
    assert_eq!(
        (call_id.as_str(), name.as_str(), result),
        ("c1", "clock", expected)
    );
}

#[tokio::test]
async fn openai_clients_run_their_tools() {
    for session in [None, Some("s1")] {
        let provider = provider();
        let server = Server::with_provider(provider.clone()).await;
        let tools = json!([{"type": "function", "function":
            {"name": "clock", "description": "Tells the time", "parameters": schema()}}]);
        let ask = async |messages: Value| {
            let body = json!({"model": "script", "messages": messages, "tools": tools});
            let mut request = Request::post("/v1/chat/completions", &body);
            if let Some(session) = session {
                request = request.header("X-Session-Id", session);
            }
            request.send(server.address).await.expect(200)
        };
        let question = json!({"role": "user", "content": "What time is it?"});
        let asked = ask(json!([question])).await;
        assert_eq!(asked["choices"][0]["finish_reason"], "tool_calls");
        let message = &asked["choices"][0]["message"];
        assert_eq!(message["tool_calls"][0]["function"]["name"], "clock");
        let result = json!({"role": "tool", "tool_call_id": "c1", "content": "12:00"});
        let told = ask(json!([question, message, result])).await;
        assert_eq!(told["choices"][0]["message"]["content"], "It is noon.");
        expect_told(&provider, &json!("12:00"));
    }
}

#[tokio::test]
async fn openai_clients_may_ask_for_json_and_for_no_tool() {
    let provider = ScriptedProvider::new([text_script(r#"{"n": 3}"#), text_script("plain")]);
    let server = Server::with_provider(provider.clone()).await;
    let ask = async |more: Value| {
        let mut body = json!({"model": "script", "messages": [{"role": "user", "content": "?"}]});
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        Request::post("/v1/chat/completions", &body)
            .send(server.address)
            .await
    };
    let schema = json!({"type": "object", "required": ["n"]});
    let format = json!({"type": "json_schema", "json_schema": {"name": "n", "schema": schema}});
    ask(json!({"response_format": format})).await.expect(200);
    assert_eq!(
        provider.requests()[0].output.as_ref().unwrap().schema,
        schema
    );
    let tools = json!([{"type": "function", "function": {"name": "clock"}}]);
    ask(json!({"tools": tools, "tool_choice": "none"}))
        .await
        .expect(200);
    assert!(provider.requests()[1].tools.is_empty());
    for wrong in [
        json!({"tools": tools, "tool_choice": "required"}),
        json!({"tools": [{"type": "web_search"}]}),
        json!({"tools": [{"type": "function", "function": {"name": "no name"}}]}),
        json!({"response_format": {"type": "grammar"}}),
    ] {
        let refused = ask(wrong).await.expect(400);
        assert_eq!(refused["error"]["type"], "invalid_request_error");
    }
    assert_eq!(provider.requests().len(), 2);
}

#[tokio::test]
async fn anthropic_clients_run_their_tools() {
    let provider = provider();
    let server = Server::with_provider(provider.clone()).await;
    let tools = json!([{"name": "clock", "input_schema": schema()}]);
    let ask = async |messages: Value| {
        let body =
            json!({"model": "script", "max_tokens": 99, "messages": messages, "tools": tools});
        Request::post("/v1/messages", &body)
            .send(server.address)
            .await
            .expect(200)
    };
    let question = json!({"role": "user", "content": "What time is it?"});
    let asked = ask(json!([question])).await;
    assert_eq!(asked["stop_reason"], "tool_use");
    let called = json!({"role": "assistant", "content": asked["content"]});
    let result = json!({"role": "user", "content": [
        {"type": "tool_result", "tool_use_id": "c1", "content": [{"type": "text", "text": "12:00"}]}]});
    let told = ask(json!([question, called, result])).await;
    assert_eq!(told["content"][0]["text"], "It is noon.");
    expect_told(&provider, &json!("12:00"));
}

fn kinds(events: &[SentEvent]) -> Vec<&str> {
    events
        .iter()
        .map(|event| event.get("type").as_str().unwrap())
        .collect()
}

/// All events of a stream whose events have no names.
async fn events(request: Request, server: &Server) -> Vec<SentEvent> {
    let mut stream = request.open(server.address).await.unwrap();
    assert_eq!(stream.status, 200);
    let mut events = Vec::new();
    while let Some(event) = stream.event().await {
        if event.data.is_some() {
            events.push(event);
        }
    }
    events
}

#[tokio::test]
async fn ag_ui_clients_run_their_tools() {
    let provider = provider();
    let server = Server::with_provider(provider.clone()).await;
    let tools = json!([{"name": "clock", "description": "", "parameters": schema()}]);
    let run = async |messages: Value| {
        let body = json!({"threadId": "t", "runId": "r", "messages": messages, "tools": tools,
            "state": {}, "context": [], "forwardedProps": {}});
        events(Request::post("/agui", &body), &server).await
    };
    let question = json!({"id": "u1", "role": "user", "content": "What time is it?"});
    let asked = run(json!([question])).await;
    assert!(kinds(&asked).contains(&"TOOL_CALL_END"), "{asked:?}");
    let called = json!({"id": "a1", "role": "assistant", "toolCalls": [
        {"id": "c1", "type": "function", "function": {"name": "clock", "arguments": "{}"}}]});
    let result = json!({"id": "t1", "role": "tool", "toolCallId": "c1", "content": "12:00"});
    let told = run(json!([question, called, result])).await;
    assert!(kinds(&told).contains(&"TEXT_MESSAGE_CONTENT"), "{told:?}");
    expect_told(&provider, &json!("12:00"));
}

#[tokio::test]
async fn use_chat_runs_the_tools_of_its_app() {
    let provider = provider();
    let server = Server::with_provider(provider.clone()).await;
    let send = async |messages: Value| {
        let body = json!({"id": "chat", "trigger": "submit-message", "messages": messages,
            "tools": {"clock": {"description": "", "parameters": schema()}}});
        let sent = Request::post("/api/chat", &body).send(server.address).await;
        assert_eq!(sent.status, 200, "{}", sent.text());
        sent.text()
    };
    let question = json!({"id": "u1", "role": "user",
        "parts": [{"type": "text", "text": "What time is it?"}]});
    let asked = send(json!([question])).await;
    assert!(asked.contains("tool-input-available"), "{asked}");
    let called = json!({"id": "a1", "role": "assistant", "parts": [{"type": "step-start"},
        {"type": "tool-clock", "toolCallId": "c1", "state": "output-available",
            "input": {"zone": "UTC"}, "output": {"time": "12:00"}}]});
    let told = send(json!([question, called])).await;
    assert!(told.contains("noon"), "{told}");
    expect_told(&provider, &json!({"time": "12:00"}));
    let path = "/api/sessions/chat/messages?format=ui";
    let restored = Request::get(path).send(server.address).await.expect(200);
    let restored = restored["messages"].as_array().unwrap();
    assert_eq!(restored.len(), 3);
    assert_eq!(restored[1]["parts"][0]["state"], "output-available");
}
