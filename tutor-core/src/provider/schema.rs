//! What can be said of a JSON Schema without knowing what it is for.

use serde_json::Value;

/// True if a schema can be enforced word by word: every object in it says that it has no other
/// properties, and requires those that it has. Servers refuse to be strict about others.
pub(crate) fn is_strict(schema: &Value) -> bool {
    schema["type"] == "object" && is_closed(schema)
}

fn is_closed(schema: &Value) -> bool {
    match schema {
        Value::Object(fields) => {
            let properties = fields.get("properties").and_then(Value::as_object);
            let is_object = properties.is_some()
                || schema["type"] == "object"
                || schema["type"]
                    .as_array()
                    .is_some_and(|types| types.iter().any(|kind| kind == "object"));
            let required = fields.get("required").and_then(Value::as_array);
            let all_required = properties.is_none_or(|properties| {
                properties.keys().all(|name| {
                    required.is_some_and(|required| required.iter().any(|it| it == name.as_str()))
                })
            });
            let closed = schema["additionalProperties"] == false && all_required;
            (!is_object || closed)
                && fields.iter().all(|(key, value)| match key.as_str() {
                    // Names of properties, not keywords.
                    "properties" | "$defs" | "definitions" => value
                        .as_object()
                        .is_some_and(|named| named.values().all(is_closed)),
                    "enum" | "const" | "default" | "examples" => true,
                    _ => is_closed(value),
                })
        }
        Value::Array(items) => items.iter().all(is_closed),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_schema_is_strict_if_every_object_in_it_is_closed_and_whole() {
        let closed = json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": false});
        assert!(is_strict(&closed));
        let mut open = closed.clone();
        open["additionalProperties"] = json!(true);
        assert!(!is_strict(&open));
        let mut optional = closed.clone();
        optional["required"] = json!([]);
        assert!(!is_strict(&optional));
        let around = |inner: &Value| json!({"type": "object", "properties": {"list": {"type": "array", "items": inner}}, "required": ["list"], "additionalProperties": false});
        assert!(is_strict(&around(&closed)));
        assert!(!is_strict(&around(&open)));
        let defined = json!({"type": "object", "properties": {}, "additionalProperties": false, "$defs": {"x": optional}});
        assert!(!is_strict(&defined));
        assert!(!is_strict(&json!({"type": "array", "items": closed})));
        assert!(!is_strict(&json!({})));
        assert!(!is_strict(&json!(true)));
    }
}
