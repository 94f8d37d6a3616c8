//! A store whose methods are called by name with JSON keeps the laws if what is behind it does:
//! nothing is lost or changed on the way.

use serde::Deserialize;
use serde_json::{Value, json};
use tutor_core::json::{Foreign, ForeignStore, RECORD_METHODS, SESSION_METHODS};
use tutor_core::message::Metadata;
use tutor_core::session::{
    Branch, Cursor, MessageCut, MessageQuery, MessageRange, SessionKey, SessionPatch, SessionQuery,
    Summary,
};
use tutor_core::store::{
    BegunTurn, Checkpoint, Existing, Expect, KeyRange, MemoryStore, NewTurn, RecordStore,
    RecordWrite, SessionStore, TurnEnd, WholeSession,
};
use tutor_core::time::Timestamp;
use tutor_core::turn::TurnKey;
use tutor_core::{
    Message, MessageId, OwnerId, Result, Session, SessionId, Turn, TurnId, async_trait,
};

/// A store on the other side: takes the JSON apart again.
#[derive(Debug, Default)]
struct Mirror(MemoryStore);

fn from<T: for<'de> Deserialize<'de>>(value: &Value) -> T {
    serde_json::from_value(value.clone()).expect("the form of an argument changed")
}

fn session_key(value: &Value) -> SessionKey {
    SessionKey::new(from(&value["owner"]), from(&value["id"]))
}

fn turn_key(value: &Value) -> TurnKey {
    TurnKey::new(from(&value["owner"]), from(&value["id"]))
}

fn turn(value: &Value) -> Turn {
    let mut value = value.clone();
    let fingerprint: u64 = value["fingerprint"].as_str().unwrap().parse().unwrap();
    value["fingerprint"] = fingerprint.into();
    from(&value)
}

fn written(turn: &Turn) -> Value {
    let mut value = json!(turn);
    value["fingerprint"] = turn.fingerprint.to_string().into();
    value
}

fn base64(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD
        .decode(text)
        .unwrap()
}

fn as_base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn patch(value: &Value) -> SessionPatch {
    SessionPatch {
        title: from(&value["title"]),
        made_title: from(&value["made_title"]),
        metadata: from::<Option<Metadata>>(&value["metadata"]),
        head: from(&value["head"]),
        summary: from::<Option<Summary>>(&value["summary"]),
        updated_at: from(&value["updated_at"]),
    }
}

fn message_query(value: &Value, limit: usize) -> MessageQuery {
    let range = match (
        from::<Option<MessageId>>(&value["before"]),
        from::<Option<MessageId>>(&value["after"]),
    ) {
        (Some(before), _) => MessageRange::Before(before),
        (_, Some(after)) => MessageRange::After(after),
        _ => MessageRange::Latest,
    };
    let branch = match from::<Option<MessageId>>(&value["leaf"]) {
        Some(leaf) => Branch::Leaf(leaf),
        None if from(&value["all"]) => Branch::All,
        None => Branch::Active,
    };
    MessageQuery {
        session: session_key(&value["session"]),
        branch,
        range,
        limit,
    }
}

fn turn_end(value: &Value) -> TurnEnd {
    let changes = &value["changes"];
    TurnEnd {
        status: from(&changes["status"]),
        reply: from(&value["reply"]),
        error: from(&changes["error"]),
        finish_reason: from(&changes["finish_reason"]),
        usage: from(&changes["usage"]),
        trace: from(&changes["trace"]),
        ended_at: from(&changes["ended_at"]),
        expected_lease: from(&value["expected_lease"]),
    }
}

fn record_write(value: &Value) -> RecordWrite {
    RecordWrite {
        kind: from(&value["kind"]),
        key: from(&value["key"]),
        value: value["value"].as_str().map(base64),
        expect: match value["expect"].as_u64() {
            None => Expect::Any,
            Some(0) => Expect::Absent,
            Some(version) => Expect::Version(version),
        },
    }
}

