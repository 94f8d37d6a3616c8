//! Two people with everything: whatever one asks for with the other's ids, there is no such thing.

use serde_json::{Value, json};

use crate::client::{Request, Response};
use crate::people::{Town, Visitor};

/// Words of the owner, and nobody else's.
const CANARY: &str = "canary-words";

/// Everything that one person has, by the names of path parameters.
pub(crate) struct Belongings {
    ids: Vec<(&'static str, String)>,
    cursor: String,
}

fn text(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_else(|| panic!("{value}"))
        .to_owned()
}

impl Belongings {
    pub(crate) async fn of(owner: &Visitor<'_>) -> Self {
        let chat = owner.chat(&format!("Tell me of {CANARY}")).await;
        owner.chat("Another one").await;
        let session = text(&chat["session_id"]);
        let reply = text(&chat["reply_message"]["id"]);
        let rate = json!({"rating": "up", "comment": CANARY});
        let path = format!("/api/messages/{reply}/feedback");
        owner.send(Request::post(&path, &rate)).await.expect(200);
        let file = crate::files::form("canary-words.txt", CANARY.as_bytes());
        let file = owner.send(file).await.expect(201);
        let key = json!({"name": CANARY, "scopes": ["read", "write"]});
        let key = owner
            .send(Request::post("/api/keys", &key))
            .await
            .expect(201);
        let page = owner.get("/api/sessions?limit=1").await.expect(200);
        Self {
            ids: vec![
                ("session_id", session),
                ("message_id", reply),
                ("turn_id", text(&chat["turn_id"])),
                ("file_id", text(&file["id"])),
                ("key_id", text(&key["id"])),
                ("user_id", owner.id.clone()),
                ("model", "neuro-tutor".to_owned()),
            ],
            cursor: text(&page["next_cursor"]),
        }
    }

    fn id(&self, name: &str) -> &str {
        let found = self.ids.iter().find(|(known, _)| *known == name);
        let (_, id) = found.unwrap_or_else(|| panic!("nobody has a {name}"));
        id
    }

    /// Ids of the same form, of nothing.
    fn nothing(&self) -> Self {
        let made_up = |id: &String| id.chars().map(|c| if c == '7' { '8' } else { c }).collect();
        let ids = self.ids.iter().map(|(name, id)| (*name, made_up(id)));
        Self {
            ids: ids.collect(),
            cursor: self.cursor.clone(),
        }
    }

    pub(crate) fn path(&self, template: &str) -> String {
        let segments = template.split('/').map(|segment| {
            let name = segment.strip_prefix('{').and_then(|s| s.strip_suffix('}'));
            name.map_or(segment, |name| self.id(name))
        });
        segments.collect::<Vec<_>>().join("/")
    }

