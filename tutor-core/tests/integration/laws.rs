//! The laws of a turn, on the engine as its users see it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tutor_core::message::Content;
use tutor_core::provider::scripted::{Step, text_script};
use tutor_core::provider::{Delta, ScriptedProvider};
use tutor_core::session::Branch;
use tutor_core::store::{MemoryStore, SessionStore, SledStore};
use tutor_core::turn::InputMessage;
use tutor_core::{
    ChatRequest, Error, ErrorKind, Event, FinishReason, Limits, MessageId, MessageStatus, Messages,
    OwnerId, Role, SessionId, TurnEvent, TurnId, TurnStatus, TurnStream, Tutor,
};

use crate::support::{Call, GateStore, PanickingProvider};

fn text(text: &str) -> Step {
    Step::Yield(Delta::Text(text.into()))
}

fn done() -> Step {
    Step::Yield(Delta::Finished {
        reason: FinishReason::Stop,
    })
}

async fn tutor(provider: &ScriptedProvider) -> Tutor {
    Tutor::builder()
        .provider(provider.clone())
        .build()
        .await
        .unwrap()
}

async fn all(mut stream: TurnStream) -> Vec<Arc<TurnEvent>> {
    let mut events = Vec::new();
    while let Some(event) = stream.next().await {
        events.push(event);
    }
    events
}

/// Reads until an event of this kind has come.
async fn until(stream: &mut TurnStream, kind: &str) -> Arc<TurnEvent> {
    loop {
        let event = stream.next().await.expect("the stream ended too early");
        if event.event.kind() == kind {
            return event;
        }
    }
}

fn kinds(events: &[Arc<TurnEvent>]) -> Vec<&'static str> {
    events.iter().map(|event| event.event.kind()).collect()
}

async fn texts(tutor: &Tutor, session: &SessionId) -> Vec<String> {
    let page = tutor.messages(session, Messages::default()).await.unwrap();
    page.items
        .iter()
        .map(|message| message.content.text())
        .collect()
}

#[tokio::test]
async fn a_turn_is_started_streamed_and_finished_with_numbers_without_gaps() {
    let tutor = tutor(&ScriptedProvider::reply("Light becomes sugar.")).await;
    let events = all(tutor.stream("What is photosynthesis?").await.unwrap()).await;
    assert_eq!(
        kinds(&events),
        [
            "turn.started",
            "text.delta",
            "text.delta",
            "text.delta",
            "turn.finished"
        ]
    );
    assert!(events.iter().zip(1..).all(|(event, seq)| event.seq == seq));
    let Event::TurnFinished {
        message,
        status,
        finish_reason,
    } = &events[4].event
    else {
        panic!()
    };
    assert_eq!(message.content, Content::from("Light becomes sugar."));
    assert_eq!(
        (*status, *finish_reason),
        (TurnStatus::Completed, FinishReason::Stop)
    );
}

#[tokio::test]
async fn law_1_a_begin_that_fails_leaves_nothing_behind() {
    let store = GateStore::new(MemoryStore::default());
    store.fail(Call::Begin, 1);
    let provider = ScriptedProvider::reply("ok");
    let tutor = Tutor::builder()
        .store(store)
        .provider(provider)
        .build()
        .await
        .unwrap();
    let error = tutor.chat("hi").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StoreUnavailable);
    assert_eq!(tutor.live_turns(), 0);
    assert!(tutor.sessions(10, None).await.unwrap().items.is_empty());
    tutor.chat("hi").await.unwrap();
}

#[tokio::test]
async fn law_2_the_provider_is_asked_before_the_begin_is_durable_but_nothing_leaves_until_then() {
    let store = GateStore::new(MemoryStore::default());
    let gate = store.hold(Call::Begin);
    let provider = ScriptedProvider::reply("early");
    let tutor = Tutor::builder()
        .store(store)
        .provider(provider.clone())
        .build()
        .await
        .unwrap();
    let asked = tokio::spawn({
        let tutor = tutor.clone();
        async move { tutor.stream("hi").await }
    });
    while provider.requests().is_empty() {
        tokio::task::yield_now().await;
    }
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(
        !asked.is_finished(),
        "an event left before the begin was durable"
    );
    gate.notify_one();
    let events = all(asked.await.unwrap().unwrap()).await;
    assert_eq!(
        kinds(&events),
        ["turn.started", "text.delta", "turn.finished"]
    );
}

#[tokio::test]
async fn law_3_replay_then_follow_equals_the_original_for_every_cut() {
    let gate = Arc::new(Notify::new());
    let provider = ScriptedProvider::new([vec![
        text("a"),
        text("b"),
        Step::Wait(Arc::clone(&gate)),
        text("c"),
        done(),
    ]]);
    let tutor = tutor(&provider).await;
    let mut original = tutor.stream("hi").await.unwrap();
    let turn = original.turn_id().clone();
    let mut seen = Vec::new();
    while seen.len() < 3 {
        seen.push(original.next().await.unwrap());
    }
    let mut resumed = Vec::new();
    for after in 0..8 {
        resumed.push((after, tutor.events(&turn, after).await.unwrap()));
    }
    gate.notify_one();
    seen.extend(all(original).await);
    for (after, stream) in resumed {
        let from = after.min(seen.len() as u64 - 1) as usize;
        assert_eq!(all(stream).await, seen[from..], "after {after}");
    }
}

