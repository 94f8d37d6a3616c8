//! Uploaded files of one owner.

use std::sync::Arc;

use pyo3::prelude::*;
use tokio::sync::Mutex;
use tutor_core::file::{FilePlace, Upload};
use tutor_core::session::Cursor;
use tutor_core::{Error, Result, Tutor};

use crate::call::{Call, Output};
use crate::failure::forked_away;
use crate::runtime::Owned;

/// The files of a handle's owner.
#[pyclass(frozen, module = "neuro_tutor._native")]
pub(crate) struct Files {
    parts: Option<Owned<(Tutor, FilePlace)>>,
}

impl Files {
    /// Of nobody in a forked child.
    pub(crate) fn new(parts: Option<(Tutor, FilePlace)>) -> Self {
        Self {
            parts: parts.map(Owned::new),
        }
    }

    fn call<F>(&self, work: impl FnOnce(Tutor, FilePlace) -> F) -> Call
    where
        F: Future<Output = Result<Output>> + Send + 'static,
    {
        match self.parts.as_ref().and_then(Owned::get) {
            Some((tutor, place)) => Call::new(work(tutor.clone(), place.clone())),
            None => Call::failed(forked_away()),
        }
    }
}

#[pymethods]
impl Files {
    /// A page of files.
    #[pyo3(signature = (limit, cursor=None))]
    fn list(&self, limit: usize, cursor: Option<String>) -> Call {
        self.call(|tutor, place| async move {
            let cursor = cursor.map(Cursor::from_text);
            Output::json(&place.list(tutor.owner(), limit, cursor).await?)
        })
    }

    /// A file.
    fn info(&self, id: String) -> Call {
        self.call(
            |tutor, place| async move { Output::json(&place.info(tutor.owner(), &id).await?) },
        )
    }

    /// The bytes of a file.
    fn read(&self, id: String) -> Call {
        self.call(
            |tutor, place| async move { Ok(Output::Bytes(place.read(tutor.owner(), &id).await?)) },
        )
    }

    /// Deletes a file; false if there was none.
    fn delete(&self, id: String) -> Call {
        self.call(|tutor, place| async move {
            Ok(Output::Flag(place.delete(tutor.owner(), &id).await?))
        })
    }

    /// Begins to take a file: an `Incoming`.
    #[pyo3(signature = (name=None))]
    fn upload(&self, name: Option<String>) -> Call {
        self.call(|tutor, place| async move {
            let upload = place.upload(tutor.owner(), name).await?;
            Ok(Output::Incoming(Box::new(Incoming::new(tutor, upload))))
        })
    }
}

/// A file that is being taken. Dropping it takes nothing.
#[pyclass(frozen, module = "neuro_tutor._native")]
pub(crate) struct Incoming {
    tutor: Owned<Tutor>,
    upload: Owned<Arc<Mutex<Option<Upload>>>>,
}

impl Incoming {
    fn new(tutor: Tutor, upload: Upload) -> Self {
        Self {
            tutor: Owned::new(tutor),
            upload: Owned::new(Arc::new(Mutex::new(Some(upload)))),
        }
    }

    fn call<F>(&self, work: impl FnOnce(Tutor, Arc<Mutex<Option<Upload>>>) -> F) -> Call
    where
        F: Future<Output = Result<Output>> + Send + 'static,
    {
        match self.tutor.get().zip(self.upload.get()) {
            Some((tutor, upload)) => Call::new(work(tutor.clone(), Arc::clone(upload))),
            None => Call::failed(forked_away()),
        }
    }
}

fn ended() -> Error {
    Error::invalid_input("this upload has ended")
}

#[pymethods]
impl Incoming {
    /// Takes more bytes. What fails here takes nothing.
    #[pyo3(signature = (bytes: "bytes"))]
    fn write(&self, bytes: Vec<u8>) -> Call {
        self.call(|_, upload| async move {
            let mut slot = upload.lock().await;
            let mut open = slot.take().ok_or_else(ended)?;
            match open.write(&bytes).await {
                Ok(()) => {
                    *slot = Some(open);
                    Ok(Output::Nothing)
                }
                Err(error) => {
                    open.abort().await;
                    Err(error)
                }
            }
        })
    }

    /// Keeps the file and tells of it.
    fn finish(&self) -> Call {
        self.call(|tutor, upload| async move {
            let upload = upload.lock().await.take().ok_or_else(ended)?;
            Output::json(&upload.finish_for(&tutor).await?)
        })
    }

    /// Takes nothing of it. Idempotent.
    fn abort(&self) -> Call {
        self.call(|_, upload| async move {
            if let Some(upload) = upload.lock().await.take() {
                upload.abort().await;
            }
            Ok(Output::Nothing)
        })
    }
}
