//! The binary on SQL databases, named as the original system names them.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::binary::Binary;
use crate::client::{PATIENCE, Request};
use crate::services::Service;

async fn messages(binary: &Binary, url: &str, session: &Value) -> usize {
    let serving = binary.serve_with(&[], &[("DATABASE_URL", url)]);
    let path = format!("/api/sessions/{}/messages", session.as_str().unwrap());
    let page = Request::get(&path).send(serving.address).await.expect(200);
    page["messages"].as_array().unwrap().len()
}

/// The server is killed after each step: what it answered is there.
async fn a_chat_outlives_its_server(binary: &Binary, url: &str) {
    let vars = [("DATABASE_URL", url)];
    let chat = {
        let serving = binary.serve_with(&[], &vars);
        let chat = Request::chat("What is gravity?");
        chat.send(serving.address).await.expect(200)
    };
    let session = &chat["session_id"];
    assert_eq!(messages(binary, url, session).await, 2);
    {
        let serving = binary.serve_with(&[], &vars);
        let more = Request::chat_with("And mass?", json!({"session_id": session}));
        more.send(serving.address).await.expect(200);
    }
    assert_eq!(messages(binary, url, session).await, 4);
    let verified = binary.run(&["verify", "--data", url, "--json"]).text();
    let found: Value = serde_json::from_str(&verified).unwrap();
    let counts = (&found["messages"], &found["problem_count"]);
    assert_eq!(counts, (&json!(4), &json!(0)));
    let again = binary.run(&["migrate", "--data", url]).text();
    assert_eq!(again, "nothing to do\n");
}

#[tokio::test]
async fn a_chat_in_the_originals_sqlite_url_is_there_after_a_restart() {
    let binary = Binary::new();
    a_chat_outlives_its_server(&binary, "sqlite:///./neuro_tutor.db").await;
    assert!(binary.path("neuro_tutor.db").is_file());
}

#[tokio::test]
async fn a_chat_in_the_originals_postgresql_url_is_there_after_a_restart() {
    let postgres = Service::postgres();
    let url = postgres.url.as_str();
    let binary = Binary::new();
    let plan = ["migrate", "--dry-run", "--data", url];
    assert_eq!(
        binary.run(&plan).text().matches("to do: version").count(),
        3
    );
    a_chat_outlives_its_server(&binary, url).await;
}

#[tokio::test]
async fn migrate_says_or_does_what_leads_to_a_version() {
    let binary = Binary::new();
    let migrate = |more: &[&str]| {
        let url = "sqlite:///./tutor.db";
        binary.run(&[&["migrate", "--data", url], more].concat())
    };
    let plan = migrate(&["--dry-run"]).text();
    assert!(plan.starts_with("to do: version 1, "), "{plan}");
    for version in [2, 3] {
        let step = format!("\nto do: version {version}, ");
        assert!(plan.contains(&step), "{plan}");
    }
    assert!(!binary.path("tutor.db").exists(), "a plan makes no file");
    let first = migrate(&["--to", "1"]).text();
    assert!(first.starts_with("done: version 1, "), "{first}");
    assert_eq!(first.lines().count(), 1, "{first}");
    assert_eq!(migrate(&["--to", "1"]).text(), "nothing to do\n");
    let rest = migrate(&["--dry-run"]).text();
    assert!(rest.starts_with("to do: version 2, "), "{rest}");
    let second = migrate(&[]).text();
    assert!(second.starts_with("done: version 2, "), "{second}");
    for (to, why) in [("1", "do not go back"), ("9", "no version 9")] {
        let refused = migrate(&["--to", to]);
        assert_ne!(refused.code, 0);
        assert!(refused.err.contains(why), "{}", refused.err);
    }
    let _serving = binary.serve(&["--data", "sqlite:///./tutor.db"]);
    let locked = migrate(&[]);
    assert_ne!(locked.code, 0);
    assert!(locked.err.contains("in use"), "{}", locked.err);
    assert!(locked.err.contains("tutor.db"), "{}", locked.err);
}

