//! Feedback, search, and what a model would see.

use serde_json::json;

use crate::client::Request;
use crate::server::Server;

#[tokio::test]
async fn feedback_is_kept_with_the_message_and_shown_with_it() {
    let server = Server::start().await;
    let chat = Request::chat("What is photosynthesis?")
        .send(server.address)
        .await
        .expect(200);
    let id = chat["reply_message"]["id"].as_str().unwrap();
    let path = format!("/api/messages/{id}/feedback");
    let rate = |body| Request::post(&path, &body);
    let up = json!({"rating": "up", "comment": "clear"});
    let kept = rate(up).send(server.address).await.expect(200);
    assert_eq!(
        (&kept["rating"], &kept["message_id"]),
        (&json!("up"), &json!(id))
    );
    assert_eq!(kept["session_id"], chat["session_id"]);
    let down = json!({"rating": "down", "session_id": chat["session_id"]});
    rate(down).send(server.address).await.expect(200);
    let list = format!(
        "/api/sessions/{}/messages",
        chat["session_id"].as_str().unwrap()
    );
    let messages = Request::get(&list).send(server.address).await.expect(200);
    assert!(messages["messages"][0].get("feedback").is_none());
    assert_eq!(messages["messages"][1]["feedback"]["rating"], "down");
    assert_eq!(messages["messages"][1]["feedback"]["comment"], json!(null));

    for (body, loc) in [
        (json!({"rating": "meh"}), json!(["body", "rating"])),
        (json!({}), json!(["body", "rating"])),
        (
            json!({"rating": "up", "comment": ""}),
            json!(["body", "comment"]),
        ),
        (
            json!({"rating": "up", "stars": 5}),
            json!(["body", "stars"]),
        ),
    ] {
        let refused = rate(body).send(server.address).await.expect(422);
        assert_eq!(refused["detail"][0]["loc"], loc);
    }
    let nobody = Request::post("/api/messages/nobody/feedback", &json!({"rating": "up"}));
    nobody.send(server.address).await.expect(404);
    Request::new("DELETE", &path)
        .send(server.address)
        .await
        .expect_empty(204);
    let messages = Request::get(&list).send(server.address).await.expect(200);
    assert!(messages["messages"][1].get("feedback").is_none());
}

#[tokio::test]
async fn conversations_are_found_by_what_was_said() {
    let server = Server::start().await;
    let chat = Request::chat("Why do leaves turn RED?")
        .send(server.address)
        .await
        .expect(200);
    Request::chat("Something else")
        .send(server.address)
        .await
        .expect(200);
    let search = async |q: &str| {
        let path = format!("/api/sessions?q={q}");
        Request::get(&path).send(server.address).await
    };
    let found = search("red+leaves").await.expect(200);
    assert_eq!(found["sessions"].as_array().unwrap().len(), 1);
    assert_eq!(found["sessions"][0]["id"], chat["session_id"]);
    assert_eq!(found["next_cursor"], json!(null));
    assert_eq!(search("nowhere").await.expect(200)["sessions"], json!([]));
    // As if nothing were searched for.
    assert_eq!(
        search("").await.expect(200)["sessions"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    search(&"x".repeat(201)).await.expect(422);
}

#[tokio::test]
async fn a_conversation_shows_what_a_model_would_see_of_it() {
    let server = Server::start().await;
    let chat = Request::chat("Why?").send(server.address).await.expect(200);
    let path = format!(
        "/api/sessions/{}/context",
        chat["session_id"].as_str().unwrap()
    );
    let all = Request::get(&path).send(server.address).await.expect(200);
    assert_eq!(
        all["messages"][0],
        json!({"role": "user", "content": "Why?"})
    );
    assert_eq!(
        (all["messages"].as_array().unwrap().len(), &all["left_out"]),
        (2, &json!(null))
    );
    let little = Request::get(&format!("{path}?tokens=1"))
        .send(server.address)
        .await
        .expect(200);
    assert_eq!(little["warnings"][0]["code"], "history_truncated");
    Request::get(&format!("{path}?tokens=0"))
        .send(server.address)
        .await
        .expect(422);
    Request::get("/api/sessions/nobody/context")
        .send(server.address)
        .await
        .expect(404);
}
