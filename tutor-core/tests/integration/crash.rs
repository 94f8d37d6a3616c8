//! What a store keeps when its process is killed, the power fails, or its disk does.
//!
//! A writer runs in a process of its own, which is this test binary again: it works on a store
//! that a URL names, and says on its standard output what was acknowledged. The parent ends it,
//! or makes the disk lie to it, and then looks whether all that it said is true.
//!
//! Nothing here knows a backend but the tests at the end of each file, and what they promise.

mod ledger;
mod process;
mod writer;

mod disk;
mod faults;
mod kill;
mod power;

use std::ffi::OsStr;
use std::path::Path;

/// The URL of a sled store in a directory.
fn sled(directory: &Path) -> String {
    format!("sled:{}", directory.join("store").display())
}

/// The URL of an SQLite file in a directory.
#[cfg(feature = "store-sqlite")]
fn sqlite(directory: &Path) -> String {
    format!("sqlite:///{}", directory.join("tutor.db").display())
}

/// How much to do: `quick`, or what the environment variable says. `make test` does the former.
fn amount(variable: &str, quick: usize) -> usize {
    let text = std::env::var_os(variable);
    text.as_deref()
        .and_then(OsStr::to_str)
        .and_then(|text| text.parse().ok())
        .unwrap_or(quick)
}

/// Numbers that look random and are the same in each run (SplitMix64).
#[derive(Clone, Debug)]
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Less than `end`.
    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }
}
