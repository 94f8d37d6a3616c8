//! What configured providers do on real sockets: keys in turn, breakers, bounds, fallbacks; and how
//! requests find their provider.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use serde_json::{Value, json};
use tutor_core::conformance::upstream::{Act, Upstream, event_stream, json_response};
use tutor_core::provider::{
    ApiKey, BreakerState, CompletionRequest, Delta, KeyState, ProviderConfig, ProviderKind,
    RecorderProvider, Recording, ReplayProvider, ScriptedProvider, SharedProvider,
};
use tutor_core::store::MemoryStore;
use tutor_core::{ChatRequest, Error, ErrorKind, Provider, Tutor};

fn answer(text: &str) -> Vec<Act> {
    let chunk = json!({"choices": [{"index": 0, "delta": {"content": text}}]});
    let end = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]});
    let body = format!("data: {chunk}\n\ndata: {end}\n\ndata: [DONE]\n\n");
    vec![Act::Send(event_stream(body))]
}

fn refusal(status: u16) -> Vec<Act> {
    let error = json!({"error": {"message": "no", "code": "x"}});
    vec![Act::Send(json_response(status, &error))]
}

async fn upstream(script: Vec<Act>) -> Upstream {
    Upstream::start([script]).await.unwrap()
}

fn config(name: &str, upstream: &Upstream, options: Value) -> ProviderConfig {
    let mut options: serde_json::Map<String, Value> = serde_json::from_value(options).unwrap();
    options.insert("kind".into(), json!("openai"));
    options.insert("base_url".into(), json!(upstream.url()));
    options.insert("max_retries".into(), json!(0));
    ProviderConfig::from_options(name, options, |_| Ok(None)).unwrap()
}

async fn tutor(providers: Vec<SharedProvider>) -> Tutor {
    let mut builder = Tutor::builder().store(MemoryStore::new());
    for provider in providers {
        builder = builder.provider(provider);
    }
    builder.build().await.unwrap()
}

fn asking(model: &str) -> ChatRequest {
    let mut request = ChatRequest::new("?");
    request.preferences.model = Some(model.to_owned());
    request
}

