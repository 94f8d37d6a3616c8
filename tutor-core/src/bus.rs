//! What instances on one store tell each other about the turns that they run.
//!
//! The store has the truth: every instance can do without a bus, and with one that fails. Then the
//! followers of another instance's turn read what that instance has saved, about once a second, and
//! a turn can only be stopped where it runs.
//!
//! Implement [`LiveBus`] to add one; [`conformance::bus`](crate::conformance::bus) is the executable
//! form of the laws below.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::BoxStream;

use crate::error::Result;
use crate::event::TurnEvent;
use crate::id::{OwnerId, SessionId};
use crate::turn::TurnKey;

pub mod memory;
#[cfg(feature = "bus-redis")]
pub mod redis;

pub use memory::MemoryBus;
#[cfg(feature = "bus-redis")]
pub use redis::RedisBus;

/// Where instances tell each other about turns that run.
///
/// # Behavior
/// * What is told about a turn is kept for a while and then forgotten, without anybody's doing. It
///   is what learners and models said.
/// * Nothing here waits for long: what cannot be done within a second or two is an error.
/// * A bus may lose anything at any moment, and says so by what it answers.
/// * The owner is part of every name: what is told about one owner's turn is never told to the
///   followers of another one's.
///
/// # Errors
/// Any method may fail with `store_unavailable`. Then it has been done or not, and doing it again
/// does no harm.
#[async_trait]
pub trait LiveBus: fmt::Debug + Send + Sync + 'static {
    /// Tells what happened in some turns, and wakes their followers. For each of them, in this order,
    /// the number up to which the bus now has events without a gap; 0 if it has none.
    ///
    /// Events that the bus has already are not told twice. Events that would leave a gap behind what
    /// it has are not taken: then the number says from where to tell it again.
    ///
    /// Who tells the last event of a turn [leaves](Self::leave) it, too.
    async fn announce(&self, news: Vec<News>) -> Result<Vec<u64>>;

    /// The events of a turn behind number `after`: those that are kept, then those that come, in
    /// their order and in batches that are never empty. The first one may have a greater number than
    /// `after + 1`: then what is in between is kept no more. The stream ends behind the last event
    /// of the turn, and behind an error.
    ///
    /// A place beyond the last event gives that one alone.
    fn follow(&self, turn: &TurnKey, after: u64) -> BoxStream<'static, Result<Vec<TurnEvent>>>;

    /// Asks the instance that runs the turn to stop it. It may not hear it: whoever asks looks
    /// whether the turn has ended, and asks again.
    async fn ask_to_cancel(&self, turn: &TurnKey, instance: &str) -> Result<()>;

    /// The turns of this instance that others ask to stop, from now on. Never ends; after an outage
    /// it goes on by itself.
    fn cancellations(&self, instance: &str) -> BoxStream<'static, TurnKey>;

    /// Counts a turn as running, if fewer than `max` of its owner are; false if not. It counts until
    /// it [leaves](Self::leave), at most for so long.
    async fn enter(&self, turn: &TurnKey, max: usize, at_most: Duration) -> Result<bool>;

    /// The turn is not counted as running any more.
    async fn leave(&self, turn: &TurnKey) -> Result<()>;

    /// Forgets what was told about the turns of an owner, or of one of their sessions.
    async fn forget(&self, owner: &OwnerId, session: Option<&SessionId>) -> Result<()>;

    /// Succeeds if the others could be told something now.
    async fn check(&self) -> Result<()>;
}

/// A bus behind a pointer.
pub type SharedBus = Arc<dyn LiveBus>;

/// What happened in a turn.
#[derive(Clone, Debug)]
pub struct News {
    /// Which turn.
    pub turn: TurnKey,
    /// The conversation it belongs to.
    pub session: SessionId,
    /// The events, in their order and without a gap. Never empty.
    pub events: Vec<Arc<TurnEvent>>,
    /// How long they, and what was told about the turn before, are to be kept from now on.
    pub keep: Duration,
}

impl News {
    /// The numbers of the first and the last event.
    pub(crate) fn range(&self) -> (u64, u64) {
        let seq = |event: Option<&Arc<TurnEvent>>| event.map_or(0, |event| event.seq);
        (seq(self.events.first()), seq(self.events.last()))
    }

    /// True if the turn ends with them.
    pub(crate) fn is_end(&self) -> bool {
        let last = self.events.last();
        last.is_some_and(|event| event.event.is_terminal())
    }
}
