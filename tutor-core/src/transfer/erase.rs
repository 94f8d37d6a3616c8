//! Removing all that is somebody's.

use super::export::{damaged_key, owned_records};
use crate::error::Result;
use crate::id::OwnerId;
use crate::session::{MAX_PAGE, SessionKey};
use crate::store::{Expect, RecordWrite, Store};

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Erased {
    /// Sessions, with all that was in them.
    pub sessions: u64,
    /// Small documents.
    pub records: u64,
}

/// Removes every session of an owner with its messages, turns, keys and places in lists, and every
/// record that is [theirs](crate::store::RecordStore#whose-they-are). Tells `progress` what it has so far.
///
/// Afterwards nothing of it can be read. Where a store keeps bytes of what was deleted until its
/// files are written anew, its documentation says until when.
///
/// Interrupted, it has removed some; called again, it removes the rest.
///
/// # Errors
/// Errors of the store.
pub async fn erase_owner(
    store: &dyn Store,
    owner: &OwnerId,
    progress: &mut (dyn FnMut(Erased) + Send),
) -> Result<Erased> {
    let mut erased = Erased::default();
    loop {
        let ids = store.session_ids(owner, None, MAX_PAGE).await?;
        if ids.is_empty() {
            break;
        }
        for id in ids {
            let key = SessionKey::new(owner.clone(), id);
            erased.sessions += u64::from(store.delete_session(&key).await?);
            progress(erased);
        }
    }
    for kind in store.kinds().await? {
        loop {
            let found = owned_records(store, &kind, Some(owner), None, MAX_PAGE).await;
            let keys: Vec<String> = match found {
                // A damaged one goes, too.
                Err(error) => vec![damaged_key(&error).ok_or(error)?],
                Ok(found) => found.into_iter().map(|record| record.key).collect(),
            };
            if keys.is_empty() {
                break;
            }
            let count = keys.len() as u64;
            let delete = keys.into_iter().map(|key| RecordWrite {
                kind: kind.clone(),
                key,
                value: None,
                expect: Expect::Any,
            });
            store.commit(delete.collect()).await?;
            erased.records += count;
            progress(erased);
        }
    }
    Ok(erased)
}
