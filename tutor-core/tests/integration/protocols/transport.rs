//! What happens to the connection: refusals, silence, breaks, floods, retries and hang-ups.

use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tracing::field::{Field, Visit};
use tracing::span;
use tutor_core::conformance::upstream::{Act, Upstream, event_stream, json_response};
use tutor_core::provider::{
    CompletionRequest, CompletionStream, Delta, ProviderConfig, ProviderKind, SharedProvider,
    Timeouts,
};
use tutor_core::{Error, ErrorKind, FinishReason, Provider};

const KEY: &str = "sk-canary-of-the-key";
const PROMPT: &str = "the canary of the prompt";
const SAID: &str = "the canary of the upstream";

/// Longer than anything here should take.
const SOON: Duration = Duration::from_secs(2);

pub(crate) fn chunk(text: &str) -> String {
    let chunk =
        json!({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}]});
    format!("data: {chunk}\n\n")
}

fn end() -> String {
    let chunk = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]});
    format!("data: {chunk}\n\n")
}

fn usage() -> String {
    let chunk = json!({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}});
    format!("data: {chunk}\n\n")
}

const DONE: &str = "data: [DONE]\n\n";

pub(crate) fn complete(text: &str) -> String {
    chunk(text) + &end() + DONE
}

fn send(body: impl AsRef<[u8]>) -> Act {
    Act::Send(event_stream(body))
}

/// Such as `429 retry-after: 1`.
fn refusal(status: u16, headers: &str, code: &str) -> Vec<Act> {
    let body = json!({"error": {"message": SAID, "code": code}}).to_string();
    let length = body.len();
    let head = format!("HTTP/1.1 {status} No\r\n{headers}content-length: {length}\r\n\r\n");
    vec![Act::Send((head + &body).into_bytes())]
}

fn config(upstream: &Upstream) -> ProviderConfig {
    let limit = Duration::from_secs(10);
    let timeouts = Timeouts {
        first: limit,
        idle: limit,
        progress: limit,
        ..Timeouts::default()
    };
    ProviderConfig::openai(KEY)
        .with_base_url(upstream.url())
        .with_timeouts(timeouts)
}

fn provider(upstream: &Upstream) -> SharedProvider {
    config(upstream).build().unwrap()
}

fn impatient(upstream: &Upstream, first: u64, idle: u64, progress: u64) -> SharedProvider {
    let [first, idle, progress] = [first, idle, progress].map(Duration::from_millis);
    once(config(upstream).with_timeouts(Timeouts {
        first,
        idle,
        progress,
        ..Timeouts::default()
    }))
}

pub(crate) fn request() -> CompletionRequest {
    CompletionRequest::new("m", PROMPT)
}

/// A provider that tries once.
fn once(mut config: ProviderConfig) -> SharedProvider {
    config.max_retries = 0;
    config.build().unwrap()
}

pub(crate) struct Outcome {
    pub(crate) text: String,
    heartbeats: usize,
    pub(crate) finish: Option<FinishReason>,
    pub(crate) error: Option<Error>,
    elapsed: Duration,
}

impl Outcome {
    pub(crate) fn reason(&self) -> Option<&str> {
        self.fact("reason")
    }

    fn fact(&self, key: &str) -> Option<&str> {
        self.error.as_ref()?.context_value(key)
    }
}

pub(crate) async fn run(provider: &dyn Provider, request: CompletionRequest) -> Outcome {
    let start = Instant::now();
    let mut outcome = Outcome {
        text: String::new(),
        heartbeats: 0,
        finish: None,
        error: None,
        elapsed: Duration::ZERO,
    };
    match provider.stream(request).await {
        Ok(mut stream) => {
            while let Some(item) = stream.next().await {
                match item {
                    Ok(Delta::Text(text)) => outcome.text += &text,
                    Ok(Delta::Heartbeat) => outcome.heartbeats += 1,
                    Ok(Delta::Finished { reason }) => outcome.finish = Some(reason),
                    Ok(_) => {}
                    Err(error) => outcome.error = Some(error),
                }
            }
        }
        Err(error) => outcome.error = Some(error),
    }
    outcome.elapsed = start.elapsed();
    outcome
}

