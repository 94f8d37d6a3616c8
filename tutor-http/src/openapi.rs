//! The description of the API: what the routes say of themselves, and what is true of all of them.

use serde::Serialize;
use serde_json::Value;
use utoipa::openapi::link::LinkBuilder;
use utoipa::openapi::path::{Operation, Parameter};
use utoipa::openapi::schema::{AdditionalProperties, Object, Schema, SchemaType, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ContentBuilder, InfoBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, ResponseBuilder,
};
use utoipa::{PartialSchema, ToSchema};

use crate::error::dialect::Dialect;

/// The description that the routes are added to.
pub(crate) fn base() -> OpenApi {
    let info = InfoBuilder::new()
        .title("Neuro Tutor API")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "Conversations with a tutor: durable, and streamed as they are written.",
        ))
        .build();
    OpenApiBuilder::new().info(info).build()
}

/// An error, other than a validation error.
#[derive(Serialize, ToSchema)]
pub(crate) struct ErrorBody {
    /// A sentence for people.
    detail: String,
    /// A stable snake-case word; absent when only HTTP went wrong.
    #[schema(nullable = false)]
    code: Option<String>,
    /// The same as the header `x-request-id`.
    #[schema(nullable = false)]
    request_id: Option<String>,
    /// The conversation, if the error is about one.
    #[schema(nullable = false)]
    session_id: Option<String>,
    /// The turn, if the error is about one: in a conflict the one that is running.
    #[schema(nullable = false)]
    turn_id: Option<String>,
    /// What the caller has used up, if that is why.
    #[schema(nullable = false)]
    limit: Option<LimitBody>,
}

/// A limit that was reached. The headers `RateLimit-Policy` and `RateLimit` say the same.
#[derive(Serialize, ToSchema)]
#[schema(as = Limit)]
pub(crate) struct LimitBody {
    /// Such as `requests_per_minute` or `tokens_per_day`.
    name: String,
    quota: f64,
    remaining: f64,
    /// Until there is more.
    reset_seconds: u64,
}

/// An error in OpenAI's words.
#[derive(ToSchema)]
#[expect(dead_code, reason = "documents what `dialect::openai` writes")]
pub(crate) struct OpenAiError {
    #[schema(inline)]
    error: OpenAiProblem,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "documents what `dialect::openai` writes")]
struct OpenAiProblem {
    /// A sentence for people.
    message: String,
    r#type: String,
    /// Always null.
    param: Option<String>,
    /// A stable snake-case word.
    code: String,
}

/// An error in Anthropic's words.
#[derive(ToSchema)]
#[expect(dead_code, reason = "documents what `dialect::anthropic` writes")]
pub(crate) struct AnthropicError {
    /// Always `error`.
    r#type: String,
    #[schema(inline)]
    error: AnthropicProblem,
    /// The same as the header `x-request-id`.
    request_id: String,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "documents what `dialect::anthropic` writes")]
struct AnthropicProblem {
    r#type: String,
    /// A sentence for people.
    message: String,
}

/// Everything that is wrong with the form of a request.
#[derive(Serialize, ToSchema)]
pub(crate) struct HTTPValidationError {
    detail: Vec<ValidationError>,
}

/// One thing that is wrong with a request.
#[derive(Serialize, ToSchema)]
struct ValidationError {
    /// The way to the value: names, and numbers in lists.
    loc: Vec<LocationItem>,
    /// A sentence for people.
    msg: String,
    /// A stable snake-case word.
    r#type: String,
    /// The value, clipped.
    input: Value,
    /// Figures of the rule that is broken.
    #[schema(value_type = Object, nullable = false, required = false)]
    ctx: Option<Value>,
}

#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "documents what a problem's `loc` holds")]
enum LocationItem {
    Name(String),
    Index(u64),
}

/// What needs no token even where people sign in.
const PUBLIC: [&str; 6] = [
    "root__get",
    "alive",
    "ready",
    "register",
    "login",
    "refresh",
];

/// The name of how one signs in.
const BEARER: &str = "bearer";

