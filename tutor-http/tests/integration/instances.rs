//! Two servers on one PostgreSQL and one Redis: whichever a client asks, it is one system; also when
//! one of them is killed, is drained, or Redis goes.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::binary::{Binary, Serving};
use crate::client::{Open, PATIENCE, Request, Response, SentEvent};
use crate::services::{self, Service};

/// Two servers.
struct Pair {
    a: Serving,
    b: Serving,
    // Removed after they ended.
    _place: Binary,
}

impl Pair {
    /// On the database that tests share, and this Redis.
    fn start(redis: &str, args: &[&str], vars: &[(&str, &str)]) -> Self {
        let place = Binary::new();
        let [a, b] = [(); 2].map(|()| serve(&place, redis, args, vars));
        Self {
            a,
            b,
            _place: place,
        }
    }

    fn both(&self) -> [SocketAddr; 2] {
        [self.a.address, self.b.address]
    }
}

fn serve(place: &Binary, redis: &str, args: &[&str], vars: &[(&str, &str)]) -> Serving {
    let own = [("DATABASE_URL", services::postgres()), ("REDIS_URL", redis)];
    place.serve_with(args, &[&own, vars].concat())
}

fn streamed(text: &str) -> Request {
    Request::chat_with(text, json!({"stream": true}))
}

async fn open(request: Request, at: SocketAddr) -> Open {
    let open = request.open(at).await.unwrap();
    assert_eq!(open.status, 200);
    open
}

/// A reply that is being written, and its first event.
async fn begin(at: SocketAddr) -> (Open, SentEvent) {
    let mut stream = open(streamed("What is light?"), at).await;
    let started = stream.event().await.unwrap();
    (stream, started)
}

fn text<'a>(event: &'a SentEvent, name: &str) -> &'a str {
    event.get(name).as_str().unwrap()
}

fn events_of(started: &SentEvent, after: u64) -> Request {
    let turn = text(started, "turn_id");
    Request::get(&format!("/api/turns/{turn}/events?after={after}"))
}

/// The events themselves: without advice on when to come back.
async fn rest(stream: Open) -> Vec<SentEvent> {
    let events = stream.events().await.into_iter();
    events.filter(|event| event.id.is_some()).collect()
}

/// Reads this many events.
async fn take(stream: &mut Open, count: usize) -> Vec<SentEvent> {
    let mut events = Vec::new();
    while events.len() < count {
        let event = stream.event().await.unwrap();
        if event.id.is_some() {
            events.push(event);
        }
    }
    events
}

async fn follow(started: &SentEvent, after: u64, at: SocketAddr) -> Vec<SentEvent> {
    rest(open(events_of(started, after), at).await).await
}

fn numbers(events: &[SentEvent]) -> Vec<u64> {
    events.iter().filter_map(|event| event.id).collect()
}

async fn messages(session: &str, at: SocketAddr) -> Value {
    let path = format!("/api/sessions/{session}/messages?limit=200");
    Request::get(&path).send(at).await.expect(200)["messages"].take()
}

#[tokio::test]
async fn a_reply_is_followed_on_the_other_server_from_every_place() {
    // Long enough for who comes back to find it running, also where little time is left for tests.
    let pair = Pair::start(services::redis(), &[], &[("DEMO_DELAY_MS", "150")]);
    let [a, b] = pair.both();
    let (mut stream, started) = begin(a).await;
    let mut original = vec![started.clone()];
    let early = join_all((0..6).map(|after| follow(&started, after, b)));
    let reading = async {
        original.extend(take(&mut stream, 8).await);
        let late = join_all((0..12).map(|after| follow(&started, after, b)));
        // As `useChat` comes back after a reload.
        let session = text(&started, "session_id");
        let resume = Request::get(&format!("/api/chat/{session}/stream"));
        let (late, resumed) = tokio::join!(late, resume.send(b));
        assert_eq!(resumed.status, 200);
        assert!(resumed.text().contains("\"type\":\"finish\""));
        original.extend(rest(stream).await);
        late
    };
    let (early, late) = tokio::join!(early, reading);
    assert_eq!(original.last().unwrap().kind(), "turn.finished");
    for followed in [early, late] {
        for (after, events) in followed.into_iter().enumerate() {
            assert_eq!(events, original[after..], "behind {after}");
        }
    }
    // Afterwards it is in the store.
    assert_eq!(follow(&started, 3, b).await, original[3..]);
}

