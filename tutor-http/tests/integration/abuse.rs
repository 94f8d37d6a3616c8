//! HTTP/2 used as a weapon, and TLS that is none: the connection is closed, soon and alone.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tutor_http::Bounds;

use crate::client::PATIENCE;
use crate::tls::{fixture, start};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// More than any of these floods may send before it is over. What a connection costs is bounded by
/// what is taken from it.
const MAX_FLOOD_BYTES: usize = 16 << 20;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [.., high, middle, low] = payload.len().to_be_bytes();
    let head = [high, middle, low, kind, flags];
    [&head[..], &stream.to_be_bytes(), payload].concat()
}

/// A header block of one literal field.
fn field(name: &str, value: &str) -> Vec<u8> {
    let mut block = vec![0];
    for text in [name, value] {
        block.push(u8::try_from(text.len()).unwrap());
        block.extend_from_slice(text.as_bytes());
    }
    block
}

/// The header block of a `GET` of this path.
fn get(path: &str) -> Vec<u8> {
    // From HPACK's static table: GET, https.
    let mut block = vec![0x82, 0x87];
    block.extend(field(":path", path));
    block.extend(field(":authority", "localhost"));
    block
}

fn client_config() -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(fixture("one.pem")).unwrap())
        .unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// A connection that has begun to speak HTTP/2, with these settings of its own.
pub(crate) async fn http2(address: SocketAddr, settings: &[u8]) -> TlsStream<TcpStream> {
    let mut config = client_config();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = TlsConnector::from(Arc::new(config));
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = connector.connect(name, stream).await.unwrap();
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await
        .unwrap();
    stream
        .write_all(&frame(SETTINGS, 0, 0, settings))
        .await
        .unwrap();
    stream
}

/// Sends pieces of a flood, reading all answers, until the server has closed the connection; how
/// many bytes it took.
async fn until_closed(
    stream: TlsStream<TcpStream>,
    mut next: impl FnMut(u32) -> Vec<u8>,
) -> Option<usize> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let reading = async {
        let mut sink = vec![0; 64 << 10];
        while reader.read(&mut sink).await.is_ok_and(|read| read > 0) {}
    };
    let flooding = async {
        let mut sent = 0;
        for number in 0.. {
            let piece = next(number);
            sent += piece.len();
            if sent > MAX_FLOOD_BYTES {
                return None;
            }
            if writer.write_all(&piece).await.is_err() || writer.flush().await.is_err() {
                break;
            }
        }
        Some(sent)
    };
    let over = async {
        tokio::select! {
            () = reading => Some(0),
            sent = flooding => sent,
        }
    };
    tokio::time::timeout(PATIENCE, over).await.unwrap()
}

/// Streams of a client have odd numbers.
fn stream_id(number: u32) -> u32 {
    2 * number + 1
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_over_http2_ends_its_connection_and_nobody_elses() {
    let address = start(Bounds::default()).await;
    let honest = crate::tls::client("one.pem", false);
    let url = format!("https://localhost:{}/", address.port());
    assert_eq!(honest.get(&url).send().await.unwrap().status(), 200);
    type Flood = fn(u32) -> Vec<u8>;
    let floods: [(&str, Flood); 9] = [
        ("requests that are reset at once", |number| {
            let id = stream_id(number);
            let request = frame(HEADERS, END_STREAM | END_HEADERS, id, &get("/healthz"));
            [request, frame(RST_STREAM, 0, id, &8_u32.to_be_bytes())].concat()
        }),
        ("a head that never ends", |number| match number {
            0 => frame(HEADERS, END_STREAM, 1, &get("/healthz")),
            _ => frame(CONTINUATION, 0, 1, &field("x", &"y".repeat(100))),
        }),
        (
            "a head that goes on without a field",
            |number| match number {
                0 => frame(HEADERS, END_STREAM, 1, &get("/healthz")),
                _ => frame(CONTINUATION, 0, 1, &[]),
            },
        ),
        ("more streams than there may be", |number| {
            // Their bodies do not come, so that none of them ends.
            frame(HEADERS, END_HEADERS, stream_id(number), &get("/healthz"))
        }),
        ("settings", |_| frame(SETTINGS, 0, 0, &[])),
        ("pings", |_| frame(PING, 0, 0, &[7; 8])),
        ("priorities", |number| {
            frame(PRIORITY, 0, stream_id(number), &[0, 0, 0, 0, 1])
        }),
        ("empty pieces of a body", |number| match number {
            0 => frame(HEADERS, END_HEADERS, 1, &get("/healthz")),
            _ => frame(DATA, 0, 1, &[]),
        }),
        (
            "windows of streams that are closed",
            |number| match number {
                0 => frame(HEADERS, END_STREAM | END_HEADERS, 1, &get("/healthz")),
                _ => frame(WINDOW_UPDATE, 0, 1, &0_u32.to_be_bytes()),
            },
        ),
    ];
    for (what, flood) in floods {
        let stream = http2(address, &[]).await;
        let sent = until_closed(stream, flood).await;
        assert!(sent.is_some(), "{what}: the connection was not closed");
        // The others do not notice.
        let answer = honest.get(&url).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{what}");
    }
}

#[tokio::test]
async fn a_client_of_http2_that_opens_no_window_is_closed() {
    let mut bounds = Bounds::default();
    bounds.write_stall = Duration::from_millis(300);
    let address = start(bounds).await;
    // INITIAL_WINDOW_SIZE is 0.
    let mut stream = http2(address, &[0, 4, 0, 0, 0, 0]).await;
    let request = frame(HEADERS, END_STREAM | END_HEADERS, 1, &get("/openapi.json"));
    stream.write_all(&request).await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer))
        .await
        .unwrap();
    // The head of the answer may come, its body cannot.
    assert!(answer.len() < 4096, "{}", answer.len());
}

