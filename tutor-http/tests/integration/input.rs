//! What is sent, however odd, is refused in time or kept exactly.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tutor_core::Tutor;
use tutor_core::conformance::upstream::Upstream;
use tutor_core::provider::DemoProvider;
use tutor_core::store::SqliteStore;
use tutor_http::Bounds;

use crate::client::{Request, Response};
use crate::server::Server;

/// Longer than reading any body may take on a machine that is busy with other tests. An algorithm
/// whose time grows with the square of a body of 2 MB takes hours.
const SOON: Duration = Duration::from_secs(60);

async fn soon(request: Request, server: &Server) -> Response {
    let began = Instant::now();
    let response = request.send(server.address).await;
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    response
}

fn raw(body: impl Into<Vec<u8>>) -> Request {
    Request::new("POST", "/api/chat")
        .header("content-type", "application/json")
        .body(body)
}

#[tokio::test]
async fn json_that_is_made_to_be_expensive_is_not() {
    let server = Server::start().await;
    let memory = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("VmRSS"));
        let kilobytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
        kilobytes.unwrap_or_default()
    };
    let said = r#""messages":[{"role":"user","content":"Hi"}]"#;
    let many_keys: String = (0..100_000).map(|n| format!(",\"k{n}\":0")).collect();
    let before = memory();
    for (what, body, expected) in [
        ("deep lists", "[".repeat(500_000), 400),
        ("deep objects", "{\"a\":".repeat(300_000), 400),
        ("many keys", format!("{{{said}{many_keys}}}"), 200),
        (
            "many preferences",
            format!("{{{said},\"preferences\":{{\"x\":0{many_keys}}}}}"),
            413,
        ),
        (
            "the same key",
            format!("{{{said}{}}}", ",\"k\":0".repeat(200_000)),
            200,
        ),
        (
            "a long number",
            format!(
                "{{{said},\"preferences\":{{\"max_tokens\":{}}}}}",
                "1".repeat(1_000_000)
            ),
            422,
        ),
        (
            "a long fraction",
            format!(
                "{{{said},\"preferences\":{{\"temperature\":0.{}}}}}",
                "1".repeat(1_000_000)
            ),
            200,
        ),
        (
            "a large exponent",
            format!(
                "{{{said},\"preferences\":{{\"temperature\":1e{}}}}}",
                "9".repeat(1000)
            ),
            422,
        ),
        (
            "a long key",
            format!("{{{said},\"{}\":0}}", "k".repeat(1_900_000)),
            200,
        ),
        (
            "escapes",
            format!("{{\"messages\":\"{}\"}}", "\\u0041".repeat(300_000)),
            422,
        ),
        (
            "many problems",
            format!("{{\"messages\":[{}0]}}", "0,".repeat(900_000)),
            422,
        ),
        (
            "a body without an end",
            format!("{{{said},\"a\":\"{}", "x".repeat(1_900_000)),
            422,
        ),
    ] {
        let response = soon(raw(body), &server).await;
        let start: String = String::from_utf8_lossy(&response.body)
            .chars()
            .take(300)
            .collect();
        assert_eq!(response.status, expected, "{what}: {start}");
        assert!(
            response.body.len() < 100_000,
            "{what}: {}",
            response.body.len()
        );
    }
    // 2 MB each, and what other tests hold meanwhile.
    let grown = memory().saturating_sub(before);
    assert!(grown < 512 << 10, "{grown} KiB");
}

#[tokio::test]
async fn what_was_said_is_kept_byte_by_byte_and_what_is_no_text_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let database = SqliteStore::open(directory.path().join("words.db"));
    let demo = || DemoProvider::new().with_delay(Duration::ZERO);
    let in_sql = Tutor::builder()
        .data(database.await.unwrap())
        .provider(demo());
    let in_sql = Server::with(in_sql, Bounds::default()).await;
    kept_exactly(&in_sql).await;
    let server = Server::start().await;
    kept_exactly(&server).await;
    let with = |bytes: &[u8]| {
        let begin = b"{\"messages\":[{\"role\":\"user\",\"content\":\"";
        raw([&begin[..], bytes, b"\"}]}"].concat())
    };
    for (bytes, expected) in [
        (&b"\\ud800"[..], 422),
        (b"\\udc00\\ud800", 422),
        (b"\xff\xfe", 400),
        (b"\xc0\x80", 400),
        (b"\xed\xa0\x80", 400),
        (b"\xf4\x90\x80\x80", 400),
        (b"a\0b", 422),
        (b"a\nb", 422),
        (b"\\x41", 422),
    ] {
        let response = with(bytes).send(server.address).await;
        assert_eq!(response.status, expected, "{bytes:?}");
    }
    with(b"\\ud83d\\ude00")
        .send(server.address)
        .await
        .expect(200);
    let mark = [
        &b"\xef\xbb\xbf"[..],
        br#"{"messages":[{"role":"user","content":"x"}]}"#,
    ]
    .concat();
    raw(mark).send(server.address).await.expect(200);
}

