//! A disk whose n-th operation fails, for every n, and one that is full for a while.
//!
//! A script runs in a process of its own on that disk. It checks itself, since only it knows what
//! it was told, and says what it found.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tutor_core::conformance::records::put;
use tutor_core::conformance::sample::{begin, end, message_query, new_turn, session_key, turn_key};
use tutor_core::session::{Branch, MessageRange};
use tutor_core::store::{Expect, Store, verify};
use tutor_core::{Error, ErrorKind, SessionStore, TurnStatus};

use super::disk::{read_trace, shim, workspace};
use super::process::Process;
#[cfg(feature = "store-sqlite")]
use super::sqlite;
use super::writer::{self, STORE, say_aloud as say};
use super::{amount, sled};

/// Every how many operations one fails; nightly 1.
const STEP: &str = "FAULT_STEP";

const SCRIPT: &str = "crash::faults::an_acknowledged_turn_outlives_a_fault";
const FULL_SCRIPT: &str = "crash::faults::reads_go_on_while_the_disk_is_full";
const HOW: &str = "DISK_HOW";
const FULL: &str = "DISK_FULL";

/// Turns of the script, each of which may be the one that fails.
const TURNS: usize = 6;

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(work)
}

/// One turn, of which each write may fail.
async fn turn(store: &dyn Store, name: &str) -> Result<(), Error> {
    let session = format!("s-{name}");
    let mut new = new_turn("o", &session, name, None);
    new.messages[0].content = writer::words(name, true).into();
    let turn = new.turn.clone();
    store.begin_turn(new).await?;
    store.finish_turn(&turn.key(), end(&turn)).await?;
    let page = put("book", name, b"written", Expect::Any);
    store.commit(vec![page]).await
}

/// True if a turn that was acknowledged is all there.
async fn is_kept(store: &dyn Store, name: &str) -> bool {
    let ended = store.turn(&turn_key("o", name)).await.unwrap();
    let key = session_key("o", &format!("s-{name}"));
    let query = message_query(key, Branch::All, MessageRange::Latest, 9);
    let words = store.messages(query).await.unwrap().items;
    ended.is_some_and(|turn| turn.status == TurnStatus::Completed)
        && words.len() == 2
        && words[0].content.text() == writer::words(name, true)
        && store.get("book", name).await.unwrap().is_some()
}

/// Opens a store, of which one operation may fail, or two after a short write.
async fn open_at_last(url: &str) -> Arc<dyn Store> {
    for _ in 0..2 {
        match writer::open(url).await {
            Ok(store) => return store,
            Err(error) => {
                say(&format!("opening failed: {}", error.code()));
                assert_eq!(error.kind(), ErrorKind::StoreUnavailable, "{error:?}");
            }
        }
    }
    writer::open(url).await.unwrap()
}

/// Writes on a disk of which one operation fails.
async fn write_on_a_failing_disk(url: &str) {
    // SQLite undoes a write that failed, and goes on. After a failed sync nobody goes on.
    let how = std::env::var(HOW).unwrap();
    let recovers = how != "sync" && (how != "eio" || url.starts_with("sqlite:"));
    let mut kept = Vec::new();
    let mut store = None;
    for n in 0..TURNS {
        let open = match store.take() {
            Some(open) => open,
            None => open_at_last(url).await,
        };
        let name = format!("t{n}");
        match turn(&*open, &name).await {
            Ok(()) => {
                kept.push(name);
                store = Some(open);
            }
            Err(error) => {
                say(&format!("a write failed: {}", error.code()));
                assert_eq!(error.kind(), ErrorKind::StoreUnavailable, "{error:?}");
                if !recovers {
                    // Nothing more is acknowledged, and nothing read, until it is opened again.
                    for again in ["x", "y", "z"] {
                        let refused = turn(&*open, again).await.unwrap_err();
                        assert_eq!(refused.kind(), ErrorKind::StoreUnavailable);
                    }
                    let read = open.session(&session_key("o", "s-t0")).await;
                    assert_eq!(read.unwrap_err().kind(), ErrorKind::StoreUnavailable);
                }
                drop(open);
                let reopened = open_at_last(url).await;
                check(&*reopened, &kept).await;
                store = Some(reopened);
            }
        }
    }
    // Whatever failed unnoticed has not harmed what was acknowledged.
    store.unwrap().close().await.ok();
    let store = open_at_last(url).await;
    check(&*store, &kept).await;
    assert!(kept.len() >= TURNS - 2, "one fault cost {kept:?}");
    say("E - -");
}

async fn check(store: &dyn Store, kept: &[String]) {
    let found = verify(store, &mut |_| {}).await.unwrap();
    assert!(
        found.is_sound(),
        "{:?}",
        found.all_problems().collect::<Vec<_>>()
    );
    for name in kept {
        assert!(is_kept(store, name).await, "turn {name} is lost");
    }
}

/// In a process with [`STORE`] set the script. Without it the same on a sound disk.
#[test]
fn an_acknowledged_turn_outlives_a_fault() {
    match std::env::var(STORE) {
        Ok(url) => block_on(write_on_a_failing_disk(&url)),
        Err(_) => assert!(!one_fault(&sled, usize::MAX, "eio")),
    }
}

