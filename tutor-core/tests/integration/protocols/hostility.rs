//! Upstreams that mean no good, and what every protocol makes of them; and how fast each hangs up.

use std::io::Write as _;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::StreamExt;
use tutor_core::conformance::upstream::{Act, Upstream, event_stream};
use tutor_core::provider::{
    ApiKey, CompletionRequest, Delta, ProviderConfig, ProviderKind, SharedProvider, Timeouts,
};
use tutor_core::{ChatRequest, Error, ErrorKind, Event, Limits, Tutor};

pub(crate) const KINDS: [ProviderKind; 5] = [
    ProviderKind::OpenAi,
    ProviderKind::OpenAiResponses,
    ProviderKind::Anthropic,
    ProviderKind::Gemini,
    ProviderKind::Ollama,
];

/// The beginning of a reply in each protocol, and its end.
pub(crate) fn said(kind: ProviderKind) -> (&'static str, &'static str) {
    match kind {
        ProviderKind::OpenAi => (
            "data: {\"choices\":[{\"delta\":{\"content\":\"ok\"}}]}\n\n",
            "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n",
        ),
        ProviderKind::OpenAiResponses => (
            "data: {\"type\":\"response.output_text.delta\",\"delta\":\"ok\"}\n\n",
            "data: {\"type\":\"response.completed\",\"response\":{\"status\":\"completed\"}}\n\n",
        ),
        ProviderKind::Anthropic => (
            "data: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"ok\"}}\n\n",
            "data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"}}\n\ndata: {\"type\":\"message_stop\"}\n\n",
        ),
        ProviderKind::Gemini => (
            "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"ok\"}]}}]}\r\n\r\n",
            "data: {\"candidates\":[{\"finishReason\":\"STOP\"}]}\r\n\r\n",
        ),
        ProviderKind::Ollama => (
            "{\"message\":{\"content\":\"ok\"},\"done\":false}\n",
            "{\"message\":{\"content\":\"\"},\"done\":true}\n",
        ),
        other => panic!("{other} has no wire protocol"),
    }
}

pub(crate) fn config(kind: ProviderKind, upstream: &Upstream) -> ProviderConfig {
    let mut config = ProviderConfig::new(kind).with_base_url(upstream.url());
    config.key = Some(ApiKey::new("key"));
    config.max_retries = 0;
    config
}

/// What came, and the error if one ended it.
async fn run(provider: &SharedProvider) -> (String, Option<Error>) {
    let mut text = String::new();
    let mut stream = match provider.stream(CompletionRequest::new("m", "Why?")).await {
        Ok(stream) => stream,
        Err(error) => return (text, Some(error)),
    };
    while let Some(item) = stream.next().await {
        match item {
            Ok(Delta::Text(more)) => text.push_str(&more),
            Ok(_) => {}
            Err(error) => return (text, Some(error)),
        }
    }
    (text, None)
}

async fn answered(kind: ProviderKind, script: Vec<Act>) -> (String, Option<Error>) {
    let upstream = Upstream::start([script]).await.unwrap();
    run(&config(kind, &upstream).build().unwrap()).await
}

/// The reason, any limit that was exceeded, and whether trying again is advised.
fn shown(error: Option<&Error>) -> (&str, Option<&str>, bool) {
    let error = error.unwrap();
    let reason = error.context_value("reason").unwrap_or_default();
    (reason, error.context_value("limit"), error.is_retryable())
}

pub(crate) fn response(head: &str, body: impl AsRef<[u8]>) -> Vec<Act> {
    let head = format!("HTTP/1.1 {head}\r\nconnection: close\r\n\r\n");
    vec![Act::Send([head.as_bytes(), body.as_ref()].concat())]
}

#[tokio::test]
async fn every_protocol_refuses_the_same_nonsense_for_the_same_reason() {
    let page = "<!doctype html><html>Please log in</html>";
    for kind in KINDS {
        for (head, body, expected) in [
            (
                "200 OK\r\ncontent-type: text/html",
                page,
                ("malformed", false),
            ),
            ("200 OK", page, ("malformed", false)),
            (
                "502 Bad Gateway\r\ncontent-type: text/html",
                page,
                ("server", true),
            ),
            (
                "302 Found\r\nlocation: http://127.0.0.1:1/",
                "",
                ("invalid_response", false),
            ),
            (
                "200 OK\r\ncontent-encoding: br",
                "\u{1}\u{2}",
                ("malformed", false),
            ),
            (
                "200 OK",
                "upstream connect error\n",
                ("empty_response", true),
            ),
            ("200 OK", "", ("empty_response", true)),
            (
                "200 OK\r\ncontent-type: text/event-stream",
                "",
                ("truncated_stream", true),
            ),
            ("200 OK", "data: 5\n\n", ("malformed", false)),
            ("200 OK", "data: oops\n\n", ("malformed", false)),
            ("200 OK", "data: {\"half\n\n", ("malformed", true)),
            ("200 OK", "{\"error\":\"boom\"}", ("server", true)),
            (
                "200 OK",
                "data: {\"error\":{\"message\":\"boom\"}}\n\n",
                ("server", true),
            ),
        ] {
            let (text, error) = answered(kind, response(head, body)).await;
            let (reason, _, retryable) = shown(error.as_ref());
            assert_eq!((reason, retryable), expected, "{kind} {head} {body}");
            assert_eq!(text, "");
        }
        let wrong = "{\"type\":\"response.completed\",\"choices\":5,\"candidates\":5,\"message\":5,\"response\":5,\"content_block\":5,\"delta\":5}";
        for body in [format!("data: {wrong}\n\n"), wrong.to_owned()] {
            let (_, error) = answered(kind, response("200 OK", &body)).await;
            // Where only unneeded fields are of a wrong type, the reply is what is missing.
            let reason = shown(error.as_ref()).0;
            let known = ["malformed", "truncated_stream", "empty_response"];
            assert!(known.contains(&reason), "{kind} {body}: {reason}");
        }
    }
}

