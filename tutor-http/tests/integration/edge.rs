//! What is true of every answer.

use serde_json::json;
use tutor_core::conformance::upstream::{Act, Upstream, json_response};
use tutor_core::provider::scripted::Step;
use tutor_core::provider::{
    CompletionRequest, CompletionStream, ModelInfo, Provider, ProviderConfig, ProviderInfo,
    ScriptedProvider,
};
use tutor_core::{Error, ErrorKind};
use tutor_http::Bounds;

use crate::client::{Request, send_raw};
use crate::server::{Server, builder};

#[tokio::test]
async fn every_answer_has_a_request_id_and_security_headers() {
    let server = Server::start().await;
    for (path, status) in [
        ("/", 200),
        ("/nope", 404),
        ("/docs", 200),
        ("/api/sessions", 200),
        ("/api/chat", 405),
        ("/api/chat/", 307),
    ] {
        let response = Request::get(path)
            .header("x-request-id", "short")
            .send(server.address)
            .await;
        assert_eq!(response.status, status, "{path}");
        let id = response.header("x-request-id").unwrap();
        assert!(id.len() >= 8 && id != "short", "{id}");
        assert_eq!(response.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(response.header("referrer-policy"), Some("no-referrer"));
        assert!(
            response
                .header("content-security-policy")
                .unwrap()
                .contains("frame-ancestors 'none'")
        );
        let private = response.header("cache-control") == Some("no-store");
        assert_eq!(private, path.starts_with("/api/"), "{path}");
        assert_eq!(response.header("server"), None);
    }
}

#[tokio::test]
async fn a_proper_request_id_is_kept_and_any_other_is_replaced() {
    let server = Server::start().await;
    let id = |value: &'static str| {
        let request = Request::get("/api/turns/nobody").header("x-request-id", value);
        let address = server.address;
        async move {
            let response = request.send(address).await;
            let id = response.header("x-request-id").unwrap().to_owned();
            assert_eq!(response.expect(404)["request_id"], id);
            id
        }
    };
    assert_eq!(id("0123-abcd_EF").await, "0123-abcd_EF");
    for bad in ["x", "has space in it", "quote\"and<angle>"] {
        assert_ne!(id(bad).await, bad);
    }
}

#[tokio::test]
async fn a_page_of_an_allowed_origin_can_read_errors_too() {
    let server = Server::start().await;
    for request in [
        Request::get("/api/turns/nobody"),
        Request::post("/api/chat", &json!({})),
        Request::get("/nope"),
    ] {
        let response = request
            .header("Origin", "http://localhost:5173")
            .send(server.address)
            .await;
        assert!(response.status >= 400);
        let allowed = response.header("access-control-allow-origin");
        assert_eq!(allowed, Some("http://localhost:5173"));
        let exposed = response.header("access-control-expose-headers").unwrap();
        for name in ["X-Request-Id", "X-Session-Id", "Retry-After", "RateLimit"] {
            assert!(exposed.split(", ").any(|one| one == name), "{exposed}");
        }
    }
}

#[tokio::test]
async fn a_connection_on_which_a_body_was_left_unread_is_closed_and_its_client_told() {
    let server = Server::start().await;
    let body = json!({"messages": [{"role": "user", "content": "Hi"}]}).to_string();
    for (path, status, told) in [("/api/chat", 200, None), ("/nope", 404, Some("close"))] {
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer = send_raw(server.address, request.as_bytes()).await.unwrap();
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("connection"), told, "{path}");
    }
}

#[tokio::test]
async fn head_is_get_without_a_body() {
    let server = Server::start().await;
    for path in ["/", "/api/sessions", "/openapi.json", "/docs", "/healthz"] {
        let head = Request::new("HEAD", path).send(server.address).await;
        let get = Request::get(path).send(server.address).await;
        assert_eq!((head.status, head.body.len()), (200, 0));
        assert_eq!(
            head.header("content-length"),
            get.header("content-length"),
            "{path}"
        );
        assert_eq!(
            head.header("content-type"),
            get.header("content-type"),
            "{path}"
        );
    }
}

#[tokio::test]
async fn the_inside_of_a_failure_stays_inside() {
    let fail = || {
        vec![Step::Fail(|| {
            Error::new(ErrorKind::DataCorrupt, "canary in /srv/canary")
                .with_context("path", "canary")
        })]
    };
    let server = Server::with_provider(ScriptedProvider::new([fail(), fail()])).await;
    let response = Request::chat("Hello").send(server.address).await;
    let error = response.expect(500);
    assert_eq!(
        (&error["detail"], &error["code"]),
        (&json!("Internal Server Error"), &json!("data_corrupt"))
    );
    assert!(!response.text().contains("canary"));
}

/// A provider that breaks where nobody expects it.
#[derive(Debug)]
struct Panicking;

#[tutor_core::async_trait]
impl Provider for Panicking {
    fn info(&self) -> ProviderInfo {
        ProviderInfo::new("panicking", "m")
    }