    /// What to send to an operation; several, if ids may be in several places of the body.
    pub(crate) fn bodies(&self, operation: &str) -> Vec<Value> {
        let id = |name| self.id(name);
        let said = json!([{"role": "user", "content": "Hi"}]);
        match operation {
            "chat_endpoint_api_chat_post" => vec![
                json!({"messages": said, "session_id": id("session_id")}),
                json!({"messages": said, "session_id": id("session_id"), "parent_id": id("message_id")}),
                json!({"messages": said, "session_id": id("session_id"), "edit": id("message_id")}),
                json!({"session_id": id("session_id"), "regenerate": id("message_id")}),
                json!({"messages": [{"role": "user", "content": [{"type": "file", "file_id": id("file_id")}]}]}),
            ],
            "rate_message" => vec![
                json!({"rating": "down"}),
                json!({"rating": "down", "session_id": id("session_id")}),
            ],
            "update_session" => vec![
                json!({"title": "mine now"}),
                json!({"head_id": id("message_id")}),
            ],
            "update_user" => vec![json!({"disabled": true})],
            "agui_run" => vec![
                json!({"threadId": id("session_id"), "runId": "r", "messages": [], "tools": []}),
            ],
            "create_chat_completion" | "create_message" | "count_message_tokens" => {
                vec![
                    json!({"model": "neuro-tutor", "max_tokens": 9, "messages": said,
                    "metadata": {"session_id": id("session_id")}}),
                ]
            }
            _ => Vec::new(),
        }
    }
}

/// A refusal without what differs between any two: the ids that were sent, and that of the request.
fn plain(response: &Response, asked: &Belongings) -> (u16, String) {
    let mut body = response.text();
    if let Ok(Value::Object(mut object)) = serde_json::from_str(&body) {
        object.remove("request_id");
        object.remove("id");
        body = Value::Object(object).to_string();
    }
    for (name, id) in &asked.ids {
        if *name != "model" {
            body = body.replace(id.as_str(), name);
        }
    }
    (response.status, body)
}

#[tokio::test]
async fn no_route_shows_or_changes_what_is_anothers_or_tells_that_it_exists() {
    let town = Town::new().await;
    let ada = town.register("ada@example.org").await;
    let bob = town.register("bob@example.org").await;
    let hers = Belongings::of(&ada).await;
    let nothing = hers.nothing();
    let before = everything(&ada).await;
    let document = serde_json::to_value(tutor_http::openapi()).unwrap();
    let mut tried = 0;
    for (template, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let name = operation["operationId"].as_str().unwrap();
            // Of these there is nothing of hers to be named.
            let is_own = matches!(
                name,
                "delete_account" | "logout" | "change_password" | "refresh" | "login" | "register"
            );
            if is_own {
                continue;
            }
            let mut bodies: Vec<_> = hers.bodies(name).into_iter().map(Some).collect();
            let mut others: Vec<_> = nothing.bodies(name).into_iter().map(Some).collect();
            if bodies.is_empty() {
                bodies.push(None);
                others.push(None);
            }
            for (body, other) in bodies.into_iter().zip(others) {
                let send = async |of: &Belongings, body: Option<Value>| {
                    let request = Request::new(&method.to_uppercase(), &of.path(template));
                    bob.send(match &body {
                        Some(body) => request.json(body),
                        None => request,
                    })
                    .await
                };
                let real = send(&hers, body.clone()).await;
                let made_up = send(&nothing, other).await;
                assert!(
                    !real.text().contains(CANARY),
                    "{method} {template}: {}",
                    real.text()
                );
                assert!(real.status < 500, "{method} {template}: {}", real.text());
                if template.contains('{') && !template.contains("{model}") || real.status >= 400 {
                    let (real, made_up) = (plain(&real, &hers), plain(&made_up, &nothing));
                    assert_eq!(real, made_up, "{method} {template} {body:?}");
                }
                tried += 1;
            }
        }
    }
    assert!(tried > 40, "{tried}");
    assert_eq!(
        everything(&ada).await,
        before,
        "something of hers was changed"
    );
}

/// What a person can see of what is theirs.
async fn everything(of: &Visitor<'_>) -> Vec<Value> {
    let mut all = Vec::new();
    for path in ["/api/sessions", "/api/files", "/api/keys", "/api/auth/me"] {
        all.push(of.get(path).await.expect(200));
    }
    let sessions = all[0]["sessions"].as_array().unwrap().clone();
    for session in sessions {
        let path = format!("/api/sessions/{}/messages?branch=all", text(&session["id"]));
        all.push(of.get(&path).await.expect(200));
    }
    // When a key was used last changes by looking.
    for key in all[2]["keys"].as_array_mut().unwrap() {
        key.as_object_mut().unwrap().remove("last_used_at");
    }
    all
}

#[tokio::test]
async fn lists_searches_exports_cursors_and_names_of_requests_are_ones_own() {
    let town = Town::new().await;
    let ada = town.register("ada@example.org").await;
    let bob = town.register("bob@example.org").await;
    let hers = Belongings::of(&ada).await;
    bob.chat("Mine alone").await;
    for path in [
        "/api/sessions".to_owned(),
        format!("/api/sessions?q={CANARY}"),
        format!("/api/sessions?cursor={}", hers.cursor),
        "/api/files".to_owned(),
        format!("/api/files?cursor={}", hers.id("file_id")),
        "/api/export".to_owned(),
        "/api/keys".to_owned(),
    ] {
        let seen = bob.get(&path).await;
        assert_eq!(seen.status, 200, "{path}");
        for (name, id) in &hers.ids {
            if *name == "model" {
                continue;
            }
            let shown = seen.text().contains(id.as_str()) && !path.contains(id.as_str());
            assert!(!shown, "{path} shows her {name}");
        }
        assert!(!seen.text().contains(CANARY), "{path}");
    }
    let found = bob
        .get(&format!("/api/sessions?q={CANARY}"))
        .await
        .expect(200);
    assert_eq!(found["sessions"], json!([]));
    let hers = ada
        .get(&format!("/api/sessions?q={CANARY}"))
        .await
        .expect(200);
    assert_eq!(hers["sessions"].as_array().unwrap().len(), 1);

    // The same key for another person's other request is another key.
    let ask = |text: &str| Request::chat(text).header("Idempotency-Key", "the-same-key");
    let one = ada.send(ask("hers")).await.expect(200);
    let two = bob.send(ask("his")).await.expect(200);
    assert_ne!(one["turn_id"], two["turn_id"]);
}