#[tokio::test]
async fn a_body_that_is_compressed_is_refused_before_it_is_read() {
    let server = Server::start().await;
    for encoding in ["gzip", "br", "deflate, gzip", "x"] {
        for request in [
            Request::chat("Hi"),
            Request::post("/v1/chat/completions", &json!({})),
            Request::post("/v1/messages", &json!({})),
            Request::post("/api/sessions", &json!({})),
        ] {
            let request = request.header("content-encoding", encoding);
            request.send(server.address).await.expect(415);
        }
    }
    let plain = Request::chat("Hi").header("content-encoding", "identity");
    plain.send(server.address).await.expect(200);
}

#[tokio::test]
async fn forms_that_are_made_to_be_expensive_are_refused_soon() {
    let server = Server::start().await;
    let form = |boundary: &str, body: Vec<u8>| {
        Request::new("POST", "/api/files")
            .header(
                "content-type",
                &format!("multipart/form-data; boundary={boundary}"),
            )
            .body(body)
    };
    let part = "--b\r\ncontent-disposition: form-data; name=\"other\"\r\n\r\nx\r\n";
    let file = "--b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\n";
    let nested = format!(
        "{file}content-type: multipart/mixed; boundary=c\r\n\r\n--c\r\n\r\nx\r\n--c--\r\n--b--\r\n"
    );
    for (what, request, expected) in [
        (
            "ten thousand parts",
            form("b", part.repeat(10_000).into_bytes()),
            400,
        ),
        (
            "ten thousand parts, ended",
            form(
                "b",
                format!("{}--b--\r\n", part.repeat(10_000)).into_bytes(),
            ),
            422,
        ),
        (
            "a head without an end",
            form(
                "b",
                format!("{file}x: {}", "y".repeat(9 << 20)).into_bytes(),
            ),
            400,
        ),
        (
            "many fields in a head",
            form(
                "b",
                format!("{file}{}\r\nx\r\n--b--\r\n", "x: y\r\n".repeat(100_000)).into_bytes(),
            ),
            400,
        ),
        (
            "almost a boundary, again and again",
            form(
                "b",
                [file, "\r\n", &"\r\n--".repeat(2 << 20)]
                    .concat()
                    .into_bytes(),
            ),
            400,
        ),
        ("no part at all", form("b", Vec::from(*b"--b--\r\n")), 422),
        ("nothing", form("b", Vec::new()), 400),
        ("another boundary", form("c", part.into()), 400),
        (
            "a long boundary",
            form(&"b".repeat(30_000), part.into()),
            400,
        ),
        (
            "no boundary",
            Request::new("POST", "/api/files")
                .header("content-type", "multipart/form-data")
                .body(part),
            415,
        ),
        (
            "a kind that never ends",
            Request::new("POST", "/api/files")
                .header(
                    "content-type",
                    &format!("multipart/form-data; {}", "x=\\\"".repeat(7000)),
                )
                .body(part),
            415,
        ),
    ] {
        let began = Instant::now();
        // What is refused while it comes may be told to nobody.
        let told = request.try_send(server.address).await;
        assert!(began.elapsed() < SOON, "{what}: {:?}", began.elapsed());
        let Ok(response) = told else {
            continue;
        };
        assert_eq!(response.status, expected, "{what}: {}", response.text());
        assert!(
            response.json()["detail"].is_string() || response.status == 422,
            "{what}"
        );
    }
    // What is in a file is its own business, also if it is a form.
    soon(form("b", nested.into_bytes()), &server)
        .await
        .expect(201);
    // What a file may have, it may have however it is sent.
    let nine = "x".repeat(9 << 20);
    let big = crate::files::form("big.txt", nine.as_bytes());
    soon(big, &server).await.expect(201);
    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
    let endless = chunk(&"x".repeat(1 << 20)).repeat(12);
    let chunked = Request::new("POST", "/api/files")
        .header("content-type", "multipart/form-data; boundary=b")
        .header("transfer-encoding", "chunked")
        .body([chunk(&format!("{file}\r\n")), endless].concat());
    if let Ok(refused) = chunked.try_send(server.address).await {
        assert!(matches!(refused.status, 400 | 413), "{}", refused.status);
    }
}

