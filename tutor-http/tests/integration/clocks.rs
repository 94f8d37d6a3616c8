//! The machine's clock jumps, as clocks do.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use serde_json::Value;
use tutor_core::Tutor;
use tutor_core::provider::DemoProvider;
use tutor_core::store::{MemoryStore, Store};
use tutor_core::time::{Runtime, SystemRuntime, Timestamp};
use tutor_http::Allowances;
use tutor_http::people::{People, PeopleBounds};

use crate::client::Request;
use crate::people::{PASSWORD, Town, Visitor};

const HOUR: i64 = 60 * 60;

/// A clock that can be set.
#[derive(Clone, Debug, Default)]
struct Clock(Arc<AtomicI64>);

impl Clock {
    /// So many seconds from the true time.
    fn set(&self, seconds: i64) {
        self.0.store(seconds, Ordering::SeqCst);
    }
}

impl Runtime for Clock {
    fn now(&self) -> Timestamp {
        let offset = self.0.load(Ordering::SeqCst) * 1_000_000;
        Timestamp::from_micros(SystemRuntime.now().as_micros() + offset)
    }

    fn new_id(&self) -> String {
        SystemRuntime.new_id()
    }
}

async fn town(clock: &Clock, allowances: Allowances) -> Town {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let bounds = PeopleBounds::default();
    let people = People::open(Arc::clone(&store), Arc::new(clock.clone()), bounds);
    let demo = DemoProvider::new().with_delay(Duration::ZERO);
    let builder = Tutor::builder().provider(demo).runtime(clock.clone());
    Town::allowing(builder, store, people.await.unwrap(), allowances).await
}

#[tokio::test]
async fn when_the_clock_jumps_a_token_is_good_for_less_and_never_for_more() {
    let clock = Clock::default();
    let town = town(&clock, Allowances::default()).await;
    let ada = town.register("ada@example.org").await;
    ada.get("/api/auth/me").await.expect(200);
    clock.set(HOUR);
    ada.get("/api/auth/me").await.expect(401);
    // A token that was made in what is now the future is none.
    clock.set(-HOUR);
    ada.get("/api/auth/me").await.expect(401);
    // Whoever signs in meanwhile is in, and out when the clock is right again, either way.
    for offset in [HOUR, -HOUR] {
        clock.set(offset);
        let signed_in = town.sign_in("ada@example.org", PASSWORD).await;
        let meanwhile = Visitor::new(&town, &signed_in.expect(200));
        meanwhile.get("/api/auth/me").await.expect(200);
        clock.set(0);
        meanwhile.get("/api/auth/me").await.expect(401);
    }
    ada.get("/api/auth/me").await.expect(200);
    // A sign-in outlives the jump by its refresh token.
    clock.set(HOUR);
    let refreshed = town.refresh(&ada.refresh).await.expect(200);
    let ada = Visitor::new(&town, &refreshed);
    ada.get("/api/auth/me").await.expect(200);
}

#[tokio::test]
async fn when_the_clock_jumps_no_allowance_is_given_twice_or_lost_for_longer() {
    let clock = Clock::default();
    let allowances = Allowances {
        requests_per_minute: Some(5),
        ..Allowances::default()
    };
    let town = town(&clock, allowances).await;
    let ada = town.register("ada@example.org").await;
    for _ in 0..5 {
        ada.get("/api/sessions").await.expect(200);
    }
    // Rates are measured by a clock that nobody sets.
    for offset in [HOUR, -HOUR, 0] {
        clock.set(offset);
        let signed_in = town.sign_in("ada@example.org", PASSWORD).await;
        let ada = Visitor::new(&town, &signed_in.expect(200));
        let refused = ada.get("/api/sessions").await;
        let seconds: u64 = refused.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=60).contains(&seconds), "{seconds}");
        refused.expect(429);
    }
}

#[tokio::test]
async fn when_the_clock_jumps_ids_stay_unique_and_conversations_in_order() {
    let clock = Clock::default();
    let town = town(&clock, Allowances::default()).await;
    let ada = town.register("ada@example.org").await;
    let first = ada.chat("0").await;
    let session = first["session_id"].as_str().unwrap();
    let mut ids = HashSet::new();
    for (number, offset) in [10, -10, 0, -10, 10].into_iter().enumerate() {
        // Not by so much that the token is refused.
        clock.set(offset);
        let body = serde_json::json!({"session_id": session});
        let more = ada.send(Request::chat_with(&format!("{}", number + 1), body));
        let more = more.await.expect(200);
        for id in [&more["turn_id"], &more["reply_message"]["id"]] {
            assert!(ids.insert(id.as_str().unwrap().to_owned()), "{id}");
        }
        let other = ada.chat("another").await;
        assert!(ids.insert(other["session_id"].as_str().unwrap().to_owned()));
    }
    let path = format!("/api/sessions/{session}/messages");
    let messages = ada.get(&path).await.expect(200);
    let asked: Vec<&Value> = messages["messages"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|message| message["role"] == "user")
        .map(|message| &message["content"])
        .collect();
    assert_eq!(asked, ["0", "1", "2", "3", "4", "5"]);
    // Pages come to an end, and show each conversation once.
    let (mut seen, mut cursor) = (HashSet::new(), String::new());
    loop {
        let page = ada.get(&format!("/api/sessions?limit=2{cursor}")).await;
        let page = page.expect(200);
        for session in page["sessions"].as_array().unwrap() {
            assert!(seen.insert(session["id"].as_str().unwrap().to_owned()));
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen.len(), 6);
}
