//! Tools that a model may ask for, and the form in which it may be told to answer.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::Result;
use crate::id::{SessionId, TurnId};
use crate::provider::RequestContext;

/// A tool as a model is told of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToolSpec {
    /// How the model calls it: 1 to 64 ASCII letters, digits, `_` and `-`. Unique in a request.
    pub name: String,
    /// What it does, for the model.
    #[serde(default)]
    pub description: String,
    /// A JSON Schema of its arguments, which are an object.
    pub parameters: Value,
}

impl ToolSpec {
    /// A tool of this name, described to the model, whose arguments fit this JSON Schema.
    pub fn new(name: impl Into<String>, description: impl Into<String>, parameters: Value) -> Self {
        Self {
            name: name.into(),
            description: description.into(),
            parameters,
        }
    }
}

/// A form that the reply must have: JSON that is valid under a schema.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutputSchema {
    /// What the form is called: 1 to 64 ASCII letters, digits, `_` and `-`.
    pub name: String,
    /// A JSON Schema.
    pub schema: Value,
}

impl OutputSchema {
    /// The form `name`, described by this JSON Schema.
    pub fn new(name: impl Into<String>, schema: Value) -> Self {
        Self {
            name: name.into(),
            schema,
        }
    }
}

/// A function that a model may have called while it answers.
///
/// The engine checks the arguments against the schema first, and bounds the time
/// ([`tool_timeout`](crate::Limits::tool_timeout)) and the size
/// ([`max_tool_result_bytes`](crate::Limits::max_tool_result_bytes)) of an answer. Calls of one
/// round run at the same time. A tool that fails, panics or takes too long is told to the model as
/// a failed call; the turn goes on. Cancelling the turn drops the future of a call.
#[async_trait]
pub trait Tool: fmt::Debug + Send + Sync + 'static {
    /// What the model is told. Read once, when the tool is registered.
    fn spec(&self) -> ToolSpec;

    /// Does the work, and returns what the model is told: a text as a JSON string, or any other
    /// JSON.
    ///
    /// # Errors
    /// Any: its message is told to the model, nothing else of it.
    async fn call(&self, call: ToolCall) -> Result<Value>;
}

/// A tool behind a pointer.
pub type SharedTool = Arc<dyn Tool>;

/// What a model asks a tool.
#[derive(Clone)]
#[non_exhaustive]
pub struct ToolCall {
    /// Pairs the call with its result.
    pub id: String,
    /// The tool's name.
    pub name: String,
    /// A JSON object that is valid under the tool's schema.
    pub arguments: Value,
    /// The conversation in which it is called.
    pub session_id: SessionId,
    /// The turn in which it is called.
    pub turn_id: TurnId,
    /// Owner, deadline and cancellation of the turn.
    pub context: RequestContext,
}

impl ToolCall {
    /// A call outside a turn: for tests of tools.
    pub fn new(
        name: impl Into<String>,
        arguments: Value,
        session: SessionId,
        turn: TurnId,
    ) -> Self {
        Self {
            id: "call".to_owned(),
            name: name.into(),
            arguments,
            session_id: session,
            turn_id: turn,
            context: RequestContext::default(),
        }
    }
}

impl fmt::Debug for ToolCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ToolCall")
            .field("id", &self.id)
            .field("name", &self.name)
            .field("turn_id", &self.turn_id)
            .finish_non_exhaustive()
    }
}

/// A tool made of a function.
///
/// ```
/// use serde_json::json;
/// use tutor_core::{FnTool, ToolSpec};
/// let parameters = json!({"type": "object", "properties": {"n": {"type": "number"}}, "required": ["n"]});
/// let double = FnTool::new(ToolSpec::new("double", "Doubles a number", parameters), async |call| {
///     Ok(json!(call.arguments["n"].as_f64().unwrap_or_default() * 2.0))
/// });
/// ```
pub struct FnTool<F> {
    spec: ToolSpec,
    run: F,
}

impl<F, R> FnTool<F>
where
    F: Fn(ToolCall) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Value>> + Send + 'static,
{
    /// The tool that `spec` describes, answered by `run`.
    pub fn new(spec: ToolSpec, run: F) -> Self {
        Self { spec, run }
    }
}

impl<F> fmt::Debug for FnTool<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FnTool")
            .field("name", &self.spec.name)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl<F, R> Tool for FnTool<F>
where
    F: Fn(ToolCall) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Value>> + Send + 'static,
{
    fn spec(&self) -> ToolSpec {
        self.spec.clone()
    }

    async fn call(&self, call: ToolCall) -> Result<Value> {
        (self.run)(call).await
    }
}
