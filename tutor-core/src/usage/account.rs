//! The account of one day: an owner's, or a payer's.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{DayUsage, Quota};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{OwnerId, TurnId};
use crate::message::Usage;
use crate::time::Timestamp;
use crate::turn::TurnStatus;

/// The account as it is stored. Money is in millionths of a US dollar, so that sums are exact.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Account {
    turns: u64,
    failed_turns: u64,
    cancelled_turns: u64,
    input_tokens: u64,
    output_tokens: u64,
    cost_micros: u64,
    first_tokens: u64,
    first_token_ms: u64,
    thumbs_up: i64,
    thumbs_down: i64,
    upload_bytes: u64,
    /// What running turns have reserved.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    holds: BTreeMap<TurnId, Hold>,
}

/// What a running turn has reserved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Hold {
    tokens: u64,
    cost_micros: u64,
    /// When the turn has ended in any case.
    until: Timestamp,
    /// Whose turn it is, in the account of a payer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    owner: Option<OwnerId>,
}

/// What an account may come to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms<'a> {
    pub(super) quota: &'a Quota,
    /// What kind of payer it is of; `None` for an owner's.
    pub(super) payer: Option<&'static str>,
    /// The seconds until the next day.
    pub(super) reset: u64,
}

/// How soon to try again what others may leave room for, who are being answered.
const RESERVED_RETRY: Duration = Duration::from_secs(5);

/// Why something does not fit.
#[derive(Clone, Copy, Debug)]
enum Lack {
    /// It is more than there is in a whole day.
    Ever,
    /// What replies that are being written leave of what they reserved may be enough.
    Reserved,
    /// The rest of the day's is not enough.
    Today,
}

impl Lack {
    /// `wanted` of `max`, of which so much was used and so much is reserved.
    fn of(wanted: u64, max: u64, used: u64) -> Self {
        if wanted > max {
            Self::Ever
        } else if used.saturating_add(wanted) <= max {
            Self::Reserved
        } else {
            Self::Today
        }
    }
}

impl Terms<'_> {
    /// The refusal, in words for a learner.
    fn refusal(
        &self,
        lack: Lack,
        limit: &str,
        what: &str,
        quota: impl fmt::Display,
        remaining: impl fmt::Display,
    ) -> Error {
        let (limit, whose) = match self.payer {
            None => (limit.to_owned(), String::new()),
            Some(kind) => (format!("{kind}_{limit}"), format!(" for this {kind}")),
        };
        let allowance = format!("allowance of {quota} {what}{whose}");
        let error = match lack {
            Lack::Ever => Error::new(
                ErrorKind::TooLarge,
                format!("this needs more than the whole {allowance} of a day: ask for less"),
            ),
            Lack::Reserved => Error::new(
                ErrorKind::RateLimited,
                format!(
                    "the rest of today's {allowance} is reserved by replies that are being \
                     written: try again when one has ended"
                ),
            )
            .retryable(Some(RESERVED_RETRY)),
            Lack::Today => Error::new(
                ErrorKind::RateLimited,
                format!(
                    "what is left of today's {allowance} is not enough for this: it begins anew at \
                     midnight UTC, in {}",
                    hours_and_minutes(self.reset)
                ),
            )
            .retryable(Some(Duration::from_secs(self.reset))),
        };
        error
            .with_context("limit", limit)
            .with_context("quota", quota)
            .with_context("remaining", remaining)
            .with_context("reset", self.reset)
    }
}

/// Such as `3 h 5 min`, rounded up.
fn hours_and_minutes(seconds: u64) -> String {
    let minutes = seconds.div_ceil(60);
    match (minutes / 60, minutes % 60) {
        (0, minutes) => format!("{minutes} min"),
        (hours, 0) => format!("{hours} h"),
        (hours, minutes) => format!("{hours} h {minutes} min"),
    }
}

/// What a turn wants to reserve.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    pub(crate) turn: TurnId,
    pub(crate) owner: OwnerId,
    /// By estimate.
    pub(crate) input_tokens: u64,
    /// The longest reply that is expected.
    pub(crate) output_tokens: u64,
    /// What that costs in US dollars; `None` if the price is not known.
    pub(crate) cost_usd: Option<f64>,
    /// True if whoever asks chose a model whose price is not known.
    pub(crate) is_unpriced_choice: bool,
    /// When the turn has ended in any case.
    pub(crate) until: Timestamp,
}

/// What a turn came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spent {
    pub(crate) status: TurnStatus,
    pub(crate) usage: Usage,
    /// From the request to the first word.
    pub(crate) first_token: Option<Duration>,
}