async fn until_text(stream: &mut CompletionStream) {
    loop {
        match stream.next().await {
            Some(Ok(Delta::Text(_))) => return,
            Some(Ok(_)) => {}
            end => panic!("no text came, but {end:?}"),
        }
    }
}

#[tokio::test]
async fn a_refused_connection_names_the_host_and_not_the_key() {
    let closed = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let mut config = ProviderConfig::openai(KEY).with_base_url(format!("http://{closed}"));
    let outcome = run(&*once(config.clone()), request()).await;
    assert_eq!(
        (outcome.reason(), outcome.fact("host")),
        (Some("connection"), Some(closed.to_string().as_str()))
    );
    assert!(outcome.error.unwrap().is_retryable());
    // A name that cannot exist.
    config.base_url = Some("http://no-such-host.invalid/v1".to_owned());
    let outcome = run(&*once(config.clone()), request()).await;
    assert_eq!(
        (outcome.reason(), outcome.fact("host")),
        (Some("connection"), Some("no-such-host.invalid"))
    );
}

#[tokio::test]
async fn a_server_that_is_not_tls_fails_as_a_connection() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            socket
                .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                .await
                .unwrap();
        }
    });
    let provider = ProviderConfig::openai(KEY).with_base_url(url);
    assert_eq!(
        run(&*once(provider), request()).await.reason(),
        Some("connection")
    );
}

#[tokio::test]
async fn silence_before_the_first_byte_times_out_and_hangs_up() {
    let upstream = Upstream::start([vec![Act::Hold]]).await.unwrap();
    let outcome = run(&*impatient(&upstream, 100, 9000, 9000), request()).await;
    assert_eq!(
        (outcome.reason(), outcome.fact("phase")),
        (Some("timeout"), Some("first_byte"))
    );
    assert!(outcome.elapsed >= Duration::from_millis(100) && outcome.elapsed < SOON);
    assert!(outcome.error.unwrap().is_retryable());
    assert!(upstream.hung_up(1, SOON).await);
}

#[tokio::test]
async fn silence_after_the_head_times_out_as_idle() {
    let upstream = Upstream::start([vec![send(""), Act::Hold]]).await.unwrap();
    let outcome = run(&*impatient(&upstream, 100, 100, 9000), request()).await;
    assert_eq!(
        (outcome.reason(), outcome.fact("phase")),
        (Some("timeout"), Some("idle"))
    );
    assert!(upstream.hung_up(1, SOON).await);
}

#[tokio::test]
async fn silence_after_some_text_keeps_it_and_is_not_tried_again() {
    let upstream = Upstream::start([vec![send(chunk("a") + &chunk("b")), Act::Hold]])
        .await
        .unwrap();
    let outcome = run(&*impatient(&upstream, 9000, 100, 9000), request()).await;
    assert_eq!(
        (outcome.text.as_str(), outcome.fact("phase")),
        ("ab", Some("idle"))
    );
    assert_eq!(upstream.requests().len(), 1);
}

#[tokio::test]
async fn signs_of_life_without_progress_time_out() {
    let ping = b": keep-alive\n\n".to_vec();
    let upstream = Upstream::start([vec![send(""), Act::Repeat(Duration::from_millis(20), ping)]])
        .await
        .unwrap();
    let outcome = run(&*impatient(&upstream, 300, 200, 300), request()).await;
    assert_eq!(
        (outcome.reason(), outcome.fact("phase")),
        (Some("timeout"), Some("progress"))
    );
    assert!(outcome.heartbeats > 3, "{}", outcome.heartbeats);
    assert!(upstream.hung_up(1, SOON).await);
}

#[tokio::test]
async fn a_reply_ends_with_its_terminal_even_if_the_connection_stays() {
    let upstream = Upstream::start([vec![send(complete("x")), Act::Hold]])
        .await
        .unwrap();
    let outcome = run(&*provider(&upstream), request()).await;
    assert_eq!(
        (outcome.text.as_str(), outcome.finish),
        ("x", Some(FinishReason::Stop))
    );
    assert!(
        outcome.elapsed < Duration::from_secs(1),
        "{:?}",
        outcome.elapsed
    );
    // What may still come is waited for only briefly.
    assert!(upstream.hung_up(1, SOON).await);
}

