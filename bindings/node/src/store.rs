//! Stores that are written in JavaScript.

use serde_json::{Value, json};
use tutor_core::json::{Foreign, ForeignStore};
use tutor_core::message::Metadata;
use tutor_core::{ErrorKind, Result, async_trait};

use crate::plugin::Bridge;

/// A JavaScript object whose methods are called.
#[derive(Debug)]
pub(crate) struct JsStore {
    /// The number of the function that calls them.
    function: u32,
    bridge: Bridge,
}

/// The store behind a function, as [`ForeignStore::new`] reads its description.
pub(crate) fn store(
    function: u32,
    description: Metadata,
    bridge: Bridge,
) -> Result<ForeignStore<JsStore>> {
    ForeignStore::new(JsStore { function, bridge }, description)
}

#[async_trait]
impl Foreign for JsStore {
    async fn call(&self, method: &'static str, arguments: Vec<Value>) -> Result<Value> {
        let failure = (
            ErrorKind::StoreUnavailable,
            "the store threw an error, which is the cause of this one",
        );
        let arguments: Vec<Value> = arguments.into_iter().map(argument).collect();
        let call = json!({"method": method, "arguments": arguments});
        let answer = self.bridge.ask(self.function, &call, failure).await;
        answer
            .map(untold)
            .map_err(|error| error.with_context("method", method))
    }
}

/// The only member of an object that stands for a number.
const NUMBER: &str = "$number";

/// The greatest whole number up to which JavaScript has all.
const MAX_SAFE: u64 = (1 << 53) - 1;

/// A limit without bound is any that JavaScript can count to.
fn argument(value: Value) -> Value {
    match value.as_u64() {
        Some(limit) => limit.min(MAX_SAFE).into(),
        None => told(value),
    }
}

/// A value as JavaScript can keep it: numbers that it would write differently, such as `1.0` and
/// those beyond 2^53, are objects with their text.
fn told(value: Value) -> Value {
    match value {
        Value::Number(number) => {
            let safe = match (number.as_u64(), number.as_i64()) {
                (Some(whole), _) => whole <= MAX_SAFE,
                (None, Some(whole)) => whole.unsigned_abs() <= MAX_SAFE,
                (None, None) => number.as_f64().is_some_and(|it| it.fract() != 0.0),
            };
            if safe {
                Value::Number(number)
            } else {
                json!({NUMBER: number.to_string()})
            }
        }
        Value::Array(items) => items.into_iter().map(told).collect(),
        Value::Object(members) => {
            let is_like_ours = members.len() == 1 && members.contains_key(NUMBER);
            let members = members.into_iter().map(|(name, value)| {
                let value = told(value);
                (name, if is_like_ours { json!([value]) } else { value })
            });
            Value::Object(members.collect())
        }
        other => other,
    }
}

/// What [`told`] was told.
fn untold(value: Value) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(untold).collect(),
        Value::Object(mut members) if members.len() == 1 && members.contains_key(NUMBER) => {
            match members.remove(NUMBER) {
                Some(Value::String(text)) => serde_json::from_str(&text).unwrap_or(Value::Null),
                Some(Value::Array(mut one)) if one.len() == 1 => {
                    json!({NUMBER: one.pop().map(untold)})
                }
                other => json!({NUMBER: other}),
            }
        }
        Value::Object(members) => members
            .into_iter()
            .map(|(name, value)| (name, untold(value)))
            .collect(),
        other => other,
    }
}
