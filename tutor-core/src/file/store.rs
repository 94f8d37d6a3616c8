//! Uploaded files: bytes in an object store, and a record that says whose they are.

use std::fmt;
use std::path::Path as FsPath;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt};
use serde::{Deserialize, Serialize};

use super::{FileContent, FileSource, IMAGE_TYPES, MAX_TEXT_BYTES, PDF, StoredFile, of_pdf};
use crate::error::{Error, ErrorKind, Result};
use crate::hidden::Hidden;
use crate::id::OwnerId;
use crate::session::{Cursor, MAX_PAGE, Page};
use crate::store::document::{Documents, remove};
use crate::store::private::make_private;
use crate::store::{KeyRange, RecordStore};
use crate::time::{SharedRuntime, SystemRuntime, Timestamp};

#[cfg(feature = "files-cloud")]
mod cloud;
mod copy;
mod texts;
mod upload;

#[cfg(feature = "files-cloud")]
pub use cloud::URL_SCHEMES;
pub use copy::FILE_RECORDS;
pub use upload::Upload;

use texts::Texts;

/// The kind of the records. A key is `owner/id`.
const KIND: &str = "file";

/// How old bytes without a record must be before they are taken for left behind.
const ORPHAN_AGE: Duration = Duration::from_secs(60 * 60);

/// How many files an owner may have at most, whatever the bounds say.
const MAX_FILES: usize = 10_000;

/// How much is taken. What is more is refused with `too_large`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileBounds {
    /// Bytes of a file.
    pub max_file_bytes: u64,
    /// Files of an owner.
    pub max_files: usize,
    /// Bytes of all files of an owner.
    pub max_bytes: u64,
    /// Bytes of a file's text that a model is sent; the rest is cut off and that is said.
    pub max_text_bytes: usize,
}

impl Default for FileBounds {
    fn default() -> Self {
        Self {
            max_file_bytes: 10 << 20,
            max_files: 1000,
            max_bytes: 500 << 20,
            max_text_bytes: MAX_TEXT_BYTES,
        }
    }
}

/// An uploaded file.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileInfo {
    /// Unique; how messages name it.
    pub id: String,
    /// The name that it was uploaded under, without a path.
    #[serde(default)]
    pub name: Option<String>,
    /// What it is, by its bytes: one of the [`IMAGE_TYPES`], `application/pdf`, or `text/…`.
    pub media_type: String,
    /// Its length.
    pub bytes: u64,
    /// When it was there.
    pub created_at: Timestamp,
}

impl fmt::Debug for FileInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileInfo")
            .field("id", &self.id)
            .field("name", &self.name.as_deref().map(Hidden))
            .field("media_type", &self.media_type)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

/// Uploaded files of all owners. Cheap to clone; clones share everything.
///
/// A file's bytes are there before its record, and go after it: a crash in between leaves bytes
/// that nobody can name, which [`sweep`](Self::sweep) removes.
///
/// ```
/// # async fn run() -> tutor_core::Result<()> {
/// use std::sync::Arc;
/// use tutor_core::file::FileStore;
/// use tutor_core::store::MemoryStore;
/// use tutor_core::{ChatRequest, Content, OwnerId, Tutor, message::Part};
///
/// let data = Arc::new(MemoryStore::new());
/// let files = FileStore::in_memory(data.clone());
/// let tutor = Tutor::builder().data(data).files(files.clone()).build().await?;
///
/// let mut upload = files.upload(tutor.owner(), Some("leaf.txt".into())).await?;
/// upload.write(b"A leaf is green.").await?;
/// let file = upload.finish().await?;
/// let part = Part::File { file_id: file.id, name: file.name, media_type: None };
/// tutor.chat(ChatRequest::new(Content::Parts(vec![part]))).await?;
/// # Ok(()) }
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(run()).unwrap();
/// ```
#[derive(Clone)]
pub struct FileStore {
    objects: Arc<dyn ObjectStore>,
    documents: Documents,
    runtime: SharedRuntime,
    bounds: FileBounds,
    part_bytes: usize,
    /// Of PDFs that were asked about lately: every turn of a conversation asks again.
    texts: Arc<Texts>,
}

impl fmt::Debug for FileStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileStore")
            .field("bounds", &self.bounds)
            .finish_non_exhaustive()
    }
}

