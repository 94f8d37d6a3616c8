//! The laws of stores and providers, for plug-ins that are written in Python.

use std::sync::Arc;
use std::time::Duration;

use pyo3::prelude::*;
use tutor_core::conformance::{Law, PROVIDER_LAWS, RECORD_LAWS, STORE_LAWS};
use tutor_core::provider::Provider;
use tutor_core::{Error, RecordStore, Result, SessionStore};

use crate::call::{Call, Output};
use crate::client::object;
use crate::host::Host;
use crate::open::plugin_provider;
use crate::store::store;

/// How long a law may take.
const PATIENCE: Duration = Duration::from_secs(60);

fn names<T: ?Sized>(laws: &'static [Law<T>]) -> Vec<&'static str> {
    laws.iter().map(|law| law.name).collect()
}

/// The names of the laws of `store`, `records` or `provider`.
#[pyfunction]
pub(crate) fn laws(of: &str) -> Vec<&'static str> {
    match of {
        "store" => names(STORE_LAWS),
        "records" => names(RECORD_LAWS),
        _ => names(PROVIDER_LAWS),
    }
}

async fn check<T: ?Sized + Send + Sync>(
    laws: &'static [Law<T>],
    name: &str,
    plugin: Arc<T>,
) -> Result<Output> {
    let law = laws.iter().find(|law| law.name == name);
    let law = law.ok_or_else(|| Error::invalid_input("there is no law of this name"))?;
    match law.check(plugin, PATIENCE).await {
        Ok(()) => Ok(Output::Nothing),
        Err(broken) => Output::json(&broken),
    }
}

/// Has a plug-in that nobody has used yet keep a law: gives nothing, or in JSON how it breaks it.
#[pyfunction]
pub(crate) fn check_law(
    py: Python<'_>,
    of: &str,
    name: String,
    plugin: Py<PyAny>,
    description: &str,
) -> PyResult<Call> {
    let host = Arc::new(Host::background(py)?);
    let description = match object(description) {
        Ok(description) => description,
        Err(error) => return Ok(Call::failed(error)),
    };
    Ok(match of {
        "store" => Call::new(async move {
            let store: Arc<dyn SessionStore> = Arc::new(store(plugin, &host, description)?);
            check(STORE_LAWS, &name, store).await
        }),
        "records" => Call::new(async move {
            let store: Arc<dyn RecordStore> = Arc::new(store(plugin, &host, description)?);
            check(RECORD_LAWS, &name, store).await
        }),
        _ => Call::new(async move {
            let provider: Arc<dyn Provider> = plugin_provider(plugin, description, &host)?;
            check(PROVIDER_LAWS, &name, provider).await
        }),
    })
}
