//! The HTTP providers against recorded traffic, well-behaved and hostile, over real sockets.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use serde_json::{Value, json};
use tutor_core::conformance::upstream::{Act, Upstream, event_stream, json_response};
use tutor_core::message::Usage;
use tutor_core::provider::{
    AnthropicProvider, ApiKey, CompletionRequest, Delta, GeminiProvider, OllamaProvider,
    OpenAiProvider, ProviderConfig, ProviderKind, ResponsesProvider, SharedProvider,
};
use tutor_core::tool::ToolSpec;
use tutor_core::{Error, Provider};

const KEY: &str = "sk-live-SECRET-1234567890abcdef";
const PROMPT: &str = "the words of a learner";

pub(crate) struct Fixture {
    pub(crate) file: String,
    pub(crate) kind: ProviderKind,
    pub(crate) bytes: Vec<u8>,
    pub(crate) expect: Value,
    pub(crate) cuts: Vec<usize>,
}

impl Fixture {
    fn all() -> Vec<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/providers");
        let index: Value =
            serde_json::from_slice(&std::fs::read(root.join("expected.json")).unwrap()).unwrap();
        let fixtures = index["fixtures"].as_array().unwrap().iter();
        fixtures
            .map(|it| {
                let file = it["file"].as_str().unwrap().to_owned();
                let bytes = std::fs::read(root.join(&file)).unwrap();
                assert_eq!(it["bytes"], bytes.len(), "{file} was damaged");
                let whole = it["kind"] == "http_response";
                let lines = it["kind"] == "ndjson_body";
                let stream = |body: &[u8]| match lines {
                    true => line_stream(body),
                    false => event_stream(body),
                };
                let head = if whole { 0 } else { stream(b"").len() };
                let cuts = it["split_at"].as_array().cloned().unwrap_or_default();
                Self {
                    kind: kind(it["protocol"].as_str().unwrap()),
                    bytes: if whole { bytes } else { stream(&bytes) },
                    expect: it["expect"].clone(),
                    cuts: cuts
                        .iter()
                        .map(|cut| head + usize::try_from(cut.as_u64().unwrap()).unwrap())
                        .collect(),
                    file,
                }
            })
            .collect()
    }

    fn provider(&self, upstream: &Upstream) -> SharedProvider {
        provider(self.kind, upstream)
    }
}

/// The provider that speaks a protocol, by its name among the fixtures.
fn kind(protocol: &str) -> ProviderKind {
    match protocol {
        "openai_chat" => ProviderKind::OpenAi,
        "openai_responses" => ProviderKind::OpenAiResponses,
        "anthropic" => ProviderKind::Anthropic,
        "gemini" => ProviderKind::Gemini,
        "ollama" => ProviderKind::Ollama,
        other => panic!("{other} is no protocol"),
    }
}

/// The provider by itself: without time limits and retries.
fn provider(kind: ProviderKind, upstream: &Upstream) -> SharedProvider {
    let mut config = ProviderConfig::new(kind).with_base_url(upstream.url());
    config.key = Some(ApiKey::new(KEY));
    match kind {
        ProviderKind::OpenAi => Arc::new(OpenAiProvider::new(&config).unwrap()),
        ProviderKind::OpenAiResponses => Arc::new(ResponsesProvider::new(&config).unwrap()),
        ProviderKind::Anthropic => Arc::new(AnthropicProvider::new(&config).unwrap()),
        ProviderKind::Gemini => Arc::new(GeminiProvider::new(&config).unwrap()),
        ProviderKind::Ollama => Arc::new(OllamaProvider::new(&config).unwrap()),
        other => panic!("{other} has no wire protocol"),
    }
}

/// A whole response: lines of JSON that end with the connection.
pub(crate) fn line_stream(body: &[u8]) -> Vec<u8> {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\nconnection: close\r\n\r\n";
    [head.as_bytes(), body].concat()
}

/// What a consumer has in the end.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) text: String,
    reasoning: String,
    refusal: String,
    calls: Vec<(String, String, String)>,
    usage: Option<Usage>,
    replay: Option<Value>,
    pub(crate) finish: Option<&'static str>,
    restarted: bool,
    empty: bool,
    error: Option<Error>,
}