impl Account {
    /// Reserves what the turn wishes, or less of a reply. Returns the tokens that the reply may
    /// have.
    pub(super) fn reserve(&mut self, wish: &Wish, terms: Terms<'_>) -> Result<u64> {
        let quota = terms.quota;
        let running = self.holds.len() as u64;
        if let Some(max) = quota.turns_per_day
            && self.turns.saturating_add(running) >= max
        {
            let lack = Lack::of(1, max, self.turns);
            return Err(terms.refusal(lack, "turns_per_day", "replies", max, 0));
        }
        let mut output = wish.output_tokens;
        if let Some(max) = quota.tokens_per_day {
            let held: u64 = self.holds.values().map(|hold| hold.tokens).sum();
            let used = self.input_tokens.saturating_add(self.output_tokens);
            let left = max.saturating_sub(used.saturating_add(held));
            match left.checked_sub(wish.input_tokens) {
                Some(room) if room > 0 => output = output.min(room),
                _ => {
                    let lack = Lack::of(wish.input_tokens.saturating_add(1), max, used);
                    return Err(terms.refusal(lack, "tokens_per_day", "tokens", max, left));
                }
            }
        }
        let cost_micros = wish.cost_usd.map_or(0, micros);
        if let Some(max) = quota.cost_usd_per_day {
            if wish.is_unpriced_choice {
                // Whoever may spend so much could spend anything.
                return Err(Error::invalid_input(
                    "what this model costs is not known, and what may be spent in a day is limited: \
                     choose another model, or none",
                )
                .with_context("field", "preferences.model"));
            }
            let held: u64 = self.holds.values().map(|hold| hold.cost_micros).sum();
            let left = micros(max).saturating_sub(self.cost_micros.saturating_add(held));
            if left < cost_micros || left == 0 {
                let lack = Lack::of(cost_micros.max(1), micros(max), self.cost_micros);
                let left = dollars(left);
                return Err(terms.refusal(lack, "cost_usd_per_day", "US dollars", max, left));
            }
        }
        let hold = Hold {
            tokens: wish.input_tokens.saturating_add(output),
            cost_micros,
            until: wish.until,
            owner: terms.payer.map(|_| wish.owner.clone()),
        };
        self.holds.insert(wish.turn.clone(), hold);
        Ok(output)
    }

    /// Turns whose reservation should be over, and whose they are if the account does not say.
    pub(super) fn lapsed(&self, now: Timestamp) -> Vec<(TurnId, Option<OwnerId>)> {
        let lapsed = self.holds.iter().filter(|(_, hold)| hold.until < now);
        lapsed
            .map(|(turn, hold)| (turn.clone(), hold.owner.clone()))
            .collect()
    }

    /// Gives up a reservation. False if there is none.
    pub(super) fn release(&mut self, turn: &TurnId) -> bool {
        self.holds.remove(turn).is_some()
    }

    /// Counts a turn that has ended.
    pub(super) fn settle(&mut self, spent: &Spent) {
        self.turns += 1;
        match spent.status {
            TurnStatus::Failed | TurnStatus::Interrupted => self.failed_turns += 1,
            TurnStatus::Cancelled => self.cancelled_turns += 1,
            TurnStatus::Running | TurnStatus::Completed => {}
        }
        let add = |sum: &mut u64, more: Option<u64>| *sum = sum.saturating_add(more.unwrap_or(0));
        add(&mut self.input_tokens, spent.usage.input_tokens);
        add(&mut self.output_tokens, spent.usage.output_tokens);
        add(&mut self.cost_micros, spent.usage.cost_usd.map(micros));
        if let Some(wait) = spent.first_token {
            self.first_tokens += 1;
            let ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            add(&mut self.first_token_ms, Some(ms));
        }
    }

    /// Counts thumbs, which may also be taken back.
    pub(super) fn rate(&mut self, up: i64, down: i64) {
        self.thumbs_up += up;
        self.thumbs_down += down;
    }

    /// Refuses bytes of an upload that do not fit.
    pub(super) fn check_upload(&self, bytes: u64, terms: Terms<'_>) -> Result<()> {
        match terms.quota.upload_bytes_per_day {
            Some(max) if self.upload_bytes.saturating_add(bytes) > max => {
                let left = max.saturating_sub(self.upload_bytes);
                let lack = Lack::of(bytes, max, self.upload_bytes);
                Err(terms.refusal(lack, "upload_bytes_per_day", "bytes of uploads", max, left))
            }
            _ => Ok(()),
        }
    }

    /// Counts bytes of an upload.
    pub(super) fn upload(&mut self, bytes: u64) {
        self.upload_bytes = self.upload_bytes.saturating_add(bytes);
    }

    pub(super) fn shown(&self, owner: OwnerId, day: &str) -> DayUsage {
        // Taken back on another day than given: a day's thumbs are not below none.
        let count = |thumbs: i64| u64::try_from(thumbs).unwrap_or(0);
        DayUsage {
            owner,
            day: day.to_owned(),
            turns: self.turns,
            failed_turns: self.failed_turns,
            cancelled_turns: self.cancelled_turns,
            input_tokens: self.input_tokens,
            output_tokens: self.output_tokens,
            cost_usd: dollars(self.cost_micros),
            first_token_ms: self.first_token_ms.checked_div(self.first_tokens),
            thumbs_up: count(self.thumbs_up),
            thumbs_down: count(self.thumbs_down),
            upload_bytes: self.upload_bytes,
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast saturates"
)]
fn micros(dollars: f64) -> u64 {
    (dollars * 1e6).round() as u64
}

#[expect(clippy::cast_precision_loss, reason = "fits up to billions of dollars")]
fn dollars(micros: u64) -> f64 {
    micros as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(turn: &str, input: u64, output: u64) -> Wish {
        Wish {
            turn: TurnId::new(turn).unwrap(),
            owner: OwnerId::default(),
            input_tokens: input,
            output_tokens: output,
            cost_usd: None,
            is_unpriced_choice: false,
            until: Timestamp::from_micros(0),
        }
    }

    fn on(quota: &Quota, reset: u64) -> Terms<'_> {
        Terms {
            quota,
            payer: None,
            reset,
        }
    }