/// A client that keeps asking: what was answered, until it is told to stop.
async fn keep_asking(
    at: SocketAddr,
    answered: watch::Sender<Vec<String>>,
    refused: watch::Sender<usize>,
    stop: CancellationToken,
) {
    while !stop.is_cancelled() {
        let asked = Instant::now();
        let response = Request::chat("What is gravity?").send(at).await;
        assert!(
            asked.elapsed() < Duration::from_secs(12),
            "{:?}",
            asked.elapsed()
        );
        if response.status == 200 {
            let chat = response.expect(200);
            let session = chat["session_id"].as_str().unwrap().to_owned();
            answered.send_modify(|all| all.push(session));
            continue;
        }
        assert_eq!(response.header("retry-after"), Some("1"));
        let told = response.expect(503);
        assert_eq!(told["code"], "store_unavailable", "{told}");
        refused.send_modify(|count| *count += 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_goes_and_comes_back_is_waited_for_by_nobody_and_nothing_is_lost() {
    let mut postgres = Service::postgres();
    let binary = Binary::new();
    let vars = [("DATABASE_URL", postgres.url.as_str())];
    let server = binary.serve_with(&[], &vars);
    let at = server.address;
    let (answered, mut answers) = watch::channel(Vec::new());
    let (refused, mut refusals) = watch::channel(0);
    let stop = CancellationToken::new();
    let asking: Vec<_> = (0..4)
        .map(|_| {
            let (answered, refused) = (answered.clone(), refused.clone());
            tokio::spawn(keep_asking(at, answered, refused, stop.clone()))
        })
        .collect();
    for round in 1..=2 {
        let before = answers.borrow().len();
        let more = answers.wait_for(|all| all.len() >= before + 8);
        timeout(PATIENCE, more).await.expect("it serves").unwrap();
        tokio::task::block_in_place(|| postgres.tell("stop"));
        let some = refusals.wait_for(|count| *count >= 4 * round);
        timeout(PATIENCE, some).await.expect("it refuses").unwrap();
        let unready = Request::get("/readyz").send(at).await.expect(503);
        assert_eq!(unready["status"], "store_unavailable", "{unready}");
        Request::get("/healthz").send(at).await.expect(200);
        tokio::task::block_in_place(|| postgres.tell("start"));
        refused.send_replace(4 * round);
    }
    let before = answers.borrow().len();
    let more = answers.wait_for(|all| all.len() >= before + 8);
    timeout(PATIENCE, more)
        .await
        .expect("it serves again")
        .unwrap();
    stop.cancel();
    for asking in asking {
        asking.await.unwrap();
    }
    let answers = answers.borrow().clone();
    for session in answers {
        let path = format!("/api/sessions/{session}/messages");
        let page = Request::get(&path).send(at).await.expect(200);
        assert_eq!(page["messages"].as_array().unwrap().len(), 2, "{session}");
    }
    let verified = tokio::task::block_in_place(|| {
        let found = binary.run(&["verify", "--data", &postgres.url, "--json"]);
        found.text()
    });
    let found: Value = serde_json::from_str(&verified).unwrap();
    assert_eq!(found["problem_count"], 0, "{found}");
}

#[tokio::test]
async fn a_database_role_with_the_documented_rights_serves_and_can_do_no_more() {
    let postgres = Service::postgres();
    let binary = Binary::new();
    binary.run(&["migrate", "--data", &postgres.url]).ok();
    // As the README has it, for a role that is the server's alone.
    let readme = include_str!("../../README.md");
    let (_, grants) = readme.split_once("```sql\n").unwrap();
    let (grants, _) = grants.split_once("```").unwrap();
    let mut owner = PgConnection::connect(&postgres.url).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(grants.to_owned()))
        .execute(&mut owner)
        .await
        .unwrap();
    let (_, place) = postgres.url.split_once('@').unwrap();
    let url = format!("postgresql://neuro_tutor:SECRET@{place}");
    let mut role = PgConnection::connect(&url).await.unwrap();
    for forbidden in [
        "CREATE TABLE mine (x INT)",
        "DROP TABLE messages",
        "TRUNCATE messages",
        "ALTER TABLE messages DISABLE TRIGGER ALL",
        "CREATE ROLE other",
    ] {
        let refused = sqlx::query(forbidden).execute(&mut role).await;
        let refused = refused.unwrap_err().into_database_error().unwrap();
        assert_eq!(refused.code().as_deref(), Some("42501"), "{forbidden}");
    }
    a_chat_outlives_its_server(&binary, &url).await;
    let args = ["--auth", "required"];
    let server = binary.serve_with(&args, &[("DATABASE_URL", &url)]);
    let body = json!({"email": "ada@example.org", "password": "a long enough phrase"});
    let account = Request::post("/api/auth/register", &body)
        .send(server.address)
        .await
        .expect(201);
    let token = format!("Bearer {}", account["access_token"].as_str().unwrap());
    let file = crate::files::form("one.txt", b"a text").header("authorization", &token);
    file.send(server.address).await.expect(201);
    let gone = Request::new("DELETE", "/api/auth/me")
        .header("authorization", &token)
        .json(&json!({"password": "a long enough phrase"}));
    gone.send(server.address).await.expect_empty(204);
}
