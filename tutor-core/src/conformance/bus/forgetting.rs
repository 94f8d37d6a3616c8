//! Forgetting what was told.

use std::sync::Arc;

use super::{end, heard, is_silent, news, of, tell, text, turn};
use crate::bus::{LiveBus, News};
use crate::id::SessionId;

/// Of an owner nothing is left, and others lose nothing.
pub async fn an_owners_turns_are_forgotten(bus: Arc<dyn LiveBus>) {
    let (running, other) = (turn(), turn());
    let ended = of(running.owner.as_str());
    tell(&*bus, &running, [text(1)]).await;
    tell(&*bus, &ended, [text(1), end(2)]).await;
    tell(&*bus, &other, [text(1)]).await;
    assert!(bus.forget(&running.owner, None).await.is_ok());
    assert!(is_silent(&*bus, &running).await);
    assert!(is_silent(&*bus, &ended).await);
    assert_eq!(heard(&*bus, &other, 0, 1).await, [text(1)]);
    assert!(bus.forget(&running.owner, None).await.is_ok());
}

/// Of a session nothing is left, and the owner's others lose nothing.
#[expect(clippy::unwrap_used, reason = "a law fails by panicking, like a test")]
pub async fn a_sessions_turns_are_forgotten(bus: Arc<dyn LiveBus>) {
    let gone = turn();
    let kept = of(gone.owner.as_str());
    let session = SessionId::new("gone").unwrap();
    let told = News {
        session: session.clone(),
        ..news(&gone, [text(1)])
    };
    assert_eq!(bus.announce(vec![told]).await.ok(), Some(vec![1]));
    tell(&*bus, &kept, [text(1)]).await;
    assert!(bus.forget(&gone.owner, Some(&session)).await.is_ok());
    assert!(is_silent(&*bus, &gone).await);
    assert_eq!(heard(&*bus, &kept, 0, 1).await, [text(1)]);
}
