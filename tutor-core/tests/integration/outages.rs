//! A PostgreSQL server that is not there, refuses, falls silent or is started anew.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;
use tutor_core::conformance::records::put;
use tutor_core::conformance::sample::{line, session, session_key};
use tutor_core::store::{Expect, Location, PostgresStore, RecordStore, verify};
use tutor_core::{Error, ErrorKind, Result, SessionStore};

use crate::postgres::{empty, shared, start};

/// The bound of connecting and of a call in these tests.
const BOUND: Duration = Duration::from_millis(500);
/// Much longer than any bound, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

async fn open(url: &str, bound: Duration) -> Result<PostgresStore> {
    let Location::Postgres(url) = url.parse()? else {
        panic!("not a PostgreSQL URL");
    };
    let options = PostgresStore::options()
        .connect_timeout(bound)
        .timeout(bound);
    timeout(PATIENCE, options.open(&url))
        .await
        .expect("it hangs")
}

/// The part of the URL that names the server.
fn authority(url: &str) -> &str {
    let (_, rest) = url.split_once('@').unwrap();
    rest.split_once('/').unwrap().0
}

fn password(url: &str) -> &str {
    let (user, _) = url.split_once('@').unwrap();
    user.rsplit_once(':').unwrap().1
}

#[track_caller]
fn is_unavailable(error: &Error, url: &str) {
    assert_eq!(error.kind(), ErrorKind::StoreUnavailable, "{error:?}");
    assert!(error.is_retryable(), "{error:?}");
    let named = error.context_value("database").unwrap();
    assert!(named.contains(authority(url)), "{named}");
    let whole = format!("{error} {error:?} {:?}", error.info());
    assert!(!whole.contains(password(url)), "{whole}");
}

/// Passes on what a server says, up to a number of bytes of each connection.
struct Proxy {
    address: SocketAddr,
    limit: watch::Sender<usize>,
}

impl Proxy {
    async fn new(server: &str, limit: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (limit, seen) = watch::channel(limit);
        let server = server.to_owned();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (server, seen) = (server.clone(), seen.clone());
                tokio::spawn(async move {
                    let server = TcpStream::connect(server).await?;
                    let (mut said, mut to_server) = server.into_split();
                    let (mut asked, to_client) = client.into_split();
                    tokio::try_join!(
                        async {
                            tokio::io::copy(&mut asked, &mut to_server).await?;
                            to_server.shutdown().await
                        },
                        pass(&mut said, to_client, seen),
                    )
                });
            }
        });
        Self { address, limit }
    }

    fn url(&self, of: &str) -> String {
        of.replacen(authority(of), &self.address.to_string(), 1)
    }
}

