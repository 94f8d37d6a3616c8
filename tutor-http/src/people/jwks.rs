//! The public keys of an external issuer: read from a file or an address, kept, and read again when
//! they are old or a key is missing, at a bounded rate whatever tokens come.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use reqwest::{Client, Url, header};
use serde_json::Value;
use tokio::time::Instant;
use tutor_core::{Error, ErrorKind, Result};

use crate::outbound::{self, Unread};

/// How long keys are used without looking whether they are still the issuer's.
const MAX_AGE: Duration = Duration::from_secs(10 * 60);

/// How long they are used while the issuer cannot be reached.
const MAX_STALE: Duration = Duration::from_secs(24 * 60 * 60);

/// How often they are asked for at most, whether that succeeds or not.
const PAUSE: Duration = Duration::from_secs(30);

/// How long the issuer may take to send them.
const FETCH_TIME: Duration = Duration::from_secs(5);

/// The longest set of keys, in bytes.
const MAX_BYTES: usize = 256 << 10;

/// The most keys of a set.
const MAX_KEYS: usize = 100;

/// Where keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// In a JSON file.
    File(PathBuf),
    /// At an address, `https` or on this machine.
    Url(Url),
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Url(url) => write!(f, "{url}"),
        }
    }
}

/// The keys of one issuer. Cheap to clone; clones share everything.
#[derive(Clone)]
pub(super) struct KeySet(Arc<Inner>);

