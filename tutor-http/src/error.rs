//! What a failed request is answered: the engine's errors as statuses, and one shape of body.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde::Serialize;
use tutor_core::{Error, ErrorKind, Retry};

use crate::encode::STOPPED;
use crate::params::IDEMPOTENCY_KEY;
use crate::validate::Problem;

pub(crate) mod dialect;

use dialect::Dialect;

/// Why a request is not answered as it wishes.
///
/// As a response it is only a status: [`render`] writes the body, once the request's id is known.
#[derive(Clone, Debug)]
pub(crate) enum ApiError {
    /// What the engine said.
    Engine(Arc<Error>),
    /// The request does not have the right form: everything that is wrong with it.
    Invalid(Arc<Vec<Problem>>),
    /// Something about HTTP itself.
    Http(StatusCode, &'static str),
}

impl ApiError {
    /// One problem with the request's form.
    pub(crate) fn invalid(problem: Problem) -> Self {
        Self::Invalid(Arc::new(vec![problem]))
    }

    pub(crate) const NOT_FOUND: Self = Self::Http(StatusCode::NOT_FOUND, "Not Found");
    pub(crate) const METHOD_NOT_ALLOWED: Self =
        Self::Http(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    pub(crate) const BAD_BODY: Self = Self::Http(
        StatusCode::BAD_REQUEST,
        "There was an error parsing the body",
    );

    /// What a whole reply is that somebody stopped. No status that clients try again by themselves,
    /// as they do 409 and whatever is the server's fault.
    pub(crate) fn stopped() -> Self {
        Self::Http(dialect::stopped_status(), STOPPED)
    }

    /// The engine's code.
    fn code(&self) -> Option<&'static str> {
        match self {
            Self::Engine(error) => Some(error.code()),
            Self::Invalid(_) => Some(ErrorKind::InvalidInput.code()),
            Self::Http(..) => None,
        }
    }

    /// One sentence about all of it.
    pub(crate) fn message(&self) -> Cow<'_, str> {
        match self {
            Self::Engine(error) => Cow::Borrowed(public_message(error)),
            Self::Invalid(problems) => {
                let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
                Cow::Owned(problems.join("; "))
            }
            Self::Http(_, detail) => Cow::Borrowed(detail),
        }
    }

    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Engine(error) => status(error.kind()),
            Self::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Http(status, _) => *status,
        }
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        if error.context_value("reason") == Some("key_reused") {
            // The engine calls it a conflict; over HTTP a request that contradicts its own key is
            // one that cannot be processed.
            return Self::invalid(Problem::value(
                vec!["header".into(), IDEMPOTENCY_KEY.into()],
                error.message(),
                &serde_json::Value::Null,
            ));
        }
        Self::Engine(Arc::new(error))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.status();
        response.extensions_mut().insert(self);
        response
    }
}

/// The status of a kind of error.
pub(crate) fn status(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::InvalidInput | ErrorKind::ContextTooLong => StatusCode::UNPROCESSABLE_ENTITY,
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::Conflict => StatusCode::CONFLICT,
        ErrorKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorKind::Unauthorized => StatusCode::UNAUTHORIZED,
        ErrorKind::Forbidden => StatusCode::FORBIDDEN,
        ErrorKind::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        ErrorKind::ProviderAuth
        | ErrorKind::ProviderQuota
        | ErrorKind::ProviderRejected
        | ErrorKind::Interrupted => StatusCode::BAD_GATEWAY,
        ErrorKind::Overloaded
        | ErrorKind::ProviderUnavailable
        | ErrorKind::StoreLocked
        | ErrorKind::StoreUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::Timeout => StatusCode::GATEWAY_TIMEOUT,
        // A kind that is not mapped yet is caught by the table test.
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// What a client may read about an error: nothing of the server's inside.
pub(crate) fn public_message(error: &Error) -> &str {
    match error.kind() {
        ErrorKind::StoreLocked | ErrorKind::StoreUnavailable => {
            "conversations cannot be stored at the moment: try again later"
        }
        kind if status(kind) == StatusCode::INTERNAL_SERVER_ERROR => "Internal Server Error",
        _ => error.message(),
    }
}

/// When to come back. Whoever is turned away for a while is always told.
fn retry_after(error: &Error) -> Option<u64> {
    let seconds = |wait: Duration| wait.as_millis().div_ceil(1000).max(1);
    match (error.retry(), status(error.kind())) {
        (Retry::After(Some(wait)), _) => Some(u64::try_from(seconds(wait)).unwrap_or(u64::MAX)),
        (_, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) => Some(1),
        (_, _) => None,
    }
}

/// The body of an error.
#[derive(Serialize)]
struct ErrorBody<'a> {
    detail: Detail<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    turn_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<Limit<'a>>,
}

