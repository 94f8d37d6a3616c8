//! The stories in `examples/scenarios`, played through the library. Their format is described there.

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;
use tutor_core::json as forms;
use tutor_core::message::Metadata;
use tutor_core::provider::{CompletionRequest, CompletionStream, Delta, ModelInfo, ProviderInfo};
use tutor_core::session::Cursor;
use tutor_core::store::{MemoryStore, SledStore};
use tutor_core::{
    Error, Event, FnTool, MessageId, OwnerId, Provider, Result, SessionId, ToolSpec, TurnEvent,
    TurnId, TurnStream, Tutor, async_trait,
};

/// How long a step may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Answers by the scripts of a scenario.
#[derive(Clone, Debug)]
struct Scripted(Arc<Script>);

#[derive(Debug)]
struct Script {
    scripts: Mutex<VecDeque<Value>>,
    gates: Mutex<HashMap<String, Arc<Semaphore>>>,
    requests: Mutex<Vec<Value>>,
}

impl Scripted {
    fn new(scripts: &Value) -> Self {
        Self(Arc::new(Script {
            scripts: Mutex::new(scripts.as_array().unwrap().iter().cloned().collect()),
            gates: Mutex::default(),
            requests: Mutex::default(),
        }))
    }

    fn gate(&self, name: &str) -> Arc<Semaphore> {
        let mut gates = self.0.gates.lock().unwrap();
        let gate = gates.entry(name.to_owned());
        Arc::clone(gate.or_insert_with(|| Arc::new(Semaphore::new(0))))
    }

    fn next_script(&self) -> VecDeque<Value> {
        let mut scripts = self.0.scripts.lock().unwrap();
        let script = if scripts.len() > 1 {
            scripts.pop_front()
        } else {
            scripts.front().cloned()
        };
        script
            .unwrap()
            .as_array()
            .unwrap()
            .iter()
            .cloned()
            .collect()
    }
}

#[async_trait]
impl Provider for Scripted {
    fn info(&self) -> ProviderInfo {
        ProviderInfo::new("scripted", "script")
    }

    async fn models(&self) -> Result<Vec<ModelInfo>> {
        Ok(vec![ModelInfo::new("script")])
    }

    async fn stream(&self, request: CompletionRequest) -> Result<CompletionStream> {
        let mut asked = forms::completion_request(&request);
        for (told, message) in asked["messages"]
            .as_array_mut()
            .unwrap()
            .iter_mut()
            .zip(&request.messages)
        {
            told["text"] = message.content.text().into();
        }
        self.0.requests.lock().unwrap().push(asked);
        let running = (
            self.clone(),
            self.next_script(),
            forms::Generator::default(),
        );
        let deltas = stream::unfold(running, |(provider, mut steps, mut generator)| async move {
            loop {
                let Some(step) = steps.pop_front() else {
                    let end = generator.end()?;
                    return Some((Ok(end), (provider, steps, generator)));
                };
                if let Some(gate) = step["wait"].as_str() {
                    provider.gate(gate).acquire().await.unwrap().forget();
                } else if let Some(raised) = step["raise"].as_object() {
                    let error = forms::raised(raised.clone()).unwrap();
                    return Some((
                        Err(error),
                        (provider, VecDeque::new(), forms::Generator::default()),
                    ));
                } else {
                    let read: Result<Option<Delta>> = generator.read(step);
                    let delta = read.transpose()?;
                    return Some((delta, (provider, steps, generator)));
                }
            }
        });
        Ok(deltas.fuse().boxed())
    }
}

/// A stream and what was read of it.
struct Reading {
    stream: Option<TurnStream>,
    read: Vec<Arc<TurnEvent>>,
}

impl Reading {
    fn new(stream: TurnStream) -> Self {
        Self {
            stream: Some(stream),
            read: Vec::new(),
        }
    }

    /// Reads up to an event of this type, or to the end.
    async fn read(&mut self, until: Option<&str>) {
        let stream = self.stream.as_mut().expect("the stream is closed");
        while let Some(event) = stream.next().await {
            let is_it = Some(event.event.kind()) == until;
            self.read.push(event);
            if is_it {
                return;
            }
        }
        assert!(until.is_none(), "no such event came");
    }

    fn told(&self) -> Value {
        let texts = self.read.iter().filter_map(|event| match &event.event {
            Event::TextDelta { text } => Some(text.as_str()),
            _ => None,
        });
        let kinds = self.read.iter().map(|event| event.event.kind());
        let stream = self.stream.as_ref();
        json!({
            "turn_id": stream.map(TurnStream::turn_id),
            "session_id": stream.map(TurnStream::session_id),
            "events": self.read.iter().map(|event| json!(**event)).collect::<Vec<_>>(),
            "types": kinds.collect::<Vec<_>>(),
            "seqs": self.read.iter().map(|event| event.seq).collect::<Vec<_>>(),
            "text": texts.collect::<String>(),
        })
    }
}

/// One scenario that is being played.
struct Player {
    scenario: Value,
    provider: Scripted,
    folder: tempfile::TempDir,
    tutor: Tutor,
    named: Map<String, Value>,
    streams: HashMap<String, Reading>,
}