#[tokio::test]
async fn a_reply_is_stopped_on_the_other_server() {
    let pair = Pair::start(services::redis(), &[], &[("DEMO_DELAY_MS", "400")]);
    let [a, b] = pair.both();
    let (stream, started) = begin(a).await;
    let follower = open(events_of(&started, 1), b).await;
    let stop = format!("/api/turns/{}/cancel", text(&started, "turn_id"));
    let asked = Instant::now();
    let turn = Request::new("POST", &stop).send(b).await.expect(200);
    assert_eq!(turn["status"], "cancelled");
    assert!(
        asked.elapsed() < Duration::from_secs(3),
        "{:?}",
        asked.elapsed()
    );
    let original = rest(stream).await;
    assert_eq!(original.last().unwrap().get("status"), "cancelled");
    assert_eq!(rest(follower).await, original);
    let again = Request::new("POST", &stop).send(a).await.expect(200);
    assert_eq!(again, turn);
    // By its conversation, as `useChat` does it.
    let (stream, started) = begin(a).await;
    let stop = format!("/api/chat/{}/stop", text(&started, "session_id"));
    let stopped = Request::new("POST", &stop).send(b).await.expect(200);
    assert_eq!(stopped["stopped"], true);
    assert_eq!(
        rest(stream).await.last().unwrap().get("status"),
        "cancelled"
    );
}

#[tokio::test]
async fn one_conversation_goes_on_wherever_it_is_asked() {
    let pair = Pair::start(services::redis(), &[], &[]);
    let [a, b] = pair.both();
    let first = Request::chat("What is light?").send(a).await.expect(200);
    let session = first["session_id"].as_str().unwrap();
    for (turn, at) in [b, a, b, b, a].into_iter().enumerate() {
        let key = format!("{session}-{turn}");
        let ask = || {
            let more = Request::chat_with("And then?", json!({"session_id": session}));
            more.header("Idempotency-Key", &key)
        };
        let told = ask().send(at).await.expect(200);
        // Sent again to the other one, it is the same turn.
        let other = if at == a { b } else { a };
        let again = ask().send(other).await;
        assert_eq!(again.header("idempotency-replayed"), Some("true"));
        assert_eq!(again.expect(200)["turn_id"], told["turn_id"]);
    }
    let (here, there) = (messages(session, a).await, messages(session, b).await);
    assert_eq!(here.as_array().unwrap().len(), 12);
    assert_eq!(here, there);
}

#[tokio::test]
async fn a_request_that_is_sent_again_to_the_other_server_follows_the_reply() {
    let pair = Pair::start(services::redis(), &[], &[("DEMO_DELAY_MS", "40")]);
    let [a, b] = pair.both();
    let request = || streamed("What is light?").header("Idempotency-Key", "once-and-again");
    let mut stream = open(request(), a).await;
    let started = stream.event().await.unwrap();
    let again = open(request(), b).await;
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    let (original, followed) = tokio::join!(rest(stream), rest(again));
    assert_eq!(followed[0], started);
    assert_eq!(followed[1..], original);
}

