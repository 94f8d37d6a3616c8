//! What several instances share besides the store: Redis, through which they tell each other about
//! running replies and count callers together. Without it, and while it is gone, each counts for
//! itself.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use reqwest::Url;
use tutor_core::bus::{LiveBus, RedisBus};
use tutor_core::{Error, ErrorKind, Result};

pub(crate) mod buckets;
mod counters;
pub(crate) mod failures;

use counters::Counters;

/// How long Redis may take to say how much somebody has left: a request waits for it.
const PATIENCE: Duration = Duration::from_millis(250);

/// Where Redis is. It is shown without its password.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl {
    url: String,
    /// Whose certificates are trusted, as PEM, instead of those of the machine's authorities.
    authorities: Option<Arc<[u8]>>,
}

impl RedisUrl {
    /// Trusts those alone whose certificates one of these authorities signed: PEM.
    ///
    /// # Errors
    /// `config` if they are none, or the URL is not one of TLS.
    pub fn trusting(self, authorities: &[u8]) -> Result<Self> {
        let place = Self {
            authorities: Some(authorities.into()),
            ..self
        };
        match place.client() {
            Ok(_) => Ok(place),
            Err(_) => Err(Error::new(
                ErrorKind::Config,
                "write a PEM file of certificates, and a Redis URL that begins with rediss://",
            )),
        }
    }

    fn client(&self) -> redis::RedisResult<redis::Client> {
        let Some(authorities) = &self.authorities else {
            return redis::Client::open(self.url.as_str());
        };
        let certificates = redis::TlsCertificates {
            client_tls: None,
            root_cert: Some(authorities.to_vec()),
        };
        redis::Client::build_with_tls(self.url.as_str(), certificates)
    }

    fn bus(&self) -> Result<RedisBus> {
        match &self.authorities {
            Some(authorities) => RedisBus::trusting(&self.url, authorities),
            None => RedisBus::new(&self.url),
        }
    }
}

impl FromStr for RedisUrl {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match redis::Client::open(text) {
            Ok(_) => Ok(Self {
                url: text.to_owned(),
                authorities: None,
            }),
            Err(_) => Err(Error::new(
                ErrorKind::Config,
                "it is no URL of Redis: write one such as redis://127.0.0.1:6379, or \
                 rediss://:PASSWORD@HOST:6379 for TLS",
            )),
        }
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bare = Url::parse(&self.url).ok().and_then(|mut url| {
            // What has no host, as a socket, has neither.
            let _ = (url.set_password(None), url.set_username(""));
            // That of a socket has its password there.
            url.set_query(None);
            (url.password().is_none() && url.username().is_empty()).then_some(url)
        });
        match bare {
            Some(url) => url.fmt(f),
            None => f.write_str("redis"),
        }
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisUrl({self})")
    }
}

/// What instances share through Redis. Cheap to clone; clones share everything.
#[derive(Clone, Debug)]
pub struct Shared {
    bus: RedisBus,
    counters: Counters,
    fallbacks: Arc<AtomicU64>,
}

impl Shared {
    /// Shares through this Redis. Nothing is connected yet: one that is not there is found when it
    /// comes. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// `config` for a URL that cannot be used.
    pub fn new(url: &RedisUrl) -> Result<Self> {
        let unusable = |_| {
            Error::new(
                ErrorKind::Config,
                "Redis cannot be used as it is configured",
            )
        };
        let client = url.client().map_err(unusable)?;
        let connecting = ConnectionManagerConfig::new()
            .set_number_of_retries(0)
            .set_response_timeout(Some(PATIENCE))
            .set_connection_timeout(Some(PATIENCE));
        let connection =
            ConnectionManager::new_lazy_with_config(client, connecting).map_err(unusable)?;
        let fallbacks = Arc::default();
        Ok(Self {
            bus: url.bus()?,
            counters: Counters::new(connection, PATIENCE, Arc::clone(&fallbacks)),
            fallbacks,
        })
    }

    /// How instances tell each other about running replies.
    pub fn bus(&self) -> &RedisBus {
        &self.bus
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// How often callers were counted by this instance alone, because Redis could not be used.
    pub(crate) fn fallbacks(&self) -> u64 {
        self.fallbacks.load(Ordering::Relaxed)
    }

    /// True if Redis answers.
    pub async fn is_there(&self) -> bool {
        self.bus.check().await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_password_and_a_wrong_one_not_at_all() {
        let url: RedisUrl = "redis://user:canary@example.org:6380/2".parse().unwrap();
        assert_eq!(url.to_string(), "redis://example.org:6380/2");
        assert!(!format!("{url:?}").contains("canary"));
        for wrong in ["canary", "http://canary", ""] {
            let error = wrong.parse::<RedisUrl>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(!format!("{error:?}").contains("canary"));
        }
    }
}
