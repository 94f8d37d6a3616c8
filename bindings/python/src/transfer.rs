//! Exports and imports, some lines at a time.

use std::sync::Arc;

use pyo3::prelude::*;
use tokio::sync::Mutex;
use tutor_core::store::Store;
use tutor_core::transfer::{Exporter, Importer};
use tutor_core::{Error, OwnerId, Result, json};

use crate::call::{Call, Output};
use crate::client::object;
use crate::failure::forked_away;
use crate::runtime::Owned;

/// An export that is being written.
#[pyclass(frozen, module = "neuro_tutor._native")]
pub(crate) struct Export(Owned<Arc<Mutex<Exporter>>>);

impl Export {
    pub(crate) fn new(owner: &OwnerId, store: Arc<dyn Store>, options: &str) -> Result<Self> {
        let exporter = Exporter::new(store, json::export_options(object(options)?, owner)?);
        Ok(Self(Owned::new(Arc::new(Mutex::new(exporter)))))
    }
}

#[pymethods]
impl Export {
    /// Some more lines; `None` after the last one.
    fn next(&self) -> Call {
        let Some(exporter) = self.0.get().cloned() else {
            return Call::failed(forked_away());
        };
        Call::new(async move {
            let lines = exporter.lock().await.next().await?;
            Ok(lines.map_or(Output::Nothing, Output::Bytes))
        })
    }

    /// What has been written so far.
    fn counts(&self) -> Call {
        let Some(exporter) = self.0.get().cloned() else {
            return Call::failed(forked_away());
        };
        Call::new(async move { Output::json(&exporter.lock().await.counts()) })
    }
}

/// An import that is being made.
#[pyclass(frozen, module = "neuro_tutor._native")]
pub(crate) struct Import(Owned<Arc<Mutex<Option<Importer>>>>);

impl Import {
    pub(crate) fn new(owner: &OwnerId, store: Arc<dyn Store>, options: &str) -> Result<Self> {
        let importer = Importer::new(store, json::import_options(object(options)?, owner)?);
        Ok(Self(Owned::new(Arc::new(Mutex::new(Some(importer))))))
    }
}

fn ended() -> Error {
    Error::invalid_input("this import has ended")
}

#[pymethods]
impl Import {
    /// Takes more bytes of an export.
    #[pyo3(signature = (bytes: "bytes"))]
    fn write(&self, bytes: Vec<u8>) -> Call {
        let Some(importer) = self.0.get().cloned() else {
            return Call::failed(forked_away());
        };
        Call::new(async move {
            let mut importer = importer.lock().await;
            importer.as_mut().ok_or_else(ended)?.write(&bytes).await?;
            Ok(Output::Nothing)
        })
    }

    /// Says that there are no more bytes, and tells what was done.
    fn finish(&self) -> Call {
        let Some(importer) = self.0.get().cloned() else {
            return Call::failed(forked_away());
        };
        Call::new(async move {
            let importer = importer.lock().await.take().ok_or_else(ended)?;
            Output::json(&importer.finish().await?)
        })
    }
}