pub(crate) async fn run(provider: &dyn Provider, request: CompletionRequest) -> Outcome {
    let mut outcome = Outcome::default();
    let mut stream = match provider.stream(request).await {
        Ok(stream) => stream,
        Err(error) => {
            return Outcome {
                error: Some(error),
                ..outcome
            };
        }
    };
    while let Some(item) = stream.next().await {
        assert!(
            outcome.finish.is_none() && outcome.error.is_none(),
            "something came after the end"
        );
        match item {
            Ok(Delta::Text(text)) => outcome.text.push_str(&text),
            Ok(Delta::Reasoning(text)) => outcome.reasoning.push_str(&text),
            Ok(Delta::Refusal(text)) => outcome.refusal.push_str(&text),
            Ok(Delta::ToolCall {
                id,
                name,
                arguments,
            }) => outcome.calls.push((id, name, arguments)),
            Ok(Delta::Usage(usage)) => outcome.usage = Some(usage),
            Ok(Delta::Replay { data, .. }) => outcome.replay = Some(data),
            Ok(Delta::Restart { .. }) => {
                outcome = Outcome {
                    restarted: true,
                    ..Outcome::default()
                }
            }
            Ok(Delta::Notice(notice)) => outcome.empty |= notice.code == "empty_output",
            Ok(Delta::Finished { reason }) => outcome.finish = Some(reason.as_str()),
            Ok(_) => {}
            Err(error) => outcome.error = Some(error),
        }
    }
    assert!(
        outcome.finish.is_some() || outcome.error.is_some(),
        "no terminal: {outcome:?}"
    );
    outcome
}

fn assert_matches(outcome: &Outcome, expect: &Value, what: &str) {
    let text = |name: &str| expect[name].as_str().unwrap_or_default();
    assert_eq!(outcome.text, text("text"), "{what}");
    assert_eq!(outcome.reasoning, text("reasoning"), "{what}");
    assert_eq!(outcome.refusal, text("refusal"), "{what}");
    assert_eq!(outcome.restarted, expect["restarted"] == true, "{what}");
    if expect["outcome"] == "error" {
        return assert_error(outcome.error.as_ref(), &expect["error"], what);
    }
    assert!(outcome.error.is_none(), "{what}: {outcome:?}");
    assert_eq!(outcome.finish, expect["finish"].as_str(), "{what}");
    assert_eq!(outcome.empty, expect["empty_output"] == true, "{what}");
    assert_calls(outcome, expect, what);
    if let Some(blob) = expect["replay_blob"].as_str() {
        let replay = outcome.replay.clone().unwrap_or_default().to_string();
        assert!(replay.contains(blob), "{what}: {replay}");
    }
    match expect["usage"].is_object() {
        true => assert_usage(outcome.usage.unwrap(), &expect["usage"], what),
        false => assert_eq!(outcome.usage, None, "{what}"),
    }
}

fn assert_error(error: Option<&Error>, expect: &Value, what: &str) {
    let error = error.unwrap_or_else(|| panic!("{what} did not fail"));
    let fact = |name: &str| error.context_value(name);
    assert_eq!(fact("reason"), expect["kind"].as_str(), "{what}: {error}");
    assert_eq!(
        Some(error.is_retryable()),
        expect["retryable"].as_bool(),
        "{what}: {error}"
    );
    for (ours, theirs) in [
        ("provider_code", "code"),
        ("provider_type", "type"),
        ("param", "param"),
    ] {
        if let Some(word) = expect[theirs].as_str() {
            assert_eq!(fact(ours), Some(word), "{what}: {error}");
        }
    }
    if let Some(status) = expect["status"].as_u64() {
        assert_eq!(
            fact("status"),
            Some(status.to_string().as_str()),
            "{what}: {error}"
        );
    }
    match &expect["retry_after_ms"] {
        Value::Number(millis) => {
            // A wait that is no advice is only said.
            let said = fact("retry_after_ms").and_then(|millis| millis.parse().ok());
            assert_eq!(
                error.retry_after().or(said.map(Duration::from_millis)),
                millis.as_u64().map(Duration::from_millis),
                "{what}"
            );
        }
        Value::String(_) => assert!(
            error.retry_after().unwrap() > Duration::from_secs(60),
            "{what}"
        ),
        _ => assert_eq!(error.retry_after(), None, "{what}"),
    }
}

