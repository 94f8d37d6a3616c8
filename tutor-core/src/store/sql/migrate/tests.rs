//! What the tests of migrations in either database share.

use super::{Error, ErrorKind, Result};
use crate::conformance::sample::session_key;
use crate::session::MessageQuery;
use crate::store::sql::connection::Connection;
use crate::store::{Store, verify};

/// A conversation of the original system, and a message of none.
const ORIGINAL: [&str; 4] = [
    "CREATE TABLE chat_sessions (id VARCHAR NOT NULL PRIMARY KEY, title VARCHAR NOT NULL,
        created_at TIMESTAMP, updated_at TIMESTAMP)",
    "CREATE TABLE messages (id VARCHAR NOT NULL PRIMARY KEY,
        session_id VARCHAR REFERENCES chat_sessions (id), role VARCHAR NOT NULL,
        content TEXT NOT NULL, timestamp TIMESTAMP)",
    "INSERT INTO chat_sessions VALUES
        ('s', 'a title', '2025-11-27 01:02:03.000007', '2025-11-27 01:02:04.000007')",
    "INSERT INTO messages VALUES
        ('m1', 's', 'user', 'a question', '2025-11-27 01:02:03.000007'),
        ('m2', 's', 'assistant', 'an answer', '2025-11-27 01:02:04.000007'),
        ('m3', NULL, 'user', 'of no session', NULL)",
];

pub(in crate::store::sql) async fn make_original(connection: &mut Connection<'_>) {
    for sql in ORIGINAL {
        connection.execute(sql, Vec::new()).await.unwrap();
    }
}

/// It is there as the original has it.
pub(in crate::store::sql) async fn is_original(connection: &mut Connection<'_>, case: &str) {
    let sql = "SELECT count(*), max(content) FROM messages WHERE session_id = 's'";
    let row = connection.expect_row(sql, Vec::new()).await.unwrap();
    assert_eq!(row.count(0).unwrap(), 2, "{case}");
    assert_eq!(row.text(1).unwrap(), "an answer", "{case}");
}

/// It is there as this program has it, and all is sound.
pub(in crate::store::sql) async fn is_served(store: &dyn Store, case: &str) {
    let key = session_key("local", "s");
    let session = store.session(&key).await.unwrap().expect(case);
    assert_eq!(session.title, "a title", "{case}");
    let line = store.messages(MessageQuery::latest(key, 10)).await.unwrap();
    let texts: Vec<_> = line.items.iter().map(|said| said.content.text()).collect();
    assert_eq!(texts, ["a question", "an answer"], "{case}");
    let found = verify(store, &mut |_| {}).await.unwrap();
    assert!(
        found.is_sound(),
        "{case}: {:?}",
        found.all_problems().next()
    );
}

pub(in crate::store::sql) fn stopped() -> Result<()> {
    Err(Error::new(ErrorKind::StoreUnavailable, "told to stop"))
}
