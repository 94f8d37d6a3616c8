//! A provider of one's own: anything that can yield text can answer.
//!
//! `cargo run -p neuro-tutor-examples --bin custom_provider`

#![expect(
    clippy::print_stdout,
    reason = "an example talks to the person who runs it"
)]

use futures_util::{StreamExt, stream};
use tutor_core::provider::{
    CompletionRequest, CompletionStream, Delta, ModelInfo, Provider, ProviderInfo,
};
use tutor_core::{FinishReason, Result, Tutor, async_trait};

/// Answers a question with a question.
#[derive(Debug)]
struct Socrates;

#[async_trait]
impl Provider for Socrates {
    fn info(&self) -> ProviderInfo {
        ProviderInfo::new("socrates", "maieutic-1")
    }

    async fn models(&self) -> Result<Vec<ModelInfo>> {
        Ok(vec![ModelInfo::new("maieutic-1")])
    }

    async fn stream(&self, request: CompletionRequest) -> Result<CompletionStream> {
        let questions = request.messages.len();
        let words = ["What ", "do ", "you ", "think ", "yourself? "]
            .map(|word| Delta::Text(word.to_owned()));
        let end = [
            Delta::Text(format!("({questions})")),
            Delta::Finished {
                reason: FinishReason::Stop,
            },
        ];
        Ok(stream::iter(words.into_iter().chain(end)).map(Ok).boxed())
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let tutor = Tutor::builder().provider(Socrates).build().await?;
    println!("{}", tutor.chat("What is virtue?").await?.text());
    tutor.close().await
}
