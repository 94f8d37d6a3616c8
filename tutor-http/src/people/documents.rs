//! Typed documents in the store.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tutor_core::store::{Expect, KeyRange, RecordWrite, Store, scan_all};
use tutor_core::transfer::erase_owner;
use tutor_core::{Error, ErrorKind, OwnerId, Result};

/// How often a change is tried again because somebody else changed the same document.
const MAX_ATTEMPTS: usize = 8;

/// The store's documents, as JSON.
#[derive(Clone, Debug)]
pub(super) struct Documents {
    store: Arc<dyn Store>,
}

impl Documents {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// A document and its version.
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        kind: &str,
        key: &str,
    ) -> Result<Option<(T, u64)>> {
        match self.store.get(kind, key).await? {
            Some(record) => Ok(Some((parse(kind, &record.value)?, record.version))),
            None => Ok(None),
        }
    }

    /// Documents in the order of their keys.
    pub(super) async fn scan<T: DeserializeOwned>(
        &self,
        kind: &str,
        range: KeyRange,
        limit: usize,
    ) -> Result<Vec<(String, T)>> {
        let records = self.store.scan(kind, range, limit).await?;
        let parsed = records.into_iter().map(|record| {
            let value = parse(kind, &record.value)?;
            Ok((record.key, value))
        });
        parsed.collect()
    }

    /// The keys that begin with `prefix`, all of them.
    pub(super) async fn keys(&self, kind: &str, prefix: &str) -> Result<Vec<String>> {
        let records = scan_all(&*self.store, kind, prefix).await?;
        Ok(records.into_iter().map(|record| record.key).collect())
    }

    /// Removes everything that is somebody's, conversations too.
    pub(super) async fn erase(&self, owner: &OwnerId) -> Result<()> {
        erase_owner(&*self.store, owner, &mut |_| ()).await?;
        Ok(())
    }

    /// Applies all writes or none.
    pub(super) async fn commit(&self, writes: Vec<RecordWrite>) -> Result<()> {
        self.store.commit(writes).await
    }

    /// Changes a document and returns it as it is then; `None` if it is not there. `change` may be
    /// called several times, and keeps the document as it is by an error.
    pub(super) async fn update<T: DeserializeOwned + Serialize>(
        &self,
        kind: &str,
        key: &str,
        mut change: impl FnMut(&mut T) -> Result<()>,
    ) -> Result<Option<T>> {
        for _ in 0..MAX_ATTEMPTS {
            let Some((mut value, version)) = self.get::<T>(kind, key).await? else {
                return Ok(None);
            };
            change(&mut value)?;
            let write = put(kind, key, &value, Expect::Version(version))?;
            match self.commit(vec![write]).await {
                Ok(()) => return Ok(Some(value)),
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::conflict("too many changes at the same time: try again").retryable(None))
    }
}

fn parse<T: DeserializeOwned>(kind: &str, value: &[u8]) -> Result<T> {
    serde_json::from_slice(value).map_err(|_| {
        Error::new(
            ErrorKind::DataCorrupt,
            "a document cannot be read: restore a backup, or use a newer release",
        )
        .with_context("kind", kind)
    })
}

/// A write of a document.
pub(super) fn put(
    kind: &str,
    key: &str,
    value: &impl Serialize,
    expect: Expect,
) -> Result<RecordWrite> {
    let value = serde_json::to_vec(value)
        .map_err(|_| Error::internal("a document cannot be written as JSON"))?;
    Ok(RecordWrite {
        kind: kind.to_owned(),
        key: key.to_owned(),
        value: Some(value),
        expect,
    })
}

/// A deletion of a document, whether it is there or not.
pub(super) fn remove(kind: &str, key: &str) -> RecordWrite {
    RecordWrite {
        kind: kind.to_owned(),
        key: key.to_owned(),
        value: None,
        expect: Expect::Any,
    }
}
