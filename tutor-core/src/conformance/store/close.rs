//! Laws of closing.

#![expect(clippy::unwrap_used, reason = "a law fails by panicking, like a test")]

use std::sync::Arc;

use crate::conformance::sample::{
    at, begin, end, kind, new_turn, owner, session, session_key, session_query,
};
use crate::error::ErrorKind;
use crate::session::{MessageQuery, SessionPatch};
use crate::store::{Checkpoint, SessionStore};
use crate::trace::Trace;

/// Every method says so.
pub async fn a_closed_store_is_unavailable(store: Arc<dyn SessionStore>) {
    let turn = begin(&*store, new_turn("o", "s", "t", None)).await;
    let key = session_key("o", "s");
    let checkpoint = Checkpoint {
        partial: None,
        trace: Trace::default(),
        lease_until: at(9),
    };
    store.close().await.unwrap();
    for kind in [
        kind(store.create_session(session("o", "s2", 1)).await),
        kind(store.session(&key).await),
        kind(store.sessions(session_query("o", 1)).await),
        kind(store.update_session(&key, SessionPatch::default()).await),
        kind(store.delete_session(&key).await),
        kind(store.messages(MessageQuery::latest(key, 1)).await),
        kind(store.begin_turn(new_turn("o", "s3", "t3", None)).await),
        kind(store.checkpoint_turn(&turn.key(), checkpoint).await),
        kind(store.finish_turn(&turn.key(), end(&turn)).await),
        kind(store.turn(&turn.key()).await),
        kind(store.turn_by_key(&owner("o"), "k-t").await),
        kind(store.running_turns().await),
    ] {
        assert_eq!(kind, ErrorKind::StoreUnavailable);
    }
}

/// Closing is idempotent, also at the same time.
pub async fn closing_twice_is_fine(store: Arc<dyn SessionStore>) {
    let (first, second) = tokio::join!(store.close(), store.close());
    first.unwrap();
    second.unwrap();
    store.close().await.unwrap();
}
