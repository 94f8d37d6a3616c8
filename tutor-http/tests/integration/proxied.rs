//! Behind a real nginx, with the configuration of `examples/deploy`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::binary::Binary;
use crate::client::Request;
use crate::server::Server;
use crate::services::Service;

/// What a request would be known by that only the server sees: nginx gives ids of its own.
const UNSEEN: &str = "smuggled-past-nginx";

/// How long nginx may wait for the rest of a message that has none.
const MOMENT: Duration = Duration::from_secs(1);

/// A request that somebody wants the server, and not nginx, to see.
fn smuggled() -> String {
    format!("GET /openapi.json HTTP/1.1\r\nHost: a\r\nX-Request-Id: {UNSEEN}\r\nX: ")
}

/// Heads that say in doubtful words how long a message is.
fn heads(length: usize) -> Vec<String> {
    let doubts = [
        format!("Transfer-Encoding: chunked\r\nContent-Length: {length}"),
        format!("Content-Length: {length}\r\nTransfer-Encoding: chunked"),
        "Content-Length: 0\r\nTransfer-Encoding: chunked".to_owned(),
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity".to_owned(),
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked".to_owned(),
        "Transfer-Encoding: chunked, identity".to_owned(),
        "Transfer-Encoding: chunked, chunked".to_owned(),
        "Transfer-Encoding: xchunked".to_owned(),
        "Transfer-Encoding : chunked".to_owned(),
        "Transfer-Encoding:\tchunked".to_owned(),
        "Transfer-Encoding: \x0bchunked".to_owned(),
        "Transfer-Encoding: \"chunked\"".to_owned(),
        "Transfer-Encoding: chunked\0".to_owned(),
        "Transfer-Encoding: cHuNkEd".to_owned(),
        "Transfer_Encoding: chunked".to_owned(),
        "X: y\r\n Transfer-Encoding: chunked".to_owned(),
        "X: y\nTransfer-Encoding: chunked".to_owned(),
        "X: y\rTransfer-Encoding: chunked".to_owned(),
        format!("Content-Length: {length}\r\nContent-Length: 0"),
        format!("Content-Length: 0\r\nContent-Length: {length}"),
        format!("Content-Length: {length}, 0"),
        format!("Content-Length: +{length}"),
        format!("Content-Length: 00{length}"),
        format!("Content-Length: {length}\x0b"),
        format!("Content_Length: {length}"),
        format!("Content-Length : {length}"),
        "Content-Length: -1".to_owned(),
        format!("Content-Length: 0x{length:x}"),
    ];
    let line = |doubt| {
        format!(
            "POST /api/chat HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n{doubt}\r\n\r\n"
        )
    };
    doubts.map(line).to_vec()
}

fn attacks() -> Vec<String> {
    let smuggled = smuggled();
    let bodies = [
        format!("0\r\n\r\n{smuggled}"),
        format!("0\n\n{smuggled}"),
        format!("0;a=\"\r\n\r\n\"\r\n\r\n{smuggled}"),
        format!("0\r\nContent-Length: 9\r\n\r\n{smuggled}"),
        format!("2\r\n{{}}\n0\r\n\r\n{smuggled}"),
        format!("00000000000000000\r\n\r\n{smuggled}"),
        format!("ffffffffffffffff\r\n{smuggled}"),
        smuggled,
    ];
    let all = bodies.iter().flat_map(|body| {
        let with = move |head| format!("{head}{body}");
        heads(body.len()).into_iter().map(with)
    });
    all.collect()
}

async fn attack(at: SocketAddr, bytes: String) -> String {
    let mut stream = TcpStream::connect(at).await.unwrap();
    // It may have seen enough.
    let _ = stream.write_all(bytes.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(MOMENT, stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// Somebody honest, on a connection that nginx shares with everybody: each answer is to what was asked.
async fn ask(at: SocketAddr, who: usize, stop: CancellationToken) -> usize {
    let mut count = 0;
    while !stop.is_cancelled() {
        let id = format!("honest-{who}-{count}");
        let request = Request::post("/api/sessions", &json!({ "id": id }));
        let answer = request.send(at).await;
        assert_ne!(answer.header("x-request-id"), Some(UNSEEN));
        assert_eq!(answer.expect(201)["id"], id);
        count += 1;
    }
    count
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_message_in_doubt_gets_past_nginx_as_two() {
    let binary = Binary::new();
    let args = ["--data", "memory:", "--log-level", "info"];
    let (server, lines) = binary.serve_logged(&args, &[]);
    let nginx = Service::nginx(&[server.address]);
    let at = nginx.address();
    let stop = CancellationToken::new();
    let honest: Vec<_> = (0..4)
        .map(|who| tokio::spawn(ask(at, who, stop.clone())))
        .collect();
    let attacks = attacks();
    assert!(attacks.len() >= 200, "{}", attacks.len());
    let places = Arc::new(tokio::sync::Semaphore::new(32));
    let attacking: Vec<_> = attacks
        .into_iter()
        .map(|bytes| {
            let places = Arc::clone(&places);
            tokio::spawn(async move {
                let _place = places.acquire().await.unwrap();
                (attack(at, bytes.clone()).await, bytes)
            })
        })
        .collect();
    for attacking in attacking {
        let (answer, bytes) = attacking.await.unwrap();
        assert!(!answer.contains(UNSEEN), "{bytes:?} → {answer:?}");
    }
    stop.cancel();
    let mut asked = 0;
    for honest in honest {
        asked += honest.await.unwrap();
    }
    assert!(asked >= 200, "{asked}");
    drop(nginx);
    drop(server);
    let seen: Vec<_> = lines.iter().collect();
    assert!(
        seen.iter().any(|line| line.contains("/api/sessions")),
        "it logs"
    );
    let past = seen.iter().find(|line| line.contains(UNSEEN));
    assert_eq!(past, None);
}

/// A server that takes requests, and ends without an answer. Says for how many.
async fn dying() -> (SocketAddr, watch::Receiver<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (asked, seen) = watch::channel(0);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            asked.send_modify(|count| *count += 1);
        }
    });
    (address, seen)
}

#[tokio::test]
async fn a_request_that_a_server_dies_with_is_done_once_by_the_other_one() {
    let server = Server::start().await;
    let (dying, seen) = dying().await;
    let nginx = Service::nginx(&[dying, server.address]);
    for number in 0..10 {
        let body = json!({"id": format!("s{number}")}).to_string();
        let head = format!(
            "POST /api/sessions HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        // As most clients do, and so that nginx has begun before it has all.
        let mut stream = TcpStream::connect(nginx.address()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        stream.write_all(body.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    }
    assert!(*seen.borrow() >= 3, "{:?}", *seen.borrow());
}
