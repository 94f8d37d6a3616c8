//! The interactive documentation, served from this binary alone: no other host is asked.

use std::io::Read;

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use flate2::read::GzDecoder;
use http::{HeaderMap, header};
use utoipa::openapi::OpenApi;

use crate::error::ApiError;
use crate::params::PathText;
use crate::state::AppState;

const PAGE: &str = r##"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Neuro Tutor API - Swagger UI</title>
<link rel="stylesheet" href="/docs/assets/swagger-ui.css">
<link rel="icon" href="data:,">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/docs/assets/swagger-ui-bundle.js"></script>
<script src="/docs/assets/start.js"></script>
</body>
</html>
"##;

const START: &str = r##"window.ui = SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  presets: [SwaggerUIBundle.presets.apis],
  layout: "BaseLayout",
});
"##;

/// The files of Swagger UI that the page needs, packed by gzip: name, type, content.
const ASSETS: &[(&str, &str, &[u8])] = &[
    (
        "swagger-ui.css",
        "text/css; charset=utf-8",
        include_bytes!(concat!(env!("OUT_DIR"), "/swagger-ui.css.gz")),
    ),
    (
        "swagger-ui-bundle.js",
        "text/javascript; charset=utf-8",
        include_bytes!(concat!(env!("OUT_DIR"), "/swagger-ui-bundle.js.gz")),
    ),
];

pub(super) fn routes(openapi: &OpenApi) -> Router<AppState> {
    // A description made of strings always serializes.
    let json = Bytes::from(openapi.to_json().unwrap_or_default());
    Router::new()
        .route(
            "/openapi.json",
            get(async move || ([(header::CONTENT_TYPE, "application/json")], json.clone())),
        )
        .route(
            "/docs",
            get(async || ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], PAGE)),
        )
        .route("/docs/assets/{file}", get(asset))
}

async fn asset(PathText(name): PathText, headers: HeaderMap) -> Response {
    let cached = (header::CACHE_CONTROL, "public, max-age=3600");
    if name == "start.js" {
        let kind = (header::CONTENT_TYPE, "text/javascript; charset=utf-8");
        return ([kind, cached], START).into_response();
    }
    let Some((_, kind, packed)) = ASSETS.iter().find(|(asset, ..)| *asset == name) else {
        return ApiError::NOT_FOUND.into_response();
    };
    let headed = [
        (header::CONTENT_TYPE, *kind),
        cached,
        (header::VARY, "accept-encoding"),
    ];
    if takes_gzip(&headers) {
        let encoded = [(header::CONTENT_ENCODING, "gzip")];
        return (headed, encoded, *packed).into_response();
    }
    let mut content = Vec::new();
    match GzDecoder::new(*packed).read_to_end(&mut content) {
        Ok(_) => (headed, content).into_response(),
        Err(_) => ApiError::NOT_FOUND.into_response(),
    }
}

/// True if the client says that it can unpack gzip.
fn takes_gzip(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT_ENCODING);
    let accepted = accepted.iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|coding| {
        let (name, quality) = coding.split_once(';').unwrap_or((coding, ""));
        let is_refused = quality
            .trim()
            .strip_prefix("q=")
            .and_then(|q| q.parse().ok())
            == Some(0.0);
        matches!(name.trim(), "gzip" | "*") && !is_refused
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn gzip_is_sent_to_those_who_take_it() {
        for (accepted, expected) in [
            ("gzip, deflate, br", true),
            ("br;q=1.0, gzip;q=0.5", true),
            ("*", true),
            ("gzip;q=0", false),
            ("gzip; q=0.000", false),
            ("identity", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(accepted));
            assert_eq!(takes_gzip(&headers), expected, "{accepted}");
        }
        assert!(!takes_gzip(&HeaderMap::new()));
    }
}