#[tokio::test]
async fn a_complete_reply_without_its_terminal_ends_after_a_short_grace() {
    let upstream = Upstream::start([vec![send(chunk("x") + &end() + &usage()), Act::Hold]])
        .await
        .unwrap();
    let outcome = run(&*provider(&upstream), request()).await;
    assert_eq!(
        (outcome.text.as_str(), outcome.finish),
        ("x", Some(FinishReason::Stop))
    );
    assert!(
        outcome.elapsed < Duration::from_secs(4),
        "{:?}",
        outcome.elapsed
    );
}

#[tokio::test]
async fn a_break_before_any_output_is_tried_again_and_one_after_it_is_not() {
    let scripts = [vec![Act::Reset], vec![send(complete("x"))]];
    let upstream = Upstream::start(scripts).await.unwrap();
    let outcome = run(&*provider(&upstream), request()).await;
    assert_eq!(
        (outcome.text.as_str(), outcome.finish),
        ("x", Some(FinishReason::Stop))
    );
    assert_eq!(upstream.requests().len(), 2);
    // The same bytes are sent again.
    assert_eq!(upstream.requests()[0].body, upstream.requests()[1].body);

    // The pause lets the text arrive before the reset discards it.
    let pause = Act::Wait(Duration::from_millis(100));
    let upstream = Upstream::start([vec![send(chunk("x")), pause, Act::Reset]])
        .await
        .unwrap();
    let outcome = run(&*provider(&upstream), request()).await;
    assert_eq!(
        (outcome.text.as_str(), outcome.reason()),
        ("x", Some("connection"))
    );
    assert_eq!(upstream.requests().len(), 1);
}

#[tokio::test]
async fn a_body_shorter_than_announced_is_a_broken_connection() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 9999\r\n\r\n";
    let upstream = Upstream::start([vec![Act::Send(
        (head.to_owned() + &chunk("x")).into_bytes(),
    )]])
    .await
    .unwrap();
    let outcome = run(&*provider(&upstream), request()).await;
    assert_eq!(
        (outcome.text.as_str(), outcome.reason()),
        ("x", Some("connection"))
    );
}

#[tokio::test]
async fn a_wait_that_is_asked_for_is_kept_and_then_it_works() {
    let scripts = [
        refusal(429, "retry-after-ms: 300\r\n", "rate_limit_exceeded"),
        vec![send(complete("x"))],
    ];
    let upstream = Upstream::start(scripts).await.unwrap();
    let outcome = run(&*provider(&upstream), request()).await;
    assert_eq!(outcome.finish, Some(FinishReason::Stop));
    assert!(
        outcome.elapsed >= Duration::from_millis(300) && outcome.elapsed < SOON,
        "{:?}",
        outcome.elapsed
    );
    assert_eq!(upstream.requests().len(), 2);
}

#[tokio::test]
async fn a_wait_that_is_too_long_is_returned_at_once() {
    let upstream = Upstream::start([refusal(429, "retry-after: 3600\r\n", "rate_limit_exceeded")])
        .await
        .unwrap();
    let outcome = run(&*provider(&upstream), request()).await;
    let error = outcome.error.unwrap();
    assert_eq!(
        (error.kind(), error.retry_after()),
        (ErrorKind::RateLimited, Some(Duration::from_secs(3600)))
    );
    assert!(outcome.elapsed < SOON);
    assert_eq!(upstream.requests().len(), 1);
}

#[tokio::test]
async fn nonsense_in_retry_after_is_no_wait_and_no_panic() {
    for nonsense in ["-1", "inf", "NaN", "1e400", "soon", ""] {
        let script = refusal(503, &format!("retry-after: {nonsense}\r\n"), "x");
        let upstream = Upstream::start([script]).await.unwrap();
        let outcome = run(&*once(config(&upstream)), request()).await;
        assert_eq!(outcome.reason(), Some("server"), "{nonsense}");
        assert_eq!(outcome.error.unwrap().retry_after(), None, "{nonsense}");
    }
}

#[tokio::test]
async fn an_overload_is_tried_three_times() {
    let upstream = Upstream::start([refusal(503, "", "server_is_overloaded")])
        .await
        .unwrap();
    let outcome = run(&*provider(&upstream), request()).await;
    assert_eq!(
        (outcome.reason(), outcome.fact("attempts")),
        (Some("overloaded"), Some("3"))
    );
    assert!(
        outcome.elapsed >= Duration::from_millis(750),
        "{:?}",
        outcome.elapsed
    );
    assert_eq!(upstream.requests().len(), 3);
}