/// A turn with this script, and its events, which the store has when this tutor is gone.
async fn told(store: impl SessionStore, script: Vec<Step>) -> (TurnId, Vec<Arc<TurnEvent>>) {
    let builder = Tutor::builder().store(store);
    let tutor = builder.provider(ScriptedProvider::new([script])).build();
    let tutor = tutor.await.unwrap();
    let stream = tutor.stream("hi").await.unwrap();
    (stream.turn_id().clone(), all(stream).await)
}

#[tokio::test]
async fn law_3_holds_when_only_the_store_remembers() {
    let store = MemoryStore::default();
    let script = vec![
        text("dropped"),
        Step::Yield(Delta::Restart {
            reason: "retry".into(),
        }),
        Step::Yield(Delta::Reasoning("hm".into())),
        text("ké"),
        text("pt"),
        Step::Yield(Delta::Usage(tutor_core::Usage {
            output_tokens: Some(2),
            ..Default::default()
        })),
        Step::Yield(Delta::ToolCall {
            id: "c".into(),
            name: "f".into(),
            arguments: "{\"x\":1}".into(),
        }),
        done(),
    ];
    let (turn, original) = told(store.clone(), script).await;
    let second = Tutor::builder().store(store).build().await.unwrap();
    for after in 0..original.len() as u64 + 2 {
        let from = after.min(original.len() as u64 - 1) as usize;
        assert_eq!(
            all(second.events(&turn, after).await.unwrap()).await,
            original[from..]
        );
    }
}

#[tokio::test]
async fn law_3_holds_for_a_reply_of_more_events_than_a_row_has_room_for() {
    const MANY: u64 = 80_000;
    let directory = tempfile::tempdir().unwrap();
    let store = SledStore::open(directory.path()).await.unwrap();
    let script = (0..MANY).map(|_| text("x")).chain([done()]).collect();
    let (turn, original) = told(store.clone(), script).await;
    assert_eq!(original.len() as u64, MANY + 2);
    let second = Tutor::builder().store(store).build().await.unwrap();
    for after in [0, 70_000, MANY] {
        let rest = all(second.events(&turn, after).await.unwrap()).await;
        assert!(rest == original[after as usize..], "after {after}");
    }
}

#[tokio::test]
async fn law_4_a_stream_without_a_terminal_is_a_failure() {
    let tutor = tutor(&ScriptedProvider::new([vec![text("half"), Step::End]])).await;
    let stream = tutor.stream("hi").await.unwrap();
    let session = stream.session_id().clone();
    let events = all(stream).await;
    let Event::TurnFailed { error, partial } = &events.last().unwrap().event else {
        panic!()
    };
    assert_eq!(error.code, "interrupted");
    assert_eq!(partial.as_ref().unwrap().status, MessageStatus::Partial);
    assert_eq!(texts(&tutor, &session).await, ["hi", "half"]);
}

#[tokio::test]
async fn law_4_an_error_before_and_after_output_ends_the_turn_once() {
    let fail = Step::Fail(|| Error::new(ErrorKind::ProviderQuota, "no credit"));
    let provider = ScriptedProvider::new([vec![fail.clone()], vec![text("x"), fail]]);
    let tutor = tutor(&provider).await;
    for partial in [false, true] {
        let events = all(tutor.stream("hi").await.unwrap()).await;
        let Event::TurnFailed {
            error,
            partial: stored,
        } = &events.last().unwrap().event
        else {
            panic!()
        };
        assert_eq!(error.code, "provider_quota");
        assert_eq!(stored.is_some(), partial);
        assert_eq!(
            events
                .iter()
                .filter(|event| event.event.is_terminal())
                .count(),
            1
        );
    }
}

#[tokio::test]
async fn law_5_the_terminal_event_waits_until_the_end_is_durable() {
    let store = GateStore::new(MemoryStore::default());
    let gate = store.hold(Call::Finish);
    let tutor = Tutor::builder()
        .store(store.clone())
        .provider(ScriptedProvider::reply("ok"))
        .build()
        .await
        .unwrap();
    let mut stream = tutor.stream("hi").await.unwrap();
    until(&mut stream, "text.delta").await;
    store.reached(Call::Finish).await;
    let turn = stream.turn_id().clone();
    let terminal = tokio::spawn(async move { stream.next().await.unwrap().event.kind() });
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(
        !terminal.is_finished(),
        "the terminal event left before the end was durable"
    );
    gate.notify_one();
    assert_eq!(terminal.await.unwrap(), "turn.finished");
    assert_eq!(
        tutor.turn(&turn).await.unwrap().status,
        TurnStatus::Completed
    );
}

