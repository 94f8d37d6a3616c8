//! The laws of [`LiveBus`](crate::LiveBus): each a function that takes a bus and panics where the law
//! is broken. Others may use the same bus meanwhile. [`bus_laws!`](crate::bus_laws) runs them all.

pub mod events;
pub mod forgetting;
pub mod requests;
pub mod running;

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;

use crate::bus::{LiveBus, News};
use crate::error::Error;
use crate::event::{Event, TurnEvent};
use crate::id::{OwnerId, SessionId, TurnId};
use crate::time::{Runtime, SystemRuntime};
use crate::turn::TurnKey;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long nothing is waited for.
const MOMENT: Duration = Duration::from_millis(200);

/// How long events are kept in laws that are not about that.
const KEEP: Duration = Duration::from_secs(60);

/// A turn that nobody has told anything about.
fn turn() -> TurnKey {
    let id = SystemRuntime.new_id();
    of(&format!("owner-{id}"))
}

#[expect(clippy::unwrap_used, reason = "a law fails by panicking, like a test")]
fn of(owner: &str) -> TurnKey {
    let owner = OwnerId::new(owner).unwrap();
    TurnKey::new(owner, TurnId::new(SystemRuntime.new_id()).unwrap())
}

#[expect(clippy::unwrap_used, reason = "a law fails by panicking, like a test")]
fn session() -> SessionId {
    SessionId::new("s").unwrap()
}

fn text(seq: u64) -> TurnEvent {
    let text = format!("{seq} \u{1F331}\r\n\0");
    TurnEvent {
        seq,
        event: Event::TextDelta { text },
    }
}

fn end(seq: u64) -> TurnEvent {
    let error = Error::internal("a law").info();
    let event = Event::TurnFailed {
        error,
        partial: None,
    };
    TurnEvent { seq, event }
}

fn news(turn: &TurnKey, events: impl IntoIterator<Item = TurnEvent>) -> News {
    News {
        turn: turn.clone(),
        session: session(),
        events: events.into_iter().map(Arc::new).collect(),
        keep: KEEP,
    }
}

/// Tells these events of one turn; the number up to which the bus has them.
#[expect(clippy::unwrap_used, reason = "a law fails by panicking, like a test")]
async fn tell(
    bus: &dyn LiveBus,
    turn: &TurnKey,
    events: impl IntoIterator<Item = TurnEvent>,
) -> u64 {
    let has = bus.announce(vec![news(turn, events)]).await.unwrap();
    assert_eq!(has.len(), 1);
    has[0]
}

/// The next `count` events behind `after`.
#[expect(clippy::unwrap_used, reason = "a law fails by panicking, like a test")]
async fn heard(bus: &dyn LiveBus, turn: &TurnKey, after: u64, count: usize) -> Vec<TurnEvent> {
    let mut events = Vec::new();
    let mut stream = bus.follow(turn, after);
    while events.len() < count {
        let next = tokio::time::timeout(PATIENCE, stream.next()).await.unwrap();
        let batch = next.unwrap().unwrap();
        assert!(!batch.is_empty(), "a batch is never empty");
        events.extend(batch);
    }
    events
}

/// All events behind `after` of a turn that ends.
#[expect(clippy::unwrap_used, reason = "a law fails by panicking, like a test")]
async fn heard_to_the_end(bus: &dyn LiveBus, turn: &TurnKey, after: u64) -> Vec<TurnEvent> {
    let all = bus.follow(turn, after).map(|batch| batch.unwrap()).concat();
    tokio::time::timeout(PATIENCE, all).await.unwrap()
}

/// True if nothing is told about a turn.
async fn is_silent(bus: &dyn LiveBus, turn: &TurnKey) -> bool {
    let mut stream = bus.follow(turn, 0);
    tokio::time::timeout(MOMENT, stream.next()).await.is_err()
}
