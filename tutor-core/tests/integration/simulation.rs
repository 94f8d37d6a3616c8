//! Thousands of random interleavings of everything that can happen to turns, on one thread with a
//! paused clock. A failing case is shrunk and kept by proptest.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use futures_util::{FutureExt, StreamExt};
use proptest::prelude::*;
use tokio::sync::mpsc;
use tutor_core::message::Part;
use tutor_core::provider::{CompletionRequest, CompletionStream, Delta, ModelInfo, ProviderInfo};
use tutor_core::session::Branch;
use tutor_core::store::MemoryStore;
use tutor_core::{
    ChatRequest, Content, Error, ErrorKind, Event, FinishReason, FnTool, Message, Messages,
    Provider, Result, Role, SessionId, ToolSpec, TurnEvent, TurnId, TurnStatus, TurnStream, Tutor,
    async_trait,
};

use crate::support::{Call, GateStore};

/// Something that happens. Numbers choose among what is there.
#[derive(Clone, Debug)]
enum Op {
    Ask {
        session: Option<usize>,
        key: Option<u8>,
        detached: bool,
    },
    Text(usize),
    Finish(usize),
    Fail(usize),
    HangUp(usize),
    Cancel(usize),
    Subscribe {
        turn: usize,
        after: u64,
    },
    LeaveAsker(usize),
    FailStore(bool),
    Wait,
    Crash,
    /// The model asks for a tool that works (true) or is not there.
    CallTool(usize, bool),
    /// Another reply beside one that is there.
    Regenerate(usize, usize),
    /// A question asked in another way.
    Edit(usize, usize),
    SwitchHead(usize, usize),
    Delete {
        session: usize,
        message: usize,
        with_branch: bool,
    },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (proptest::option::of(0usize..4), proptest::option::of(0u8..4), any::<bool>())
            .prop_map(|(session, key, detached)| Op::Ask { session, key, detached }),
        6 => (0usize..8).prop_map(Op::Text),
        3 => (0usize..8).prop_map(Op::Finish),
        1 => (0usize..8).prop_map(Op::Fail),
        1 => (0usize..8).prop_map(Op::HangUp),
        1 => (0usize..8).prop_map(Op::Cancel),
        3 => (0usize..8, 0u64..12).prop_map(|(turn, after)| Op::Subscribe { turn, after }),
        1 => (0usize..8).prop_map(Op::LeaveAsker),
        1 => any::<bool>().prop_map(Op::FailStore),
        1 => Just(Op::Wait),
        1 => Just(Op::Crash),
        3 => (0usize..8, any::<bool>()).prop_map(|(turn, known)| Op::CallTool(turn, known)),
        2 => (0usize..4, 0usize..16).prop_map(|(session, message)| Op::Regenerate(session, message)),
        2 => (0usize..4, 0usize..16).prop_map(|(session, message)| Op::Edit(session, message)),
        1 => (0usize..4, 0usize..16).prop_map(|(session, message)| Op::SwitchHead(session, message)),
        1 => (0usize..4, 0usize..16, any::<bool>())
            .prop_map(|(session, message, with_branch)| Op::Delete { session, message, with_branch }),
    ]
}

/// Each completion is fed by the test.
#[derive(Clone, Debug, Default)]
struct Fed(Arc<Mutex<Vec<mpsc::UnboundedSender<Result<Delta>>>>>);

#[async_trait]
impl Provider for Fed {
    fn info(&self) -> ProviderInfo {
        ProviderInfo::new("fed", "fed")
    }
    async fn models(&self) -> Result<Vec<ModelInfo>> {
        Ok(Vec::new())
    }
    async fn stream(&self, request: CompletionRequest) -> Result<CompletionStream> {
        assert!(
            request
                .messages
                .iter()
                .all(|message| !message.content.is_blank())
        );
        assert_eq!(request.messages.last().unwrap().role, Role::User);
        // Each call has its result in the next message.
        for (n, message) in request.messages.iter().enumerate() {
            let calls = ids(&message.content, true);
            if !calls.is_empty() {
                assert_eq!(ids(&request.messages[n + 1].content, false), calls);
            }
        }
        let (feed, fed) = mpsc::unbounded_channel();
        self.0.lock().unwrap().push(feed);
        Ok(futures_util::stream::unfold(
            fed,
            |mut fed| async move { Some((fed.recv().await?, fed)) },
        )
        .boxed())
    }
}

