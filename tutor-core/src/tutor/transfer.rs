//! Exports and imports of one owner's conversations.

use std::sync::Arc;

use super::Tutor;
use crate::error::{Error, Result};
use crate::id::SessionId;
use crate::message::Audience;
use crate::store::{Store, WholeSession};
use crate::transfer::{
    Erased, ExportOptions, Exporter, ImportOptions, Importer, OnConflict, erase_owner,
};

impl Tutor {
    /// An export of this owner's conversations, as the learner may see them.
    pub fn export(&self) -> Exporter {
        let options = ExportOptions {
            owner: Some(self.owner.clone()),
            audience: Some(Audience::Learner),
            ..ExportOptions::default()
        };
        Exporter::of_sessions(Arc::clone(&self.engine.store), options)
    }

    /// An import of conversations, all of which become this owner's. Records are left out.
    pub fn import(&self, on_conflict: OnConflict) -> Importer {
        let options = ImportOptions {
            on_conflict,
            owner: Some(self.owner.clone()),
        };
        Importer::of_sessions(Arc::clone(&self.engine.store), options)
    }

    /// A session with everything in it that the learner may see.
    ///
    /// # Errors
    /// `not_found`; errors of the store.
    pub async fn whole_session(&self, id: &SessionId) -> Result<WholeSession> {
        let key = self.session_key(id);
        let found = self.engine.store.whole_session(&key);
        let whole = found
            .await?
            .ok_or_else(|| Error::not_found("session", id))?;
        Ok(whole.seen_by(Audience::Learner))
    }

    /// Removes everything that is this owner's from `store`, which is this tutor's, as
    /// [`erase_owner`] does; running turns are cancelled first, so that none of them comes back.
    ///
    /// # Errors
    /// Errors of the store.
    pub async fn erase(&self, store: &dyn Store) -> Result<Erased> {
        self.cancel_all().await;
        // What is counted a second later would come back.
        self.flush_usage().await?;
        erase_owner(store, &self.owner, &mut |_| ()).await
    }
}