fn tools(scenario: &Value) -> Vec<(ToolSpec, std::result::Result<Value, String>)> {
    let tools = scenario["tools"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|tool| {
            let mut told = tool.as_object().unwrap().clone();
            let (answer, raise) = (told.remove("answer"), told.remove("raise"));
            let gives = match raise {
                Some(text) => Err(text.as_str().unwrap().to_owned()),
                None => Ok(answer.unwrap_or_default()),
            };
            (forms::tool(told).unwrap(), gives)
        });
    tools.collect()
}

async fn open(scenario: &Value, provider: &Scripted, folder: &Path) -> Tutor {
    let mut settings = Metadata::new();
    for name in ["limits", "system_prompt"] {
        settings.insert(name.to_owned(), scenario[name].clone());
    }
    let mut builder = forms::tutor(settings).unwrap().provider(provider.clone());
    for (spec, gives) in tools(scenario) {
        builder = builder.tool(FnTool::new(spec, move |_| {
            let gives = gives.clone();
            async move { gives.map_err(Error::invalid_input) }
        }));
    }
    let builder = match scenario["durable"].as_bool() {
        Some(true) => builder.store(SledStore::open(folder).await.unwrap()),
        _ => builder.store(MemoryStore::new()),
    };
    builder.build().await.unwrap()
}

/// A message with its text, a page with those.
fn with_texts(mut value: Value) -> Value {
    if let Some(items) = value.get_mut("items").and_then(Value::as_array_mut) {
        items.iter_mut().for_each(add_text);
    } else if let Some(items) = value.as_array_mut() {
        items.iter_mut().for_each(add_text);
    }
    value
}

fn add_text(message: &mut Value) {
    if let Ok(content) = serde_json::from_value::<tutor_core::Content>(message["content"].clone()) {
        message["text"] = content.text().into();
    }
}

