//! Laws of reading messages.

#![expect(clippy::unwrap_used, reason = "a law fails by panicking, like a test")]

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::conformance::sample::{
    begin, end, exchange, ids, kind, line, message_id, message_query, new_turn, object, session,
    session_key,
};
use crate::error::ErrorKind;
use crate::message::{
    Audience, Author, Content, FinishReason, Message, MessageStatus, Part, Usage,
};
use crate::session::{Branch, MAX_PAGE, MessageQuery, MessageRange};
use crate::store::SessionStore;
use crate::time::Timestamp;

async fn read(
    store: &dyn SessionStore,
    branch: Branch,
    range: MessageRange,
    limit: usize,
) -> Vec<String> {
    let query = message_query(session_key("o", "s"), branch, range, limit);
    let page = store.messages(query).await.unwrap();
    ids(&page).into_iter().map(str::to_owned).collect()
}

/// The whole branch, page by page from its newest or behind its first message.
async fn read_by_pages(
    store: &dyn SessionStore,
    branch: &Branch,
    start: MessageRange,
    limit: usize,
) -> Vec<String> {
    let backwards = !matches!(start, MessageRange::After(_));
    let (mut found, mut range) = (Vec::new(), start);
    loop {
        let query = message_query(session_key("o", "s"), branch.clone(), range, limit);
        let page = store.messages(query).await.unwrap();
        assert!(page.items.len() <= limit);
        assert!(page.next_cursor.is_none() || page.items.len() == limit);
        let items: Vec<String> = ids(&page).into_iter().map(str::to_owned).collect();
        if backwards {
            found.splice(0..0, items);
        } else {
            found.extend(items);
        }
        let Some(cursor) = page.next_cursor else {
            return found;
        };
        let next = message_id(cursor.as_str());
        range = if backwards {
            MessageRange::Before(next)
        } else {
            MessageRange::After(next)
        };
    }
}

/// Every member of a message, and every kind of content.
pub async fn a_message_is_read_back_as_it_was_stored(store: Arc<dyn SessionStore>) {
    let mut new = new_turn("o", "s", "t", None);
    new.messages[0].content = Content::Parts(vec![
        Part::Text {
            text: String::new(),
        },
        Part::Text {
            text: "Größe \u{1F468}\u{200D}\u{1F469} \u{0} \r\n".to_owned(),
        },
        Part::Image {
            url: "https://example.org/x.png".to_owned(),
            media_type: None,
        },
        Part::Image {
            url: "data:,x".to_owned(),
            media_type: Some("image/png".to_owned()),
        },
        Part::File {
            file_id: "f".to_owned(),
            name: Some("ü.pdf".to_owned()),
            media_type: Some("application/pdf".to_owned()),
        },
        Part::ToolCall {
            call_id: "c".to_owned(),
            name: "n".to_owned(),
            arguments: serde_json::json!({"a": [1, 2.5, -3, u64::MAX, i64::MIN], "b": {"": null}}),
        },
    ]);
    new.messages[0].visible_to = BTreeSet::from([Audience::Teacher]);
    new.messages[0].author = Author::Teacher;
    new.messages[0].timestamp = Timestamp::from_micros(1_764_205_323_123_456);
    let turn = begin(&*store, new.clone()).await;
    let mut end = end(&turn);
    let reply = Message {
        status: MessageStatus::Partial,
        visible_to: BTreeSet::new(),
        provider: Some("p".to_owned()),
        model: Some("m/ö".to_owned()),
        usage: Some(Usage {
            cost_usd: Some(1e-9),
            input_tokens: Some(0),
            ..Usage::default()
        }),
        finish_reason: Some(FinishReason::ContentFilter),
        metadata: object("deep", serde_json::json!([[[{"x": "y"}]], true, 1e300])),
        ..end.reply.take().unwrap()
    };
    end.reply = Some(reply.clone());
    store.finish_turn(&turn.key(), end).await.unwrap();
    let page = store
        .messages(MessageQuery::latest(session_key("o", "s"), 9))
        .await
        .unwrap();
    assert_eq!(page.items, [new.messages.remove(0), reply]);
}

