//! Who may call a route. Handlers reach data only through what is extracted here, so that a route
//! cannot forget to ask.

use std::net::IpAddr;

use axum::extract::FromRequestParts;
use http::request::Parts;
use tutor_core::{Error, ErrorKind, TurnId};

use crate::error::ApiError;
use crate::params::{PathId, Query};
use crate::people::People;
use crate::people::principal::{Principal, Scope};
use crate::people::throttle::AddressName;
use crate::state::AppState;

/// The state, narrowed to the caller: its tutor reads and writes the caller's data and nobody
/// else's.
#[derive(Debug)]
pub(super) struct App(pub(super) AppState);

impl FromRequestParts<AppState> for App {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        state.limiter.at_address(name_of(parts)).await?;
        let Some(people) = &state.people else {
            state.limiter.of_person(state.tutor.owner()).await?;
            return Ok(Self(charged(state.clone(), None, parts)));
        };
        let principal = people.identify(&parts.headers).await?;
        admit(state, &principal).await?;
        principal.require(scope_of(parts))?;
        let key = principal.key().map(str::to_owned);
        let state = state.clone().for_caller(people, principal);
        Ok(Self(charged(state, key.as_deref(), parts)))
    }
}

/// Whoever may follow a turn: like [`App`], or with a ticket in the query.
#[derive(Debug)]
pub(super) struct Follower(pub(super) AppState);

impl FromRequestParts<AppState> for Follower {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        let Ok(query) = Query::from_request_parts(parts, state).await;
        let (Some(people), Some(ticket)) = (&state.people, query.get("ticket")) else {
            let App(state) = App::from_request_parts(parts, state).await?;
            return Ok(Self(state));
        };
        state.limiter.at_address(name_of(parts)).await?;
        let PathId(turn) = PathId::<TurnId>::from_request_parts(parts, state).await?;
        let principal = people.admit(ticket, &turn).await?;
        admit(state, &principal).await?;
        principal.require(Scope::Read)?;
        Ok(Self(state.clone().for_caller(people, principal)))
    }
}

/// A person who has signed in, or their key.
#[derive(Debug)]
pub(super) struct Person {
    pub(super) people: People,
    pub(super) principal: Principal,
    pub(super) state: AppState,
}

impl FromRequestParts<AppState> for Person {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        let Accounts(people) = Accounts::from_request_parts(parts, state).await?;
        let principal = people.identify(&parts.headers).await?;
        admit(state, &principal).await?;
        principal.require(scope_of(parts))?;
        let mut state = state.clone();
        state.tutor = state.tutor.for_owner(principal.owner().clone());
        Ok(Self {
            people,
            principal,
            state,
        })
    }
}

/// Whoever looks after the server: an administrator, or anybody where nobody is asked who they are.
#[derive(Debug)]
pub(super) struct Operator(pub(super) AppState);

impl FromRequestParts<AppState> for Operator {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        if state.people.is_some() {
            let person = Person::from_request_parts(parts, state).await?;
            person.principal.require_admin()?;
            return Ok(Self(person.state));
        }
        state.limiter.at_address(name_of(parts)).await?;
        state.limiter.of_person(state.tutor.owner()).await?;
        Ok(Self(state.clone()))
    }
}

/// The people, for who has not signed in yet.
#[derive(Debug)]
pub(super) struct Accounts(pub(super) People);

impl FromRequestParts<AppState> for Accounts {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        state.limiter.at_address(name_of(parts)).await?;
        match &state.people {
            Some(people) => Ok(Self(people.clone())),
            None => Err(Error::new(
                ErrorKind::NotFound,
                "this server has no accounts: start it with --auth required",
            )
            .into()),
        }
    }
}

/// Where a request comes from: the other end of its connection, or whom a trusted proxy names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// The name under which the caller's address is counted.
#[derive(Debug)]
pub(super) struct Address(pub(super) String);

impl<S: Sync> FromRequestParts<S> for Address {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(name_of(parts).to_string()))
    }
}

fn name_of(parts: &Parts) -> AddressName {
    let peer = parts.extensions.get::<Peer>();
    AddressName(peer.map(|Peer(address)| *address))
}

/// Has the caller's key and address pay for what is asked.
fn charged(mut state: AppState, key: Option<&str>, parts: &Parts) -> AppState {
    let payers = state.limiter.payers(key, name_of(parts));
    if !payers.is_empty() {
        state.tutor = state.tutor.charged_to(payers);
    }
    state
}

/// What a key must be allowed to.
fn scope_of(parts: &Parts) -> Scope {
    match parts.method.is_safe() {
        true => Scope::Read,
        false => Scope::Write,
    }
}

/// Counts a request of somebody.
async fn admit(state: &AppState, principal: &Principal) -> Result<(), ApiError> {
    state.limiter.of_person(principal.owner()).await?;
    match principal.key() {
        Some(key) => Ok(state.limiter.by_key(key).await?),
        None => Ok(()),
    }
}
