//! Databases of the original system, made by its own models, are opened and served.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use tutor_core::conformance::sample::session_key;
use tutor_core::session::{MessageQuery, SessionQuery};
use tutor_core::store::{Location, Store, verify};
use tutor_core::{ChatRequest, Message, OwnerId, Role, SessionId, Tutor};

/// Names a Python that has SQLAlchemy.
const PYTHON: &str = "TUTOR_TEST_PYTHON";

/// Runs the original's models on a database, and gives what they print.
fn original(command: &str, url: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let venv = root.join("../.venv/bin/python");
    let python = std::env::var_os(PYTHON).map(PathBuf::from);
    let python = python.or_else(|| venv.exists().then_some(venv));
    let output = Command::new(python.unwrap_or_else(|| "python3".into()))
        .arg(root.join("tests/seed/original.py"))
        .args([command, url])
        .env("PYTHONIOENCODING", "utf-8")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "this test needs a Python with sqlalchemy and psycopg, named by {PYTHON}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

async fn messages(store: &Arc<dyn Store>, session: &str) -> Vec<Message> {
    let query = MessageQuery::latest(session_key("local", session), 50);
    store.messages(query).await.unwrap().items
}

async fn is_served(location: &Location) {
    let plan = location.migrate(None, true).await.unwrap();
    assert_eq!((plan.from, plan.steps.len(), plan.applied), (0, 3, false));
    let store = location.open().await.unwrap();
    let plan = location.migrate(None, true).await;
    if store.info().exclusive {
        assert_eq!(plan.unwrap_err().code(), "store_locked");
    } else {
        assert_eq!(plan.unwrap().steps, []);
    }

    let query = SessionQuery {
        owner: OwnerId::default(),
        limit: 10,
        cursor: None,
    };
    let sessions = store.sessions(query).await.unwrap().items;
    assert_eq!(sessions.len(), 3);
    let plain = store.session(&session_key("local", "plain")).await.unwrap();
    let plain = plain.unwrap();
    assert_eq!(plain.title, "Größe 漢字 🌱");
    assert_eq!(plain.created_at.to_string(), "2025-11-27T01:02:03.000007Z");
    assert_eq!(plain.updated_at.to_string(), "2025-11-27T02:02:03.000007Z");

    let line = messages(&store, "plain").await;
    let ids: Vec<&str> = line.iter().map(|message| message.id.as_str()).collect();
    assert_eq!(ids, ["early", "m0", "m1", "m2", "m3"]);
    assert_eq!(line[1].content.text(), "0 é 🌱");
    assert_eq!((line[1].role, line[2].role), (Role::User, Role::Assistant));
    assert_eq!(line[4].parent_id.as_ref(), Some(&line[3].id));

    let odd = sessions.iter().find(|session| session.title == "odd");
    let odd = odd.unwrap();
    assert_eq!(odd.metadata["seed_id"], "my chat / 1");
    let said = messages(&store, odd.id.as_str()).await;
    assert_eq!((said.len(), said[0].role), (1, Role::Assistant));
    assert_eq!(said[0].metadata["seed_role"], "Tutor");
    assert_eq!(messages(&store, "empty").await, []);

    // A conversation goes on.
    let tutor = Tutor::builder()
        .store(Arc::clone(&store))
        .build()
        .await
        .unwrap();
    let more = ChatRequest::new("And now?").with_session(SessionId::new("plain").unwrap());
    tutor.chat(more).await.unwrap();
    assert_eq!(messages(&store, "plain").await.len(), 7);
    let found = verify(&*store, &mut |_| {}).await.unwrap();
    assert!(found.is_sound(), "{:?}", found.all_problems().next());
    tutor.close().await.unwrap();
}

#[cfg(feature = "store-sqlite")]
#[tokio::test]
async fn a_file_of_the_original_is_migrated_and_its_conversations_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite:///{}/neuro_tutor.db", directory.path().display());
    original("make", &url);
    is_served(&url.parse().unwrap()).await;
    // The original's models still read it.
    let read = original("read", &url);
    assert!(read.contains("plain Größe 漢字 🌱 7 True"), "{read}");
}

#[cfg(feature = "store-postgres")]
#[tokio::test]
async fn a_database_of_the_original_is_migrated_and_its_conversations_go_on() {
    let url = crate::postgres::empty().await;
    let theirs = url.replacen("postgresql:", "postgresql+psycopg:", 1);
    original("make", &theirs);
    is_served(&url.parse().unwrap()).await;
    let read = original("read", &theirs);
    assert!(read.contains("plain Größe 漢字 🌱 7 True"), "{read}");
}