#[tokio::test]
async fn bombs_and_endless_answers_end_at_a_limit() {
    let mut bomb = GzEncoder::new(Vec::new(), Compression::best());
    let zeros = vec![b'0'; 1 << 20];
    for _ in 0..256 {
        bomb.write_all(&zeros).unwrap();
    }
    let bomb = bomb.finish().unwrap();
    assert!(bomb.len() < 1 << 20);
    for kind in KINDS {
        let head = "200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: gzip";
        let start = Instant::now();
        let (_, error) = answered(kind, response(head, &bomb)).await;
        let expected = ("malformed", Some("line_bytes"), false);
        assert_eq!(shown(error.as_ref()), expected, "{kind}");
        assert!(start.elapsed() < Duration::from_secs(20));

        let piece = vec![b'x'; 1 << 20];
        for (begin, limits) in [
            ("data: ", ["line_bytes", "line_bytes"]),
            ("{\"x\":\"", ["document_bytes", "event_bytes"]),
        ] {
            let endless = Act::Repeat(Duration::ZERO, piece.clone());
            let script = vec![Act::Send(event_stream(begin)), endless];
            let (_, error) = answered(kind, script).await;
            let (reason, limit, retryable) = shown(error.as_ref());
            assert_eq!((reason, retryable), ("malformed", false), "{kind}");
            assert!(limits.contains(&limit.unwrap()), "{kind} {limit:?}");
        }
    }
}

#[tokio::test]
async fn silence_ends_in_time_and_a_slow_drip_is_read_to_its_end() {
    let timeouts = Timeouts {
        first: Duration::from_millis(150),
        idle: Duration::from_millis(150),
        ..Timeouts::default()
    };
    for kind in KINDS {
        let (begin, end) = said(kind);
        for (script, text, phase) in [
            (vec![Act::Hold], "", "first_byte"),
            (vec![Act::Send(event_stream("")), Act::Hold], "", "idle"),
            (
                vec![Act::Send(event_stream(begin)), Act::Hold],
                "ok",
                "idle",
            ),
        ] {
            let upstream = Upstream::start([script]).await.unwrap();
            let config = config(kind, &upstream).with_timeouts(timeouts);
            let start = Instant::now();
            let (said, error) = run(&config.build().unwrap()).await;
            let error = error.unwrap();
            assert_eq!(error.kind(), ErrorKind::Timeout, "{kind}");
            assert_eq!(
                (said.as_str(), error.context_value("phase")),
                (text, Some(phase))
            );
            assert!(start.elapsed() < Duration::from_secs(2), "{kind}");
            assert!(upstream.hung_up(1, Duration::from_secs(1)).await, "{kind}");
        }
        let body = format!("{begin}{end}");
        let mut script = vec![Act::Send(event_stream(""))];
        for byte in body.into_bytes() {
            script.extend([Act::Send(vec![byte]), Act::Wait(Duration::from_millis(1))]);
        }
        let (text, error) = answered(kind, script).await;
        assert!(error.is_none() && text == "ok", "{kind}: {error:?}");
    }
}

/// How long an upstream waits for the end of its connection, once nobody wants the reply any more.
/// The best of several: what else the machine does is not measured.
async fn hang_up(kind: ProviderKind, silent: bool, cancel: bool) -> Duration {
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let mut script = vec![Act::Hold];
        if !silent {
            script.insert(0, Act::Send(event_stream(said(kind).0)));
        }
        let upstream = Upstream::start([script]).await.unwrap();
        let mut limits = Limits::default();
        if !cancel {
            limits.turn_timeout = Duration::from_millis(300);
        }
        let provider = config(kind, &upstream).build().unwrap();
        let builder = Tutor::builder().provider(provider).limits(limits.clone());
        let tutor = builder.build().await.unwrap();
        let begun = Instant::now();
        let mut turn = tutor.stream(ChatRequest::from("Why?")).await.unwrap();
        while upstream.requests().is_empty() {
            tokio::task::yield_now().await;
        }
        if !silent {
            while let Some(event) = turn.next().await {
                if matches!(event.event, Event::TextDelta { .. }) {
                    break;
                }
            }
        }
        let from = if cancel {
            tutor.cancel(turn.turn_id()).await.unwrap();
            Instant::now()
        } else {
            begun + limits.turn_timeout
        };
        assert!(upstream.hung_up(1, Duration::from_secs(5)).await);
        best = best.min(from.elapsed());
        if best < Duration::from_millis(100) {
            break;
        }
    }
    best
}

#[tokio::test]
async fn a_cancelled_or_late_turn_hangs_up_upstream_within_100_milliseconds() {
    for kind in KINDS {
        for silent in [true, false] {
            for cancel in [true, false] {
                let took = hang_up(kind, silent, cancel).await;
                assert!(
                    took < Duration::from_millis(100),
                    "{kind} {silent} {cancel}: {took:?}"
                );
            }
        }
    }
}
