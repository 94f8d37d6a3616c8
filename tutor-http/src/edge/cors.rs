//! Which pages may call this server from a browser: exactly as the original's middleware did it.

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, CONTENT_TYPE, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use tutor_core::{Error, ErrorKind, Result};

const METHODS: &str = "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT, QUERY";
/// What of an answer's head a page of another origin may read, beside what every page may.
const EXPOSED: &str = "Accept-Ranges, Content-Disposition, Content-Range, ETag, \
     Idempotency-Replayed, Location, RateLimit, RateLimit-Policy, Retry-After, \
     WWW-Authenticate, X-Request-Id, X-Session-Id, X-Vercel-AI-UI-Message-Stream";
const PREFLIGHT_VARY: &str = "Origin, Access-Control-Request-Method, \
     Access-Control-Request-Headers, Access-Control-Request-Private-Network";
const PRIVATE_NETWORK: HeaderName =
    HeaderName::from_static("access-control-request-private-network");

/// The origins whose pages may read answers, with credentials. Never all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origins(Vec<HeaderValue>);

impl Default for Origins {
    /// `http://localhost:5173` and `http://localhost:5180`: the development servers of the front
    /// ends.
    fn default() -> Self {
        let origins = ["http://localhost:5173", "http://localhost:5180"];
        Self(origins.map(HeaderValue::from_static).to_vec())
    }
}

impl Origins {
    /// Reads origins that are separated by commas. An empty text allows none.
    ///
    /// # Errors
    /// `config` for what is not `scheme://host` or `scheme://host:port`, and for `*`: with
    /// credentials, every page on the web could act as the learner.
    pub fn parse(text: &str) -> Result<Self> {
        let origins = text.split(',').map(str::trim).filter(|o| !o.is_empty());
        let origins = origins.map(|origin| {
            let is_origin = origin.parse::<http::Uri>().is_ok_and(|uri| {
                uri.scheme().is_some()
                    && uri.authority().is_some()
                    && !origin.ends_with('/')
                    && uri.path_and_query().is_none_or(|rest| rest == "/")
            });
            match HeaderValue::from_str(origin) {
                Ok(value) if is_origin => Ok(value),
                _ => Err(Error::new(
                    ErrorKind::Config,
                    format!(
                        "{origin:?} is no origin that can be allowed: write origins like \
                         http://localhost:5173, separated by commas, without a path; * is not \
                         possible with credentials"
                    ),
                )),
            }
        });
        origins.collect::<Result<_>>().map(Self)
    }

    /// As [`parse`](Self::parse) reads them.
    pub(crate) fn to_text(&self) -> String {
        let texts = self.0.iter().filter_map(|origin| origin.to_str().ok());
        texts.collect::<Vec<_>>().join(",")
    }

    fn contains(&self, origin: &HeaderValue) -> bool {
        self.0.contains(origin)
    }

    /// Answers a preflight; `None` for any other request. It comes before routing: whether a path
    /// exists does not matter.
    pub(super) fn preflight(&self, request: &Request) -> Option<Response> {
        let headers = request.headers();
        let (origin, method) = (
            headers.get(ORIGIN)?,
            headers.get(ACCESS_CONTROL_REQUEST_METHOD)?,
        );
        if request.method() != Method::OPTIONS {
            return None;
        }
        let allowed = self.contains(origin);
        let known = |method: &str| METHODS.split(", ").any(|known| known == method);
        let faults = [
            ("origin", !allowed),
            ("method", !method.to_str().is_ok_and(known)),
            (
                "private-network",
                headers
                    .get(PRIVATE_NETWORK)
                    .is_some_and(|asked| asked == "true"),
            ),
        ];
        let faults: Vec<_> = faults
            .iter()
            .filter(|(_, bad)| *bad)
            .map(|(name, _)| *name)
            .collect();
        let (status, text) = if faults.is_empty() {
            (StatusCode::OK, "OK".to_owned())
        } else {
            let text = format!("Disallowed CORS {}", faults.join(", "));
            (StatusCode::BAD_REQUEST, text)
        };
        let mut response = Response::new(Body::from(text));
        *response.status_mut() = status;
        let answer = response.headers_mut();
        for (name, value) in [
            (CONTENT_TYPE, "text/plain; charset=utf-8"),
            (VARY, PREFLIGHT_VARY),
            (ACCESS_CONTROL_ALLOW_METHODS, METHODS),
            (ACCESS_CONTROL_MAX_AGE, "600"),
            (ACCESS_CONTROL_ALLOW_CREDENTIALS, "true"),
        ] {
            answer.insert(name, HeaderValue::from_static(value));
        }
        if allowed {
            answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        }
        if let Some(wanted) = headers.get(ACCESS_CONTROL_REQUEST_HEADERS) {
            answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
        }
        Some(response)
    }

    /// Tells the browser whether the page at `origin` may read this answer.
    pub(super) fn allow(&self, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
        headers.append(VARY, HeaderValue::from_static("Origin"));
        let Some(origin) = origin else { return };
        headers.insert(
            ACCESS_CONTROL_ALLOW_CREDENTIALS,
            HeaderValue::from_static("true"),
        );
        if self.contains(origin) {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            let exposed = HeaderValue::from_static(EXPOSED);
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_read_from_a_list() {
        let origins = Origins::parse("http://localhost:5173, https://tutor.example").unwrap();
        assert_eq!(
            origins.0,
            ["http://localhost:5173", "https://tutor.example"]
        );
        assert_eq!(Origins::parse("").unwrap().0.len(), 0);
    }

    #[test]
    fn what_is_no_origin_is_refused() {
        for text in [
            "*",
            "localhost:5173",
            "http://a/",
            "http://a/path",
            "null",
            "http://a b",
        ] {
            let error = Origins::parse(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{text}");
        }
    }
}
