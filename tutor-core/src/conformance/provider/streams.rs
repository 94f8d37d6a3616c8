//! Laws of completions.

use std::sync::Arc;

use futures_util::{FutureExt, StreamExt, future};

use crate::error::{Error, Result};
use crate::message::{Content, Role};
use crate::provider::{CompletionRequest, CompletionStream, Delta, PromptMessage, Provider};

/// Words that no error may repeat.
const CANARY: &str = "the canary in the prompt";

fn request(provider: &dyn Provider) -> CompletionRequest {
    let mut request = CompletionRequest::new(provider.info().default_model, CANARY);
    request.streamed = true;
    request
}

async fn run(provider: &dyn Provider, request: CompletionRequest) -> Vec<Result<Delta>> {
    match provider.stream(request).await {
        Ok(stream) => stream.collect().await,
        Err(error) => vec![Err(error)],
    }
}

fn is_terminal(item: &Result<Delta>) -> bool {
    matches!(item, Err(_) | Ok(Delta::Finished { .. }))
}

fn assert_one_terminal_at_the_end(items: &[Result<Delta>]) {
    let at: Vec<_> = items.iter().map(is_terminal).collect();
    let end = at.iter().position(|terminal| *terminal);
    assert_eq!(
        end,
        at.len().checked_sub(1),
        "the terminal comes once, and last: {items:?}"
    );
}

/// A completion ends with exactly one `Finished` or one error, streamed or not.
pub async fn a_stream_ends_with_exactly_one_terminal(provider: Arc<dyn Provider>) {
    for streamed in [true, false] {
        let request = CompletionRequest {
            streamed,
            ..request(&*provider)
        };
        assert_one_terminal_at_the_end(&run(&*provider, request).await);
    }
}

/// After its end a stream can be polled, and yields nothing.
pub async fn an_ended_stream_stays_ended(provider: Arc<dyn Provider>) {
    let Ok(mut stream) = provider.stream(request(&*provider)).await else {
        return;
    };
    while stream.next().await.is_some() {}
    for _ in 0..3 {
        assert!(stream.next().await.is_none());
    }
}

/// A stream needs nothing of its provider any more.
pub async fn a_stream_outlives_its_provider(provider: Arc<dyn Provider>) {
    let stream = provider.stream(request(&*provider)).await;
    drop(provider);
    if let Ok(stream) = stream {
        assert_one_terminal_at_the_end(&stream.collect::<Vec<_>>().await);
    }
}

/// Completions that run at the same time do not disturb each other.
pub async fn completions_at_the_same_time_are_independent(provider: Arc<dyn Provider>) {
    let runs = (0..8).map(|_| run(&*provider, request(&*provider)));
    for items in future::join_all(runs).await {
        assert_one_terminal_at_the_end(&items);
    }
}

/// A request or stream that was dropped leaves its provider usable.
pub async fn what_was_dropped_leaves_the_provider_usable(provider: Arc<dyn Provider>) {
    for taken in 0..3 {
        // Polled once, then given up.
        drop(provider.stream(request(&*provider)).now_or_never());
        if let Ok(stream) = provider.stream(request(&*provider)).await {
            let begun: Vec<_> = stream.take(taken).collect().await;
            assert!(begun.len() <= taken);
        }
    }
    assert_one_terminal_at_the_end(&run(&*provider, request(&*provider)).await);
}

/// Every tool call of a completion has an id of its own.
pub async fn tool_calls_have_distinct_ids(provider: Arc<dyn Provider>) {
    let mut seen = Vec::new();
    for item in run(&*provider, request(&*provider)).await {
        match item {
            // What came before is void, and so are its ids.
            Ok(Delta::Restart { .. }) => seen.clear(),
            Ok(Delta::ToolCall { id, .. }) => {
                assert!(!id.is_empty() && !seen.contains(&id), "{id}");
                seen.push(id);
            }
            _ => {}
        }
    }
}

/// A conversation of any shape is answered or refused: several messages of one role, one that the
/// tutor began, text in parts, and text of any characters.
pub async fn conversations_of_any_shape_are_answered(provider: Arc<dyn Provider>) {
    let mut request = request(&*provider);
    request.system = Some("Be kind.".to_owned());
    request.temperature = Some(0.5);
    request.max_tokens = Some(100);
    let part = |text: &str| crate::message::Part::Text {
        text: text.to_owned(),
    };
    let said: [(Role, Content); 4] = [
        (Role::Assistant, "Hello!".into()),
        (Role::User, "one".into()),
        (Role::User, "\u{0}\u{2028}\u{1F600}\"\\ two".into()),
        (
            Role::User,
            Content::Parts(vec![part("three "), part("four")]),
        ),
    ];
    request.messages = said
        .into_iter()
        .map(|(role, content)| PromptMessage { role, content })
        .collect();
    assert_one_terminal_at_the_end(&run(&*provider, request).await);
}

/// Errors, and what a provider prints about itself, repeat nothing of the prompt.
pub async fn errors_do_not_repeat_the_prompt(provider: Arc<dyn Provider>) {
    let unknown = CompletionRequest {
        model: "no-such-model".to_owned(),
        ..request(&*provider)
    };
    for request in [request(&*provider), unknown] {
        for error in run(&*provider, request)
            .await
            .into_iter()
            .filter_map(Result::err)
        {
            assert!(!printed(&error).contains(CANARY), "{}", printed(&error));
        }
    }
    assert!(!format!("{provider:?}").contains(CANARY));
}

fn printed(error: &Error) -> String {
    format!("{error} {error:?} {error:#?}")
}

/// A stream can be moved to another task.
pub async fn a_stream_runs_on_another_task(provider: Arc<dyn Provider>) {
    let opened: Result<CompletionStream> = provider.stream(request(&*provider)).await;
    if let Ok(stream) = opened {
        let items = tokio::spawn(stream.collect::<Vec<_>>()).await;
        assert!(items.is_ok_and(|items| items.last().is_some_and(is_terminal)));
    }
}