#[tokio::test]
async fn an_error_as_first_event_is_tried_again_unseen() {
    let overloaded = json!({"error": {"message": SAID, "type": "overloaded_error"}});
    let failing = send(format!(": hello\n\ndata: {overloaded}\n\n"));
    let upstream = Upstream::start([vec![failing], vec![send(complete("x"))]])
        .await
        .unwrap();
    let outcome = run(&*provider(&upstream), request()).await;
    assert_eq!(
        (outcome.text.as_str(), outcome.finish),
        ("x", Some(FinishReason::Stop))
    );
    assert!(outcome.error.is_none());
}

#[tokio::test]
async fn advice_not_to_retry_is_taken_and_advice_to_retry_a_wrong_request_is_not() {
    for (status, advice, retryable) in [
        (500, "false", false),
        (500, "true", true),
        (400, "true", false),
        (409, "true", true),
    ] {
        let script = refusal(status, &format!("x-should-retry: {advice}\r\n"), "x");
        let upstream = Upstream::start([script]).await.unwrap();
        let error = run(&*once(config(&upstream)), request())
            .await
            .error
            .unwrap();
        assert_eq!(error.is_retryable(), retryable, "{status} {advice}");
    }
}

#[tokio::test]
async fn dropping_the_stream_or_the_request_hangs_up_upstream() {
    let upstream = Upstream::start([vec![send(chunk("x")), Act::Hold]])
        .await
        .unwrap();
    let mut stream = provider(&upstream).stream(request()).await.unwrap();
    until_text(&mut stream).await;
    drop(stream);
    assert!(upstream.hung_up(1, Duration::from_secs(1)).await);

    let upstream = Upstream::start([vec![Act::Hold]]).await.unwrap();
    let provider = provider(&upstream);
    let asking = tokio::spawn(async move { provider.stream(request()).await.is_ok() });
    while upstream.requests().is_empty() {
        tokio::task::yield_now().await;
    }
    asking.abort();
    assert!(upstream.hung_up(1, Duration::from_secs(1)).await);
}

#[tokio::test]
async fn cancelling_while_waiting_to_retry_makes_no_further_attempt() {
    let upstream = Upstream::start([refusal(429, "retry-after: 30\r\n", "rate_limit_exceeded")])
        .await
        .unwrap();
    let request = request();
    let cancel = request.context.cancel.clone();
    let provider = provider(&upstream);
    let asking = tokio::spawn(async move { run(&*provider, request).await });
    while upstream.requests().is_empty() {
        tokio::task::yield_now().await;
    }
    cancel.cancel();
    let outcome = asking.await.unwrap();
    assert!(outcome.elapsed < SOON);
    assert_eq!(
        (outcome.reason(), upstream.requests().len()),
        (Some("rate_limited"), 1)
    );
}

#[tokio::test]
async fn the_deadline_of_a_request_ends_it() {
    let upstream = Upstream::start([vec![send(chunk("x")), Act::Hold]])
        .await
        .unwrap();
    let mut request = request();
    request.context.deadline = Some(tokio::time::Instant::now() + Duration::from_millis(200));
    let outcome = run(&*provider(&upstream), request).await;
    assert_eq!(
        (outcome.text.as_str(), outcome.fact("phase")),
        ("x", Some("deadline"))
    );
    assert!(outcome.elapsed < SOON && !outcome.error.unwrap().is_retryable());
}

