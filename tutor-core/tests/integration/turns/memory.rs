//! What a long reply costs in memory: nothing that grows with it, but the reply itself.
//!
//! The allocator counts what the thread of the test allocates; the upstream has another one.

use std::sync::mpsc;
use std::time::Duration;

use serde_json::json;
use tokio::runtime::Builder;
use tutor_core::conformance::upstream::{Act, Upstream, event_stream};
use tutor_core::provider::ProviderConfig;
use tutor_core::store::MemoryStore;
use tutor_core::{Event, Limits, Tutor};

const REPLY: u64 = 16 << 20;
const DELTA: u64 = 16 << 10;
/// What may be there besides: buffers of the connection, the events' own size, the engine.
const REST: u64 = 2 << 20;

/// Serves the reply on a thread of its own, until the sender is dropped; `whole` if it ends.
fn upstream(whole: bool) -> (String, mpsc::Sender<()>) {
    let chunk = |delta: &str, finish: Option<&str>| json!({"choices": [{"index": 0, "delta": {"content": delta}, "finish_reason": finish}]});
    let delta = "learning".repeat(usize::try_from(DELTA).unwrap() / 8);
    let word = format!("data: {}\n\n", chunk(&delta, None));
    let end = format!("data: {}\n\ndata: [DONE]\n\n", chunk("", Some("stop")));
    let count = usize::try_from(REPLY / DELTA).unwrap();
    let words = Act::Send(event_stream(word.repeat(count)));
    let rest = if whole {
        Act::Send(end.into_bytes())
    } else {
        Act::Hold
    };
    let (told, url) = mpsc::channel();
    let (alive, over) = mpsc::channel::<()>();
    std::thread::spawn(move || {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let upstream = runtime.block_on(Upstream::start([vec![words, rest]]));
        let upstream = upstream.unwrap();
        told.send(upstream.url()).unwrap();
        // Ends with an error when nobody needs the server any more.
        let _ = over.recv();
    });
    (url.recv().unwrap(), alive)
}

/// The most bytes that are there at a time while a reply is relayed: until its last words, or until
/// it is stored and told as a message.
fn peak(to_the_end: bool) -> u64 {
    let (url, alive) = upstream(to_the_end);
    let relayed = allocation_counter::measure(|| {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut limits = Limits::default();
            limits.max_reply_bytes = usize::MAX;
            limits.checkpoint_interval = Duration::from_secs(3600);
            let provider = ProviderConfig::openai("key").with_base_url(url);
            let tutor = Tutor::builder()
                .store(MemoryStore::default())
                .provider(provider.build().unwrap())
                .limits(limits)
                .build()
                .await
                .unwrap();
            let mut events = tutor.stream("What is learning?").await.unwrap();
            let mut read = 0;
            while to_the_end || read < REPLY {
                let Some(event) = events.next().await else {
                    break;
                };
                if let Event::TextDelta { text } = &event.event {
                    read += text.len() as u64;
                }
            }
            assert_eq!(read, REPLY);
        });
    });
    drop(alive);
    relayed.bytes_max
}

#[test]
fn while_a_reply_is_relayed_it_is_in_memory_once() {
    let peak = peak(false);
    assert!(peak <= REPLY + REST, "{peak} bytes for {REPLY}");
}

#[test]
fn an_ended_reply_is_in_memory_as_it_was_told_as_it_is_told_whole_and_in_its_store() {
    let peak = peak(true);
    assert!(peak <= 3 * REPLY + REST, "{peak} bytes for {REPLY}");
}
