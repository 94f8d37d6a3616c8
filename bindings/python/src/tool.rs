//! Tools that are functions of Python.

use std::fmt;
use std::sync::Arc;

use pyo3::prelude::*;
use serde_json::Value;
use tutor_core::{Result, Tool, ToolCall, ToolSpec, async_trait, json};

use crate::client::object;
use crate::host::Host;
use crate::plugin::ask;

/// A tool that is a Python object.
pub(crate) struct PythonTool {
    spec: ToolSpec,
    object: Arc<Py<PyAny>>,
    /// Where it runs for requests that do not say.
    host: Arc<Host>,
}

/// Tools, each described in JSON.
pub(crate) fn tools(
    described: Vec<(String, Py<PyAny>)>,
    host: &Arc<Host>,
) -> Result<Vec<PythonTool>> {
    let tools = described.into_iter().map(|(description, tool)| {
        Ok(PythonTool {
            spec: json::tool(object(&description)?)?,
            object: Arc::new(tool),
            host: Arc::clone(host),
        })
    });
    tools.collect()
}

#[async_trait]
impl Tool for PythonTool {
    fn spec(&self) -> ToolSpec {
        self.spec.clone()
    }

    async fn call(&self, call: ToolCall) -> Result<Value> {
        let host = call.context.extensions.get::<Host>();
        let host = host.unwrap_or_else(|| Arc::clone(&self.host));
        let told = json::tool_call(&call).to_string();
        ask(&host, "start_tool", &self.object, told).await
    }
}

impl fmt::Debug for PythonTool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PythonTool")
            .field("spec", &self.spec)
            .finish_non_exhaustive()
    }
}