fn model_of(upstream: &Upstream) -> String {
    let last = upstream.requests().pop().unwrap();
    last.json()["model"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_refused_key_is_set_aside_and_no_key_is_shown() {
    let upstream = Upstream::start([refusal(401), answer("ok")]).await.unwrap();
    let keys = json!({"key": ["canary-1", "canary-2"]});
    let provider = config("main", &upstream, keys).build().unwrap();
    let tutor = tutor(vec![Arc::clone(&provider)]).await;
    assert_eq!(tutor.chat("?").await.unwrap().text(), "ok");
    let health = provider.info().health();
    assert!(matches!(
        health.keys[..],
        [KeyState::Refused { .. }, KeyState::Usable]
    ));
    let sent: Vec<_> = upstream
        .requests()
        .iter()
        .map(|request| request.header("authorization").unwrap().to_owned())
        .collect();
    assert_eq!(sent, ["Bearer canary-1", "Bearer canary-2"]);
    let shown = format!(
        "{provider:?} {health:?} {}",
        serde_json::to_string(&health).unwrap()
    );
    assert!(!shown.contains("canary"), "{shown}");
}

#[tokio::test]
async fn an_unknown_model_is_the_mistake_of_who_chose_it() {
    let body = json!({"error": {"message": "x", "code": "model_not_found"}});
    let upstream = upstream(vec![Act::Send(json_response(404, &body))]).await;
    let provider = config("main", &upstream, json!({"default_model": "gone"}));
    let tutor = tutor(vec![provider.build().unwrap()]).await;
    let error = tutor.chat(asking("nope")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let error = tutor.chat("?").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ProviderRejected);
    assert!(error.to_string().contains("the default model"), "{error}");
    assert_eq!(error.context_value("reason"), Some("not_found"));
}

#[tokio::test]
async fn a_dead_provider_is_left_alone_and_the_next_one_answers_silently() {
    let (dead, alive) = (upstream(refusal(503)).await, upstream(answer("ok")).await);
    let providers = ProviderConfig::build_all(&[
        config(
            "main",
            &dead,
            json!({"fallback": ["spare/big"], "breaker": {"failures": 3}}),
        ),
        config("spare", &alive, json!({})),
    ])
    .unwrap();
    let tutor = tutor(providers).await;
    for _ in 0..5 {
        let reply = tutor.chat("?").await.unwrap();
        assert_eq!(reply.text(), "ok");
        let wrote = (
            reply.message.provider.as_deref(),
            reply.message.model.as_deref(),
        );
        assert_eq!(wrote, (Some("spare"), Some("big")));
        let events = tutor.events(&reply.turn_id, 0).await.unwrap();
        let kinds: Vec<_> = events
            .collect::<Vec<_>>()
            .await
            .iter()
            .map(|event| event.event.kind())
            .collect();
        assert_eq!(kinds, ["turn.started", "text.delta", "turn.finished"]);
    }
    assert_eq!(dead.requests().len(), 3);
    let info = tutor.providers().remove(0);
    assert!(matches!(
        info.health().breaker,
        Some(BreakerState::Open { .. })
    ));
}

#[tokio::test]
async fn a_provider_that_is_there_already_answers_for_one_that_is_configured() {
    let dead = upstream(refusal(503)).await;
    let own: SharedProvider = Arc::new(ScriptedProvider::reply("from mine"));
    let configs = [config("main", &dead, json!({"fallback": ["scripted"]}))];
    assert!(ProviderConfig::build_all(&configs).is_err());
    let mut providers = ProviderConfig::build_beside(&configs, &[Arc::clone(&own)]).unwrap();
    assert_eq!(providers.len(), 1);
    providers.push(own);
    let reply = tutor(providers).await.chat("?").await.unwrap();
    assert_eq!(reply.text(), "from mine");
    assert_eq!(reply.message.provider.as_deref(), Some("scripted"));
}

#[tokio::test]
async fn a_reply_that_breaks_begins_again_elsewhere_only_if_that_is_allowed() {
    let begun = json!({"choices": [{"index": 0, "delta": {"content": "half a"}}]});
    let broken = vec![Act::Send(event_stream(format!("data: {begun}\n\n")))];
    for restart in [false, true] {
        let (breaks, alive) = (upstream(broken.clone()).await, upstream(answer("ok")).await);
        let providers = ProviderConfig::build_all(&[
            config(
                "main",
                &breaks,
                json!({"fallback": ["spare"], "restart": restart}),
            ),
            config("spare", &alive, json!({})),
        ])
        .unwrap();
        let tutor = tutor(providers).await;
        match tutor.chat("?").await {
            Ok(reply) => {
                assert!(restart);
                assert_eq!(reply.text(), "ok");
            }
            Err(error) => {
                assert!(!restart);
                assert_eq!(error.kind(), ErrorKind::ProviderUnavailable);
            }
        }
    }
}

#[tokio::test]
async fn requests_beyond_the_bound_wait_or_are_refused_at_once() {
    let upstream = upstream(vec![Act::Hold]).await;
    let bounds = json!({"max_concurrent": 1, "max_waiting": 0});
    let tutor = tutor(vec![config("main", &upstream, bounds).build().unwrap()]).await;
    let _running = tutor.stream("?").await.unwrap();
    while upstream.requests().is_empty() {
        tokio::task::yield_now().await;
    }
    let error = tutor.chat("?").await.unwrap_err();
    assert_eq!(
        (error.kind(), error.is_retryable()),
        (ErrorKind::Overloaded, true)
    );
    assert_eq!(upstream.requests().len(), 1);
}

#[tokio::test]
async fn a_request_finds_its_provider_by_preference_prefix_alias_list_or_default() {
    let (one, two) = (upstream(answer("1")).await, upstream(answer("2")).await);
    let first = json!({"default_model": "a"});
    let second = json!({
        "default_model": "b", "models": ["c"], "aliases": {"fast": "c", "own/name": "b"},
    });
    let configs = [config("one", &one, first), config("two", &two, second)];
    let tutor = tutor(ProviderConfig::build_all(&configs).unwrap()).await;
    for (asked, text, model) in [
        ("x", "1", "x"),
        ("one/x/y", "1", "x/y"),
        ("fast", "2", "c"),
        ("own/name", "2", "b"),
        ("two/fast", "2", "c"),
        ("c", "2", "c"),
        ("two/b", "2", "b"),
    ] {
        let reply = tutor.chat(asking(asked)).await.unwrap();
        let upstream = if text == "1" { &one } else { &two };
        assert_eq!(
            (reply.text(), model_of(upstream)),
            (text.to_owned(), model.to_owned()),
            "{asked}"
        );
    }
    assert_eq!(tutor.chat("?").await.unwrap().text(), "1");
    assert_eq!(model_of(&one), "a");
    let unknown = tutor.chat(asking("two/nothing")).await.unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::InvalidInput);
    assert!(unknown.message().contains("b, c"), "{unknown}");
}

#[tokio::test]
async fn contradictions_between_providers_are_told_by_name() {
    let upstream = upstream(answer("ok")).await;
    let lost = config("one", &upstream, json!({"fallback": ["tow"]}));
    let error = lost.build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    let other = config("two", &upstream, json!({}));
    let error = ProviderConfig::build_all(&[lost, other]).unwrap_err();
    assert!(
        error.message().contains("tow") && error.message().contains("one, two"),
        "{error}"
    );
    let aliased = |name| config(name, &upstream, json!({"aliases": {"fast": "m"}}));
    let both = ProviderConfig::build_all(&[aliased("one"), aliased("two")]).unwrap();
    let mut builder = Tutor::builder();
    for provider in both {
        builder = builder.provider(provider);
    }
    let error = builder.build().await.unwrap_err();
    assert!(error.message().contains("fast"), "{error}");
}

#[tokio::test]
async fn cancelling_reaches_the_upstream_socket_within_100_milliseconds() {
    // Before the answer has begun, and in its middle.
    for script in [
        vec![Act::Hold],
        vec![Act::Send(event_stream("")), Act::Hold],
    ] {
        let upstream = upstream(script).await;
        let tutor = tutor(vec![config("main", &upstream, json!({})).build().unwrap()]).await;
        let mut stream = tutor.stream("?").await.unwrap();
        stream.next().await.unwrap();
        while upstream.requests().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let turn = stream.turn_id().clone();
        let (_, hung_up) = tokio::join!(
            tutor.cancel(&turn),
            upstream.hung_up(1, Duration::from_millis(100))
        );
        assert!(hung_up);
    }
}

/// What a provider that records said, and the recording.
async fn recorded(script: Vec<Vec<Act>>, options: Value) -> (Vec<Result<Delta, Error>>, Recording) {
    let upstream = Upstream::start(script).await.unwrap();
    let mut config = config("main", &upstream, options);
    config.key = Some(ApiKey::new("canary-key-123"));
    config.max_retries = 2;
    let (sink, mut recordings) = tokio::sync::mpsc::unbounded_channel();
    let record = move |recording| sink.send(recording).unwrap();
    let provider = RecorderProvider::new(config.build().unwrap(), ProviderKind::OpenAi, record);
    let deltas = deltas(&provider).await;
    (deltas, recordings.recv().await.unwrap())
}

async fn deltas(provider: &dyn Provider) -> Vec<Result<Delta, Error>> {
    let request = CompletionRequest::new("m", "the canary of the learner");
    match provider.stream(request).await {
        Ok(stream) => stream.collect().await,
        Err(error) => vec![Err(error)],
    }
}

fn printed(items: &[Result<Delta, Error>]) -> Vec<String> {
    let text = |item: &Result<Delta, Error>| match item {
        Ok(Delta::Text(text)) => format!("text {text}"),
        Ok(delta) => format!("{delta:?}"),
        Err(error) => format!("{:?} {:?}", error.kind(), error.context_value("reason")),
    };
    items.iter().map(text).collect()
}

#[tokio::test]
async fn a_recording_plays_the_same_deltas_and_holds_neither_keys_nor_the_learners_words() {
    let said =
        json!({"choices": [{"index": 0, "delta": {"content": "pl\u{e4}nts \u{1f331} eat light"}}]});
    let end = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]});
    let body = format!("data: {said}\n\n: ping\n\ndata: {end}\n\ndata: [DONE]\n\n");
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
    let echo = "{\"error\": {\"message\": \"canary-key-123: the canary of the learner\"}}";
    let scripts = [
        // Cut in the middle of characters.
        vec![vec![
            Act::Send(head.into()),
            Act::SendBy(3, body.clone().into_bytes()),
        ]],
        // A retry before it.
        vec![
            vec![Act::Send(json_response(
                503,
                &serde_json::from_str(echo).unwrap(),
            ))],
            vec![Act::Send(event_stream(&body))],
        ],
        // Refused for good.
        vec![vec![Act::Send(json_response(
            401,
            &serde_json::from_str(echo).unwrap(),
        ))]],
        // Broken in the middle, and ended early.
        vec![vec![
            Act::Send(event_stream(format!("data: {said}\n\n"))),
            Act::Reset,
        ]],
        vec![vec![Act::Send(event_stream(format!("data: {said}\n\n")))]],
    ];
    for script in scripts {
        let (original, recording) = recorded(script, json!({})).await;
        let directory = tempfile::tempdir().unwrap();
        let path = recording.save_in(directory.path()).unwrap();
        let file = std::fs::read_to_string(&path).unwrap();
        assert!(!file.contains("canary"), "{file}");
        let replay = ReplayProvider::open(&path).unwrap();
        assert_eq!(replay.info().name, "main");
        for _ in 0..2 {
            assert_eq!(
                printed(&deltas(&replay).await),
                printed(&original),
                "{file}"
            );
        }
    }
}

