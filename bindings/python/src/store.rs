//! Stores that are objects of Python.

use std::fmt;
use std::sync::Arc;

use pyo3::prelude::*;
use serde_json::{Value, json};
use tutor_core::json::{Foreign, ForeignStore};
use tutor_core::message::Metadata;
use tutor_core::{Result, async_trait};

use crate::host::Host;
use crate::plugin::ask;

/// A Python object whose methods are called.
pub(crate) struct PythonObject {
    object: Arc<Py<PyAny>>,
    host: Arc<Host>,
}

/// The store that is this object.
pub(crate) fn store(
    object: Py<PyAny>,
    host: &Arc<Host>,
    description: Metadata,
) -> Result<ForeignStore<PythonObject>> {
    let object = PythonObject {
        object: Arc::new(object),
        host: Arc::clone(host),
    };
    ForeignStore::new(object, description)
}

#[async_trait]
impl Foreign for PythonObject {
    async fn call(&self, method: &'static str, arguments: Vec<Value>) -> Result<Value> {
        let told = json!({"method": method, "arguments": arguments}).to_string();
        ask(&self.host, "start_store", &self.object, told).await
    }
}

impl fmt::Debug for PythonObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PythonObject")
    }
}
