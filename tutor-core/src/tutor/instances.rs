//! What runs here, and what a tutor has to do with other instances on the same store.

use std::sync::atomic::Ordering;

use super::Tutor;

impl Tutor {
    /// Stops all turns of this owner, and waits until they have ended. With a
    /// [bus](TutorBuilder::bus) also those of other instances, and what the bus has of them is
    /// forgotten; a turn of an instance that does not answer goes on there.
    pub async fn cancel_all(&self) {
        // Rare, and large.
        Box::pin(self.engine.cancel_all(&self.owner)).await;
    }

    /// How often the [bus](TutorBuilder::bus) could not be used, and the store was instead; 0 without
    /// a bus.
    pub fn bus_fallbacks(&self) -> u64 {
        let peers = self.engine.peers.as_ref();
        peers.map_or(0, |peers| peers.fallbacks())
    }

    /// Turns that nobody ran any more, as a crash leaves them, and that this tutor ended: when it
    /// was built, and since. Over all owners.
    pub fn recovered_turns(&self) -> usize {
        self.engine.recovered.load(Ordering::Relaxed)
    }

    /// Replies that are being written now, over all owners.
    pub fn live_turns(&self) -> usize {
        self.engine.hub.live_count()
    }
}
