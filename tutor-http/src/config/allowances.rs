//! How much each caller may do and use. Nothing is limited but what is asked for.

use tutor_core::usage::Quota;
use tutor_core::{Error, ErrorKind, Result};

use super::layers::{Layers, Setting};
use crate::allowance::Allowances;

/// Event streams of one person at a time, where people sign in.
const STREAMS_PER_PERSON: usize = 3;

const NUMBER: &str = "a whole number, or 0 for no limit";

/// Reads the settings.
pub(super) fn pick(layers: &mut Layers<'_>, has_accounts: bool) -> Result<(Allowances, Quota)> {
    let number = |key, var| Setting {
        key,
        var,
        form: NUMBER,
    };
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
    let mut quota = Quota::default();
    for (key, var, limit) in [
        ("turns_per_day", "TURNS_PER_DAY", &mut quota.turns_per_day),
        (
            "tokens_per_day",
            "TOKENS_PER_DAY",
            &mut quota.tokens_per_day,
        ),
        (
            "upload_bytes_per_day",
            "UPLOAD_BYTES_PER_DAY",
            &mut quota.upload_bytes_per_day,
        ),
    ] {
        *limit = some(layers.pick(number(key, var), None, 0_u64)?);
    }
    let cost = Setting {
        key: "cost_usd_per_day",
        var: "COST_USD_PER_DAY",
        form: "an amount of US dollars, or 0 for no limit",
    };
    let cost = layers.pick(cost, None, 0.0)?;
    if !f64::is_finite(cost) || cost < 0.0 {
        return Err(Error::new(
            ErrorKind::Config,
            "cost_usd_per_day is below zero, or no amount: write an amount of US dollars",
        ));
    }
    quota.cost_usd_per_day = (cost > 0.0).then_some(cost);
    let allowances = Allowances {
        requests_per_minute: some(requests),
        address_requests_per_minute: some(from_address),
        streams_per_person: some(streams),
    };
    Ok((allowances, quota))
}

fn some<T: PartialEq + Default>(limit: T) -> Option<T> {
    (limit != T::default()).then_some(limit)
}