fn assert_calls(outcome: &Outcome, expect: &Value, what: &str) {
    let list = |name: &str| expect[name].as_array().cloned().unwrap_or_default();
    let mut expected = list("tool_calls");
    if expect["finish"] == "tool_calls" {
        expected.extend(list("incomplete_tool_calls"));
    }
    assert_eq!(outcome.calls.len(), expected.len(), "{what}: {outcome:?}");
    for ((id, name, arguments), call) in outcome.calls.iter().zip(&expected) {
        assert_eq!(call["name"], name.as_str(), "{what}");
        match call["id"].as_str() {
            Some(expected) => assert_eq!(id, expected, "{what}"),
            None => assert!(
                !id.is_empty()
                    && outcome
                        .calls
                        .iter()
                        .filter(|(other, ..)| other == id)
                        .count()
                        == 1,
                "{what}"
            ),
        }
        match call["raw_arguments"].as_str() {
            Some(raw) => assert_eq!(arguments, raw, "{what}"),
            None => assert_eq!(
                serde_json::from_str::<Value>(arguments).unwrap(),
                call["arguments"],
                "{what}"
            ),
        }
    }
}

fn assert_usage(usage: Usage, expect: &Value, what: &str) {
    for (ours, theirs) in [
        (usage.input_tokens, "input_total"),
        (usage.cached_input_tokens, "input_cached"),
        (usage.cache_write_tokens, "input_cache_write"),
        (usage.output_tokens, "output_total"),
        (usage.reasoning_tokens, "output_reasoning"),
    ] {
        assert_eq!(ours.unwrap_or(0), expect[theirs], "{what} {theirs}");
    }
}

/// Neither what we keep secret nor what the other side says is part of an error.
fn assert_silent(error: &Error, what: &str) {
    let mut source = std::error::Error::source(error);
    let mut printed = format!("{error} {error:?} {error:#?} {:?}", error.info());
    while let Some(cause) = source {
        printed += &format!(" {cause} {cause:?}");
        source = cause.source();
    }
    for secret in [
        KEY,
        "SECRET",
        PROMPT,
        "Rate limit reached",
        "Incorrect API key",
        "<html",
        "xxxxxxxx",
    ] {
        assert!(!printed.contains(secret), "{what} says {secret}: {printed}");
    }
    assert!(printed.len() < 4096, "{what}: {} bytes", printed.len());
}

pub(crate) async fn replay(fixture: &Fixture, script: Vec<Act>, what: &str) {
    let upstream = Upstream::start([script]).await.unwrap();
    let provider = fixture.provider(&upstream);
    let mut request = CompletionRequest::new("m", PROMPT);
    if fixture.expect["replay_blob"].is_string() {
        // Only with tools there is anything to be sent again.
        request.tools = vec![ToolSpec {
            name: "plot".to_owned(),
            description: String::new(),
            parameters: json!({"type": "object"}),
        }];
    }
    let outcome = run(&*provider, request).await;
    let what = format!("{} {what}", fixture.file);
    assert_matches(&outcome, &fixture.expect, &what);
    if let Some(error) = &outcome.error {
        assert_silent(error, &what);
    }
    assert_eq!(upstream.requests().len(), 1, "{what}");
}

#[tokio::test]
async fn every_recorded_answer_gives_what_is_expected() {
    for fixture in Fixture::all() {
        replay(&fixture, vec![Act::Send(fixture.bytes.clone())], "whole").await;
    }
}

#[tokio::test]
async fn every_recorded_answer_gives_the_same_in_pieces_of_any_size() {
    for fixture in Fixture::all() {
        for size in [1, 7] {
            replay(
                &fixture,
                vec![Act::SendBy(size, fixture.bytes.clone())],
                &format!("by {size}"),
            )
            .await;
        }
        for cut in &fixture.cuts {
            let (first, second) = fixture.bytes.split_at(*cut);
            let pause = Act::Wait(Duration::from_millis(2));
            let script = vec![Act::Send(first.to_vec()), pause, Act::Send(second.to_vec())];
            replay(&fixture, script, &format!("cut at {cut}")).await;
        }
    }
}

const OPENAI_OK: &str = concat!(
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"ok\"},\"finish_reason\":\"stop\"}]}\n\n",
    "data: [DONE]\n\n",
);
const ANTHROPIC_OK: &str = concat!(
    "data: {\"type\":\"message_start\",\"message\":{\"id\":\"1\"}}\n\n",
    "data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"}}\n\n",
    "data: {\"type\":\"message_stop\"}\n\n",
);

