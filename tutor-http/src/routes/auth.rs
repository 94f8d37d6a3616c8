//! Accounts and sign-ins.

use axum::Json;
use http::StatusCode;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::guard::{Accounts, Address, Person};
use super::to_the_end;
use crate::body::JsonBody;
use crate::error::ApiError;
use crate::openapi::ErrorBody;
use crate::people::account::Account;
use crate::people::sign_in::Tokens;
use crate::validate::Checker;

/// The longest address and password that are read, in characters. What they must be is said later.
const MAX_CHARS: usize = 4096;

/// An address and a password.
#[derive(ToSchema)]
#[expect(dead_code, reason = "documents what `credentials` reads")]
pub(super) struct Credentials {
    #[schema(example = "ada@example.org", min_length = 1, max_length = 4096)]
    email: String,
    /// At least 8 characters.
    #[schema(min_length = 1, max_length = 4096)]
    password: String,
}

/// A person.
#[derive(Serialize, ToSchema)]
pub(crate) struct User {
    id: String,
    email: String,
    /// `user` or `admin`.
    role: crate::people::Role,
    disabled: bool,
    /// The external issuer that the person signs in at; null for accounts of this server.
    issuer: Option<String>,
    #[schema(format = DateTime)]
    created_at: String,
}

impl From<Account> for User {
    fn from(account: Account) -> Self {
        Self {
            id: account.id,
            email: account.email,
            role: account.role,
            disabled: account.disabled,
            issuer: account.issuer,
            created_at: account.created_at.to_string(),
        }
    }
}

/// A sign-in.
#[derive(Serialize, ToSchema)]
pub(super) struct SignedIn {
    /// Send it as `Authorization: Bearer …`.
    access_token: String,
    /// Always `bearer`.
    token_type: &'static str,
    /// How long `access_token` is good, in seconds.
    expires_in: u64,
    /// Good once, at `/api/auth/refresh`.
    refresh_token: String,
    user: User,
}

impl SignedIn {
    fn new((account, tokens): (Account, Tokens)) -> Json<Self> {
        Json(Self {
            access_token: tokens.access,
            token_type: "bearer",
            expires_in: tokens.expires_in,
            refresh_token: tokens.refresh,
            user: account.into(),
        })
    }
}

/// Register
///
/// Makes an account and signs in.
#[utoipa::path(post, path = "/api/auth/register", tag = "people", operation_id = "register",
    request_body = Credentials,
    responses((status = 201, description = "Registered and signed in", body = SignedIn),
        (status = 403, description = "Accounts are made by the operator", body = ErrorBody),
        (status = 404, description = "This server has no accounts", body = ErrorBody),
        (status = 409, description = "The address has an account", body = ErrorBody),
        (status = 429, description = "Too many accounts from one address", body = ErrorBody)))]
pub(super) async fn register(
    Accounts(people): Accounts,
    Address(address): Address,
    JsonBody(body): JsonBody,
) -> Result<(StatusCode, Json<SignedIn>), ApiError> {
    let [email, password] = texts(&body, ["email", "password"])?;
    let work = async move { people.register(&email, &password, &address).await };
    let signed_in = to_the_end(work).await?;
    Ok((StatusCode::CREATED, SignedIn::new(signed_in)))
}

/// Sign in
#[utoipa::path(post, path = "/api/auth/login", tag = "people", operation_id = "login",
    request_body = Credentials,
    responses((status = 200, description = "Signed in", body = SignedIn),
        (status = 401, description = "The address or the password is wrong", body = ErrorBody),
        (status = 404, description = "This server has no accounts", body = ErrorBody),
        (status = 429, description = "Too many sign-ins failed, or were tried from one address", body = ErrorBody)))]
pub(super) async fn login(
    Accounts(people): Accounts,
    Address(address): Address,
    JsonBody(body): JsonBody,
) -> Result<Json<SignedIn>, ApiError> {
    let [email, password] = texts(&body, ["email", "password"])?;
    let work = async move { people.sign_in(&email, &password, &address).await };
    Ok(SignedIn::new(to_the_end(work).await?))
}

/// A refresh token.
#[derive(ToSchema)]
#[expect(dead_code, reason = "documents what `refresh` reads")]
pub(super) struct RefreshBody {
    #[schema(min_length = 1, max_length = 4096)]
    refresh_token: String,
}

/// Refresh
///
/// Exchanges a refresh token for new tokens. Each is good once: using an old one again ends the
/// sign-in.
#[utoipa::path(post, path = "/api/auth/refresh", tag = "people", operation_id = "refresh",
    request_body = RefreshBody,
    responses((status = 200, description = "New tokens", body = SignedIn),
        (status = 401, description = "The token is not good any more", body = ErrorBody),
        (status = 404, description = "This server has no accounts", body = ErrorBody),
        (status = 409, description = "Too many refreshes at the same time", body = ErrorBody)))]
