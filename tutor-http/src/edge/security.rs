//! Headers that keep browsers from doing more with an answer than was meant.

use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue};

/// Answers of the API are data: nothing in them may run or be framed.
const DATA_POLICY: &str = "default-src 'none'; frame-ancestors 'none'";

/// The documentation runs its own scripts and styles, and calls this server alone.
const DOCS_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
     img-src 'self' data:; font-src 'self'; connect-src 'self'; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'";

pub(super) fn protect(path: &str, headers: &mut HeaderMap) {
    let is_docs = path == "/docs" || path.starts_with("/docs/");
    let policy = if is_docs { DOCS_POLICY } else { DATA_POLICY };
    let set = [
        (CONTENT_SECURITY_POLICY, policy),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
    ];
    for (name, value) in set {
        // A route may ask for more.
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
    if path.starts_with("/api/") && !headers.contains_key(CACHE_CONTROL) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
}
