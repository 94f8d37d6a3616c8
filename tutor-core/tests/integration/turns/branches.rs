//! Branches: siblings, the head, and what is deleted.

use tutor_core::provider::ScriptedProvider;
use tutor_core::{ChatRequest, ErrorKind, MessageId, Messages, SessionId, TurnStatus, Tutor};

use super::{build, say, scripts};

async fn line(tutor: &Tutor, session: &SessionId) -> Vec<String> {
    let page = tutor.messages(session, Messages::default()).await.unwrap();
    page.items.iter().map(|m| m.content.text()).collect()
}

fn texts(messages: &[tutor_core::Message]) -> Vec<String> {
    messages.iter().map(|m| m.content.text()).collect()
}

/// A question with two replies, and an edited question with one.
async fn forked(provider: &ScriptedProvider) -> (Tutor, SessionId, Vec<MessageId>) {
    let tutor = build(Tutor::builder(), provider).await;
    let first = tutor.chat("q1").await.unwrap();
    let session = first.session_id.clone();
    let again = ChatRequest::regenerate(session.clone(), first.message.id.clone());
    let second = tutor.chat(again).await.unwrap();
    let follow = ChatRequest::new("q2").with_session(session.clone());
    let third = tutor.chat(follow).await.unwrap();
    let edited = ChatRequest::new("q2 edited")
        .with_session(session.clone())
        .with_parent(second.message.id.clone());
    let fourth = tutor.chat(edited).await.unwrap();
    let ids = [first, second, third, fourth].map(|reply| reply.message.id);
    (tutor, session, ids.to_vec())
}

fn replies() -> ScriptedProvider {
    scripts(vec![
        say("a1"),
        say("a1 again"),
        say("a2"),
        say("a2 edited"),
        say("more"),
    ])
}

#[tokio::test]
async fn siblings_are_listed_in_order_for_replies_questions_and_first_messages() {
    let (tutor, session, ids) = forked(&replies()).await;
    let siblings = tutor.siblings(&session, &ids[0]).await.unwrap();
    assert_eq!(texts(&siblings), ["a1", "a1 again"]);
    assert_eq!(tutor.siblings(&session, &ids[1]).await.unwrap(), siblings);
    let question = tutor
        .turn(siblings[0].turn_id.as_ref().unwrap())
        .await
        .unwrap();
    let first = tutor
        .siblings(&session, &question.user_message_id)
        .await
        .unwrap();
    assert_eq!(texts(&first), ["q1"]);
    let last = tutor.siblings(&session, &ids[3]).await.unwrap();
    let edited = last[0].parent_id.clone().unwrap();
    let questions = tutor.siblings(&session, &edited).await.unwrap();
    assert_eq!(texts(&questions), ["q2", "q2 edited"]);
    let nobody = MessageId::new("nobody").unwrap();
    let missing = tutor.siblings(&session, &nobody).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn the_head_can_be_any_message_and_the_conversation_goes_on_from_it() {
    let provider = replies();
    let (tutor, session, ids) = forked(&provider).await;
    assert_eq!(
        line(&tutor, &session).await,
        ["q1", "a1 again", "q2 edited", "a2 edited"]
    );
    let switched = tutor.set_head(&session, &ids[0]).await.unwrap();
    assert_eq!(switched.head.as_ref(), Some(&ids[0]));
    assert_eq!(line(&tutor, &session).await, ["q1", "a1"]);
    tutor
        .chat(ChatRequest::new("q3").with_session(session.clone()))
        .await
        .unwrap();
    assert_eq!(line(&tutor, &session).await, ["q1", "a1", "q3", "more"]);
    let sent = provider.requests().pop().unwrap();
    let sent: Vec<String> = sent.messages.iter().map(|m| m.content.text()).collect();
    assert_eq!(sent, ["q1", "a1", "q3"], "another branch is not sent");
    let nobody = MessageId::new("nobody").unwrap();
    let missing = tutor.set_head(&session, &nobody).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    let stranger = tutor.for_owner("stranger".parse().unwrap());
    let missing = stranger.set_head(&session, &ids[0]).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_message_that_others_follow_is_deleted_only_with_its_branch() {
    let (tutor, session, ids) = forked(&replies()).await;
    let refused = tutor.delete_message(&session, &ids[1], false).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    assert!(refused.context_value("follower").is_some());
    let leaf = tutor
        .delete_message(&session, &ids[3], false)
        .await
        .unwrap();
    assert_eq!(leaf, 1);
    assert_eq!(
        line(&tutor, &session).await,
        ["q1", "a1 again", "q2 edited"]
    );
    let cut = tutor.delete_message(&session, &ids[1], true).await.unwrap();
    assert_eq!(cut, 4);
    assert_eq!(line(&tutor, &session).await, ["q1"]);
    let missing = tutor.delete_message(&session, &ids[1], true).await;
    assert_eq!(missing.unwrap_err().kind(), ErrorKind::NotFound);
    tutor
        .chat(ChatRequest::new("q4").with_session(session.clone()))
        .await
        .unwrap();
    assert_eq!(line(&tutor, &session).await, ["q1", "q4", "more"]);
}

#[tokio::test]
async fn a_deleted_reply_cannot_be_replayed_and_its_key_is_free() {
    let provider = scripts(vec![say("secret"), say("fresh")]);
    let tutor = build(Tutor::builder(), &provider).await;
    let request = || ChatRequest::new("q").with_idempotency_key("k");
    let reply = tutor.chat(request()).await.unwrap();
    tutor
        .delete_message(&reply.session_id, &reply.message.id, false)
        .await
        .unwrap();
    let gone = tutor.events(&reply.turn_id, 0).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound);
    let fresh = tutor.chat(request()).await.unwrap();
    assert_ne!(fresh.turn_id, reply.turn_id);
    assert_eq!(
        (fresh.text().as_str(), fresh.status),
        ("fresh", TurnStatus::Completed)
    );
}

#[tokio::test]
async fn nothing_is_deleted_while_a_reply_is_written() {
    let provider = scripts(vec![say("a"), vec![super::Step::Wait(Default::default())]]);
    let tutor = build(Tutor::builder(), &provider).await;
    let first = tutor.chat("q").await.unwrap();
    let running = tutor
        .stream(ChatRequest::new("q2").with_session(first.session_id.clone()))
        .await
        .unwrap();
    let refused = tutor
        .delete_message(&first.session_id, &first.message.id, true)
        .await;
    let refused = refused.unwrap_err();
    assert_eq!(
        refused.context_value("turn"),
        Some(running.turn_id().as_str())
    );
    running.close().await;
    tutor
        .delete_message(&first.session_id, &first.message.id, true)
        .await
        .unwrap();
}
