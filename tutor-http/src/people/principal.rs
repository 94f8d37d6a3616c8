//! Who sends a request, and what they may do.

use http::{HeaderMap, header};
use serde::{Deserialize, Serialize};
use tutor_core::{Error, ErrorKind, OwnerId, Result};
use utoipa::ToSchema;

use super::account::{Account, Role};
use super::api_key::ApiKey;

/// What an API key may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Scope {
    /// `GET` requests.
    Read,
    /// All others.
    Write,
}

/// Who sends a request.
#[derive(Clone, Debug)]
pub(crate) struct Principal {
    owner: OwnerId,
    role: Role,
    by: By,
}

#[derive(Clone, Debug)]
enum By {
    /// The sign-in's family.
    Token(String),
    /// The key of this id, with these scopes.
    Key(String, Vec<Scope>),
    /// A token of the external issuer of this name.
    External(String),
}

impl Principal {
    pub(super) fn of_token(account: &Account, family: String) -> Result<Self> {
        Ok(Self {
            owner: OwnerId::new(&account.id)?,
            role: account.role,
            by: By::Token(family),
        })
    }

    pub(super) fn of_key(account: &Account, key: &ApiKey) -> Result<Self> {
        Ok(Self {
            owner: OwnerId::new(&account.id)?,
            role: account.role,
            by: By::Key(key.id.clone(), key.scopes.clone()),
        })
    }

    pub(super) fn of_external(account: &Account, role: Role, issuer: String) -> Result<Self> {
        Ok(Self {
            owner: OwnerId::new(&account.id)?,
            role,
            by: By::External(issuer),
        })
    }

    /// Whose data the request is about.
    pub(crate) fn owner(&self) -> &OwnerId {
        &self.owner
    }

    /// The sign-in, if it was made here.
    pub(crate) fn family(&self) -> Option<&str> {
        match &self.by {
            By::Token(family) => Some(family),
            By::Key(..) | By::External(_) => None,
        }
    }

    /// The API key, if one is used.
    pub(crate) fn key(&self) -> Option<&str> {
        match &self.by {
            By::Key(id, _) => Some(id),
            By::Token(_) | By::External(_) => None,
        }
    }

    /// The external issuer, if the sign-in was made there.
    pub(crate) fn issuer(&self) -> Option<&str> {
        match &self.by {
            By::External(issuer) => Some(issuer),
            By::Token(_) | By::Key(..) => None,
        }
    }

    /// Checks that the request may do this kind of thing.
    pub(crate) fn require(&self, scope: Scope) -> Result<()> {
        match &self.by {
            By::Key(_, scopes) if !scopes.contains(&scope) => Err(Error::new(
                ErrorKind::Forbidden,
                "this API key may not do that: make one with the scope that it needs",
            )),
            By::Key(..) | By::Token(_) | By::External(_) => Ok(()),
        }
    }

    /// Checks that a person, and no key, sends the request: keys cannot make keys.
    pub(crate) fn require_person(&self) -> Result<()> {
        match &self.by {
            By::Token(_) | By::External(_) => Ok(()),
            By::Key(..) => Err(Error::new(
                ErrorKind::Forbidden,
                "an API key may not do that: sign in",
            )),
        }
    }

    /// Checks that an administrator sends the request. For others there is no such place.
    pub(crate) fn require_admin(&self) -> Result<()> {
        match self.role {
            Role::Admin => self.require_person(),
            Role::User => Err(Error::new(ErrorKind::NotFound, "Not Found")),
        }
    }
}

/// The one bearer token of a request.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).into_iter();
    let (value, second) = (values.next()?, values.next());
    if second.is_some() {
        return None;
    }
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    let is_token = !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic());
    (scheme.eq_ignore_ascii_case("bearer") && is_token).then_some(token)
}

/// The one answer to everybody who is not known.
pub(crate) fn unauthorized() -> Error {
    Error::new(
        ErrorKind::Unauthorized,
        "sign in: send a valid token as `Authorization: Bearer TOKEN`",
    )
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn exactly_one_bearer_token_is_taken() {
        let headers = |values: &[&[u8]]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(
                    header::AUTHORIZATION,
                    HeaderValue::from_bytes(value).unwrap(),
                );
            }
            headers
        };
        for good in ["Bearer x.y", "bearer x.y", "BEARER x.y"] {
            assert_eq!(bearer(&headers(&[good.as_bytes()])), Some("x.y"));
        }
        for bad in [
            &b"Basic x"[..],
            b"Bearer",
            b"Bearer ",
            b"Bearer  ",
            b"Bearer a b",
            b"Bearer \xff",
            b"x",
        ] {
            assert_eq!(bearer(&headers(&[bad])), None);
        }
        assert_eq!(bearer(&headers(&[b"Bearer x", b"Bearer x"])), None);
        assert_eq!(bearer(&HeaderMap::new()), None);
    }
}
