//! Exports and imports, a piece at a time.

use std::sync::Arc;

use napi::bindgen_prelude::{Buffer, Env, PromiseRaw};
use napi_derive::napi;
use serde_json::Value;
use tokio::sync::Mutex;
use tutor_core::transfer::{Exporter, Importer};
use tutor_core::{Result, json};

use crate::data::{NativeError, Outcome, object, promise, value};
use crate::open::Opened;
use crate::tutor::{Slot, handle};

/// Some lines of an export.
#[napi(object)]
pub struct Lines {
    /// Absent at the end.
    pub bytes: Option<Buffer>,
    /// What went wrong.
    pub error: Option<NativeError>,
}

/// An export, which begins when its first lines are asked for.
#[napi]
pub struct NativeExport {
    slot: Slot,
    options: String,
    exporter: Arc<Mutex<Option<Exporter>>>,
}

#[napi]
impl NativeExport {
    pub(crate) fn new(slot: Slot, options: String) -> Self {
        Self {
            slot,
            options,
            exporter: Arc::default(),
        }
    }

    /// Some more lines.
    #[napi]
    pub fn next<'e>(&self, env: &'e Env) -> napi::Result<PromiseRaw<'e, Lines>> {
        let (slot, options) = (Slot::clone(&self.slot), self.options.clone());
        let exporter = Arc::clone(&self.exporter);
        let work = async move {
            let mut exporter = exporter.lock().await;
            let exporter = match &mut *exporter {
                Some(exporter) => exporter,
                None => {
                    let Opened { tutor, store, .. } = handle(&slot)?;
                    let options = json::export_options(object(&options)?, tutor.owner())?;
                    exporter.insert(Exporter::new(store, options))
                }
            };
            exporter.next().await
        };
        env.spawn_future(async move {
            Ok(match work.await {
                Ok(bytes) => Lines {
                    bytes: bytes.map(Buffer::from),
                    error: None,
                },
                Err(error) => Lines {
                    bytes: None,
                    error: Some(error.into()),
                },
            })
        })
    }
}

/// An import.
#[napi]
pub struct NativeImport {
    slot: Slot,
    options: String,
    importer: Arc<Mutex<Option<Importer>>>,
}

#[napi]
impl NativeImport {
    pub(crate) fn new(slot: Slot, options: String) -> Self {
        Self {
            slot,
            options,
            importer: Arc::default(),
        }
    }

    /// Takes more bytes.
    #[napi]
    pub fn write<'e>(&self, env: &'e Env, bytes: Buffer) -> napi::Result<PromiseRaw<'e, Outcome>> {
        let bytes = Vec::from(bytes);
        self.run(env, move |mut importer| async move {
            let written = importer.write(&bytes).await;
            (written.map(|()| Value::Null), Some(importer))
        })
    }

    /// There are no more bytes.
    #[napi]
    pub fn finish<'e>(&self, env: &'e Env) -> napi::Result<PromiseRaw<'e, Outcome>> {
        self.run(env, |importer| async move {
            let done = importer.finish().await.and_then(value);
            (done, None)
        })
    }

    fn run<'e, F, W>(&self, env: &'e Env, work: F) -> napi::Result<PromiseRaw<'e, Outcome>>
    where
        F: FnOnce(Importer) -> W + Send + 'static,
        W: Future<Output = (Result<Value>, Option<Importer>)> + Send + 'static,
    {
        let (slot, options) = (Slot::clone(&self.slot), self.options.clone());
        let place = Arc::clone(&self.importer);
        promise(env, async move {
            let mut place = place.lock().await;
            let importer = match place.take() {
                Some(importer) => importer,
                None => {
                    let Opened { tutor, store, .. } = handle(&slot)?;
                    Importer::new(
                        store,
                        json::import_options(object(&options)?, tutor.owner())?,
                    )
                }
            };
            let (result, importer) = work(importer).await;
            *place = importer;
            result
        })
    }
}