    async fn models(&self) -> tutor_core::Result<Vec<ModelInfo>> {
        panic!("canary");
    }

    async fn stream(&self, _: CompletionRequest) -> tutor_core::Result<CompletionStream> {
        panic!("canary");
    }
}

#[tokio::test]
async fn a_panic_costs_one_request() {
    let server = Server::with(builder(Panicking), Bounds::default()).await;
    for request in [Request::get("/api/models"), Request::chat("Hello")] {
        let response = request
            .header("Origin", "http://localhost:5173")
            .send(server.address)
            .await;
        assert!(!response.text().contains("canary"));
        assert_eq!(response.expect(500)["code"], "internal");
        assert!(response.header("access-control-allow-origin").is_some());
    }
    let counts = Request::get("/metrics").send(server.address).await.text();
    let counts = crate::metrics::samples(&counts);
    assert!(
        counts["neuro_tutor_handler_panics_total"] >= 1.0,
        "{counts:?}"
    );
}

#[tokio::test]
async fn a_stopping_server_says_that_it_is_not_ready() {
    let server = Server::start().await;
    let ready = Request::get("/readyz");
    assert_eq!(
        ready.send(server.address).await.expect(200)["status"],
        "ready"
    );
    server.state.drain();
    assert_eq!(
        ready.send(server.address).await.expect(503)["status"],
        "draining"
    );
    Request::get("/healthz")
        .send(server.address)
        .await
        .expect(200);
}

#[tokio::test]
async fn readiness_shows_how_the_providers_are_and_does_not_depend_on_them() {
    let refusal = json_response(503, &json!({}));
    let upstream = Upstream::start([vec![Act::Send(refusal)]]).await.unwrap();
    let options = json!({
        "kind": "openai", "key": ["canary-1", "canary-2"], "base_url": upstream.url(),
        "breaker": {"failures": 1}, "max_retries": 0, "max_concurrent": 5,
    });
    let options = serde_json::from_value(options).unwrap();
    let config = ProviderConfig::from_options("main", options, |_| Ok(None)).unwrap();
    let server = Server::with(builder(config.build().unwrap()), Bounds::default()).await;
    let ready = async || {
        Request::get("/readyz")
            .send(server.address)
            .await
            .expect(200)
    };
    let provider = &ready().await["providers"][0];
    assert_eq!(provider["name"], "main");
    assert_eq!(provider["breaker"]["state"], "closed");
    assert_eq!(provider["load"]["max_running"], 5);
    assert_eq!(provider["keys"][1]["state"], "usable");
    let response = Request::chat("Hello").send(server.address).await;
    response.expect(503);
    let said = ready().await;
    assert_eq!(said["status"], "ready");
    assert_eq!(said["providers"][0]["breaker"]["state"], "open");
    assert!(!said.to_string().contains("canary"), "{said}");
}

#[tokio::test]
async fn a_closed_store_is_not_ready_and_hides_why() {
    let server = Server::start().await;
    server.tutor.close().await.unwrap();
    let ready = Request::get("/readyz")
        .send(server.address)
        .await
        .expect(503);
    assert_eq!(ready["status"], "store_unavailable");
    let response = Request::get("/api/sessions").send(server.address).await;
    assert_eq!(response.header("retry-after"), Some("1"));
    let error = response.expect(503);
    assert_eq!(error["code"], "store_unavailable");
    assert!(
        error["detail"].as_str().unwrap().contains("try again"),
        "{error}"
    );
}

#[tokio::test]
async fn models_are_listed_with_the_default_first_even_when_a_provider_fails() {
    let server = Server::start().await;
    let list = Request::get("/api/models")
        .send(server.address)
        .await
        .expect(200);
    assert_eq!(
        list["models"][0],
        json!({"id": "demo", "provider": "demo", "context_window": null, "default": true})
    );
    assert_eq!(list["warnings"], json!([]));

    let server = Server::with(
        builder(Unlisted).provider(ScriptedProvider::reply("x")),
        Bounds::default(),
    )
    .await;
    let list = Request::get("/api/models")
        .send(server.address)
        .await
        .expect(200);
    let models: Vec<_> = list["models"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| (m["id"].as_str().unwrap(), m["default"].as_bool().unwrap()))
        .collect();
    assert_eq!(models, [("m", true), ("script", false)]);
    assert_eq!(list["warnings"][0]["code"], "models_unlisted");
}

/// A provider that cannot list its models.
#[derive(Debug)]
struct Unlisted;

#[tutor_core::async_trait]
impl Provider for Unlisted {
    fn info(&self) -> ProviderInfo {
        ProviderInfo::new("unlisted", "m")
    }

    async fn models(&self) -> tutor_core::Result<Vec<ModelInfo>> {
        Err(Error::new(ErrorKind::ProviderUnavailable, "down"))
    }

    async fn stream(&self, _: CompletionRequest) -> tutor_core::Result<CompletionStream> {
        Err(Error::new(ErrorKind::ProviderUnavailable, "down"))
    }
}
