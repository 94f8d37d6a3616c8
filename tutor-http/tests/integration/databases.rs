//! The binary on SQL databases, named as the original system names them.

use serde_json::{Value, json};

use crate::binary::Binary;
use crate::client::Request;
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
