//! Who may use the server: accounts with passwords, sign-ins with tokens, and API keys.
//!
//! Everything is kept in the store's small documents, so that every instance on the same store
//! knows the same people, and an end of a sign-in counts at once everywhere.

use std::fmt;
use std::sync::Arc;

use http::HeaderMap;
use tutor_core::store::{Documents, Store};
use tutor_core::time::{Runtime, Timestamp};
use tutor_core::transfer::erase_owner;
use tutor_core::{Error, ErrorKind, OwnerId, Result, TurnId};

pub(crate) mod account;
pub(crate) mod api_key;
mod email;
pub(crate) mod external;
mod head;
mod jwks;
mod key_ring;
pub(crate) mod password;
pub(crate) mod principal;
pub(crate) mod secret;
pub(crate) mod sign_in;
mod signature;
pub(crate) mod throttle;
pub(crate) mod ticket;
pub(crate) mod token;
mod who;

use crate::shared::Shared;
use crate::shared::buckets::Buckets;
use crate::shared::failures::Failures;
use account::Accounts;
use api_key::ApiKeys;
use external::{ExternalIssuer, Vouched};
use head::Head;
use key_ring::KeyRing;
use password::Passwords;
use principal::{Principal, Scope};
use secret::Secrets;
use sign_in::{SignIns, Tokens};
use ticket::Tickets;
use token::Claims;

pub use account::{Account, Role};
pub use external::IssuerConfig;
pub use jwks::KeySource;
pub use who::Who;
pub(crate) use who::{shut_out, stop_all};

/// How many accounts and addresses are watched for failing sign-ins at the same time.
const MAX_WATCHED: usize = 100_000;

/// Bounds of what people may do before they are asked to wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeopleBounds {
    /// Sign-ins that one address may try in a minute.
    pub sign_ins_per_minute: u32,
    /// Accounts that one address may register in an hour.
    pub registrations_per_hour: u32,
    /// True if anybody may register; else accounts are made by `neuro-tutor users add`.
    pub open_registration: bool,
    /// Who else says who somebody is.
    pub issuers: Vec<IssuerConfig>,
}

impl Default for PeopleBounds {
    fn default() -> Self {
        Self {
            sign_ins_per_minute: 20,
            registrations_per_hour: 5,
            open_registration: true,
            issuers: Vec::new(),
        }
    }
}

/// The people of a server. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct People(Arc<Inner>);

struct Inner {
    accounts: Accounts,
    sign_ins: SignIns,
    keys: ApiKeys,
    tickets: Tickets,
    passwords: Passwords,
    ring: KeyRing,
    issuers: Vec<ExternalIssuer>,
    failures: Failures,
    sign_in_attempts: Buckets,
    registrations: Buckets,
    bounds: PeopleBounds,
    runtime: Arc<dyn Runtime>,
    store: Arc<dyn Store>,
}

impl fmt::Debug for People {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("People")
            .field("bounds", &self.0.bounds)
            .finish_non_exhaustive()
    }
}

impl People {
    /// The people that are kept in this store. Makes the keys that sign tokens if there are none.
    ///
    /// # Errors
    /// Errors of the store; `data_corrupt` if its keys cannot be read.
    pub async fn open(
        store: Arc<dyn Store>,
        runtime: Arc<dyn Runtime>,
        bounds: PeopleBounds,
    ) -> Result<Self> {
        let documents = Documents::new(store.clone());
        let secrets = Secrets::load(&documents, runtime.now()).await?;
        let issuers = bounds.issuers.iter().cloned().map(ExternalIssuer::new);
        let issuers = issuers.collect::<Result<_>>()?;
        Ok(Self(Arc::new(Inner {
            accounts: Accounts::new(documents.clone()),
            sign_ins: SignIns::new(documents.clone()),
            keys: ApiKeys::new(documents.clone()),
            tickets: Tickets::new(documents.clone()),
            passwords: Passwords::new()?,
            ring: KeyRing::new(documents, secrets)?,
            issuers,
            failures: Failures::new(MAX_WATCHED),
            sign_in_attempts: Buckets::new("sign-ins", MAX_WATCHED),
            registrations: Buckets::new("registrations", MAX_WATCHED),
            bounds,
            runtime,
            store,
        })))
    }

    /// Counts what addresses try together with other instances from now on.
    pub fn share(&self, shared: &Shared) {
        self.0.failures.share(shared);
        self.0.sign_in_attempts.share(shared);
        self.0.registrations.share(shared);
    }

