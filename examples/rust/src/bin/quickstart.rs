//! A tutor in a few lines: ask, watch the reply grow, go on, read it all again.
//!
//! `cargo run -p neuro-tutor-examples --bin quickstart [DIRECTORY]`

#![expect(
    clippy::print_stdout,
    reason = "an example talks to the person who runs it"
)]

use tutor_core::{ChatRequest, Event, Messages, Result, Tutor};

#[tokio::main]
async fn main() -> Result<()> {
    let directory = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "neuro-tutor-data".to_owned());
    let tutor = Tutor::open(directory).await?;

    let mut stream = tutor.stream("What is photosynthesis?").await?;
    let session = stream.session_id().clone();
    while let Some(event) = stream.next().await {
        if let Event::TextDelta { text } = &event.event {
            print!("{text}");
        }
    }
    println!();

    let more = ChatRequest::new("And in one sentence?").with_session(session.clone());
    println!("{}", tutor.chat(more).await?.text());

    for message in tutor.messages(&session, Messages::default()).await?.items {
        println!("{}: {} bytes", message.role.as_str(), message.content.len());
    }
    tutor.close().await
}
