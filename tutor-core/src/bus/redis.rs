//! Redis between the instances: what is told about a turn is a stream, whoever follows it is woken
//! by a channel, and each instance has a channel on which it is asked to stop turns.
//!
//! Values are what learners and models said, as JSON; each expires a minute after its turn has ended.
//! Keys have the owner in them. Needs Redis 6.2 or what speaks like it, one server and no cluster.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{
    ErrorKind as RedisErrorKind, Pipeline, RedisError, Script, ServerErrorKind, TlsCertificates,
};
use tokio::time::timeout;

use super::{LiveBus, News};
use crate::error::{Error, ErrorKind, Result};
use crate::event::TurnEvent;
use crate::id::{OwnerId, SessionId, TurnId};
use crate::turn::TurnKey;

mod listener;

use listener::{Listener, Subscription};

/// Batches of one turn that are kept; older ones are forgotten, and their events read from the store.
const MAX_BATCHES: usize = 8192;

/// Batches that a follower reads at a time.
const READ_BATCHES: usize = 64;

/// How long Redis may take for an answer.
const RESPONSE: Duration = Duration::from_secs(1);

/// How long it may take to connect.
const CONNECT: Duration = Duration::from_secs(1);

/// How long a follower trusts that it would be woken.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Adds a batch behind what is there.
///
/// KEYS: the turn's stream, the owner's index, the owner's running turns. ARGV: the numbers of the
/// first and the last event, the events, how long to keep them in milliseconds, how many batches to
/// keep, the turn's name in the index, the turn, whether it ends, the channel.
const ANNOUNCE: &str = r"
local has = 0
local top = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
if top[1] then has = tonumber(string.match(top[1][1], '^%d+')) end
local first, last = tonumber(ARGV[1]), tonumber(ARGV[2])
if has < last and first <= has + 1 then
  redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[5], ARGV[2] .. '-0', 'e', ARGV[3])
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
  if first == 1 or ARGV[8] == '1' then
    local time = redis.call('TIME')
    local now = time[1] * 1000 + math.floor(time[2] / 1000)
    redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
    redis.call('ZADD', KEYS[2], now + ARGV[4], ARGV[6])
    local left = redis.call('PTTL', KEYS[2])
    if left < tonumber(ARGV[4]) then redis.call('PEXPIRE', KEYS[2], ARGV[4]) end
  end
  has = last
end
if ARGV[8] == '1' then redis.call('ZREM', KEYS[3], ARGV[7]) end
redis.call('PUBLISH', ARGV[9], has)
return has
";

/// Counts a running turn. KEYS: the owner's running turns. ARGV: the turn, how many there may be, how
/// long it counts in milliseconds.
const ENTER: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[2]) and not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
  return 0
end
redis.call('ZADD', KEYS[1], now + ARGV[3], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
";

/// Tells other instances through Redis. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct RedisBus(Arc<Inner>);

struct Inner {
    connection: ConnectionManager,
    listener: Listener,
    announce: Script,
    enter: Script,
    /// Where it is, without credentials.
    location: String,
}

impl fmt::Debug for RedisBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisBus")
            .field("location", &self.0.location)
            .finish_non_exhaustive()
    }
}

impl RedisBus {
    /// The bus at this URL, such as `redis://:PASSWORD@HOST:6379/0`, or `rediss://…` for TLS. Nothing
    /// is connected yet: a server that is not there is an error of what is asked for, and is found
    /// when it comes back. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// `config` for a URL that is none.
    pub fn new(url: &str) -> Result<Self> {
        Self::of(redis::Client::open(url).map_err(|_| unusable())?)
    }

    /// The bus at this URL, which begins with `rediss://`: trusted is who has a certificate of one of
    /// these authorities, which are PEM, instead of those of the machine.
    ///
    /// # Errors
    /// As [`new`](Self::new), and for certificates that are none.
    pub fn trusting(url: &str, authorities: &[u8]) -> Result<Self> {
        let certificates = TlsCertificates {
            client_tls: None,
            root_cert: Some(authorities.to_vec()),
        };
        let client = redis::Client::build_with_tls(url, certificates);
        Self::of(client.map_err(|_| unusable())?)
    }

