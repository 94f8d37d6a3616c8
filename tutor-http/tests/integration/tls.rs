//! HTTPS, over both versions of HTTP.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::{Certificate, Client, Version};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tutor_core::Tutor;
use tutor_core::provider::DemoProvider;
use tutor_http::{AppState, Bounds, Served, TlsFiles, serve_as};

use crate::binary::{Binary, line_with};
use crate::client::PATIENCE;

pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/tls")
        .join(name)
}

/// A client that trusts this certificate alone.
pub(crate) fn client(certificate: &str, http1_only: bool) -> Client {
    // Fails if another test was first.
    let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
    let pem = std::fs::read(fixture(certificate)).unwrap();
    let mut builder = Client::builder()
        .no_proxy()
        .tls_certs_only([Certificate::from_pem(&pem).unwrap()]);
    if http1_only {
        builder = builder.http1_only();
    }
    builder.build().unwrap()
}

pub(crate) async fn start(bounds: Bounds) -> SocketAddr {
    let demo = DemoProvider::new().with_delay(Duration::ZERO);
    let tutor = Tutor::builder().provider(demo).build().await.unwrap();
    let files = TlsFiles {
        certificate: fixture("one.pem"),
        key: fixture("one.key"),
    };
    let state = AppState::new(tutor).with_bounds(bounds);
    let served = watch::channel(Served::new(state, Some(files.load().unwrap()))).1;
    let listener = tutor_http::bind("127.0.0.1", 0).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve_as(listener, served, std::future::pending()));
    address
}

#[tokio::test]
async fn both_versions_of_http_are_spoken_and_a_stream_comes_through() {
    let address = start(Bounds::default()).await;
    for (http1_only, version) in [(true, Version::HTTP_11), (false, Version::HTTP_2)] {
        let client = client("one.pem", http1_only);
        let answer = client
            .get(format!("https://localhost:{}/", address.port()))
            .send()
            .await
            .unwrap();
        assert_eq!((answer.status().as_u16(), answer.version()), (200, version));
        assert!(answer.headers().contains_key("strict-transport-security"));
        let body =
            serde_json::json!({"messages": [{"role": "user", "content": "Hello"}], "stream": true});
        let stream = client
            .post(format!("https://localhost:{}/api/chat", address.port()))
            .header("content-type", "application/json")
            .body(body.to_string())
            .send()
            .await
            .unwrap();
        let events = stream.text().await.unwrap();
        assert!(events.contains("event: turn.finished"), "{events}");
    }
}

#[tokio::test]
async fn who_does_not_speak_tls_or_says_nothing_is_not_waited_for() {
    let mut bounds = Bounds::default();
    bounds.header_timeout = Duration::from_millis(100);
    let address = start(bounds).await;
    for beginning in [
        &b""[..],
        b"\x16\x03\x01",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        &[0xff; 100],
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(beginning).await.unwrap();
        let mut answer = Vec::new();
        // A reset is a way to close, too.
        let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer))
            .await
            .unwrap();
        assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    }
    let client = client("one.pem", false);
    let url = format!("https://localhost:{}/", address.port());
    assert_eq!(client.get(url).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_silent_connection_of_http2_is_closed() {
    let mut bounds = Bounds::default();
    bounds.header_timeout = Duration::from_millis(100);
    let address = start(bounds).await;
    // The preface, an empty SETTINGS, and then nothing.
    let mut stream = crate::abuse::http2(address, &[]).await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_certificate_that_is_replaced_is_taken_and_a_broken_one_is_not() {
    let binary = Binary::new();
    let copy = |from: &str, to: &str| std::fs::copy(fixture(from), binary.path(to)).unwrap();
    copy("one.pem", "server.pem");
    copy("one.key", "server.key");
    let (server, log) = binary.serve_logged(
        &["--tls-certificate", "server.pem", "--tls-key", "server.key"],
        &[],
    );
    let url = format!("https://localhost:{}/", server.address.port());
    let ask = async |certificate| client(certificate, false).get(&url).send().await;
    assert_eq!(ask("one.pem").await.unwrap().status(), 200);
    ask("two.pem").await.unwrap_err();
    std::fs::write(binary.path("server.pem"), "canary").unwrap();
    server.signal("HUP");
    let said = line_with(&log, "the one before stays");
    assert!(
        said.contains("server.pem") && !said.contains("canary"),
        "{said}"
    );
    assert_eq!(ask("one.pem").await.unwrap().status(), 200);
    // No signal: that the files changed is enough.
    copy("two.key", "server.key");
    copy("two.pem", "server.pem");
    line_with(&log, "the certificate was replaced");
    assert_eq!(ask("two.pem").await.unwrap().status(), 200);
    ask("one.pem").await.unwrap_err();
}
