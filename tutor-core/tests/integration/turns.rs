//! What a turn can do besides text: branches, tools, replies of a form, attachments, titles and
//! summaries.

mod attachments;
mod background;
mod branches;
mod context;
#[cfg(feature = "provider-openai")]
mod memory;
mod opinions;
mod output;
mod recording;
mod recovery;
mod tools;
mod usage;

use std::sync::Arc;

use tutor_core::provider::scripted::{Step, text_script};
use tutor_core::provider::{Delta, ScriptedProvider};
use tutor_core::{Event, FinishReason, TurnEvent, TurnStream, Tutor, TutorBuilder};

fn text(text: &str) -> Step {
    Step::Yield(Delta::Text(text.into()))
}

fn done(reason: FinishReason) -> Step {
    Step::Yield(Delta::Finished { reason })
}

fn call(id: &str, name: &str, arguments: &str) -> Step {
    Step::Yield(Delta::ToolCall {
        id: id.into(),
        name: name.into(),
        arguments: arguments.into(),
    })
}

/// A completion that asks for tools.
fn asking(calls: Vec<Step>) -> Vec<Step> {
    calls
        .into_iter()
        .chain([done(FinishReason::ToolCalls)])
        .collect()
}

fn scripts(scripts: Vec<Vec<Step>>) -> ScriptedProvider {
    ScriptedProvider::new(scripts)
}

async fn build(builder: TutorBuilder, provider: &ScriptedProvider) -> Tutor {
    builder.provider(provider.clone()).build().await.unwrap()
}

async fn all(mut stream: TurnStream) -> Vec<Arc<TurnEvent>> {
    let mut events = Vec::new();
    while let Some(event) = stream.next().await {
        events.push(event);
    }
    events
}

fn kinds(events: &[Arc<TurnEvent>]) -> Vec<&'static str> {
    events.iter().map(|event| event.event.kind()).collect()
}

/// The text that a client shows, by the grammar: a restart drops what came before.
fn shown(events: &[Arc<TurnEvent>]) -> String {
    let mut shown = String::new();
    for event in events {
        match &event.event {
            Event::TextDelta { text } => shown.push_str(text),
            Event::AttemptRestarted { .. } => shown.clear(),
            _ => {}
        }
    }
    shown
}

fn say(words: &str) -> Vec<Step> {
    text_script(words)
}