impl Mirror {
    /// Pages of at most 200 items, where one more was asked for.
    async fn messages(&self, value: &Value) -> Result<Vec<Message>> {
        let limit: usize = from(&value["limit"]);
        let page = self
            .0
            .messages(message_query(value, limit.min(200)))
            .await?;
        let mut items = page.items;
        if limit <= 200 {
            return Ok(items);
        }
        let range = message_query(value, 1).range;
        let Some(cursor) = page.next_cursor else {
            return Ok(items);
        };
        let end = MessageId::new(cursor.as_str()).unwrap();
        let query = |range| MessageQuery {
            range,
            ..message_query(value, limit - 200)
        };
        if matches!(range, MessageRange::After(_)) {
            items.extend(
                self.0
                    .messages(query(MessageRange::After(end)))
                    .await?
                    .items,
            );
        } else {
            let older = self.0.messages(query(MessageRange::Before(end))).await?;
            items.splice(0..0, older.items);
        }
        Ok(items)
    }

    async fn sessions(&self, value: &Value) -> Result<Vec<Session>> {
        let mut limit: usize = from(&value["limit"]);
        let mut cursor = value["behind"].as_object().map(|behind| {
            let time: Timestamp = from(&behind["updated_at"]);
            let id: SessionId = from(&behind["id"]);
            Cursor::from_text(format!("{:x}.{id}", time.as_micros()))
        });
        let mut items = Vec::new();
        while limit > 0 {
            let page = SessionQuery {
                owner: from(&value["owner"]),
                limit: limit.min(200),
                cursor,
            };
            let page = self.0.sessions(page).await?;
            limit -= page.items.len().min(limit);
            items.extend(page.items);
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        Ok(items)
    }

    async fn begin_turn(&self, value: &Value) -> Result<Value> {
        let new = NewTurn {
            turn: turn(&value["turn"]),
            new_session: from(&value["new_session"]),
            expected_head: from(&value["expected_head"]),
            messages: from(&value["messages"]),
            preferences: from(&value["preferences"]),
            made_title: from(&value["made_title"]),
        };
        Ok(match self.0.begin_turn(new).await? {
            BegunTurn::New => Value::Null,
            BegunTurn::Existing(turn) => written(&turn),
        })
    }

    async fn whole_session(&self, key: &SessionKey) -> Result<Value> {
        let whole = self.0.whole_session(key).await?;
        Ok(whole.map_or(Value::Null, |whole| {
            json!({
                "session": whole.session,
                "messages": whole.messages,
                "turns": whole.turns.iter().map(written).collect::<Vec<_>>(),
                "partial": whole.partial,
            })
        }))
    }

    async fn import_session(&self, value: &Value, existing: &str) -> Result<Value> {
        let whole = WholeSession {
            session: from(&value["session"]),
            messages: from(&value["messages"]),
            turns: value["turns"]
                .as_array()
                .unwrap()
                .iter()
                .map(turn)
                .collect(),
            partial: from(&value["partial"]),
        };
        let existing = match existing {
            "replace" => Existing::Replace,
            _ => Existing::Refuse,
        };
        self.0.import_session(whole, existing).await?;
        Ok(Value::Null)
    }

    async fn scan(&self, kind: &str, range: &Value, limit: usize) -> Result<Value> {
        let range = KeyRange {
            prefix: from(&range["prefix"]),
            after: from(&range["after"]),
        };
        let records = self.0.scan(kind, range, limit).await?;
        let records = records.into_iter().map(|record| {
            json!({
                "key": record.key, "value": as_base64(&record.value), "version": record.version,
            })
        });
        Ok(records.collect())
    }
}

#[async_trait]
impl Foreign for Mirror {
    async fn call(&self, method: &'static str, arguments: Vec<Value>) -> Result<Value> {
        // As a text, since that is how it travels.
        let text = serde_json::to_string(&arguments).unwrap();
        let arguments: Vec<Value> = serde_json::from_str(&text).unwrap();
        let of = |n: usize| arguments.get(n).unwrap_or(&Value::Null);
        let store = &self.0;
        let optional_turn = |turn: Option<Turn>| turn.as_ref().map_or(Value::Null, written);
        Ok(match method {
            "create_session" => json!(store.create_session(from(of(0))).await?),
            "session" => json!(store.session(&session_key(of(0))).await?),
            "sessions" => json!(self.sessions(of(0)).await?),
            "update_session" => {
                json!(
                    store
                        .update_session(&session_key(of(0)), patch(of(1)))
                        .await?
                )
            }
            "delete_session" => json!(store.delete_session(&session_key(of(0))).await?),
            "messages" => json!(self.messages(of(0)).await?),
            "delete_message" => {
                let cut = MessageCut {
                    message: from(&of(1)["message"]),
                    with_branch: from(&of(1)["with_branch"]),
                    updated_at: from(&of(1)["updated_at"]),
                };
                json!(store.delete_message(&session_key(of(0)), cut).await?)
            }
            "begin_turn" => self.begin_turn(of(0)).await?,
            "checkpoint_turn" => {
                let checkpoint = Checkpoint {
                    partial: from(&of(1)["partial"]),
                    trace: from(&of(1)["trace"]),
                    lease_until: from(&of(1)["lease_until"]),
                };
                json!(store.checkpoint_turn(&turn_key(of(0)), checkpoint).await?)
            }
            "finish_turn" => {
                let end = turn_end(of(1));
                written(&store.finish_turn(&turn_key(of(0)), end).await?)
            }
            "turn" => optional_turn(store.turn(&turn_key(of(0))).await?),
            "turn_by_key" => {
                let key = of(1).as_str().unwrap();
                optional_turn(store.turn_by_key(&from(of(0)), key).await?)
            }
            "running_turns" => {
                let running = store.running_turns().await?.into_iter();
                let running =
                    running.map(|one| json!({"turn": written(&one.turn), "partial": one.partial}));
                running.collect()
            }
            "owners" => {
                let after: Option<OwnerId> = from(of(0));
                json!(store.owners(after, from(of(1))).await?)
            }
            "session_ids" => {
                let owner: OwnerId = from(of(0));
                json!(store.session_ids(&owner, from(of(1)), from(of(2))).await?)
            }
            "whole_session" => self.whole_session(&session_key(of(0))).await?,
            "import_session" => self.import_session(of(0), of(1).as_str().unwrap()).await?,
            "turns" => {
                let after: Option<TurnId> = from(of(1));
                let found = store.turns(&session_key(of(0)), after, from(of(2))).await?;
                found.iter().map(written).collect()
            }
            "get" => {
                let record = store.get(of(0).as_str().unwrap(), of(1).as_str().unwrap());
                record.await?.map_or(Value::Null, |record| {
                    json!({
                        "key": record.key, "value": as_base64(&record.value),
                        "version": record.version,
                    })
                })
            }
            "kinds" => json!(store.kinds().await?),
            "scan" => {
                self.scan(of(0).as_str().unwrap(), of(1), from(of(2)))
                    .await?
            }
            "commit" => {
                let writes = of(0).as_array().unwrap().iter().map(record_write).collect();
                json!(store.commit(writes).await?)
            }
            other => panic!("{other} is no method of a store"),
        })
    }
}

async fn empty() -> (ForeignStore<Mirror>, ()) {
    let methods = [&SESSION_METHODS[..], &RECORD_METHODS].concat();
    let description = json!({"name": "mirror", "methods": methods, "durability": "none"});
    let description = serde_json::from_value(description).unwrap();
    (
        ForeignStore::new(Mirror::default(), description).unwrap(),
        (),
    )
}

tutor_core::store_laws!(store_laws, empty);
tutor_core::record_laws!(record_laws, empty);