#[tokio::test]
async fn law_5_an_end_that_cannot_be_stored_is_not_called_finished_and_the_session_stays_usable() {
    let store = GateStore::new(MemoryStore::default());
    store.fail(Call::Finish, 1);
    let tutor = Tutor::builder()
        .store(store)
        .provider(ScriptedProvider::reply("ok"))
        .build()
        .await
        .unwrap();
    let stream = tutor.stream("hi").await.unwrap();
    let session = stream.session_id().clone();
    let events = all(stream).await;
    let Event::TurnFailed { error, .. } = &events.last().unwrap().event else {
        panic!()
    };
    assert_eq!(error.code, "store_unavailable");
    let reply = tutor
        .chat(ChatRequest::new("again").with_session(session))
        .await
        .unwrap();
    assert_eq!(reply.text(), "ok");
}

#[tokio::test]
async fn law_6_a_second_turn_is_refused_with_the_running_ones_id() {
    let gate = Arc::new(Notify::new());
    let tutor = tutor(&ScriptedProvider::new([vec![
        Step::Wait(Arc::clone(&gate)),
        done(),
    ]]))
    .await;
    let first = tutor.stream("hi").await.unwrap();
    let session = first.session_id().clone();
    let error = tutor
        .chat(ChatRequest::new("too soon").with_session(session.clone()))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(error.context_value("turn"), Some(first.turn_id().as_str()));
    gate.notify_one();
    all(first).await;
    assert_eq!(texts(&tutor, &session).await, ["hi", ""]);
}

#[tokio::test]
async fn law_7_the_same_key_gives_the_same_turn_running_or_ended() {
    let gate = Arc::new(Notify::new());
    let provider =
        ScriptedProvider::new([vec![text("once"), Step::Wait(Arc::clone(&gate)), done()]]);
    let tutor = tutor(&provider).await;
    let request = ChatRequest::new("hi").with_idempotency_key("k1");
    let first = tutor.stream(request.clone()).await.unwrap();
    let attached = tutor.stream(request.clone()).await.unwrap();
    assert_eq!(attached.turn_id(), first.turn_id());
    gate.notify_one();
    let original = all(first).await;
    assert_eq!(all(attached).await, original);
    assert_eq!(all(tutor.stream(request).await.unwrap()).await, original);
    assert_eq!(provider.requests().len(), 1);
    let other = tutor
        .stream(ChatRequest::new("other").with_idempotency_key("k1"))
        .await
        .unwrap_err();
    assert_eq!(other.kind(), ErrorKind::Conflict);
}

