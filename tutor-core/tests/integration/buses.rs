//! The laws of buses, on every bus of this crate; and Redis that comes and goes.

use tutor_core::bus::MemoryBus;

async fn memory() -> (MemoryBus, ()) {
    (MemoryBus::new(), ())
}
tutor_core::bus_laws!(memory_bus, memory);

#[cfg(feature = "bus-redis")]
mod redis {
    use std::sync::Arc;
    use std::time::Duration;

    use futures_util::StreamExt;
    use tokio::time::{sleep, timeout};
    use tutor_core::bus::{LiveBus, News, RedisBus};
    use tutor_core::turn::TurnKey;
    use tutor_core::{ErrorKind, Event, OwnerId, SessionId, TurnEvent, TurnId};

    use crate::redis::{shared, start};

    async fn redis() -> (RedisBus, ()) {
        (RedisBus::new(shared()).unwrap(), ())
    }
    tutor_core::bus_laws!(laws, redis);

    fn text(seq: u64) -> Arc<TurnEvent> {
        let text = "canary".to_owned();
        Arc::new(TurnEvent {
            seq,
            event: Event::TextDelta { text },
        })
    }

    fn news(turn: &TurnKey, seqs: std::ops::RangeInclusive<u64>) -> Vec<News> {
        vec![News {
            turn: turn.clone(),
            session: SessionId::new("s").unwrap(),
            events: seqs.map(text).collect(),
            keep: Duration::from_secs(60),
        }]
    }

    fn turn() -> TurnKey {
        TurnKey::new(OwnerId::default(), TurnId::new("t").unwrap())
    }

    /// Waits until it is announced.
    async fn announced(bus: &RedisBus, news: impl Fn() -> Vec<News>) -> Vec<u64> {
        loop {
            match bus.announce(news()).await {
                Ok(has) => return has,
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
        }
    }

    #[tokio::test]
    async fn a_server_that_is_gone_is_an_error_at_once_and_is_found_when_it_is_back() {
        let mut server = start();
        let bus = RedisBus::new(&server.url).unwrap();
        let mut requests = bus.cancellations("here");
        assert_eq!(bus.announce(news(&turn(), 1..=3)).await.unwrap(), [3]);
        let mut following = bus.follow(&turn(), 0);
        assert_eq!(following.next().await.unwrap().unwrap().len(), 3);
        server.tell("stop");
        let patience = Duration::from_secs(3);
        let failed = timeout(patience, bus.announce(news(&turn(), 4..=4))).await;
        let failed = failed.unwrap().unwrap_err();
        assert_eq!(failed.kind(), ErrorKind::StoreUnavailable);
        assert!(failed.is_retryable());
        assert!(!format!("{failed} {failed:?}").contains("canary"));
        // Whoever follows is told, and comes back.
        let ended = async {
            loop {
                match following.next().await {
                    Some(Err(_)) => {}
                    None => return,
                    Some(Ok(_)) => panic!("there is nothing to hear"),
                }
            }
        };
        timeout(Duration::from_secs(10), ended).await.unwrap();
        server.tell("start");
        // It has lost everything, and says from where to tell it again.
        assert_eq!(announced(&bus, || news(&turn(), 4..=4)).await, [0]);
        assert_eq!(announced(&bus, || news(&turn(), 1..=4)).await, [4]);
        let heard = bus.follow(&turn(), 0).next().await.unwrap().unwrap();
        assert_eq!(heard.len(), 4);
        // The channels are listened to again.
        let asked = async {
            loop {
                bus.ask_to_cancel(&turn(), "here").await.unwrap();
                let wait = Duration::from_millis(100);
                if let Ok(Some(request)) = timeout(wait, requests.next()).await {
                    return request;
                }
            }
        };
        assert_eq!(
            timeout(Duration::from_secs(10), asked).await.unwrap(),
            turn()
        );
    }

    #[tokio::test]
    async fn a_server_that_answers_nobody_keeps_nobody_waiting() {
        let mut server = start();
        let bus = RedisBus::new(&server.url).unwrap();
        bus.check().await.unwrap();
        server.tell("hang");
        let patience = Duration::from_secs(3);
        let failed = timeout(patience, bus.announce(news(&turn(), 1..=1))).await;
        failed.unwrap().unwrap_err();
        server.tell("go");
        assert_eq!(announced(&bus, || news(&turn(), 1..=1)).await, [1]);
    }
}
