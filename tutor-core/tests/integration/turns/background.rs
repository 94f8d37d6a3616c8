//! What is made in the background: titles and summaries.

use std::sync::{Arc, Mutex};

use futures_util::StreamExt;
use tutor_core::provider::scripted::text_script;
use tutor_core::provider::{CompletionRequest, CompletionStream, Delta, ModelInfo, ProviderInfo};
use tutor_core::{
    ChatRequest, Limits, NewSession, Provider, Result, SessionId, Tutor, async_trait,
};

use super::{Step, say, scripts};

/// Answers learners with `ok`, wishes for a title with one, and for a summary with its number.
#[derive(Clone, Debug, Default)]
struct Helpful {
    summaries: Arc<Mutex<Vec<CompletionRequest>>>,
    fails: bool,
}

#[async_trait]
impl Provider for Helpful {
    fn info(&self) -> ProviderInfo {
        ProviderInfo::new("helpful", "helpful")
    }
    async fn models(&self) -> Result<Vec<ModelInfo>> {
        Ok(Vec::new())
    }
    async fn stream(&self, request: CompletionRequest) -> Result<CompletionStream> {
        let system = request.system.clone().unwrap_or_default();
        let answer = if system.contains("title") {
            "\"Light and leaves\"".to_owned()
        } else if system.contains("summary") {
            let mut summaries = self.summaries.lock().unwrap();
            summaries.push(request);
            format!("summary {}", summaries.len())
        } else {
            "ok".to_owned()
        };
        if self.fails && answer != "ok" {
            return Err(tutor_core::Error::internal("told to fail"));
        }
        let steps = text_script(&answer)
            .into_iter()
            .filter_map(|step| match step {
                Step::Yield(delta) => Some(Ok::<Delta, _>(delta)),
                _ => None,
            });
        Ok(futures_util::stream::iter(steps.collect::<Vec<_>>()).boxed())
    }
}

