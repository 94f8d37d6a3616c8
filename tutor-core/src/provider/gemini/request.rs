//! The body of a `generateContent` request.

use serde_json::{Map, Value, json};

use super::stream::PROTOCOL;
use crate::event::Notice;
use crate::message::{Part, Role};
use crate::provider::abilities::{gemini_combines_schema_and_tools, gemini_takes_temperature};
use crate::provider::attachment::{Image, placeholder};
use crate::provider::calls::OWN_ID;
use crate::provider::prompt::{
    alternating, arguments_object, no_temperature, parts, replay, result_object, schema_in_words,
};
use crate::provider::{CompletionRequest, PromptMessage};
use crate::tool::OutputSchema;

/// The body that asks for `request`, and what of it could not be asked for.
pub(crate) fn body(request: &CompletionRequest) -> (Vec<u8>, Vec<Notice>) {
    let mut notices = Vec::new();
    let mut body = Map::new();
    let text = |text: &str| json!({"text": text});
    let mut system = request
        .system
        .as_deref()
        .unwrap_or_default()
        .trim()
        .to_owned();
    let mut schema = request.output.as_ref();
    if !request.tools.is_empty() && !gemini_combines_schema_and_tools(&request.model) {
        let told = schema
            .take()
            .map(|output| schema_in_words(output, &mut notices));
        system = [system, told.unwrap_or_default()].join("\n\n");
    }
    let system = system.trim();
    if !system.is_empty() {
        body.insert(
            "systemInstruction".to_owned(),
            json!({"parts": [text(system)]}),
        );
    }
    let contents: Value = alternating(request, text, |said| pieces(said, &mut notices))
        .into_iter()
        .map(|(role, mut parts)| {
            parts.sort_by_key(|part| part.get("functionResponse").is_none());
            let role = match role {
                Role::Assistant => "model",
                Role::User | Role::System => "user",
            };
            json!({"role": role, "parts": parts})
        })
        .collect();
    body.insert("contents".to_owned(), contents);
    if !request.tools.is_empty() {
        let declared: Value = request
            .tools
            .iter()
            .map(|tool| {
                json!({
                    "name": tool.name,
                    "description": tool.description,
                    "parametersJsonSchema": tool.parameters,
                })
            })
            .collect();
        body.insert(
            "tools".to_owned(),
            json!([{"functionDeclarations": declared}]),
        );
    }
    let config = generation(request, schema, &mut notices);
    if !config.is_empty() {
        body.insert("generationConfig".to_owned(), Value::Object(config));
    }
    (Value::Object(body).to_string().into_bytes(), notices)
}

fn generation(
    request: &CompletionRequest,
    schema: Option<&OutputSchema>,
    notices: &mut Vec<Notice>,
) -> Map<String, Value> {
    let mut config = Map::new();
    if let Some(limit) = request.max_tokens {
        config.insert("maxOutputTokens".to_owned(), json!(limit));
    }
    match request.temperature {
        Some(temperature) if gemini_takes_temperature(&request.model) => {
            config.insert("temperature".to_owned(), json!(temperature));
        }
        Some(_) => notices.push(no_temperature()),
        None => {}
    }
    if let Some(output) = schema {
        config.insert("responseMimeType".to_owned(), json!("application/json"));
        config.insert("responseJsonSchema".to_owned(), output.schema.clone());
    }
    config
}

fn pieces(said: &PromptMessage, notices: &mut Vec<Notice>) -> Vec<Value> {
    let parts = parts(&said.content);
    let signatures = replay(&parts, PROTOCOL);
    parts
        .iter()
        .filter_map(|part| piece(part, signatures, notices))
        .collect()
}

fn piece(part: &Part, signatures: Option<&Value>, notices: &mut Vec<Notice>) -> Option<Value> {
    let text = |text: &str| (!text.trim().is_empty()).then(|| json!({"text": text}));
    match part {
        Part::Text { text: said } => text(said),
        Part::Image { url, media_type } => Some(image(url, media_type.as_deref())),
        Part::File { name, .. } => text(&placeholder(name.as_deref(), notices)),
        Part::ToolCall {
            call_id,
            name,
            arguments,
        } => {
            let mut call = json!({"name": name, "args": arguments_object(arguments)});
            add_id(&mut call, call_id);
            let mut piece = json!({"functionCall": call});
            if let Some(signature) = signatures.and_then(|signatures| signatures.get(call_id)) {
                piece["thoughtSignature"] = signature.clone();
            }
            Some(piece)
        }
        Part::ToolResult {
            call_id,
            name,
            result,
            is_error,
        } => {
            let response = result_object(result, *is_error);
            let mut answer = json!({"name": name, "response": response});
            add_id(&mut answer, call_id);
            Some(json!({"functionResponse": answer}))
        }
        Part::Replay { .. } => None,
    }
}

/// Ids that stand for missing ones are nothing to the other side: there the order counts.
fn add_id(to: &mut Value, id: &str) {
    let own = id
        .strip_prefix(OWN_ID)
        .is_some_and(|number| number.bytes().all(|b| b.is_ascii_digit()));
    if !own {
        to["id"] = json!(id);
    }
}