/// The members of a step that say what is asked, as an object.
fn members(step: &Value, names: &[&str]) -> Metadata {
    let members = step.as_object().unwrap().iter();
    members
        .filter(|(name, _)| names.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// What steers a runner, and is no part of a request.
const STEERING: [&str; 6] = ["do", "as", "expect", "error", "owner", "until"];

fn request(step: &Value) -> Metadata {
    let members = step.as_object().unwrap().iter();
    members
        .filter(|(name, _)| !STEERING.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

fn text<'a>(step: &'a Value, name: &str) -> &'a str {
    step[name]
        .as_str()
        .unwrap_or_else(|| panic!("{step} needs {name}"))
}

fn session(step: &Value) -> SessionId {
    SessionId::new(text(step, "session")).unwrap()
}

fn message(step: &Value) -> MessageId {
    MessageId::new(text(step, "message")).unwrap()
}

impl Player {
    /// Puts what was seen in the place of `$name.member.0`.
    fn resolved(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => match text.strip_prefix('$') {
                Some(path) => {
                    let mut parts = path.split('.');
                    let first = self.named.get(parts.next().unwrap_or_default());
                    let found = parts.try_fold(first.expect(path), |value, part| {
                        value
                            .get(part)
                            .or_else(|| value.get(part.parse::<usize>().ok()?))
                    });
                    found
                        .unwrap_or_else(|| panic!("nothing is called {text}"))
                        .clone()
                }
                None => value.clone(),
            },
            Value::Array(items) => items.iter().map(|item| self.resolved(item)).collect(),
            Value::Object(members) => {
                let members = members.iter();
                let members = members.map(|(name, value)| (name.clone(), self.resolved(value)));
                Value::Object(members.collect())
            }
            other => other.clone(),
        }
    }

    async fn play(&mut self, step: &Value) -> Result<Value> {
        let tutor = match step["owner"].as_str() {
            Some(owner) => self.tutor.for_owner(OwnerId::new(owner)?),
            None => self.tutor.clone(),
        };
        Ok(match text(step, "do") {
            "chat" => {
                let reply = tutor.chat(forms::chat_request(request(step))?).await?;
                let mut told = forms::reply(&reply);
                told["text"] = reply.text().into();
                told
            }
            "stream" => {
                let stream = tutor.stream(forms::chat_request(request(step))?).await?;
                let mut reading = Reading::new(stream);
                reading.read(step["until"].as_str()).await;
                let told = reading.told();
                if let Some(name) = step["as"].as_str() {
                    self.streams.insert(name.to_owned(), reading);
                }
                told
            }
            "read" => {
                let reading = self.streams.get_mut(text(step, "stream")).unwrap();
                reading.read(None).await;
                reading.told()
            }
            "close" => {
                let reading = self.streams.get_mut(text(step, "stream")).unwrap();
                reading.stream.take().unwrap().close().await;
                Value::Null
            }
            "events" => {
                let after = step["after"].as_u64().unwrap_or_default();
                let stream = tutor
                    .events(&TurnId::new(text(step, "turn"))?, after)
                    .await?;
                let mut reading = Reading::new(stream);
                reading.read(None).await;
                reading.told()
            }
            "cancel" => forms::turn(&tutor.cancel(&TurnId::new(text(step, "turn"))?).await?),
            "turn" => forms::turn(&tutor.turn(&TurnId::new(text(step, "turn"))?).await?),
            "open" => {
                self.provider.gate(text(step, "gate")).add_permits(1);
                Value::Null
            }
            "messages" => {
                let range = members(step, &["limit", "before", "after", "leaf", "all"]);
                let page = tutor
                    .messages(&session(step), forms::messages(range)?)
                    .await?;
                with_texts(json!(page))
            }
            "siblings" => {
                let found = tutor.siblings(&session(step), &message(step)).await?;
                with_texts(json!(found))
            }
            "set_head" => json!(tutor.set_head(&session(step), &message(step)).await?),
            "delete_message" => {
                let with_branch = step["with_branch"].as_bool().unwrap_or_default();
                json!(
                    tutor
                        .delete_message(&session(step), &message(step), with_branch)
                        .await?
                )
            }
            "session" => json!(tutor.session(&session(step)).await?),
            "delete_session" => json!(tutor.delete_session(&session(step)).await?),
            "sessions" => {
                let limit = step["limit"]
                    .as_u64()
                    .map_or(forms::DEFAULT_SESSIONS, |limit| limit as usize);
                let cursor = step["cursor"].as_str().map(Cursor::from_text);
                json!(tutor.sessions(limit, cursor).await?)
            }
            "create_session" => {
                let mut new = members(step, &["title", "metadata"]);
                new.insert("id".to_owned(), step["session"].clone());
                json!(tutor.create_session(forms::new_session(new)?).await?)
            }
            "rename_session" => {
                let title = Some(text(step, "title").to_owned());
                json!(tutor.update_session(&session(step), title, None).await?)
            }
            "context" => {
                let tokens = step["tokens"].as_u64().map(|tokens| tokens as usize);
                let context = tutor.context(&session(step), tokens).await?;
                json!({
                    "messages": context.messages, "left_out": context.left_out,
                    "notices": context.notices, "summarized": context.summarized,
                })
            }
            "reopen" => {
                self.streams.clear();
                self.tutor.close().await?;
                self.tutor = open(&self.scenario, &self.provider, self.folder.path()).await;
                Value::Null
            }
            "requests" => json!(*self.provider.0.requests.lock().unwrap()),
            other => panic!("{other} is nothing that a scenario does"),
        })
    }
}

/// What is not as it should be, as far as it is said: of objects the members that are named, of
/// lists every item.
fn difference(expected: &Value, found: &Value, place: &str) -> Option<String> {
    match (expected, found) {
        (Value::Object(expected), Value::Object(members)) => {
            expected.iter().find_map(|(name, value)| {
                let found = members.get(name).unwrap_or(&Value::Null);
                difference(value, found, &format!("{place}.{name}"))
            })
        }
        (Value::Array(expected), Value::Array(items)) if expected.len() == items.len() => {
            let pairs = expected.iter().zip(items).enumerate();
            pairs
                .into_iter()
                .find_map(|(n, (value, found))| difference(value, found, &format!("{place}.{n}")))
        }
        (expected, found) if expected == found => None,
        (expected, found) => Some(format!("{place} is {found}, not {expected}")),
    }
}

async fn play(scenario: Value) {
    let provider = Scripted::new(&scenario["scripts"]);
    let folder = tempfile::tempdir().unwrap();
    let tutor = open(&scenario, &provider, folder.path()).await;
    let steps = scenario["steps"].as_array().unwrap().clone();
    let mut player = Player {
        scenario,
        provider,
        folder,
        tutor,
        named: Map::new(),
        streams: HashMap::new(),
    };
    for (n, step) in steps.iter().enumerate() {
        let step = player.resolved(step);
        let played = tokio::time::timeout(PATIENCE, player.play(&step)).await;
        let wrong = match (played.expect("a step took too long"), step.get("error")) {
            (Ok(seen), None) => {
                let wrong = step.get("expect").and_then(|it| difference(it, &seen, ""));
                if let Some(name) = step["as"].as_str() {
                    player.named.insert(name.to_owned(), seen);
                }
                wrong
            }
            (Err(error), Some(expected)) => difference(expected, &forms::error(&error), "error"),
            (Ok(seen), Some(expected)) => Some(format!("{seen} instead of the error {expected}")),
            (Err(error), None) => Some(error.to_string()),
        };
        assert!(
            wrong.is_none(),
            "step {n}, {}: {}",
            step["do"],
            wrong.unwrap()
        );
    }
    player.streams.clear();
    player.tutor.close_within(Duration::ZERO).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_scenario_is_played_as_it_is_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/scenarios");
    let mut paths: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "json")
    });
    assert!(paths.len() >= 10, "there are {} scenarios", paths.len());
    let mut wrong = Vec::new();
    for path in paths {
        let scenario: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let law = scenario["law"].to_string();
        if tokio::spawn(play(scenario)).await.is_err() {
            wrong.push(law);
        }
    }
    assert!(wrong.is_empty(), "not as they are written: {wrong:#?}");
}
