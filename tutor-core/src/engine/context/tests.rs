//! What the model sees, case by case.

use serde_json::json;

use super::*;
use crate::engine::testing::message;
use crate::time::Timestamp;

/// Messages that are called 0, 1, 2 …
fn numbered(history: Vec<Message>) -> Vec<Message> {
    let named = history.into_iter().enumerate();
    named
        .map(|(n, message)| Message {
            id: MessageId::new(n.to_string()).unwrap(),
            ..message
        })
        .collect()
}

fn fit_with(messages: &[Message], budget: usize, summary: Option<Summary>) -> Context {
    let mut collector = Collector::new(budget, None, 0, summary);
    messages.iter().rev().for_each(|m| collector.offer(m));
    collector.finish()
}

fn fit(messages: &[Message], budget: usize) -> Context {
    fit_with(messages, budget, None)
}

fn texts(context: &Context) -> Vec<String> {
    context.messages.iter().map(|m| m.content.text()).collect()
}

fn codes(context: &Context) -> Vec<&str> {
    context.notices.iter().map(|n| n.code.as_str()).collect()
}

fn call(id: &str) -> Part {
    Part::ToolCall {
        call_id: id.into(),
        name: "f".into(),
        arguments: json!({"x": 1}),
    }
}

fn result(id: &str) -> Part {
    Part::ToolResult {
        call_id: id.into(),
        name: "f".into(),
        result: json!(2),
        is_error: false,
    }
}

fn text(text: &str) -> Part {
    Part::Text { text: text.into() }
}

fn reply(parts: Vec<Part>) -> Message {
    Message {
        content: Content::Parts(parts),
        ..message(Role::Assistant, "")
    }
}

/// What is sent of a history: by budget, the numbers of the messages.
#[test]
fn the_newest_messages_that_fit_are_sent_whole_and_in_order() {
    let long = "many words ".repeat(40);
    let history = numbered(vec![
        message(Role::User, &long),
        message(Role::Assistant, "b"),
        message(Role::User, "c"),
        message(Role::Assistant, &long),
        message(Role::User, "e"),
    ]);
    let table: [(usize, &[&str], Option<&str>); 5] = [
        (10_000, &["0", "1", "2", "3", "4"], None),
        // The question alone, whatever the budget; never an answer to nothing.
        (0, &["4"], Some("3")),
        (20, &["4"], Some("3")),
        (140, &["2", "3", "4"], Some("1")),
        (10_000, &["0", "1", "2", "3", "4"], None),
    ];
    for (budget, expected, left_out) in table {
        let context = fit(&history, budget);
        let expected: Vec<String> = expected
            .iter()
            .map(|id| history[id.parse::<usize>().unwrap()].content.text())
            .collect();
        assert_eq!(texts(&context), expected, "{budget}");
        assert_eq!(context.left_out.as_ref().map(MessageId::as_str), left_out);
        let notices: &[&str] = if left_out.is_some() {
            &["history_truncated"]
        } else {
            &[]
        };
        assert_eq!(codes(&context), notices);
        assert!(
            context.tokens <= budget.max(10),
            "{} of {budget}",
            context.tokens
        );
    }
}

#[test]
fn the_budget_is_the_window_less_the_reply_and_at_most_the_limit() {
    let limits = Limits {
        context_tokens: 10_000,
        reply_tokens: 1000,
        ..Limits::default()
    };
    for (window, max_tokens, expected) in [
        (None, None, 10_000),
        (None, Some(9_000), 10_000),
        (Some(200_000), None, 10_000),
        (Some(8_000), None, 7_000),
        (Some(8_000), Some(3_000), 5_000),
        (Some(2_000), None, 1_500),
        (Some(2_000), Some(5_000), 0),
        (Some(u64::MAX), Some(1), 10_000),
    ] {
        assert_eq!(budget(&limits, window, max_tokens), expected, "{window:?}");
    }
}

#[test]
fn the_system_prompt_and_the_tools_are_pinned_and_take_their_share() {
    let history = numbered(vec![
        message(Role::User, "one two three four five"),
        message(Role::Assistant, "b"),
        message(Role::User, "c"),
    ]);
    let system = "be kind ".repeat(20);
    for (budget, tools, sent) in [(200, 0, 3), (50, 0, 1), (200, 170, 1)] {
        let mut collector = Collector::new(budget, Some(&system), tools, None);
        history.iter().rev().for_each(|m| collector.offer(m));
        let context = collector.finish();
        assert_eq!(context.system.as_deref(), Some(system.as_str()));
        assert_eq!(context.messages.len(), sent, "{budget} {tools}");
    }
}

#[test]
fn images_and_files_are_counted() {
    let picture = Message {
        content: Content::Parts(vec![
            text("look"),
            Part::Image {
                url: "https://a.example/b.png".into(),
                media_type: None,
            },
        ]),
        ..message(Role::User, "")
    };
    let history = numbered(vec![
        message(Role::User, "a"),
        message(Role::Assistant, "b"),
        picture,
    ]);
    assert_eq!(fit(&history, tokens::IMAGE_TOKENS).messages.len(), 1);
    assert_eq!(fit(&history, tokens::IMAGE_TOKENS + 50).messages.len(), 3);
    let file = Part::File {
        file_id: "f".repeat(1000),
        name: Some("n".into()),
        media_type: None,
    };
    let named = Message {
        content: Content::Parts(vec![file]),
        ..message(Role::User, "")
    };
    assert!(fit(&[named], 1000).tokens < 50, "its id is not sent");
}

