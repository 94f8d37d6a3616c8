//! Results and errors as data.

use std::error::Error as StdError;
use std::fmt;

use napi::bindgen_prelude::{Env, PromiseRaw};
use napi_derive::napi;
use serde_json::Value;
use tutor_core::message::Metadata;
use tutor_core::{Error, Result, json};

/// An error, to be thrown by the TypeScript side.
#[napi(object)]
pub struct NativeError {
    /// The error as JSON: `code`, `message`, `retryable`, `retry_after_ms`, `context`.
    pub json: String,
    /// The number of the JavaScript exception that caused it.
    pub cause: Option<u32>,
}

impl From<Error> for NativeError {
    fn from(error: Error) -> Self {
        Self {
            json: json::error(&error).to_string(),
            cause: error.source_as::<JsCause>().map(|cause| cause.0),
        }
    }
}

/// What a call came to: exactly one of the two.
#[napi(object)]
pub struct Outcome {
    /// The result as JSON.
    pub value: Option<String>,
    /// What went wrong.
    pub error: Option<NativeError>,
}

impl From<Result<Value>> for Outcome {
    fn from(result: Result<Value>) -> Self {
        match result {
            Ok(value) => Self {
                value: Some(value.to_string()),
                error: None,
            },
            Err(error) => Self {
                value: None,
                error: Some(error.into()),
            },
        }
    }
}

/// The promise of an outcome. `work` owns all that it needs.
pub(crate) fn promise<'e>(
    env: &'e Env,
    work: impl Future<Output = Result<Value>> + Send + 'static,
) -> napi::Result<PromiseRaw<'e, Outcome>> {
    env.spawn_future(async move { Ok(Outcome::from(work.await)) })
}

/// Reads an object that the TypeScript side wrote.
pub(crate) fn object(text: &str) -> Result<Metadata> {
    // The text is the output of `JSON.stringify`; what can be wrong is what it was given.
    serde_json::from_str(text)
        .map_err(|_| Error::invalid_input("options are an object of plain values"))
}

/// Makes JSON of what serializes.
pub(crate) fn value(value: impl serde::Serialize) -> Result<Value> {
    serde_json::to_value(value)
        .map_err(|error| Error::internal("a result cannot be written as JSON").with_source(error))
}

/// A JavaScript exception, by the number under which the TypeScript side keeps it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct JsCause(pub(crate) u32);

impl fmt::Display for JsCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JavaScript exception number {}", self.0)
    }
}

impl StdError for JsCause {}
