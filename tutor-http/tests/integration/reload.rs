//! SIGHUP reads the configuration again.

use serde_json::json;
use tutor_core::conformance::upstream::{Act, Upstream, json_response};

use crate::binary::{Binary, Serving, line_with};
use crate::client::Request;
use crate::tls::fixture;

fn write(binary: &Binary, text: &str) {
    std::fs::write(binary.path("neuro-tutor.toml"), text).unwrap();
}

#[tokio::test]
async fn what_can_change_does_and_what_cannot_is_named() {
    let binary = Binary::new();
    write(&binary, "max_message_chars = 100\ndata = 'memory:'\n");
    let (server, log) = binary.serve_logged(&[], &[]);
    let long = "x".repeat(50);
    Request::chat(&long).send(server.address).await.expect(200);
    let session = Request::chat("kept").send(server.address).await.expect(200);

    write(
        &binary,
        "max_message_chars = 10\ndata = 'elsewhere'\ncors_origins = 'http://a.example'\nlog_level = 'warn'\n",
    );
    server.signal("HUP");
    let applied = line_with(&log, "the configuration was read again");
    for key in ["max_message_chars", "cors_origins", "log_level"] {
        assert!(applied.contains(key), "{applied}");
    }
    let later = line_with(&log, "take effect when the server is started again");
    assert!(
        later.contains("data") && !later.contains("log_level"),
        "{later}"
    );
    Request::chat(&long).send(server.address).await.expect(422);
    let allowed = Request::get("/")
        .header("origin", "http://a.example")
        .send(server.address)
        .await;
    assert_eq!(
        allowed.header("access-control-allow-origin"),
        Some("http://a.example")
    );
    let id = session["session_id"].as_str().unwrap();
    Request::get(&format!("/api/sessions/{id}"))
        .send(server.address)
        .await
        .expect(200);
}

#[tokio::test]
async fn a_mistake_changes_nothing_and_is_said_without_what_is_written_there() {
    let binary = Binary::new();
    write(&binary, "max_message_chars = 100\ndata = 'memory:'\n");
    let (server, log) = binary.serve_logged(&[], &[]);
    for (text, word) in [
        (
            "max_message_chars = 10\nmax_mesage_chars = 10\n",
            "max_message_chars",
        ),
        ("max_message_chars = 10\nkey = 'canary", "line 2"),
        (
            "max_message_chars = 10\ndefault_provider = 'nobody'\n",
            "nobody",
        ),
        ("max_message_chars = 10\ntls_key = 'k'\n", "tls_certificate"),
        (
            "max_message_chars = 10\n[providers.p]\nkind = 'openai'\nkee = 'canary'\n",
            "providers.p",
        ),
    ] {
        write(&binary, text);
        server.signal("HUP");
        let said = line_with(&log, "the one before stays");
        assert!(said.contains(word) && !said.contains("canary"), "{said}");
        Request::chat(&"x".repeat(50))
            .send(server.address)
            .await
            .expect(200);
    }
}

#[tokio::test]
async fn other_providers_answer_from_then_on() {
    let models = json_response(200, &json!({"data": [{"id": "m1"}]}));
    let upstream = Upstream::start([vec![Act::Send(models)]]).await.unwrap();
    let binary = Binary::new();
    write(&binary, "data = 'memory:'\n");
    let (server, log) = binary.serve_logged(&[], &[("OLLAMA_HOST", "off")]);
    let ready = Request::get("/readyz")
        .send(server.address)
        .await
        .expect(200);
    assert_eq!(ready["providers"][0]["name"], "demo");
    write(
        &binary,
        &format!(
            "data = 'memory:'\n[providers.mine]\nkind = 'openai'\nbase_url = '{}'\ndefault_model = 'm1'\n",
            upstream.url()
        ),
    );
    server.signal("HUP");
    let applied = line_with(&log, "the configuration was read again");
    assert!(applied.contains("providers"), "{applied}");
    let ready = Request::get("/readyz")
        .send(server.address)
        .await
        .expect(200);
    assert_eq!(ready["providers"][0]["name"], "mine");
}

#[tokio::test]
async fn whether_there_is_tls_waits_for_the_next_start() {
    let client = crate::tls::client("one.pem", false);
    let status = async |scheme: &str, server: &Serving| {
        let url = format!("{scheme}://localhost:{}/", server.address.port());
        client
            .get(url)
            .send()
            .await
            .map(|answer| answer.status().as_u16())
    };
    let (certificate, key) = (fixture("one.pem"), fixture("one.key"));
    let plain = "data = 'memory:'\nmax_message_chars = 100\n";
    let secure = format!(
        "data = 'memory:'\ntls_certificate = '{}'\ntls_key = '{}'\n",
        certificate.display(),
        key.display()
    );
    for (before, after, scheme, other) in [
        (secure.as_str(), plain, "https", "http"),
        (plain, secure.as_str(), "http", "https"),
    ] {
        let binary = Binary::new();
        write(&binary, before);
        let (server, log) = binary.serve_logged(&[], &[]);
        assert_eq!(status(scheme, &server).await.unwrap(), 200);
        write(&binary, after);
        server.signal("HUP");
        let applied = line_with(&log, "the configuration was read again");
        assert!(
            applied.contains("max_message_chars") && !applied.contains("tls_"),
            "{applied}"
        );
        let later = line_with(&log, "take effect when the server is started again");
        assert!(later.contains("tls_certificate, tls_key"), "{later}");
        assert_eq!(status(scheme, &server).await.unwrap(), 200);
        status(other, &server).await.unwrap_err();
    }
}

#[tokio::test]
async fn a_configuration_file_that_went_away_is_a_mistake() {
    let binary = Binary::new();
    write(&binary, "max_message_chars = 10\ndata = 'memory:'\n");
    let (server, log) = binary.serve_logged(&[], &[]);
    std::fs::remove_file(binary.path("neuro-tutor.toml")).unwrap();
    server.signal("HUP");
    let said = line_with(&log, "the one before stays");
    assert!(said.contains("neuro-tutor.toml is missing"), "{said}");
    let long = Request::chat(&"x".repeat(50));
    long.send(server.address).await.expect(422);
}
