//! Words of learners and keys are planted wherever something can be written, and are found where
//! they belong and nowhere else.

use serde_json::{Value, json};
use tutor_core::conformance::upstream::{Act, Upstream, event_stream, json_response};

use crate::binary::Binary;
use crate::client::{Request, Response};

/// What the whole test run looks for in all that is logged and printed.
const CANARY: &str = "canary";

#[tokio::test]
async fn what_learners_write_is_in_no_log_metric_error_or_message_of_another() {
    let refusal = json!({"error": {"message": "canary-provider sk-canary"}});
    let words = r#"data: {"choices":[{"index":0,"delta":{"content":"canary-reply"},"finish_reason":"stop"}]}"#;
    let reply = event_stream(format!("{words}\n\ndata: [DONE]\n\n"));
    let script = (0..40).map(|number| {
        let answer = match number % 4 {
            0 => json_response(400, &refusal),
            1 => json_response(500, &refusal),
            2 => b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n\r\ncanary".to_vec(),
            _ => reply.clone(),
        };
        vec![Act::Send(answer)]
    });
    let upstream = Upstream::start(script).await.unwrap();
    let binary = Binary::new();
    let config = format!(
        "auth = \"required\"\n[providers.main]\nkind = \"openai\"\nbase_url = \"{}\"\n\
         key = \"sk-canary-key\"\nmax_retries = 0\nbreaker = false\n",
        upstream.url()
    );
    std::fs::write(binary.path("neuro-tutor.toml"), config).unwrap();
    let (server, log) = binary.serve_logged(&["--data", "d", "--log-level", "trace"], &[]);

    let account = json!({"email": "canary@canary.example", "password": "canary password"});
    let told = Request::post("/api/auth/register", &account)
        .send(server.address)
        .await
        .expect(201);
    let token = told["access_token"].as_str().unwrap().to_owned();
    let signed = |request: Request| {
        request
            .header("authorization", &format!("Bearer {token}"))
            .header("cookie", "canary=canary")
            .header("user-agent", "canary")
            .header("referer", "http://canary.example/canary")
            .header("x-request-id", "canary/canary")
    };
    let send = async |request: Request| -> Response { signed(request).send(server.address).await };
    let mut refusals = Vec::new();

    // By every protocol, whatever becomes of it.
    for _ in 0..2 {
        for (path, body) in [
            (
                "/api/chat",
                json!({"messages": [{"role": "user", "content": "canary"}],
                    "preferences": {"canary": "canary"}}),
            ),
            (
                "/api/chat",
                json!({"messages": [{"role": "user", "content": "canary"}], "stream": true}),
            ),
            (
                "/v1/chat/completions",
                json!({"model": "canary", "messages": [{"role": "user", "content": "canary"}],
                    "user": "canary", "metadata": {"canary": "canary"}}),
            ),
            (
                "/v1/messages",
                json!({"model": "canary", "max_tokens": 9, "system": "canary",
                    "messages": [{"role": "user", "content": "canary"}]}),
            ),
            (
                "/agui",
                json!({"threadId": "t", "runId": "r", "state": {"canary": 1},
                    "messages": [{"id": "m", "role": "user", "content": "canary"}]}),
            ),
        ] {
            let named = Request::post(path, &body).header("idempotency-key", "canary");
            for request in [named, Request::post(path, &body)] {
                let answer = send(request).await;
                if answer.status >= 400 {
                    refusals.push(answer.text());
                }
            }
        }
    }
    let session =
        json!({"id": "canary-session", "title": "canary", "metadata": {"canary": "canary"}});
    send(Request::post("/api/sessions", &session))
        .await
        .expect(201);
    let file = crate::files::form("canary.txt", b"canary");
    send(file).await.expect(201);
    let key = json!({"name": "canary", "scopes": ["read"]});
    send(Request::post("/api/keys", &key)).await.expect(201);
    let feedback = json!({"rating": "up", "comment": "canary"});
    let rate = Request::post("/api/messages/canary/feedback", &feedback);
    refusals.push(send(rate).await.text());
    for path in [
        "/api/sessions?q=canary",
        "/api/sessions/canary-session/export?format=markdown",
        "/api/sessions/canary-session/messages",
        "/api/export",
    ] {
        assert_eq!(send(Request::get(path)).await.status, 200, "{path}");
    }
    for path in [
        "/canary",
        "/api/sessions/canary",
        "/api/turns/canary/events",
        "/api/files/canary",
        "/v1/models/canary",
        "/api/turns/x/events?ticket=canary",
    ] {
        refusals.push(send(Request::get(path)).await.text());
    }
    // Bodies that are none, and passwords that are wrong.
    for (path, body) in [
        ("/api/chat", "{\"canary\": canary"),
        ("/v1/messages", "canary"),
        ("/api/import", "canary\n"),
    ] {
        let broken = Request::new("POST", path)
            .header("content-type", "application/json")
            .body(body);
        send(broken).await;
    }
    let wrong = json!({"email": "canary@canary.example", "password": "another canary"});
    let wrong = Request::post("/api/auth/login", &wrong);
    refusals.push(wrong.send(server.address).await.text());
    let wrong = json!({"refresh_token": "nr_canary.canary.1.canary"});
    let wrong = Request::post("/api/auth/refresh", &wrong);
    refusals.push(wrong.send(server.address).await.text());

    server.signal("TERM");
    assert_eq!(server.ended(), Some(0));
    assert!(refusals.len() > 10, "{}", refusals.len());
    for refusal in refusals {
        // An id that was asked for may be said to the one who asked; words of others may not.
        let told: Value = serde_json::from_str(&refusal).unwrap_or_default();
        let told = [&told["detail"], &told["error"]["message"]];
        assert!(
            !told.iter().any(|told| told.to_string().contains(CANARY)),
            "{refusal}"
        );
    }
    let mut lines = 0;
    for line in log.iter() {
        assert!(!line.to_lowercase().contains(CANARY), "{line}");
        lines += 1;
    }
    assert!(lines > 40, "the log is loud: {lines}");

    // It is all there, for whom it belongs to.
    let export = binary.run(&["export", "--data", "d"]).text();
    assert!(export.matches(CANARY).count() > 20, "{export}");
    // What operators are told is not.
    for command in [
        &["usage", "--data", "d"][..],
        &["verify", "--data", "d"],
        &["config"],
    ] {
        let told = binary.run(command);
        let text = String::from_utf8_lossy(&told.out).into_owned() + &told.err;
        assert!(!text.to_lowercase().contains(CANARY), "{command:?}: {text}");
    }
}
