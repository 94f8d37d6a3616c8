//! What each owner uses, day by day, and how much they may.
//!
//! A day is one of UTC, written like `2026-11-26`. Accounts are records, so that every instance on
//! the same store shares them, and they are exported and erased with their owner.

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::id::OwnerId;
use crate::session::MAX_PAGE;
use crate::store::{KeyRange, RecordStore, document};
use crate::time::Timestamp;

mod account;
pub(crate) mod ledger;
mod payer;

use account::Account;
pub use payer::Payer;
pub(crate) use payer::Payers;

/// The kind of the records. A key is `owner/day`.
const KIND: &str = "usage";

/// The kind of the records of payers. A key is `/day/payer`: no owner has an empty name.
const PAYER_KIND: &str = "payer";

const DAY_MICROS: i64 = 24 * 60 * 60 * 1_000_000;

/// How much one owner may use in a day; `None` for any amount.
///
/// A turn reserves what it may need before the provider is asked, in a durable write, and is
/// settled by what the provider says that it consumed: also when many turns begin at once, on
/// several instances, and after a crash. What does not fit is refused with `rate_limited`; the
/// context of the error has the `limit`'s name, its `quota`, what is `remaining` of it, and the
/// seconds until its `reset`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Quota {
    /// Turns.
    pub turns_per_day: Option<u64>,
    /// Tokens sent and received. A reply may be as long as what is left allows; a provider that
    /// does not heed that is counted in full.
    pub tokens_per_day: Option<u64>,
    /// US dollars, for models whose price is known. One whose price is not known cannot be chosen
    /// then by whoever asks; if it is what a provider is set up with, it costs nothing here.
    pub cost_usd_per_day: Option<f64>,
    /// Bytes of uploaded files.
    pub upload_bytes_per_day: Option<u64>,
}

impl Quota {
    /// True if turns are counted against it.
    pub(crate) fn limits_turns(&self) -> bool {
        self.turns_per_day.is_some()
            || self.tokens_per_day.is_some()
            || self.cost_usd_per_day.is_some()
    }

    pub(crate) fn check(&self) -> Result<()> {
        match self.cost_usd_per_day {
            Some(cost) if !cost.is_finite() || cost < 0.0 => Err(Error::new(
                ErrorKind::Config,
                "the quota cost_usd_per_day is a number from 0",
            )),
            _ => Ok(()),
        }
    }
}

/// What one owner used in one day.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DayUsage {
    /// Whose.
    pub owner: OwnerId,
    /// Of UTC, like `2026-11-26`: the one in which a turn began.
    pub day: String,
    /// Turns that have ended.
    pub turns: u64,
    /// Of them, those that failed or were interrupted.
    pub failed_turns: u64,
    /// Of them, those that were cancelled.
    pub cancelled_turns: u64,
    /// Tokens sent, by the providers' count, or by estimate where they did not say.
    pub input_tokens: u64,
    /// Tokens received, likewise.
    pub output_tokens: u64,
    /// US dollars, of models whose price is known.
    pub cost_usd: f64,
    /// Milliseconds to the first word, on average; `None` if there was none.
    pub first_token_ms: Option<u64>,
    /// Thumbs up for replies, given on this day.
    pub thumbs_up: u64,
    /// Thumbs down, likewise.
    pub thumbs_down: u64,
    /// Bytes of files that were uploaded, whether they are still there or not.
    pub upload_bytes: u64,
}

/// Whose usage, and of which days.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsageQuery {
    /// Of this owner; of all if it is `None`.
    pub owner: Option<OwnerId>,
    /// The first day; the earliest one if it is `None`.
    pub from: Option<String>,
    /// The last day; the latest one if it is `None`.
    pub to: Option<String>,
    /// Go on behind this owner and day.
    pub after: Option<(OwnerId, String)>,
    /// At most so many, 1 to [`MAX_PAGE`].
    pub limit: usize,
}

/// What owners used, in the order of their ids' bytes and of the days. Fewer than the limit mean
/// that there is no more. What ended within the last second may be missing: see
/// [`Tutor::flush_usage`](crate::Tutor::flush_usage).
///
/// # Errors
/// `invalid_input` for days that are none, and a limit out of range; errors of the store.
pub async fn report(records: &dyn RecordStore, query: &UsageQuery) -> Result<Vec<DayUsage>> {
    if !(1..=MAX_PAGE).contains(&query.limit) {
        return Err(Error::invalid_input(format!(
            "a page has 1 to {MAX_PAGE} items"
        )));
    }
    for (field, day) in [("from", &query.from), ("to", &query.to)] {
        if let Some(day) = day {
            check_day(day).map_err(|error| error.with_context("field", field))?;
        }
    }
    let mut after = query.after.as_ref().map(|(owner, day)| key(owner, day));
    let prefix = query.owner.as_ref().map(|owner| format!("{owner}/"));
    let prefix = prefix.unwrap_or_default();
    let is_within = |day: &str| {
        query.from.as_deref().is_none_or(|from| from <= day)
            && query.to.as_deref().is_none_or(|to| day <= to)
    };
    let mut found = Vec::new();
    loop {
        let range = KeyRange {
            prefix: prefix.clone(),
            after: after.take(),
        };
        let page = records.scan(KIND, range, MAX_PAGE).await?;
        let is_last = page.len() < MAX_PAGE;
        after = page.last().map(|record| record.key.clone());
        for record in page {
            let Some((owner, day)) = record.key.split_once('/') else {
                continue;
            };
            if !is_within(day) {
                continue;
            }
            let account: Account = document::read(KIND, &record.value)?;
            found.push(account.shown(OwnerId::new(owner)?, day));
            if found.len() == query.limit {
                return Ok(found);
            }
        }
        if is_last {
            return Ok(found);
        }
    }
}

fn check_day(day: &str) -> Result<()> {
    match format!("{day}T00:00:00Z").parse::<Timestamp>() {
        Ok(_) if day.len() == "2026-11-26".len() => Ok(()),
        _ => Err(Error::invalid_input("a day is written like 2026-11-26")),
    }
}

fn key(owner: &OwnerId, day: &str) -> String {
    format!("{owner}/{day}")
}

/// The day in which this moment is.
fn day_of(time: Timestamp) -> String {
    let mut text = time.to_string();
    text.truncate("2026-11-26".len());
    text
}

/// The seconds until the next day.
fn until_tomorrow(time: Timestamp) -> u64 {
    let gone = time.as_micros().rem_euclid(DAY_MICROS);
    let left = (DAY_MICROS - gone).unsigned_abs();
    left.div_ceil(1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_of_utc_and_end_at_midnight() {
        let time: Timestamp = "2026-11-26T23:59:58.500000Z".parse().unwrap();
        assert_eq!(
            (day_of(time).as_str(), until_tomorrow(time)),
            ("2026-11-26", 2)
        );
        let midnight: Timestamp = "2026-11-27T00:00:00Z".parse().unwrap();
        assert_eq!(until_tomorrow(midnight), 86_400);
        for bad in ["2026-11", "2026-13-01", "today", "2026-11-26T00"] {
            assert!(check_day(bad).is_err(), "{bad}");
        }
        check_day("2026-11-26").unwrap();
    }
}