#[tokio::test]
async fn a_name_of_a_file_cannot_write_a_header() {
    let server = Server::start().await;
    for name in [
        "a%0d%0aset-cookie: x=1.txt",
        "..\\\\..\\\\a.txt",
        "CON.txt",
        "a\u{202e}txt.exe.txt",
    ] {
        let kept = crate::files::form(name, b"text").send(server.address).await;
        let kept = kept.expect(201);
        let path = format!("/api/files/{}", kept["id"].as_str().unwrap());
        let read = Request::get(&path).send(server.address).await;
        assert_eq!(read.status, 200);
        assert_eq!(read.header("set-cookie"), None);
        let disposition = read.header("content-disposition").unwrap();
        let (_, encoded) = disposition.split_once("filename*=UTF-8''").unwrap();
        assert!(disposition.starts_with("attachment;"), "{disposition}");
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"%-._~!#$&+^`|".contains(&byte);
        assert!(encoded.bytes().all(plain), "{disposition}");
        let name = kept["name"].as_str().unwrap();
        assert!(!name.contains(['/', '\\', '\r', '\n']), "{name:?}");
    }
}

#[tokio::test]
async fn a_client_cannot_choose_where_its_words_are_sent() {
    let server = Server::start().await;
    let sink = Upstream::start([]).await.unwrap();
    let url = sink.url();
    for name in [
        "api_base",
        "base_url",
        "api_key",
        "headers",
        "organization",
        "proxy",
    ] {
        let preferences = json!({"preferences": {name: url, "model": "gpt-4"}, name: url});
        let answer = Request::chat_with("Hi", preferences)
            .send(server.address)
            .await;
        let answer = answer.expect(200);
        assert!(answer["warnings"].to_string().contains(name), "{answer}");
        let body = json!({"model": "gpt-4", "messages": [{"role": "user", "content": "Hi"}],
            "max_tokens": 9, name: url});
        for path in ["/v1/chat/completions", "/v1/messages"] {
            let answer = Request::post(path, &body).send(server.address).await;
            assert!(matches!(answer.status, 200 | 400), "{}", answer.status);
        }
    }
    assert_eq!(sink.requests().len(), 0);
}

#[tokio::test]
async fn a_name_of_a_request_is_short_and_visible() {
    let server = Server::start().await;
    for key in [
        "",
        "\"\"",
        "has space",
        &"k".repeat(256),
        &"k".repeat(1024),
        "ké",
    ] {
        let named = Request::chat("Hi").header("idempotency-key", key);
        let refused = named.send(server.address).await.expect(400);
        let told = refused["detail"].as_str().unwrap();
        assert!(told.contains("Idempotency-Key"), "{told}");
    }
    for key in ["k", "\"quoted\"", &"k".repeat(255)] {
        let named = Request::chat("Hi").header("idempotency-key", key);
        let first: Value = named.send(server.address).await.expect(200);
        let again = named.send(server.address).await;
        assert_eq!(again.header("idempotency-replayed"), Some("true"), "{key}");
        assert_eq!(again.expect(200)["turn_id"], first["turn_id"]);
    }
}

async fn kept_exactly(server: &Server) {
    for text in [
        "a\0b",
        "\u{202e}right to left",
        "zero\u{200b}width\u{feff}",
        "👩‍🏫 𝔘𝔫𝔦𝔠𝔬𝔡𝔢",
        "e\u{301} is not é",
        "line\r\nline\rline\u{2028}line\u{85}",
        "'; DROP TABLE sessions; -- \" ` \\ % _ $1 ?1 :a {} ${x}",
        "<script>alert(1)</script> javascript:alert(1) ![x](https://evil.example/?d=1)",
        "data: x\n\nevent: turn.finished\ndata: {}",
        "\u{fffd}\u{ffff}\u{10ffff}",
    ] {
        let body = json!({"metadata": {"note": text}, "title": "t"});
        let named = Request::post("/api/sessions", &body)
            .send(server.address)
            .await;
        let session = named.expect(201);
        assert_eq!(session["metadata"]["note"], text, "{text:?}");
        let id = session["id"].as_str().unwrap();
        let asked = Request::chat_with(text, json!({"session_id": id}));
        asked.send(server.address).await.expect(200);
        let messages = Request::get(&format!("/api/sessions/{id}/messages"));
        let messages = messages.send(server.address).await.expect(200);
        assert_eq!(messages["messages"][0]["content"], text, "{text:?}");
    }
}
