//! The writer: many sessions at a time, each saying what was acknowledged before it goes on.

use std::io::Write;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use tutor_core::conformance::records::put;
use tutor_core::conformance::sample::{at, end, new_turn, session_key};
use tutor_core::message::{Content, MessageStatus};
use tutor_core::session::SessionPatch;
use tutor_core::store::{
    BegunTurn, Checkpoint, Durability, Expect, Location, MemoryStore, SledStore, Store, TurnEnd,
};
use tutor_core::{Error, TurnStatus};

use super::Dice;
use super::ledger::Ledger;
use super::process::MARK;

/// The test that becomes the writer in a process with [`STORE`] set.
pub(crate) const WRITER: &str = "crash::writer::what_a_writer_says_is_what_it_did";
/// The URL of the writer's store.
pub(crate) const STORE: &str = "CRASH_STORE";
/// Which run of a writer on this store it is: names of turns begin with it.
pub(crate) const ROUND: &str = "CRASH_ROUND";
/// How many sessions write at a time.
pub(crate) const SESSIONS: &str = "CRASH_SESSIONS";
/// How many turns each session takes; without it they go on for ever.
pub(crate) const TURNS: &str = "CRASH_TURNS";
/// Set for messages of 60 KB and more among the small ones.
pub(crate) const LARGE: &str = "CRASH_LARGE";
/// Set for a store that does not wait for the disk.
pub(crate) const UNSYNCED: &str = "CRASH_UNSYNCED";

/// How long a database server may take to answer.
#[cfg(feature = "store-postgres")]
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// The owner of a session: several sessions share one.
pub(crate) fn owner_of(session: &str) -> String {
    let number: usize = session.bytes().map(usize::from).sum();
    format!("owner-{}", number % 3)
}

/// What message `id` says: nothing that another one says, and as long as `large` allows.
pub(crate) fn words(id: &str, large: bool) -> String {
    let seed = id.bytes().fold(7, |seed: u64, byte| {
        seed.wrapping_mul(31).wrapping_add(u64::from(byte))
    });
    let mut dice = Dice(seed);
    let size = match dice.below(4) {
        0 if large => 60_000 + dice.below(200_000),
        _ => 1 + dice.below(2000),
    };
    let mut text = format!("{id}: ");
    while text.len() < size {
        text.push_str(&format!("{:x} ", dice.next()));
    }
    text
}

/// Where a writer says what happened.
type Voice = fn(&str);

/// Says it to the parent, in one write.
pub(crate) fn say_aloud(event: &str) {
    let line = format!("{MARK}{event}\n");
    std::io::stdout().write_all(line.as_bytes()).unwrap();
}

/// What was said in this process.
static SAID: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// What all sessions of a writer share.
#[derive(Clone)]
struct Writer {
    store: Arc<dyn Store>,
    round: usize,
    turns: usize,
    large: bool,
    clock: Arc<AtomicI64>,
    say: Voice,
}

impl Writer {
    fn now(&self) -> tutor_core::time::Timestamp {
        at(self.clock.fetch_add(1, Ordering::Relaxed))
    }

    /// Ends what an earlier process left running.
    async fn recover(&self) -> Result<(), Error> {
        for running in self.store.running_turns().await? {
            let turn = running.turn;
            let cut_off = TurnEnd {
                status: TurnStatus::Interrupted,
                reply: None,
                ended_at: self.now(),
                ..end(&turn)
            };
            self.store.finish_turn(&turn.key(), cut_off).await?;
            (self.say)(&format!("I {} {}", turn.session_id, turn.id));
        }
        Ok(())
    }

    /// Turn after turn in one session.
    async fn talk(self, session: String, turns: usize) -> Result<(), Error> {
        let owner = owner_of(&session);
        let key = session_key(&owner, &session);
        let found = self.store.session(&key).await?;
        let mut head = found.and_then(|found| found.head).map(String::from);
        for n in 0..turns {
            let name = format!("{session}.{}.{n}", self.round);
            let mut new = new_turn(&owner, &session, &name, head.as_deref());
            new.turn.started_at = self.now();
            for message in &mut new.messages {
                message.content = Content::Text(words(message.id.as_str(), self.large));
            }
            let turn = new.turn.clone();
            let begun = self.store.begin_turn(new.clone()).await?;
            assert_eq!(begun, BegunTurn::New);
            (self.say)(&format!("B {session} {name}"));
            if n % 5 == 2 {
                let again = self.store.begin_turn(new).await?;
                assert!(matches!(again, BegunTurn::Existing(_)));
            }
            let mut finish = end(&turn);
            finish.ended_at = self.now();
            if let Some(reply) = &mut finish.reply {
                reply.content = Content::Text(words(reply.id.as_str(), self.large));
                if n % 3 == 1 {
                    let mut partial = reply.clone();
                    partial.status = MessageStatus::Partial;
                    let checkpoint = Checkpoint {
                        partial: Some(partial),
                        trace: finish.trace.clone(),
                        lease_until: at(9_000),
                    };
                    self.store.checkpoint_turn(&turn.key(), checkpoint).await?;
                }
            }
            self.store.finish_turn(&turn.key(), finish).await?;
            (self.say)(&format!("F {session} {name}"));
            if n % 7 == 3 {
                let patch = SessionPatch {
                    title: Some(name.clone()),
                    updated_at: self.now(),
                    ..SessionPatch::default()
                };
                (self.say)(&format!("t {session} {name}"));
                self.store.update_session(&key, patch).await?;
                (self.say)(&format!("T {session} {name}"));
            }
            head = Some(format!("r-{name}"));
        }
        Ok(())
    }

