//! Providers that misbehave: each ends its own turn in a clear error, and harms no other one.

use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt};
use tutor_core::provider::{
    CompletionRequest, CompletionStream, Delta, ModelInfo, Provider, ProviderInfo, ScriptedProvider,
};
use tutor_core::store::MemoryStore;
use tutor_core::{
    ChatRequest, Error, ErrorKind, Event, FinishReason, Limits, Result, Tutor, async_trait,
};

/// The words that a plug-in may not leak.
const CANARY: &str = "the canary of the plug-in";

/// What a plug-in that panics says. The system prints it, as it prints every panic.
const LAST_WORDS: &str = "the last words of a plug-in";

const END: Delta = Delta::Finished {
    reason: FinishReason::Stop,
};

#[derive(Clone, Copy, Debug)]
enum Misbehavior {
    PanicsAtOnce,
    PanicsInItsStream,
    BlocksItsThread,
    NeverAnswers,
    NeverEnds,
    BeatsForEver,
    WritesForEver,
    EndsEarly,
    GoesOnAfterItsEnd,
    GoesOnAfterItsError,
    YieldsNonsense,
}

use Misbehavior as M;

#[derive(Debug)]
struct Bad(Misbehavior);

fn text(text: &str) -> Result<Delta> {
    Ok(Delta::Text(text.to_owned()))
}

fn broken() -> Error {
    Error::new(ErrorKind::RateLimited, "no").retryable(Some(Duration::from_secs(7)))
}

#[async_trait]
impl Provider for Bad {
    fn info(&self) -> ProviderInfo {
        ProviderInfo::new("bad", "m")
    }

    async fn models(&self) -> Result<Vec<ModelInfo>> {
        Ok(Vec::new())
    }

    async fn stream(&self, _: CompletionRequest) -> Result<CompletionStream> {
        let call = |name: &str| Delta::ToolCall {
            id: String::new(),
            name: name.to_owned(),
            arguments: "not JSON".to_owned(),
        };
        Ok(match self.0 {
            M::PanicsAtOnce => panic!("{LAST_WORDS}"),
            M::PanicsInItsStream => {
                let panics = stream::once(async { panic!("{LAST_WORDS}") });
                stream::iter([text("some")]).chain(panics).boxed()
            }
            M::BlocksItsThread => stream::once(async {
                std::thread::sleep(Duration::from_secs(3));
                Ok(END)
            })
            .boxed(),
            M::NeverAnswers => std::future::pending().await,
            M::NeverEnds => stream::iter([text("some")])
                .chain(stream::pending())
                .boxed(),
            M::BeatsForEver => stream::repeat_with(|| Ok(Delta::Heartbeat)).boxed(),
            M::WritesForEver => stream::repeat_with(|| text("more and ")).boxed(),
            M::EndsEarly => stream::iter([text("some")]).boxed(),
            M::GoesOnAfterItsEnd => {
                stream::iter([text("some"), Ok(END), text(CANARY), Err(broken())]).boxed()
            }
            M::GoesOnAfterItsError => {
                stream::iter([text("some"), Err(broken()), text(CANARY), Ok(END)]).boxed()
            }
            M::YieldsNonsense => stream::iter([
                text(""),
                Ok(call("")),
                Ok(call("\u{0}")),
                Ok(Delta::Restart {
                    reason: String::new(),
                }),
                Ok(Delta::Usage(tutor_core::Usage::default())),
                text("some"),
                Ok(END),
            ])
            .boxed(),
        })
    }
}

async fn tutor(bad: Misbehavior) -> Tutor {
    let mut limits = Limits::default();
    limits.turn_timeout = Duration::from_millis(500);
    limits.max_reply_bytes = 100_000;
    let builder = Tutor::builder().store(MemoryStore::new()).limits(limits);
    let good = ScriptedProvider::reply("a good answer");
    builder
        .provider(Bad(bad))
        .provider(good)
        .build()
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_misbehavior_ends_its_turn_clearly_and_harms_no_other_turn() {
    for (bad, expected, partial) in [
        (M::PanicsAtOnce, Some(ErrorKind::Internal), ""),
        (M::PanicsInItsStream, Some(ErrorKind::Internal), "some"),
        (M::BlocksItsThread, None, ""),
        (M::NeverAnswers, Some(ErrorKind::Timeout), ""),
        (M::NeverEnds, Some(ErrorKind::Timeout), "some"),
        (M::BeatsForEver, Some(ErrorKind::Timeout), ""),
        (M::WritesForEver, Some(ErrorKind::TooLarge), "more"),
        (M::EndsEarly, Some(ErrorKind::Interrupted), "some"),
        (M::GoesOnAfterItsEnd, None, "some"),
        (M::GoesOnAfterItsError, Some(ErrorKind::RateLimited), "some"),
        (M::YieldsNonsense, None, "some"),
    ] {
        let tutor = tutor(bad).await;
        let mut stream = tutor.stream("?").await.unwrap();
        let others = async {
            let mut slowest = Duration::ZERO;
            for _ in 0..20 {
                let start = Instant::now();
                let mut request = ChatRequest::new("?");
                request.preferences.provider = Some("scripted".to_owned());
                assert_eq!(tutor.chat(request).await.unwrap().text(), "a good answer");
                slowest = slowest.max(start.elapsed());
            }
            slowest
        };
        let events = async {
            let mut events = Vec::new();
            while let Some(event) = stream.next().await {
                events.push(event);
            }
            events
        };
        let (events, slowest) = tokio::join!(events, others);
        assert!(slowest < Duration::from_secs(2), "{bad:?}: {slowest:?}");
        let json = events
            .iter()
            .map(|event| serde_json::to_string(&**event).unwrap());
        let said = format!("{events:?}") + &json.collect::<String>();
        for words in [CANARY, LAST_WORDS] {
            assert!(!said.contains(words), "{bad:?}: {said}");
        }
        let text = match (&events.last().unwrap().event, expected) {
            (Event::TurnFailed { error, partial, .. }, Some(kind)) => {
                assert_eq!(error.code, kind.code(), "{bad:?}");
                partial.as_ref().map(|message| message.content.text())
            }
            (Event::TurnFinished { message, .. }, None) => Some(message.content.text()),
            (end, _) => panic!("{bad:?} ended with {end:?}"),
        };
        assert!(text.unwrap_or_default().starts_with(partial), "{bad:?}");
        let terminals = events.iter().filter(|event| event.event.is_terminal());
        assert_eq!(terminals.count(), 1, "{bad:?}");
    }
}

#[tokio::test]
async fn an_error_keeps_its_kind_and_its_advice() {
    let tutor = tutor(M::GoesOnAfterItsError).await;
    let error = tutor.chat("?").await.unwrap_err();
    assert_eq!(
        (error.kind(), error.retry_after()),
        (ErrorKind::RateLimited, Some(Duration::from_secs(7)))
    );
}