    /// Asks the external issuers for their keys, so that the first requests need not wait for
    /// them. What cannot be had is said in the log.
    pub async fn prepare(&self) {
        let asking = self.0.issuers.iter().map(ExternalIssuer::prepare);
        futures_util::future::join_all(asking).await;
    }

    /// Makes an account, without asking who may.
    ///
    /// # Errors
    /// `invalid_input` for an address or a password that cannot be used, `conflict` if the address
    /// has an account.
    pub async fn add(&self, email: &str, password: &str, role: Role) -> Result<Account> {
        let inner = &self.0;
        let email = email::parse(email)?;
        password::check(password)?;
        let hash = inner.passwords.hash(password).await?;
        let now = inner.runtime.now();
        let account = Account::new(inner.runtime.new_id(), email, hash, role, now);
        inner.accounts.create(&account).await?;
        Ok(account)
    }

    /// Registers a newcomer from this address, and signs them in.
    pub(crate) async fn register(
        &self,
        email: &str,
        password: &str,
        address: &str,
    ) -> Result<(Account, Tokens)> {
        let inner = &self.0;
        if !inner.bounds.open_registration {
            return Err(Error::new(
                ErrorKind::Forbidden,
                "accounts are made by the operator here: ask for one",
            ));
        }
        // What is wrong with the form costs nobody an attempt.
        email::parse(email)?;
        password::check(password)?;
        let hour = std::time::Duration::from_secs(3600);
        inner
            .registrations
            .take(address, inner.bounds.registrations_per_hour, hour)
            .await
            .map_err(|wait| throttled("too many accounts were registered from here", wait))?;
        let account = self.add(email, password, Role::User).await?;
        let tokens = self.tokens(&account).await?;
        Ok((account, tokens))
    }

    /// Signs in. An unknown address, a wrong password and a disabled account are answered alike,
    /// and take the same time.
    pub(crate) async fn sign_in(
        &self,
        email: &str,
        password: &str,
        address: &str,
    ) -> Result<(Account, Tokens)> {
        let inner = &self.0;
        let minute = std::time::Duration::from_secs(60);
        inner
            .sign_in_attempts
            .take(address, inner.bounds.sign_ins_per_minute, minute)
            .await
            .map_err(|wait| throttled("too many sign-ins were tried from here", wait))?;
        let email = email::normalized(email);
        // By account and place: nobody locks somebody else out.
        let name = format!("{address} {email}");
        inner.failures.backoff(&name).await.map_err(|wait| {
            throttled("too many sign-ins to this account failed from here", wait)
        })?;
        let account = inner.accounts.by_email(&email).await?;
        let hash = account.as_ref().map(|account| account.password_hash());
        let is_right = inner.passwords.verify(password, hash).await?;
        match account {
            Some(account) if is_right && !account.disabled => {
                inner.failures.forget(&name).await;
                let tokens = self.tokens(&account).await?;
                Ok((account, tokens))
            }
            _ => {
                inner.failures.fail(&name).await;
                tracing::info!("a sign-in failed");
                Err(Error::new(
                    ErrorKind::Unauthorized,
                    "the address or the password is wrong",
                ))
            }
        }
    }

    async fn tokens(&self, account: &Account) -> Result<Tokens> {
        let inner = &self.0;
        let now = inner.runtime.now();
        let family = inner.runtime.new_id();
        let refresh = inner.sign_ins.begin(&account.id, &family, now).await?;
        self.with_access(account, &family, refresh).await
    }

    async fn with_access(
        &self,
        account: &Account,
        family: &str,
        refresh: String,
    ) -> Result<Tokens> {
        let inner = &self.0;
        let jti = inner.runtime.new_id();
        let now = inner.runtime.now();
        let claims = Claims::new(account, family, jti, now);
        Ok(Tokens {
            access: inner.ring.sign(&claims, now).await?,
            expires_in: token::LIFETIME.as_secs(),
            refresh,
        })
    }

    /// Exchanges a refresh token for new tokens. One that was exchanged before ends the sign-in:
    /// somebody else has it.
    pub(crate) async fn refresh(&self, token: &str) -> Result<(Account, Tokens)> {
        let inner = &self.0;
        let rotated = inner.sign_ins.rotate(token, inner.runtime.now()).await?;
        let account = inner.accounts.by_id(&rotated.account).await?;
        match account.filter(|account| !account.disabled) {
            Some(account) => {
                let tokens = self.with_access(&account, &rotated.family, rotated.token);
                let tokens = tokens.await?;
                Ok((account, tokens))
            }
            None => Err(sign_in::refused()),
        }
    }