/// The ids of the calls, or of the results, in a message.
fn ids(content: &Content, calls: bool) -> Vec<String> {
    let Content::Parts(parts) = content else {
        return Vec::new();
    };
    let id = |part: &Part| match part {
        Part::ToolCall { call_id, .. } if calls => Some(call_id.clone()),
        Part::ToolResult { call_id, .. } if !calls => Some(call_id.clone()),
        _ => None,
    };
    parts.iter().filter_map(id).collect()
}

struct World {
    store: GateStore<MemoryStore>,
    provider: Fed,
    tutor: Tutor,
    /// Everything that was ever acknowledged: a turn, its session, what was said.
    turns: Vec<(TurnId, SessionId, String)>,
    sessions: Vec<SessionId>,
    askers: HashMap<TurnId, TurnStream>,
    subscribers: Vec<(TurnId, u64, TurnStream, Vec<Arc<TurnEvent>>)>,
    /// The events of turns that ended in peace: they must never read differently again.
    ended: HashMap<TurnId, Vec<Arc<TurnEvent>>>,
    asked: usize,
}

/// Lets everything run that can.
async fn settle() {
    for _ in 0..64 {
        tokio::task::yield_now().await;
    }
}

impl World {
    async fn new() -> Self {
        let store = GateStore::new(MemoryStore::default());
        let provider = Fed::default();
        let tutor = Self::start(&store, &provider).await;
        Self {
            store,
            provider,
            tutor,
            turns: Vec::new(),
            sessions: Vec::new(),
            askers: HashMap::new(),
            subscribers: Vec::new(),
            ended: HashMap::new(),
            asked: 0,
        }
    }

    async fn start(store: &GateStore<MemoryStore>, provider: &Fed) -> Tutor {
        Tutor::builder()
            .store(store.clone())
            .provider(provider.clone())
            .tool(FnTool::new(
                ToolSpec::new("known", "", serde_json::json!({"type": "object"})),
                async |_| {
                    tokio::task::yield_now().await;
                    Ok(serde_json::json!("answer"))
                },
            ))
            .build()
            .await
            .unwrap()
    }

    fn turn(&self, n: usize) -> Option<TurnId> {
        Some(self.turns.get(n % self.turns.len().max(1))?.0.clone())
    }

    fn feed(&self, n: usize, item: Result<Delta>) {
        let feeds = self.provider.0.lock().unwrap();
        if let Some(feed) = feeds.get(n % feeds.len().max(1)) {
            let _ = feed.send(item);
        }
    }