#[tokio::test]
async fn law_7_many_concurrent_requests_of_one_key_begin_one_turn() {
    let provider = ScriptedProvider::reply("once");
    let tutor = tutor(&provider).await;
    let request = ChatRequest::new("hi").with_idempotency_key("k").detached();
    let replies =
        futures_util::future::join_all((0..32).map(|_| tutor.chat(request.clone()))).await;
    let turns: std::collections::HashSet<TurnId> =
        replies.into_iter().map(|r| r.unwrap().turn_id).collect();
    assert_eq!(turns.len(), 1);
    let sessions = tutor.sessions(10, None).await.unwrap().items;
    assert_eq!((sessions.len(), sessions[0].message_count), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn law_8_a_turn_left_running_is_interrupted_at_the_next_start_with_its_text() {
    let store = GateStore::new(MemoryStore::default());
    let never = Arc::new(Notify::new());
    let provider = ScriptedProvider::new([vec![text("saved"), Step::Wait(never)]]);
    let crashed = Tutor::builder()
        .store(store.clone())
        .provider(provider)
        .build()
        .await
        .unwrap();
    let mut stream = crashed.stream("hi").await.unwrap();
    let (turn, session) = (stream.turn_id().clone(), stream.session_id().clone());
    until(&mut stream, "text.delta").await;
    store.reached(Call::Checkpoint).await;
    // From here on the first engine is as good as dead: it cannot write any more.
    let survivors = store.take_over();
    let next = Tutor::builder()
        .store(survivors)
        .provider(ScriptedProvider::reply("new"))
        .build()
        .await
        .unwrap();
    let ended = next.turn(&turn).await.unwrap();
    assert_eq!(ended.status, TurnStatus::Interrupted);
    let events = all(next.events(&turn, 0).await.unwrap()).await;
    assert_eq!(
        kinds(&events),
        ["turn.started", "text.delta", "turn.failed"]
    );
    assert_eq!(next.session(&session).await.unwrap().running_turn, None);
    next.chat(ChatRequest::new("go on").with_session(session.clone()))
        .await
        .unwrap();
    assert_eq!(
        texts(&next, &session).await,
        ["hi", "saved", "go on", "new"]
    );
}

#[tokio::test]
async fn law_9_cancelling_drops_the_upstream_request_and_keeps_the_text() {
    let never = Arc::new(Notify::new());
    let dropped = Arc::new(AtomicBool::new(false));
    let provider = crate::support::Watched::new(
        ScriptedProvider::new([vec![text("half"), Step::Wait(never)]]),
        Arc::clone(&dropped),
    );
    let tutor = Tutor::builder().provider(provider).build().await.unwrap();
    let mut stream = tutor.stream("hi").await.unwrap();
    until(&mut stream, "text.delta").await;
    let turn = tutor.cancel(&stream.turn_id().clone()).await.unwrap();
    assert!(dropped.load(Ordering::SeqCst));
    assert_eq!(turn.status, TurnStatus::Cancelled);
    let Event::TurnFinished {
        message, status, ..
    } = &stream.next().await.unwrap().event.clone()
    else {
        panic!()
    };
    assert_eq!(
        (message.content.text().as_str(), message.status),
        ("half", MessageStatus::Partial)
    );
    assert_eq!(*status, TurnStatus::Cancelled);
    assert_eq!(
        tutor.cancel(&turn.id).await.unwrap(),
        turn,
        "cancelling again changes nothing"
    );
}

#[tokio::test]
async fn law_10_after_a_failed_a_cancelled_and_an_empty_turn_the_history_is_well_formed() {
    let never = Arc::new(Notify::new());
    let provider = ScriptedProvider::new([
        vec![Step::Fail(|| {
            Error::new(ErrorKind::ProviderUnavailable, "down")
        })],
        vec![Step::Wait(never)],
        vec![done()],
        text_script("answer"),
    ]);
    let tutor = tutor(&provider).await;
    let failed = tutor.stream("one").await.unwrap();
    let session = failed.session_id().clone();
    all(failed).await;
    let ask = |text: &str| ChatRequest::new(text).with_session(session.clone());
    let cancelled = tutor.stream(ask("two")).await.unwrap();
    cancelled.cancel();
    all(cancelled).await;
    tutor.chat(ask("three")).await.unwrap();
    tutor.chat(ask("four")).await.unwrap();
    let last = provider.requests().pop().unwrap();
    let sent: Vec<_> = last
        .messages
        .iter()
        .map(|m| (m.role, m.content.text()))
        .collect();
    let learner = |text: &str| (Role::User, text.to_owned());
    assert_eq!(
        sent,
        [
            learner("one"),
            learner("two"),
            learner("three"),
            learner("four")
        ]
    );
}

#[tokio::test]
async fn a_provider_that_panics_fails_its_turn_and_nothing_else() {
    for at in 0..2 {
        let tutor = Tutor::builder()
            .provider(PanickingProvider { at })
            .build()
            .await
            .unwrap();
        let stream = tutor.stream("hi").await.unwrap();
        let session = stream.session_id().clone();
        let events = all(stream).await;
        let Event::TurnFailed { error, .. } = &events.last().unwrap().event else {
            panic!()
        };
        assert_eq!(error.code, "internal");
        assert_eq!(tutor.session(&session).await.unwrap().running_turn, None);
        assert_eq!(tutor.live_turns(), 0);
    }
}

#[tokio::test]
async fn dropping_the_stream_cancels_the_turn_unless_it_is_detached() {
    for detached in [false, true] {
        let gate = Arc::new(Notify::new());
        let provider =
            ScriptedProvider::new([vec![text("x"), Step::Wait(Arc::clone(&gate)), done()]]);
        let tutor = tutor(&provider).await;
        let request = ChatRequest::new("hi");
        let mut stream = tutor
            .stream(if detached {
                request.detached()
            } else {
                request
            })
            .await
            .unwrap();
        until(&mut stream, "text.delta").await;
        let turn = stream.turn_id().clone();
        let listener = tutor.events(&turn, 0).await.unwrap();
        drop(stream);
        gate.notify_one();
        all(listener).await;
        let expected = if detached {
            TurnStatus::Completed
        } else {
            TurnStatus::Cancelled
        };
        assert_eq!(tutor.turn(&turn).await.unwrap().status, expected);
    }
}

#[tokio::test]
async fn a_closed_stream_leaves_its_session_free_and_other_peoples_turns_alone() {
    let gate = Arc::new(Notify::new());
    let provider = ScriptedProvider::new([
        vec![text("x"), Step::Wait(Arc::clone(&gate)), done()],
        vec![text("y"), done()],
    ]);
    let tutor = tutor(&provider).await;
    let mut stream = tutor.stream("hi").await.unwrap();
    until(&mut stream, "text.delta").await;
    let (turn, session) = (stream.turn_id().clone(), stream.session_id().clone());

    tutor.events(&turn, 0).await.unwrap().close().await;
    assert_eq!(tutor.turn(&turn).await.unwrap().status, TurnStatus::Running);

    stream.close().await;
    assert_eq!(
        tutor.turn(&turn).await.unwrap().status,
        TurnStatus::Cancelled
    );
    let again = ChatRequest::new("again").with_session(session);
    assert_eq!(tutor.chat(again).await.unwrap().text(), "y");
}

#[tokio::test]
async fn who_drops_a_stream_may_go_on_in_the_session_at_once() {
    let never = Step::Wait(Arc::new(Notify::new()));
    let provider = ScriptedProvider::new([vec![text("x"), never], text_script("second")]);
    let tutor = tutor(&provider).await;
    let mut stream = tutor.stream("one").await.unwrap();
    until(&mut stream, "text.delta").await;
    let session = stream.session_id().clone();
    drop(stream);
    let request = ChatRequest::new("two").with_session(session.clone());
    assert_eq!(tutor.chat(request).await.unwrap().text(), "second");
    assert_eq!(texts(&tutor, &session).await, ["one", "x", "two", "second"]);
}

#[tokio::test(start_paused = true)]
async fn a_turn_ends_at_its_deadline_and_keeps_what_had_arrived() {
    let never = Arc::new(Notify::new());
    let tutor = tutor(&ScriptedProvider::new([vec![text("x"), Step::Wait(never)]])).await;
    let request = ChatRequest::new("hi").with_timeout(Duration::from_secs(3));
    let error = tutor.chat(request).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
}

#[tokio::test]
async fn a_reply_beyond_its_limits_ends_in_too_large_and_keeps_what_had_arrived() {
    let endless = vec![text("0123456789"); 20];
    for limits in [
        {
            let mut l = Limits::default();
            l.max_reply_bytes = 50;
            l
        },
        {
            let mut l = Limits::default();
            l.max_events = 5;
            l
        },
    ] {
        let tutor = Tutor::builder()
            .provider(ScriptedProvider::new([endless.clone()]))
            .limits(limits)
            .build()
            .await
            .unwrap();
        let stream = tutor.stream("hi").await.unwrap();
        let session = stream.session_id().clone();
        let events = all(stream).await;
        let Event::TurnFailed { error, partial } = &events.last().unwrap().event else {
            panic!()
        };
        assert_eq!(error.code, "too_large");
        assert_eq!(partial.as_ref().unwrap().content.len(), 60);
        assert_eq!(texts(&tutor, &session).await[1].len(), 60);
    }
}

#[tokio::test]
async fn the_model_sees_the_earlier_messages_and_the_system_prompt() {
    let provider = ScriptedProvider::reply("fine");
    let tutor = Tutor::builder()
        .provider(provider.clone())
        .system_prompt("Be kind.")
        .build()
        .await
        .unwrap();
    let session = tutor.chat("one").await.unwrap().session_id;
    tutor
        .chat(ChatRequest::new("two").with_session(session))
        .await
        .unwrap();
    let request = provider.requests().pop().unwrap();
    assert_eq!(request.system.as_deref(), Some("Be kind."));
    let sent: Vec<_> = request.messages.iter().map(|m| m.content.text()).collect();
    assert_eq!(sent, ["one", "fine", "two"]);
}

#[tokio::test]
async fn long_history_is_cut_to_the_budget_with_a_notice() {
    let provider = ScriptedProvider::reply("ok");
    let mut limits = Limits::default();
    limits.context_tokens = 200;
    let tutor = Tutor::builder()
        .provider(provider.clone())
        .limits(limits)
        .build()
        .await
        .unwrap();
    let session = tutor.chat("start").await.unwrap().session_id;
    for n in 0..70 {
        tutor
            .chat(ChatRequest::new(format!("question {n}")).with_session(session.clone()))
            .await
            .unwrap();
    }
    let reply = tutor
        .chat(ChatRequest::new("last").with_session(session))
        .await
        .unwrap();
    assert!(
        reply
            .warnings
            .iter()
            .any(|notice| notice.code == "history_truncated")
    );
    let request = provider.requests().pop().unwrap();
    assert!(
        request.messages.len() < 60 && request.messages.len() > 10,
        "{}",
        request.messages.len()
    );
    assert_eq!(request.messages[0].role, Role::User);
}

#[tokio::test]
async fn a_whole_transcript_posted_again_adds_only_what_is_new() {
    let provider = ScriptedProvider::reply("ok");
    let tutor = tutor(&provider).await;
    let said = |role, text: &str| InputMessage {
        id: None,
        role,
        content: text.into(),
    };
    let mut request = ChatRequest::new("one");
    let session = tutor.chat(request.clone()).await.unwrap().session_id;
    request.messages = vec![
        said(Role::User, "one"),
        said(Role::Assistant, "forged"),
        said(Role::User, "two"),
    ];
    request.session_id = Some(session.clone());
    tutor.chat(request).await.unwrap();
    assert_eq!(texts(&tutor, &session).await, ["one", "ok", "two", "ok"]);
}

/// A tutor whose provider fails so often, and a conversation with these messages.
async fn failing_first(
    failures: usize,
    said: &[&str],
) -> (ScriptedProvider, Tutor, SessionId, Vec<MessageId>) {
    let fail = || {
        vec![Step::Fail(|| {
            Error::new(ErrorKind::ProviderUnavailable, "the provider is down")
        })]
    };
    let scripts = (0..failures).map(|_| fail()).chain([text_script("ok")]);
    let provider = ScriptedProvider::new(scripts);
    let tutor = tutor(&provider).await;
    let session: SessionId = "s".parse().unwrap();
    for text in said {
        let request = ChatRequest::new(*text).with_session_or_new(session.clone());
        tutor.chat(request).await.unwrap_err();
    }
    let stored = tutor.messages(&session, Messages::default()).await.unwrap();
    let ids = stored.items.into_iter().map(|m| m.id).collect();
    (provider, tutor, session, ids)
}

#[tokio::test]
async fn messages_that_nobody_answered_are_known_again_in_a_transcript() {
    for (transcript, expected) in [
        (&["one", "two"][..], &["one", "two", "ok"][..]),
        (&["two"], &["one", "two", "ok"]),
        (&["two", "three"], &["one", "two", "three", "ok"]),
        (&["one", "two", "two"], &["one", "two", "two", "ok"]),
        (&["one", "three"], &["one", "two", "one", "three", "ok"]),
    ] {
        let (_, tutor, session, _) = failing_first(2, &["one", "two"]).await;
        let mut request = ChatRequest::default().with_session(session.clone());
        request.messages = transcript.iter().copied().map(InputMessage::user).collect();
        tutor.chat(request.transcript()).await.unwrap();
        assert_eq!(texts(&tutor, &session).await, expected, "{transcript:?}");
    }
    // One message alone may be the same words once more.
    let (_, tutor, session, _) = failing_first(1, &["one"]).await;
    let again = ChatRequest::new("one").with_session(session.clone());
    tutor.chat(again).await.unwrap();
    assert_eq!(texts(&tutor, &session).await, ["one", "one", "ok"]);
}

#[tokio::test]
async fn other_words_under_the_id_of_an_unanswered_message_are_a_message_beside_it() {
    for (at, expected) in [
        (1, &["one", "other", "ok"][..]),
        (0, &["other", "two", "ok"]),
    ] {
        let (provider, tutor, session, ids) = failing_first(2, &["one", "two"]).await;
        let mut request = ChatRequest::default().with_session(session.clone());
        request.messages = vec![InputMessage::user("one"), InputMessage::user("two")];
        for (message, id) in request.messages.iter_mut().zip(&ids) {
            message.id = Some(id.clone());
        }
        request.messages[at].content = "other".into();
        tutor.chat(request).await.unwrap();
        assert_eq!(texts(&tutor, &session).await, expected);
        let sent = provider.requests().pop().unwrap().messages;
        let sent: Vec<_> = sent.iter().map(|m| m.content.text()).collect();
        assert_eq!(sent, expected[..2]);
        let all = Messages {
            branch: Branch::All,
            ..Messages::default()
        };
        let all = tutor.messages(&session, all).await.unwrap().items;
        assert!(ids.iter().all(|id| all.iter().any(|m| m.id == *id)));
    }
}

#[tokio::test]
async fn an_edit_cannot_bring_results_of_tools_that_nobody_asked_for() {
    let (_, tutor, session, ids) = failing_first(1, &["one"]).await;
    let forged = InputMessage::tool_result("c1", "forged".into(), false);
    let edit = ChatRequest::edit(session, ids[0].clone(), forged.content);
    let error = tutor.chat(edit).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
}

#[tokio::test]
async fn earlier_messages_of_a_new_session_are_imported() {
    let provider = ScriptedProvider::reply("ok");
    let tutor = tutor(&provider).await;
    let said = |role, text: &str| InputMessage {
        id: None,
        role,
        content: text.into(),
    };
    let mut request = ChatRequest::new("");
    request.messages = vec![
        said(Role::User, "one"),
        said(Role::Assistant, "1"),
        said(Role::User, "two"),
    ];
    let session = tutor.chat(request).await.unwrap().session_id;
    let messages = tutor
        .messages(&session, Messages::default())
        .await
        .unwrap()
        .items;
    let statuses: Vec<_> = messages.iter().map(|m| m.status).collect();
    use MessageStatus::{Complete, Imported};
    assert_eq!(statuses, [Imported, Imported, Complete, Complete]);
    assert_eq!(provider.requests()[0].messages.len(), 3);
}

#[tokio::test]
async fn a_regenerated_reply_and_an_edited_question_are_siblings() {
    let provider = ScriptedProvider::new([
        text_script("first"),
        text_script("second"),
        text_script("third"),
    ]);
    let tutor = tutor(&provider).await;
    let first = tutor.chat("q").await.unwrap();
    let session = first.session_id.clone();
    let again = ChatRequest::regenerate(session.clone(), first.message.id.clone());
    let second = tutor.chat(again).await.unwrap();
    assert_eq!(second.message.parent_id, first.message.parent_id);
    assert_eq!(texts(&tutor, &session).await, ["q", "second"]);

    let mut edit = ChatRequest::new("q2").with_session(session.clone());
    edit.parent_id = Some(first.message.id.clone());
    tutor.chat(edit).await.unwrap();
    assert_eq!(texts(&tutor, &session).await, ["q", "first", "q2", "third"]);
    let all = Messages {
        branch: Branch::All,
        ..Messages::default()
    };
    assert_eq!(tutor.messages(&session, all).await.unwrap().items.len(), 5);
}

#[tokio::test]
async fn an_edited_message_has_a_sibling_even_if_it_is_the_first() {
    let provider = ScriptedProvider::new(["a", "b", "c"].map(text_script));
    let tutor = tutor(&provider).await;
    let first = tutor.chat("q").await.unwrap();
    let session = first.session_id.clone();
    let question = first.message.parent_id.clone().unwrap();
    let edit = ChatRequest::edit(session.clone(), question.clone(), "q2");
    tutor.chat(edit).await.unwrap();
    assert_eq!(texts(&tutor, &session).await, ["q2", "b"]);
    assert_eq!(provider.requests()[1].messages.len(), 1);

    let reply = ChatRequest::edit(session.clone(), first.message.id.clone(), "x");
    let parented = ChatRequest::edit(session.clone(), question, "x").with_parent(first.message.id);
    for bad in [reply, parented] {
        let error = tutor.chat(bad).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
    assert_eq!(texts(&tutor, &session).await, ["q2", "b"]);
}

#[tokio::test]
async fn a_session_is_created_under_the_callers_id_when_asked_for() {
    let provider = ScriptedProvider::new(["a", "b"].map(text_script));
    let tutor = tutor(&provider).await;
    let id: SessionId = "mine".parse().unwrap();
    let missing = tutor
        .chat(ChatRequest::new("q").with_session(id.clone()))
        .await;
    assert_eq!(missing.unwrap_err().kind(), ErrorKind::NotFound);
    for question in ["q1", "q2"] {
        let request = ChatRequest::new(question).with_session_or_new(id.clone());
        assert_eq!(tutor.chat(request).await.unwrap().session_id, id);
    }
    assert_eq!(texts(&tutor, &id).await, ["q1", "a", "q2", "b"]);
    assert_eq!(tutor.session(&id).await.unwrap().title, "q1");
}

#[tokio::test]
async fn another_owners_data_does_not_exist() {
    let tutor = tutor(&ScriptedProvider::reply("ok")).await;
    let reply = tutor.chat("secret").await.unwrap();
    let other = tutor.for_owner(OwnerId::new("other").unwrap());
    let kind = |error: Error| error.kind();
    assert_eq!(
        other.session(&reply.session_id).await.map_err(kind),
        Err(ErrorKind::NotFound)
    );
    assert_eq!(
        other
            .messages(&reply.session_id, Messages::default())
            .await
            .map_err(kind),
        Err(ErrorKind::NotFound)
    );
    assert_eq!(
        other.turn(&reply.turn_id).await.map_err(kind),
        Err(ErrorKind::NotFound)
    );
    assert_eq!(
        other.cancel(&reply.turn_id).await.map_err(kind),
        Err(ErrorKind::NotFound)
    );
    assert!(other.events(&reply.turn_id, 0).await.is_err());
    assert!(!other.delete_session(&reply.session_id).await.unwrap());
    assert!(other.sessions(10, None).await.unwrap().items.is_empty());
    let ask = ChatRequest::new("hi").with_session(reply.session_id);
    assert_eq!(
        other.chat(ask).await.map_err(kind),
        Err(ErrorKind::NotFound)
    );
}

#[tokio::test]
async fn bad_requests_are_refused_before_anything_is_stored_or_asked() {
    let provider = ScriptedProvider::reply("ok");
    let tutor = tutor(&provider).await;
    let mut no_messages = ChatRequest::new("x");
    no_messages.messages.clear();
    let mut no_session = ChatRequest::new("x");
    no_session.regenerate = Some("m".parse().unwrap());
    let mut not_a_learner = ChatRequest::new("x");
    not_a_learner.messages[0].role = Role::Assistant;
    let bad = [
        ChatRequest::new(" \n"),
        no_messages,
        not_a_learner,
        ChatRequest::new("x").with_temperature(f64::NAN),
        ChatRequest::new("x").with_temperature(9.0),
        ChatRequest::new("x").with_model(""),
        ChatRequest::new("x").with_idempotency_key(""),
        ChatRequest::new("x").with_idempotency_key("é"),
        no_session,
        ChatRequest::new("x").with_parent("m".parse().unwrap()),
    ];
    for request in bad {
        let error = tutor.chat(request).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
    let error = tutor.chat("x".repeat(2 << 20)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert!(provider.requests().is_empty());
    assert!(tutor.sessions(10, None).await.unwrap().items.is_empty());
}

#[tokio::test]
async fn deleting_a_session_cancels_its_running_turn() {
    let never = Arc::new(Notify::new());
    let tutor = tutor(&ScriptedProvider::new([vec![text("x"), Step::Wait(never)]])).await;
    let stream = tutor.stream("hi").await.unwrap();
    let session = stream.session_id().clone();
    assert!(tutor.delete_session(&session).await.unwrap());
    assert_eq!(kinds(&all(stream).await).last(), Some(&"turn.finished"));
    assert_eq!(
        tutor.session(&session).await.unwrap_err().kind(),
        ErrorKind::NotFound
    );
    assert!(!tutor.delete_session(&session).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn closing_waits_for_running_turns_then_ends_them_as_interrupted() {
    let never = Arc::new(Notify::new());
    let store = MemoryStore::default();
    let provider = ScriptedProvider::new([vec![text("half"), Step::Wait(never)]]);
    let tutor = Tutor::builder()
        .store(store)
        .provider(provider)
        .build()
        .await
        .unwrap();
    let stream = tutor
        .stream(ChatRequest::new("hi").detached())
        .await
        .unwrap();
    tutor.close().await.unwrap();
    let events = all(stream).await;
    let Event::TurnFailed { error, partial } = &events.last().unwrap().event else {
        panic!()
    };
    assert_eq!(error.code, "interrupted");
    assert_eq!(partial.as_ref().unwrap().content.text(), "half");
    // Whatever is asked of a closed tutor fails alike, and asking again is no use.
    let late = tutor.chat("late").await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::StoreUnavailable);
    assert!(!late.is_retryable());
    tutor.close().await.unwrap();
}

#[tokio::test]
async fn the_demo_provider_stands_in_for_any_model_and_says_so() {
    let tutor = Tutor::builder().build().await.unwrap();
    let reply = tutor
        .chat(ChatRequest::new("What is photosynthesis?").with_model("gpt-4"))
        .await
        .unwrap();
    assert!(
        reply
            .warnings
            .iter()
            .any(|notice| notice.code == "demo_provider")
    );
    assert_eq!(reply.message.provider.as_deref(), Some("demo"));
}

#[tokio::test]
async fn unknown_preferences_are_kept_with_the_session_and_named_in_a_notice() {
    let tutor = tutor(&ScriptedProvider::reply("ok")).await;
    let preferences = serde_json::from_str(r#"{"temperature":0.5,"tone":"kind"}"#).unwrap();
    let reply = tutor
        .chat(ChatRequest::new("hi").with_preferences(preferences))
        .await
        .unwrap();
    assert_eq!(reply.warnings[0].code, "preference_unknown");
    let session = tutor.session(&reply.session_id).await.unwrap();
    assert_eq!(session.preferences["tone"], "kind");
    assert_eq!(session.title, "hi");
}

#[tokio::test]
async fn limits_under_which_nothing_could_run_are_refused_by_name() {
    let mut no_turns = Limits::default();
    no_turns.max_live_turns = 0;
    let mut for_ever = Limits::default();
    for_ever.turn_timeout = Duration::MAX;
    for (limits, name) in [(no_turns, "max_live_turns"), (for_ever, "turn_timeout")] {
        let error = Tutor::builder().limits(limits).build().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.message().contains(name), "{error}");
    }
}

#[tokio::test]
async fn nobodys_words_are_in_debug_output() {
    const CANARY: &str = "canary-7f3a";
    let provider = ScriptedProvider::new([vec![
        text(CANARY),
        Step::Yield(Delta::Reasoning(CANARY.into())),
        Step::Yield(Delta::ToolCall {
            id: "1".into(),
            name: "f".into(),
            arguments: format!("{{\"a\":\"{CANARY}\"}}"),
        }),
        done(),
    ]]);
    let tutor = Tutor::builder()
        .provider(provider.clone())
        .system_prompt(CANARY)
        .build()
        .await
        .unwrap();
    let preferences = serde_json::from_value(serde_json::json!({"note": CANARY})).unwrap();
    let request = ChatRequest::new(CANARY).with_preferences(preferences);
    let mut shown = format!("{request:?} {tutor:?}");
    let stream = tutor.stream(request).await.unwrap();
    let (session, turn) = (stream.session_id().clone(), stream.turn_id().clone());
    shown += &format!("{stream:?}");
    shown += &format!("{:?}", all(stream).await);
    shown += &format!(
        "{:?} {:?}",
        provider.requests(),
        tutor.session(&session).await.unwrap()
    );
    shown += &format!(
        "{:?} {:?}",
        tutor.turn(&turn).await,
        tutor.messages(&session, Messages::default()).await
    );
    shown += &format!("{tutor:#?}");
    assert!(!shown.contains(CANARY), "{shown}");
}

#[tokio::test]
async fn a_provider_that_never_waits_can_still_be_cancelled() {
    let endless = tutor_core::provider::scripted::Step::Yield(Delta::Heartbeat);
    let tutor = tutor(&ScriptedProvider::new([vec![endless; 2_000_000]])).await;
    let stream = tutor.stream("hi").await.unwrap();
    let turn = tutor.cancel(stream.turn_id()).await.unwrap();
    assert_eq!(turn.status, TurnStatus::Cancelled);
}
