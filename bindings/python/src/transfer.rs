//! Exports and imports, some lines at a time.

use std::sync::Arc;

use pyo3::prelude::*;
use serde::Deserialize;
use tokio::sync::Mutex;
use tutor_core::store::Store;
use tutor_core::time::Timestamp;
use tutor_core::transfer::{ExportOptions, Exporter, ImportOptions, Importer, OnConflict};
use tutor_core::{Error, OwnerId, Result};

use crate::call::{Call, Output};
use crate::failure::forked_away;
use crate::runtime::Owned;

#[derive(Deserialize)]
struct ExportSettings {
    everyone: bool,
    since: Option<Timestamp>,
    skip_damaged: bool,
}

#[derive(Deserialize)]
struct ImportSettings {
    everyone: bool,
    on_conflict: OnConflict,
}

fn settings<T: for<'de> Deserialize<'de>>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|_| {
        Error::invalid_input("everyone is true or false, on_conflict is fail, keep or replace")
    })
}

/// An export that is being written.
#[pyclass(frozen, module = "neuro_tutor._native")]
pub(crate) struct Export(Owned<Arc<Mutex<Exporter>>>);

impl Export {
    pub(crate) fn new(owner: &OwnerId, store: Arc<dyn Store>, options: &str) -> Result<Self> {
        let settings: ExportSettings = settings(options)?;
        let options = ExportOptions {
            owner: (!settings.everyone).then(|| owner.clone()),
            since: settings.since,
            skip_damaged: settings.skip_damaged,
            ..ExportOptions::default()
        };
        let exporter = Exporter::new(store, options);
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
        let settings: ImportSettings = settings(options)?;
        let options = ImportOptions {
            on_conflict: settings.on_conflict,
            owner: (!settings.everyone).then(|| owner.clone()),
        };
        let importer = Importer::new(store, options);
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
