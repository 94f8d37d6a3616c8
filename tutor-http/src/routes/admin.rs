//! What administrators may see and do. For others these paths do not exist.

use axum::Json;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use http::header;
use serde::Serialize;
use serde_json::Value;
use tutor_core::usage::{DayUsage, UsageQuery, report};
use tutor_core::{Error, ErrorKind, OwnerId};
use utoipa::ToSchema;

use super::auth::User;
use super::guard::{Operator, Person};
use super::to_the_end;
use crate::body::JsonBody;
use crate::error::ApiError;
use crate::openapi::{ErrorBody, HTTPValidationError};
use crate::params::{PathText, Query};
use crate::people::stop_all;
use crate::usage::{CSV_HEADER, Pages, csv_line};
use crate::validate::Checker;

const MAX_PAGE: u64 = 200;

/// Accounts.
#[derive(Serialize, ToSchema)]
pub(super) struct UserList {
    users: Vec<User>,
    /// Send it as `cursor` to read on; null if there is nothing more.
    next_cursor: Option<String>,
}

/// List accounts
#[utoipa::path(get, path = "/api/admin/users", tag = "admin", operation_id = "list_users",
    params(
        ("limit" = Option<u64>, Query, description = "At most so many", minimum = 1, maximum = 200),
        ("cursor" = Option<String>, Query, description = "The `next_cursor` of the page before")),
    responses((status = 200, description = "A page of accounts", body = UserList),
        (status = 401, description = "Not signed in", body = ErrorBody),
        (status = 403, description = "An API key may not do that", body = ErrorBody),
        (status = 404, description = "You are no administrator", body = ErrorBody),
        (status = 422, description = "Validation Error", body = HTTPValidationError)))]
pub(super) async fn users(person: Person, query: Query) -> Result<Json<UserList>, ApiError> {
    person.principal.require_admin()?;
    let mut checker = Checker::new("query");
    let limit = query.number(&mut checker, "limit", MAX_PAGE, (1, MAX_PAGE));
    let limit = usize::try_from(checker.finish(limit)?).unwrap_or(1);
    let after = query.get("cursor").map(str::to_owned);
    let accounts = person.people.accounts(after, limit).await?;
    let is_full = accounts.len() == limit;
    let last = accounts.last().filter(|_| is_full);
    Ok(Json(UserList {
        next_cursor: last.map(|account| account.id.clone()),
        users: accounts.into_iter().map(User::from).collect(),
    }))
}

/// A change of an account.
#[derive(ToSchema)]
#[expect(dead_code, reason = "documents what `update` reads")]
pub(super) struct UserChange {
    /// True ends all sign-ins of the account, and allows no new one.
    disabled: bool,
}

/// Disable or enable an account
#[utoipa::path(patch, path = "/api/admin/users/{user_id}", tag = "admin",
    operation_id = "update_user", params(("user_id" = String, Path)), request_body = UserChange,
    responses((status = 200, description = "The account as it is now", body = User),
        (status = 401, description = "Not signed in", body = ErrorBody),
        (status = 403, description = "An API key may not do that", body = ErrorBody),
        (status = 404, description = "There is none, or you are no administrator", body = ErrorBody),
        (status = 409, description = "The account is being changed", body = ErrorBody)))]
pub(super) async fn update(
    person: Person,
    PathText(id): PathText,
    JsonBody(body): JsonBody,
) -> Result<Json<User>, ApiError> {
    person.principal.require_admin()?;
    let disabled = disabled(&body)?;
    let work = async move {
        let account = person.people.set_disabled(&id, disabled).await?;
        if disabled {
            stop_all(&person.state.tutor, &account.id).await?;
        }
        Ok(account)
    };
    Ok(Json(to_the_end(work).await?.into()))
}

fn disabled(body: &Value) -> Result<bool, ApiError> {
    let mut checker = Checker::new("body");
    let disabled = checker.model(body).and_then(|object| {
        checker.only(object, &["disabled"]);
        checker.required(object, "disabled", Checker::yes_or_no)
    });
    checker.finish(disabled)
}

/// What people used.
#[derive(Serialize, ToSchema)]
pub(super) struct UsageList {
    /// In the order of owners and days.
    usage: Vec<Usage>,
    /// Send it as `cursor` to read on; null if there is nothing more.
    next_cursor: Option<String>,
}

/// What one person used in one day.
#[derive(Serialize, ToSchema)]
#[schema(as = DayUsage)]
pub(super) struct Usage {
    /// The id of the account.
    owner: String,
    /// Of UTC: the one in which a turn began.
    #[schema(format = Date)]
    day: String,
    /// Turns that have ended.
    turns: u64,
    failed_turns: u64,
    cancelled_turns: u64,
    input_tokens: u64,
    output_tokens: u64,
    /// Of models whose price is known.
    cost_usd: f64,
    /// Milliseconds to the first word, on average; null if there was none.
    first_token_ms: Option<u64>,
    thumbs_up: u64,
    thumbs_down: u64,
    /// Bytes of uploads.
    upload_bytes: u64,
}

