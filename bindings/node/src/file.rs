//! [`NativeFiles`]: uploaded files, and [`NativeUpload`]: one that is being taken.

use std::sync::Arc;

use napi::bindgen_prelude::{Buffer, Env, PromiseRaw};
use napi_derive::napi;
use serde_json::Value;
use tokio::sync::Mutex;
use tutor_core::file::Upload;
use tutor_core::{Result, Tutor, json};

use crate::data::{NativeError, Outcome, object, promise, value};
use crate::open::Opened;
use crate::tutor::{Slot, handle};

/// Uploaded files of an owner.
#[napi]
pub struct NativeFiles {
    slot: Slot,
}

/// The bytes of a file, or what went wrong.
#[napi(object)]
pub struct FileBytes {
    /// Absent if something went wrong.
    pub bytes: Option<Buffer>,
    /// What went wrong.
    pub error: Option<NativeError>,
}

#[napi]
impl NativeFiles {
    pub(crate) fn new(slot: Slot) -> Self {
        Self { slot }
    }

    /// A file to be taken. Of its name the last part counts.
    #[napi]
    pub fn upload(&self, name: Option<String>) -> NativeUpload {
        NativeUpload {
            slot: Arc::clone(&self.slot),
            name,
            upload: Arc::default(),
        }
    }

    /// What a file is.
    #[napi]
    pub fn info<'e>(&self, env: &'e Env, id: String) -> napi::Result<PromiseRaw<'e, Outcome>> {
        self.run(env, |it| async move {
            value(it.files.info(it.tutor.owner(), &id).await?)
        })
    }

    /// A page of files.
    #[napi]
    pub fn list<'e>(&self, env: &'e Env, options: String) -> napi::Result<PromiseRaw<'e, Outcome>> {
        self.run(env, |it| async move {
            let (limit, cursor) = json::sessions(object(&options)?)?;
            value(it.files.list(it.tutor.owner(), limit, cursor).await?)
        })
    }

    /// The bytes of a file.
    #[napi]
    pub fn read<'e>(&self, env: &'e Env, id: String) -> napi::Result<PromiseRaw<'e, FileBytes>> {
        let slot = Arc::clone(&self.slot);
        env.spawn_future(async move {
            let read = async {
                let it = handle(&slot)?;
                it.files.read(it.tutor.owner(), &id).await
            };
            Ok(match read.await {
                Ok(bytes) => FileBytes {
                    bytes: Some(bytes.into()),
                    error: None,
                },
                Err(error) => FileBytes {
                    bytes: None,
                    error: Some(error.into()),
                },
            })
        })
    }

    /// Deletes a file; says whether there was one.
    #[napi]
    pub fn delete<'e>(&self, env: &'e Env, id: String) -> napi::Result<PromiseRaw<'e, Outcome>> {
        self.run(env, |it| async move {
            Ok(it.files.delete(it.tutor.owner(), &id).await?.into())
        })
    }

    fn run<'e, F, W>(&self, env: &'e Env, work: F) -> napi::Result<PromiseRaw<'e, Outcome>>
    where
        F: FnOnce(Opened) -> W + Send + 'static,
        W: Future<Output = Result<Value>> + Send + 'static,
    {
        let slot = Arc::clone(&self.slot);
        promise(env, async move { work(handle(&slot)?).await })
    }
}

/// A file that is being taken, a piece at a time.
#[napi]
pub struct NativeUpload {
    slot: Slot,
    name: Option<String>,
    upload: Arc<Mutex<Option<Upload>>>,
}

#[napi]
impl NativeUpload {
    /// Takes more of it.
    #[napi]
    pub fn write<'e>(&self, env: &'e Env, bytes: Buffer) -> napi::Result<PromiseRaw<'e, Outcome>> {
        let bytes = Vec::from(bytes);
        self.run(env, move |mut upload, _| async move {
            match upload.write(&bytes).await {
                Ok(()) => (Ok(Value::Null), Some(upload)),
                Err(error) => {
                    upload.abort().await;
                    (Err(error), None)
                }
            }
        })
    }

    /// Keeps it.
    #[napi]
    pub fn finish<'e>(&self, env: &'e Env) -> napi::Result<PromiseRaw<'e, Outcome>> {
        self.run(env, |upload, tutor| async move {
            (upload.finish_for(&tutor).await.and_then(value), None)
        })
    }

    /// Takes nothing of it.
    #[napi]
    pub fn abort<'e>(&self, env: &'e Env) -> napi::Result<PromiseRaw<'e, Outcome>> {
        let upload = Arc::clone(&self.upload);
        promise(env, async move {
            if let Some(upload) = upload.lock().await.take() {
                upload.abort().await;
            }
            Ok(Value::Null)
        })
    }

    fn run<'e, F, W>(&self, env: &'e Env, work: F) -> napi::Result<PromiseRaw<'e, Outcome>>
    where
        F: FnOnce(Upload, Tutor) -> W + Send + 'static,
        W: Future<Output = (Result<Value>, Option<Upload>)> + Send + 'static,
    {
        let (slot, name) = (Arc::clone(&self.slot), self.name.clone());
        let place = Arc::clone(&self.upload);
        promise(env, async move {
            let it = handle(&slot)?;
            let mut place = place.lock().await;
            let upload = match place.take() {
                Some(upload) => upload,
                None => it.files.upload(it.tutor.owner(), name).await?,
            };
            let (result, upload) = work(upload, it.tutor).await;
            *place = upload;
            result
        })
    }
}
