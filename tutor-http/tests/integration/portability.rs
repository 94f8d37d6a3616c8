//! Taking conversations along, and bringing them in.

use serde_json::{Value, json};
use tutor_core::conformance::sample::{begin, end, line, new_turn};
use tutor_core::message::Audience;
use tutor_core::provider::DemoProvider;
use tutor_core::store::{MemoryStore, SessionStore};
use tutor_core::{OwnerId, Tutor};
use tutor_http::Bounds;

use crate::client::{Request, Response};
use crate::server::Server;

/// A server with two conversations of its learner, one with a message that is not for them, and
/// one of somebody else.
async fn filled() -> Server {
    let store = MemoryStore::new();
    line(&store, "local", "a", 3).await;
    line(&store, "somebody", "theirs", 1).await;
    let mut new = new_turn("local", "b", "b-0", None);
    let mut note = new.messages[0].clone();
    note.id = "note".parse().unwrap();
    note.content = "canary for teachers".into();
    note.visible_to = [Audience::Teacher].into();
    new.messages[0].parent_id = Some(note.id.clone());
    new.messages.insert(0, note);
    let turn = begin(&store, new).await;
    store.finish_turn(&turn.key(), end(&turn)).await.unwrap();
    let builder = Tutor::builder().data(store).provider(DemoProvider::new());
    Server::with(builder, Bounds::default()).await
}

fn import(path: &str, bytes: &[u8]) -> Request {
    Request::new("POST", path)
        .header("content-type", "application/x-ndjson")
        .body(bytes)
}

async fn export(server: &Server) -> Response {
    let response = Request::get("/api/export").send(server.address).await;
    assert_eq!(response.status, 200);
    assert_eq!(
        response.header("content-type"),
        Some("application/x-ndjson")
    );
    response
}

#[tokio::test]
async fn what_one_server_exports_another_one_imports_and_exports_again_equal() {
    let (here, there) = (filled().await, Server::start().await);
    let all = export(&here).await;
    let text = all.text();
    assert!(
        !text.contains("canary") && !text.contains("somebody"),
        "{text}"
    );
    let done = import("/api/import", &all.body)
        .send(there.address)
        .await
        .expect(200);
    assert_eq!(
        (&done["sessions"], &done["added"], &done["messages"]),
        (&json!(2), &json!(2), &json!(8))
    );
    assert_eq!(export(&there).await.text(), text);
    let again = import("/api/import", &all.body)
        .send(there.address)
        .await
        .expect(200);
    assert_eq!(
        (&again["added"], &again["unchanged"]),
        (&json!(0), &json!(2))
    );
    let messages = Request::get("/api/sessions/b/messages")
        .send(there.address)
        .await
        .expect(200);
    assert_eq!(messages["messages"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn what_is_imported_becomes_the_callers() {
    let (here, there) = (filled().await, Server::start().await);
    let mut exporter = here
        .tutor
        .for_owner(OwnerId::new("somebody").unwrap())
        .export();
    let mut all = Vec::new();
    while let Some(lines) = exporter.next().await.unwrap() {
        all.extend(lines);
    }
    import("/api/import", &all)
        .send(there.address)
        .await
        .expect(200);
    Request::get("/api/sessions/theirs")
        .send(there.address)
        .await
        .expect(200);
}

#[tokio::test]
async fn what_cannot_be_imported_is_refused_by_its_line_and_leaves_nothing_half() {
    let (here, there) = (filled().await, Server::start().await);
    let all = export(&here).await.body;
    let cut = import("/api/import", &all[..all.len() / 2])
        .send(there.address)
        .await
        .expect(422);
    assert!(cut["detail"].to_string().contains("line "), "{cut}");
    let plain = Request::new("POST", "/api/import").body(all.clone());
    plain.send(there.address).await.expect(415);
    import("/api/import?on_conflict=maybe", &all)
        .send(there.address)
        .await
        .expect(422);
    // One of another beginning under the same id.
    let other = json!({"id": "a", "title": "mine"});
    Request::post("/api/sessions", &other)
        .send(there.address)
        .await;
    let said = import("/api/import", &all).send(there.address).await;
    if said.status == 409 {
        assert!(
            said.json()["detail"].to_string().contains("line "),
            "{said:?}"
        );
    }
    let kept = import("/api/import?on_conflict=keep", &all)
        .send(there.address)
        .await
        .expect(200);
    assert_eq!(kept["sessions"], 2);
    let done = import("/api/import?on_conflict=replace", &all)
        .send(there.address)
        .await
        .expect(200);
    assert_eq!(done["sessions"], 2);
    assert!(export(&there).await.body == all);
}

#[tokio::test]
async fn an_import_that_is_too_large_is_refused() {
    let mut bounds = Bounds::default();
    bounds.max_import_bytes = 1000;
    let server = Server::with_bounds(bounds).await;
    let refused = import("/api/import", &[b' '; 2000])
        .send(server.address)
        .await;
    assert!(
        refused.expect(413)["detail"]
            .as_str()
            .unwrap()
            .contains("1000")
    );
}

#[tokio::test]
async fn a_conversation_is_exported_as_json_and_as_markdown() {
    let server = filled().await;
    let path = "/api/sessions/b/export";
    let json = Request::get(path).send(server.address).await;
    assert_eq!(
        json.header("content-disposition"),
        Some("attachment; filename=\"b.json\"")
    );
    let body: Value = json.expect(200);
    assert_eq!(
        (&body["session"]["id"], &body["session"]["message_count"]),
        (&json!("b"), &json!(2))
    );
    assert_eq!(body["messages"][0]["content"], "question u-b-0");
    let markdown = Request::get("/api/sessions/b/export?format=markdown")
        .send(server.address)
        .await;
    assert_eq!(
        markdown.header("content-type"),
        Some("text/markdown; charset=utf-8")
    );
    let text = markdown.text();
    assert!(
        text.starts_with("# Licht 光 🌞\n\n## Learner, 1970-"),
        "{text}"
    );
    assert!(
        text.contains("\n\nquestion u-b-0\n\n## Tutor, 1970-"),
        "{text}"
    );
    assert!(
        text.ends_with("\n\nan answer\n") && !text.contains("canary"),
        "{text}"
    );
    Request::get("/api/sessions/none/export")
        .send(server.address)
        .await
        .expect(404);
    Request::get("/api/sessions/b/export?format=pdf")
        .send(server.address)
        .await
        .expect(422);
}