#[tokio::test]
async fn floods_end_at_a_limit() {
    let calls: Vec<_> = (0..300)
        .map(|n| json!({"index": n, "id": format!("c{n}"), "function": {"name": "t"}}))
        .collect();
    let calls = json!({"choices": [{"index": 0, "delta": {"tool_calls": calls}}]});
    let long = json!({"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"arguments": "x".repeat(2 << 20)}}]}}]});
    for (body, limit) in [
        (b"x".repeat(9 << 20), "line_bytes"),
        (b"data: xxxxxxxxxxxxxxxx\n".repeat(1 << 20), "event_bytes"),
        (b":\n".repeat(1_000_001), "frames"),
        (format!("data: {calls}\n\n").into_bytes(), "tool_calls"),
        (format!("data: {long}\n\n").into_bytes(), "argument_bytes"),
    ] {
        let upstream = Upstream::streaming(body).await.unwrap();
        let outcome = run(&*provider(&upstream), request()).await;
        assert_eq!(
            (outcome.reason(), outcome.fact("limit")),
            (Some("malformed"), Some(limit))
        );
        assert!(!outcome.error.unwrap().is_retryable(), "{limit}");
    }
}

#[tokio::test]
async fn heads_and_bodies_may_be_cut_anywhere() {
    let answer = event_stream(complete("x"));
    for cut in (1..answer.len()).step_by(9) {
        let (first, second) = answer.split_at(cut);
        let pause = Act::Wait(Duration::from_millis(1));
        let script = vec![Act::Send(first.to_vec()), pause, Act::Send(second.to_vec())];
        let upstream = Upstream::start([script]).await.unwrap();
        assert_eq!(
            run(&*provider(&upstream), request()).await.text,
            "x",
            "cut at {cut}"
        );
    }
}

#[tokio::test]
async fn answers_without_a_body_are_empty() {
    for answer in [
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n\r\n",
    ] {
        let upstream = Upstream::start([vec![Act::Send(answer.into())]])
            .await
            .unwrap();
        let outcome = run(&*once(config(&upstream)), request()).await;
        assert_eq!(outcome.reason(), Some("empty_response"), "{answer}");
        assert!(outcome.error.unwrap().is_retryable());
    }
}

#[tokio::test]
async fn a_compressed_answer_is_read_and_one_of_another_coding_fails_cleanly() {
    const ZIPPED: &[u8] =
        b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\x1d\xcc\x31\x0a\x84\x30\x10\x05\xd0\x3e\
        \xa7\x90\x5f\x5b\x58\x4f\xed\xb6\xeb\x01\x24\x48\x70\x66\x71\x60\x99\x04\x33\x85\
        \x28\xb9\xfb\x86\xad\x1f\x3c\x4e\x9e\x68\x78\xb0\x1f\x59\x77\xa9\xa0\xf5\x81\x1a\
        \xcb\x05\x9a\x46\xb0\x7c\x3d\x81\x3a\x67\x73\x31\x07\xe1\xd6\x52\x84\xd1\x46\x7c\
        \xd4\xb4\x1e\xdb\x29\xa9\x66\xeb\x52\x3d\x17\xb4\xd8\x42\xe0\x7f\xba\xce\xcb\xfb\
        \x15\x43\xf8\x01\x7b\xa2\x64\x35\x63\x00\x00\x00";
    for (coding, reason) in [("gzip", None), ("br", Some("malformed"))] {
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: {coding}\r\n\r\n"
        );
        let upstream = Upstream::start([vec![Act::Send([head.as_bytes(), ZIPPED].concat())]])
            .await
            .unwrap();
        let outcome = run(&*once(config(&upstream)), request()).await;
        assert_eq!(outcome.reason(), reason, "{coding}");
        assert_eq!(outcome.text, if reason.is_none() { "zipped" } else { "" });
    }
}

#[tokio::test]
async fn a_connection_is_used_again_and_left_over_bytes_disturb_nothing() {
    let chunked = |body: &str| {
        let length = body.len();
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        Act::Send(format!("{head}{length:x}\r\n{body}\r\n0\r\nx-trailer: 1\r\n\r\n").into_bytes())
    };
    let first = complete("one") + &chunk("ghost") + DONE;
    let scripts = [
        vec![chunked(&first), Act::KeepAlive],
        vec![chunked(&complete("two")), Act::KeepAlive],
    ];
    let upstream = Upstream::start(scripts).await.unwrap();
    let provider = provider(&upstream);
    assert_eq!(run(&*provider, request()).await.text, "one");
    assert_eq!(run(&*provider, request()).await.text, "two");
}

#[tokio::test]
async fn a_used_connection_that_breaks_before_the_answer_is_replaced_by_a_fresh_one() {
    let chunked = |body: &str| {
        let length = body.len();
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        Act::Send(format!("{head}{length:x}\r\n{body}\r\n0\r\n\r\n").into_bytes())
    };
    let scripts = [
        vec![chunked(&complete("one")), Act::KeepAlive],
        vec![Act::Reset],
        vec![send(complete("two"))],
    ];
    let upstream = Upstream::start(scripts).await.unwrap();
    let provider = provider(&upstream);
    assert_eq!(run(&*provider, request()).await.text, "one");
    let outcome = run(&*provider, request()).await;
    assert_eq!(
        (outcome.text.as_str(), outcome.finish),
        ("two", Some(FinishReason::Stop))
    );
    // The one that broke counts as an attempt.
    assert_eq!(upstream.requests().len(), 3);
}

#[tokio::test]
async fn every_attempt_sends_the_same_bytes() {
    let scripts = [
        refusal(503, "", "server_is_overloaded"),
        vec![Act::Reset],
        vec![send(complete("x"))],
    ];
    let upstream = Upstream::start(scripts).await.unwrap();
    assert_eq!(run(&*provider(&upstream), request()).await.text, "x");
    let requests = upstream.requests();
    assert_eq!(requests.len(), 3);
    for again in &requests[1..] {
        assert_eq!(again.body, requests[0].body);
        assert_eq!(again.headers, requests[0].headers);
        assert_eq!(again.target, requests[0].target);
    }
}

#[tokio::test]
async fn a_reply_that_comes_late_and_all_at_once_is_a_reply() {
    let pause = Act::Wait(Duration::from_millis(400));
    let upstream = Upstream::start([vec![pause, send(complete("late"))]])
        .await
        .unwrap();
    let outcome = run(&*impatient(&upstream, 5000, 100, 100), request()).await;
    assert_eq!(
        (outcome.text.as_str(), outcome.finish),
        ("late", Some(FinishReason::Stop))
    );
    assert!(outcome.elapsed >= Duration::from_millis(400));
}

#[tokio::test]
async fn a_request_that_is_refused_before_it_was_read_is_too_large_and_not_a_broken_connection() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut head = vec![0; 4096];
        socket.read_exact(&mut head).await.unwrap();
        let Act::Send(answer) = &refusal(413, "connection: close\r\n", "x")[0] else {
            panic!("it is one act")
        };
        socket.write_all(answer).await.unwrap();
        socket.shutdown().await.unwrap();
        // The rest is not read, and the socket stays open until the client has hung up.
        while socket.writable().await.is_ok() && socket.peek(&mut head).await.is_ok_and(|n| n > 0) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let provider = once(ProviderConfig::openai(KEY).with_base_url(url));
    let request = CompletionRequest::new("m", "x".repeat(40 << 20));
    let error = run(&*provider, request).await.error.unwrap();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
}

