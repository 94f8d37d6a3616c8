//! Migrations that are interrupted, and a disk that is full.

use std::fs;

use super::*;
use crate::conformance::sample::{exchange, line, new_turn, session_key};
use crate::error::ErrorKind;
use crate::session::MessageQuery;
use crate::store::sql::migrate::{
    self,
    tests::{is_original, is_served, make_original, stopped},
};
use crate::store::{SessionStore, verify};

/// The file and its log, as a process that is killed now would leave them.
fn image(file: &Path, to: &Path) {
    for suffix in ["", "-wal"] {
        let from = PathBuf::from(format!("{}{suffix}", file.display()));
        if from.exists() {
            fs::copy(from, format!("{}{suffix}", to.display())).unwrap();
        }
    }
}

/// Nothing of a migration is there, and the next start does it.
async fn is_undone_and_done(file: &Path, case: &str) {
    let plan = SqliteStore::migrate(file, None, true).await.unwrap();
    assert_eq!((plan.from, plan.steps.len()), (0, 3), "{case}");
    let mut writer = open::writer(file).await.unwrap();
    is_original(&mut Connection::Sqlite(&mut writer), case).await;
    sqlx::Connection::close(writer).await.unwrap();
    let store = SqliteStore::open(file).await.unwrap();
    is_served(&store, case).await;
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_migration_that_ends_before_any_statement_is_undone_and_the_next_start_does_it() {
    let place = tempfile::tempdir().unwrap();
    let mut stops = 0;
    loop {
        let file = place.path().join(format!("{stops}.db"));
        let killed = place.path().join(format!("{stops}-killed.db"));
        let mut writer = open::writer(&file).await.unwrap();
        let mut connection = Connection::Sqlite(&mut writer);
        make_original(&mut connection).await;
        let mut seen = 0;
        let done = migrate::run(&mut connection, None, &mut |_| {
            seen += 1;
            if seen == stops + 1 {
                image(&file, &killed);
            }
            if seen > stops { stopped() } else { Ok(()) }
        })
        .await;
        if done.is_ok() {
            image(&file, &killed);
        }
        sqlx::Connection::close(writer).await.unwrap();
        let case = format!("before statement {stops}");
        if done.is_ok() {
            // Killed right after the end, nothing is lost either.
            for file in [&file, &killed] {
                let store = SqliteStore::open(file).await.unwrap();
                is_served(&store, &case).await;
                store.close().await.unwrap();
            }
            break;
        }
        is_undone_and_done(&file, &case).await;
        is_undone_and_done(&killed, &case).await;
        stops += 1;
    }
    assert!(stops > 30, "only {stops} statements");
}

#[tokio::test]
async fn of_several_migrations_at_once_one_does_it() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("tutor.db");
    let mut writer = open::writer(&file).await.unwrap();
    make_original(&mut Connection::Sqlite(&mut writer)).await;
    sqlx::Connection::close(writer).await.unwrap();
    let starts = (0..6).map(|_| SqliteStore::migrate(&file, None, false));
    let plans = futures_util::future::try_join_all(starts).await.unwrap();
    let did = plans.iter().filter(|plan| !plan.steps.is_empty()).count();
    assert_eq!(did, 1);
    is_served(&SqliteStore::open(&file).await.unwrap(), "at once").await;
}

async fn on_the_writer(store: &SqliteStore, sql: &'static str) {
    let pragma = store.0.run(Access::Write, move |mut connection| {
        Box::pin(async move { connection.rows(sql, Vec::new()).await.map(|_| ()) })
    });
    pragma.await.unwrap();
}

#[tokio::test]
async fn on_a_full_disk_writes_fail_and_reads_go_on_until_there_is_room() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("tutor.db");
    let store = SqliteStore::open(&file).await.unwrap();
    line(&store, "o", "s", 3).await;
    // No page more than there are.
    on_the_writer(&store, "PRAGMA max_page_count = 1").await;
    let big = |name: &str| {
        let mut turn = new_turn("o", name, name, None);
        turn.messages[0].content = "word ".repeat(40_000).into();
        turn
    };
    for name in ["one", "two"] {
        let error = store.begin_turn(big(name)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StoreUnavailable);
        assert!(error.message().contains("full"), "{error:?}");
        assert_eq!(
            error.context_value("path"),
            file.canonicalize().unwrap().to_str()
        );
    }
    // Several in one group fail together, and each says so.
    let names = ["a", "b", "c", "d"];
    let begun = names.map(|name| store.begin_turn(big(name)));
    for result in futures_util::future::join_all(begun).await {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::StoreUnavailable);
    }
    let query = MessageQuery::latest(session_key("o", "s"), 50);
    assert_eq!(store.messages(query).await.unwrap().items.len(), 6);
    assert!(
        store
            .session(&session_key("o", "one"))
            .await
            .unwrap()
            .is_none()
    );
    on_the_writer(&store, "PRAGMA max_page_count = 4294967294").await;
    exchange(&store, big("one")).await;
    let found = verify(&store, &mut |_| {}).await.unwrap();
    assert!(found.is_sound(), "{:?}", found.all_problems().next());
    assert_eq!((found.sessions, found.running_turns), (2, 0));
    store.close().await.unwrap();
}