    /// Ends a sign-in. Its tokens are dead at once.
    pub(crate) async fn sign_out(&self, principal: &Principal) -> Result<()> {
        match principal.family() {
            Some(family) => {
                self.0
                    .sign_ins
                    .end(principal.owner().as_str(), family)
                    .await
            }
            None if principal.issuer().is_some() => Err(elsewhere("sign out there")),
            None => Err(Error::new(
                ErrorKind::Forbidden,
                "an API key is not signed out: delete it at /api/keys",
            )),
        }
    }

    /// Replaces the password, and ends all other sign-ins.
    pub(crate) async fn change_password(
        &self,
        principal: &Principal,
        current: &str,
        new: &str,
    ) -> Result<()> {
        let inner = &self.0;
        if principal.issuer().is_some() {
            return Err(elsewhere("change the password there"));
        }
        password::check(new)?;
        let account = self.confirmed(principal, current).await?;
        let hash = inner.passwords.hash(new).await?;
        inner.accounts.set_password(&account.id, hash).await?;
        inner
            .sign_ins
            .end_all(&account.id, principal.family())
            .await
    }

    /// The caller's account, if the password is theirs.
    async fn confirmed(&self, principal: &Principal, password: &str) -> Result<Account> {
        let inner = &self.0;
        let account = self.account(principal.owner().as_str()).await?;
        let key = format!("confirm {}", account.id);
        inner
            .failures
            .backoff(&key)
            .await
            .map_err(|wait| throttled("too many wrong passwords", wait))?;
        let hash = Some(account.password_hash());
        if inner.passwords.verify(password, hash).await? {
            inner.failures.forget(&key).await;
            return Ok(account);
        }
        inner.failures.fail(&key).await;
        Err(Error::new(ErrorKind::Forbidden, "the password is wrong"))
    }

    /// Deletes the caller's account with all that is theirs. `before` is what has to happen between
    /// the moment from which they cannot come back, and the erasure. Somebody of an external issuer
    /// has no password here, and comes back as a newcomer.
    pub(crate) async fn delete(
        &self,
        principal: &Principal,
        password: Option<&str>,
        before: impl Future<Output = Result<()>>,
    ) -> Result<()> {
        let inner = &self.0;
        if principal.issuer().is_none() {
            let password = password.unwrap_or_default();
            self.confirmed(principal, password).await?;
        }
        // First nobody may come back, then everything goes: a crash in between leaves a disabled
        // account without an address, which the operator can erase.
        shut_out(&inner.store, principal.owner()).await?;
        before.await?;
        erase_owner(&*inner.store, principal.owner(), &mut |_| ()).await?;
        Ok(())
    }

    /// The account of this id.
    pub(crate) async fn account(&self, id: &str) -> Result<Account> {
        let account = self.0.accounts.by_id(id).await?;
        account.ok_or_else(|| Error::not_found("account", id))
    }

    /// The account of this address, or id.
    ///
    /// # Errors
    /// `not_found`; errors of the store.
    pub async fn find(&self, email: &str) -> Result<Account> {
        let account = match self.0.accounts.by_email(email).await? {
            Some(account) => Some(account),
            // People of external issuers have ids alone.
            None if OwnerId::new(email).is_ok() => self.0.accounts.by_id(email).await?,
            None => None,
        };
        account.ok_or_else(|| Error::new(ErrorKind::NotFound, who::MISSING))
    }

    /// Accounts in the order of their ids, after one.
    ///
    /// # Errors
    /// Errors of the store.
    pub async fn accounts(&self, after: Option<String>, limit: usize) -> Result<Vec<Account>> {
        self.0.accounts.list(after, limit).await
    }

    /// Disables or enables an account. Disabling ends all its sign-ins.
    ///
    /// # Errors
    /// `not_found`; errors of the store.
    pub async fn set_disabled(&self, id: &str, disabled: bool) -> Result<Account> {
        let account = self.0.accounts.set_disabled(id, disabled).await?;
        if disabled {
            self.0.sign_ins.end_all(id, None).await?;
        }
        Ok(account)
    }

    /// The API keys of a person.
    pub(crate) fn keys(&self) -> &ApiKeys {
        &self.0.keys
    }

    /// A ticket with which a browser follows a turn.
    pub(crate) async fn ticket(&self, holder: &Principal, turn: &TurnId) -> Result<String> {
        let now = self.0.runtime.now();
        self.0.tickets.issue(holder, turn, now).await
    }

