//! Tools: called, bounded, told to the model, stored, and replayed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Notify;
use tutor_core::message::{Content, Part};
use tutor_core::provider::ScriptedProvider;
use tutor_core::store::MemoryStore;
use tutor_core::turn::InputMessage;
use tutor_core::{
    ChatRequest, Error, ErrorKind, Event, FinishReason, FnTool, Limits, MessageStatus, Messages,
    Role, SessionId, Tool, ToolCall, ToolSpec, TurnStatus, Tutor, Usage, async_trait,
};

use super::{all, asking, build, call, done, kinds, say, scripts, shown, text};
use crate::support::GateStore;

fn double() -> impl Tool {
    let parameters = json!({
        "type": "object",
        "properties": {"n": {"type": "integer"}},
        "required": ["n"],
        "additionalProperties": false,
    });
    FnTool::new(
        ToolSpec::new("double", "Doubles", parameters),
        async |call| Ok(json!(call.arguments["n"].as_i64().unwrap_or_default() * 2)),
    )
}

/// A tool that takes anything and does what it is told to.
#[derive(Clone, Debug)]
enum Odd {
    Fails,
    Panics,
    Waits(Arc<Notify>, Arc<AtomicBool>),
    Answers(Value),
}

#[async_trait]
impl Tool for Odd {
    fn spec(&self) -> ToolSpec {
        ToolSpec::new("odd", "", json!({"type": "object"}))
    }
    async fn call(&self, _: ToolCall) -> tutor_core::Result<Value> {
        struct Dropped(Arc<AtomicBool>);
        impl Drop for Dropped {
            fn drop(&mut self) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        match self {
            Self::Fails => Err(Error::invalid_input("the map has no such country")),
            Self::Panics => panic!("told to panic"),
            Self::Waits(started, dropped) => {
                let _dropped = Dropped(Arc::clone(dropped));
                started.notify_one();
                std::future::pending().await
            }
            Self::Answers(value) => Ok(value.clone()),
        }
    }
}

async fn newest(tutor: &Tutor, session: &SessionId) -> tutor_core::Message {
    let page = tutor.messages(session, Messages::latest(1)).await.unwrap();
    page.items.into_iter().next().unwrap()
}

/// What the second completion was told that the tool answered.
fn told(provider: &ScriptedProvider) -> Vec<(Value, bool)> {
    let requests = provider.requests();
    let Content::Parts(parts) = &requests[1].messages.last().unwrap().content else {
        panic!("no results");
    };
    let results = parts.iter().map(|part| match part {
        Part::ToolResult {
            result, is_error, ..
        } => (result.clone(), *is_error),
        other => panic!("{other:?}"),
    });
    results.collect()
}

#[tokio::test]
async fn a_call_is_answered_stored_told_to_the_model_and_replayed() {
    let provider = scripts(vec![
        asking(vec![
            text("Let me see. "),
            call("a", "double", r#"{"n": 21}"#),
            call("b", "double", r#"{"n": 1}"#),
        ]),
        asking(vec![call("a", "double", r#"{"n": 2}"#)]),
        say("It is 42."),
        say("As I said."),
    ]);
    let store = MemoryStore::default();
    let tutor = build(
        Tutor::builder().store(store.clone()).tool(double()),
        &provider,
    )
    .await;
    let stream = tutor.stream("what is twice 21?").await.unwrap();
    let (turn, session) = (stream.turn_id().clone(), stream.session_id().clone());
    let events = all(stream).await;
    assert_eq!(
        kinds(&events),
        [
            "turn.started",
            "text.delta",
            "tool.call",
            "tool.call",
            "tool.result",
            "tool.result",
            "tool.call",
            "tool.result",
            "text.delta",
            "text.delta",
            "text.delta",
            "turn.finished"
        ]
    );
    let results: Vec<Value> = events
        .iter()
        .filter_map(|event| match &event.event {
            Event::ToolResult { result, .. } => Some(result.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(results, [json!(42), json!(2), json!(4)]);
    assert_eq!(shown(&events), "Let me see. It is 42.");

    let reply = newest(&tutor, &session).await;
    assert_eq!(reply.content.text(), "Let me see. It is 42.");
    let Content::Parts(parts) = &reply.content else {
        panic!("calls and results are part of the reply");
    };
    assert_eq!(parts.len(), 8);
    assert!(
        matches!(&parts[3], Part::ToolResult { call_id, name, .. } if call_id == "a" && name == "double")
    );

    let requests = provider.requests();
    assert_eq!(requests[0].tools.len(), 1);
    let roles = |n: usize| -> Vec<Role> { requests[n].messages.iter().map(|m| m.role).collect() };
    assert_eq!(roles(1), [Role::User, Role::Assistant, Role::User]);
    assert_eq!(roles(2).len(), 5);

    tutor
        .chat(ChatRequest::new("sure?").with_session(session))
        .await
        .unwrap();
    let next = provider.requests().pop().unwrap();
    let shape: Vec<usize> = next
        .messages
        .iter()
        .map(|m| match &m.content {
            Content::Text(_) => 1,
            Content::Parts(parts) => parts.len(),
        })
        .collect();
    assert_eq!(shape, [1, 3, 2, 1, 1, 1, 1], "well-formed the next time");

    // After a restart the very same events come from the store.
    let again = build(Tutor::builder().store(store), &provider).await;
    for after in 0..=events.len() {
        let replayed = all(again.events(&turn, after as u64).await.unwrap()).await;
        assert_eq!(replayed, events[after.min(events.len() - 1)..]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_goes_wrong_with_a_tool_is_told_to_the_model_and_not_to_the_learner() {
    let never = || Odd::Waits(Arc::default(), Arc::default());
    let large = Odd::Answers(json!("x".repeat(2000)));
    let mut limits = Limits::default();
    limits.max_tool_result_bytes = 1000;
    limits.tool_timeout = Duration::from_secs(3);
    for (tool, name, arguments, expected) in [
        (Odd::Fails, "odd", "{}", "no such country"),
        (Odd::Panics, "odd", "{}", "the tool failed"),
        (never(), "odd", "{}", "did not answer within 3s"),
        (large, "odd", "{}", "more than 1000 bytes"),
        (
            Odd::Fails,
            "nobody",
            "{}",
            "there is no such tool; known: odd",
        ),
        (Odd::Fails, "odd", "{", "not a JSON object"),
        (Odd::Fails, "odd", "[1]", "not a JSON object"),
    ] {
        let provider = scripts(vec![asking(vec![call("c", name, arguments)]), say("well")]);
        let builder = Tutor::builder().tool(tool).limits(limits.clone());
        let tutor = build(builder, &provider).await;
        let reply = tutor.chat("hi").await.unwrap();
        assert_eq!(
            (reply.text().as_str(), reply.status),
            ("well", TurnStatus::Completed)
        );
        let (result, is_error) = told(&provider).remove(0);
        assert!(is_error);
        assert!(result.as_str().unwrap().contains(expected), "{result}");
    }
}

#[tokio::test]
async fn arguments_are_checked_against_the_schema_before_the_tool_sees_them() {
    for (arguments, problem) in [
        (r#"{"n": "21"}"#, Some("/n")),
        (r"{}", Some("n")),
        (r#"{"n": 1, "m": 2}"#, Some("m")),
        (r#"{"n": 4}"#, None),
    ] {
        let provider = scripts(vec![
            asking(vec![call("c", "double", arguments)]),
            say("ok"),
        ]);
        let tutor = build(Tutor::builder().tool(double()), &provider).await;
        tutor.chat("hi").await.unwrap();
        let (result, is_error) = told(&provider).remove(0);
        assert_eq!(is_error, problem.is_some(), "{arguments}");
        match problem {
            Some(problem) => {
                let why = result.as_str().unwrap();
                assert!(why.contains("do not fit") && why.contains(problem), "{why}");
            }
            None => assert_eq!(result, json!(8)),
        }
    }
}

#[tokio::test]
async fn a_model_that_never_stops_calling_is_stopped_and_what_had_arrived_is_kept() {
    let provider = scripts(vec![asking(vec![call("c", "double", r#"{"n": 1}"#)])]);
    let mut limits = Limits::default();
    limits.max_tool_rounds = 3;
    let tutor = build(Tutor::builder().tool(double()).limits(limits), &provider).await;
    let mut stream = tutor.stream("hi").await.unwrap();
    let session = stream.session_id().clone();
    let error = stream.read_reply().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert_eq!(error.context_value("limit"), Some("max_tool_rounds"));
    assert_eq!(provider.requests().len(), 4);
    let reply = newest(&tutor, &session).await;
    assert_eq!(reply.status, MessageStatus::Partial);
}

#[tokio::test]
async fn too_many_calls_at_a_time_are_not_made() {
    let calls = (0..5)
        .map(|n| call(&n.to_string(), "double", r#"{"n": 1}"#))
        .collect();
    let provider = scripts(vec![asking(calls), say("ok")]);
    let mut limits = Limits::default();
    limits.max_tool_calls = 2;
    let tutor = build(Tutor::builder().tool(double()).limits(limits), &provider).await;
    tutor.chat("hi").await.unwrap();
    let failed: Vec<bool> = told(&provider)
        .into_iter()
        .map(|(_, failed)| failed)
        .collect();
    assert_eq!(failed, [false, false, true, true, true]);
}

#[tokio::test]
async fn cancelling_stops_a_running_tool_and_the_next_request_is_well_formed() {
    let (started, dropped) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
    let provider = scripts(vec![
        asking(vec![text("one moment"), call("c", "odd", "{}")]),
        say("fine"),
    ]);
    let tool = Odd::Waits(Arc::clone(&started), Arc::clone(&dropped));
    let tutor = build(Tutor::builder().tool(tool), &provider).await;
    let stream = tutor.stream("hi").await.unwrap();
    let session = stream.session_id().clone();
    started.notified().await;
    let turn = tutor.cancel(stream.turn_id()).await.unwrap();
    assert_eq!(turn.status, TurnStatus::Cancelled);
    assert!(dropped.load(Ordering::SeqCst), "the tool still runs");
    tutor
        .chat(ChatRequest::new("go on").with_session(session))
        .await
        .unwrap();
    let texts: Vec<String> = provider.requests()[1]
        .messages
        .iter()
        .map(|m| m.content.text())
        .collect();
    assert_eq!(texts, ["hi", "one moment", "go on"]);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_ends_a_turn_whose_tool_is_slow() {
    let provider = scripts(vec![asking(vec![call("c", "odd", "{}")])]);
    let tool = Odd::Waits(Arc::default(), Arc::default());
    let tutor = build(Tutor::builder().tool(tool), &provider).await;
    let request = ChatRequest::new("hi").with_timeout(Duration::from_secs(2));
    let error = tutor.chat(request).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
}

#[tokio::test]
async fn a_restart_of_a_later_completion_keeps_what_tools_answered() {
    let restart = super::Step::Yield(super::Delta::Restart {
        reason: "overloaded".into(),
    });
    let provider = scripts(vec![
        asking(vec![text("Before. "), call("c", "double", r#"{"n": 3}"#)]),
        vec![
            text("void"),
            restart,
            text("It is 6."),
            done(FinishReason::Stop),
        ],
    ]);
    let store = MemoryStore::default();
    let tutor = build(
        Tutor::builder().store(store.clone()).tool(double()),
        &provider,
    )
    .await;
    let stream = tutor.stream("hi").await.unwrap();
    let turn = stream.turn_id().clone();
    let events = all(stream).await;
    assert_eq!(shown(&events), "Before. It is 6.");
    let Event::TurnFinished { message, .. } = &events.last().unwrap().event else {
        panic!("{events:?}");
    };
    assert_eq!(message.content.text(), "Before. It is 6.");
    let Content::Parts(parts) = &message.content else {
        panic!("{message:?}");
    };
    assert_eq!(parts.len(), 4);
    let again = build(Tutor::builder().store(store), &provider).await;
    assert_eq!(all(again.events(&turn, 0).await.unwrap()).await, events);
}

#[tokio::test]
async fn usage_of_all_completions_is_added_up() {
    let usage = |input, output| {
        super::Step::Yield(super::Delta::Usage(Usage {
            input_tokens: Some(input),
            output_tokens: Some(output),
            ..Usage::default()
        }))
    };
    let provider = scripts(vec![
        asking(vec![
            call("c", "double", r#"{"n": 3}"#),
            usage(1, 1),
            usage(10, 2),
        ]),
        vec![text("6"), usage(20, 5), done(FinishReason::Stop)],
    ]);
    let tutor = build(Tutor::builder().tool(double()), &provider).await;
    let usage = tutor.chat("hi").await.unwrap().usage.unwrap();
    assert_eq!(
        (usage.input_tokens, usage.output_tokens),
        (Some(30), Some(7))
    );
}

#[tokio::test]
async fn without_tools_a_call_is_the_callers_business() {
    let provider = scripts(vec![asking(vec![call("c", "theirs", "{}")])]);
    let tutor = build(Tutor::builder(), &provider).await;
    let reply = tutor.chat("hi").await.unwrap();
    assert_eq!(reply.finish_reason, FinishReason::ToolCalls);
    assert!(matches!(&reply.message.content, Content::Parts(parts) if parts.len() == 1));
}

#[tokio::test]
async fn a_tool_of_a_request_is_there_for_that_turn_only() {
    let provider = scripts(vec![
        asking(vec![call("c", "double", r#"{"n": 3}"#)]),
        say("6"),
        say("bye"),
    ]);
    let tutor = build(Tutor::builder(), &provider).await;
    let session = tutor
        .chat(ChatRequest::new("hi").with_tool(double()))
        .await
        .unwrap()
        .session_id;
    tutor
        .chat(ChatRequest::new("bye").with_session(session))
        .await
        .unwrap();
    let offered: Vec<usize> = provider.requests().iter().map(|r| r.tools.len()).collect();
    assert_eq!(offered, [1, 1, 0]);
}

#[tokio::test]
async fn a_tool_that_cannot_be_offered_is_refused_by_name() {
    for spec in [
        ToolSpec::new("with space", "", json!({})),
        ToolSpec::new("", "", json!({})),
        ToolSpec::new("a", "", json!({"type": "nothing"})),
    ] {
        let tool = FnTool::new(spec.clone(), async |_| Ok(Value::Null));
        let error = Tutor::builder().tool(tool).build().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert_eq!(error.context_value("tool"), Some(spec.name.as_str()));
    }
    let twice = Tutor::builder().tool(double()).tool(double()).build().await;
    assert_eq!(twice.unwrap_err().kind(), ErrorKind::Config);
    let tutor = Tutor::builder().tool(double()).build().await.unwrap();
    let refused = tutor.chat(ChatRequest::new("hi").with_tool(double())).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidInput);
    assert!(tutor.sessions(1, None).await.unwrap().items.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_crash_between_tools_keeps_what_was_saved() {
    let (started, dropped) = (Arc::new(Notify::new()), Arc::default());
    let provider = scripts(vec![
        asking(vec![text("one moment"), call("c", "odd", "{}")]),
        say("fine"),
    ]);
    let store = GateStore::new(MemoryStore::default());
    let mut limits = Limits::default();
    limits.tool_timeout = Duration::from_secs(3600);
    let tool = Odd::Waits(Arc::clone(&started), dropped);
    let builder = Tutor::builder()
        .store(store.clone())
        .tool(tool)
        .limits(limits);
    let tutor = build(builder, &provider).await;
    let stream = tutor
        .stream(ChatRequest::new("hi").detached())
        .await
        .unwrap();
    started.notified().await;
    store.reached(crate::support::Call::Checkpoint).await;
    let (turn, session) = (stream.turn_id().clone(), stream.session_id().clone());
    let again = build(Tutor::builder().store(store.take_over()), &provider).await;
    assert_eq!(again.recovered_turns(), 1);
    let ended = again.turn(&turn).await.unwrap();
    assert_eq!(ended.status, TurnStatus::Interrupted);
    let kept = newest(&again, &session).await;
    assert_eq!(kept.content.text(), "one moment");
    again
        .chat(ChatRequest::new("go on").with_session(session))
        .await
        .unwrap();
}

/// A tool that the caller runs.
fn clock() -> ToolSpec {
    let parameters =
        json!({"type": "object", "properties": {"zone": {"type": "string"}}, "required": ["zone"]});
    ToolSpec::new("clock", "Tells the time", parameters)
}

fn results(answers: &[(&str, Value)]) -> InputMessage {
    let parts = answers.iter().map(|(call, result)| Part::ToolResult {
        call_id: (*call).to_owned(),
        name: String::new(),
        result: result.clone(),
        is_error: false,
    });
    InputMessage::user(Content::Parts(parts.collect()))
}

#[tokio::test]
async fn a_call_of_a_tool_of_the_caller_ends_the_turn_and_the_next_request_brings_the_result() {
    let provider = scripts(vec![
        asking(vec![
            text("Let me see. "),
            call("c1", "clock", r#"{"zone": "UTC"}"#),
            call("c2", "double", r#"{"n": 3}"#),
        ]),
        say("It is noon."),
    ]);
    let tutor = build(Tutor::builder().tool(double()), &provider).await;
    let request = ChatRequest::new("What time is it?").with_client_tool(clock());
    let stream = tutor.stream(request).await.unwrap();
    let session = stream.session_id().clone();
    let events = all(stream).await;
    // The server's tool of the same round was called, the caller's was not.
    assert_eq!(
        kinds(&events),
        [
            "turn.started",
            "text.delta",
            "tool.call",
            "tool.call",
            "tool.result",
            "turn.finished"
        ]
    );
    let Event::TurnFinished {
        finish_reason,
        status,
        ..
    } = &events.last().unwrap().event
    else {
        panic!("{events:?}");
    };
    assert_eq!(
        (*finish_reason, *status),
        (FinishReason::ToolCalls, TurnStatus::Completed)
    );
    assert_eq!(provider.requests().len(), 1);
    assert_eq!(provider.requests()[0].tools.len(), 2);

    let mut request = ChatRequest::default()
        .with_session(session)
        .with_client_tool(clock());
    request.messages = vec![results(&[("c1", json!("12:00"))])];
    let reply = tutor.chat(request).await.unwrap();
    assert_eq!(reply.text(), "It is noon.");
    let told = &provider.requests()[1].messages;
    let roles: Vec<_> = told.iter().map(|message| message.role).collect();
    assert_eq!(roles, [Role::User, Role::Assistant, Role::User]);
    let Content::Parts(answers) = &told[2].content else {
        panic!("{told:?}");
    };
    let answers: Vec<_> = answers
        .iter()
        .map(|part| match part {
            Part::ToolResult {
                call_id,
                name,
                result,
                ..
            } => (call_id.as_str(), name.as_str(), result.clone()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        answers,
        [("c2", "double", json!(6)), ("c1", "clock", json!("12:00"))]
    );
}

#[tokio::test]
async fn a_call_with_wrong_arguments_is_not_the_callers_business() {
    let provider = scripts(vec![
        asking(vec![call("c1", "clock", r#"{"zone": 7}"#)]),
        say("Never mind."),
    ]);
    let tutor = build(Tutor::builder(), &provider).await;
    let request = ChatRequest::new("What time is it?").with_client_tool(clock());
    assert_eq!(tutor.chat(request).await.unwrap().text(), "Never mind.");
    let (result, is_error) = told(&provider).remove(0);
    assert!(is_error && result.as_str().unwrap().contains("do not fit"));
}

#[tokio::test]
async fn results_that_answer_no_open_call_are_refused_and_nothing_is_stored() {
    let provider = scripts(vec![
        asking(vec![call("c1", "clock", r#"{"zone": "UTC"}"#)]),
        say("Noon."),
        say("Hello."),
    ]);
    let tutor = build(Tutor::builder(), &provider).await;
    let with = |message: InputMessage, session: Option<&SessionId>| {
        let mut request = ChatRequest::default().with_client_tool(clock());
        request.session_id = session.cloned();
        request.messages = vec![message];
        request
    };
    let error = tutor
        .chat(with(results(&[("c1", json!(1))]), None))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let asked = tutor
        .chat(with(InputMessage::user("What time?"), None))
        .await
        .unwrap();
    let session = asked.session_id;
    let other = with(results(&[("c2", json!(1))]), Some(&session));
    assert_eq!(
        tutor.chat(other).await.unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
    assert_eq!(tutor.session(&session).await.unwrap().message_count, 2);
    // Whoever asks something else instead of answering is not held up.
    let ok = tutor
        .chat(with(results(&[("c1", json!(1))]), Some(&session)))
        .await
        .unwrap();
    assert_eq!(ok.text(), "Noon.");
    let again = with(results(&[("c1", json!(1))]), Some(&session));
    assert_eq!(
        tutor.chat(again).await.unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
    let more = tutor
        .chat(with(InputMessage::user("Hi"), Some(&session)))
        .await
        .unwrap();
    assert_eq!(more.text(), "Hello.");
}

#[tokio::test]
async fn two_tools_of_one_name_are_refused_whoever_runs_them() {
    let tutor = build(Tutor::builder().tool(double()), &scripts(vec![])).await;
    let same = ToolSpec::new("double", "", json!({"type": "object"}));
    let error = tutor
        .chat(ChatRequest::new("hi").with_client_tool(same))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(error.context_value("tool"), Some("double"));
}
