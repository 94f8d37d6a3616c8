//! The files of a program that embeds the engine: in a directory that is made for the first one.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::TryStreamExt;
use tokio::sync::OnceCell;

use super::{FileBounds, FileInfo, FileSource, FileStore, StoredFile, Upload};
use crate::error::{Error, ErrorKind, Result};
use crate::id::OwnerId;
use crate::session::{Cursor, Page};
use crate::store::{RecordStore, Store};
use crate::transfer::Erased;
use crate::tutor::Tutor;

/// Where uploaded files go. Cheap to clone; clones share everything.
///
/// Nothing is made on the disk before there is a file.
#[derive(Clone, Debug)]
pub struct FilePlace(Arc<Inner>);

struct Inner {
    kept: Kept,
    records: Arc<dyn RecordStore>,
    bounds: FileBounds,
    store: OnceCell<FileStore>,
}

#[derive(Debug)]
enum Kept {
    InMemory,
    In(PathBuf),
    Nowhere,
}

impl FilePlace {
    /// Files in this directory.
    pub fn directory(path: impl AsRef<Path>, records: Arc<dyn RecordStore>) -> Self {
        Self::new(Kept::In(path.as_ref().to_owned()), records)
    }

    /// Files in memory.
    pub fn in_memory(records: Arc<dyn RecordStore>) -> Self {
        Self::new(Kept::InMemory, records)
    }

    /// No files: uploads are refused with `config`, which says that nobody said where.
    pub fn nowhere(records: Arc<dyn RecordStore>) -> Self {
        Self::new(Kept::Nowhere, records)
    }

    fn new(kept: Kept, records: Arc<dyn RecordStore>) -> Self {
        Self(Arc::new(Inner {
            kept,
            records,
            bounds: FileBounds::default(),
            store: OnceCell::new(),
        }))
    }

    /// Replaces the bounds, before there are clones.
    #[must_use]
    pub fn with_bounds(self, bounds: FileBounds) -> Self {
        match Arc::try_unwrap(self.0) {
            Ok(inner) => Self(Arc::new(Inner { bounds, ..inner })),
            Err(shared) => Self(shared),
        }
    }

    /// The files, and a place for them if there is none yet.
    ///
    /// # Errors
    /// `config` for a place that is nowhere; `store_unavailable` for a directory that cannot be
    /// used.
    pub async fn store(&self) -> Result<FileStore> {
        let made = self.0.store.get_or_try_init(|| async {
            let records = Arc::clone(&self.0.records);
            let store = match &self.0.kept {
                Kept::InMemory => FileStore::in_memory(records),
                Kept::In(path) => {
                    let path = path.clone();
                    let open = move || FileStore::directory(path, records);
                    let opened = tokio::task::spawn_blocking(open).await;
                    opened.map_err(|_| Error::internal("opening the files panicked"))??
                }
                Kept::Nowhere => {
                    return Err(Error::new(
                        ErrorKind::Config,
                        "nobody said where uploaded files are kept: open the tutor with files, a directory",
                    ));
                }
            };
            Ok(store.with_bounds(self.0.bounds.clone()))
        });
        made.await.cloned()
    }

    /// The files, if there were ever any.
    async fn found(&self) -> Result<Option<FileStore>> {
        if let Kept::In(path) = &self.0.kept
            && !self.0.store.initialized()
        {
            let path = path.clone();
            let there = tokio::task::spawn_blocking(move || path.exists()).await;
            if !there.unwrap_or(true) {
                return Ok(None);
            }
        }
        match self.0.kept {
            Kept::Nowhere => Ok(None),
            _ => self.store().await.map(Some),
        }
    }

    /// Begins to take a file, as [`FileStore::upload`]; [`Upload::finish_for`] keeps it.
    ///
    /// # Errors
    /// As [`store`](Self::store) and [`FileStore::upload`].
    pub async fn upload(&self, owner: &OwnerId, name: Option<String>) -> Result<Upload> {
        self.store().await?.upload(owner, name).await
    }

    /// An owner's files, as [`FileStore::list`].
    ///
    /// # Errors
    /// As [`FileStore::list`].
    pub async fn list(
        &self,
        owner: &OwnerId,
        limit: usize,
        cursor: Option<Cursor>,
    ) -> Result<Page<FileInfo>> {
        match self.found().await? {
            Some(store) => store.list(owner, limit, cursor).await,
            None => {
                FileStore::in_memory(Arc::clone(&self.0.records))
                    .list(owner, limit, cursor)
                    .await
            }
        }
    }

