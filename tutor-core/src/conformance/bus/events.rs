//! What is told about turns.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::{PATIENCE, end, heard, heard_to_the_end, is_silent, news, of, tell, text, turn};
use crate::bus::{LiveBus, News};
use crate::event::TurnEvent;

/// What was told before is there for who comes later, behind any number.
pub async fn what_was_told_is_heard_behind_any_number(bus: Arc<dyn LiveBus>) {
    let turn = turn();
    let whole: Vec<TurnEvent> = (1..=9).map(text).chain([end(10)]).collect();
    assert_eq!(tell(&*bus, &turn, whole[..4].to_vec()).await, 4);
    assert_eq!(tell(&*bus, &turn, whole[4..5].to_vec()).await, 5);
    assert_eq!(tell(&*bus, &turn, whole[5..].to_vec()).await, 10);
    for after in 0..10 {
        let tail = heard_to_the_end(&*bus, &turn, after as u64).await;
        assert_eq!(tail, whole[after..], "behind {after}");
    }
}

/// Whoever listens, from whatever number, hears what comes, in order and once.
pub async fn followers_hear_what_comes(bus: Arc<dyn LiveBus>) {
    let turn = turn();
    let whole: Vec<TurnEvent> = (1..=40).map(text).chain([end(41)]).collect();
    let followers = [0_usize, 0, 1, 7, 40].map(|after| {
        let (bus, turn) = (Arc::clone(&bus), turn.clone());
        async move { (after, heard_to_the_end(&*bus, &turn, after as u64).await) }
    });
    let telling = async {
        for events in whole.chunks(3) {
            tell(&*bus, &turn, events.to_vec()).await;
            tokio::task::yield_now().await;
        }
    };
    let ((), heard) = tokio::join!(telling, join_all(followers));
    for (after, events) in heard {
        assert_eq!(events, whole[after..], "behind {after}");
    }
}

/// A turn can be told from where it was told before; what is there is not told twice.
pub async fn what_is_told_again_is_there_once(bus: Arc<dyn LiveBus>) {
    let turn = turn();
    assert_eq!(tell(&*bus, &turn, (1..=3).map(text)).await, 3);
    assert_eq!(tell(&*bus, &turn, (1..=3).map(text)).await, 3);
    assert_eq!(tell(&*bus, &turn, (2..=5).map(text)).await, 5);
    assert_eq!(tell(&*bus, &turn, (1..=2).map(text)).await, 5);
    assert_eq!(tell(&*bus, &turn, [end(6)]).await, 6);
    let numbers = heard_to_the_end(&*bus, &turn, 0).await;
    let mut numbers: Vec<u64> = numbers.iter().map(|event| event.seq).collect();
    // A follower leaves out what it has.
    numbers.dedup();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6]);
}

/// Events that would leave a gap are not taken, and the answer says from where to tell them.
pub async fn a_gap_is_not_taken(bus: Arc<dyn LiveBus>) {
    let turn = turn();
    assert_eq!(tell(&*bus, &turn, [text(5)]).await, 0);
    assert!(is_silent(&*bus, &turn).await);
    assert_eq!(tell(&*bus, &turn, (1..=2).map(text)).await, 2);
    assert_eq!(tell(&*bus, &turn, [text(4)]).await, 2);
    let numbers = heard(&*bus, &turn, 0, 2).await;
    assert_eq!(numbers, [text(1), text(2)]);
}

/// A place beyond the end gives the last event alone.
pub async fn a_place_beyond_the_end_gives_the_last_event(bus: Arc<dyn LiveBus>) {
    let turn = turn();
    tell(&*bus, &turn, (1..=3).map(text).chain([end(4)])).await;
    for after in [4, 5, u64::MAX] {
        assert_eq!(heard_to_the_end(&*bus, &turn, after).await, [end(4)]);
    }
}

/// Many turns are told in one step, each for itself.
pub async fn turns_are_told_together(bus: Arc<dyn LiveBus>) {
    let turns: Vec<_> = (0..20).map(|_| turn()).collect();
    let all: Vec<News> = turns
        .iter()
        .zip(1..)
        .map(|(turn, n)| news(turn, (1..=n).map(text)))
        .collect();
    let has = bus.announce(all).await;
    assert_eq!(has.ok(), Some((1..=20).collect()));
    for (turn, n) in turns.iter().zip(1..) {
        let events = heard(&*bus, turn, 0, n).await;
        assert_eq!(events.len(), n);
    }
}

/// Nobody hears a turn of another owner, also under the same id.
pub async fn owners_do_not_hear_each_other(bus: Arc<dyn LiveBus>) {
    let ada = turn();
    let mut bob = of(&format!("{}:x", ada.owner));
    bob.id = ada.id.clone();
    tell(&*bus, &ada, [text(1)]).await;
    assert!(is_silent(&*bus, &bob).await);
}

/// What was told is forgotten when it is old.
pub async fn what_was_told_expires(bus: Arc<dyn LiveBus>) {
    let turn = turn();
    let soon = News {
        keep: Duration::from_millis(50),
        ..news(&turn, [text(1), end(2)])
    };
    assert_eq!(bus.announce(vec![soon]).await.ok(), Some(vec![2]));
    let expired = async { while !is_silent(&*bus, &turn).await {} };
    assert!(tokio::time::timeout(PATIENCE, expired).await.is_ok());
}