#[tokio::test]
async fn a_connection_of_http2_that_asks_nothing_more_is_closed() {
    let mut bounds = Bounds::default();
    bounds.header_timeout = Duration::from_millis(300);
    let address = start(bounds).await;
    let mut stream = http2(address, &[]).await;
    let request = frame(HEADERS, END_STREAM | END_HEADERS, 1, &get("/healthz"));
    stream.write_all(&request).await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer))
        .await
        .unwrap();
    assert!(
        answer.windows(7).any(|bytes| bytes == b"healthy"),
        "{answer:?}"
    );
}

/// A record of a TLS handshake.
fn record(version: [u8; 2], body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [&[22], &version[..], &length, body].concat()
}

/// A hello that offers at most this version of TLS, and this name.
fn hello(version: [u8; 2], name: &[u8]) -> Vec<u8> {
    let length = |bytes: &[u8]| u16::try_from(bytes.len()).unwrap().to_be_bytes();
    let entry = [&[0], &length(name)[..], name].concat();
    let list = [&length(&entry)[..], &entry].concat();
    let server_name = [&[0, 0], &length(&list)[..], &list].concat();
    let mut body = version.to_vec();
    body.extend([7; 32]);
    body.push(0);
    // ECDHE-ECDSA-AES128-GCM, and one of each older kind.
    let suites = [0xc0, 0x2b, 0xc0, 0x09, 0x00, 0x2f, 0x00, 0x0a];
    body.extend(length(&suites));
    body.extend(suites);
    body.extend([1, 0]);
    body.extend(length(&server_name));
    body.extend(&server_name);
    let [.., high, middle, low] = body.len().to_be_bytes();
    [&[1, high, middle, low], &body[..]].concat()
}

#[tokio::test]
async fn a_handshake_that_is_none_is_closed_soon_and_without_a_secret() {
    let mut bounds = Bounds::default();
    bounds.header_timeout = Duration::from_millis(500);
    let address = start(bounds).await;
    let huge_name = hello([3, 3], &vec![b'a'; 65_000 - 100]);
    let mut in_records = Vec::new();
    for part in huge_name.chunks(16_000) {
        in_records.extend(record([3, 1], part));
    }
    let mut cut = record([3, 1], &hello([3, 3], b"localhost"));
    cut.truncate(40);
    for (what, bytes) in [
        ("SSL 3.0", record([3, 0], &hello([3, 0], b"localhost"))),
        ("TLS 1.0", record([3, 1], &hello([3, 1], b"localhost"))),
        ("TLS 1.1", record([3, 1], &hello([3, 2], b"localhost"))),
        ("a name of 64 KB", in_records),
        ("half a hello", cut),
        (
            "a hello that says it is longer",
            record([3, 1], &[1, 0xff, 0xff, 0xff]),
        ),
        ("a record that is none", vec![0x16, 3, 1, 0xff, 0xff, 1]),
        ("application data", vec![0x17, 3, 3, 0, 1, 0]),
        (
            "a change of ciphers, again and again",
            [0x14, 3, 3, 0, 1, 1].repeat(1000),
        ),
        ("SSL 2.0", vec![0x80, 0x2e, 1, 0, 2, 0, 0x15, 0, 0, 0, 0x10]),
        ("bytes", (0..=255).cycle().take(10_000).collect()),
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // The server may have seen enough.
        let _ = stream.write_all(&bytes).await;
        let mut answer = Vec::new();
        let closed = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
        assert!(closed.is_ok(), "{what}");
        // An alert at most: 21, or nothing.
        assert!(
            answer.first().is_none_or(|kind| *kind == 21),
            "{what}: {answer:?}"
        );
    }
    // A client that offers no protocol gets HTTP/1.1, one that offers unknown ones nothing.
    let connect = async |protocols: &[&[u8]]| {
        let mut config = client_config();
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        let connector = TlsConnector::from(Arc::new(config));
        let stream = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        connector.connect(name, stream).await
    };
    let mut stream = connect(&[]).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{answer:?}");
    connect(&[b"spdy/3"]).await.unwrap_err();
}