#[tokio::test]
async fn a_server_that_is_killed_ends_its_reply_for_who_follows_it_elsewhere() {
    let vars = [("DEMO_DELAY_MS", "150"), ("LEASE_SECONDS", "3")];
    let pair = Pair::start(services::redis(), &[], &vars);
    let [a, b] = pair.both();
    let (mut stream, started) = begin(a).await;
    let mut follower = open(events_of(&started, 0), b).await;
    // Long enough for a part of it to be saved.
    take(&mut stream, 12).await;
    let mut seen = take(&mut follower, 8).await;
    pair.a.signal("KILL");
    seen.extend(rest(follower).await);
    let (last, before) = seen.split_last().unwrap();
    assert_eq!(last.kind(), "turn.failed");
    assert_eq!(last.get("error")["code"], "interrupted");
    let partial = last.get("partial")["content"].as_str().unwrap();
    let deltas = before.iter().filter(|event| event.kind() == "text.delta");
    let told: String = deltas.map(|delta| text(delta, "text")).collect();
    assert!(
        !partial.is_empty() && told.starts_with(partial),
        "{partial:?} {told:?}"
    );
    assert_eq!(numbers(&seen), (1..=seen.len() as u64).collect::<Vec<_>>());
    // Whoever knows the last event is told not to come back, and the conversation goes on.
    let known = events_of(&started, seen.len() as u64);
    assert_eq!(known.send(b).await.status, 204);
    let session = text(&started, "session_id");
    let more = Request::chat_with("Go on", json!({"session_id": session}));
    more.send(b).await.expect(200);
    assert_eq!(messages(session, b).await.as_array().unwrap().len(), 4);
}

#[tokio::test]
async fn a_server_that_stops_loses_nothing_for_who_comes_back_to_the_other_one() {
    let vars = [("DEMO_DELAY_MS", "150")];
    let pair = Pair::start(services::redis(), &["--drain-seconds", "1"], &vars);
    let [a, b] = pair.both();
    let (mut stream, started) = begin(a).await;
    let follower = open(events_of(&started, 0), b).await;
    let mut seen = vec![started.clone()];
    seen.extend(take(&mut stream, 4).await);
    pair.a.signal("TERM");
    // The stream ends with advice to come back, and not with an end of the reply.
    seen.extend(rest(stream).await);
    assert!(!seen.last().unwrap().kind().starts_with("turn.f"));
    let resumed = open(events_of(&started, seen.len() as u64), b).await;
    let (whole, resumed) = tokio::join!(rest(follower), rest(resumed));
    assert_eq!(whole.last().unwrap().get("error")["code"], "interrupted");
    seen.extend(resumed);
    assert_eq!(seen, whole);
    assert_eq!(pair.a.ended(), Some(0));
    // It is what the store has.
    assert_eq!(follow(&started, 0, b).await, whole);
}

async fn readiness(at: SocketAddr) -> Value {
    Request::get("/readyz").send(at).await.expect(200)
}

async fn fallbacks(what: &str, at: SocketAddr) -> u64 {
    let counts = Request::get("/metrics").send(at).await.text();
    let name = format!("neuro_tutor_redis_fallbacks{{what=\"{what}\"}} ");
    let line = counts.lines().find_map(|line| line.strip_prefix(&name));
    line.unwrap_or_else(|| panic!("{counts}")).parse().unwrap()
}