/// Reads the session until it is as wanted.
async fn until(tutor: &Tutor, id: &SessionId, wanted: impl Fn(&tutor_core::Session) -> bool) {
    for _ in 0..10_000 {
        if wanted(&tutor.session(id).await.unwrap()) {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("it never happened: {:?}", tutor.session(id).await.unwrap());
}

#[tokio::test]
async fn a_title_is_made_at_once_and_improved_later_unless_it_is_the_callers_own() {
    let builder = Tutor::builder().provider(Helpful::default());
    let tutor = builder.improve_titles(true).build().await.unwrap();
    let reply = tutor.chat("  how do\nleaves eat? ").await.unwrap();
    until(&tutor, &reply.session_id, |s| s.title == "Light and leaves").await;

    let untitled = tutor.create_session(NewSession::default()).await.unwrap();
    let stream = tutor
        .stream(ChatRequest::new("what is rain?").with_session(untitled.id.clone()))
        .await
        .unwrap();
    let title = tutor.session(&untitled.id).await.unwrap().title;
    assert!(
        ["what is rain?", "Light and leaves"].contains(&title.as_str()),
        "{title}"
    );
    stream.reply().await.unwrap();
    until(&tutor, &untitled.id, |s| s.title == "Light and leaves").await;

    let own = NewSession {
        title: Some("mine".into()),
        ..NewSession::default()
    };
    let own = tutor.create_session(own).await.unwrap();
    let request = || ChatRequest::new("what is snow?").with_session(own.id.clone());
    tutor.chat(request()).await.unwrap();
    tutor
        .update_session(&reply.session_id, Some("renamed".into()), None)
        .await
        .unwrap();
    tutor
        .chat(ChatRequest::new("more").with_session(reply.session_id.clone()))
        .await
        .unwrap();
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
    assert_eq!(tutor.session(&own.id).await.unwrap().title, "mine");
    assert_eq!(
        tutor.session(&reply.session_id).await.unwrap().title,
        "renamed"
    );
}

#[tokio::test]
async fn without_being_asked_nothing_is_made_in_the_background() {
    let provider = scripts(vec![say("ok")]);
    let tutor = Tutor::builder()
        .provider(provider.clone())
        .build()
        .await
        .unwrap();
    let reply = tutor.chat("how do leaves eat?").await.unwrap();
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
    assert_eq!(provider.requests().len(), 1);
    let session = tutor.session(&reply.session_id).await.unwrap();
    assert_eq!(
        (session.title.as_str(), session.own_title),
        ("how do leaves eat?", false)
    );
}

#[tokio::test]
async fn a_failure_in_the_background_harms_nothing() {
    let provider = Helpful {
        fails: true,
        ..Helpful::default()
    };
    let builder = Tutor::builder()
        .provider(provider)
        .improve_titles(true)
        .summarize(true);
    let mut limits = Limits::default();
    limits.context_tokens = 100;
    let tutor = builder.limits(limits).build().await.unwrap();
    let mut session = tutor.chat("first").await.unwrap().session_id;
    for _ in 0..5 {
        let request = ChatRequest::new("word ".repeat(60)).with_session(session);
        session = tutor.chat(request).await.unwrap().session_id;
    }
    let stored = tutor.session(&session).await.unwrap();
    assert_eq!((stored.title.as_str(), stored.summary), ("first", None));
    tutor.close().await.unwrap();
}

#[tokio::test]
async fn a_summary_is_made_once_reused_and_refreshed_only_for_what_it_does_not_cover() {
    let provider = Helpful::default();
    let mut limits = Limits::default();
    limits.context_tokens = 400;
    let builder = Tutor::builder().provider(provider.clone()).summarize(true);
    let tutor = builder.limits(limits).build().await.unwrap();
    let mut session: Option<SessionId> = None;
    let ask = |n: usize, session: Option<SessionId>| {
        let mut request = ChatRequest::new(format!("question-{n} {}", "word ".repeat(60)));
        request.session_id = session;
        request
    };
    for n in 0..8 {
        let made = provider.summaries.lock().unwrap().len();
        let reply = tutor.chat(ask(n, session.take())).await.unwrap();
        let truncated = reply.warnings.iter().any(|w| w.code == "history_truncated");
        if truncated {
            let id = reply.session_id.clone();
            until(&tutor, &id, |s| {
                provider.summaries.lock().unwrap().len() > made
                    && s.summary
                        .as_ref()
                        .is_some_and(|s| s.text == format!("summary {}", made + 1))
            })
            .await;
        }
        session = Some(reply.session_id);
    }
    let session = session.unwrap();
    let context = tutor.context(&session, None).await.unwrap();
    assert!(context.messages[0].content.text().contains("summary"));
    assert!(context.tokens <= 400);
    // Every message went into exactly one summary.
    let summaries = provider.summaries.lock().unwrap().clone();
    assert!(summaries.len() >= 2, "{}", summaries.len());
    for n in 0..3 {
        let name = format!("question-{n} ");
        let told = summaries
            .iter()
            .filter(|request| request.messages[0].content.text().contains(&name));
        assert_eq!(told.count(), 1, "{name}");
    }
    for (n, request) in summaries.iter().enumerate().skip(1) {
        let text = request.messages[0].content.text();
        assert!(
            text.contains(&format!("summary {n}")),
            "the earlier one is built upon"
        );
    }
}

#[tokio::test]
async fn a_summary_of_another_branch_is_not_used() {
    let provider = Helpful::default();
    let mut limits = Limits::default();
    limits.context_tokens = 300;
    let builder = Tutor::builder().provider(provider).summarize(true);
    let tutor = builder.limits(limits).build().await.unwrap();
    let mut session: Option<SessionId> = None;
    let mut first = None;
    for n in 0..6 {
        let mut request = ChatRequest::new(format!("q{n} {}", "word ".repeat(60)));
        request.session_id = session.take();
        let reply = tutor.chat(request).await.unwrap();
        first.get_or_insert(reply.message.id.clone());
        session = Some(reply.session_id);
    }
    let session = session.unwrap();
    until(&tutor, &session, |s| s.summary.is_some()).await;
    let mut parent = first;
    for n in 0..4 {
        let mut request = ChatRequest::new(format!("other{n} {}", "word ".repeat(60)))
            .with_session(session.clone());
        request.parent_id = parent.take();
        let reply = tutor.chat(request).await.unwrap();
        let context = tutor.context(&session, None).await.unwrap();
        if context.summarized {
            let stored = tutor.session(&session).await.unwrap().summary.unwrap();
            let line = tutor
                .messages(&session, tutor_core::Messages::default())
                .await
                .unwrap();
            assert!(line.items.iter().any(|m| m.id == stored.through));
        }
        parent = Some(reply.message.id);
    }
}

#[tokio::test]
async fn the_demo_provider_is_not_asked_for_titles() {
    let builder = Tutor::builder().improve_titles(true);
    let tutor = builder.build().await.unwrap();
    let reply = tutor.chat("what is rain?").await.unwrap();
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
    let title = tutor.session(&reply.session_id).await.unwrap().title;
    assert_eq!(title, "what is rain?");
}
