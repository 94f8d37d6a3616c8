//! [`Documents`]: records that are JSON, read and changed as what they are.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Expect, KeyRange, RecordStore, RecordWrite, scan_all};
use crate::error::{Error, ErrorKind, Result};

/// How often a change is tried again because somebody else changed the same document.
const MAX_ATTEMPTS: usize = 8;

/// The key of a document that is nobody's: no owner's id begins with a slash, so that it is neither
/// exported nor erased with somebody.
pub fn nobodys(key: &str) -> String {
    format!("/{key}")
}

/// The documents of a store. Cheap to clone; clones share the store.
///
/// ```
/// # async fn run() -> tutor_core::Result<()> {
/// use std::sync::Arc;
/// use tutor_core::store::{Documents, MemoryStore};
///
/// let documents = Documents::new(Arc::new(MemoryStore::new()));
/// let count = |before: Option<u64>| Ok(Some(before.unwrap_or(0) + 1));
/// documents.change("visits", "ada", count).await?;
/// let change = documents.change("visits", "ada", count).await?;
/// assert_eq!((change.before, change.after), (Some(1), Some(2)));
/// # Ok(()) }
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(run()).unwrap();
/// ```
#[derive(Clone)]
pub struct Documents {
    records: Arc<dyn RecordStore>,
}

impl fmt::Debug for Documents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Documents").finish_non_exhaustive()
    }
}

/// What a change found and left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change<T> {
    /// The document as it was; `None` if it was not there.
    pub before: Option<T>,
    /// The document as it is; `None` if it is not there.
    pub after: Option<T>,
}

impl Documents {
    /// The documents of this store.
    pub fn new(records: Arc<dyn RecordStore>) -> Self {
        Self { records }
    }

    /// Where they are kept.
    pub fn records(&self) -> &Arc<dyn RecordStore> {
        &self.records
    }

    /// A document and its version; `None` if it is not there.
    ///
    /// # Errors
    /// `data_corrupt` for one that cannot be read; errors of the store.
    pub async fn get<T: DeserializeOwned>(
        &self,
        kind: &str,
        key: &str,
    ) -> Result<Option<(T, u64)>> {
        match self.records.get(kind, key).await? {
            Some(record) => Ok(Some((read(kind, &record.value)?, record.version))),
            None => Ok(None),
        }
    }

    /// Documents with their keys, in the order of the keys' bytes.
    ///
    /// # Errors
    /// `data_corrupt` for one that cannot be read; errors of the store.
    pub async fn scan<T: DeserializeOwned>(
        &self,
        kind: &str,
        range: KeyRange,
        limit: usize,
    ) -> Result<Vec<(String, T)>> {
        let records = self.records.scan(kind, range, limit).await?;
        let parsed = records.into_iter().map(|record| {
            let value = read(kind, &record.value)?;
            Ok((record.key, value))
        });
        parsed.collect()
    }

    /// All documents whose keys begin with `prefix`, in the order of the keys' bytes.
    ///
    /// # Errors
    /// As of [`scan`](Self::scan).
    pub async fn all<T: DeserializeOwned>(&self, kind: &str, prefix: &str) -> Result<Vec<T>> {
        let records = scan_all(&*self.records, kind, prefix).await?;
        let parsed = records.iter().map(|record| read(kind, &record.value));
        parsed.collect()
    }

    /// All keys that begin with `prefix`, also of documents that cannot be read.
    ///
    /// # Errors
    /// Errors of the store.
    pub async fn keys(&self, kind: &str, prefix: &str) -> Result<Vec<String>> {
        let records = scan_all(&*self.records, kind, prefix).await?;
        Ok(records.into_iter().map(|record| record.key).collect())
    }

    /// Applies all writes or none. See [`put`] and [`remove`].
    ///
    /// # Errors
    /// As [`RecordStore::commit`].
    pub async fn commit(&self, writes: Vec<RecordWrite>) -> Result<()> {
        if writes.is_empty() {
            return Ok(());
        }
        self.records.commit(writes).await
    }