async fn pass(
    said: &mut (impl AsyncReadExt + Unpin),
    mut to: impl AsyncWriteExt + Unpin,
    mut limit: watch::Receiver<usize>,
) -> std::io::Result<()> {
    let mut passed = 0;
    let mut buffer = [0; 4096];
    loop {
        let size = said.read(&mut buffer).await?;
        if size == 0 {
            return to.shutdown().await;
        }
        let mut rest = &buffer[..size];
        while !rest.is_empty() {
            let Ok(now) = limit
                .wait_for(|limit| *limit > passed)
                .await
                .map(|now| *now)
            else {
                return Ok(());
            };
            let (next, later) = rest.split_at(rest.len().min(now - passed));
            to.write_all(next).await?;
            passed += next.len();
            rest = later;
        }
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let url = format!("postgresql://ada:secret-7d1f@{address}/tutor");
    is_unavailable(&open(&url, BOUND).await.unwrap_err(), &url);
}

#[tokio::test]
async fn a_wrong_password_user_or_database_is_told_without_the_password() {
    let url = shared();
    let right = password(url);
    let wrong = url.replacen(&format!(":{right}@"), ":secret-7d1f@", 1);
    let error = open(&wrong, PATIENCE).await.unwrap_err();
    is_unavailable(&error, &wrong);
    assert!(error.message().contains("password"), "{error}");
    let nowhere = format!("{}/no-such-database", url.rsplit_once('/').unwrap().0);
    let error = open(&nowhere, PATIENCE).await.unwrap_err();
    is_unavailable(&error, &nowhere);
    assert!(error.message().contains("no such database"), "{error}");
}

#[tokio::test]
async fn a_server_that_accepts_and_never_answers_is_given_up_in_time() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    let url = format!("postgresql://ada:secret-7d1f@{address}/tutor");
    let error = open(&url, BOUND).await.unwrap_err();
    is_unavailable(&error, &url);
    assert!(error.message().contains("did not answer within"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_falls_silent_anywhere_while_a_store_opens_is_given_up_in_time() {
    let url = empty().await;
    open(&url, PATIENCE).await.unwrap().close().await.unwrap();
    let openings = (0..24).map(|part| {
        let url = url.clone();
        async move {
            let proxy = Proxy::new(authority(&url), part * 40 + 1).await;
            let url = proxy.url(&url);
            if let Err(error) = open(&url, BOUND).await {
                is_unavailable(&error, &url);
                return 1;
            }
            0
        }
    });
    let failed: usize = futures_util::future::join_all(openings).await.iter().sum();
    assert!(failed > 10, "only {failed} openings did not succeed");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_to_a_silent_server_fail_in_time_and_succeed_when_it_answers_again() {
    let url = empty().await;
    let proxy = Proxy::new(authority(&url), usize::MAX).await;
    let url = proxy.url(&url);
    // Long enough for what must succeed.
    let store = open(&url, Duration::from_secs(3)).await.unwrap();
    line(&store, "o", "s", 2).await;
    proxy.limit.send_replace(0);
    let key = session_key("o", "s");
    let read = timeout(PATIENCE, store.session(&key)).await;
    is_unavailable(&read.expect("it hangs").unwrap_err(), &url);
    let write = timeout(PATIENCE, store.create_session(session("o", "t", 1))).await;
    is_unavailable(&write.expect("it hangs").unwrap_err(), &url);
    proxy.limit.send_replace(usize::MAX);
    assert_eq!(store.session(&key).await.unwrap().unwrap().message_count, 4);
    line(&store, "o", "u", 1).await;
    assert!(verify(&store, &mut |_| {}).await.unwrap().is_sound());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_outlives_its_server_and_has_what_was_acknowledged_when_it_is_back() {
    let mut server = tokio::task::spawn_blocking(start).await.unwrap();
    let store = open(&server.url, Duration::from_secs(3)).await.unwrap();
    line(&store, "o", "s", 2).await;
    let (acknowledged, mut seen) = watch::channel(0);
    let writer = tokio::spawn({
        let store = store.clone();
        async move {
            loop {
                let n = *acknowledged.borrow();
                let key = format!("o/{n:06}");
                let write = put("note", &key, b"words", Expect::Absent);
                match store.commit(vec![write]).await {
                    Ok(()) => acknowledged.send_replace(n + 1),
                    Err(error) => return (n, error),
                };
            }
        }
    });
    seen.wait_for(|n| *n >= 20).await.unwrap();
    tokio::task::block_in_place(|| server.tell("stop"));
    let (acknowledged, error) = timeout(PATIENCE, writer).await.expect("it hangs").unwrap();
    is_unavailable(&error, &server.url);
    let key = session_key("o", "s");
    is_unavailable(&store.session(&key).await.unwrap_err(), &server.url);
    tokio::task::block_in_place(|| server.tell("start"));
    assert_eq!(store.session(&key).await.unwrap().unwrap().message_count, 4);
    for n in 0..acknowledged {
        let kept = store.get("note", &format!("o/{n:06}")).await.unwrap();
        assert_eq!(kept.unwrap().value, b"words", "{n}");
    }
    line(&store, "o", "t", 1).await;
    assert!(verify(&store, &mut |_| {}).await.unwrap().is_sound());
    store.close().await.unwrap();
}