/// From an answer to what can be done with an id in it: the operation, its status, where the id is,
/// and the parameter that takes it, of these operations.
const LINKS: [(&str, &str, &str, &str, &[&str]); 9] = [
    ("create_session", "201", "/id", "session_id", &OF_SESSION),
    (
        "get_sessions_api_sessions_get",
        "200",
        "/sessions/0/id",
        "session_id",
        &OF_SESSION,
    ),
    (
        "chat_endpoint_api_chat_post",
        "200",
        "/session_id",
        "session_id",
        &OF_SESSION,
    ),
    (
        "chat_endpoint_api_chat_post",
        "200",
        "/turn_id",
        "turn_id",
        &OF_TURN,
    ),
    (
        "chat_endpoint_api_chat_post",
        "200",
        "/reply_message/id",
        "message_id",
        &["rate_message", "unrate_message"],
    ),
    (
        "upload_file",
        "201",
        "/id",
        "file_id",
        &["read_file", "delete_file"],
    ),
    (
        "list_files",
        "200",
        "/files/0/id",
        "file_id",
        &["read_file", "delete_file"],
    ),
    ("create_key", "201", "/id", "key_id", &["delete_key"]),
    (
        "openai_models",
        "200",
        "/data/0/id",
        "model",
        &["openai_model"],
    ),
];

const OF_SESSION: [&str; 8] = [
    "read_session",
    "update_session",
    "list_messages",
    "session_context",
    "export_session",
    "resume_chat",
    "stop_chat",
    "delete_session",
];

const OF_TURN: [&str; 4] = ["read_turn", "turn_events", "turn_ticket", "cancel_turn"];

/// Says what can be done with an answer.
fn lead_on(operation: &mut Operation, id: &str) {
    for (_, status, pointer, parameter, targets) in LINKS.iter().filter(|link| link.0 == id) {
        let Some(RefOr::T(response)) = operation.responses.responses.get_mut(*status) else {
            continue;
        };
        for target in *targets {
            let link = LinkBuilder::new()
                .operation_id(*target)
                .parameter(*parameter, format!("$response.body#{pointer}"))
                .build();
            response.links.insert((*target).to_owned(), link.into());
        }
    }
}

/// Says of a route that people sign in for it, where they do: nobody needs to elsewhere.
fn guarded(operation: &mut Operation, dialect: Dialect) {
    let scopes: [&str; 0] = [];
    let bearer = SecurityRequirement::new(BEARER, scopes);
    operation.security = Some(vec![bearer, SecurityRequirement::default()]);
    for (status, description) in [
        ("401", "Nobody is signed in by this token"),
        ("403", "You, or your key, may not do that"),
    ] {
        answer(operation, status, description, body_of(dialect));
    }
}

/// Bodies that may have no other member. (What is read by serde says so itself.)
const CLOSED: [&str; 6] = [
    "ConfirmationBody",
    "Credentials",
    "NewKey",
    "PasswordBody",
    "RefreshBody",
    "UserChange",
];

/// Adds what every route can answer.
pub(crate) fn complete(openapi: &mut OpenApi) {
    for (path, item) in &mut openapi.paths.paths {
        let dialect = Dialect::of(path);
        let operations = [
            &mut item.get,
            &mut item.post,
            &mut item.patch,
            &mut item.delete,
        ];
        for operation in operations.into_iter().flatten() {
            let id = operation.operation_id.clone().unwrap_or_default();
            if !PUBLIC.contains(&id.as_str()) {
                guarded(operation, dialect);
            }
            common(operation, dialect);
            lead_on(operation, &id);
            for parameter in operation.parameters.iter_mut().flatten() {
                if let RefOr::T(parameter) = parameter {
                    refine(parameter, &id);
                }
            }
        }
    }
    let components = openapi.components.get_or_insert_default();
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some(
            "An access token or an API key; needed where the server runs with `--auth required`.",
        ))
        .build();
    components
        .security_schemes
        .insert(BEARER.to_owned(), SecurityScheme::Http(bearer).into());
    let mut nested = vec![
        (ErrorBody::name().into_owned(), ErrorBody::schema()),
        (LimitBody::name().into_owned(), LimitBody::schema()),
        (OpenAiError::name().into_owned(), OpenAiError::schema()),
        (
            AnthropicError::name().into_owned(),
            AnthropicError::schema(),
        ),
        (
            HTTPValidationError::name().into_owned(),
            HTTPValidationError::schema(),
        ),
    ];
    HTTPValidationError::schemas(&mut nested);
    OpenAiError::schemas(&mut nested);
    AnthropicError::schemas(&mut nested);
    components.schemas.extend(nested);
    for body in CLOSED {
        if let Some(RefOr::T(Schema::Object(object))) = components.schemas.get_mut(body) {
            let no_more = AdditionalProperties::FreeForm(false);
            object.additional_properties = Some(Box::new(no_more));
        }
    }
}