fn image(url: &str, media_type: Option<&str>) -> Value {
    match Image::of(url, media_type) {
        Image::Embedded(media, data) => json!({"inlineData": {"mimeType": media, "data": data}}),
        Image::Linked(known, url) => {
            let media = media_type.or(known).unwrap_or("image/jpeg");
            json!({"fileData": {"mimeType": media, "fileUri": url}})
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Content;
    use crate::tool::ToolSpec;

    fn sent(request: &CompletionRequest) -> (Value, Vec<Notice>) {
        let (body, notices) = body(request);
        (serde_json::from_slice(&body).unwrap(), notices)
    }

    #[test]
    fn nothing_is_sent_that_was_not_set() {
        let (body, _) = sent(&CompletionRequest::new("gemini-3.8-flash", "Why?"));
        assert_eq!(
            body,
            json!({"contents": [{"role": "user", "parts": [{"text": "Why?"}]}]})
        );
    }

    #[test]
    fn preferences_and_schemas_are_sent_where_the_model_takes_them() {
        let mut request = CompletionRequest::new("gemini-2.5-flash", "Why?");
        request.system = Some("Be brief.".to_owned());
        request.max_tokens = Some(7);
        request.temperature = Some(0.5);
        request.output = Some(OutputSchema {
            name: "x".to_owned(),
            schema: json!({"type": "object"}),
        });
        let (body, notices) = sent(&request);
        assert_eq!(
            body["systemInstruction"],
            json!({"parts": [{"text": "Be brief."}]})
        );
        assert_eq!(
            body["generationConfig"],
            json!({
                "maxOutputTokens": 7,
                "temperature": 0.5,
                "responseMimeType": "application/json",
                "responseJsonSchema": {"type": "object"},
            })
        );
        assert_eq!(notices, []);
        request.model = "gemini-3.8-flash".to_owned();
        let (body, notices) = sent(&request);
        assert_eq!(body["generationConfig"].get("temperature"), None);
        assert_eq!(notices[0].code, "preference_ignored");
    }

    #[test]
    fn a_model_that_takes_no_schema_beside_tools_is_told_the_schema() {
        let mut request = CompletionRequest::new("gemini-2.5-flash", "Why?");
        request.system = Some("Be brief.".to_owned());
        request.output = Some(OutputSchema {
            name: "x".to_owned(),
            schema: json!({"type": "object"}),
        });
        request.tools = vec![ToolSpec {
            name: "plot".to_owned(),
            description: "Plots.".to_owned(),
            parameters: json!({"type": "object"}),
        }];
        let (body, notices) = sent(&request);
        assert_eq!(body.get("generationConfig"), None);
        let system = body["systemInstruction"]["parts"][0]["text"]
            .as_str()
            .unwrap();
        assert!(
            system.starts_with("Be brief.\n\nAnswer with JSON"),
            "{system}"
        );
        assert!(system.ends_with(r#"{"type":"object"}"#), "{system}");
        assert_eq!(notices[0].code, "schema_not_enforced");
        // Newer ones take both.
        request.model = "gemini-3.8-flash".to_owned();
        let (body, notices) = sent(&request);
        let schema = &body["generationConfig"]["responseJsonSchema"];
        assert_eq!(schema, &json!({"type": "object"}));
        assert!(body.get("tools").is_some());
        assert_eq!(notices, []);
    }

    #[test]
    fn calls_carry_their_signatures_and_results_their_names() {
        let image = Part::Image {
            url: "data:image/png;base64,AA".to_owned(),
            media_type: None,
        };
        let mut request = CompletionRequest::new("gemini-3.8-flash", Content::Parts(vec![image]));
        let call = |id: &str| Part::ToolCall {
            call_id: id.to_owned(),
            name: "plot".to_owned(),
            arguments: json!({"x": 1}),
        };
        let result = |id: &str, result: Value, is_error| Part::ToolResult {
            call_id: id.to_owned(),
            name: "plot".to_owned(),
            result,
            is_error,
        };
        let signed = Part::Replay {
            protocol: PROTOCOL.to_owned(),
            data: json!({"call_0": "S"}),
        };
        let messages = [
            (Role::Assistant, vec![signed, call("call_0"), call("own")]),
            (
                Role::User,
                vec![
                    Part::Text {
                        text: "Go on.".to_owned(),
                    },
                    result("call_0", json!("done"), false),
                    result("own", json!("broken"), true),
                ],
            ),
        ];
        for (role, parts) in messages {
            request.messages.push(PromptMessage {
                role,
                content: Content::Parts(parts),
            });
        }
        request.tools = vec![ToolSpec {
            name: "plot".to_owned(),
            description: "Plots.".to_owned(),
            parameters: json!({"type": "object"}),
        }];
        let (body, _) = sent(&request);
        assert_eq!(
            body["contents"],
            json!([
                {"role": "user", "parts": [{"inlineData": {"mimeType": "image/png", "data": "AA"}}]},
                {"role": "model", "parts": [
                    {"functionCall": {"name": "plot", "args": {"x": 1}}, "thoughtSignature": "S"},
                    {"functionCall": {"name": "plot", "args": {"x": 1}, "id": "own"}},
                ]},
                {"role": "user", "parts": [
                    {"functionResponse": {"name": "plot", "response": {"result": "done"}}},
                    {"functionResponse": {"name": "plot", "response": {"error": "broken"}, "id": "own"}},
                    {"text": "Go on."},
                ]},
            ])
        );
        let declared = json!({"name": "plot", "description": "Plots.", "parametersJsonSchema": {"type": "object"}});
        assert_eq!(body["tools"], json!([{"functionDeclarations": [declared]}]));
    }
}