impl From<DayUsage> for Usage {
    fn from(usage: DayUsage) -> Self {
        Self {
            owner: usage.owner.into(),
            day: usage.day,
            turns: usage.turns,
            failed_turns: usage.failed_turns,
            cancelled_turns: usage.cancelled_turns,
            input_tokens: usage.input_tokens,
            output_tokens: usage.output_tokens,
            cost_usd: usage.cost_usd,
            first_token_ms: usage.first_token_ms,
            thumbs_up: usage.thumbs_up,
            thumbs_down: usage.thumbs_down,
            upload_bytes: usage.upload_bytes,
        }
    }
}

/// See what people used
///
/// By person and day: turns, tokens, cost, the time to the first word, thumbs, uploads. As pages
/// of JSON, or all of it as CSV. A server that asks nobody who they are tells it to whoever asks.
#[utoipa::path(get, path = "/api/admin/usage", tag = "admin", operation_id = "usage",
    params(
        ("owner" = Option<String>, Query, description = "Of this account alone"),
        ("from" = Option<String>, Query, description = "The first day, such as `2026-11-26`"),
        ("to" = Option<String>, Query, description = "The last day"),
        ("format" = Option<String>, Query, description = "`json` (the default) or `csv`"),
        ("limit" = Option<u64>, Query, description = "At most so many on a page of JSON", minimum = 1, maximum = 200),
        ("cursor" = Option<String>, Query, description = "The `next_cursor` of the page before")),
    responses((status = 200, description = "What was used", content(
            (UsageList = "application/json"), (String = "text/csv"))),
        (status = 401, description = "Not signed in", body = ErrorBody),
        (status = 403, description = "An API key may not do that", body = ErrorBody),
        (status = 404, description = "You are no administrator", body = ErrorBody),
        (status = 422, description = "Validation Error", body = HTTPValidationError)))]
pub(super) async fn usage(Operator(state): Operator, query: Query) -> Result<Response, ApiError> {
    let records = state.records.clone().ok_or_else(|| {
        Error::new(
            ErrorKind::NotFound,
            "this server does not count what is used",
        )
    })?;
    let (asked, is_csv) = usage_query(&query)?;
    state.tutor.flush_usage().await?;
    if is_csv {
        let pages = Pages::new(records, asked);
        let table = stream::unfold((pages, true), |(mut pages, is_first)| async move {
            let page = match pages.next().await {
                Ok(page) => page?,
                Err(error) => {
                    tracing::error!(%error, "a table of what was used was cut off");
                    return Some((Err(error), (pages, false)));
                }
            };
            let mut text = if is_first {
                CSV_HEADER.to_owned()
            } else {
                String::new()
            };
            text.extend(page.iter().map(csv_line));
            Some((Ok(text), (pages, false)))
        });
        let kind = [(header::CONTENT_TYPE, "text/csv; charset=utf-8")];
        return Ok((kind, Body::from_stream(table)).into_response());
    }
    let page = report(&*records, &asked).await?;
    let last = page.last().filter(|_| page.len() == asked.limit);
    let list = UsageList {
        next_cursor: last.map(|last| format!("{}.{}", last.day, last.owner)),
        usage: page.into_iter().map(Usage::from).collect(),
    };
    Ok(Json(list).into_response())
}

fn usage_query(query: &Query) -> Result<(UsageQuery, bool), ApiError> {
    let mut checker = Checker::new("query");
    let c = &mut checker;
    let day = |text: &str| {
        let is_day = text.len() == "2026-11-26".len()
            && format!("{text}T00:00:00Z")
                .parse::<tutor_core::time::Timestamp>()
                .is_ok();
        match is_day {
            true => Ok(text.to_owned()),
            false => Err(Error::invalid_input("a day is written like 2026-11-26")),
        }
    };
    let place = |text: &str| {
        let wrong = || Error::invalid_input("this cursor is not one that a list returned");
        let (begin, owner) = text.split_once('.').ok_or_else(wrong)?;
        Ok((OwnerId::new(owner).map_err(|_| wrong())?, day(begin)?))
    };
    let asked = UsageQuery {
        owner: query.parsed(c, "owner", str::parse),
        from: query.parsed(c, "from", day),
        to: query.parsed(c, "to", day),
        after: query.parsed(c, "cursor", place),
        limit: 0,
    };
    let limit = query.number(c, "limit", MAX_PAGE, (1, MAX_PAGE));
    let is_csv = match query.get("format") {
        None | Some("json") => false,
        Some("csv") => true,
        Some(other) => {
            c.within("format", |c| {
                c.fail_value("a format is json or csv", &Value::from(other));
            });
            false
        }
    };
    let limit = usize::try_from(checker.finish(limit)?).unwrap_or(1);
    Ok((UsageQuery { limit, ..asked }, is_csv))
}