    /// Sessions that come and go.
    async fn come_and_go(self) -> Result<(), Error> {
        for n in 0..self.turns / 3 {
            let session = format!("guest-{}-{n}", self.round);
            let key = session_key(&owner_of(&session), &session);
            self.clone().talk(session.clone(), 3).await?;
            (self.say)(&format!("d {session} -"));
            assert!(self.store.delete_session(&key).await?);
            (self.say)(&format!("D {session} -"));
        }
        Ok(())
    }

    /// Two small documents that always say the same.
    async fn keep_books(self) -> Result<(), Error> {
        for n in 0..self.turns {
            let value = format!("{}.{n}", self.round);
            let pages =
                ["left", "right"].map(|page| put("book", page, value.as_bytes(), Expect::Any));
            (self.say)(&format!("r book {value}"));
            self.store.commit(pages.into()).await?;
            (self.say)(&format!("R book {value}"));
        }
        Ok(())
    }

    async fn work(self, sessions: usize) -> Result<(), Error> {
        self.recover().await?;
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..sessions {
            tasks.spawn(self.clone().talk(format!("s{n}"), self.turns));
        }
        tasks.spawn(self.clone().come_and_go());
        tasks.spawn(self.clone().keep_books());
        while let Some(done) = tasks.join_next().await {
            done.unwrap()?;
        }
        Ok(())
    }
}

pub(crate) fn number(variable: &str) -> Option<usize> {
    std::env::var(variable).ok()?.parse().ok()
}

pub(crate) fn is_set(variable: &str) -> bool {
    std::env::var_os(variable).is_some()
}

/// Opens the store at a URL.
pub(crate) async fn open(url: &str) -> Result<Arc<dyn Store>, Error> {
    if is_set(UNSYNCED) {
        let directory = url.strip_prefix("sled:").unwrap();
        let options = SledStore::options().durability(Durability::Process);
        return Ok(Arc::new(options.open(directory).await?));
    }
    let location: Location = url.parse()?;
    #[cfg(feature = "store-postgres")]
    if let Location::Postgres(url) = &location {
        // What is slow on a busy machine is no failure.
        let options = tutor_core::store::PostgresStore::options()
            .connect_timeout(PATIENCE)
            .timeout(PATIENCE);
        return Ok(Arc::new(options.open(url).await?));
    }
    location.open().await
}

/// In a process with [`STORE`] set this is the writer. Without it a short run in memory, of which
/// the ledger must find everything, and then what is taken away.
#[test]
fn what_a_writer_says_is_what_it_did() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    match std::env::var(STORE) {
        Ok(url) => runtime.block_on(write(&url)),
        Err(_) => runtime.block_on(write_and_compare()),
    }
}

async fn write(url: &str) {
    let store = open(url).await.unwrap();
    say_aloud("O - -");
    let round = number(ROUND).unwrap_or(0);
    let writer = Writer {
        store: Arc::clone(&store),
        round,
        turns: number(TURNS).unwrap_or(usize::MAX),
        large: is_set(LARGE),
        clock: Arc::new(AtomicI64::new(1_000_000 * (round as i64 + 1))),
        say: say_aloud,
    };
    writer.work(number(SESSIONS).unwrap_or(4)).await.unwrap();
    store.close().await.unwrap();
    say_aloud("E - -");
}

async fn write_and_compare() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let writer = Writer {
        store: Arc::clone(&store),
        round: 0,
        turns: 12,
        large: false,
        clock: Arc::new(AtomicI64::new(1_000_000)),
        say: |event| SAID.lock().unwrap().push(event.to_owned()),
    };
    writer.work(4).await.unwrap();
    let mut ledger = Ledger::new(false);
    for line in SAID.lock().unwrap().drain(..) {
        ledger.hear(&line);
    }
    assert_eq!(ledger.turns(), 4 * 12 + 4 * 3);
    let wrong = ledger.clone().compare(&*store, 0).await;
    assert!(wrong.is_empty(), "{wrong:#?}");

    // The control: whatever is said and not there is noticed.
    for line in [
        "B s1 s1.0.12",
        "F s9 s9.0.0",
        "R book 0.12",
        "T s1 s1.0.12",
        "D s2 -",
    ] {
        let mut ledger = ledger.clone();
        if line.starts_with('F') {
            ledger.hear("B s9 s9.0.0");
        }
        ledger.hear(line);
        assert!(!ledger.compare(&*store, 0).await.is_empty(), "{line}");
    }
    let key = session_key(&owner_of("s3"), "s3");
    store.delete_session(&key).await.unwrap();
    assert!(!ledger.compare(&*store, 0).await.is_empty());
}
