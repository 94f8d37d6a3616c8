//! Moving the bytes of files from one place to another: backups, and a change of place.

use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStoreExt};

use super::{FileInfo, FileStore, is_id, place, unavailable, unescaped, unusable};
use crate::error::{Error, Result};
use crate::id::OwnerId;

/// The kind of the records of files. A key is `owner/id`, a value the JSON of a [`FileInfo`].
pub const FILE_RECORDS: &str = super::KIND;

impl FileStore {
    /// All bytes of a file.
    ///
    /// # Errors
    /// `not_found` if they are gone; `data_corrupt` if they are not as many as there were; errors
    /// of the object store.
    pub async fn read(&self, owner: &OwnerId, info: &FileInfo) -> Result<Bytes> {
        let found = self.objects.get(&place(owner, &info.id)).await;
        let found = found.map_err(|error| unavailable(&error, &info.id))?;
        if found.meta.size != info.bytes {
            return Err(Error::new(
                crate::error::ErrorKind::DataCorrupt,
                "a file has not as many bytes as it had: restore a backup",
            )
            .with_context("file", &info.id));
        }
        let bytes = found.bytes().await;
        bytes.map_err(|error| unavailable(&error, &info.id))
    }

    /// Puts the bytes of a file to where its record expects them. Durable when it returns.
    ///
    /// # Errors
    /// `invalid_input` for what is no id of a file; errors of the object store.
    pub async fn put_back(&self, owner: &OwnerId, id: &str, bytes: Bytes) -> Result<()> {
        if !is_id(id) {
            return Err(Error::invalid_input("this is no id of a file"));
        }
        let put = self.objects.put(&place(owner, id), bytes.into()).await;
        put.map(drop).map_err(|error| unusable(&error))
    }

    /// Writes something, reads it, and removes it.
    ///
    /// # Errors
    /// Errors of the object store; `data_corrupt` if it is not what was written.
    pub async fn try_out(&self) -> Result<()> {
        // No file has such a place: it has one part.
        let place = Path::from(format!("probe-{}", self.runtime.new_id()));
        let fail = |error| unusable(&error);
        let written = Bytes::from_static(b"?");
        let put = self.objects.put(&place, written.clone().into()).await;
        put.map_err(fail)?;
        let found = self.objects.get(&place).await.map_err(fail)?;
        let read = found.bytes().await.map_err(fail)?;
        self.remove(&place).await?;
        if read != written {
            return Err(Error::new(
                crate::error::ErrorKind::DataCorrupt,
                "the place of files does not keep what it is given",
            ));
        }
        Ok(())
    }

    /// Whose bytes are here, and how many, whether there is a record of them or not.
    ///
    /// # Errors
    /// Errors of the object store.
    pub async fn held_bytes(&self) -> Result<Vec<(OwnerId, String, u64)>> {
        let objects = self.named_objects();
        let held = objects.map_ok(|(object, owner, id)| (owner, id, object.size));
        held.try_collect().await
    }

    /// Removes bytes, whether there is a record of them or not.
    ///
    /// # Errors
    /// Errors of the object store.
    pub async fn drop_bytes(&self, owner: &OwnerId, id: &str) -> Result<()> {
        self.remove(&place(owner, id)).await
    }

    /// Every object that can be a file, and whose and which.
    pub(super) fn named_objects(
        &self,
    ) -> BoxStream<'static, Result<(ObjectMeta, OwnerId, String)>> {
        let objects = self.objects.list(None);
        let objects = objects.map_err(|error| unavailable(&error, ""));
        let named = objects.try_filter_map(async |object| {
            let named = named(&object.location);
            Ok(named.map(|(owner, id)| (object, owner, id)))
        });
        named.boxed()
    }
}

/// Whose file is at a place, if it can be one.
fn named(place: &Path) -> Option<(OwnerId, String)> {
    let names: Vec<_> = place.parts().collect();
    let [owner, id] = &names[..] else {
        return None;
    };
    let owner = OwnerId::new(unescaped(owner.as_ref())).ok()?;
    Some((owner, unescaped(id.as_ref())))
}
