//! Receives a request's body, within bounds, and reads it as JSON.

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::sync::SemaphorePermit;
use tutor_core::{Error, ErrorKind};

use crate::error::ApiError;
use crate::state::AppState;
use crate::syntax;
use crate::validate::Problem;

/// A body that was read as JSON. What it must look like is the handler's business.
#[derive(Debug)]
pub(crate) struct JsonBody(pub(crate) Value);

/// Like [`JsonBody`], but no body at all, or `null`, is an empty object.
#[derive(Debug)]
pub(crate) struct OptionalJsonBody(pub(crate) Value);

impl FromRequest<AppState> for JsonBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, ApiError> {
        match read(request, state).await? {
            Some(value) => Ok(Self(value)),
            None => Err(ApiError::invalid(Problem::new(
                "missing",
                vec!["body".into()],
                "Field required",
                &Value::Null,
            ))),
        }
    }
}

impl FromRequest<AppState> for OptionalJsonBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, ApiError> {
        let value = read(request, state).await?;
        let value = value.filter(|value| !value.is_null());
        Ok(Self(value.unwrap_or_else(|| json!({}))))
    }
}

/// The body as JSON; `None` if there is none.
async fn read(request: Request, state: &AppState) -> Result<Option<Value>, ApiError> {
    let (parts, body) = request.into_parts();
    if is_encoded(&parts.headers) {
        return Err(ApiError::Http(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "send the body as it is, without a Content-Encoding",
        ));
    }
    let max = state.bounds.max_body_bytes;
    let announced = parts.headers.get(header::CONTENT_LENGTH);
    let announced: Option<u64> = announced.and_then(|length| length.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length| length > max as u64) {
        return Err(too_large(max));
    }
    let mut budget = Vec::new();
    let receiving = receive(body, max, state, &mut budget);
    let bytes = match tokio::time::timeout(state.bounds.body_timeout, receiving).await {
        Ok(bytes) => bytes?,
        Err(_) => {
            return Err(ApiError::Http(
                StatusCode::REQUEST_TIMEOUT,
                "Request body took too long",
            ));
        }
    };
    if bytes.is_empty() {
        return Ok(None);
    }
    parse(&bytes, is_json(&parts.headers)).map(Some)
}

async fn receive<'a>(
    mut body: Body,
    max: usize,
    state: &'a AppState,
    budget: &mut Vec<SemaphorePermit<'a>>,
) -> Result<Bytes, ApiError> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        // The connection broke or the framing is wrong: nobody will read the answer.
        let frame = frame.map_err(|_| ApiError::BAD_BODY)?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if bytes.len() + data.remaining() > max {
            return Err(too_large(max));
        }
        budget.push(state.hold(data.remaining())?);
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.freeze())
}

fn too_large(max: usize) -> ApiError {
    let message = format!("the request body is larger than {max} bytes: send less");
    Error::new(ErrorKind::TooLarge, message).into()
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(Ok(value)) = headers
        .get(header::CONTENT_TYPE)
        .map(|value| value.to_str())
    else {
        return false;
    };
    let essence = value.split(';').next().unwrap_or_default().trim();
    let essence = essence.to_ascii_lowercase();
    essence == "application/json"
        || (essence.starts_with("application/") && essence.ends_with("+json"))
}

/// What is compressed has no size that could be bounded before it is unpacked.
fn is_encoded(headers: &HeaderMap) -> bool {
    let mut encodings = headers.get_all(header::CONTENT_ENCODING).into_iter();
    encodings.any(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

fn parse(bytes: &[u8], is_json: bool) -> Result<Value, ApiError> {
    if !is_json {
        // Also what keeps foreign pages from posting without a preflight.
        let text = String::from_utf8_lossy(bytes).into_owned();
        return Err(ApiError::invalid(Problem::new(
            "model_attributes_type",
            vec!["body".into()],
            "Input should be a valid dictionary or object to extract fields from",
            &Value::String(text),
        )));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| ApiError::BAD_BODY)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    serde_json::from_str(text).map_err(|error| {
        if syntax::is_too_deep(&error) {
            return ApiError::BAD_BODY;
        }
        let fault = syntax::Fault::find(text, &error);
        let problem = Problem::new(
            "json_invalid",
            vec!["body".into(), fault.at.into()],
            "JSON decode error",
            &json!({}),
        );
        ApiError::invalid(problem.with_ctx(json!({"error": fault.what})))
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_json_content_types_are_read() {
        for (value, expected) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/vnd.api+json", true),
            ("text/plain", false),
            ("text/json", false),
            ("application/jsonx", false),
            ("multipart/form-data", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(value));
            assert_eq!(is_json(&headers), expected, "{value}");
        }
        assert!(!is_json(&HeaderMap::new()));
    }

    #[test]
    fn a_byte_order_mark_and_duplicate_keys_are_taken_and_the_last_key_wins() {
        let value = parse("\u{feff}{\"a\":1,\"a\":2}".as_bytes(), true).unwrap();
        assert_eq!(value, json!({"a": 2}));
    }
}