#[tokio::test]
async fn openai_is_asked_by_its_protocol() {
    let upstream = Upstream::streaming(OPENAI_OK).await.unwrap();
    let mut request = CompletionRequest::new("gpt-4o", PROMPT);
    request.system = Some("Be brief.".to_owned());
    run(&*provider(ProviderKind::OpenAi, &upstream), request).await;
    let received = &upstream.requests()[0];
    assert_eq!(
        (received.method.as_str(), received.target.as_str()),
        ("POST", "/v1/chat/completions")
    );
    assert_eq!(
        received.header("authorization"),
        Some(format!("Bearer {KEY}").as_str())
    );
    assert_eq!(received.header("content-type"), Some("application/json"));
    assert_eq!(received.header("accept"), Some("text/event-stream"));
    assert_eq!(received.header("accept-encoding"), Some("identity"));
    assert!(
        received
            .header("user-agent")
            .unwrap()
            .starts_with("tutor-core/")
    );
    assert_eq!(received.header("referer"), None);
    assert_eq!(
        received.json(),
        json!({
            "model": "gpt-4o",
            "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": PROMPT}],
            "stream": true,
            "stream_options": {"include_usage": true},
        })
    );
}

#[tokio::test]
async fn anthropic_is_asked_by_its_protocol() {
    let upstream = Upstream::streaming(ANTHROPIC_OK).await.unwrap();
    run(
        &*provider(ProviderKind::Anthropic, &upstream),
        CompletionRequest::new("claude-haiku-5-5", PROMPT),
    )
    .await;
    let received = &upstream.requests()[0];
    assert_eq!(
        (received.method.as_str(), received.target.as_str()),
        ("POST", "/v1/messages")
    );
    assert_eq!(received.header("x-api-key"), Some(KEY));
    assert_eq!(received.header("authorization"), None);
    assert_eq!(received.header("anthropic-version"), Some("2023-06-01"));
    assert_eq!(received.json()["max_tokens"], 16_384);
    assert_eq!(
        received.json()["messages"],
        json!([{"role": "user", "content": PROMPT}])
    );
}

#[tokio::test]
async fn models_are_listed_and_a_server_without_a_list_has_its_default() {
    let data = json!({"object": "list", "data": [{"id": "a", "object": "model"}, {"id": "b"}]});
    let gemini = json!({"models": [
        {"name": "models/a", "inputTokenLimit": 9, "supportedGenerationMethods": ["generateContent"]},
        {"name": "models/c", "supportedGenerationMethods": ["embedContent"]},
        {"name": "models/b"},
    ]});
    let ollama = json!({"models": [{"name": "a", "size": 1}, {"name": "b"}]});
    let missing = Act::Send(json_response(404, &json!({})));
    for (kind, list, target) in [
        (ProviderKind::OpenAi, &data, "/v1/models"),
        (ProviderKind::OpenAiResponses, &data, "/v1/models"),
        (ProviderKind::Anthropic, &data, "/v1/models?limit=1000"),
        (
            ProviderKind::Gemini,
            &gemini,
            "/v1beta/models?pageSize=1000",
        ),
        (ProviderKind::Ollama, &ollama, "/api/tags"),
    ] {
        let listed = Act::Send(json_response(200, list));
        let upstream = Upstream::start([vec![listed], vec![missing.clone()]])
            .await
            .unwrap();
        let provider = provider(kind, &upstream);
        for expected in [
            vec!["a".to_owned(), "b".to_owned()],
            vec![provider.info().default_model],
        ] {
            let models = provider.models().await.unwrap();
            let names: Vec<_> = models.into_iter().map(|model| model.id).collect();
            assert_eq!(names, expected, "{kind}");
        }
        assert_eq!(upstream.requests()[0].target, target);
    }
}

