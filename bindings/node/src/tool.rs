//! Tools that are written in JavaScript.

use std::sync::Arc;

use serde_json::Value;
use tutor_core::tool::SharedTool;
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

/// Tools of one request, as an array of objects that [`json::tool`] reads, each with its `function`.
///
/// JavaScript forgets the functions when the tools are dropped.
pub(crate) fn tools(described: &str, bridge: &Bridge) -> Result<Vec<SharedTool>> {
    let described: Vec<Value> = serde_json::from_str(described)
        .map_err(|_| Error::internal("tools are an array of objects"))?;
    // All of them first, so that all are forgotten if one is wrong.
    let functions: Vec<Function> = described
        .iter()
        .filter_map(|tool| u32::try_from(tool.get("function")?.as_u64()?).ok())
        .map(|number| Function {
            number,
            bridge: bridge.clone(),
        })
        .collect();
    functions
        .into_iter()
        .zip(described)
        .map(|(function, mut described)| {
            if let Value::Object(members) = &mut described {
                members.remove("function");
            }
            let tool = tool(function.number, described, bridge.clone())
                .map_err(|error| Error::invalid_input(error.message().to_owned()))?;
            Ok(Arc::new(OfRequest {
                tool,
                _function: function,
            }) as SharedTool)
        })
        .collect()
}

/// A function that JavaScript keeps until this is dropped.
#[derive(Debug)]
struct Function {
    number: u32,
    bridge: Bridge,
}

impl Drop for Function {
    fn drop(&mut self) {
        self.bridge.forget(self.number);
    }
}

/// A tool of one request.
#[derive(Debug)]
struct OfRequest {
    tool: JsTool,
    _function: Function,
}

#[async_trait]
impl Tool for OfRequest {
    fn spec(&self) -> ToolSpec {
        self.tool.spec()
    }

    async fn call(&self, call: ToolCall) -> Result<Value> {
        self.tool.call(call).await
    }
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
