//! Migrations that are interrupted, and several at once.

use super::*;
use crate::store::Location;
use crate::store::sql::migrate::tests::{is_original, is_served, make_original, stopped};

#[path = "../../../../tests/integration/postgres.rs"]
mod server;
#[expect(dead_code, reason = "not all of it is needed here")]
#[path = "../../../../tests/integration/services.rs"]
mod services;

async fn empty() -> (PostgresUrl, PgConnection) {
    let Location::Postgres(url) = server::empty().await.parse().unwrap() else {
        panic!("not a PostgreSQL URL");
    };
    let options = connect_options(&url).unwrap();
    let connection = PostgresStore::options().connect(&options).await.unwrap();
    (url, connection)
}

#[tokio::test]
async fn a_migration_that_ends_before_any_statement_is_undone_and_the_next_start_does_it() {
    let mut stops = 0;
    loop {
        let case = format!("before statement {stops}");
        let (url, mut first) = empty().await;
        let mut connection = Connection::Postgres(&mut first);
        make_original(&mut connection).await;
        let mut seen = 0;
        let done = migrate::run(&mut connection, None, &mut |_| {
            seen += 1;
            if seen > stops { stopped() } else { Ok(()) }
        })
        .await;
        // Without a word to the server, like a process that was killed.
        drop(first);
        if done.is_err() {
            let plan = PostgresStore::migrate(&url, None, true).await.unwrap();
            assert_eq!((plan.from, plan.steps.len()), (0, 3), "{case}");
            let options = connect_options(&url).unwrap();
            let mut next = PostgresStore::options().connect(&options).await.unwrap();
            is_original(&mut Connection::Postgres(&mut next), &case).await;
        }
        let store = PostgresStore::open(&url).await.unwrap();
        is_served(&store, &case).await;
        crate::SessionStore::close(&store).await.unwrap();
        if done.is_ok() {
            break;
        }
        stops += 1;
    }
    assert!(stops > 25, "only {stops} statements");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_programs_that_start_at_once_one_migrates() {
    let (url, mut first) = empty().await;
    make_original(&mut Connection::Postgres(&mut first)).await;
    let starts = (0..8).map(|_| PostgresStore::open(&url));
    let stores = futures_util::future::try_join_all(starts).await.unwrap();
    for store in &stores {
        is_served(store, "at once").await;
    }
    let sql = "SELECT count(*) FROM tutor_migrations";
    let row = Connection::Postgres(&mut first)
        .expect_row(sql, Vec::new())
        .await;
    assert_eq!(row.unwrap().count(0).unwrap(), 3);
}