    fn of(client: redis::Client) -> Result<Self> {
        let location = client.get_connection_info().addr().to_string();
        let connection = ConnectionManager::new_lazy_with_config(client.clone(), connecting())
            .map_err(|_| unusable())?;
        Ok(Self(Arc::new(Inner {
            connection,
            listener: Listener::start(client),
            announce: Script::new(ANNOUNCE),
            enter: Script::new(ENTER),
            location,
        })))
    }

    /// Where it is, without credentials.
    pub fn location(&self) -> &str {
        &self.0.location
    }

    /// Asks for `what`, and again behind the script that it needs, if that is not there yet.
    async fn ask<T: redis::FromRedisValue>(&self, what: &Pipeline, script: &Script) -> Result<T> {
        let mut connection = self.0.connection.clone();
        let asked = async {
            match what.query_async(&mut connection).await {
                Err(error) if is_unknown_script(&error) => {
                    script.load_async(&mut connection).await?;
                    what.query_async(&mut connection).await
                }
                answer => answer,
            }
        };
        in_time(asked).await
    }

    /// The events of the next batches behind `after`, and whether there may be more already.
    async fn read(&self, turn: &TurnKey, after: u64) -> Result<(Vec<TurnEvent>, bool)> {
        let mut connection = self.0.connection.clone();
        // A batch has the number of its last event, and the last one of a turn that of its end.
        let mut range = redis::cmd("XRANGE");
        range
            .arg(stream_key(turn))
            .arg(after.saturating_add(1))
            .arg("+")
            .arg("COUNT")
            .arg(READ_BATCHES);
        let mut batches: Batches = in_time(range.query_async(&mut connection)).await?;
        if batches.is_empty() && after > 0 {
            // A place beyond the end.
            let mut last = redis::cmd("XREVRANGE");
            last.arg(stream_key(turn))
                .arg("+")
                .arg("-")
                .arg("COUNT")
                .arg(1);
            batches = in_time(last.query_async(&mut connection)).await?;
            let mut events = events_of(&batches)?;
            // Unless it came in between: then it is read in its turn.
            let is_new = events.last().is_some_and(|event| event.seq > after);
            events.retain(|event| event.event.is_terminal() && !is_new);
            return Ok((events, is_new));
        }
        let mut events = events_of(&batches)?;
        events.retain(|event| event.seq > after);
        Ok((events, batches.len() == READ_BATCHES))
    }
}

/// Entries of a stream: each an id, and fields with their values.
type Batches = Vec<(String, Vec<(String, Vec<u8>)>)>;

fn events_of(batches: &Batches) -> Result<Vec<TurnEvent>> {
    let mut events = Vec::new();
    for (_, fields) in batches {
        for (_, json) in fields {
            let batch: Vec<TurnEvent> = serde_json::from_slice(json).map_err(|_| {
                Error::new(
                    ErrorKind::StoreUnavailable,
                    "Redis has events that this version does not understand",
                )
            })?;
            events.extend(batch);
        }
    }
    Ok(events)
}

#[async_trait]
impl LiveBus for RedisBus {
    async fn announce(&self, news: Vec<News>) -> Result<Vec<u64>> {
        let script = &self.0.announce;
        let mut all = Pipeline::new();
        for news in &news {
            let events: Vec<&TurnEvent> = news.events.iter().map(|event| &**event).collect();
            let json = serde_json::to_vec(&events)
                .map_err(|error| Error::internal("an event is no JSON").with_source(error))?;
            let (first, last) = news.range();
            let (owner, turn) = (&news.turn.owner, &news.turn);
            all.cmd("EVALSHA")
                .arg(script.get_hash())
                .arg(3)
                .arg(stream_key(turn))
                .arg(index_key(owner))
                .arg(running_key(owner))
                .arg(first)
                .arg(last)
                .arg(json)
                .arg(millis(news.keep))
                .arg(MAX_BATCHES)
                .arg(format!("{} {}", news.session, turn.id))
                .arg(turn.id.as_str())
                .arg(u8::from(news.is_end()))
                .arg(channel(turn));
        }
        self.ask(&all, script).await
    }

