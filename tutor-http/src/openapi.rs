//! The description of the API: what the routes say of themselves, and what is true of all of them.

use serde::Serialize;
use serde_json::Value;
use utoipa::openapi::path::Operation;
use utoipa::openapi::{ContentBuilder, InfoBuilder, OpenApi, OpenApiBuilder, Ref, ResponseBuilder};
use utoipa::{PartialSchema, ToSchema};

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
    #[schema(value_type = Object, nullable = false)]
    ctx: Option<Value>,
}

#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "documents what a problem's `loc` holds")]
enum LocationItem {
    Name(String),
    Index(u64),
}

/// Adds what every route can answer.
pub(crate) fn complete(openapi: &mut OpenApi) {
    for item in openapi.paths.paths.values_mut() {
        let operations = [
            &mut item.get,
            &mut item.post,
            &mut item.patch,
            &mut item.delete,
        ];
        for operation in operations.into_iter().flatten() {
            common(operation);
        }
    }
    let components = openapi.components.get_or_insert_default();
    let mut nested = vec![
        (ErrorBody::name().into_owned(), ErrorBody::schema()),
        (
            HTTPValidationError::name().into_owned(),
            HTTPValidationError::schema(),
        ),
    ];
    HTTPValidationError::schemas(&mut nested);
    components.schemas.extend(nested);
}

fn common(operation: &mut Operation) {
    let mut answers = vec![
        ("400", "The request is no proper HTTP", "ErrorBody"),
        ("500", "Something is broken inside the server", "ErrorBody"),
        (
            "503",
            "The server is busy, stopping, or cannot store conversations: come back after `Retry-After` seconds",
            "ErrorBody",
        ),
    ];
    if operation.request_body.is_some() {
        answers.extend([
            ("408", "The body took too long to arrive", "ErrorBody"),
            (
                "413",
                "The body, or something in it, is too large",
                "ErrorBody",
            ),
            ("422", "Validation Error", "HTTPValidationError"),
        ]);
    }
    for (status, description, schema) in answers {
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
}
