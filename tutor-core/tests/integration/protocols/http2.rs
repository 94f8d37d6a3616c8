//! Answers over HTTP/2, which the client speaks where TLS offers it: refused streams, connections
//! that the server leaves, and streams that break off.
//!
//! The server writes its frames itself, because those of a well-behaved library would not do. Who
//! trusts its certificate is a process of its own: the system's roots are read from the environment.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tutor_core::provider::{ProviderConfig, SharedProvider};
use tutor_core::{ErrorKind, FinishReason};

use super::again;
use super::transport::{chunk, complete, request, run};

/// Names the roots that a process trusts.
const ROOTS: &str = "SSL_CERT_FILE";
/// Marks the process that trusts the server, in its environment.
const TRUSTS: &str = "TUTOR_TEST_TRUSTS";

const PREFACE: usize = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();

// Kinds of frames, flags and codes, as RFC 9113 numbers them.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const INTERNAL_ERROR: u8 = 2;
const REFUSED_STREAM: u8 = 7;

/// What the server does with a request.
#[derive(Clone, Copy, Debug)]
enum Answer {
    /// Refuses the stream, which says that nothing was done for it.
    Refuse,
    /// Leaves the connection without having looked at any stream.
    Leave,
    /// Says a word, and resets the stream.
    Break,
    /// Answers.
    Reply,
}

struct Server {
    url: String,
    answers: Mutex<VecDeque<Answer>>,
    requests: AtomicUsize,
}

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/tls")
        .join(name)
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The head of an event stream: `:status` and `content-type` from HPACK's static table.
fn head(stream: u32) -> Vec<u8> {
    let media = b"text/event-stream";
    let fields = [&[0x88, 0x0f, 0x10, 17], &media[..]].concat();
    frame(HEADERS, END_HEADERS, stream, &fields)
}

impl Answer {
    fn frames(self, stream: u32) -> Vec<u8> {
        let reset = |code| frame(RST_STREAM, 0, stream, &[0, 0, 0, code]);
        match self {
            Self::Refuse => reset(REFUSED_STREAM),
            Self::Leave => frame(GOAWAY, 0, 0, &[0; 8]),
            Self::Break => {
                let said = frame(DATA, 0, stream, chunk("ok").as_bytes());
                [head(stream), said, reset(INTERNAL_ERROR)].concat()
            }
            Self::Reply => {
                let said = frame(DATA, END_STREAM, stream, complete("ok").as_bytes());
                [head(stream), said].concat()
            }
        }
    }
}

impl Server {
    /// Gives these answers, and the last one again and again.
    async fn start(answers: impl IntoIterator<Item = Answer>) -> Arc<Self> {
        let chain = vec![CertificateDer::from_pem_file(path("upstream.pem")).unwrap()];
        let key = PrivateKeyDer::from_pem_file(path("upstream.key")).unwrap();
        let ring = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let mut tls = ServerConfig::builder_with_provider(ring)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Arc::new(Self {
            url: format!("https://{}", listener.local_addr().unwrap()),
            answers: Mutex::new(answers.into_iter().collect()),
            requests: AtomicUsize::new(0),
        });
        let serving = Arc::clone(&server);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (acceptor, server) = (acceptor.clone(), Arc::clone(&serving));
                // A client may hang up at any time.
                tokio::spawn(async move { server.serve(&acceptor, socket).await.unwrap_or(()) });
            }
        });
        server
    }

    async fn serve(&self, acceptor: &TlsAcceptor, socket: TcpStream) -> io::Result<()> {
        let mut socket = acceptor.accept(socket).await?;
        socket.read_exact(&mut [0; PREFACE]).await?;
        socket.write_all(&frame(SETTINGS, 0, 0, &[])).await?;
        loop {
            let mut head = [0; 9];
            socket.read_exact(&mut head).await?;
            let [a, b, c, kind, flags, stream @ ..] = head;
            let length = u32::from_be_bytes([0, a, b, c]) as usize;
            socket.read_exact(&mut vec![0; length]).await?;
            if !matches!(kind, DATA | HEADERS) || flags & END_STREAM == 0 {
                continue;
            }
            self.requests.fetch_add(1, Ordering::Relaxed);
            let answer = {
                let mut answers = self.answers.lock().unwrap();
                if answers.len() > 1 {
                    answers.pop_front()
                } else {
                    answers.front().copied()
                }
            };
            let answer = answer.unwrap_or(Answer::Reply);
            socket
                .write_all(&answer.frames(u32::from_be_bytes(stream)))
                .await?;
            if matches!(answer, Answer::Leave) {
                return socket.shutdown().await;
            }
        }
    }

    fn provider(&self) -> SharedProvider {
        let config = ProviderConfig::openai("key").with_base_url(&*self.url);
        config.build().unwrap()
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_a_failed_connection() {
    let server = Server::start([Answer::Reply]).await;
    let mut config = ProviderConfig::openai("key").with_base_url(&*server.url);
    config.max_retries = 0;
    let error = run(&*config.build().unwrap(), request())
        .await
        .error
        .unwrap();
    assert_eq!(error.kind(), ErrorKind::ProviderUnavailable);
    assert_eq!(error.context_value("reason"), Some("connection"));
    assert_eq!(error.context_value("cause"), Some("tls"));
    assert_eq!(server.requests(), 0);
}

/// Does nothing, unless it is started by the other test.
#[tokio::test]
async fn streams_in_a_process_that_trusts_the_server() {
    if std::env::var_os(TRUSTS).is_none() {
        return;
    }
    // What no byte was answered to is asked again, and nobody sees it.
    for first in [Answer::Refuse, Answer::Leave] {
        let server = Server::start([first, Answer::Reply]).await;
        let outcome = run(&*server.provider(), request()).await;
        assert_eq!(
            (outcome.text.as_str(), outcome.finish),
            ("ok", Some(FinishReason::Stop)),
            "{first:?}: {:?}",
            outcome.error
        );
        assert_eq!(server.requests(), 2, "{first:?}");
    }
    // What broke off behind the first words is told, and not asked again.
    let server = Server::start([Answer::Break, Answer::Reply]).await;
    let outcome = run(&*server.provider(), request()).await;
    assert_eq!(
        (outcome.text.as_str(), outcome.reason()),
        ("ok", Some("connection"))
    );
    assert_eq!(server.requests(), 1);
    // Whoever always refuses is not asked for ever.
    let server = Server::start([Answer::Refuse]).await;
    let outcome = run(&*server.provider(), request()).await;
    assert_eq!(outcome.reason(), Some("connection"));
    assert!(server.requests() <= 9, "{}", server.requests());
}

#[test]
fn a_refused_stream_is_asked_again_and_one_that_breaks_after_some_words_is_told() {
    let test = "protocols::http2::streams_in_a_process_that_trusts_the_server";
    let roots = path("upstream.pem");
    let output = again(test, &[(TRUSTS, "1"), (ROOTS, roots.to_str().unwrap())]);
    assert!(output.status.success(), "{output:?}");
}
