//! Recorded turns give the same events again.

use std::sync::Arc;

use serde_json::json;
use tokio::sync::Notify;
use tutor_core::replay::{TurnRecorder, TurnRecording};
use tutor_core::time::SystemRuntime;
use tutor_core::{ChatRequest, Error, ErrorKind, FnTool, Tool, ToolSpec, TurnEvent, Tutor};

use super::{Step, all, asking, call, say, scripts, text};

fn double() -> impl Tool {
    let spec = ToolSpec::new("double", "", json!({"type": "object"}));
    FnTool::new(spec, async |call| {
        Ok(json!(call.arguments["n"].as_i64().unwrap_or_default() * 2))
    })
}

fn lines(events: &[Arc<TurnEvent>]) -> Vec<String> {
    let texts = events.iter().map(|event| serde_json::to_string(&**event));
    texts.collect::<Result<_, _>>().unwrap()
}

#[tokio::test]
async fn a_recorded_turn_gives_the_same_events_to_the_last_bit() {
    let restart = Step::Yield(super::Delta::Restart { reason: "r".into() });
    let down = Step::Fail(|| Error::new(ErrorKind::ProviderUnavailable, "down").retryable(None));
    for script in [
        vec![say("two words")],
        vec![vec![text("void"), restart], say("unused")],
        vec![
            asking(vec![text("a"), call("c", "double", r#"{"n": 4}"#)]),
            say("it is 8"),
        ],
        vec![vec![text("half"), down]],
        vec![vec![text("no end"), Step::End]],
    ] {
        let recorder = TurnRecorder::default();
        let settings = || Tutor::builder().tool(double()).system_prompt("be kind");
        let tutor = settings()
            .runtime(recorder.runtime(SystemRuntime))
            .provider(recorder.provider(scripts(script)))
            .build()
            .await
            .unwrap();
        let events = all(tutor.stream("hi").await.unwrap()).await;
        let report = serde_json::to_string(&recorder.recording()).unwrap();
        let recording: TurnRecording = serde_json::from_str(&report).unwrap();
        for _ in 0..2 {
            let again = recording
                .replay(settings(), ChatRequest::new("hi"))
                .await
                .unwrap();
            assert_eq!(lines(&again), lines(&events));
        }
    }
}

#[tokio::test]
async fn a_recorded_turn_that_was_cancelled_is_cancelled_at_the_same_place() {
    let silent = || Step::Wait(Arc::new(Notify::new()));
    for script in [
        vec![vec![text("a"), text("b"), silent(), text("never")]],
        vec![vec![silent()]],
        vec![
            asking(vec![call("c", "double", r#"{"n": 4}"#)]),
            vec![text("it is"), silent()],
        ],
    ] {
        let said = script
            .iter()
            .flatten()
            .filter(|step| matches!(step, Step::Yield(super::Delta::Text(text)) if text != "never"))
            .count();
        let recorder = TurnRecorder::default();
        let tutor = Tutor::builder()
            .tool(double())
            .runtime(recorder.runtime(SystemRuntime))
            .provider(recorder.provider(scripts(script)))
            .build()
            .await
            .unwrap();
        let mut stream = tutor.stream("hi").await.unwrap();
        let (mut events, mut heard) = (Vec::new(), 0);
        while let Some(event) = stream.next().await {
            heard += usize::from(matches!(event.event, tutor_core::Event::TextDelta { .. }));
            events.push(event);
            if heard == said {
                tutor.cancel(stream.turn_id()).await.unwrap();
            }
        }
        let settings = || Tutor::builder().tool(double());
        let recording = recorder.recording();
        let again = recording.replay(settings(), ChatRequest::new("hi")).await;
        assert_eq!(lines(&again.unwrap()), lines(&events));
        let last = events.last().unwrap();
        assert!(lines(std::slice::from_ref(last))[0].contains("cancelled"));
    }
}