impl FileStore {
    /// Files in this directory, which is made if it is not there.
    ///
    /// # Errors
    /// `store_unavailable` if it cannot be used, naming it.
    pub fn directory(path: impl AsRef<FsPath>, records: Arc<dyn RecordStore>) -> Result<Self> {
        let path = path.as_ref();
        let unusable = |error: Box<dyn std::error::Error + Send + Sync>| {
            Error::new(
                ErrorKind::StoreUnavailable,
                "the directory for files cannot be used: check its permissions",
            )
            .with_context("path", path.display())
            .with_source(error)
        };
        make_private(path).map_err(|error| unusable(error.into()))?;
        let objects = LocalFileSystem::new_with_prefix(path)
            .map_err(|error| unusable(error.into()))?
            .with_fsync(true)
            .with_automatic_cleanup(true);
        Ok(Self {
            part_bytes: 256 << 10,
            ..Self::new(Arc::new(objects), records)
        })
    }

    /// Files in memory.
    pub fn in_memory(records: Arc<dyn RecordStore>) -> Self {
        Self::new(Arc::new(InMemory::new()), records)
    }

    /// Files in an object store of your own.
    pub fn new(objects: Arc<dyn ObjectStore>, records: Arc<dyn RecordStore>) -> Self {
        Self {
            objects,
            documents: Documents::new(records),
            runtime: Arc::new(SystemRuntime),
            bounds: FileBounds::default(),
            // The smallest part that every object store takes.
            part_bytes: 5 << 20,
            texts: Arc::default(),
        }
    }

    /// Replaces the bounds.
    #[must_use]
    pub fn with_bounds(mut self, bounds: FileBounds) -> Self {
        self.bounds = bounds;
        self
    }

    /// Replaces the clock and the source of ids: for tests.
    #[must_use]
    pub fn with_runtime(mut self, runtime: SharedRuntime) -> Self {
        self.runtime = runtime;
        self
    }

    /// How many bytes of an upload are in memory at most: those that are not enough yet for the object
    /// store.
    pub fn part_bytes(&self) -> usize {
        self.part_bytes
    }

    /// The bounds.
    pub fn bounds(&self) -> &FileBounds {
        &self.bounds
    }

    /// Begins to take a file. Of its name the last part counts, without control characters.
    ///
    /// # Errors
    /// `too_large` if the owner has as many files as one may have; errors of the stores.
    pub async fn upload(&self, owner: &OwnerId, name: Option<String>) -> Result<Upload> {
        let (files, bytes) = self.held(owner).await?;
        if files >= self.bounds.max_files.min(MAX_FILES) {
            return Err(too_large(format!(
                "there are {files} files already: delete one first"
            )));
        }
        let room = self.bounds.max_bytes.saturating_sub(bytes);
        Upload::begin(self.clone(), owner.clone(), name, room).await
    }

    /// How many files an owner has, and their bytes.
    async fn held(&self, owner: &OwnerId) -> Result<(usize, u64)> {
        let (mut files, mut bytes, mut after) = (0, 0, None);
        loop {
            let page = self.page(owner, MAX_PAGE, after.take()).await?;
            files += page.len();
            bytes += page.iter().map(|info| info.bytes).sum::<u64>();
            if page.len() < MAX_PAGE || files >= MAX_FILES {
                return Ok((files, bytes));
            }
            after = page.into_iter().next_back().map(|info| info.id);
        }
    }

    async fn page(
        &self,
        owner: &OwnerId,
        limit: usize,
        after: Option<String>,
    ) -> Result<Vec<FileInfo>> {
        let range = KeyRange {
            prefix: format!("{owner}/"),
            after: after.map(|id| key(owner, &id)),
        };
        let found = self.documents.scan(KIND, range, limit).await?;
        Ok(found.into_iter().map(|(_, info)| info).collect())
    }

