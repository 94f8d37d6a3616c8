//! How much each caller may do, before the engine is asked: requests, and streams at a time. What the
//! engine counts by the day is its [`Quota`](tutor_core::usage::Quota).

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tutor_core::usage::{Payer, Quota};
use tutor_core::{Error, ErrorKind, OwnerId, Result};

use crate::people::throttle::AddressName;
use crate::shared::Shared;
use crate::shared::buckets::Buckets;

/// How many callers are counted at the same time; who was quiet longest is forgotten first.
const MAX_WATCHED: usize = 100_000;

const MINUTE: Duration = Duration::from_secs(60);

/// How much each caller may do; `None` for any amount.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Allowances {
    /// Requests of one person, and of one API key, in a minute. More are answered `429`.
    pub requests_per_minute: Option<u32>,
    /// Requests from one address in a minute. More are answered `429`.
    pub address_requests_per_minute: Option<u32>,
    /// Event streams of one person at a time. More are answered `429`.
    pub streams_per_person: Option<usize>,
    /// What one API key may come to, as a part of what its person may.
    pub key: Share,
    /// What one address may come to, whoever uses it: of IPv6 a network of 64 bits.
    pub address: Share,
}

/// What the turns and uploads of a part of the callers may come to; `None` for any amount.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Share {
    /// Turns that run at the same time, on this instance.
    pub live_turns: Option<usize>,
    /// By the day.
    pub quota: Quota,
}

impl Share {
    /// Whom it is charged to, if it limits anything.
    fn payer(&self, kind: &'static str, name: impl fmt::Display) -> Option<Payer> {
        if *self == Self::default() {
            return None;
        }
        let payer = Payer::new(kind, name.to_string()).with_quota(self.quota.clone());
        Some(match self.live_turns {
            Some(max) => payer.with_max_live_turns(max),
            None => payer,
        })
    }
}

/// Counts what callers do. Cheap to clone; clones share everything.
#[derive(Clone, Debug)]
pub(crate) struct Limiter(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    allowances: Allowances,
    requests: Buckets,
    streams: Mutex<HashMap<OwnerId, usize>>,
}

impl Limiter {
    pub(crate) fn new(allowances: Allowances) -> Self {
        Self(Arc::new(Inner {
            allowances,
            requests: Buckets::new("requests", MAX_WATCHED),
            streams: Mutex::default(),
        }))
    }

    /// Counts requests together with other instances from now on.
    pub(crate) fn share(&self, shared: &Shared) {
        self.0.requests.share(shared);
    }

    /// Counts a request from this address.
    pub(crate) async fn at_address(&self, address: AddressName) -> Result<()> {
        let allowed = self.0.allowances.address_requests_per_minute;
        let name = || format!("address {address}");
        self.request("address_requests_per_minute", name, allowed)
            .await
    }

    /// Counts a request of this person.
    pub(crate) async fn of_person(&self, owner: &OwnerId) -> Result<()> {
        let allowed = self.0.allowances.requests_per_minute;
        let name = || format!("person {owner}");
        self.request("requests_per_minute", name, allowed).await
    }

    /// Counts a request by this API key.
    pub(crate) async fn by_key(&self, key: &str) -> Result<()> {
        let allowed = self.0.allowances.requests_per_minute;
        let name = || format!("key {key}");
        self.request("requests_per_minute", name, allowed).await
    }

    /// Whom turns and uploads are charged to besides their owner.
    pub(crate) fn payers(&self, key: Option<&str>, address: AddressName) -> Vec<Payer> {
        let allowances = &self.0.allowances;
        let key = key.and_then(|key| allowances.key.payer("key", key));
        let address = allowances.address.payer("address", address);
        key.into_iter().chain(address).collect()
    }

    async fn request(
        &self,
        limit: &'static str,
        name: impl FnOnce() -> String,
        allowed: Option<u32>,
    ) -> Result<()> {
        let Some(allowed) = allowed else {
            return Ok(());
        };
        let taken = self.0.requests.take(&name(), allowed, MINUTE).await;
        taken.map_err(|wait| {
            let seconds = wait.as_millis().div_ceil(1000).max(1);
            Error::new(
                ErrorKind::RateLimited,
                format!("more than {allowed} requests in a minute: wait {seconds} s and try again"),
            )
            .retryable(Some(wait))
            .with_context("limit", limit)
            .with_context("quota", allowed)
            .with_context("remaining", 0)
            .with_context("reset", seconds)
        })
    }

    /// A place for one more event stream of this person, which is free again when it is dropped.
    ///
    /// # Errors
    /// `rate_limited` if the person has as many as one may have.
    pub(crate) fn stream(&self, owner: &OwnerId) -> Result<Option<StreamPlace>> {
        let Some(allowed) = self.0.allowances.streams_per_person else {
            return Ok(None);
        };
        let mut streams = self
            .0
            .streams
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let open = streams.entry(owner.clone()).or_default();
        if *open >= allowed {
            return Err(Error::new(
                ErrorKind::RateLimited,
                format!("{allowed} replies are being followed by you already: close one first"),
            )
            .retryable(Some(Duration::from_secs(1)))
            .with_context("limit", "streams")
            .with_context("quota", allowed)
            .with_context("remaining", 0)
            .with_context("reset", 1));
        }
        *open += 1;
        Ok(Some(StreamPlace {
            limiter: self.clone(),
            owner: owner.clone(),
        }))
    }
}

/// A place for an event stream.
#[derive(Debug)]
pub(crate) struct StreamPlace {
    limiter: Limiter,
    owner: OwnerId,
}

impl Drop for StreamPlace {
    fn drop(&mut self) {
        let streams = &self.limiter.0.streams;
        let mut streams = streams.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = streams.get_mut(&self.owner) {
            *open -= 1;
            if *open == 0 {
                streams.remove(&self.owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_is_closed_makes_room_for_another_one() {
        let limiter = Limiter::new(Allowances {
            streams_per_person: Some(1),
            ..Allowances::default()
        });
        let (ada, bob) = (OwnerId::new("ada").unwrap(), OwnerId::new("bob").unwrap());
        let first = limiter.stream(&ada).unwrap();
        let refused = limiter.stream(&ada).unwrap_err();
        assert_eq!(refused.context_value("limit"), Some("streams"));
        limiter.stream(&bob).unwrap();
        drop(first);
        limiter.stream(&ada).unwrap();
        assert!(limiter.0.streams.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn persons_keys_and_addresses_are_counted_apart() {
        const ADA: AddressName = AddressName(None);
        let limiter = Limiter::new(Allowances {
            requests_per_minute: Some(1),
            address_requests_per_minute: Some(2),
            ..Allowances::default()
        });
        let ada = OwnerId::new("ada").unwrap();
        limiter.of_person(&ada).await.unwrap();
        limiter.by_key("ada").await.unwrap();
        let refused = limiter.of_person(&ada).await.unwrap_err();
        assert_eq!(refused.context_value("quota"), Some("1"));
        limiter.at_address(ADA).await.unwrap();
        limiter.at_address(ADA).await.unwrap();
        limiter.at_address(ADA).await.unwrap_err();
    }
}