/// From nothing to hundreds of kilobytes.
pub async fn messages_of_any_size_are_read_back_as_they_were_stored(store: Arc<dyn SessionStore>) {
    let sizes = [0, 1, 65_000, 65_536, 66_000, 131_072, 307_200, 1_000_000];
    let (mut head, mut expected) = (None, Vec::new());
    for (n, size) in sizes.into_iter().enumerate() {
        let mut new = new_turn("o", "s", &format!("t{n}"), head.as_deref());
        let pattern = "aé\u{1F31E}";
        let text: String = pattern.chars().cycle().take(size / 3).collect();
        new.messages[0].content = Content::from(text);
        expected.push(new.messages[0].content.clone());
        head = Some(exchange(&*store, new).await);
    }
    for _ in 0..2 {
        let query = MessageQuery::latest(session_key("o", "s"), 2 * sizes.len());
        let page = store.messages(query).await.unwrap();
        let read: Vec<Content> = page
            .items
            .into_iter()
            .step_by(2)
            .map(|m| m.content)
            .collect();
        assert!(read == expected);
    }
    assert!(store.delete_session(&session_key("o", "s")).await.unwrap());
    begin(&*store, new_turn("o", "s", "t0", None)).await;
    assert_eq!(
        read(&*store, Branch::All, MessageRange::Latest, 9).await,
        ["u-t0"]
    );
}

/// Whatever the size of the pages.
pub async fn a_line_is_read_from_both_ends_without_gap_or_repeat(store: Arc<dyn SessionStore>) {
    line(&*store, "o", "s", 6).await;
    let whole: Vec<String> = (0..6)
        .flat_map(|n| [format!("u-s-{n}"), format!("r-s-{n}")])
        .collect();
    for branch in [
        Branch::Active,
        Branch::Leaf(message_id("r-s-5")),
        Branch::All,
    ] {
        for limit in [1, 2, 3, 5, 11, 12, 13, MAX_PAGE] {
            let back = read_by_pages(&*store, &branch, MessageRange::Latest, limit).await;
            assert_eq!(back, whole, "{branch:?} in pages of {limit}");
            let start = MessageRange::After(message_id("u-s-0"));
            let forth = read_by_pages(&*store, &branch, start, limit).await;
            assert_eq!(forth, whole[1..], "{branch:?} in pages of {limit}");
        }
        let last = MessageRange::After(message_id("r-s-5"));
        assert!(read(&*store, branch.clone(), last, 5).await.is_empty());
        let first = MessageRange::Before(message_id("u-s-0"));
        assert!(read(&*store, branch, first, 5).await.is_empty());
    }
}

/// The page that opens a conversation.
pub async fn the_newest_messages_come_oldest_first_with_a_cursor_to_older_ones(
    store: Arc<dyn SessionStore>,
) {
    line(&*store, "o", "s", 3).await;
    let page = store
        .messages(MessageQuery::latest(session_key("o", "s"), 3))
        .await
        .unwrap();
    assert_eq!(ids(&page), ["r-s-1", "u-s-2", "r-s-2"]);
    assert_eq!(page.next_cursor.unwrap().as_str(), "r-s-1");
    let after = MessageRange::After(message_id("u-s-0"));
    let query = message_query(session_key("o", "s"), Branch::Active, after, 2);
    let page = store.messages(query).await.unwrap();
    assert_eq!(ids(&page), ["r-s-0", "u-s-1"]);
    assert_eq!(page.next_cursor.unwrap().as_str(), "u-s-1");
}

/// Empty is not absent.
pub async fn an_empty_session_has_an_empty_page(store: Arc<dyn SessionStore>) {
    store.create_session(session("o", "s", 1)).await.unwrap();
    for branch in [Branch::Active, Branch::All] {
        let query = message_query(session_key("o", "s"), branch, MessageRange::Latest, 5);
        let page = store.messages(query).await.unwrap();
        assert!(page.items.is_empty() && page.next_cursor.is_none());
    }
}

/// A tree: two turns in a line, a second reply to the first message, an edit of the second.
///
/// ```text
/// u-a ─ r-a ─ u-b ─ r-b
///   │     └── u-d ─ r-d      (head)
///   └── r-c
/// ```
async fn tree(store: &dyn SessionStore) {
    exchange(store, new_turn("o", "s", "a", None)).await;
    exchange(store, new_turn("o", "s", "b", Some("r-a"))).await;
    let mut again = new_turn("o", "s", "c", Some("r-b"));
    again.messages.clear();
    again.turn.user_message_id = message_id("u-a");
    exchange(store, again).await;
    let mut edit = new_turn("o", "s", "d", Some("r-c"));
    edit.messages[0].parent_id = Some(message_id("r-a"));
    exchange(store, edit).await;
}

