//! Writers that are killed at random moments, again and again on the same store.

use std::ffi::OsString;
use std::path::Path;
use std::thread;
use std::time::Duration;

use super::ledger::Ledger;
use super::process::Process;
use super::writer::{self, LARGE, ROUND, SESSIONS, STORE, WRITER};
use super::{Dice, amount};

/// How many rounds; 24 without it. Nightly at least 200.
const ROUNDS: &str = "KILL_ROUNDS";

/// After how many rounds a new store is begun, so that checks stay short.
const ROUNDS_OF_A_STORE: usize = 8;

/// Kills writers on stores that `url` places in a directory, and checks each time that nothing
/// acknowledged is lost, nothing is half there, and all indexes agree.
fn survives_kills(url: impl Fn(&Path) -> String, seed: u64) {
    let mut dice = Dice(seed);
    let (mut acknowledged, mut store) = (0, None);
    for round in 0..amount(ROUNDS, 24) {
        if round % ROUNDS_OF_A_STORE == 0 {
            store = Some((tempfile::tempdir().unwrap(), Ledger::new(round % 16 != 0)));
        }
        let (directory, ledger) = store.as_mut().unwrap();
        let url = url(directory.path());
        acknowledged += one_kill(&url, ledger, round, &mut dice);
    }
    assert!(acknowledged > 0, "no writer came to write");
}

/// Gives how many turns were acknowledged.
fn one_kill(url: &str, ledger: &mut Ledger, round: usize, dice: &mut Dice) -> usize {
    let mut variables = vec![
        (STORE, OsString::from(url)),
        (ROUND, round.to_string().into()),
        (SESSIONS, [1, 4, 16, 64][dice.below(4)].to_string().into()),
    ];
    if ledger.is_large() {
        variables.push((LARGE, "1".into()));
    }
    let mut process = Process::start(WRITER, &variables);
    let before = ledger.turns();
    if dice.below(5) == 0 {
        // While the store is being opened, perhaps.
        thread::sleep(Duration::from_millis(dice.next() % 100));
    } else {
        for _ in 0..1 + dice.below(300) {
            let line = process.line().expect("the writer has ended by itself");
            ledger.hear(&line);
        }
        // Lines come in bursts, after each group: the kill does not.
        thread::sleep(Duration::from_micros(dice.next() % 5000));
    }
    for line in process.kill() {
        ledger.hear(&line);
    }
    let acknowledged = ledger.turns() - before;

    let runtime = tokio::runtime::Runtime::new().unwrap();
    let wrong = runtime.block_on(async {
        let store = writer::open(url).await.unwrap();
        let wrong = ledger.compare(&*store, round).await;
        store.close().await.unwrap();
        wrong
    });
    assert!(wrong.is_empty(), "round {round}: {wrong:#?}");
    acknowledged
}

#[test]
fn sled_keeps_what_it_acknowledged_when_its_process_is_killed() {
    survives_kills(super::sled, 1);
}

#[cfg(feature = "store-sqlite")]
#[test]
fn sqlite_keeps_what_it_acknowledged_when_its_process_is_killed() {
    survives_kills(super::sqlite, 2);
}

#[cfg(feature = "store-postgres")]
#[test]
fn postgresql_keeps_what_it_acknowledged_when_its_client_is_killed() {
    survives_kills(
        |directory| {
            let name = directory.file_name().unwrap().to_string_lossy();
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(crate::postgres::create(&format!("kill{name}")))
        },
        3,
    );
}
