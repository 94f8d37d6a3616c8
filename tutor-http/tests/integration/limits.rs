//! Every bound of the server, reached.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tutor_core::provider::DemoProvider;
use tutor_core::{Limits, Tutor};
use tutor_http::Bounds;

use crate::client::{PATIENCE, Request, send_raw};
use crate::server::Server;

fn bounds(change: impl FnOnce(&mut Bounds)) -> Bounds {
    let mut bounds = Bounds::default();
    change(&mut bounds);
    bounds
}

/// Reads until the server closes the connection; what it sent.
async fn until_closed(stream: &mut TcpStream) -> Vec<u8> {
    let mut received = Vec::new();
    let reading = stream.read_to_end(&mut received);
    // A reset is a way to close, too.
    let _ = tokio::time::timeout(PATIENCE, reading).await.unwrap();
    received
}

#[tokio::test]
async fn a_head_that_does_not_come_is_not_waited_for() {
    let server =
        Server::with_bounds(bounds(|b| b.header_timeout = Duration::from_millis(100))).await;
    for beginning in [
        &b""[..],
        b"P",
        b"PRI * HTT",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: y",
    ] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(beginning).await.unwrap();
        until_closed(&mut stream).await;
    }
    // One byte at a time does not help.
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let head = b"GET / HTTP/1.1\r\nHost: a\r\nX: "
        .iter()
        .chain(std::iter::repeat_n(&b'y', 10_000));
    let mut refused = false;
    for byte in head {
        if stream.write_all(&[*byte]).await.is_err() {
            refused = true;
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(refused);
}

#[tokio::test]
async fn a_head_that_is_too_large_is_answered_431() {
    let server = Server::start().await;
    let long = Request::get("/").header("x-long", &"x".repeat(40 << 10));
    assert_eq!(long.send(server.address).await.status, 431);
    let mut many = Request::get("/");
    for i in 0..101 {
        many = many.header(&format!("x-{i}"), "y");
    }
    assert_eq!(many.send(server.address).await.status, 431);
    let fits = Request::get("/").header("x-long", &"x".repeat(30 << 10));
    fits.send(server.address).await.expect(200);
}

#[tokio::test]
async fn a_body_that_is_too_large_is_answered_413_whether_announced_or_not() {
    let server = Server::with_bounds(bounds(|b| b.max_body_bytes = 1000)).await;
    let announced = Request::chat(&"x".repeat(1000));
    let refused = announced.send(server.address).await.expect(413);
    assert_eq!(refused["code"], "too_large");
    assert!(refused["detail"].as_str().unwrap().contains("1000"));

    let chunk = format!("3e8\r\n{}\r\n", "x".repeat(1000));
    let chunked = Request::new("POST", "/api/chat")
        .header("content-type", "application/json")
        .header("transfer-encoding", "chunked")
        .body(format!("{chunk}{chunk}0\r\n\r\n"));
    let chunked = chunked.send(server.address).await.expect(413);
    assert_eq!(chunked["detail"], refused["detail"]);
}

#[tokio::test]
async fn a_body_that_does_not_come_is_answered_408() {
    let server = Server::with_bounds(bounds(|b| b.body_timeout = Duration::from_millis(100))).await;
    let head = b"POST /api/chat HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{";
    let late = send_raw(server.address, head).await.unwrap();
    assert_eq!(late.header("connection"), Some("close"));
    assert_eq!(late.expect(408)["detail"], "Request body took too long");
}

#[tokio::test]
async fn bodies_that_arrive_at_once_share_a_budget() {
    let server = Server::with_bounds(bounds(|b| b.body_budget_bytes = 1000)).await;
    let mut first = TcpStream::connect(server.address).await.unwrap();
    let head = "POST /api/chat HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 2000\r\nConnection: close\r\n\r\n";
    first.write_all(head.as_bytes()).await.unwrap();
    first.write_all(&[b' '; 900]).await.unwrap();
    // Once the first one has its share, a second one does not fit.
    let refused = loop {
        let response = Request::chat(&"x".repeat(200)).send(server.address).await;
        if response.status != 200 {
            break response;
        }
    };
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(refused.expect(503)["code"], "overloaded");
    drop(first);
    while Request::chat(&"x".repeat(200))
        .send(server.address)
        .await
        .status
        != 200
    {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn one_connection_more_is_refused_and_the_others_are_served() {
    let server = Server::with_bounds(bounds(|b| b.max_connections = 2)).await;
    let mut kept = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            .await
            .unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
        kept.push(stream);
    }
    let refused = Request::get("/").send(server.address).await;
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(refused.expect(503)["code"], "overloaded");
    drop(kept.pop());
    while Request::get("/").send(server.address).await.status != 200 {
        tokio::task::yield_now().await;
    }
    kept[0]
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let rest = until_closed(&mut kept[0]).await;
    assert!(String::from_utf8_lossy(&rest).contains("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_client_that_stops_reading_is_closed() {
    let server = Server::with_bounds(bounds(|b| {
        b.write_stall = Duration::from_millis(200);
    }))
    .await;
    let session = Request::chat("Hello")
        .send(server.address)
        .await
        .expect(200);
    let path = format!("/api/sessions/{}", session["session_id"].as_str().unwrap());
    // Pipelined requests whose answers are never read fill every buffer on the way.
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").repeat(1000);
    let flood = async { while stream.write_all(request.as_bytes()).await.is_ok() {} };
    // Its own writes fail only because the server has closed the connection.
    tokio::time::timeout(PATIENCE, flood).await.unwrap();
    Request::get("/").send(server.address).await.expect(200);
}

#[tokio::test]
async fn one_turn_more_than_may_run_is_refused_at_once() {
    let mut limits = Limits::default();
    limits.max_live_turns = 1;
    let demo = DemoProvider::new().with_delay(Duration::from_secs(1));
    let server = Server::with(
        Tutor::builder().provider(demo).limits(limits),
        Bounds::default(),
    )
    .await;
    let stream = Request::chat_with("One?", json!({"stream": true}));
    let mut stream = stream.open(server.address).await.unwrap();
    stream.event().await.unwrap();
    let refused = Request::chat("Two?").send(server.address).await;
    assert!(refused.header("retry-after").is_some());
    assert_eq!(refused.expect(503)["code"], "overloaded");
}

#[tokio::test]
async fn a_learners_message_is_bounded_and_a_tutors_reply_in_a_transcript_is_not() {
    let server = Server::start().await;
    Request::chat(&"é".repeat(20_000))
        .send(server.address)
        .await
        .expect(200);
    let long = Request::chat(&"é".repeat(20_001))
        .send(server.address)
        .await
        .expect(422);
    let problem = &long["detail"][0];
    assert_eq!(problem["type"], "string_too_long");
    assert_eq!(problem["ctx"], json!({"max_length": 20_000}));
    assert_eq!(problem["input"].as_str().unwrap().chars().count(), 201);
    let transcript = json!({"messages": [
        {"role": "user", "content": "Write a book"},
        {"role": "assistant", "content": "x".repeat(50_000)},
        {"role": "user", "content": "Thanks"},
    ]});
    Request::post("/api/chat", &transcript)
        .send(server.address)
        .await
        .expect(200);
}

#[tokio::test]
async fn the_number_of_problems_that_are_told_is_bounded() {
    let server = Server::start().await;
    let many = json!({"messages": vec![json!({}); 50_000]});
    let told = Request::post("/api/chat", &many).send(server.address).await;
    assert_eq!(told.expect(422)["detail"].as_array().unwrap().len(), 100);
    assert!(told.body.len() < 100_000, "{}", told.body.len());
}