/// The characters of an id. One of dots alone never reaches a server.
pub(crate) const ID_PATTERN: &str = "^[A-Za-z0-9_~@:+-][A-Za-z0-9._~@:+-]{0,127}$";

/// Says what the text of a parameter looks like. What is not sent is absent, never null.
fn refine(parameter: &mut Parameter, operation: &str) {
    let Some(RefOr::T(Schema::Object(schema))) = &mut parameter.schema else {
        return;
    };
    if let SchemaType::Array(types) = &mut schema.schema_type {
        types.retain(|one| *one != Type::Null);
        if let [one] = &types[..] {
            schema.schema_type = SchemaType::Type(one.clone());
        }
    }
    let pattern = |schema: &mut Object, pattern: &str| schema.pattern = Some(pattern.to_owned());
    let words = |schema: &mut Object, words: &[&str]| {
        schema.enum_values = Some(words.iter().map(|word| Value::from(*word)).collect());
    };
    match (parameter.name.as_str(), operation) {
        (
            "session_id" | "message_id" | "turn_id" | "before" | "after" | "X-Session-Id" | "owner",
            _,
        ) if schema.schema_type == SchemaType::Type(Type::String) => {
            pattern(schema, ID_PATTERN);
        }
        ("Last-Event-ID", _) => pattern(schema, "^[0-9]{0,19}$"),
        ("Idempotency-Key", _) => pattern(schema, "^[!#-~][!-~]{0,254}$"),
        ("sdk", _) => words(schema, &["5", "5.0.92", "6", "7", "7.0.77"]),
        ("protocol", _) => words(
            schema,
            &["native", "ui", "openai", "anthropic", "agui", "text"],
        ),
        ("format", "list_messages") => {
            words(schema, &["tutor", "ui", "openai", "anthropic", "agui"]);
        }
        ("format", "export_session") => words(schema, &["json", "markdown"]),
        ("format", "usage") => words(schema, &["json", "csv"]),
        ("branch", "delete_message") => words(schema, &["keep", "cut"]),
        ("branch", _) => pattern(schema, ID_PATTERN),
        ("on_conflict", _) => words(schema, &["fail", "keep", "replace"]),
        ("cursor", "list_files") => pattern(schema, "^[A-Za-z0-9-]{1,64}$"),
        ("cursor", "get_sessions_api_sessions_get") => pattern(
            schema,
            "^[0-9a-f]{1,15}[.][A-Za-z0-9_~@:+-][A-Za-z0-9._~@:+-]{0,127}$",
        ),
        ("cursor", "usage") => pattern(
            schema,
            &format!("^{DAY}[.][A-Za-z0-9_~@:+-][A-Za-z0-9._~@:+-]{{0,127}}$"),
        ),
        ("from" | "to", _) => pattern(schema, &format!("^{DAY}$")),
        _ => {}
    }
}

/// A day of this century, but for those of leap years.
const DAY: &str = "20[0-9]{2}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))";

/// The schema of an error.
fn body_of(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Native => "ErrorBody",
        Dialect::OpenAi => "OpenAiError",
        Dialect::Anthropic => "AnthropicError",
    }
}

/// Documents an answer, unless the route did so itself.
fn answer(operation: &mut Operation, status: &str, description: &str, schema: &str) {
    let content = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name(schema)))
        .build();
    let response = ResponseBuilder::new()
        .description(description)
        .content("application/json", content)
        .build();
    let responses = &mut operation.responses.responses;
    responses
        .entry(status.to_owned())
        .or_insert_with(|| response.into());
}

fn common(operation: &mut Operation, dialect: Dialect) {
    let body = body_of(dialect);
    let mut answers = vec![
        ("400", "The request is no proper HTTP", body),
        ("500", "Something is broken inside the server", body),
        (
            "429",
            "You have used up what you may: `limit` says of what, and when there is more",
            body,
        ),
        (
            "503",
            "The server is busy, stopping, or cannot store conversations: come back after `Retry-After` seconds",
            body,
        ),
    ];
    if operation.request_body.is_some() {
        answers.extend([
            ("408", "The body took too long to arrive", body),
            ("413", "The body, or something in it, is too large", body),
            (
                "415",
                "The body is compressed, or not of the right kind",
                body,
            ),
        ]);
        // Other protocols say 400.
        if dialect == Dialect::Native {
            answers.push(("422", "Validation Error", "HTTPValidationError"));
        }
    }
    for (status, description, schema) in answers {
        answer(operation, status, description, schema);
    }
}