pub(super) async fn refresh(
    Accounts(people): Accounts,
    JsonBody(body): JsonBody,
) -> Result<Json<SignedIn>, ApiError> {
    let [token] = texts(&body, ["refresh_token"])?;
    let work = async move { people.refresh(&token).await };
    Ok(SignedIn::new(to_the_end(work).await?))
}

/// Sign out
///
/// The tokens of this sign-in are dead at once.
#[utoipa::path(post, path = "/api/auth/logout", tag = "people", operation_id = "logout",
    responses((status = 204, description = "Signed out"),
        (status = 401, description = "Not signed in", body = ErrorBody),
        (status = 403, description = "An API key is not signed out", body = ErrorBody),
        (status = 404, description = "This server has no accounts", body = ErrorBody)))]
pub(super) async fn logout(person: Person) -> Result<StatusCode, ApiError> {
    let work = async move { person.people.sign_out(&person.principal).await };
    to_the_end(work).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Who am I
#[utoipa::path(get, path = "/api/auth/me", tag = "people", operation_id = "me",
    responses((status = 200, description = "Your account", body = User),
        (status = 401, description = "Not signed in", body = ErrorBody),
        (status = 404, description = "This server has no accounts", body = ErrorBody)))]
pub(super) async fn me(person: Person) -> Result<Json<User>, ApiError> {
    let account = person.people.account(person.principal.owner().as_str());
    Ok(Json(account.await?.into()))
}

/// A new password.
#[derive(ToSchema)]
#[expect(dead_code, reason = "documents what `password` reads")]
pub(super) struct PasswordBody {
    #[schema(min_length = 1, max_length = 4096)]
    current_password: String,
    /// At least 8 characters.
    #[schema(min_length = 1, max_length = 4096)]
    new_password: String,
}

/// Change the password
///
/// Ends all other sign-ins.
#[utoipa::path(post, path = "/api/auth/password", tag = "people", operation_id = "change_password",
    request_body = PasswordBody,
    responses((status = 204, description = "Changed"),
        (status = 401, description = "Not signed in", body = ErrorBody),
        (status = 403, description = "The password is wrong", body = ErrorBody),
        (status = 404, description = "This server has no accounts", body = ErrorBody),
        (status = 409, description = "The account is being changed", body = ErrorBody),
        (status = 429, description = "Too many wrong passwords", body = ErrorBody)))]
pub(super) async fn password(
    person: Person,
    JsonBody(body): JsonBody,
) -> Result<StatusCode, ApiError> {
    person.principal.require_person()?;
    let [current, new] = texts(&body, ["current_password", "new_password"])?;
    let Person {
        people, principal, ..
    } = person;
    let work = async move { people.change_password(&principal, &current, &new).await };
    to_the_end(work).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A password.
#[derive(ToSchema)]
#[expect(dead_code, reason = "documents what `delete` reads")]
pub(super) struct ConfirmationBody {
    /// People of an external issuer have none, and send `{}`.
    #[schema(required = false, min_length = 1, max_length = 4096)]
    password: String,
}

/// Delete the account
///
/// With all that is yours: conversations, feedback, files, sign-ins and keys.
#[utoipa::path(delete, path = "/api/auth/me", tag = "people", operation_id = "delete_account",
    request_body = ConfirmationBody,
    responses((status = 204, description = "Deleted"),
        (status = 401, description = "Not signed in", body = ErrorBody),
        (status = 403, description = "The password is wrong", body = ErrorBody),
        (status = 404, description = "This server has no accounts", body = ErrorBody),
        (status = 409, description = "The account is being changed", body = ErrorBody),
        (status = 429, description = "Too many wrong passwords", body = ErrorBody)))]
pub(super) async fn delete(
    person: Person,
    JsonBody(body): JsonBody,
) -> Result<StatusCode, ApiError> {
    person.principal.require_person()?;
    // An external issuer's people have none here.
    let password = match person.principal.issuer() {
        Some(_) => None,
        None => Some(texts(&body, ["password"])?).map(|[password]| password),
    };
    let Person {
        people,
        principal,
        state,
    } = person;
    let work = async move {
        let stop = async {
            state.tutor.cancel_all().await;
            // What is counted a second later would come back.
            state.tutor.flush_usage().await?;
            match &state.files {
                Some(files) => files.erase(state.tutor.owner()).await.map(drop),
                None => Ok(()),
            }
        };
        people.delete(&principal, password.as_deref(), stop).await
    };
    to_the_end(work).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The texts that a body has, and nothing else.
fn texts<const N: usize>(body: &Value, names: [&'static str; N]) -> Result<[String; N], ApiError> {
    let mut checker = Checker::new("body");
    let texts = checker.model(body).map(|object| {
        let c = &mut checker;
        c.only(object, &names);
        names.map(|name| {
            c.required(object, name, |c, v| c.text(v, 1, MAX_CHARS))
                .unwrap_or_default()
        })
    });
    checker.finish(texts)
}