    async fn apply(&mut self, op: Op) {
        match op {
            Op::Ask {
                session,
                key,
                detached,
            } => self.ask(session, key, detached).await,
            Op::Text(n) => self.feed(n, Ok(Delta::Text("word ".into()))),
            Op::Finish(n) => self.feed(
                n,
                Ok(Delta::Finished {
                    reason: FinishReason::Stop,
                }),
            ),
            Op::Fail(n) => self.feed(n, Err(Error::new(ErrorKind::ProviderUnavailable, "down"))),
            Op::HangUp(n) => {
                let mut feeds = self.provider.0.lock().unwrap();
                if !feeds.is_empty() {
                    let n = n % feeds.len();
                    feeds.remove(n);
                }
            }
            Op::Cancel(n) => {
                if let Some(turn) = self.turn(n) {
                    let cancelled = self.tutor.cancel(&turn).await;
                    // A turn whose end could not be stored may still be running in the store.
                    assert!(
                        cancelled.is_ok()
                            || cancelled.unwrap_err().kind() == ErrorKind::StoreUnavailable
                    );
                }
            }
            Op::Subscribe { turn, after } => {
                if let Some(turn) = self.turn(turn)
                    && let Ok(stream) = self.tutor.events(&turn, after).await
                {
                    self.subscribers.push((turn, after, stream, Vec::new()));
                }
            }
            Op::LeaveAsker(n) => {
                if let Some(turn) = self.turn(n) {
                    self.askers.remove(&turn);
                }
            }
            Op::CallTool(n, known) => {
                let name = if known { "known" } else { "unknown" };
                self.feed(
                    n,
                    Ok(Delta::ToolCall {
                        id: "c".into(),
                        name: name.into(),
                        arguments: "{}".into(),
                    }),
                );
                self.feed(
                    n,
                    Ok(Delta::Finished {
                        reason: FinishReason::ToolCalls,
                    }),
                );
            }
            Op::Regenerate(session, message) => {
                if let Some((session, message)) = self.message(session, message).await
                    && message.role == Role::Assistant
                {
                    let all = self.messages(&session).await;
                    let question = all
                        .iter()
                        .find(|m| Some(&m.id) == message.parent_id.as_ref());
                    let said = question.unwrap().content.text();
                    let request = ChatRequest::regenerate(session, message.id);
                    self.stream(request, said).await;
                }
            }
            Op::Edit(session, message) => {
                if let Some((session, message)) = self.message(session, message).await
                    && message.role == Role::User
                {
                    self.asked += 1;
                    let said = format!("edited {}", self.asked);
                    let request = ChatRequest::edit(session, message.id, said.clone());
                    self.stream(request, said).await;
                }
            }
            Op::SwitchHead(session, message) => {
                if let Some((session, message)) = self.message(session, message).await {
                    let switched = self.tutor.set_head(&session, &message.id).await.unwrap();
                    assert_eq!(switched.head, Some(message.id));
                }
            }
            Op::Delete {
                session,
                message,
                with_branch,
            } => self.delete(session, message, with_branch).await,
            Op::FailStore(begin) => self
                .store
                .fail(if begin { Call::Begin } else { Call::Finish }, 1),
            Op::Wait => tokio::time::advance(std::time::Duration::from_secs(2)).await,
            Op::Crash => {
                self.store = self.store.take_over();
                self.askers.clear();
                self.subscribers.clear();
                self.provider.0.lock().unwrap().clear();
                settle().await;
                self.tutor = Self::start(&self.store, &self.provider).await;
                for (turn, _, _) in &self.turns {
                    let status = self.tutor.turn(turn).await.unwrap().status;
                    assert_ne!(status, TurnStatus::Running, "a crash left {turn} running");
                }
            }
        }
        settle().await;
    }

    async fn ask(&mut self, session: Option<usize>, key: Option<u8>, detached: bool) {
        self.asked += 1;
        let session =
            session.and_then(|n| self.sessions.get(n % self.sessions.len().max(1)).cloned());
        // The same key always names the same request.
        let (said, session) = match key {
            Some(key) => (format!("key {key}"), None),
            None => (format!("question {}", self.asked), session),
        };
        let mut request = ChatRequest::new(said.clone());
        request.session_id = session.clone();
        request.idempotency_key = key.map(|key| format!("k{key}"));
        request.detached = detached;
        self.stream(request, said).await;
    }

    async fn messages(&self, session: &SessionId) -> Vec<Message> {
        let all = Messages {
            branch: Branch::All,
            ..Messages::default()
        };
        self.tutor.messages(session, all).await.unwrap().items
    }

    async fn message(&self, session: usize, message: usize) -> Option<(SessionId, Message)> {
        let session = self
            .sessions
            .get(session % self.sessions.len().max(1))?
            .clone();
        let all = self.messages(&session).await;
        let message = all.get(message % all.len().max(1))?.clone();
        Some((session, message))
    }

    async fn delete(&mut self, session: usize, message: usize, with_branch: bool) {
        let Some((session, message)) = self.message(session, message).await else {
            return;
        };
        let before = self.messages(&session).await;
        let followed = before
            .iter()
            .any(|m| m.parent_id.as_ref() == Some(&message.id));
        let deleted = self
            .tutor
            .delete_message(&session, &message.id, with_branch)
            .await;
        match deleted {
            Ok(count) => {
                assert!(with_branch || !followed, "a message was orphaned");
                // The end of a turn that could not be stored may have been stored before.
                let left = self.messages(&session).await.len() as u64 + count;
                assert!((before.len() as u64..=before.len() as u64 + 1).contains(&left));
            }
            Err(error) => {
                // Or the end of the turn that stands in the way could not be stored yet.
                let kinds = [ErrorKind::Conflict, ErrorKind::StoreUnavailable];
                assert!(kinds.contains(&error.kind()), "deleting ended in {error}");
                let after = self.messages(&session).await;
                assert!(before.iter().all(|message| after.contains(message)));
            }
        }
        // Turns go with their messages, and nothing else does.
        let left = self.messages(&session).await;
        let mut gone = Vec::new();
        for (turn, of, _) in &self.turns {
            if *of == session && self.tutor.turn(turn).await.is_err() {
                gone.push(turn.clone());
            }
        }
        for turn in gone {
            assert!(
                left.iter()
                    .all(|m| m.role == Role::User || m.turn_id.as_ref() != Some(&turn))
            );
            self.turns.retain(|(known, _, _)| *known != turn);
            self.subscribers.retain(|(of, ..)| *of != turn);
            self.askers.remove(&turn);
            self.ended.remove(&turn);
        }
    }