#[test]
fn a_call_is_never_parted_from_its_result() {
    let history = numbered(vec![
        message(Role::User, "a"),
        reply(vec![
            text("let me see"),
            call("1"),
            call("2"),
            result("1"),
            result("2"),
            call("1"),
            result("1"),
            text("it is 2"),
        ]),
        message(Role::User, "b"),
    ]);
    let whole = fit(&history, 10_000);
    let shape: Vec<(Role, usize)> = whole
        .messages
        .iter()
        .map(|m| match &m.content {
            Content::Text(_) => (m.role, 1),
            Content::Parts(parts) => (m.role, parts.len()),
        })
        .collect();
    assert_eq!(
        shape,
        [
            (Role::User, 1),
            (Role::Assistant, 3),
            (Role::User, 2),
            (Role::Assistant, 1),
            (Role::User, 1),
            (Role::Assistant, 1),
            (Role::User, 1),
        ]
    );
    for budget in 0..whole.tokens {
        let context = fit(&history, budget);
        let ids = |role| -> Vec<String> {
            let of_role = context.messages.iter().filter(|m| m.role == role);
            of_role
                .filter_map(|m| match &m.content {
                    Content::Parts(parts) => Some(parts.iter().filter_map(call_id)),
                    Content::Text(_) => None,
                })
                .flatten()
                .map(str::to_owned)
                .collect()
        };
        assert_eq!(ids(Role::Assistant), ids(Role::User), "{budget}");
        assert_eq!(texts(&context).last().unwrap(), "b");
    }
}

#[test]
fn results_that_a_caller_sends_follow_their_calls_or_are_not_sent() {
    let results = |parts: Vec<Part>| Message {
        content: Content::Parts(parts),
        ..message(Role::User, "")
    };
    let history = numbered(vec![
        message(Role::User, "a"),
        reply(vec![call("1"), call("2")]),
        results(vec![result("1")]),
        results(vec![result("2"), text("there")]),
        message(Role::Assistant, "thanks"),
        results(vec![result("9"), text("b")]),
    ]);
    let whole = fit(&history, 10_000);
    let ids: Vec<Vec<&str>> = whole
        .messages
        .iter()
        .map(|m| match &m.content {
            Content::Text(_) => vec![],
            Content::Parts(parts) => parts.iter().filter_map(call_id).collect(),
        })
        .collect();
    let expected: Vec<Vec<&str>> = vec![
        vec![],
        vec!["1", "2"],
        vec!["1", "2"],
        vec![],
        vec![],
        vec![],
    ];
    assert_eq!(ids, expected);
    assert_eq!(texts(&whole), ["a", "", "", "there", "thanks", "b"]);
    for budget in 0..whole.tokens {
        let context = fit(&history, budget);
        let calls = context
            .messages
            .iter()
            .filter(|m| m.content.text().is_empty());
        assert!([0, 2].contains(&calls.count()), "{budget}");
    }
}

#[test]
fn blank_hidden_and_half_tool_messages_are_not_sent() {
    let mut hidden = message(Role::Assistant, "teacher only");
    hidden.visible_to.remove(&Audience::Model);
    let history = numbered(vec![
        message(Role::User, "a"),
        hidden,
        message(Role::Assistant, ""),
        reply(vec![call("1")]),
        reply(vec![result("1"), text("x")]),
        message(Role::User, "b"),
    ]);
    assert_eq!(texts(&fit(&history, 1000)), ["a", "x", "b"]);
}

#[test]
fn a_callers_system_message_has_the_rank_of_a_user() {
    let context = fit(
        &[message(Role::System, "obey"), message(Role::User, "hi")],
        1000,
    );
    assert_eq!(context.messages[0].role, Role::User);
}

#[test]
fn a_summary_stands_for_what_is_left_out_and_only_then() {
    let long = "many words ".repeat(40);
    let history = numbered(vec![
        message(Role::User, &long),
        message(Role::Assistant, &long),
        message(Role::User, "c"),
        message(Role::Assistant, "d"),
        message(Role::User, "e"),
    ]);
    let summary = |through: &str| Summary {
        text: "short".into(),
        through: MessageId::new(through).unwrap(),
        made_at: Timestamp::default(),
    };
    // All fits: nobody needs it.
    let all = fit_with(&history, 10_000, Some(summary("1")));
    assert_eq!((all.messages.len(), all.left_out), (5, None));
    for (through, covers, code) in [
        ("1", true, "history_summarized"),
        ("3", true, "history_summarized"),
        ("0", false, "history_truncated"),
    ] {
        let context = fit_with(&history, 60, Some(summary(through)));
        assert!(texts(&context)[0].ends_with("short"));
        assert_eq!(texts(&context)[1..], ["c", "d", "e"], "{through}");
        assert_eq!(context.summarized, covers, "{through}");
        assert_eq!(codes(&context), [code]);
        assert!(context.tokens <= 60);
    }
}