/// Runs the script. False if it ended before operation `n`.
fn one_fault(url: &impl Fn(&Path) -> String, n: usize, how: &str) -> bool {
    let directory = workspace();
    let trace = workspace();
    let file = trace.path().join("trace");
    let variables = [
        ("LD_PRELOAD", OsString::from(shim())),
        ("DISK_DIR", directory.path().into()),
        ("DISK_TRACE", file.clone().into()),
        ("DISK_FAIL", n.to_string().into()),
        (HOW, how.into()),
        (STORE, url(directory.path()).into()),
    ];
    let (said, status) = Process::start(SCRIPT, &variables).wait();
    assert!(
        status.success() && said.last().is_some_and(|line| line.starts_with('E')),
        "operation {n}, {how}: {said:#?}"
    );
    read_trace(&file).iter().any(|event| event.kind == 'F')
}

/// One operation of `quick` fails; of the syncs each.
fn survives_faults(url: impl Fn(&Path) -> String, quick: usize) {
    for how in ["eio", "enospc", "short", "sync"] {
        let step = if how == "sync" {
            1
        } else {
            amount(STEP, quick)
        };
        let mut n = 1;
        while one_fault(&url, n, how) {
            n += step;
        }
        assert!(n > step, "nothing was written on this disk");
    }
}

#[test]
fn sled_survives_the_failure_of_any_operation_of_its_disk() {
    survives_faults(sled, 9);
}

#[cfg(feature = "store-sqlite")]
#[test]
fn sqlite_survives_the_failure_of_any_operation_of_its_disk() {
    survives_faults(sqlite, 19);
}

/// Fills the disk while the store is open, and makes room again.
async fn write_on_a_full_disk(url: &str) {
    let full = std::env::var_os(FULL).unwrap();
    let store = writer::open(url).await.unwrap();
    let mut kept = Vec::new();
    for round in 0..2 {
        for n in 0..10 {
            let name = format!("before-{round}-{n}");
            turn(&*store, &name).await.unwrap();
            kept.push(name);
        }
        fs::write(&full, "").unwrap();
        let mut n = 0;
        let error = loop {
            let name = format!("full-{round}-{n}");
            match turn(&*store, &name).await {
                Ok(()) => kept.push(name),
                Err(error) => break error,
            }
            n += 1;
        };
        assert_eq!(error.kind(), ErrorKind::StoreUnavailable, "{error:?}");
        assert!(error.message().contains("full"), "{error:?}");
        assert!(error.is_retryable());
        // Reads go on, and more writes are refused like the first. Where nobody foresaw that there
        // is no room, reads may have to wait for it too.
        if std::env::var("DISK_ROOM").is_ok_and(|room| room == "0") {
            for name in &kept {
                assert!(is_kept(&*store, name).await, "turn {name} cannot be read");
            }
        }
        let again = turn(&*store, "refused").await.unwrap_err();
        assert!(again.message().contains("full"), "{again:?}");

        fs::remove_file(&full).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        let after = format!("after-{round}");
        while let Err(error) = turn_again(&store, &after).await {
            assert!(Instant::now() < deadline, "it does not recover: {error:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        kept.push(after);
        check(&*store, &kept).await;
    }
    store.close().await.unwrap();
    check(&*writer::open(url).await.unwrap(), &kept).await;
    say("E - -");
}

/// A turn that may have been begun by an attempt before.
async fn turn_again(store: &Arc<dyn Store>, name: &str) -> Result<(), Error> {
    match turn(&**store, name).await {
        Err(error) if error.kind() == ErrorKind::Conflict => {
            store
                .delete_session(&session_key("o", &format!("s-{name}")))
                .await?;
            turn(&**store, name).await
        }
        done => done,
    }
}

/// In a process with [`STORE`] set the script. Without it its parent.
#[test]
fn reads_go_on_while_the_disk_is_full() {
    match std::env::var(STORE) {
        Ok(url) => block_on(write_on_a_full_disk(&url)),
        Err(_) => survives_full_disks(sled),
    }
}

#[cfg(feature = "store-sqlite")]
#[test]
fn sqlite_goes_on_reading_while_the_disk_is_full() {
    survives_full_disks(sqlite);
}

/// On a disk that says how much room it has, and on one that says it has much.
fn survives_full_disks(url: impl Fn(&Path) -> String) {
    for room in ["0", "1000000000000"] {
        let directory = workspace();
        let marks = workspace();
        let variables = [
            ("LD_PRELOAD", OsString::from(shim())),
            ("DISK_DIR", directory.path().into()),
            (FULL, marks.path().join("full").into()),
            ("DISK_ROOM", room.into()),
            (STORE, url(directory.path()).into()),
        ];
        let (said, status) = Process::start(FULL_SCRIPT, &variables).wait();
        assert!(
            status.success() && said.last().is_some_and(|line| line.starts_with('E')),
            "{room} bytes free: {said:#?}"
        );
    }
}

/// What the script does is what it says.
#[tokio::test]
async fn the_script_notices_a_turn_that_is_not_there() {
    let store: Arc<dyn Store> = Arc::new(tutor_core::store::MemoryStore::new());
    turn(&*store, "there").await.unwrap();
    assert!(is_kept(&*store, "there").await);
    let running = begin(&*store, new_turn("o", "s-half", "half", None)).await;
    let error = store.messages(message_query(
        session_key("o", "s-gone"),
        Branch::All,
        MessageRange::Latest,
        9,
    ));
    assert_eq!(error.await.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(!is_kept(&*store, running.id.as_str()).await);
}
