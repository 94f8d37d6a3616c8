//! Tools that are written in JavaScript.

use serde_json::Value;
use tutor_core::{Error, ErrorKind, Result, Tool, ToolCall, ToolSpec, async_trait, json};

use crate::plugin::Bridge;

/// A tool that is a JavaScript function.
#[derive(Debug)]
pub(crate) struct JsTool {
    /// The function's number.
    function: u32,
    spec: ToolSpec,
    bridge: Bridge,
}

/// The tool that `described` describes as [`json::tool`] reads it.
pub(crate) fn tool(function: u32, described: Value, bridge: Bridge) -> Result<JsTool> {
    let Value::Object(described) = described else {
        return Err(Error::new(ErrorKind::Config, "a tool is an object"));
    };
    let spec = json::tool(described)?;
    Ok(JsTool {
        function,
        spec,
        bridge,
    })
}

#[async_trait]
impl Tool for JsTool {
    fn spec(&self) -> ToolSpec {
        self.spec.clone()
    }

    async fn call(&self, call: ToolCall) -> Result<Value> {
        let failure = (ErrorKind::Internal, "the tool failed");
        let told = json::tool_call(&call);
        self.bridge.ask(self.function, &told, failure).await
    }
}
