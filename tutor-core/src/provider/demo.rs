//! A provider that needs no key: what answers on a machine where nothing is configured.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::{StreamExt, stream};

use super::{
    CompletionRequest, CompletionStream, Delta, ModelChoice, ModelInfo, Provider, ProviderInfo,
};
use crate::error::Result;
use crate::message::{FinishReason, Role};

/// The pause between two words of a streamed reply.
pub const DEFAULT_WORD_DELAY: Duration = Duration::from_millis(20);

/// How much of a question the reply repeats, in characters.
const MAX_TOPIC_CHARS: usize = 60;

/// Answers anything, without a key and without a network, and says so.
///
/// The same conversation always gets the same reply. It stands in for any model
/// ([`ModelChoice::StandIn`]), counts every word as one token, and streams word by word.
#[derive(Clone, Copy, Debug)]
pub struct DemoProvider {
    delay: Duration,
}

impl DemoProvider {
    /// The provider's name, and its only model.
    pub const NAME: &'static str = "demo";

    /// A demo provider that pauses for [`DEFAULT_WORD_DELAY`] between words.
    pub fn new() -> Self {
        Self {
            delay: DEFAULT_WORD_DELAY,
        }
    }

    /// Sets the pause between two words of a streamed reply; zero for none.
    #[must_use]
    pub fn with_delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }
}

impl Default for DemoProvider {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Provider for DemoProvider {
    fn info(&self) -> ProviderInfo {
        ProviderInfo::new(Self::NAME, Self::NAME).with_models(ModelChoice::StandIn)
    }

    async fn models(&self) -> Result<Vec<ModelInfo>> {
        Ok(vec![ModelInfo::new(Self::NAME)])
    }

    async fn stream(&self, request: CompletionRequest) -> Result<CompletionStream> {
        let (text, reason) = reply(&request);
        let finished = Delta::Finished { reason };
        if !request.streamed {
            return Ok(stream::iter([Ok(Delta::Text(text)), Ok(finished)]).boxed());
        }
        let delay = self.delay;
        let words = stream::unfold((text, 0), move |(text, from)| async move {
            let rest = text.get(from..).filter(|rest| !rest.is_empty())?;
            let end = from + rest.find(' ').map_or(rest.len(), |space| space + 1);
            let word = text.get(from..end)?.to_owned();
            if from > 0 && !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            Some((Ok(Delta::Text(word)), (text, end)))
        });
        Ok(words.chain(stream::iter([Ok(finished)])).boxed())
    }
}

/// The reply, and why it ends.
fn reply(request: &CompletionRequest) -> (String, FinishReason) {
    let number = request
        .messages
        .iter()
        .filter(|message| message.role == Role::User)
        .count();
    let question = request
        .messages
        .last()
        .map(|message| message.content.text())
        .unwrap_or_default();
    let about = match topic(&question) {
        Some(topic) => format!("You asked: \u{201c}{topic}\u{201d}. "),
        None => String::new(),
    };
    let mut text = format!(
        "This is the demo provider, not a language model. {about}This is question number {number} \
         of this conversation. A real tutor would now ask what you know already, and give you the \
         smallest hint that lets you take the next step yourself. To get real answers, set \
         OPENAI_API_KEY or ANTHROPIC_API_KEY and start again."
    );
    let words = request
        .max_tokens
        .map(|limit| usize::try_from(limit).unwrap_or(usize::MAX).max(1));
    // The white space after the last word that fits.
    let end = words.and_then(|words| text.match_indices(' ').nth(words - 1));
    match end.map(|(end, _)| end + 1) {
        Some(end) => {
            text.truncate(end);
            (text, FinishReason::Length)
        }
        None => (text, FinishReason::Stop),
    }
}

/// The beginning of a question, on one line.
fn topic(question: &str) -> Option<String> {
    let line = question.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.is_empty() {
        return None;
    }
    let mut topic: String = line.chars().take(MAX_TOPIC_CHARS).collect();
    if topic.len() < line.len() {
        topic.push('\u{2026}');
    }
    Some(topic)
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt;
    use tokio::time::Instant;

    use super::*;
    use crate::provider::PromptMessage;

    async fn deltas(request: CompletionRequest) -> Vec<Delta> {
        DemoProvider::new()
            .stream(request)
            .await
            .unwrap()
            .try_collect()
            .await
            .unwrap()
    }

    fn text(deltas: &[Delta]) -> String {
        deltas
            .iter()
            .filter_map(|d| {
                if let Delta::Text(t) = d {
                    Some(t.as_str())
                } else {
                    None
                }
            })
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_streamed_reply_comes_word_by_word_and_the_whole_reply_at_once() {
        let mut request = CompletionRequest::new("gpt-4", "Why is the sky blue?");
        let before = Instant::now();
        let whole = deltas(request.clone()).await;
        assert_eq!(before.elapsed(), Duration::ZERO);
        assert_eq!(whole.len(), 2);

        request.streamed = true;
        let words = deltas(request).await;
        assert_eq!(
            before.elapsed(),
            DEFAULT_WORD_DELAY * u32::try_from(words.len() - 2).unwrap()
        );
        assert_eq!(text(&words), text(&whole));
        assert_eq!(
            words.last(),
            Some(&Delta::Finished {
                reason: FinishReason::Stop
            })
        );
    }

    #[tokio::test]
    async fn the_reply_says_what_it_is_and_counts_the_questions() {
        let mut request = CompletionRequest::new("demo", "What is 7 times 8?");
        for (role, said) in [(Role::Assistant, "56"), (Role::User, "And\n9 times 8?")] {
            request.messages.push(PromptMessage {
                role,
                content: said.into(),
            });
        }
        let reply = text(&deltas(request).await);
        for part in [
            "demo provider",
            "OPENAI_API_KEY",
            "ANTHROPIC_API_KEY",
            "question number 2",
            "And 9 times 8?",
        ] {
            assert!(reply.contains(part), "{part}: {reply}");
        }
    }

    #[tokio::test]
    async fn a_long_question_is_not_repeated_whole() {
        let question = "é".repeat(10_000);
        let reply = text(&deltas(CompletionRequest::new("demo", question.as_str())).await);
        assert!(reply.len() < 600, "{}", reply.len());
    }

    #[tokio::test]
    async fn a_token_limit_cuts_the_reply() {
        let mut request = CompletionRequest::new("demo", "Why?");
        request.max_tokens = Some(3);
        let deltas = deltas(request).await;
        assert_eq!(text(&deltas).split_whitespace().count(), 3);
        assert_eq!(
            deltas.last(),
            Some(&Delta::Finished {
                reason: FinishReason::Length
            })
        );
    }
}