    /// An owner's files in the order of their ids, which is that of their uploads. `limit` is 1 to
    /// [`MAX_PAGE`].
    ///
    /// # Errors
    /// `invalid_input` for a limit or cursor that is none; errors of the store.
    pub async fn list(
        &self,
        owner: &OwnerId,
        limit: usize,
        cursor: Option<Cursor>,
    ) -> Result<Page<FileInfo>> {
        if !(1..=MAX_PAGE).contains(&limit) {
            return Err(Error::invalid_input(format!(
                "a page has 1 to {MAX_PAGE} items"
            )));
        }
        let after = match cursor {
            Some(cursor) if !is_id(cursor.as_str()) => {
                return Err(Error::invalid_input(
                    "this cursor is not one that a list returned",
                ));
            }
            cursor => cursor.map(|cursor| cursor.as_str().to_owned()),
        };
        let mut items = self.page(owner, limit + 1, after).await?;
        let has_more = items.len() > limit;
        items.truncate(limit);
        let last = items.last().filter(|_| has_more);
        Ok(Page {
            next_cursor: last.map(|info| Cursor::from_text(&info.id)),
            items,
        })
    }

    /// A file; `None` if this owner has none of this id.
    ///
    /// # Errors
    /// Errors of the store.
    pub async fn info(&self, owner: &OwnerId, id: &str) -> Result<Option<FileInfo>> {
        if !is_id(id) {
            return Ok(None);
        }
        let found = self.documents.get(KIND, &key(owner, id)).await?;
        Ok(found.map(|(info, _)| info))
    }

    /// The bytes of a file from `start` to before `end`, both within its length, as they are read.
    ///
    /// # Errors
    /// `not_found` if the file is gone; errors of the stores, also within the stream.
    pub async fn content(
        &self,
        owner: &OwnerId,
        info: &FileInfo,
        (start, end): (u64, u64),
    ) -> Result<BoxStream<'static, Result<Bytes>>> {
        if start >= end {
            return Ok(futures_util::stream::empty().boxed());
        }
        let options = GetOptions {
            range: Some(GetRange::Bounded(start..end)),
            ..GetOptions::default()
        };
        let place = place(owner, &info.id);
        let object = self.objects.get_opts(&place, options).await;
        let object = object.map_err(|error| unavailable(&error, &info.id))?;
        let id = info.id.clone();
        Ok(object
            .into_stream()
            .map_err(move |error| unavailable(&error, &id))
            .boxed())
    }

    /// Deletes a file. False if this owner has none of this id.
    ///
    /// # Errors
    /// Errors of the stores.
    pub async fn delete(&self, owner: &OwnerId, id: &str) -> Result<bool> {
        if self.info(owner, id).await?.is_none() {
            return Ok(false);
        }
        let removal = remove(KIND, &key(owner, id));
        self.texts.forget(&removal.key);
        self.documents.commit(vec![removal]).await?;
        self.remove(&place(owner, id)).await?;
        Ok(true)
    }

    async fn remove(&self, place: &Path) -> Result<()> {
        match self.objects.delete(place).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(unavailable(&error, "")),
        }
    }

    /// Deletes all files of an owner, with their records; says how many there were.
    ///
    /// # Errors
    /// Errors of the stores. Called again, it deletes the rest.
    pub async fn erase(&self, owner: &OwnerId) -> Result<u64> {
        let mut erased = 0;
        loop {
            let page = self.page(owner, MAX_PAGE, None).await?;
            if page.is_empty() {
                break;
            }
            for info in page {
                erased += u64::from(self.delete(owner, &info.id).await?);
            }
        }
        // What a crash left.
        let prefix = Path::from_iter([owner.as_str()]);
        let mut objects = self.objects.list(Some(&prefix));
        while let Some(object) = objects.next().await {
            let object = object.map_err(|error| unavailable(&error, ""))?;
            self.remove(&object.location).await?;
        }
        Ok(erased)
    }

    /// Removes bytes that a crash, or the erasure of their owner's records, left without a record.
    /// Younger ones than an hour are left alone: they may be of an upload. Says how many there
    /// were.
    ///
    /// # Errors
    /// Errors of the stores.
    pub async fn sweep(&self) -> Result<u64> {
        let now = self.runtime.now();
        let mut swept = 0;
        let mut objects = self.named_objects();
        while let Some((object, owner, id)) = objects.try_next().await? {
            let changed = Timestamp::from_micros(object.last_modified.timestamp_micros());
            let is_old = now.saturating_since(changed) >= ORPHAN_AGE;
            if is_old && self.info(&owner, &id).await?.is_none() {
                self.remove(&object.location).await?;
                swept += 1;
            }
        }
        Ok(swept)
    }
}

