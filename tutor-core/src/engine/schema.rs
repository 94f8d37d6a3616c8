//! JSON Schemas: of the arguments of tools, and of replies.

use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

use crate::error::{Error, ErrorKind, Result};

/// Problems that are told at a time.
const MAX_PROBLEMS: usize = 5;

/// The most bytes of a told problem.
const MAX_PROBLEM_BYTES: usize = 300;

/// The most bytes of a schema, as JSON.
const MAX_SCHEMA_BYTES: usize = 64 << 10;

/// A schema that is ready to check values.
#[derive(Debug)]
pub(crate) struct Schema(Validator);

impl Schema {
    /// Prepares a schema. It may refer to itself, but to nothing outside.
    ///
    /// # Errors
    /// `invalid_input` if it is none, `too_large`.
    pub(crate) fn new(schema: &Value) -> Result<Self> {
        if schema.to_string().len() > MAX_SCHEMA_BYTES {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!("a JSON Schema has at most {MAX_SCHEMA_BYTES} bytes"),
            ));
        }
        // This engine's patterns take linear time, whatever the text.
        jsonschema::options()
            .with_pattern_options(PatternOptions::regex())
            .build(schema)
            .map(Self)
            .map_err(|error| {
                Error::invalid_input(format!(
                    "not a JSON Schema that can be used: {}",
                    shorten(&error.to_string())
                ))
            })
    }

    /// Checks a value. The error is a text for the model: it may quote the value.
    pub(crate) fn check(&self, value: &Value) -> std::result::Result<(), String> {
        let problems: Vec<String> = self
            .0
            .iter_errors(value)
            .take(MAX_PROBLEMS)
            .map(|error| {
                let place = error.instance_path().to_string();
                let place = if place.is_empty() { "/" } else { &place };
                format!("{place}: {}", shorten(&error.to_string()))
            })
            .collect();
        if problems.is_empty() {
            Ok(())
        } else {
            Err(problems.join("; "))
        }
    }
}

fn shorten(text: &str) -> String {
    let mut end = text.len().min(MAX_PROBLEM_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

/// True if a tool or a form may be called so.
pub(crate) fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}