/// The limit that refused a request.
#[derive(Serialize)]
struct Limit<'a> {
    name: &'a str,
    quota: f64,
    remaining: f64,
    reset_seconds: u64,
}

impl<'a> Limit<'a> {
    fn of(error: &'a Error) -> Option<Self> {
        let number = |name| error.context_value(name)?.parse().ok();
        Some(Self {
            name: error.context_value("limit")?,
            quota: number("quota")?,
            remaining: number("remaining")?,
            reset_seconds: error.context_value("reset")?.parse().ok()?,
        })
    }

    /// How long it counts, in seconds; `None` if it is about what is at the same time.
    fn window(&self) -> Option<u64> {
        if self.name.ends_with("_per_day") {
            Some(24 * 60 * 60)
        } else {
            self.name.ends_with("_per_minute").then_some(60)
        }
    }

    /// As the drafts of the RateLimit headers have it.
    fn tell(&self, headers: &mut HeaderMap) {
        let Self {
            name,
            quota,
            remaining,
            reset_seconds,
        } = self;
        let window = self.window().map_or(String::new(), |w| format!(";w={w}"));
        // The headers have whole numbers only.
        let (parts, unit) = match name.ends_with("cost_usd_per_day") {
            true => (1e6, ";qu=\"micro-usd\""),
            false => (1.0, ""),
        };
        let (quota, remaining) = ((quota * parts).round(), (remaining * parts).round());
        let policy = format!("\"{name}\";q={quota}{unit}{window}");
        let left = format!("\"{name}\";r={remaining};t={reset_seconds}");
        for (header, value) in [("ratelimit-policy", policy), ("ratelimit", left)] {
            // Names and numbers are visible ASCII.
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(header, value);
            }
        }
    }
}

