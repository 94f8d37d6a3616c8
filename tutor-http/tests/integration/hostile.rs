//! Bytes that nobody honest sends. One answer at most comes back, and the server lives.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::{PATIENCE, Request};
use crate::server::Server;

/// Sends these bytes, says that there are no more, and reads all that comes.
async fn answer(server: &Server, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    // The server may have seen enough.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let reading = stream.read_to_end(&mut answer);
    let _ = tokio::time::timeout(PATIENCE, reading).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_message_whose_end_is_in_doubt_is_never_answered_twice() {
    let server = Server::start().await;
    let chat = "POST /api/chat HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: application/json\r\n";
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let huge = "x".repeat(1 << 20);
    for (headers, body) in [
        // Two lengths.
        (
            "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
            format!("0\r\n\r\n{smuggled}"),
        ),
        (
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            format!("0\r\n\r\n{smuggled}"),
        ),
        (
            "Content-Length: 0\r\nContent-Length: 43\r\n",
            smuggled.to_owned(),
        ),
        ("Content-Length: 0, 43\r\n", smuggled.to_owned()),
        // A length that is none.
        ("Content-Length: +0\r\n", smuggled.to_owned()),
        ("Content-Length: -1\r\n", smuggled.to_owned()),
        ("Content-Length: 0x0\r\n", smuggled.to_owned()),
        (
            "Content-Length: 99999999999999999999\r\n",
            smuggled.to_owned(),
        ),
        // Codings that are none.
        (
            "Transfer-Encoding: xchunked\r\n",
            format!("0\r\n\r\n{smuggled}"),
        ),
        (
            "Transfer-Encoding: chunked, identity\r\n",
            format!("0\r\n\r\n{smuggled}"),
        ),
        (
            "Transfer-Encoding : chunked\r\n",
            format!("0\r\n\r\n{smuggled}"),
        ),
        (
            "Transfer-Encoding:\x0bchunked\r\n",
            format!("0\r\n\r\n{smuggled}"),
        ),
        // Chunks that are none.
        (
            "Transfer-Encoding: chunked\r\n",
            format!("fffffffffffffffff\r\n{smuggled}"),
        ),
        (
            "Transfer-Encoding: chunked\r\n",
            format!("-1\r\n\r\n{smuggled}"),
        ),
        (
            "Transfer-Encoding: chunked\r\n",
            format!("0;{huge}\r\n\r\n{smuggled}"),
        ),
        (
            "Transfer-Encoding: chunked\r\n",
            format!("1\r\nxx\r\n0\r\n\r\n{smuggled}"),
        ),
        // Lines that go on, or are none.
        (
            "X: a\r\n folded\r\nContent-Length: 0\r\n",
            smuggled.to_owned(),
        ),
        ("X : a\r\nContent-Length: 0\r\n", smuggled.to_owned()),
        ("X\rY: a\r\nContent-Length: 0\r\n", smuggled.to_owned()),
        ("X: a\0b\r\nContent-Length: 0\r\n", smuggled.to_owned()),
        ("no colon\r\nContent-Length: 0\r\n", smuggled.to_owned()),
    ] {
        let sent = format!("{chat}{headers}\r\n{body}");
        let answer = answer(&server, sent.as_bytes()).await;
        assert!(
            answer.matches("HTTP/1.1 ").count() <= 1,
            "{headers:?}: {answer}"
        );
        assert!(!answer.contains("HTTP/1.1 2"), "{headers:?}: {answer}");
    }
    Request::get("/").send(server.address).await.expect(200);
}

#[tokio::test]
async fn a_request_line_that_is_none_or_leads_astray_is_refused() {
    let server = Server::start().await;
    for line in [
        "GET / HTTP/1.1\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n",
        "GET http://evil.example/ HTTP/1.1\r\nHost: a\r\n",
        "CONNECT evil.example:443 HTTP/1.1\r\nHost: a\r\n",
        "GET  / HTTP/1.1\r\nHost: a\r\n",
        "GET / HTTP/9.9\r\nHost: a\r\n",
        "GET /\0 HTTP/1.1\r\nHost: a\r\n",
        "TRACE / HTTP/1.1\r\nHost: a\r\n",
        "FROB / HTTP/1.1\r\nHost: a\r\n",
        "get / HTTP/1.1\r\nHost: a\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\u{fc}\x03\x03",
        "GET //evil.example/ HTTP/1.1\r\nHost: a\r\n",
        "GET /\\evil.example HTTP/1.1\r\nHost: a\r\n",
        "GET /api/chat// HTTP/1.1\r\nHost: a\r\n",
        "GET /api/%2e%2e/ HTTP/1.1\r\nHost: a\r\n",
    ] {
        let answer = answer(
            &server,
            format!("{line}Connection: close\r\n\r\n").as_bytes(),
        )
        .await;
        assert!(
            answer.matches("HTTP/1.1 ").count() <= 1,
            "{line:?}: {answer}"
        );
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 4"),
            "{line:?}: {answer}"
        );
        assert!(!answer.contains("evil"), "{line:?}: {answer}");
    }
    Request::get("/").send(server.address).await.expect(200);
}

#[tokio::test]
async fn a_client_that_goes_away_anywhere_leaves_nothing_behind() {
    let server = Server::start().await;
    let whole = Request::chat_with("What is light?", serde_json::json!({"stream": true})).bytes();
    for cut in (1..whole.len()).step_by(7) {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(&whole[..cut]).await.unwrap();
    }
    // And in the middle of the answer, at every length.
    for length in (1..400).step_by(13) {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(&whole).await.unwrap();
        let mut part = vec![0; length];
        stream.read_exact(&mut part).await.unwrap();
    }
    loop {
        let counts = Request::get("/metrics").send(server.address).await.text();
        let counts = crate::metrics::samples(&counts);
        let now = |name: &str| counts[&format!("neuro_tutor_{name}")];
        // Only the one that asks is left.
        if now("connections") == 1.0 && now("streams") == 0.0 && now("live_turns") == 0.0 {
            assert!(now("receiving_bytes") == 0.0, "{counts:?}");
            break;
        }
    }
}
