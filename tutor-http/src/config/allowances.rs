//! How much each caller may do and use. Nothing is limited but what is asked for.

use tutor_core::usage::Quota;
use tutor_core::{Error, ErrorKind, Result};

use super::layers::{Layers, Setting};
use crate::allowance::{Allowances, Share};

/// Event streams of one person at a time, where people sign in.
const STREAMS_PER_PERSON: usize = 3;

const NUMBER: &str = "a whole number, or 0 for no limit";

/// Reads the settings.
pub(super) fn pick(layers: &mut Layers<'_>, has_accounts: bool) -> Result<(Allowances, Quota)> {
    let requests = layers.pick(
        number("requests_per_minute", "REQUESTS_PER_MINUTE"),
        None,
        0,
    )?;
    let from_address = layers.pick(
        number("address_requests_per_minute", "ADDRESS_REQUESTS_PER_MINUTE"),
        None,
        0,
    )?;
    let streams = layers.pick(
        number("streams_per_person", "STREAMS_PER_PERSON"),
        None,
        if has_accounts { STREAMS_PER_PERSON } else { 0 },
    )?;
    let mut live_turns = |key, var| layers.pick(number(key, var), None, 0).map(some);
    let key_turns = live_turns("max_live_turns_per_key", "MAX_LIVE_TURNS_PER_KEY")?;
    let address_turns = live_turns("max_live_turns_per_address", "MAX_LIVE_TURNS_PER_ADDRESS")?;
    let allowances = Allowances {
        requests_per_minute: some(requests),
        address_requests_per_minute: some(from_address),
        streams_per_person: some(streams),
        key: Share {
            live_turns: key_turns,
            quota: pick_quota(layers, KEY)?,
        },
        address: Share {
            live_turns: address_turns,
            quota: pick_quota(layers, ADDRESS)?,
        },
    };
    Ok((allowances, pick_quota(layers, PERSON)?))
}

/// What a quota's settings are called, in the file and in the environment: turns, tokens, bytes of
/// uploads and US dollars.
type Names = [(&'static str, &'static str); 4];

const PERSON: Names = [
    ("turns_per_day", "TURNS_PER_DAY"),
    ("tokens_per_day", "TOKENS_PER_DAY"),
    ("upload_bytes_per_day", "UPLOAD_BYTES_PER_DAY"),
    ("cost_usd_per_day", "COST_USD_PER_DAY"),
];

const KEY: Names = [
    ("key_turns_per_day", "KEY_TURNS_PER_DAY"),
    ("key_tokens_per_day", "KEY_TOKENS_PER_DAY"),
    ("key_upload_bytes_per_day", "KEY_UPLOAD_BYTES_PER_DAY"),
    ("key_cost_usd_per_day", "KEY_COST_USD_PER_DAY"),
];

const ADDRESS: Names = [
    ("address_turns_per_day", "ADDRESS_TURNS_PER_DAY"),
    ("address_tokens_per_day", "ADDRESS_TOKENS_PER_DAY"),
    (
        "address_upload_bytes_per_day",
        "ADDRESS_UPLOAD_BYTES_PER_DAY",
    ),
    ("address_cost_usd_per_day", "ADDRESS_COST_USD_PER_DAY"),
];

fn pick_quota(layers: &mut Layers<'_>, names: Names) -> Result<Quota> {
    let [turns, tokens, uploads, (key, var)] = names;
    let mut count = |(key, var)| layers.pick(number(key, var), None, 0_u64).map(some);
    let mut quota = Quota::default();
    quota.turns_per_day = count(turns)?;
    quota.tokens_per_day = count(tokens)?;
    quota.upload_bytes_per_day = count(uploads)?;
    let setting = Setting {
        key,
        var,
        form: "an amount of US dollars, or 0 for no limit",
    };
    let cost = layers.pick(setting, None, 0.0)?;
    if !f64::is_finite(cost) || cost < 0.0 {
        return Err(Error::new(
            ErrorKind::Config,
            format!("{key} is below zero, or no amount: write an amount of US dollars"),
        ));
    }
    quota.cost_usd_per_day = (cost > 0.0).then_some(cost);
    Ok(quota)
}

fn number(key: &'static str, var: &'static str) -> Setting {
    Setting {
        key,
        var,
        form: NUMBER,
    }
}

fn some<T: PartialEq + Default>(limit: T) -> Option<T> {
    (limit != T::default()).then_some(limit)
}
