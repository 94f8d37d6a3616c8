//! Errors cross as data; the package's `errors.py` makes the exceptions.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use pyo3::exceptions::PyBaseException;
use pyo3::prelude::*;
use serde_json::json;
use tutor_core::{Error, ErrorKind, json as forms};

/// The codes of all kinds of errors.
#[pyfunction]
pub(crate) fn error_codes() -> Vec<&'static str> {
    ErrorKind::ALL.iter().map(|kind| kind.code()).collect()
}

/// An error of the engine. It is returned, not raised.
#[pyclass(frozen, get_all, module = "neuro_tutor._native")]
pub(crate) struct Failure {
    /// A stable snake-case name.
    code: String,
    /// A sentence for people.
    message: String,
    /// True if the same request may succeed later.
    retryable: bool,
    /// Seconds to wait before trying again, if anybody said.
    retry_after: Option<f64>,
    /// Facts: names and values.
    context: Vec<(String, String)>,
    /// The exception of a plug-in that caused it.
    cause: Option<Py<PyBaseException>>,
}

impl Failure {
    pub(crate) fn new(py: Python<'_>, error: &Error) -> Self {
        Self {
            code: error.code().to_owned(),
            message: error.message().to_owned(),
            retryable: error.is_retryable(),
            retry_after: error.retry_after().map(|wait| wait.as_secs_f64()),
            context: error
                .context()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            cause: error
                .source_as::<Raised>()
                .map(|raised| raised.0.clone_ref(py)),
        }
    }
}

/// What is used in a forked child though its parent made it.
pub(crate) fn forked_away() -> Error {
    Error::new(
        ErrorKind::StoreUnavailable,
        "this tutor was opened before the process was forked: open one in the child",
    )
    .with_context("reason", "forked")
}

/// An exception of a plug-in on its way through the engine. It says nothing: its text may be
/// anybody's words.
pub(crate) struct Raised(pub(crate) Py<PyBaseException>);

impl fmt::Debug for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Raised")
    }
}

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an exception was raised in Python")
    }
}

impl std::error::Error for Raised {}

/// What a plug-in's exception is to the engine; `errors.py` decides.
#[derive(FromPyObject)]
pub(crate) struct Described {
    code: String,
    message: String,
    retryable: bool,
    retry_after: Option<f64>,
    context: BTreeMap<String, String>,
}

impl Described {
    pub(crate) fn into_error(self, exception: Py<PyBaseException>) -> Error {
        let wait = self.retry_after.map(Duration::try_from_secs_f64);
        let wait = wait.and_then(Result::ok).map(|wait| wait.as_millis());
        let members = json!({
            "code": self.code,
            "message": self.message,
            "retryable": self.retryable,
            "retry_after_ms": wait.map(|wait| u64::try_from(wait).unwrap_or(u64::MAX)),
            "context": self.context,
        });
        let error = match members {
            serde_json::Value::Object(members) => forms::raised(members),
            _ => None,
        };
        error
            .unwrap_or_else(|| Error::new(ErrorKind::Internal, "a plug-in failed"))
            .with_source(Raised(exception))
    }
}
