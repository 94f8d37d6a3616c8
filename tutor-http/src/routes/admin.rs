//! What administrators may see and do. For others these paths do not exist.

use axum::Json;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::auth::User;
use super::guard::Person;
use super::to_the_end;
use crate::body::JsonBody;
use crate::error::ApiError;
use crate::openapi::{ErrorBody, HTTPValidationError};
use crate::params::{PathText, Query};
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
    let work = async move { person.people.set_disabled(&id, disabled).await };
    Ok(Json(to_the_end(work).await?.into()))
}

fn disabled(body: &Value) -> Result<bool, ApiError> {
    let mut checker = Checker::new("body");
    let disabled = checker.model(body).and_then(|object| {
        checker.only(object, &["disabled"]);
        checker.required(object, "disabled", Checker::boolean)
    });
    checker.finish(disabled)
}