#[tokio::test]
async fn a_request_that_is_refused_for_its_size_is_too_large_and_not_a_broken_connection() {
    let upstream = Upstream::start([refusal(413, "connection: close\r\n", "x")])
        .await
        .unwrap();
    let request = CompletionRequest::new("m", "x".repeat(8 << 20));
    let error = run(&*provider(&upstream), request).await.error.unwrap();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let target = Upstream::streaming(complete("stolen")).await.unwrap();
    let head = format!(
        "HTTP/1.1 307 Go\r\nlocation: {}/steal\r\ncontent-length: 0\r\n\r\n",
        target.url()
    );
    let upstream = Upstream::start([vec![Act::Send(head.into_bytes())]])
        .await
        .unwrap();
    for kind in [ProviderKind::OpenAi, ProviderKind::Anthropic] {
        let mut config = config(&upstream);
        config.kind = kind;
        let outcome = run(&*config.build().unwrap(), request()).await;
        assert_eq!(
            (outcome.reason(), outcome.fact("status")),
            (Some("invalid_response"), Some("307"))
        );
    }
    assert!(target.requests().is_empty());
}

#[tokio::test]
async fn the_chosen_proxy_is_used() {
    let proxy = Upstream::streaming(complete("by proxy")).await.unwrap();
    let mut config = ProviderConfig::openai(KEY).with_base_url("http://no-such-host.invalid/v1");
    config.proxy = Some(proxy.url());
    assert_eq!(
        run(&*config.build().unwrap(), request()).await.text,
        "by proxy"
    );
    assert_eq!(
        proxy.requests()[0].target,
        "http://no-such-host.invalid/v1/chat/completions"
    );
}

