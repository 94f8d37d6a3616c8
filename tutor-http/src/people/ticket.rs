//! Tickets to follow a turn, for browsers: an `EventSource` cannot send a token, and a token in an
//! address would be written into logs. A ticket is good once, soon, and for one turn.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use tutor_core::store::document::{Documents, put, remove};
use tutor_core::store::{Expect, KeyRange, RecordWrite};
use tutor_core::time::Timestamp;
use tutor_core::{Error, ErrorKind, Result, TurnId};

use super::principal::{Principal, unauthorized};
use super::secret::random_text;

/// The kind of the documents. A key is `owner/digest`.
const KIND: &str = "ticket";

/// How long a ticket is good.
pub(crate) const LIFETIME: Duration = Duration::from_secs(30);

/// Tickets of one person that are good at a time.
const MAX_TICKETS: usize = 32;

const SECRET_BYTES: usize = 32;

/// Longer than any ticket.
const MAX_TEXT_BYTES: usize = 256;

#[derive(Serialize, Deserialize)]
struct Ticket {
    turn: String,
    /// The sign-in that asked for it.
    #[serde(default)]
    family: Option<String>,
    /// Or the API key.
    #[serde(default)]
    key: Option<String>,
    /// Or the external issuer that the sign-in was made at.
    #[serde(default)]
    issuer: Option<String>,
    expires_at: Timestamp,
}

/// Who asked for a ticket.
#[derive(Clone, Debug)]
pub(super) struct Holder {
    pub(super) owner: String,
    pub(super) family: Option<String>,
    pub(super) key: Option<String>,
    pub(super) issuer: Option<String>,
}

#[derive(Debug)]
pub(super) struct Tickets(Documents);

impl Tickets {
    pub(super) fn new(documents: Documents) -> Self {
        Self(documents)
    }

    /// Makes a ticket for a turn, and returns its text.
    pub(super) async fn issue(
        &self,
        holder: &Principal,
        turn: &TurnId,
        now: Timestamp,
    ) -> Result<String> {
        let owner = holder.owner().as_str();
        let range = KeyRange {
            prefix: format!("{owner}/"),
            after: None,
        };
        let old = self.0.scan::<Ticket>(KIND, range, MAX_TICKETS + 1).await?;
        let (good, over): (Vec<_>, Vec<_>) = old
            .into_iter()
            .partition(|(_, ticket)| now < ticket.expires_at);
        if good.len() >= MAX_TICKETS {
            return Err(Error::new(
                ErrorKind::RateLimited,
                "too many tickets were asked for and not used: wait half a minute",
            )
            .retryable(Some(LIFETIME)));
        }
        let secret = random_text(SECRET_BYTES)?;
        let ticket = Ticket {
            turn: turn.to_string(),
            family: holder.family().map(str::to_owned),
            key: holder.key().map(str::to_owned),
            issuer: holder.issuer().map(str::to_owned),
            expires_at: now.saturating_add(LIFETIME),
        };
        let mut writes: Vec<_> = over.iter().map(|(key, _)| remove(KIND, key)).collect();
        writes.push(put(KIND, &key(owner, &secret), &ticket, Expect::Absent)?);
        self.0.commit(writes).await?;
        Ok(format!("{owner}.{secret}"))
    }

    /// Takes a ticket, which is good no more.
    ///
    /// # Errors
    /// `unauthorized`, whatever is wrong.
    pub(super) async fn redeem(&self, text: &str, turn: &TurnId, now: Timestamp) -> Result<Holder> {
        if text.len() > MAX_TEXT_BYTES {
            return Err(unauthorized());
        }
        // The secret has no dot, an id may.
        let (owner, secret) = text.rsplit_once('.').ok_or_else(unauthorized)?;
        let key = key(owner, secret);
        let found = self.0.get::<Ticket>(KIND, &key).await?;
        let (ticket, version) = found.ok_or_else(unauthorized)?;
        let taken = RecordWrite {
            expect: Expect::Version(version),
            ..remove(KIND, &key)
        };
        match self.0.commit(vec![taken]).await {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Conflict => return Err(unauthorized()),
            Err(error) => return Err(error),
        }
        if ticket.turn != turn.as_str() || ticket.expires_at <= now {
            return Err(unauthorized());
        }
        Ok(Holder {
            owner: owner.to_owned(),
            family: ticket.family,
            key: ticket.key,
            issuer: ticket.issuer,
        })
    }
}

fn key(owner: &str, secret: &str) -> String {
    let digest = digest(&SHA256, secret.as_bytes());
    format!("{owner}/{}", BASE64_URL_SAFE_NO_PAD.encode(digest))
}