    /// Who has this ticket, which is good no more.
    ///
    /// # Errors
    /// `unauthorized`, always in the same words.
    pub(crate) async fn admit(&self, ticket: &str, turn: &TurnId) -> Result<Principal> {
        let inner = &self.0;
        let now = inner.runtime.now();
        let holder = inner.tickets.redeem(ticket, turn, now).await?;
        let account = inner.accounts.by_id(&holder.owner).await?;
        let account = account.ok_or_else(principal::unauthorized)?;
        let principal = match (holder.family, holder.key) {
            (Some(family), _) => Principal::of_token(&account, family)?,
            (None, Some(id)) => {
                let key = inner.keys.by_id(&id, now).await?;
                Principal::of_key(&account, &key.ok_or_else(principal::unauthorized)?)?
            }
            (None, None) => {
                let issuer = holder.issuer.ok_or_else(principal::unauthorized)?;
                Principal::of_external(&account, Role::User, issuer)?
            }
        };
        if !self.is_welcome(&principal).await? {
            return Err(principal::unauthorized());
        }
        Ok(principal)
    }

    /// True if whoever was identified may still come in: their account is not disabled, and the
    /// sign-in or key has not ended.
    pub(crate) async fn is_welcome(&self, principal: &Principal) -> Result<bool> {
        let inner = &self.0;
        let (owner, now) = (principal.owner().as_str(), inner.runtime.now());
        let account = inner.accounts.by_id(owner).await?;
        if account.is_none_or(|account| account.disabled) {
            return Ok(false);
        }
        match (principal.family(), principal.key()) {
            (Some(family), _) => inner.sign_ins.is_alive(owner, family, now).await,
            (None, Some(id)) => Ok(inner.keys.by_id(id, now).await?.is_some()),
            (None, None) => Ok(principal.issuer().is_some()),
        }
    }

    /// Who sends a token that claims to be of an external issuer.
    async fn vouched(&self, head: &Head<'_>, now: Timestamp) -> Option<Vouched> {
        if self.0.issuers.is_empty() {
            return None;
        }
        let claimed = head.claimed_issuer()?;
        for issuer in self.0.issuers.iter().filter(|i| i.is_called(&claimed)) {
            if let Some(vouched) = issuer.verify(head, now).await {
                return Some(vouched);
            }
        }
        None
    }

    /// Who sends this request.
    ///
    /// # Errors
    /// `unauthorized`, always in the same words.
    pub(crate) async fn identify(&self, headers: &HeaderMap) -> Result<Principal> {
        let inner = &self.0;
        let token = principal::bearer(headers).ok_or_else(principal::unauthorized)?;
        let now = inner.runtime.now();
        if api_key::is_key(token) {
            let key = inner.keys.verify(token, now).await?;
            let account = inner.accounts.by_id(&key.owner).await?;
            let account = account.filter(|account| !account.disabled);
            let account = account.ok_or_else(principal::unauthorized)?;
            return Principal::of_key(&account, &key);
        }
        let head = Head::read(token).ok_or_else(principal::unauthorized)?;
        if let Some(vouched) = self.vouched(&head, now).await {
            let account = inner.accounts.meet(&vouched, now).await?;
            if account.disabled {
                return Err(principal::unauthorized());
            }
            return Principal::of_external(&account, vouched.role, vouched.issuer);
        }
        let claims = inner.ring.verify(&head, now).await;
        let claims = claims.ok_or_else(principal::unauthorized)?;
        if !inner
            .sign_ins
            .is_alive(&claims.sub, &claims.sid, now)
            .await?
        {
            return Err(principal::unauthorized());
        }
        let account = inner.accounts.by_id(&claims.sub).await?;
        let account = account.filter(|account| !account.disabled);
        Principal::of_token(&account.ok_or_else(principal::unauthorized)?, claims.sid)
    }
}

/// The refusal of what only the issuer can do.
fn elsewhere(advice: &str) -> Error {
    Error::new(
        ErrorKind::Forbidden,
        format!("you signed in elsewhere, not at this server: {advice}"),
    )
}

fn throttled(what: &str, wait: std::time::Duration) -> Error {
    let seconds = wait.as_secs().max(1);
    Error::new(
        ErrorKind::RateLimited,
        format!("{what}: wait {seconds} seconds and try again"),
    )
    .retryable(Some(wait))
}

/// Every scope that a key may have.
pub(crate) const ALL_SCOPES: [Scope; 2] = [Scope::Read, Scope::Write];
