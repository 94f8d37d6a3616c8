//! What the model is sent of a long conversation.

use tutor_core::{ChatRequest, ErrorKind, Limits, Role, SessionId, Tutor};

use super::{build, say, scripts};

/// A conversation of `turns` exchanges of some hundred tokens each.
async fn long(tutor: &Tutor, turns: usize) -> SessionId {
    let mut session: Option<SessionId> = None;
    for n in 0..turns {
        let mut request = ChatRequest::new(format!("question {n} {}", "word ".repeat(100)));
        request.session_id = session.take();
        session = Some(tutor.chat(request).await.unwrap().session_id);
    }
    session.unwrap()
}

#[tokio::test]
async fn the_window_of_the_model_less_the_reply_is_the_budget() {
    let provider = scripts(vec![say("ok")]).with_context_window(1000);
    let tutor = build(Tutor::builder().system_prompt("be kind"), &provider).await;
    let session = long(&tutor, 20).await;
    let fits = tutor.context(&session, None).await.unwrap();
    assert!(fits.tokens <= 750, "{}", fits.tokens);
    assert!(fits.left_out.is_some());
    assert_eq!(fits.system.as_deref(), Some("be kind"));
    assert_eq!(fits.messages[0].role, Role::User);
    assert_eq!(fits.notices[0].code, "history_truncated");
    let sent = provider.requests().pop().unwrap().messages.len();
    assert!((3..20).contains(&sent), "{sent}");
}

#[tokio::test]
async fn a_context_within_any_number_of_tokens_can_be_asked_for_without_asking_a_model() {
    let provider = scripts(vec![say("ok")]);
    let tutor = build(Tutor::builder(), &provider).await;
    let session = long(&tutor, 5).await;
    let asked = provider.requests().len();
    let mut last = 0;
    for tokens in [0, 200, 400, 100_000] {
        let context = tutor.context(&session, Some(tokens)).await.unwrap();
        assert!(context.messages.len() >= last);
        assert!(
            context.tokens <= tokens.max(10),
            "{} of {tokens}",
            context.tokens
        );
        last = context.messages.len();
    }
    assert_eq!(last, 10);
    assert_eq!(provider.requests().len(), asked);
    let nobody = SessionId::new("nobody").unwrap();
    let missing = tutor.context(&nobody, None).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    let empty = tutor.create_session(Default::default()).await.unwrap();
    let context = tutor.context(&empty.id, None).await.unwrap();
    assert!(context.messages.is_empty() && context.left_out.is_none());
}

#[tokio::test]
async fn a_message_of_a_megabyte_is_counted_and_sent() {
    let provider = scripts(vec![say("ok")]);
    let tutor = build(Tutor::builder(), &provider).await;
    let letters = "a".repeat(Limits::default().max_request_bytes);
    let reply = tutor.chat(letters).await.unwrap();
    let next = ChatRequest::new("short").with_session(reply.session_id.clone());
    tutor.chat(next).await.unwrap();
    let context = tutor.context(&reply.session_id, None).await.unwrap();
    assert_eq!(context.messages.len(), 2, "what does not fit is left out");
}