#[tokio::test]
async fn the_other_protocols_are_asked_at_their_address_with_their_key() {
    for (kind, target, header, value, accept) in [
        (
            ProviderKind::OpenAiResponses,
            "/v1/responses",
            "authorization",
            format!("Bearer {KEY}"),
            "text/event-stream",
        ),
        (
            ProviderKind::Gemini,
            "/v1beta/models/m:streamGenerateContent?alt=sse",
            "x-goog-api-key",
            KEY.to_owned(),
            "text/event-stream",
        ),
        (
            ProviderKind::Ollama,
            "/api/chat",
            "authorization",
            format!("Bearer {KEY}"),
            "application/x-ndjson",
        ),
    ] {
        let upstream = Upstream::streaming("").await.unwrap();
        run(
            &*provider(kind, &upstream),
            CompletionRequest::new("m", PROMPT),
        )
        .await;
        let received = &upstream.requests()[0];
        assert_eq!(
            (received.method.as_str(), received.target.as_str()),
            ("POST", target)
        );
        assert_eq!(received.header(header), Some(value.as_str()), "{kind}");
        assert_eq!(received.header("accept"), Some(accept), "{kind}");
        assert!(!received.target.contains(KEY));
    }
}

#[tokio::test]
async fn the_name_of_an_exchange_is_told() {
    let head = "HTTP/1.1 200 OK\r\nx-request-id: req_7\r\nconnection: close\r\n\r\n";
    let answer = Act::Send(format!("{head}{OPENAI_OK}").into_bytes());
    let upstream = Upstream::start([vec![answer]]).await.unwrap();
    let provider = provider(ProviderKind::OpenAi, &upstream);
    let stream = provider.stream(CompletionRequest::new("m", PROMPT)).await;
    let first = stream.unwrap().next().await.unwrap().unwrap();
    assert!(matches!(first, Delta::Accepted { request_id } if request_id == "req_7"));
}

const RESPONSES_OK: &str = concat!(
    "data: {\"type\":\"response.output_text.delta\",\"delta\":\"ok\"}\n\n",
    "data: {\"type\":\"response.completed\",\"response\":{\"status\":\"completed\"}}\n\n",
);
const GEMINI_OK: &str = "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"ok\"}]},\"finishReason\":\"STOP\"}]}\r\n\r\n";
const OLLAMA_OK: &str = concat!(
    "{\"message\":{\"role\":\"assistant\",\"content\":\"ok\"},\"done\":false}\n",
    "{\"message\":{\"role\":\"assistant\",\"content\":\"\"},\"done\":true,\"done_reason\":\"stop\"}\n",
);

async fn answering(kind: ProviderKind, body: &str) -> (SharedProvider, Upstream) {
    let upstream = Upstream::streaming(body).await.unwrap();
    (provider(kind, &upstream), upstream)
}

async fn responses() -> (SharedProvider, Upstream) {
    answering(ProviderKind::OpenAiResponses, RESPONSES_OK).await
}
tutor_core::provider_laws!(responses_laws, responses);

async fn gemini() -> (SharedProvider, Upstream) {
    answering(ProviderKind::Gemini, GEMINI_OK).await
}
tutor_core::provider_laws!(gemini_laws, gemini);

async fn ollama() -> (SharedProvider, Upstream) {
    answering(ProviderKind::Ollama, OLLAMA_OK).await
}
tutor_core::provider_laws!(ollama_laws, ollama);

async fn openai() -> (SharedProvider, Upstream) {
    let upstream = Upstream::streaming(OPENAI_OK).await.unwrap();
    (provider(ProviderKind::OpenAi, &upstream), upstream)
}
tutor_core::provider_laws!(openai_laws, openai);

async fn anthropic() -> (SharedProvider, Upstream) {
    let upstream = Upstream::streaming(ANTHROPIC_OK).await.unwrap();
    (provider(ProviderKind::Anthropic, &upstream), upstream)
}
tutor_core::provider_laws!(anthropic_laws, anthropic);

async fn failing() -> (SharedProvider, Upstream) {
    let refusal = json!({"error": {"message": format!("{PROMPT} the canary in the prompt {KEY}"), "code": KEY}});
    let answer = Act::Send(json_response(400, &refusal));
    let upstream = Upstream::start([vec![answer]]).await.unwrap();
    (provider(ProviderKind::OpenAi, &upstream), upstream)
}
tutor_core::provider_laws!(failing_laws, failing);

async fn wrapped() -> (SharedProvider, Upstream) {
    let upstream = Upstream::streaming(OPENAI_OK).await.unwrap();
    (
        ProviderConfig::openai(KEY)
            .with_base_url(upstream.url())
            .build()
            .unwrap(),
        upstream,
    )
}
tutor_core::provider_laws!(wrapped_laws, wrapped);