struct Inner {
    source: KeySource,
    client: Client,
    held: Mutex<Held>,
    /// One asks at a time; who waits for it uses what it got.
    reading: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Held {
    keys: HashMap<String, Arc<PublicKey>>,
    tried_at: Option<Instant>,
    read_at: Option<Instant>,
}

/// A key, and what it may verify, if that is said.
pub(super) struct PublicKey {
    pub(super) key: DecodingKey,
    algorithm: Option<String>,
}

impl PublicKey {
    /// True if a signature of this kind may be this key's.
    pub(super) fn fits(&self, algorithm: Algorithm, name: &str) -> bool {
        self.key.family() == algorithm.family()
            && self.algorithm.as_deref().is_none_or(|own| own == name)
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeySet")
            .field("source", &self.0.source)
            .finish_non_exhaustive()
    }
}

fn is_younger(than: Duration, moment: Option<Instant>) -> bool {
    moment.is_some_and(|moment| moment.elapsed() < than)
}

impl KeySet {
    pub(super) fn new(source: KeySource) -> Result<Self> {
        let client = outbound::client().timeout(FETCH_TIME).build();
        let client = client.map_err(|error| {
            Error::internal("the client cannot be made").with_source(error.without_url())
        })?;
        Ok(Self(Arc::new(Inner {
            source,
            client,
            held: Mutex::default(),
            reading: tokio::sync::Mutex::new(()),
        })))
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The key of this name; `None` if the issuer has none, or cannot be asked.
    pub(super) async fn key(&self, name: &str) -> Option<Arc<PublicKey>> {
        if let Some((key, is_fresh)) = self.find(name) {
            if !is_fresh {
                // Whoever sent this token does not wait for it.
                let keys = self.clone();
                tokio::spawn(async move { keys.read_again().await });
            }
            return Some(key);
        }
        self.read_again().await;
        self.find(name).map(|(key, _)| key)
    }

    /// A key that may be used, and whether it need not be looked at again.
    fn find(&self, name: &str) -> Option<(Arc<PublicKey>, bool)> {
        let held = self.held();
        let key = held.keys.get(name)?;
        is_younger(MAX_STALE, held.read_at)
            .then(|| (Arc::clone(key), is_younger(MAX_AGE, held.read_at)))
    }

    /// Reads the keys, unless that was tried a moment ago.
    pub(super) async fn read_again(&self) {
        let _reading = self.0.reading.lock().await;
        {
            let mut held = self.held();
            if is_younger(PAUSE, held.tried_at) {
                return;
            }
            held.tried_at = Some(Instant::now());
        }
        match self.read().await {
            Ok(keys) => {
                let mut held = self.held();
                held.keys = keys;
                held.read_at = Some(Instant::now());
            }
            Err(error) => tracing::warn!(
                source = %self.0.source,
                "the keys of an issuer cannot be read: {}",
                error.message()
            ),
        }
    }

    /// The keys as they are now.
    ///
    /// # Errors
    /// `config`, saying what is wrong with them or with where they are.
    pub(super) async fn read(&self) -> Result<HashMap<String, Arc<PublicKey>>> {
        let bytes = match &self.0.source {
            KeySource::Url(url) => self.fetch(url.clone()).await?,
            KeySource::File(path) => {
                let path = path.clone();
                let read = tokio::task::spawn_blocking(move || read_file(&path));
                read.await
                    .map_err(|_| Error::internal("a file was not read"))??
            }
        };
        let keys = parse(&bytes)?;
        if keys.is_empty() {
            return Err(wrong(
                "there is no key that can verify signatures, with a name (kid)",
            ));
        }
        Ok(keys)
    }

    async fn fetch(&self, url: Url) -> Result<Vec<u8>> {
        let broken = |error: reqwest::Error| {
            wrong("they cannot be fetched: check the address, and that it can be reached from here")
                .with_source(error.without_url())
        };
        let request = self.0.client.get(url);
        let request = request.header(header::ACCEPT, "application/json");
        let response = request.send().await.map_err(broken)?;
        if response.status() != http::StatusCode::OK {
            let status = response.status().as_u16();
            return Err(
                wrong("what answers there does not send them, or sends elsewhere")
                    .with_context("status", status),
            );
        }
        match outbound::read(response, MAX_BYTES).await {
            Ok(bytes) => Ok(bytes.to_vec()),
            Err(Unread::Broken(error)) => Err(broken(error)),
            Err(Unread::TooLong) => Err(wrong("they are longer than keys can be")),
        }
    }
}

fn read_file(path: &std::path::Path) -> Result<Vec<u8>> {
    use std::io::Read;
    let file = std::fs::File::open(path);
    let file = file.map_err(|error| wrong("the file cannot be read").with_source(error))?;
    let mut bytes = Vec::new();
    let read = file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|error| wrong("the file cannot be read").with_source(error))?;
    if bytes.len() > MAX_BYTES {
        return Err(wrong("they are longer than keys can be"));
    }
    Ok(bytes)
}

/// The keys of a set that can be used here. Others are passed over: an issuer may have keys for
/// encryption as well, and ones of kinds that are not known yet.
fn parse(json: &[u8]) -> Result<HashMap<String, Arc<PublicKey>>> {
    let set: Value = serde_json::from_slice(json).map_err(|_| wrong("they are not JSON"))?;
    let list = set["keys"].as_array();
    let list = list.ok_or_else(|| wrong("there is no list of keys: is it a JWKS?"))?;
    let mut keys = HashMap::new();
    for key in list.iter().take(MAX_KEYS) {
        let (Some(name), None | Some("sig")) = (key["kid"].as_str(), key["use"].as_str()) else {
            continue;
        };
        let Ok(jwk) = read_key(key) else {
            continue;
        };
        // A secret that both sides know is no public key, whatever else the set says.
        let public = DecodingKey::from_jwk(&jwk).ok();
        let public = public.filter(|public| public.family() != AlgorithmFamily::Hmac);
        if let Some(public) = public {
            let algorithm = key["alg"].as_str().map(str::to_owned);
            let key = PublicKey {
                key: public,
                algorithm,
            };
            keys.insert(name.to_owned(), Arc::new(key));
        }
    }
    Ok(keys)
}

/// A key without what is not needed of it, and may be of a kind that the library does not know.
fn read_key(json: &Value) -> serde_json::Result<Jwk> {
    let mut json = json.clone();
    if let Value::Object(members) = &mut json {
        for name in ["alg", "use", "key_ops", "x5c", "x5u", "x5t", "x5t#S256"] {
            members.remove(name);
        }
    }
    serde_json::from_value(json)
}

fn wrong(message: &'static str) -> Error {
    Error::new(ErrorKind::Config, message)
}
