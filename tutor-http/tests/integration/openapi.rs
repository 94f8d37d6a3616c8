//! The description of the API is what the server does.

use std::path::Path;

use serde_json::Value;

use crate::client::Request;
use crate::server::Server;

fn described() -> Value {
    serde_json::to_value(tutor_http::openapi()).unwrap()
}

/// A path whose every parameter is `value`.
fn filled(path: &str, value: &str) -> String {
    let segments = path.split('/');
    let filled = segments.map(|s| if s.starts_with('{') { value } else { s });
    filled.collect::<Vec<_>>().join("/")
}

#[test]
fn the_committed_description_is_the_one_that_is_served() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json");
    let current = format!("{}\n", serde_json::to_string_pretty(&described()).unwrap());
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &current).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == current,
        "openapi.json is out of date: run the tests once with UPDATE=1"
    );
}

#[tokio::test]
async fn every_route_answers_the_described_methods_and_no_others() {
    let server = Server::start().await;
    let served = Request::get("/openapi.json").send(server.address).await;
    assert_eq!(served.expect(200), described());
    for (path, item) in described()["paths"].as_object().unwrap() {
        let path = filled(path, "x");
        let described = item.as_object().unwrap();
        let mut allowed: Vec<_> = described.keys().map(|m| m.to_uppercase()).collect();
        if allowed.iter().any(|method| method == "GET") {
            allowed.push("HEAD".to_owned());
        }
        allowed.sort();
        let refused = Request::new("FROB", &path).send(server.address).await;
        let body = refused.expect(405);
        let told = body.get("detail").unwrap_or(&body["error"]["message"]);
        assert_eq!(told, "Method Not Allowed");
        let mut actual: Vec<_> = refused.header("allow").unwrap().split(',').collect();
        actual.sort_unstable();
        assert_eq!(actual, allowed, "{path}");
    }
}

/// Sends each route something that it cannot take, and compares the answer with the description.
#[tokio::test]
async fn every_answer_has_a_described_status_and_kind() {
    let server = Server::start().await;
    let described = described();
    let mut checked = 0;
    for (path, item) in described["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            for id in ["unknown", "not%20an%20id"] {
                let path = filled(path, id);
                let plain = Request::new(&method.to_uppercase(), &path);
                for request in [
                    plain.clone(),
                    plain.clone().json(&serde_json::json!([])),
                    plain
                        .clone()
                        .header("content-type", "application/json")
                        .body("{"),
                    plain.clone().body("x"),
                ] {
                    let response = request.send(server.address).await;
                    let answer = &operation["responses"][response.status.to_string()];
                    assert!(answer.is_object(), "{method} {path}: {}", response.status);
                    if let Some(kind) = response.header("content-type") {
                        let kind = kind.split(';').next().unwrap();
                        assert!(
                            answer["content"][kind].is_object(),
                            "{method} {path}: {kind}"
                        );
                    }
                    checked += 1;
                }
            }
        }
    }
    assert!(checked > 100, "{checked}");
}

#[tokio::test]
async fn the_documentation_needs_no_other_host() {
    let server = Server::start().await;
    let page = Request::get("/docs").send(server.address).await;
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    let policy = page.header("content-security-policy").unwrap();
    assert!(
        policy.contains("default-src 'none'") && policy.contains("script-src 'self'"),
        "{policy}"
    );
    let text = page.text();
    assert!(!text.contains("//"), "no address of another host");
    assert!(
        !text.contains("<script>"),
        "the policy allows no script in the page"
    );
    let mut assets = 0;
    for link in text.split(['"']).filter(|part| part.starts_with("/docs/")) {
        let asset = Request::get(link).send(server.address).await;
        assert_eq!(asset.status, 200, "{link}");
        assert!(asset.body.len() > 100, "{link}");
        assets += 1;
    }
    assert_eq!(assets, 3);
    let style = "/docs/assets/swagger-ui.css";
    let whole = Request::get(style).send(server.address).await;
    let packed = Request::get(style)
        .header("accept-encoding", "gzip")
        .send(server.address)
        .await;
    assert_eq!(whole.header("content-encoding"), None);
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    assert!(packed.body.len() < whole.body.len() / 3);
    Request::get("/docs/assets/index.html")
        .send(server.address)
        .await
        .expect(404);
}