/// Siblings are not on it.
pub async fn a_branch_is_the_line_from_its_leaf_to_the_first_message(store: Arc<dyn SessionStore>) {
    tree(&*store).await;
    let leaf = |id| Branch::Leaf(message_id(id));
    for (branch, line) in [
        (Branch::Active, vec!["u-a", "r-a", "u-d", "r-d"]),
        (leaf("r-d"), vec!["u-a", "r-a", "u-d", "r-d"]),
        (leaf("r-b"), vec!["u-a", "r-a", "u-b", "r-b"]),
        (leaf("u-b"), vec!["u-a", "r-a", "u-b"]),
        (leaf("r-c"), vec!["u-a", "r-c"]),
        (leaf("u-a"), vec!["u-a"]),
    ] {
        for limit in 1..6 {
            let back = read_by_pages(&*store, &branch, MessageRange::Latest, limit).await;
            assert_eq!(back, line, "{branch:?} in pages of {limit}");
            let start = MessageRange::After(message_id("u-a"));
            let forth = read_by_pages(&*store, &branch, start, limit).await;
            assert_eq!(forth, line[1..], "{branch:?} in pages of {limit}");
        }
    }
    let now = store
        .session(&session_key("o", "s"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!((now.head, now.message_count), (Some(message_id("r-d")), 7));
}

/// The whole tree.
pub async fn all_branches_are_read_in_the_order_of_storing(store: Arc<dyn SessionStore>) {
    tree(&*store).await;
    let all = ["u-a", "r-a", "u-b", "r-b", "r-c", "u-d", "r-d"];
    for limit in 1..9 {
        let back = read_by_pages(&*store, &Branch::All, MessageRange::Latest, limit).await;
        assert_eq!(back, all);
        let start = MessageRange::After(message_id("u-a"));
        assert_eq!(
            read_by_pages(&*store, &Branch::All, start, limit).await,
            all[1..]
        );
    }
    let before = MessageRange::Before(message_id("r-c"));
    assert_eq!(read(&*store, Branch::All, before, 2).await, ["u-b", "r-b"]);
}

/// Also if the active branch is another one by then.
pub async fn paging_back_follows_the_branch_on_which_it_began(store: Arc<dyn SessionStore>) {
    tree(&*store).await;
    let before = |id| MessageRange::Before(message_id(id));
    assert_eq!(
        read(&*store, Branch::Active, before("r-b"), 9).await,
        ["u-a", "r-a", "u-b"]
    );
    assert_eq!(
        read(&*store, Branch::Active, before("r-c"), 9).await,
        ["u-a"]
    );
    let leaf = Branch::Leaf(message_id("r-c"));
    assert_eq!(read(&*store, leaf, before("u-d"), 1).await, ["r-a"]);
}

/// It is on another branch.
pub async fn a_message_after_which_the_branch_does_not_go_on_is_refused(
    store: Arc<dyn SessionStore>,
) {
    tree(&*store).await;
    for (branch, id) in [
        (Branch::Active, "r-c"),
        (Branch::Active, "u-b"),
        (Branch::Leaf(message_id("r-a")), "r-d"),
        (Branch::Leaf(message_id("r-c")), "r-a"),
    ] {
        let after = MessageRange::After(message_id(id));
        let query = message_query(session_key("o", "s"), branch, after, 5);
        assert_eq!(
            kind(store.messages(query).await),
            ErrorKind::InvalidInput,
            "{id}"
        );
    }
}

/// As leaf, before or after.
pub async fn a_message_outside_the_session_is_refused(store: Arc<dyn SessionStore>) {
    line(&*store, "o", "s", 1).await;
    line(&*store, "o", "other", 1).await;
    for id in ["nobody", "u-other-0", "u-s-00", "u-s-"] {
        let id = message_id(id);
        for (branch, range) in [
            (Branch::Leaf(id.clone()), MessageRange::Latest),
            (
                Branch::Leaf(id.clone()),
                MessageRange::After(message_id("u-s-0")),
            ),
            (
                Branch::Leaf(id.clone()),
                MessageRange::Before(message_id("u-s-0")),
            ),
            (Branch::Active, MessageRange::Before(id.clone())),
            (Branch::Active, MessageRange::After(id.clone())),
            (Branch::All, MessageRange::Before(id.clone())),
            (Branch::All, MessageRange::After(id.clone())),
        ] {
            let query = message_query(session_key("o", "s"), branch, range, 5);
            assert_eq!(
                kind(store.messages(query.clone()).await),
                ErrorKind::InvalidInput,
                "{query:?}"
            );
        }
    }
}

/// Absent is not empty.
pub async fn messages_of_an_absent_session_are_not_found(store: Arc<dyn SessionStore>) {
    line(&*store, "o", "s", 1).await;
    for key in [session_key("o", "s2"), session_key("o2", "s")] {
        let result = store.messages(MessageQuery::latest(key, 1)).await;
        assert_eq!(kind(result), ErrorKind::NotFound);
    }
}

/// A page has 1 to [`MAX_PAGE`] messages.
pub async fn a_page_limit_out_of_range_is_refused(store: Arc<dyn SessionStore>) {
    line(&*store, "o", "s", 1).await;
    for limit in [0, MAX_PAGE + 1, usize::MAX] {
        let result = store
            .messages(MessageQuery::latest(session_key("o", "s"), limit))
            .await;
        assert_eq!(kind(result), ErrorKind::InvalidInput);
    }
}
