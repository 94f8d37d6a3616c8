//! Tools that a model may ask for, and the form in which it may be told to answer.

use serde::{Deserialize, Serialize};
use serde_json::Value;

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

/// A form that the reply must have: JSON that is valid under a schema.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutputSchema {
    /// What the form is called: 1 to 64 ASCII letters, digits, `_` and `-`.
    pub name: String,
    /// A JSON Schema.
    pub schema: Value,
}