    /// Makes, changes or removes a document: `change` gets what is there and says what is to be.
    /// It may be called several times, and keeps the document as it is by an error.
    ///
    /// # Errors
    /// Those of `change`; `conflict` if others change the document all the time; `data_corrupt` if
    /// it cannot be read; errors of the store.
    pub async fn change<T: DeserializeOwned + Serialize + Clone>(
        &self,
        kind: &str,
        key: &str,
        mut change: impl FnMut(Option<T>) -> Result<Option<T>>,
    ) -> Result<Change<T>> {
        for _ in 0..MAX_ATTEMPTS {
            let (before, expect) = match self.get::<T>(kind, key).await? {
                Some((value, version)) => (Some(value), Expect::Version(version)),
                None => (None, Expect::Absent),
            };
            let after = change(before.clone())?;
            let write = match &after {
                Some(after) => put(kind, key, after, expect)?,
                None if before.is_none() => return Ok(Change { before, after }),
                None => RecordWrite {
                    expect,
                    ..remove(kind, key)
                },
            };
            match self.records.commit(vec![write]).await {
                Ok(()) => return Ok(Change { before, after }),
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::conflict("too many changes at the same time: try again").retryable(None))
    }

    /// [Changes](Self::change) a document that is there, and returns it as it is then; `None` if it
    /// is not there.
    ///
    /// # Errors
    /// As of [`change`](Self::change).
    pub async fn update<T: DeserializeOwned + Serialize + Clone>(
        &self,
        kind: &str,
        key: &str,
        mut change: impl FnMut(&mut T) -> Result<()>,
    ) -> Result<Option<T>> {
        let changed = self.change(kind, key, |value: Option<T>| {
            let Some(mut value) = value else {
                return Ok(None);
            };
            change(&mut value)?;
            Ok(Some(value))
        });
        Ok(changed.await?.after)
    }
}

/// What a record of this kind says.
///
/// # Errors
/// `data_corrupt` if it cannot be read.
pub(crate) fn read<T: DeserializeOwned>(kind: &str, value: &[u8]) -> Result<T> {
    serde_json::from_slice(value).map_err(|_| {
        Error::new(
            ErrorKind::DataCorrupt,
            "a document cannot be read: restore a backup, or use a newer release",
        )
        .with_context("kind", kind)
    })
}

/// A write of a document.
///
/// # Errors
/// `internal` for what cannot be JSON, such as a map whose keys are no texts.
pub fn put(kind: &str, key: &str, value: &impl Serialize, expect: Expect) -> Result<RecordWrite> {
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
pub fn remove(kind: &str, key: &str) -> RecordWrite {
    RecordWrite {
        kind: kind.to_owned(),
        key: key.to_owned(),
        value: None,
        expect: Expect::Any,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;

    fn documents() -> Documents {
        Documents::new(Arc::new(MemoryStore::new()))
    }

    fn more(before: Option<u64>) -> Result<Option<u64>> {
        Ok(Some(before.unwrap_or(0) + 1))
    }

    #[tokio::test]
    async fn changes_at_the_same_time_are_made_one_after_another() {
        let documents = documents();
        let changes = (0..4).map(|_| documents.change("k", "a", more));
        for change in futures_util::future::join_all(changes).await {
            change.unwrap();
        }
        let (count, _) = documents.get::<u64>("k", "a").await.unwrap().unwrap();
        assert_eq!(count, 4);
    }

    #[tokio::test]
    async fn a_change_that_is_refused_writes_nothing_and_none_removes() {
        let documents = documents();
        documents.change("k", "a", more).await.unwrap();
        let refused = documents.change::<u64>("k", "a", |_| Err(Error::internal("no")));
        refused.await.unwrap_err();
        assert_eq!(documents.all::<u64>("k", "").await.unwrap(), [1]);
        let removed = documents.change::<u64>("k", "a", |_| Ok(None)).await;
        assert_eq!(removed.unwrap().before, Some(1));
        let absent = documents.update::<u64>("k", "a", |_| Ok(())).await.unwrap();
        assert_eq!(absent, None);
        assert_eq!(documents.keys("k", "").await.unwrap(), [""; 0]);
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_named_by_its_kind_and_can_be_removed() {
        let documents = documents();
        let broken = RecordWrite {
            value: Some(b"{".to_vec()),
            ..remove("k", "a")
        };
        documents.commit(vec![broken]).await.unwrap();
        let error = documents.change("k", "a", more).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DataCorrupt);
        assert_eq!(error.context_value("kind"), Some("k"));
        assert_eq!(documents.keys("k", "").await.unwrap(), ["a"]);
        documents.commit(vec![remove("k", "a")]).await.unwrap();
        documents.change("k", "a", more).await.unwrap();
    }
}
