//! Replies of a form: JSON that is valid under a schema.

use serde_json::Value;

use super::schema::{Schema, is_name};
use crate::error::{Error, ErrorKind, Result};
use crate::message::{Content, Part};
use crate::tool::OutputSchema;

/// The form that a reply must have, ready to check it.
#[derive(Debug)]
pub(crate) struct Form(Schema);

impl Form {
    /// Prepares the check.
    ///
    /// # Errors
    /// `invalid_input` for a name or schema that is none.
    pub(crate) fn new(output: &OutputSchema) -> Result<Self> {
        let refused = |error: Error| error.with_context("field", "output");
        if !is_name(&output.name) {
            return Err(refused(Error::invalid_input(
                "the name of an output has 1 to 64 ASCII letters, digits, _ and -",
            )));
        }
        Schema::new(&output.schema).map(Self).map_err(refused)
    }

    /// Checks a reply's text. The error is a text for the model.
    pub(crate) fn check(&self, text: &str) -> std::result::Result<(), String> {
        let value: Value = serde_json::from_str(bare(text))
            .map_err(|error| format!("the reply is not JSON: {error}"))?;
        self.0.check(&value)
    }
}

/// What the model is told to do better.
pub(crate) fn repair_prompt(why: &str) -> String {
    format!(
        "Your reply does not have the form that was asked for: {why}\n\
         Reply again, with nothing but JSON that is valid under the schema."
    )
}

/// What ends a turn whose reply did not become valid.
pub(crate) fn invalid() -> Error {
    Error::new(
        ErrorKind::ProviderRejected,
        "the model's reply does not have the form that was asked for, and asking again did not help",
    )
    .retryable(None)
    .with_context("reason", "invalid_output")
}

/// The value that a reply is: its last text, as JSON. `None` if it is no JSON.
pub(crate) fn value(content: &Content) -> Option<Value> {
    let text = match content {
        Content::Text(text) => text,
        Content::Parts(parts) => parts.iter().rev().find_map(Part::as_text)?,
    };
    serde_json::from_str(bare(text)).ok()
}

/// The text without the fence that models like to put around JSON.
fn bare(text: &str) -> &str {
    let text = text.trim();
    let fenced = text
        .strip_prefix("```")
        .and_then(|rest| rest.strip_suffix("```"));
    match fenced {
        Some(inner) => inner.strip_prefix("json").unwrap_or(inner).trim(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_is_found_with_and_without_a_fence_and_checked() {
        let schema =
            json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]});
        let form = Form::new(&OutputSchema::new("count", schema)).unwrap();
        for text in [
            r#"{"n": 1}"#,
            "```json\n{\"n\": 1}\n```",
            "```\n{\"n\":1}```",
        ] {
            form.check(text).unwrap();
            assert_eq!(value(&text.into()), Some(json!({"n": 1})));
        }
        assert!(form.check("n is 1").unwrap_err().contains("not JSON"));
        assert!(form.check(r#"{"n": "1"}"#).unwrap_err().contains("/n"));
        assert!(form.check(r"{}").is_err());
    }

    #[test]
    fn what_is_no_schema_is_refused() {
        for (name, schema) in [
            ("a b", json!({})),
            ("", json!({})),
            ("a", json!({"type": "nothing"})),
            ("a", json!({"$ref": "https://a.example/schema"})),
            ("a", json!({"pattern": "("})),
        ] {
            let refused = Form::new(&OutputSchema::new(name, schema.clone()));
            assert_eq!(
                refused.unwrap_err().kind(),
                ErrorKind::InvalidInput,
                "{schema}"
            );
        }
    }
}