#[async_trait]
impl FileSource for FileStore {
    async fn file(&self, owner: &OwnerId, id: &str) -> Result<Option<StoredFile>> {
        let Some(info) = self.info(owner, id).await? else {
            return Ok(None);
        };
        let is_image = IMAGE_TYPES.contains(&info.media_type.as_str());
        let is_pdf = info.media_type == PDF;
        if !is_image && !is_pdf && !info.media_type.starts_with("text/") {
            return Ok(Some(StoredFile::new(info.name, FileContent::NameOnly)));
        }
        let place = key(owner, id);
        if is_pdf && let Some(text) = self.texts.get(&place) {
            let text = FileContent::Text(text.to_string());
            return Ok(Some(StoredFile::new(info.name, text)));
        }
        let max = match is_image || is_pdf {
            true => info.bytes,
            false => info.bytes.min(self.bounds.max_text_bytes as u64),
        };
        let content = self.content(owner, &info, (0, max)).await?;
        let bytes: Vec<u8> = content
            .try_fold(Vec::new(), |mut all, chunk| async move {
                all.extend_from_slice(&chunk);
                Ok(all)
            })
            .await?;
        let content = match is_image {
            true => FileContent::Image(bytes),
            false if is_pdf => {
                let content = of_pdf(bytes, self.bounds.max_text_bytes).await;
                if let FileContent::Text(text) = &content {
                    self.texts.keep(place, text);
                }
                content
            }
            false => FileContent::Text(text(bytes, max < info.bytes)),
        };
        Ok(Some(StoredFile::new(info.name, content)))
    }
}

/// A file's text, which may have been cut within a character.
fn text(bytes: Vec<u8>, is_cut: bool) -> String {
    let mut text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let whole = error.utf8_error().valid_up_to();
            let mut bytes = error.into_bytes();
            bytes.truncate(whole);
            String::from_utf8(bytes).unwrap_or_default()
        }
    };
    if is_cut {
        text.push_str("\n[the rest of the file is cut off]");
    }
    text
}

fn key(owner: &OwnerId, id: &str) -> String {
    format!("{owner}/{id}")
}

/// True for what can be the id of a file: letters, digits and dashes.
fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

fn place(owner: &OwnerId, id: &str) -> Path {
    Path::from_iter([owner.as_str(), id])
}

/// A part of a place as it was before the object store escaped it.
fn unescaped(part: &str) -> String {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let escaped = behind.get(..2).filter(|_| *first == b'%');
        let escaped = escaped.and_then(|hex| std::str::from_utf8(hex).ok());
        match escaped.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &behind[2..];
            }
            None => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn too_large(message: String) -> Error {
    Error::new(ErrorKind::TooLarge, message)
}

/// What an error of reading means.
fn unavailable(error: &object_store::Error, id: &str) -> Error {
    match error {
        object_store::Error::NotFound { .. } => Error::not_found("file", id),
        error => unusable(error),
    }
}

/// What an error of writing means. Without the library's own words: they quote what a bucket answered,
/// and that may quote a key.
fn unusable(error: &object_store::Error) -> Error {
    let message = match error {
        object_store::Error::NotFound { .. } => {
            "the place of files is not there: check its name, and make it"
        }
        object_store::Error::PermissionDenied { .. }
        | object_store::Error::Unauthenticated { .. } => {
            "the place of files refuses this server: check its account's keys, and what it may do"
        }
        error if is_unreachable(error) => {
            "the place of files cannot be reached: check its URL, the network, and that its account's keys are set"
        }
        _ => "files cannot be read or written at the moment",
    };
    let shown = Error::new(ErrorKind::StoreUnavailable, message);
    match find::<std::io::Error>(error) {
        Some(io) => shown.with_source(io.to_string()),
        None => shown,
    }
}

#[cfg(feature = "files-cloud")]
fn is_unreachable(error: &object_store::Error) -> bool {
    use object_store::client::{HttpError, HttpErrorKind};

    let failed = find::<HttpError>(error);
    failed.is_some_and(|error| {
        matches!(
            error.kind(),
            HttpErrorKind::Connect | HttpErrorKind::Timeout
        )
    })
}

#[cfg(not(feature = "files-cloud"))]
fn is_unreachable(_: &object_store::Error) -> bool {
    false
}

/// What an error comes of, if it is of this type.
fn find<E: std::error::Error + 'static>(error: &object_store::Error) -> Option<&E> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

#[cfg(test)]
mod tests;
