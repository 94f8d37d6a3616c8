//! Errors, on their way out and from plug-ins in.

use serde_json::{Map, Value, json};

use super::fields::Fields;
use crate::error::{Error, ErrorInfo, ErrorKind, Result};
use crate::message::Metadata;
use crate::provider::fault::is_token;

/// An error: `code`, `message`, `retryable`, `retry_after_ms` if somebody said it, and `context`,
/// an object of texts.
pub fn error(error: &Error) -> Value {
    let mut json = json!(error.info());
    let mut context = Map::new();
    for (name, value) in error.context() {
        // The first one of a name counts, as everywhere.
        context.entry(name).or_insert_with(|| value.into());
    }
    json["context"] = Value::Object(context);
    json
}

/// Facts that a plug-in's error may state: what the laws of stores and providers ask for.
const FACTS: [&str; 13] = [
    "session",
    "message",
    "turn",
    "head",
    "follower",
    "owner",
    "kind",
    "index",
    "field",
    "reason",
    "parent",
    "request_id",
    "status",
];

/// The longest fact that is taken from a plug-in, in bytes.
const MAX_FACT_BYTES: usize = 255;

/// True for what a fact of this name may be. What the other side of a provider calls a request is
/// as strictly an identifier as it is for the built-in ones.
fn is_fact(name: &str, value: &str) -> bool {
    match name {
        "request_id" => is_token(value),
        "status" => value
            .parse()
            .is_ok_and(|status| (100..=599).contains(&status)),
        _ => value.len() <= MAX_FACT_BYTES && value.bytes().all(|b| b.is_ascii_graphic()),
    }
}

/// An error that a plug-in in another language raised on purpose, by a `code` of ours, `message`,
/// and perhaps `retryable`, `retry_after_ms` and `context`, of which the facts are taken that are
/// known here and are identifiers or numbers. `None` for anything else: the message of an exception
/// that is not ours may quote anybody, and is not taken.
pub fn raised(members: Metadata) -> Option<Error> {
    let read = || -> Result<(ErrorInfo, Metadata)> {
        let mut fields = Fields::new("raised error", ErrorKind::Internal, members);
        let info = ErrorInfo {
            code: fields.text("code")?.unwrap_or_default(),
            message: fields.text("message")?.unwrap_or_default(),
            retryable: fields.flag("retryable")?,
            retry_after_ms: fields.count("retry_after_ms")?,
        };
        Ok((info, fields.object("context")?.unwrap_or_default()))
    };
    let (info, context) = read().ok()?;
    ErrorKind::from_code(&info.code)?;
    let facts = FACTS.iter().filter_map(|name| {
        let value = match context.get(*name)? {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => return None,
        };
        is_fact(name, &value).then_some((*name, value))
    });
    let error = Error::from(info);
    Some(facts.fold(error, |error, (name, value)| {
        error.with_context(name, value)
    }))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_error_says_all_that_a_caller_can_act_on() {
        let original = Error::new(ErrorKind::RateLimited, "slow down")
            .retryable(Some(Duration::from_millis(1500)))
            .with_context("provider", "mine")
            .with_context("provider", "theirs");
        let written = error(&original);
        let expected = json!({
            "code": "rate_limited", "message": "slow down", "retryable": true,
            "retry_after_ms": 1500, "context": {"provider": "mine"},
        });
        assert_eq!(written, expected);
        let back = raised(serde_json::from_value(written).unwrap()).unwrap();
        assert_eq!(
            (back.kind(), back.retry()),
            (original.kind(), original.retry())
        );
    }

    #[test]
    fn facts_are_taken_and_sentences_are_not() {
        let raised = raised(
            serde_json::from_value(json!({
                "code": "conflict", "message": "busy",
                "context": {"turn": "t1", "index": 2, "head": "two words", "canary": "x", "owner": null},
            }))
            .unwrap(),
        )
        .unwrap();
        let facts: Vec<_> = raised.context().collect();
        assert_eq!(facts, [("turn", "t1"), ("index", "2")]);
    }

    #[test]
    fn a_provider_s_request_id_and_status_are_taken_if_they_are_such() {
        let facts = |request_id: Value, status: Value| {
            let raised = raised(
                serde_json::from_value(json!({
                    "code": "provider_rejected", "message": "no",
                    "context": {"request_id": request_id, "status": status},
                }))
                .unwrap(),
            );
            let error = raised.unwrap();
            let fact = |name| error.context_value(name).map(str::to_owned);
            (fact("request_id"), fact("status"))
        };
        let both = (Some("req-1".to_owned()), Some("418".to_owned()));
        assert_eq!(facts(json!("req-1"), json!("418")), both);
        assert_eq!(facts(json!("req-1"), json!(418)), both);
        for wrong in [
            json!("the canary's words"),
            json!("canary,sang"),
            json!("sk-canary"),
            json!(""),
            json!("x".repeat(65)),
        ] {
            assert_eq!(facts(wrong.clone(), wrong), (None, None));
        }
        assert_eq!(facts(Value::Null, json!(1000)), (None, None));
    }

    #[test]
    fn an_error_without_a_code_of_ours_is_not_believed() {
        for value in [
            json!({}),
            json!({"code": "ECONNRESET", "message": "canary"}),
            json!({"code": 7, "message": "canary"}),
            json!({"code": "timeout", "message": "m", "retryable": "canary"}),
        ] {
            assert!(raised(serde_json::from_value(value).unwrap()).is_none());
        }
    }
}
