//! The interactive documentation, served from this binary alone: no other host is asked.

use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use http::header;
use utoipa::openapi::OpenApi;
use utoipa_swagger_ui::Config;

use crate::error::ApiError;
use crate::state::AppState;

const PAGE: &str = r##"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Neuro Tutor API - Swagger UI</title>
<link rel="stylesheet" href="/docs/assets/swagger-ui.css">
<link rel="icon" type="image/png" href="/docs/assets/favicon-32x32.png">
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

/// The files of Swagger UI that the page needs.
const ASSETS: &[&str] = &[
    "swagger-ui.css",
    "swagger-ui-bundle.js",
    "favicon-32x32.png",
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

async fn asset(Path(name): Path<String>) -> Response {
    let cached = (header::CACHE_CONTROL, "public, max-age=3600");
    if name == "start.js" {
        let kind = (header::CONTENT_TYPE, "text/javascript; charset=utf-8");
        return ([kind, cached], START).into_response();
    }
    if !ASSETS.contains(&name.as_str()) {
        return ApiError::NOT_FOUND.into_response();
    }
    match utoipa_swagger_ui::serve(&name, Arc::new(Config::default())) {
        Ok(Some(file)) => {
            let bytes = Bytes::from(file.bytes.into_owned());
            let headers = [
                (header::CONTENT_TYPE, file.content_type),
                (cached.0, cached.1.to_owned()),
            ];
            (headers, bytes).into_response()
        }
        Ok(None) | Err(_) => ApiError::NOT_FOUND.into_response(),
    }
}