    /// A file.
    ///
    /// # Errors
    /// `not_found` if this owner has none of this id; errors of the store.
    pub async fn info(&self, owner: &OwnerId, id: &str) -> Result<FileInfo> {
        let found = match self.found().await? {
            Some(store) => store.info(owner, id).await?,
            None => None,
        };
        found.ok_or_else(|| Error::not_found("file", id))
    }

    /// The bytes of a file, which are at most as many as the bounds allow.
    ///
    /// # Errors
    /// `not_found` if this owner has none of this id; errors of the stores.
    pub async fn read(&self, owner: &OwnerId, id: &str) -> Result<Vec<u8>> {
        let info = self.info(owner, id).await?;
        let store = self.store().await?;
        let pieces = store.content(owner, &info, (0, info.bytes)).await?;
        pieces
            .try_fold(Vec::new(), |mut bytes, piece| async move {
                bytes.extend_from_slice(&piece);
                Ok(bytes)
            })
            .await
    }

    /// Deletes a file. False if this owner has none of this id.
    ///
    /// # Errors
    /// Errors of the stores.
    pub async fn delete(&self, owner: &OwnerId, id: &str) -> Result<bool> {
        match self.found().await? {
            Some(store) => store.delete(owner, id).await,
            None => Ok(false),
        }
    }

    /// Deletes all files of a tutor's owner, then [everything else](Tutor::erase) of theirs.
    ///
    /// # Errors
    /// Errors of the stores. Called again, it deletes the rest.
    pub async fn erase(&self, tutor: &Tutor, store: &dyn Store) -> Result<Erased> {
        let files = match self.found().await? {
            Some(files) => files.erase(tutor.owner()).await?,
            None => 0,
        };
        let mut erased = tutor.erase(store).await?;
        erased.records += files;
        Ok(erased)
    }
}

#[async_trait]
impl FileSource for FilePlace {
    async fn file(&self, owner: &OwnerId, id: &str) -> Result<Option<StoredFile>> {
        match self.found().await? {
            Some(store) => store.file(owner, id).await,
            None => Ok(None),
        }
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner")
            .field("kept", &self.kept)
            .field("bounds", &self.bounds)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Content, Part};
    use crate::store::MemoryStore;
    use crate::turn::ChatRequest;
    use crate::usage::Quota;

    async fn keep(place: &FilePlace, tutor: &Tutor, bytes: &[u8]) -> Result<FileInfo> {
        let mut upload = place.upload(tutor.owner(), Some("a.txt".into())).await?;
        upload.write(bytes).await?;
        upload.finish_for(tutor).await
    }

    #[tokio::test]
    async fn a_directory_is_made_for_the_first_file_and_found_again() {
        let data = Arc::new(MemoryStore::new());
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("files");
        let place = FilePlace::directory(&path, data.clone());
        let builder = Tutor::builder().data(data.clone()).files(place.clone());
        let tutor = builder.build().await.unwrap();
        let owner = tutor.owner();
        assert!(place.list(owner, 10, None).await.unwrap().items.is_empty());
        assert!(place.list(owner, 0, None).await.is_err());
        assert!(!place.delete(owner, "x").await.unwrap());
        assert!(!path.exists());

        let info = keep(&place, &tutor, b"A leaf is green.").await.unwrap();
        let again = FilePlace::directory(&path, data.clone());
        assert_eq!(
            again.read(owner, &info.id).await.unwrap(),
            b"A leaf is green."
        );
        let part = Part::File {
            file_id: info.id.clone(),
            name: None,
            media_type: None,
        };
        let asked = ChatRequest::new(Content::Parts(vec![part]));
        tutor.chat(asked).await.unwrap();

        let erased = place.erase(&tutor, &data).await.unwrap();
        assert_eq!((erased.sessions, erased.records > 0), (1, true));
        let error = again.info(owner, &info.id).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn uploads_count_and_go_nowhere_without_a_place() {
        let data = Arc::new(MemoryStore::new());
        let quota = Quota {
            upload_bytes_per_day: Some(10),
            ..Quota::default()
        };
        let tutor = Tutor::builder().data(data.clone()).quota(quota);
        let tutor = tutor.build().await.unwrap();
        let place = FilePlace::in_memory(data.clone());
        keep(&place, &tutor, b"eight by").await.unwrap();
        let refused = keep(&place, &tutor, b"eight by").await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::RateLimited);
        let page = place.list(tutor.owner(), 10, None).await.unwrap();
        assert_eq!(page.items.len(), 1);

        let nowhere = FilePlace::nowhere(data);
        let refused = keep(&nowhere, &tutor, b"x").await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Config);
    }
}
