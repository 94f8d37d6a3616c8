//! Conversations and their messages.

use serde_json::{Value, json};

use crate::client::{Request, Response};
use crate::server::Server;

async fn get(server: &Server, path: &str) -> Value {
    Request::get(path).send(server.address).await.expect(200)
}

fn ids(list: &Value) -> Vec<&str> {
    let items = list.as_array().unwrap().iter();
    items.map(|item| item["id"].as_str().unwrap()).collect()
}

async fn create(server: &Server, body: Value) -> Response {
    Request::post("/api/sessions", &body)
        .send(server.address)
        .await
}

#[tokio::test]
async fn a_session_is_created_read_changed_and_deleted() {
    let server = Server::start().await;
    let body = json!({"id": "my.session-1", "title": "Algebra", "metadata": {"class": "7b"}});
    let created = create(&server, body.clone()).await;
    assert_eq!(
        created.header("location"),
        Some("/api/sessions/my.session-1")
    );
    let session = created.expect(201);
    assert_eq!(
        (&session["title"], &session["metadata"]),
        (&json!("Algebra"), &json!({"class": "7b"}))
    );
    assert_eq!(
        (&session["head_id"], &session["running_turn_id"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(get(&server, "/api/sessions/my.session-1").await, session);
    assert_eq!(create(&server, body).await.expect(409)["code"], "conflict");

    let patch = Request::new("PATCH", "/api/sessions/my.session-1");
    let renamed = patch.clone().json(&json!({"title": "Geometry"}));
    let renamed = renamed.send(server.address).await.expect(200);
    assert_eq!(
        (&renamed["title"], &renamed["metadata"]),
        (&json!("Geometry"), &json!({"class": "7b"}))
    );
    let cleared = patch.json(&json!({"metadata": {}}));
    let cleared = cleared.send(server.address).await.expect(200);
    assert_eq!(
        (&cleared["title"], &cleared["metadata"]),
        (&json!("Geometry"), &json!({}))
    );

    let delete = Request::new("DELETE", "/api/sessions/my.session-1");
    let deleted = delete.send(server.address).await;
    assert_eq!((deleted.status, deleted.body.len()), (204, 0));
    assert_eq!(
        delete.send(server.address).await.expect(404)["code"],
        "not_found"
    );
    let read = Request::get("/api/sessions/my.session-1/messages");
    assert_eq!(
        read.send(server.address).await.expect(404)["code"],
        "not_found"
    );
}

#[tokio::test]
async fn a_session_needs_nothing_to_be_created() {
    let server = Server::start().await;
    let empty = Request::new("POST", "/api/sessions")
        .send(server.address)
        .await;
    let session = empty.expect(201);
    let chat = json!({"session_id": session["id"]});
    Request::chat_with("Hello", chat)
        .send(server.address)
        .await
        .expect(200);
}

#[tokio::test]
async fn what_is_wrong_with_a_session_is_told_field_by_field() {
    let server = Server::start().await;
    let problems = async |body: Value| {
        let found = create(&server, body).await.expect(422)["detail"].clone();
        let found = found.as_array().unwrap().clone();
        let short = found.iter().map(|p| {
            let place = p["loc"].as_array().unwrap().last().unwrap();
            format!(
                "{} {}",
                place.as_str().unwrap(),
                p["type"].as_str().unwrap()
            )
        });
        short.collect::<Vec<_>>()
    };
    let body = json!({"id": "a b", "title": "", "metadata": [], "extra": 1});
    assert_eq!(
        problems(body).await,
        [
            "extra extra_forbidden",
            "id value_error",
            "title string_too_short",
            "metadata dict_type"
        ]
    );
    assert_eq!(
        problems(json!({"title": "é".repeat(201)})).await,
        ["title string_too_long"]
    );
    assert_eq!(
        problems(json!({"title": "   "})).await,
        ["title value_error"]
    );
    assert_eq!(problems(json!([])).await, ["body model_attributes_type"]);
    create(&server, json!({"title": "é".repeat(200)}))
        .await
        .expect(201);

    let patch = Request::new("PATCH", "/api/sessions/any");
    for body in [
        json!({}),
        json!({"title": null}),
        json!({"metadata": null}),
        json!({"id": "b"}),
    ] {
        patch
            .clone()
            .json(&body)
            .send(server.address)
            .await
            .expect(422);
    }
    let large = json!({"metadata": {"x": "y".repeat(20_000)}});
    assert_eq!(
        create(&server, large).await.expect(413)["code"],
        "too_large"
    );
}

#[tokio::test]
async fn sessions_are_listed_in_pages_the_latest_used_first() {
    let server = Server::start().await;
    for i in 0..5 {
        create(&server, json!({"id": format!("s{i}")}))
            .await
            .expect(201);
    }
    Request::chat_with("Hello", json!({"session_id": "s1"}))
        .send(server.address)
        .await
        .expect(200);
    let mut seen = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = get(&server, &format!("/api/sessions?limit=2{cursor}")).await;
        seen.extend(ids(&page["sessions"]).into_iter().map(str::to_owned));
        assert!(page["sessions"].as_array().unwrap().len() <= 2);
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, ["s1", "s4", "s3", "s2", "s0"]);
    assert_eq!(
        ids(&get(&server, "/api/sessions?unknown=1").await["sessions"]).len(),
        5
    );
}

#[tokio::test]
async fn messages_are_read_backwards_and_forwards_in_pages() {
    let server = Server::start().await;
    for text in ["One?", "Two?", "Three?"] {
        let more = match text {
            "One?" => json!({}),
            _ => {
                json!({"session_id": server.tutor.sessions(1, None).await.unwrap().items[0].id.as_str()})
            }
        };
        Request::chat_with(text, more)
            .send(server.address)
            .await
            .expect(200);
    }
    let session = server.tutor.sessions(1, None).await.unwrap().items[0]
        .id
        .clone();
    let path = format!("/api/sessions/{session}/messages");
    let all = get(&server, &path).await;
    let all_ids = ids(&all["messages"]);
    assert_eq!(all_ids.len(), 6);
    assert_eq!(all["next_cursor"], Value::Null);

    let last = get(&server, &format!("{path}?limit=2")).await;
    assert_eq!(ids(&last["messages"]), all_ids[4..]);
    let cursor = last["next_cursor"].as_str().unwrap();
    let before = get(&server, &format!("{path}?limit=3&before={cursor}")).await;
    assert_eq!(ids(&before["messages"]), all_ids[1..4]);

    let first = all_ids[0];
    let after = get(&server, &format!("{path}?limit=2&after={first}")).await;
    assert_eq!(ids(&after["messages"]), all_ids[1..3]);
    assert_eq!(after["next_cursor"], all_ids[2]);

    let both = Request::get(&format!("{path}?before={first}&after={first}"));
    let both = both.send(server.address).await.expect(422);
    assert_eq!(both["detail"][0]["loc"], json!(["query", "after"]));
    let unknown = Request::get(&format!("{path}?before=nobody"));
    assert_eq!(
        unknown.send(server.address).await.expect(422)["code"],
        "invalid_input"
    );
}

#[tokio::test]
async fn paths_and_queries_are_checked_in_the_same_shape() {
    let server = Server::start().await;
    for (path, loc, kind) in [
        (
            "/api/sessions?limit=0",
            json!(["query", "limit"]),
            "greater_than_equal",
        ),
        (
            "/api/sessions?limit=201",
            json!(["query", "limit"]),
            "less_than_equal",
        ),
        (
            "/api/sessions?limit=ten",
            json!(["query", "limit"]),
            "int_parsing",
        ),
        (
            "/api/sessions?limit=",
            json!(["query", "limit"]),
            "int_parsing",
        ),
        (
            "/api/sessions?cursor=%00",
            json!(["query", "cursor"]),
            "value_error",
        ),
        (
            "/api/sessions/a%20b",
            json!(["path", "session_id"]),
            "value_error",
        ),
        (
            "/api/sessions/a%2Fb",
            json!(["path", "session_id"]),
            "value_error",
        ),
        (
            "/api/turns/%C3%A9",
            json!(["path", "turn_id"]),
            "value_error",
        ),
        (
            "/api/sessions/s/messages?branch=a%20b",
            json!(["query", "branch"]),
            "value_error",
        ),
    ] {
        let problem = Request::get(path).send(server.address).await.expect(422);
        let problem = &problem["detail"][0];
        assert_eq!(
            (&problem["loc"], &problem["type"]),
            (&loc, &json!(kind)),
            "{path}"
        );
    }
    // Not even text.
    Request::get("/api/sessions/%FF")
        .send(server.address)
        .await
        .expect(404);
}

#[tokio::test]
async fn deleting_a_session_stops_its_reply() {
    let gate = std::sync::Arc::new(tokio::sync::Notify::new());
    let script = vec![tutor_core::provider::scripted::Step::Wait(gate)];
    let server = Server::with_provider(tutor_core::provider::ScriptedProvider::new([script])).await;
    let stream = Request::chat_with("One?", json!({"stream": true}));
    let mut stream = stream.open(server.address).await.unwrap();
    let started = stream.event().await.unwrap();
    let session = started.get("session_id").as_str().unwrap();
    let delete = Request::new("DELETE", &format!("/api/sessions/{session}"));
    assert_eq!(delete.send(server.address).await.status, 204);
    assert_eq!(
        stream.events().await.last().unwrap().get("status"),
        "cancelled"
    );
    let turn = format!("/api/turns/{}", started.get("turn_id").as_str().unwrap());
    Request::get(&turn).send(server.address).await.expect(404);
}

#[tokio::test]
async fn every_path_with_a_slash_at_its_end_leads_to_the_one_without() {
    let server = Server::start().await;
    for (path, location) in [
        ("/docs/", Some("/docs")),
        ("/healthz/", Some("/healthz")),
        ("/api/sessions/s1/?a=1", Some("/api/sessions/s1?a=1")),
        (
            "/api/sessions/s1/messages/",
            Some("/api/sessions/s1/messages"),
        ),
        ("/api/turns/t1/events/", Some("/api/turns/t1/events")),
        ("//evil.example/", None),
        ("/nope/", None),
        ("/api/sessions//", None),
    ] {
        let response = Request::get(path).send(server.address).await;
        match location {
            Some(location) => {
                assert_eq!(
                    (response.status, response.header("location")),
                    (307, Some(location))
                );
            }
            None => assert_eq!(
                (response.status, response.text().as_str()),
                (404, r#"{"detail":"Not Found"}"#),
                "{path}"
            ),
        }
    }
}

/// The texts of a list of messages.
fn texts(list: &Value) -> Vec<&str> {
    let items = list["messages"].as_array().unwrap().iter();
    items
        .map(|item| item["content"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn branches_are_listed_switched_and_cut() {
    let server = Server::start().await;
    let ask = async |body: Value| {
        let asked = Request::post("/api/chat", &body);
        asked.send(server.address).await.expect(200)
    };
    let first = ask(json!({"messages": [{"role": "user", "content": "one"}]})).await;
    let session = first["session_id"].as_str().unwrap();
    let reply = first["reply_message"]["id"].as_str().unwrap();
    let again = ask(json!({"session_id": session, "regenerate": reply})).await;
    let other = again["reply_message"]["id"].as_str().unwrap();
    let next = json!({"session_id": session, "messages": [{"role": "user", "content": "two"}]});
    ask(next).await;

    let messages = format!("/api/sessions/{session}/messages");
    let siblings = get(&server, &format!("{messages}/{reply}/siblings")).await;
    assert_eq!(ids(&siblings["messages"]), [reply, other]);
    let nobody = Request::get(&format!("{messages}/nobody/siblings"));
    nobody.send(server.address).await.expect(404);

    let patch = Request::new("PATCH", &format!("/api/sessions/{session}"));
    let switched = patch
        .clone()
        .json(&json!({"head_id": reply, "title": "mine"}));
    let switched = switched.send(server.address).await.expect(200);
    assert_eq!(
        (&switched["head_id"], &switched["title"]),
        (&json!(reply), &json!("mine"))
    );
    let active = get(&server, &messages).await;
    assert_eq!(active["messages"].as_array().unwrap().len(), 2);
    let nobody = patch.clone().json(&json!({"head_id": "nobody"}));
    nobody.send(server.address).await.expect(404);
    let wrong = patch.json(&json!({"head_id": 5}));
    wrong.send(server.address).await.expect(422);

    let delete = async |path: &str, status: u16| {
        let deleted = Request::new("DELETE", path).send(server.address).await;
        assert_eq!(deleted.status, status, "{path}");
    };
    delete(&format!("{messages}/{other}"), 409).await;
    delete(&format!("{messages}/{other}?branch=maybe"), 422).await;
    delete(&format!("{messages}/{other}?branch=cut"), 204).await;
    delete(&format!("{messages}/{other}?branch=cut"), 404).await;
    delete(&format!("{messages}/{reply}"), 204).await;
    let left = get(&server, &format!("{messages}?branch=all")).await;
    assert_eq!(texts(&left), ["one"]);
}