    async fn stream(&mut self, request: ChatRequest, said: String) {
        match self.tutor.stream(request).await {
            Ok(stream) => {
                let (turn, session) = (stream.turn_id().clone(), stream.session_id().clone());
                if !self.turns.iter().any(|(known, _, _)| *known == turn) {
                    self.turns.push((turn.clone(), session.clone(), said));
                }
                if !self.sessions.contains(&session) {
                    self.sessions.push(session);
                }
                self.askers.entry(turn).or_insert(stream);
            }
            Err(error) => match error.kind() {
                ErrorKind::Conflict => {
                    let running: TurnId = error.context_value("turn").unwrap().parse().unwrap();
                    let status = self.tutor.turn(&running).await.unwrap().status;
                    assert_eq!(
                        status,
                        TurnStatus::Running,
                        "refused because of a turn that has ended"
                    );
                }
                ErrorKind::StoreUnavailable => {}
                other => panic!("asking ended in {other}"),
            },
        }
    }

    async fn check(&mut self) {
        for (turn, after, stream, seen) in &mut self.subscribers {
            while let Some(Some(event)) = stream.next().now_or_never() {
                seen.push(event);
            }
            let beyond_the_end = seen.len() == 1 && seen[0].event.is_terminal();
            for (event, seq) in seen.iter().zip(*after + 1..) {
                assert!(
                    event.seq == seq || beyond_the_end,
                    "a gap in {turn} after {after}"
                );
            }
            let terminals = seen
                .iter()
                .filter(|event| event.event.is_terminal())
                .count();
            assert!(terminals <= 1 && (terminals == 0 || seen.last().unwrap().event.is_terminal()));
        }
        for (turn, session, said) in &self.turns {
            let stored = self.tutor.turn(turn).await.unwrap();
            let all = Messages {
                branch: Branch::All,
                ..Messages::default()
            };
            let messages = self.tutor.messages(session, all).await.unwrap().items;
            let learner = messages
                .iter()
                .find(|m| m.id == stored.user_message_id)
                .unwrap();
            assert_eq!(
                learner.content.text(),
                *said,
                "an acknowledged message was lost"
            );
            let reply = messages.iter().find(|m| m.id == stored.reply_message_id);
            assert_eq!(reply.is_some(), stored.has_reply, "half a turn");
            let running = self.tutor.session(session).await.unwrap().running_turn;
            assert_eq!(
                running.as_ref() == Some(turn),
                stored.status == TurnStatus::Running
            );
            if stored.status == TurnStatus::Running {
                continue;
            }
            let events: Vec<_> = self.tutor.events(turn, 0).await.unwrap().collect().await;
            assert!(events.iter().zip(1..).all(|(event, seq)| event.seq == seq));
            assert_eq!(
                events
                    .iter()
                    .filter(|event| event.event.is_terminal())
                    .count(),
                1
            );
            let text: String = events
                .iter()
                .filter_map(|event| match &event.event {
                    Event::TextDelta { text } => Some(text.as_str()),
                    _ => None,
                })
                .collect();
            assert_eq!(
                text,
                reply.map(|reply| reply.content.text()).unwrap_or_default()
            );
            // A turn whose end could not be stored reads as it was stored later.
            if stored
                .error
                .as_ref()
                .is_some_and(|error| error.code == "store_unavailable")
            {
                continue;
            }
            assert_eq!(
                self.ended
                    .entry(turn.clone())
                    .or_insert_with(|| events.clone()),
                &events,
                "history changed"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn the_laws_hold_under_any_interleaving(ops in proptest::collection::vec(op(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut world = World::new().await;
            for op in ops {
                world.apply(op).await;
                world.check().await;
            }
        });
    }
}