#[derive(Serialize)]
#[serde(untagged)]
enum Detail<'a> {
    Text(&'a str),
    Problems(Cow<'a, [Problem]>),
}

impl<'a> ErrorBody<'a> {
    fn new(detail: Detail<'a>) -> Self {
        Self {
            detail,
            code: None,
            request_id: None,
            session_id: None,
            turn_id: None,
            limit: None,
        }
    }
}

/// Writes the body of a response that stands for an error, and logs what the client is not told.
pub(crate) fn render(
    response: Response,
    request_id: &str,
    method: &Method,
    dialect: Dialect,
) -> Response {
    let Some(error) = response.extensions().get::<ApiError>().cloned() else {
        return response;
    };
    let (mut parts, _) = response.into_parts();
    if let ApiError::Engine(error) = &error {
        log(error, request_id);
        if let Some(seconds) = retry_after(error) {
            parts.headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if let Some(limit) = Limit::of(error) {
            limit.tell(&mut parts.headers);
        }
        if error.context_value(REPLAYED).is_some() {
            replayed(&mut parts.headers);
        }
    }
    if parts.status == StatusCode::UNAUTHORIZED {
        parts
            .headers
            .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    // That of the empty body.
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    parts.status = dialect.status(parts.status);
    let message = error.message();
    // Strings and numbers always serialize.
    let body = match dialect.body(parts.status, error.code(), &message, request_id) {
        Some(body) => serde_json::to_vec(&body),
        None => serde_json::to_vec(&native(&error, request_id, method)),
    };
    Response::from_parts(parts, Body::from(body.unwrap_or_default()))
}

/// The body in the server's own words.
fn native<'a>(error: &'a ApiError, request_id: &'a str, method: &Method) -> ErrorBody<'a> {
    match error {
        ApiError::Http(_, detail) => ErrorBody::new(Detail::Text(detail)),
        ApiError::Invalid(problems) => {
            ErrorBody::new(Detail::Problems(Cow::Borrowed(problems.as_slice())))
        }
        ApiError::Engine(error) => {
            let detail = if error.kind() == ErrorKind::InvalidInput {
                // What is only read has no body.
                let place = if method.is_safe() { "query" } else { "body" };
                Detail::Problems(Cow::Owned(vec![Problem::of_engine(error, place)]))
            } else {
                Detail::Text(public_message(error))
            };
            ErrorBody {
                code: Some(error.code()),
                request_id: Some(request_id),
                session_id: error.context_value("session"),
                turn_id: error.context_value("turn"),
                limit: Limit::of(error),
                ..ErrorBody::new(detail)
            }
        }
    }
}

/// Names, in an error's context, an answer that was given before.
pub(crate) const REPLAYED: &str = "replayed";

/// Tells the client that it was answered before, under the same idempotency key.
pub(crate) fn replayed(headers: &mut HeaderMap) {
    headers.insert("idempotency-replayed", HeaderValue::from_static("true"));
}

fn log(error: &Error, request_id: &str) {
    let cause = std::error::Error::source(error).map(ToString::to_string);
    let cause = cause.as_deref().unwrap_or("none");
    match status(error.kind()) {
        StatusCode::INTERNAL_SERVER_ERROR => {
            tracing::error!(request_id, %error, cause, "a request failed");
        }
        status if status.is_server_error() => {
            tracing::warn!(request_id, %error, cause, "a request failed");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_documented_status() {
        let table = [
            ("invalid_input", 422),
            ("not_found", 404),
            ("conflict", 409),
            ("too_large", 413),
            ("context_too_long", 422),
            ("unauthorized", 401),
            ("forbidden", 403),
            ("rate_limited", 429),
            ("overloaded", 503),
            ("provider_auth", 502),
            ("provider_quota", 502),
            ("provider_rejected", 502),
            ("provider_unavailable", 503),
            ("timeout", 504),
            ("interrupted", 502),
            ("store_locked", 503),
            ("store_unavailable", 503),
            ("data_corrupt", 500),
            ("config", 500),
            ("internal", 500),
        ];
        let actual: Vec<_> = ErrorKind::ALL
            .iter()
            .map(|kind| (kind.code(), status(*kind).as_u16()))
            .collect();
        assert_eq!(actual, table);
    }

    #[test]
    fn the_inside_of_the_server_is_not_told() {
        for kind in ErrorKind::ALL {
            let error = Error::new(*kind, "canary /var/lib/data").with_context("path", "canary");
            let told = public_message(&error);
            let hidden = matches!(
                kind,
                ErrorKind::Internal
                    | ErrorKind::DataCorrupt
                    | ErrorKind::Config
                    | ErrorKind::StoreLocked
                    | ErrorKind::StoreUnavailable
            );
            assert_eq!(told.contains("canary"), !hidden, "{kind}");
        }
    }

    #[test]
    fn whoever_is_turned_away_for_a_while_is_told_when_to_come_back() {
        let wait = |error: Error| retry_after(&error);
        let limited = Error::new(ErrorKind::RateLimited, "slow down");
        assert_eq!(wait(limited.clone()), Some(1));
        assert_eq!(
            wait(limited.retryable(Some(Duration::from_millis(2001)))),
            Some(3)
        );
        assert_eq!(wait(Error::new(ErrorKind::Overloaded, "full")), Some(1));
        assert_eq!(wait(Error::new(ErrorKind::Conflict, "busy")), None);
    }
}
