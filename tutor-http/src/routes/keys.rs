//! API keys: for programs that act for a person.

use std::time::Duration;

use axum::Json;
use http::StatusCode;
use serde::Serialize;
use serde_json::Value;
use tutor_core::Error;
use utoipa::ToSchema;

use super::guard::Person;
use super::to_the_end;
use crate::body::JsonBody;
use crate::error::ApiError;
use crate::openapi::{ErrorBody, HTTPValidationError};
use crate::params::PathText;
use crate::people::ALL_SCOPES;
use crate::people::api_key::{ApiKey, NewApiKey};
use crate::people::principal::Scope;
use crate::validate::Checker;

const MAX_NAME_CHARS: usize = 100;

/// The longest that a key may be good, in days.
const MAX_DAYS: u64 = 3650;

/// A key, without its secret.
#[derive(Serialize, ToSchema)]
pub(super) struct Key {
    id: String,
    name: String,
    /// How the key begins.
    prefix: String,
    /// `read`, `write`, or both.
    scopes: Vec<Scope>,
    #[schema(format = DateTime)]
    created_at: String,
    /// Null if it never expires.
    #[schema(format = DateTime)]
    expires_at: Option<String>,
    /// To the minute; null if it was never used.
    #[schema(format = DateTime)]
    last_used_at: Option<String>,
}

impl From<ApiKey> for Key {
    fn from(key: ApiKey) -> Self {
        let text = |time: tutor_core::time::Timestamp| time.to_string();
        Self {
            prefix: key.prefix(),
            id: key.id,
            name: key.name,
            scopes: key.scopes,
            created_at: text(key.created_at),
            expires_at: key.expires_at.map(text),
            last_used_at: key.last_used_at.map(text),
        }
    }
}

/// A new key.
#[derive(Serialize, ToSchema)]
pub(super) struct CreatedKey {
    #[serde(flatten)]
    shown: Key,
    /// The whole key. It is never shown again.
    key: String,
}

/// A person's keys.
#[derive(Serialize, ToSchema)]
pub(super) struct KeyList {
    keys: Vec<Key>,
    /// Always null: there is one page.
    next_cursor: Option<String>,
}

/// A key to make.
#[derive(ToSchema)]
#[expect(dead_code, reason = "documents what `new_key` reads")]
pub(super) struct NewKey {
    /// What it is for.
    #[schema(min_length = 1, max_length = 100)]
    name: String,
    /// What it may do; everything if absent.
    #[schema(min_items = 1, max_items = 16)]
    scopes: Option<Vec<Scope>>,
    /// How long it is good; for ever if absent.
    #[schema(minimum = 1, maximum = 3650)]
    expires_in_days: Option<u64>,
}

/// How many scopes may be named, with repetitions.
const MAX_SCOPES: usize = 16;

/// Make an API key
#[utoipa::path(post, path = "/api/keys", tag = "people", operation_id = "create_key",
    request_body = NewKey,
    responses((status = 201, description = "The key, this once", body = CreatedKey),
        (status = 401, description = "Not signed in", body = ErrorBody),
        (status = 403, description = "A key may not make keys", body = ErrorBody),
        (status = 404, description = "This server has no accounts", body = ErrorBody),
        (status = 409, description = "There are too many keys", body = ErrorBody)))]
pub(super) async fn create(
    person: Person,
    JsonBody(body): JsonBody,
) -> Result<(StatusCode, Json<CreatedKey>), ApiError> {
    person.principal.require_person()?;
    let now = person.state.runtime.now();
    let new = new_key(&body, now)?;
    let work = async move {
        let owner = person.principal.owner().as_str();
        person.people.keys().create(owner, new, now).await
    };
    let (shown, key) = to_the_end(work).await?;
    let created = CreatedKey {
        shown: shown.into(),
        key,
    };
    Ok((StatusCode::CREATED, Json(created)))
}

/// List API keys
#[utoipa::path(get, path = "/api/keys", tag = "people", operation_id = "list_keys",
    responses((status = 200, description = "Your keys", body = KeyList),
        (status = 401, description = "Not signed in", body = ErrorBody),
        (status = 403, description = "A key may not see keys", body = ErrorBody),
        (status = 404, description = "This server has no accounts", body = ErrorBody)))]
pub(super) async fn list(person: Person) -> Result<Json<KeyList>, ApiError> {
    person.principal.require_person()?;
    let keys = person.people.keys().list(person.principal.owner().as_str());
    let keys = keys.await?.into_iter().map(Key::from).collect();
    Ok(Json(KeyList {
        keys,
        next_cursor: None,
    }))
}

/// Delete an API key
///
/// It is dead at once.
#[utoipa::path(delete, path = "/api/keys/{key_id}", tag = "people", operation_id = "delete_key",
    params(("key_id" = String, Path)),
    responses((status = 204, description = "Deleted"),
        (status = 401, description = "Not signed in", body = ErrorBody),
        (status = 403, description = "A key may not delete keys", body = ErrorBody),
        (status = 404, description = "There is none, or this server has no accounts", body = ErrorBody),
        (status = 422, description = "Validation Error", body = HTTPValidationError)))]
pub(super) async fn delete(person: Person, PathText(id): PathText) -> Result<StatusCode, ApiError> {
    person.principal.require_person()?;
    let named = id.clone();
    let work = async move {
        let owner = person.principal.owner().as_str();
        person.people.keys().delete(owner, &named).await
    };
    if to_the_end(work).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Error::not_found("key", id).into())
    }
}

fn new_key(body: &Value, now: tutor_core::time::Timestamp) -> Result<NewApiKey, ApiError> {
    let mut checker = Checker::new("body");
    let new = checker.model(body).and_then(|object| {
        let c = &mut checker;
        c.only(object, &["name", "scopes", "expires_in_days"]);
        let name = c.required(object, "name", |c, v| c.text(v, 1, MAX_NAME_CHARS));
        let scopes = c.optional(object, "scopes", scopes);
        let days = c.optional(object, "expires_in_days", |c, v| {
            let days = c.integer(v, 1)?;
            if days > MAX_DAYS {
                c.fail_value("a key is good for 3650 days at most", v);
            }
            Some(days)
        });
        let life = days.map(|days| Duration::from_secs(days.min(MAX_DAYS) * 24 * 60 * 60));
        Some(NewApiKey {
            name: name?,
            scopes: scopes.unwrap_or_else(|| ALL_SCOPES.to_vec()),
            expires_at: life.map(|life| now.saturating_add(life)),
        })
    });
    checker.finish(new)
}

fn scopes(c: &mut Checker, value: &Value) -> Option<Vec<Scope>> {
    let list = c.list(value)?;
    if list.is_empty() {
        c.fail_value("a key has at least one scope", value);
    }
    if list.len() > MAX_SCOPES {
        c.fail_value("a key is given 16 scopes at most", value);
        return None;
    }
    let mut scopes = Vec::new();
    for (i, value) in list.iter().enumerate() {
        let scope = match value.as_str() {
            Some("read") => Scope::Read,
            Some("write") => Scope::Write,
            _ => {
                c.within(i, |c| c.fail_value("a scope is read or write", value));
                continue;
            }
        };
        if !scopes.contains(&scope) {
            scopes.push(scope);
        }
    }
    Some(scopes)
}