    fn follow(&self, turn: &TurnKey, after: u64) -> BoxStream<'static, Result<Vec<TurnEvent>>> {
        let follower = Follower {
            woken: self.0.listener.subscribe(channel(turn)),
            bus: self.clone(),
            turn: turn.clone(),
            after,
            has_all: false,
            is_over: false,
        };
        stream::unfold(follower, |mut follower| async move {
            let events = follower.next().await?;
            Some((events, follower))
        })
        .fuse()
        .boxed()
    }

    async fn ask_to_cancel(&self, turn: &TurnKey, instance: &str) -> Result<()> {
        let mut connection = self.0.connection.clone();
        let mut publish = redis::cmd("PUBLISH");
        publish
            .arg(requests_channel(instance))
            .arg(format!("{} {}", turn.owner, turn.id));
        in_time(publish.query_async::<()>(&mut connection)).await
    }

    fn cancellations(&self, instance: &str) -> BoxStream<'static, TurnKey> {
        let (subscription, requests) = self.0.listener.receive(requests_channel(instance));
        stream::unfold(
            (subscription, requests),
            |(subscription, mut requests)| async move {
                loop {
                    let Some(request) = requests.recv().await else {
                        std::future::pending().await
                    };
                    let names = request.split_once(' ');
                    let turn = names.and_then(|(owner, turn)| {
                        Some(TurnKey::new(
                            OwnerId::new(owner).ok()?,
                            TurnId::new(turn).ok()?,
                        ))
                    });
                    if let Some(turn) = turn {
                        return Some((turn, (subscription, requests)));
                    }
                }
            },
        )
        .boxed()
    }

    async fn enter(&self, turn: &TurnKey, max: usize, at_most: Duration) -> Result<bool> {
        let script = &self.0.enter;
        let mut all = Pipeline::new();
        all.cmd("EVALSHA")
            .arg(script.get_hash())
            .arg(1)
            .arg(running_key(&turn.owner))
            .arg(turn.id.as_str())
            .arg(max)
            .arg(millis(at_most));
        let (entered,): (bool,) = self.ask(&all, script).await?;
        Ok(entered)
    }

    async fn leave(&self, turn: &TurnKey) -> Result<()> {
        let mut connection = self.0.connection.clone();
        let mut leave = redis::cmd("ZREM");
        leave.arg(running_key(&turn.owner)).arg(turn.id.as_str());
        in_time(leave.query_async::<()>(&mut connection)).await
    }

    async fn forget(&self, owner: &OwnerId, session: Option<&SessionId>) -> Result<()> {
        let mut connection = self.0.connection.clone();
        let mut list = redis::cmd("ZRANGE");
        list.arg(index_key(owner)).arg(0).arg(-1);
        let known: Vec<String> = in_time(list.query_async(&mut connection)).await?;
        let known: Vec<(&String, &str)> = known
            .iter()
            .filter_map(|name| Some((name, name.split_once(' ')?)))
            .filter(|(_, (whose, _))| session.is_none_or(|session| session.as_str() == *whose))
            .map(|(name, (_, turn))| (name, turn))
            .collect();
        if known.is_empty() {
            return Ok(());
        }
        let mut forget = Pipeline::new();
        for (name, turn) in known {
            if let Ok(turn) = TurnId::new(turn) {
                let key = stream_key(&TurnKey::new(owner.clone(), turn));
                forget.cmd("DEL").arg(key).ignore();
            }
            forget.cmd("ZREM").arg(index_key(owner)).arg(name).ignore();
        }
        in_time(forget.query_async::<()>(&mut connection)).await
    }

    async fn check(&self) -> Result<()> {
        let mut connection = self.0.connection.clone();
        // Also a node of a cluster and a Sentinel answer a PING, and are of no use.
        let mut two_keys = redis::cmd("EVAL");
        two_keys.arg("return redis.call('EXISTS', KEYS[1], KEYS[2])");
        two_keys.arg(2).arg("neuro-tutor:a").arg("neuro-tutor:b");
        in_time(two_keys.query_async::<()>(&mut connection)).await
    }
}

struct Follower {
    bus: RedisBus,
    turn: TurnKey,
    after: u64,
    woken: Subscription,
    /// True if everything was read that was there when it was woken last.
    has_all: bool,
    is_over: bool,
}

