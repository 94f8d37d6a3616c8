//! What a request says in its path, query and headers.

use std::convert::Infallible;
use std::str::FromStr;

use axum::extract::{FromRequestParts, RawPathParams};
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use serde_json::Value;
use tutor_core::id::MAX_ID_BYTES;
use tutor_core::turn::MAX_IDEMPOTENCY_KEY_BYTES;
use tutor_core::{Error, Result, SessionId};

use crate::error::ApiError;
use crate::validate::Checker;

/// The one id in a route's path.
#[derive(Debug)]
pub(crate) struct PathId<T>(pub(crate) T);

impl<S: Send + Sync, T: FromStr<Err = Error> + Send> FromRequestParts<S> for PathId<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        // Fails for a path that is no UTF-8 once it is decoded.
        let params = RawPathParams::from_request_parts(parts, state).await;
        let params = params.map_err(|_| ApiError::NOT_FOUND)?;
        let (name, id) = params.iter().next().ok_or(ApiError::NOT_FOUND)?;
        let mut checker = Checker::new("path");
        let id = checker.within(name.to_owned(), |c| c.parsed(&Value::from(id), str::parse));
        checker.finish(id).map(Self)
    }
}

/// The one text in a route's path, whatever it is.
#[derive(Debug)]
pub(crate) struct PathText(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for PathText {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let params = RawPathParams::from_request_parts(parts, state).await;
        let params = params.map_err(|_| ApiError::NOT_FOUND)?;
        let (_, text) = params.iter().next().ok_or(ApiError::NOT_FOUND)?;
        // Longer than any key of the store: there is nothing of that name.
        if text.len() > MAX_ID_BYTES {
            return Err(ApiError::NOT_FOUND);
        }
        Ok(Self(text.to_owned()))
    }
}

/// The two ids in a path.
pub(crate) struct PathIds<A, B>(pub(crate) A, pub(crate) B);

impl<S, A, B> FromRequestParts<S> for PathIds<A, B>
where
    S: Send + Sync,
    A: FromStr<Err = Error> + Send,
    B: FromStr<Err = Error> + Send,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let params = RawPathParams::from_request_parts(parts, state).await;
        let params = params.map_err(|_| ApiError::NOT_FOUND)?;
        let mut params = params.iter();
        let (Some((first, a)), Some((second, b))) = (params.next(), params.next()) else {
            return Err(ApiError::NOT_FOUND);
        };
        let mut checker = Checker::new("path");
        let a = checker.within(first.to_owned(), |c| c.parsed(&Value::from(a), str::parse));
        let b = checker.within(second.to_owned(), |c| c.parsed(&Value::from(b), str::parse));
        let (a, b) = checker.finish(a.zip(b))?;
        Ok(Self(a, b))
    }
}

/// The query string. Of a name that comes twice, the last value counts.
#[derive(Debug)]
pub(crate) struct Query(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let query = parts.uri.query().unwrap_or_default();
        let pairs = form_urlencoded::parse(query.as_bytes()).into_owned();
        Ok(Self(pairs.collect()))
    }
}

impl Query {
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().rfind(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    /// A number from `min` to `max`, or `default` if there is none.
    pub(crate) fn number(
        &self,
        checker: &mut Checker,
        name: &'static str,
        default: u64,
        (min, max): (u64, u64),
    ) -> Option<u64> {
        match self.get(name) {
            None => Some(default),
            Some(text) => checker.within(name, |c| c.integer_text(text, min, max)),
        }
    }

    /// A value that `parse` understands.
    pub(crate) fn parsed<T>(
        &self,
        checker: &mut Checker,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T>,
    ) -> Option<T> {
        let text = Value::from(self.get(name)?);
        checker.within(name, |c| c.parsed(&text, parse))
    }
}

/// A header as text.
///
/// # Errors
/// The documented 422 if its bytes are no text.
pub(crate) fn header<'a>(
    headers: &'a HeaderMap,
    name: &'static str,
) -> Result<Option<&'a str>, ApiError> {
    let Some(value) = headers.get(name) else {
        return Ok(None);
    };
    let mut checker = Checker::new("header");
    let text = value.to_str().ok();
    if text.is_none() {
        checker.within(name, |c| {
            c.fail_value("use visible ASCII characters", &Value::Null)
        });
    }
    checker.finish(text).map(Some)
}

/// The conversation that the header `X-Session-Id` names.
///
/// # Errors
/// The documented 422 for what is no id.
pub(crate) fn session_header(headers: &HeaderMap) -> Result<Option<SessionId>, ApiError> {
    const NAME: &str = "x-session-id";
    let Some(text) = header(headers, NAME)?.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let mut checker = Checker::new("header");
    let id = checker.within(NAME, |c| c.parsed(&Value::from(text), str::parse));
    checker.finish(id).map(Some)
}

/// The header that names a request, so that it can be sent again.
pub(crate) const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// The idempotency key, bare or as a quoted string.
///
/// # Errors
/// 400 for what is no key: that is a mistake of the client's program, not of the learner's form.
pub(crate) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    const NO_KEY: ApiError = ApiError::Http(
        StatusCode::BAD_REQUEST,
        "Idempotency-Key has 1 to 255 visible ASCII characters",
    );
    let Some(key) = headers.get(IDEMPOTENCY_KEY) else {
        return Ok(None);
    };
    let key = key.to_str().map_err(|_| NO_KEY)?;
    let quoted = key.strip_prefix('"').and_then(|key| key.strip_suffix('"'));
    let key = quoted.unwrap_or(key);
    let is_key = (1..=MAX_IDEMPOTENCY_KEY_BYTES).contains(&key.len())
        && key.bytes().all(|b| b.is_ascii_graphic());
    if !is_key {
        return Err(NO_KEY);
    }
    Ok(Some(key.to_owned()))
}

/// True if the client asks for an event stream by its `Accept` header.
pub(crate) fn wants_events(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(http::header::ACCEPT).into_iter();
    let mut ranges = accepted
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    ranges.any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let is_events = parts
            .next()
            .is_some_and(|m| m.eq_ignore_ascii_case("text/event-stream"));
        let refused = |p: &str| matches!(p, "q=0" | "q=0.0" | "q=0.00" | "q=0.000");
        is_events && !parts.any(refused)
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn an_event_stream_is_asked_for_by_name_only() {
        for (accept, expected) in [
            ("text/event-stream", true),
            ("application/json, Text/Event-Stream;q=0.5", true),
            ("text/event-stream; q=0, application/json", false),
            ("*/*", false),
            ("text/*", false),
            ("application/json", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(http::header::ACCEPT, HeaderValue::from_static(accept));
            assert_eq!(wants_events(&headers), expected, "{accept}");
        }
    }
}
