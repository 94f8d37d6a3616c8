//! How much somebody may use, what they used, and what they think of it.

use super::fields::Fields;
use crate::error::{Error, ErrorKind, Result};
use crate::message::Metadata;
use crate::tutor::Rating;
use crate::usage::Quota;

/// How much each owner may use in a day, from `turns_per_day`, `tokens_per_day`,
/// `cost_usd_per_day` and `upload_bytes_per_day`: any amount of what is absent.
///
/// # Errors
/// `config`, naming the member.
pub fn quota(members: Metadata) -> Result<Quota> {
    let mut fields = Fields::new("quota", ErrorKind::Config, members);
    let quota = Quota {
        turns_per_day: fields.count("turns_per_day")?,
        tokens_per_day: fields.count("tokens_per_day")?,
        cost_usd_per_day: fields.parsed("cost_usd_per_day", "a number of US dollars from 0")?,
        upload_bytes_per_day: fields.count("upload_bytes_per_day")?,
    };
    fields.end()?;
    Ok(quota)
}

/// Of which days usage is asked for: from the day `from` to the day `to`, both written like
/// `2026-11-26`; all before or behind if one is absent.
///
/// # Errors
/// `invalid_input`, naming the member.
pub fn usage_range(members: Metadata) -> Result<(Option<String>, Option<String>)> {
    let mut fields = Fields::new("usage", ErrorKind::InvalidInput, members);
    let range = (fields.text("from")?, fields.text("to")?);
    fields.end()?;
    Ok(range)
}

/// What somebody thinks of a message, from `rating` (`up` or `down`) and perhaps `comment`; `None`
/// without a rating.
///
/// # Errors
/// `invalid_input`, naming the member; also for a comment without a rating.
pub fn opinion(members: Metadata) -> Result<Option<(Rating, Option<String>)>> {
    let mut fields = Fields::new("rating", ErrorKind::InvalidInput, members);
    let rating: Option<Rating> = fields.parsed("rating", "up or down")?;
    let comment = fields.text("comment")?;
    fields.end()?;
    match (rating, comment) {
        (Some(rating), comment) => Ok(Some((rating, comment))),
        (None, None) => Ok(None),
        (None, Some(_)) => Err(Error::invalid_input("a comment needs a rating, up or down")
            .with_context("field", "rating")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn map(value: Value) -> Metadata {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn what_is_absent_is_not_limited() {
        let quota = quota(map(json!({"tokens_per_day": 5, "cost_usd_per_day": 0.5}))).unwrap();
        assert_eq!(
            (quota.tokens_per_day, quota.cost_usd_per_day),
            (Some(5), Some(0.5))
        );
        assert_eq!(
            (quota.turns_per_day, quota.upload_bytes_per_day),
            (None, None)
        );
    }

    #[test]
    fn an_opinion_has_a_rating_or_is_taken_back() {
        let up = opinion(map(json!({"rating": "up", "comment": "Clear."}))).unwrap();
        assert_eq!(up, Some((Rating::Up, Some("Clear.".to_owned()))));
        assert_eq!(opinion(map(json!({"rating": null}))).unwrap(), None);
    }

    #[test]
    fn a_wrong_member_is_named_and_not_quoted() {
        for (error, field) in [
            (
                quota(map(json!({"turns_per_day": -1}))).unwrap_err(),
                "turns_per_day",
            ),
            (quota(map(json!({"turns": 1}))).unwrap_err(), "turns"),
            (usage_range(map(json!({"from": 5}))).unwrap_err(), "from"),
            (
                opinion(map(json!({"rating": "canary"}))).unwrap_err(),
                "rating",
            ),
            (
                opinion(map(json!({"comment": "canary"}))).unwrap_err(),
                "rating",
            ),
        ] {
            assert_eq!(error.context_value("field"), Some(field));
            assert!(!format!("{error:?}").contains("canary"), "{error:?}");
        }
    }
}