#[tokio::test]
async fn a_recording_keeps_its_times() {
    let wait = Duration::from_millis(300);
    let script = vec![
        Act::Send(event_stream("data: {\"choices\": [{\"index\": 0, \"delta\": {\"content\": \"a\"}}]}\n\n")),
        Act::Wait(wait),
        Act::Send(b"data: {\"choices\": [{\"index\": 0, \"delta\": {}, \"finish_reason\": \"stop\"}]}\n\ndata: [DONE]\n\n".to_vec()),
    ];
    let (_, recording) = recorded(vec![script], json!({})).await;
    let replay = ReplayProvider::new(recording.clone()).unwrap();
    let start = std::time::Instant::now();
    deltas(&replay).await;
    assert!(
        start.elapsed() >= wait - Duration::from_millis(20),
        "{:?}",
        start.elapsed()
    );
    let replay = ReplayProvider::new(recording).unwrap().without_pauses();
    let start = std::time::Instant::now();
    deltas(&replay).await;
    assert!(start.elapsed() < wait, "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_provider_that_is_told_to_writes_one_file_a_completion() {
    let upstream = upstream(answer("ok")).await;
    let directory = tempfile::tempdir().unwrap();
    let options = json!({"record": directory.path().join("tapes")});
    let provider = config("main", &upstream, options).build().unwrap();
    deltas(&provider).await;
    let path = directory.path().join("tapes/main-0001.json");
    while Recording::open(&path).is_err() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn recording_provider() -> (RecorderProvider<ScriptedProvider>, ()) {
    let scripted = ScriptedProvider::reply("a b c");
    (
        RecorderProvider::new(scripted, ProviderKind::OpenAi, |_| {}),
        (),
    )
}
tutor_core::provider_laws!(recorder_laws, recording_provider);

async fn playing_provider() -> (ReplayProvider, ()) {
    let (_, recording) = recorded(vec![answer("a b c")], json!({})).await;
    (ReplayProvider::new(recording).unwrap().without_pauses(), ())
}
tutor_core::provider_laws!(replay_laws, playing_provider);