    fn spent(input: u64, output: u64) -> Spent {
        Spent {
            status: TurnStatus::Completed,
            usage: Usage {
                input_tokens: Some(input),
                output_tokens: Some(output),
                cost_usd: Some(0.000_001),
                ..Usage::default()
            },
            first_token: None,
        }
    }

    fn tokens(max: u64) -> Quota {
        Quota {
            tokens_per_day: Some(max),
            ..Quota::default()
        }
    }

    #[test]
    fn what_is_reserved_and_spent_never_exceeds_the_quota_and_a_reply_fits_what_is_left() {
        let (mut account, quota) = (Account::default(), tokens(100));
        assert_eq!(
            account.reserve(&wish("a", 10, 50), on(&quota, 1)).unwrap(),
            50
        );
        assert_eq!(
            account.reserve(&wish("b", 10, 50), on(&quota, 1)).unwrap(),
            30
        );
        let error = account
            .reserve(&wish("c", 1, 1), on(&quota, 7200))
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::RateLimited);
        assert_eq!(error.context_value("limit"), Some("tokens_per_day"));
        assert_eq!(error.context_value("remaining"), Some("0"));
        assert_eq!(error.retry_after(), Some(RESERVED_RETRY));
        assert!(account.release(&TurnId::new("a").unwrap()));
        account.settle(&spent(10, 5));
        assert_eq!(
            account.reserve(&wish("c", 1, 99), on(&quota, 1)).unwrap(),
            44
        );
    }

    #[test]
    fn a_refusal_says_whether_to_wait_for_a_moment_for_tomorrow_or_in_vain() {
        let (mut account, quota) = (Account::default(), tokens(100));
        account.settle(&spent(60, 0));
        let mut refused = |input| {
            let reserved = account.reserve(&wish("a", input, 1), on(&quota, 14_395));
            reserved.unwrap_err()
        };
        let never = refused(100);
        assert_eq!(never.kind(), ErrorKind::TooLarge);
        assert_eq!(never.retry_after(), None);
        let tomorrow = refused(40);
        assert_eq!(tomorrow.kind(), ErrorKind::RateLimited);
        assert_eq!(tomorrow.retry_after(), Some(Duration::from_secs(14_395)));
        assert!(tomorrow.message().ends_with("in 4 h"), "{tomorrow}");
        assert_eq!(hours_and_minutes(1), "1 min");
        assert_eq!(hours_and_minutes(3_661), "1 h 2 min");
    }

    #[test]
    fn turns_and_dollars_have_quotas_too() {
        let mut account = Account::default();
        let quota = Quota {
            turns_per_day: Some(2),
            cost_usd_per_day: Some(1.0),
            ..Quota::default()
        };
        let dear = Wish {
            cost_usd: Some(0.75),
            ..wish("a", 1, 1)
        };
        account.reserve(&dear, on(&quota, 1)).unwrap();
        let again = Wish {
            turn: TurnId::new("b").unwrap(),
            ..dear.clone()
        };
        let error = account.reserve(&again, on(&quota, 1)).unwrap_err();
        assert_eq!(error.context_value("limit"), Some("cost_usd_per_day"));
        assert_eq!(error.context_value("remaining"), Some("0.25"));
        let chosen = Wish {
            is_unpriced_choice: true,
            ..wish("b", 1, 1)
        };
        let error = account.reserve(&chosen, on(&quota, 1)).unwrap_err();
        assert_eq!(error.context_value("field"), Some("preferences.model"));
        account.reserve(&wish("b", 1, 1), on(&quota, 1)).unwrap();
        let error = account
            .reserve(&wish("c", 1, 1), on(&quota, 1))
            .unwrap_err();
        assert_eq!(error.context_value("limit"), Some("turns_per_day"));
    }

    #[test]
    fn an_account_survives_writing_and_reading() {
        let mut account = Account::default();
        let quota = Quota::default();
        let terms = Terms {
            payer: Some("key"),
            ..on(&quota, 1)
        };
        account.reserve(&wish("a", 1, 2), terms).unwrap();
        let due = account.lapsed(Timestamp::from_micros(1));
        assert_eq!(due, [(TurnId::new("a").unwrap(), Some(OwnerId::default()))]);
        account.settle(&spent(3, 4));
        account.rate(1, 0);
        let written = serde_json::to_vec(&account).unwrap();
        let read = |json: &[u8]| serde_json::from_slice::<Account>(json).unwrap();
        assert_eq!(read(&written), account);
        assert_eq!(read(b"{}"), Account::default());
        assert_eq!(account.shown(OwnerId::default(), "d").cost_usd, 0.000_001);
    }
}