impl Follower {
    async fn next(&mut self) -> Option<Result<Vec<TurnEvent>>> {
        if self.is_over {
            return None;
        }
        loop {
            if self.has_all {
                // Also woken when the channel is listened to at last, so that nothing is missed.
                let _ = timeout(LOOK_AGAIN, self.woken.notified()).await;
            }
            match self.bus.read(&self.turn, self.after).await {
                Err(error) => {
                    self.is_over = true;
                    return Some(Err(error));
                }
                Ok((events, has_more)) => {
                    self.has_all = !has_more;
                    if let Some(last) = events.last() {
                        self.after = last.seq;
                        self.is_over = last.event.is_terminal();
                        return Some(Ok(events));
                    }
                }
            }
        }
    }
}

/// How connections are made: quickly or not at all, because there is the store.
fn connecting() -> ConnectionManagerConfig {
    ConnectionManagerConfig::new()
        .set_number_of_retries(1)
        .set_min_delay(Duration::from_millis(50))
        .set_max_delay(Duration::from_millis(200))
        .set_response_timeout(Some(RESPONSE))
        .set_connection_timeout(Some(CONNECT))
}

/// What Redis answers, if it does so in time.
async fn in_time<T>(asked: impl Future<Output = Result<T, RedisError>>) -> Result<T> {
    match timeout(RESPONSE, asked).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(fault(&error)),
        Err(_) => Err(unavailable("timeout")),
    }
}

/// An error without anything that Redis says: it quotes commands, and with them learners' words.
fn fault(error: &RedisError) -> Error {
    let reason = match error.kind() {
        RedisErrorKind::AuthenticationFailed => "auth",
        RedisErrorKind::Io if error.is_timeout() => "timeout",
        RedisErrorKind::Io if error.is_connection_refusal() => "refused",
        RedisErrorKind::Io => "connection",
        RedisErrorKind::Server(ServerErrorKind::ReadOnly) => "read_only",
        RedisErrorKind::Server(ServerErrorKind::NoPerm) => "permission",
        RedisErrorKind::Server(ServerErrorKind::BusyLoading) => "loading",
        _ => "refused_command",
    };
    unavailable(reason)
}

fn unavailable(reason: &'static str) -> Error {
    Error::new(ErrorKind::StoreUnavailable, "Redis cannot be used")
        .retryable(None)
        .with_context("reason", reason)
}

fn unusable() -> Error {
    Error::new(
        ErrorKind::Config,
        "this is no URL of Redis: write one such as redis://127.0.0.1:6379 or rediss://:PASSWORD@HOST:6379",
    )
}

fn is_unknown_script(error: &RedisError) -> bool {
    error.kind() == RedisErrorKind::Server(ServerErrorKind::NoScript)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Ids may have colons in them, so that a length says where the owner's ends.
fn stream_key(turn: &TurnKey) -> String {
    let owner = turn.owner.as_str();
    format!("neuro-tutor:turn:{}:{owner}:{}", owner.len(), turn.id)
}

fn channel(turn: &TurnKey) -> String {
    stream_key(turn)
}

fn index_key(owner: &OwnerId) -> String {
    format!("neuro-tutor:turns:{owner}")
}

fn running_key(owner: &OwnerId) -> String {
    format!("neuro-tutor:running:{owner}")
}

fn requests_channel(instance: &str) -> String {
    format!("neuro-tutor:stop:{instance}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_url_that_is_none_is_refused_without_telling_it() {
        for url in ["", "http://canary:6379", "redis://[canary"] {
            let error = RedisBus::new(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(!format!("{error} {error:?}").contains("canary"));
        }
    }

    #[tokio::test]
    async fn where_it_is_is_told_without_the_password() {
        let bus = RedisBus::new("redis://user:canary@127.0.0.1:1/0").unwrap();
        assert!(!format!("{bus:?} {}", bus.location()).contains("canary"));
        assert!(bus.location().contains("127.0.0.1:1"));
        let error = bus.check().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StoreUnavailable);
        assert_eq!(error.context_value("reason"), Some("refused"));
    }

    #[test]
    fn turns_of_different_owners_never_share_a_key() {
        let key = |owner: &str, turn: &str| {
            stream_key(&TurnKey::new(
                OwnerId::new(owner).unwrap(),
                TurnId::new(turn).unwrap(),
            ))
        };
        assert_ne!(key("a", "b:c"), key("a:b", "c"));
        assert_ne!(key("1:a", "b"), key("a", "1:b"));
    }
}
