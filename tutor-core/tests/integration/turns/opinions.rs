//! Feedback on messages, and finding conversations again.

use std::sync::Arc;

use tutor_core::store::{MemoryStore, RecordStore};
use tutor_core::transfer::erase_owner;
use tutor_core::tutor::Rating;
use tutor_core::{ChatRequest, ErrorKind, NewSession, OwnerId, SessionId, Tutor};

use super::{build, say, scripts};

async fn tutor(store: &MemoryStore) -> Tutor {
    let replies = (0..20)
        .map(|_| say("The Mitochondrion is a powerhouse."))
        .collect();
    build(Tutor::builder().data(store.clone()), &scripts(replies)).await
}

#[tokio::test]
async fn feedback_is_kept_replaced_taken_back_and_goes_with_its_message() {
    let store = MemoryStore::default();
    let tutor = tutor(&store).await;
    let reply = tutor.chat("What is it?").await.unwrap();
    let (session, message) = (reply.session_id.clone(), reply.message.id.clone());
    let up = Some((Rating::Up, Some("clear".to_owned())));
    let kept = tutor.rate(&session, &message, up).await.unwrap().unwrap();
    assert_eq!(tutor.feedback(&session).await.unwrap(), [kept]);
    let down = Some((Rating::Down, None));
    tutor.rate(&session, &message, down.clone()).await.unwrap();
    let now = tutor.feedback(&session).await.unwrap();
    assert_eq!(
        (now.len(), now[0].rating, &now[0].comment),
        (1, Rating::Down, &None)
    );
    assert_eq!(
        tutor.find_message(&message).await.unwrap().session_id,
        session
    );

    let other = tutor.for_owner(OwnerId::new("other").unwrap());
    for error in [
        other
            .rate(&session, &message, down.clone())
            .await
            .unwrap_err(),
        other.feedback(&session).await.unwrap_err(),
        other.find_message(&message).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
    let long = Some((Rating::Up, Some("x".repeat(4001))));
    let error = tutor.rate(&session, &message, long).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);

    tutor.rate(&session, &message, None).await.unwrap();
    assert!(tutor.feedback(&session).await.unwrap().is_empty());
    tutor.rate(&session, &message, down.clone()).await.unwrap();
    tutor
        .delete_message(&session, &message, false)
        .await
        .unwrap();
    assert!(tutor.feedback(&session).await.unwrap().is_empty());
    let again = tutor
        .chat(ChatRequest::new("Again?").with_session(session.clone()))
        .await
        .unwrap();
    tutor
        .rate(&session, &again.message.id, down.clone())
        .await
        .unwrap();
    tutor.delete_session(&session).await.unwrap();
    assert!(
        !store
            .kinds()
            .await
            .unwrap()
            .contains(&"feedback".to_owned())
    );
}

#[tokio::test]
async fn feedback_is_erased_with_its_owner() {
    let store = MemoryStore::default();
    let tutor = tutor(&store).await;
    let reply = tutor.chat("What is it?").await.unwrap();
    let up = Some((Rating::Up, None));
    tutor
        .rate(&reply.session_id, &reply.message.id, up)
        .await
        .unwrap();
    let owner = tutor.owner().clone();
    let erased = erase_owner(&store, &owner, &mut |_| ()).await.unwrap();
    assert_eq!(erased.records, 1);
    assert!(store.kinds().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_tutor_without_records_says_so() {
    let store = Arc::new(MemoryStore::default());
    let tutor = build(Tutor::builder().store(store), &scripts(vec![say("x")])).await;
    let reply = tutor.chat("hi").await.unwrap();
    let up = Some((Rating::Up, None));
    let error = tutor
        .rate(&reply.session_id, &reply.message.id, up)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(tutor.feedback(&reply.session_id).await.unwrap().is_empty());
}

fn ids(page: &tutor_core::Page<tutor_core::Session>) -> Vec<&str> {
    page.items
        .iter()
        .map(|session| session.id.as_str())
        .collect()
}

#[tokio::test]
async fn sessions_are_found_by_the_words_in_their_titles_and_messages() {
    let store = MemoryStore::default();
    let tutor = tutor(&store).await;
    let create = |id: &str, title: &str| NewSession {
        id: Some(SessionId::new(id).unwrap()),
        title: Some(title.to_owned()),
        ..NewSession::default()
    };
    for (id, title) in [
        ("a", "Photosynthesis"),
        ("b", "GRÖSSE der Sonne"),
        ("c", "Leer"),
    ] {
        tutor.create_session(create(id, title)).await.unwrap();
    }
    let said = ChatRequest::new("Explain cells").with_session(SessionId::new("c").unwrap());
    tutor.chat(said).await.unwrap();
    for (text, expected) in [
        ("photo", vec!["a"]),
        ("grösse sonne", vec!["b"]),
        ("gro\u{308}sse", vec!["b"]),
        ("explain POWERHOUSE leer", vec!["c"]),
        ("explain photosynthesis", vec![]),
        ("nothing of it", vec![]),
    ] {
        let page = tutor.search(text, 10, None).await.unwrap();
        assert_eq!(ids(&page), expected, "{text}");
        assert_eq!(page.next_cursor, None);
    }
    let other = tutor.for_owner(OwnerId::new("other").unwrap());
    assert!(
        other
            .search("photo", 10, None)
            .await
            .unwrap()
            .items
            .is_empty()
    );
    for bad in ["", "  ", &"x".repeat(201)] {
        let error = tutor.search(bad, 10, None).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
}

#[tokio::test]
async fn a_search_goes_on_behind_its_pages_and_finds_each_session_once() {
    let store = MemoryStore::default();
    let tutor = tutor(&store).await;
    for n in 0..450 {
        let title = if n % 3 == 0 { "yes" } else { "no" };
        let new = NewSession {
            id: Some(SessionId::new(format!("s{n:03}")).unwrap()),
            title: Some(title.to_owned()),
            ..NewSession::default()
        };
        tutor.create_session(new).await.unwrap();
    }
    let (mut found, mut cursor) = (Vec::new(), None);
    loop {
        let page = tutor.search("yes", 7, cursor).await.unwrap();
        assert!(page.items.len() <= 7);
        found.extend(page.items.iter().map(|session| session.id.to_string()));
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(found.len(), 150);
    found.sort();
    found.dedup();
    assert_eq!(found.len(), 150);
}