#[tokio::test]
async fn without_redis_everything_goes_on_and_with_it_again_it_is_as_before() {
    let mut redis = Service::redis();
    let pair = Pair::start(&redis.url, &[], &[("DEMO_DELAY_MS", "60")]);
    let [a, b] = pair.both();
    assert_eq!(readiness(b).await["redis"], "ready");
    let (mut stream, started) = begin(a).await;
    let mut follower = open(events_of(&started, 0), b).await;
    let mut original = vec![started.clone()];
    original.extend(take(&mut stream, 5).await);
    let mut followed = take(&mut follower, 4).await;
    redis.tell("stop");
    let late = open(events_of(&started, 2), b).await;
    // Chatting does not need it.
    for at in [a, b] {
        let asked = Instant::now();
        Request::chat("Hello").send(at).await.expect(200);
        // The demo's own time is in it.
        assert!(
            asked.elapsed() < Duration::from_secs(15),
            "{:?}",
            asked.elapsed()
        );
    }
    original.extend(rest(stream).await);
    followed.extend(rest(follower).await);
    assert_eq!(followed, original);
    assert_eq!(rest(late).await, original[2..]);
    let told = readiness(b).await;
    assert_eq!(
        (&told["status"], &told["redis"]),
        (&json!("ready"), &json!("unavailable"))
    );
    assert!(fallbacks("events", b).await > 0);
    redis.tell("start");
    // It comes back in the middle of a reply, and has lost all that it was told.
    let (stream, started) = begin(a).await;
    let back = async {
        while readiness(b).await["redis"] != "ready" {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, back).await.unwrap();
    let (original, followed) = tokio::join!(rest(stream), follow(&started, 1, b));
    assert_eq!(followed, original);
    let (stream, started) = begin(b).await;
    let stop = format!("/api/turns/{}/cancel", text(&started, "turn_id"));
    let stopped = Request::new("POST", &stop).send(a).await.expect(200);
    assert_eq!(stopped["status"], "cancelled");
    drop(stream);
}

#[tokio::test]
async fn a_redis_that_answers_nobody_keeps_nobody_waiting() {
    let mut redis = Service::redis();
    let vars = [
        ("REQUESTS_PER_MINUTE", "1000"),
        ("ADDRESS_REQUESTS_PER_MINUTE", "1000"),
        ("MAX_LIVE_TURNS_PER_PERSON", "100"),
    ];
    let pair = Pair::start(&redis.url, &[], &vars);
    Request::chat("Hello")
        .send(pair.a.address)
        .await
        .expect(200);
    redis.tell("hang");
    let mut waits = Vec::new();
    for n in 0..20 {
        let asked = Instant::now();
        let at = pair.both()[n % 2];
        Request::chat("Hello").send(at).await.expect(200);
        waits.push(asked.elapsed());
    }
    waits.sort_unstable();
    // Whoever finds out waits; the others do not.
    assert!(waits[10] < Duration::from_millis(700), "{waits:?}");
    assert!(waits[19] < Duration::from_secs(5), "{waits:?}");
    redis.tell("go");
}

/// How many of so many requests are let in, alternately by both.
async fn let_in(pair: &Pair, count: usize) -> usize {
    let both = pair.both();
    let mut inside = 0;
    for n in 0..count {
        let told = Request::get("/api/sessions?limit=1")
            .send(both[n % 2])
            .await;
        match told.status {
            200 => inside += 1,
            429 => assert_eq!(told.json()["limit"]["name"], "address_requests_per_minute"),
            status => panic!("{status}: {}", told.text()),
        }
    }
    inside
}

#[tokio::test]
async fn requests_are_counted_together_and_without_redis_by_each_server_and_not_by_none() {
    const ALLOWED: usize = 200;
    let mut redis = Service::redis();
    let allowed = ALLOWED.to_string();
    let vars = [("ADDRESS_REQUESTS_PER_MINUTE", allowed.as_str())];
    let pair = Pair::start(&redis.url, &[], &vars);
    let began = Instant::now();
    let inside = let_in(&pair, 2 * ALLOWED).await;
    // What came back meanwhile.
    let earned = began.elapsed().as_secs_f64() * ALLOWED as f64 / 60.0;
    let (least, most) = (ALLOWED as f64 * 0.95, ALLOWED as f64 * 1.05 + earned);
    assert!(
        (least..=most).contains(&(inside as f64)),
        "{inside}, {earned} earned"
    );
    redis.tell("stop");
    let began = Instant::now();
    let inside = let_in(&pair, 3 * ALLOWED).await;
    let earned = 2.0 * began.elapsed().as_secs_f64() * ALLOWED as f64 / 60.0;
    let (least, most) = (2.0 * ALLOWED as f64, 2.0 * ALLOWED as f64 + earned + 1.0);
    assert!(
        (least..=most).contains(&(inside as f64)),
        "{inside}, {earned} earned"
    );
}

#[tokio::test]
async fn replies_of_a_person_are_counted_together() {
    let redis = Service::redis();
    let vars = [("DEMO_DELAY_MS", "300"), ("MAX_LIVE_TURNS_PER_PERSON", "2")];
    let pair = Pair::start(&redis.url, &[], &vars);
    let [a, b] = pair.both();
    let (first, started) = begin(a).await;
    let (second, _) = begin(b).await;
    for at in [a, b] {
        let refused = streamed("One more").send(at).await;
        assert_eq!(refused.expect(429)["limit"]["name"], "live_turns");
    }
    let stop = format!("/api/turns/{}/cancel", text(&started, "turn_id"));
    Request::new("POST", &stop).send(b).await.expect(200);
    let third = async {
        loop {
            let third = streamed("One more").open(b).await.unwrap();
            if third.status == 200 {
                return third;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    let third = timeout(PATIENCE, third).await.unwrap();
    drop((first, second, third));
}

#[tokio::test]
async fn who_was_turned_away_on_one_server_is_turned_away_on_the_other() {
    let redis = Service::redis();
    let vars = [("AUTH", "required"), ("DEMO_DELAY_MS", "200")];
    let pair = Pair::start(&redis.url, &[], &vars);
    let [a, b] = pair.both();
    let person = json!({"email": "ada@instances.example", "password": "correct horse battery"});
    let post = |path: &str| Request::post(path, &person);
    let told = post("/api/auth/register").send(a).await.expect(201);
    let bearer = |told: &Value| format!("Bearer {}", told["access_token"].as_str().unwrap());
    let first = bearer(&told);
    let me = |bearer: &str| Request::get("/api/auth/me").header("Authorization", bearer);
    me(&first).send(b).await.expect(200);
    let second = bearer(&post("/api/auth/login").send(b).await.expect(200));
    // A stream on one, whose reader signs out on the other.
    let stream = streamed("What is light?").header("Authorization", &first);
    let mut stream = open(stream, b).await;
    stream.event().await.unwrap();
    let out = Request::post("/api/auth/logout", &json!({}));
    let out = out.header("Authorization", &first).send(a).await;
    assert!(out.status < 300, "{}", out.status);
    let began = Instant::now();
    assert_eq!(me(&first).send(b).await.status, 401);
    let cut = stream.events().await;
    let last = cut.last().map(SentEvent::kind).unwrap_or_default();
    assert!(!last.starts_with("turn.f"), "it was not cut");
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    // The other sign-in is not concerned, until everything of theirs is deleted on the other server.
    me(&second).send(b).await.expect(200);
    let gone = json!({"password": "correct horse battery"});
    let gone = Request::new("DELETE", "/api/auth/me").json(&gone);
    let gone = gone.header("Authorization", &second).send(a).await;
    gone.expect_empty(204);
    assert_eq!(me(&second).send(b).await.status, 401);
    // Of their reply that ran on the other server nothing is left in Redis.
    let id = told["user"]["id"].as_str().unwrap();
    for (key, _) in keys(&redis.url).await {
        assert!(!key.contains(id) || !key.contains(":turn"), "{key}");
    }
}

#[tokio::test]
async fn wrong_passwords_on_one_server_are_a_pause_on_the_other() {
    let mut redis = Service::redis();
    let pair = Pair::start(&redis.url, &[], &[("AUTH", "required")]);
    let [a, b] = pair.both();
    let post = |path: &str, password: &str| {
        let person = json!({"email": "ada@instances.example", "password": password});
        Request::post(path, &person)
    };
    let right = "correct horse battery";
    post("/api/auth/register", right).send(a).await.expect(201);
    post("/api/auth/login", right).send(b).await.expect(200);
    // All at once, so that none has to wait for the pause after another one.
    let wrong: Vec<_> = (0..12)
        .map(|_| post("/api/auth/login", "wrong horse battery"))
        .collect();
    let tried = join_all(wrong.iter().map(|wrong| wrong.send(a))).await;
    assert!(
        tried
            .iter()
            .all(|told| told.status == 401 || told.status == 429)
    );
    let refused = post("/api/auth/login", right).send(b).await;
    assert!(
        refused.expect(429)["detail"]
            .as_str()
            .unwrap()
            .contains("this account failed")
    );
    assert!(refused.header("retry-after").is_some());
    for (key, left) in keys(&redis.url).await {
        assert!(!key.contains("ada@") && left > 0, "{key} has {left} ms");
    }
    // Without Redis each knows what it saw itself.
    redis.tell("stop");
    post("/api/auth/login", right).send(b).await.expect(200);
}

/// The keys in Redis, and how many milliseconds each has to live.
async fn keys(url: &str) -> HashMap<String, i64> {
    let client = redis::Client::open(url).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let keys: Vec<String> = redis::cmd("KEYS")
        .arg("*")
        .query_async(&mut connection)
        .await
        .unwrap();
    let mut found = HashMap::new();
    for key in keys {
        let mut left = redis::cmd("PTTL");
        let left = left.arg(&key).query_async(&mut connection).await.unwrap();
        found.insert(key, left);
    }
    found
}

#[tokio::test]
async fn what_redis_has_names_its_owner_expires_and_goes_with_its_conversation() {
    let redis = Service::redis();
    let vars = [
        ("DEMO_DELAY_MS", "100"),
        ("MAX_LIVE_TURNS_PER_PERSON", "5"),
        ("ADDRESS_REQUESTS_PER_MINUTE", "1000"),
    ];
    let pair = Pair::start(&redis.url, &[], &vars);
    let [a, b] = pair.both();
    let (stream, started) = begin(a).await;
    let follower = open(events_of(&started, 0), b).await;
    let turn = text(&started, "turn_id").to_owned();
    let told = async {
        loop {
            let found = keys(&redis.url).await;
            if found.keys().any(|key| key.contains(&turn)) {
                return found;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    let found = timeout(PATIENCE, told).await.unwrap();
    for (key, left) in &found {
        let names = [":local", ":turn:5:local:", ":bucket:requests:address "];
        assert!(key.starts_with("neuro-tutor:"), "{key}");
        assert!(names.iter().any(|name| key.contains(name)), "{key}");
        assert!((1..=700_000).contains(left), "{key} has {left} ms");
    }
    let session = format!("/api/sessions/{}", text(&started, "session_id"));
    let deleted = Request::new("DELETE", &session).send(b).await;
    assert!(deleted.status < 300, "{}", deleted.status);
    rest(stream).await;
    rest(follower).await;
    let left = keys(&redis.url).await;
    assert!(left.keys().all(|key| !key.contains(&turn)), "{left:?}");
}

/// Sends a request to one of both, and on a failure to the other one, with the same key.
async fn insist(places: &Mutex<[SocketAddr; 2]>, first: usize, request: &Request) -> Response {
    let give_up = Instant::now() + PATIENCE;
    let mut at = first;
    loop {
        let place = places.lock().unwrap()[at % 2];
        match timeout(PATIENCE, request.try_send(place)).await.unwrap() {
            Ok(told) if told.status == 200 || told.json()["code"] == "interrupted" => return told,
            Ok(told) if told.status == 503 || told.status == 409 => {}
            Ok(told) => return told,
            Err(_) => {}
        }
        assert!(Instant::now() < give_up, "nobody answers");
        at += 1;
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn servers_are_restarted_one_after_the_other_and_no_request_fails_or_is_done_twice() {
    const CLIENTS: usize = 4;
    let redis = services::redis();
    let place = Binary::new();
    let start = || {
        serve(
            &place,
            redis,
            &["--drain-seconds", "5"],
            &[("LEASE_SECONDS", "3")],
        )
    };
    let mut servers = [start(), start()];
    let places = Arc::new(Mutex::new([servers[0].address, servers[1].address]));
    let (over, failed) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let (places, over, failed) = (places.clone(), over.clone(), failed.clone());
            tokio::spawn(async move {
                let mut done = 0;
                let mut session = None;
                while !over.load(Ordering::SeqCst) {
                    let more = match &session {
                        Some(session) => json!({"session_id": session}),
                        None => json!({}),
                    };
                    let id = format!("rolling-{client}-{done}");
                    let request = Request::chat_with(&id, more).header("Idempotency-Key", &id);
                    let told = insist(&places, client + done, &request).await;
                    let body = told.json();
                    // A reply that its server took with it: the words are stored all the same.
                    if told.status != 200 && body["code"] != "interrupted" {
                        failed.fetch_add(1, Ordering::SeqCst);
                        panic!("{}: {}", told.status, told.text());
                    }
                    let named = body["session_id"].as_str().map(str::to_owned);
                    session = named.or(session);
                    done += 1;
                }
                (session.unwrap(), done)
            })
        })
        .collect();
    // Politely, and the last one by force.
    for (n, signal) in [(0, "TERM"), (1, "TERM"), (0, "KILL")] {
        sleep(Duration::from_millis(500)).await;
        servers[n].signal(signal);
        let new = start();
        places.lock().unwrap()[n] = new.address;
        let old = std::mem::replace(&mut servers[n], new);
        tokio::task::spawn_blocking(move || old.ended())
            .await
            .unwrap();
    }
    sleep(Duration::from_millis(500)).await;
    over.store(true, Ordering::SeqCst);
    for client in clients {
        let (session, done) = client.await.unwrap();
        assert!(done > 0);
        let all = messages(&session, servers[1].address).await;
        let all = all.as_array().unwrap();
        let said: Vec<&Value> = all
            .iter()
            .filter(|message| message["role"] == "user")
            .collect();
        let mut texts: Vec<&str> = said.iter().filter_map(|m| m["content"].as_str()).collect();
        let count = texts.len();
        texts.dedup();
        assert_eq!(texts.len(), count, "a message is there twice: {texts:?}");
        // A page has the newest 200 messages.
        assert_eq!(count, done.min(100));
    }
    assert_eq!(failed.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn redis_is_spoken_to_by_tls_with_who_has_a_certificate_of_the_named_authority() {
    let [certificate, key, other] = ["one.pem", "one.key", "two.pem"].map(crate::tls::fixture);
    let redis = Service::redis_with(&certificate, &key);
    let certificate = certificate.to_str().unwrap();
    let pair = Pair::start(&redis.url, &[], &[("REDIS_CA", certificate)]);
    let [a, b] = pair.both();
    assert_eq!(readiness(b).await["redis"], "ready");
    let (stream, started) = begin(a).await;
    let (original, followed) = tokio::join!(rest(stream), follow(&started, 0, b));
    assert_eq!(followed[1..], original);
    // Nobody else is believed: neither whom the machine trusts, nor another authority.
    let strangers = [vec![], vec![("REDIS_CA", other.to_str().unwrap())]];
    for vars in strangers {
        let place = Binary::new();
        let server = serve(&place, &redis.url, &[], &vars);
        assert_eq!(readiness(server.address).await["redis"], "unavailable");
        Request::chat("Hello")
            .send(server.address)
            .await
            .expect(200);
    }
    // What cannot be meant is said.
    let place = Binary::new();
    for (redis, authority) in [
        ("redis://127.0.0.1:1", certificate),
        ("rediss://127.0.0.1:1", "none.pem"),
        ("", certificate),
        ("redis+cluster://127.0.0.1:1", ""),
        ("redis-sentinel://127.0.0.1:1", ""),
    ] {
        let vars = format!("REDIS_URL={redis}\nREDIS_CA={authority}\n");
        std::fs::write(place.path(".env"), vars).unwrap();
        let said = place.run(&["config"]).refused(2);
        assert!(said.to_lowercase().contains("redis"), "{said}");
    }
}