#[tokio::test]
async fn a_slow_reader_holds_the_server_back() {
    let body = chunk(&"x".repeat(1 << 16)).repeat(512);
    let whole = body.len();
    let upstream = Upstream::start([vec![Act::SendBy(1 << 16, event_stream(body))]])
        .await
        .unwrap();
    let mut stream = provider(&upstream).stream(request()).await.unwrap();
    until_text(&mut stream).await;
    let mut sent = 0;
    // Until the buffers of the sockets are full.
    while sent < upstream.sent() || sent == 0 {
        sent = upstream.sent();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(
        sent < whole / 2,
        "{sent} of {whole} bytes were sent to a client that read one event"
    );
    let texts = stream.filter(|item| std::future::ready(matches!(item, Ok(Delta::Text(_)))));
    assert_eq!(texts.count().await, 511);
}

/// Collects everything that is traced on this thread, at every level.
#[derive(Clone, Debug, Default)]
struct Log(Arc<Mutex<String>>);

impl Visit for Log {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        writeln!(self.0.lock().unwrap(), "{field}={value:?}").unwrap();
    }
}

impl tracing::Subscriber for Log {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, span: &span::Attributes<'_>) -> span::Id {
        span.record(&mut self.clone());
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, values: &span::Record<'_>) {
        values.record(&mut self.clone());
    }
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut self.clone());
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[tokio::test]
async fn keys_prompts_and_words_of_the_other_side_are_in_no_error_and_no_log() {
    let echo = json!({"error": {"message": format!("{SAID} {KEY} {PROMPT}"), "type": KEY, "code": KEY, "param": PROMPT}});
    let event = format!("data: {echo}\n\n");
    let mut scripts = Vec::new();
    for status in [200, 302, 400, 401, 403, 404, 413, 422, 429, 500, 503] {
        let head =
            format!("HTTP/1.1 {status} {KEY}\r\nx-request-id: {KEY}\r\nretry-after: {KEY}\r\n");
        let body = echo.to_string();
        let length = body.len();
        scripts.push(vec![Act::Send(
            format!("{head}content-length: {length}\r\n\r\n{body}").into_bytes(),
        )]);
    }
    scripts.extend([
        vec![Act::Send(json_response(500, &echo))],
        vec![send(&event)],
        vec![send(chunk("x") + &event)],
        vec![send(format!("data: {KEY} {PROMPT}\n\n"))],
        vec![send(format!("data: {{\"{KEY}\": {PROMPT}\n\n"))],
        vec![send(format!("error: {KEY} {PROMPT}\n\n"))],
        vec![send(format!("event: error\ndata: {KEY} {PROMPT}\n\n"))],
        vec![Act::Send(
            format!("HTTP/1.1 200 OK\r\n\r\n<html>{KEY}").into_bytes(),
        )],
        vec![Act::Send(format!("{KEY} {PROMPT}\r\n\r\n").into_bytes())],
        vec![Act::Reset],
    ]);
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    for script in scripts {
        for kind in [ProviderKind::OpenAi, ProviderKind::Anthropic] {
            let upstream = Upstream::start([script.clone()]).await.unwrap();
            let mut config = config(&upstream);
            config.kind = kind;
            let provider = once(config.clone());
            let error = run(&*provider, request()).await.error.unwrap();
            let mut printed = format!(
                "{error} {error:?} {:?} {provider:?} {config:?}",
                error.info()
            );
            let mut source = std::error::Error::source(&error);
            while let Some(cause) = source {
                printed += &format!(" {cause} {cause:?}");
                source = cause.source();
            }
            for canary in [KEY, PROMPT, SAID] {
                assert!(!printed.contains(canary), "{script:?} {printed}");
            }
        }
    }
    // With retries, which are logged.
    let upstream = Upstream::start([refusal(503, "retry-after-ms: 1\r\n", "x")])
        .await
        .unwrap();
    run(&*provider(&upstream), request()).await;
    let log = log.0.lock().unwrap();
    assert!(log.contains("trying a provider again"), "{log}");
    for canary in [KEY, PROMPT, SAID] {
        assert!(!log.contains(canary), "{log}");
    }
}
