//! How many turns of an owner run at the same time.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::{KEEP, PATIENCE, end, of, tell, text, turn};
use crate::bus::LiveBus;

/// As many as may, and not one more, however many ask at the same time.
pub async fn one_turn_too_many_does_not_enter(bus: Arc<dyn LiveBus>) {
    let owner = turn().owner;
    let turns: Vec<_> = (0..10).map(|_| of(owner.as_str())).collect();
    let asked = turns.iter().map(|turn| bus.enter(turn, 3, KEEP));
    let entered = join_all(asked).await.into_iter().filter_map(Result::ok);
    assert_eq!(entered.filter(|entered| *entered).count(), 3);
    // Others are not concerned.
    assert_eq!(bus.enter(&turn(), 3, KEEP).await.ok(), Some(true));
}

/// A turn that leaves or ends makes room, once.
pub async fn a_turn_that_leaves_or_ends_makes_room(bus: Arc<dyn LiveBus>) {
    let first = turn();
    let [second, third] = [of(first.owner.as_str()), of(first.owner.as_str())];
    assert_eq!(bus.enter(&first, 1, KEEP).await.ok(), Some(true));
    assert_eq!(bus.enter(&first, 1, KEEP).await.ok(), Some(true));
    assert_eq!(bus.enter(&second, 1, KEEP).await.ok(), Some(false));
    assert!(bus.leave(&first).await.is_ok());
    assert!(bus.leave(&first).await.is_ok());
    assert_eq!(bus.enter(&second, 1, KEEP).await.ok(), Some(true));
    assert_eq!(bus.enter(&third, 1, KEEP).await.ok(), Some(false));
    tell(&*bus, &second, [text(1), end(2)]).await;
    assert_eq!(bus.enter(&third, 1, KEEP).await.ok(), Some(true));
}

/// A turn whose instance is gone does not count for ever.
pub async fn a_turn_counts_no_longer_than_it_said(bus: Arc<dyn LiveBus>) {
    let gone = turn();
    let moment = Duration::from_millis(100);
    assert_eq!(bus.enter(&gone, 1, moment).await.ok(), Some(true));
    let next = of(gone.owner.as_str());
    let entered = async {
        while bus.enter(&next, 1, KEEP).await.ok() != Some(true) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, entered).await.is_ok());
}
