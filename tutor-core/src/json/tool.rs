//! Tools that are functions in another language.

use serde_json::{Value, json};
use tokio::time::Instant;

use super::fields::Fields;
use crate::error::{Error, ErrorKind, Result};
use crate::message::Metadata;
use crate::tool::{ToolCall, ToolSpec};

/// A tool as a model is told of it, from `name`, `description` (empty if absent) and `parameters`
/// (a JSON Schema of its arguments; one without any if absent). With
/// [`FnTool`](crate::FnTool) and a function that asks the other language it becomes a tool.
///
/// # Errors
/// `invalid_input`, naming the member.
pub fn tool(members: Metadata) -> Result<ToolSpec> {
    let mut fields = Fields::new("tool", ErrorKind::InvalidInput, members);
    let name = fields.text("name")?.ok_or_else(|| {
        Error::invalid_input("a tool needs a name: 1 to 64 ASCII letters, digits, _ and -")
            .with_context("field", "name")
    })?;
    let description = fields.text("description")?.unwrap_or_default();
    let parameters = fields.object("parameters")?.map_or_else(
        || json!({"type": "object", "properties": {}, "additionalProperties": false}),
        Value::Object,
    );
    fields.end()?;
    Ok(ToolSpec::new(name, description, parameters))
}

/// A call as the function is told of it: `id`, `name`, `arguments` (an object that is valid under
/// the tool's schema), `session_id`, `turn_id`, `owner`, and `timeout`, the seconds that are left
/// of the turn or `null`.
///
/// What the function returns is the answer, any JSON. If it fails with an error that
/// [`raised`](super::raised) knows, the model is told its message.
pub fn tool_call(call: &ToolCall) -> Value {
    let timeout = call
        .context
        .deadline
        .map(|deadline| deadline.saturating_duration_since(Instant::now()));
    json!({
        "id": call.id,
        "name": call.name,
        "arguments": call.arguments,
        "session_id": call.session_id,
        "turn_id": call.turn_id,
        "owner": call.context.owner,
        "timeout": timeout.map(|timeout| timeout.as_secs_f64()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{SessionId, TurnId};

    fn map(value: Value) -> Metadata {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_tool_has_a_name_and_takes_nothing_unless_it_says_so() {
        let spec = tool(map(json!({"name": "now"}))).unwrap();
        assert_eq!((spec.name.as_str(), spec.description.as_str()), ("now", ""));
        assert_eq!(spec.parameters["type"], "object");
        let schema = json!({"type": "object", "properties": {"n": {"type": "number"}}});
        let told = json!({"name": "double", "description": "Doubles", "parameters": schema});
        assert_eq!(
            tool(map(told)).unwrap(),
            ToolSpec::new("double", "Doubles", schema)
        );
    }

    #[test]
    fn a_wrong_member_is_named_and_not_quoted() {
        for (value, field) in [
            (json!({}), "name"),
            (json!({"name": 5}), "name"),
            (json!({"name": "n", "parameters": "canary"}), "parameters"),
            (json!({"name": "n", "parametres": "canary"}), "parametres"),
        ] {
            let error = tool(map(value)).unwrap_err();
            assert_eq!(error.context_value("field"), Some(field));
            assert!(!format!("{error:?}").contains("canary"));
        }
    }

    #[test]
    fn a_call_says_what_is_called_where_and_for_whom() {
        let (session, turn) = (SessionId::new("s").unwrap(), TurnId::new("t").unwrap());
        let told = tool_call(&ToolCall::new("double", json!({"n": 2}), session, turn));
        let expected = json!({
            "id": "call", "name": "double", "arguments": {"n": 2}, "session_id": "s",
            "turn_id": "t", "owner": "local", "timeout": null,
        });
        assert_eq!(told, expected);
    }
}
