//! Crowds that are slow on purpose, and work that is heavy, do not slow the others.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tutor_core::provider::DemoProvider;
use tutor_core::{Limits, Tutor};
use tutor_http::Bounds;

use crate::binary::Binary;
use crate::client::Request;
use crate::people::Town;
use crate::server::Server;

/// Slow clients of each kind: 2,000 in all. Each that does not read fills the buffers of the
/// system, so that these are fewest.
const SLOW_HEADS: usize = 1_000;
const SLOW_BODIES: usize = 800;
const SLOW_READERS: usize = 200;

/// How often a slow client sends a byte: often enough that no connection is ever silent.
const DRIP: Duration = Duration::from_millis(500);

/// The longest bound of the server's defaults is 30 s; a loaded machine may need more.
const ALL_CLOSED: Duration = Duration::from_secs(90);

/// How long requests take, the fastest first.
struct Latencies(Vec<Duration>);

impl Latencies {
    /// Sends requests one after the other.
    async fn of(request: &Request, to: SocketAddr, count: usize) -> Self {
        let mut all = Vec::new();
        for _ in 0..count {
            let began = Instant::now();
            request.send(to).await.expect(200);
            all.push(began.elapsed());
        }
        all.sort_unstable();
        Self(all)
    }

    /// The one that so many percent are not slower than.
    fn percentile(&self, percent: usize) -> Duration {
        self.0[self.0.len() * percent / 100]
    }

    /// Nine of ten take at most `bound` more than nine of ten do when the crowd is not there, before
    /// or afterwards: what else the machine does is in both. What the slowest one of a hundred takes
    /// is measured on a quiet machine, see `benches`.
    #[track_caller]
    fn assert_within(&self, bound: Duration, before: &Self, after: &Self) {
        let quiet = before.percentile(90).max(after.percentile(90));
        let took = self.percentile(90);
        let told = format!(
            "90 %: {took:?}, 99 %: {:?}; quiet {quiet:?}, {:?}",
            self.percentile(99),
            before.percentile(99).max(after.percentile(99)),
        );
        assert!(took <= bound + quiet, "{told}");
    }
}

/// Sends a byte at a time until the server closes the connection.
async fn drip(mut stream: TcpStream, beginning: &[u8]) {
    if stream.write_all(beginning).await.is_err() {
        return;
    }
    let (mut reader, mut writer) = stream.into_split();
    let dripping = async {
        while writer.write_all(b"1").await.is_ok() {
            tokio::time::sleep(DRIP).await;
        }
    };
    let mut answer = Vec::new();
    tokio::select! {
        () = dripping => {}
        _ = reader.read_to_end(&mut answer) => {}
    }
    // Refused it may be, served never.
    assert!(!answer.starts_with(b"HTTP/1.1 2"));
}

/// Asks for much, and reads nothing, until the server closes the connection.
async fn ignore(address: SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    let requests = "GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n".repeat(100);
    while stream.write_all(requests.as_bytes()).await.is_ok() {}
}

#[tokio::test]
async fn two_thousand_slow_clients_slow_nobody_else_and_are_all_closed() {
    let binary = Binary::new();
    let server = binary.serve(&["--data", "memory:"]);
    let address = server.address;
    let honest = Request::get("/api/sessions");
    let quiet = Latencies::of(&honest, address, 200).await;

    let mut crowd = JoinSet::new();
    for number in 0..SLOW_HEADS + SLOW_BODIES {
        crowd.spawn(async move {
            let stream = TcpStream::connect(address).await.unwrap();
            let head = "POST /api/chat HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n";
            let beginning = if number < SLOW_HEADS {
                format!("{head}X: ")
            } else {
                format!("{head}Content-Length: 1000000\r\n\r\n")
            };
            drip(stream, beginning.as_bytes()).await;
        });
    }
    for _ in 0..SLOW_READERS {
        crowd.spawn(ignore(address));
    }
    // All of them are there.
    let watched = Request::get("/metrics");
    let open = async || {
        let counts = watched.send(address).await.text();
        crate::metrics::samples(&counts)["neuro_tutor_connections"]
    };
    let crowded = (SLOW_HEADS + SLOW_BODIES + SLOW_READERS) as f64;
    while open().await < crowded && crowd.try_join_next().is_none() {}
    let slowed = Latencies::of(&honest, address, 200).await;
    let closed = async { while crowd.join_next().await.transpose().unwrap().is_some() {} };
    tokio::time::timeout(ALL_CLOSED, closed).await.unwrap();
    // Only the one that asks is left.
    while open().await > 1.0 {}
    let after = Latencies::of(&honest, address, 200).await;
    slowed.assert_within(Duration::from_millis(200), &quiet, &after);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_sign_ins_at_once_slow_no_other_route() {
    let town = Town::new().await;
    let ada = town.register("ada@example.org").await;
    let honest = ada.signed(Request::get("/api/sessions"));
    let quiet = Latencies::of(&honest, town.address(), 100).await;
    let mut flood = JoinSet::new();
    for number in 0..50 {
        let address = town.address();
        let body = json!({"email": format!("p{number}@example.org"), "password": "not the one"});
        flood.spawn(async move {
            let request = Request::post("/api/auth/login", &body);
            // Hashed and wrong, or busy: never a wait without an end.
            let status = request.send(address).await.status;
            assert!(matches!(status, 401 | 503), "{status}");
        });
    }
    let during = Latencies::of(&honest, town.address(), 100).await;
    while flood.join_next().await.transpose().unwrap().is_some() {}
    let after = Latencies::of(&honest, town.address(), 100).await;
    during.assert_within(Duration::from_millis(50), &quiet, &after);
    ada.get("/api/auth/me").await.expect(200);
}

#[tokio::test]
async fn five_times_as_many_turns_as_may_run_are_refused_and_those_that_run_are_whole() {
    const MAY_RUN: usize = 20;
    let mut limits = Limits::default();
    limits.max_live_turns = MAY_RUN;
    let demo = DemoProvider::new().with_delay(Duration::from_millis(50));
    let builder = Tutor::builder().provider(demo).limits(limits);
    let server = Server::with(builder, Bounds::default()).await;
    let mut streams = Vec::new();
    let mut refused = 0;
    for _ in 0..5 * MAY_RUN {
        let stream = Request::chat_with("What is light?", json!({"stream": true}));
        let stream = stream.open(server.address).await.unwrap();
        if stream.status == 503 {
            assert!(stream.header("retry-after").is_some());
            let body = stream.finish().await.unwrap().expect(503);
            assert_eq!(body["code"], "overloaded");
            refused += 1;
        } else {
            streams.push(stream);
        }
    }
    assert_eq!(refused, 4 * MAY_RUN);
    for stream in streams {
        let events = stream.events().await;
        assert_eq!(events.last().unwrap().kind(), "turn.finished");
        let numbers: Vec<u64> = events.iter().filter_map(|event| event.id).collect();
        assert!(numbers.iter().copied().eq(1..=numbers.len() as u64));
    }
    // As soon as there is room, there is.
    Request::chat("And now?")
        .send(server.address)
        .await
        .expect(200);
}
