//! `neuro-tutor doctor`: tries everything that a server needs, and says what to fix.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::{self, Settings, Vars};
use crate::metrics::Metrics;
use crate::people::People;
use crate::traces::Traces;
use crate::{RedisUrl, Shared, TlsFiles};
use futures_util::StreamExt;
use tutor_core::provider::{
    CompletionRequest, Delta, Provider, ProviderConfig, ProviderKind, SharedProvider,
};
use tutor_core::store::{Expect, Location, MemoryStore, RecordStore, RecordWrite, SessionStore};
use tutor_core::time::{Runtime, SystemRuntime, Timestamp};
use tutor_core::{Error, ErrorKind, LiveBus, Result as TutorResult};

use super::failure::{DATA_NOT_USABLE, FAILED, Failure, WRONG_CONFIGURATION};
use super::{output, runtime};

mod address;

pub(super) const EXAMPLES: &str = "\
Examples:
  neuro-tutor doctor                          check everything
  neuro-tutor doctor --offline                ask no provider
  neuro-tutor doctor --config /etc/tutor.toml";

/// How long a provider may take for the tiny request.
const PATIENCE: Duration = Duration::from_secs(60);
/// The tokens that the tiny reply may have.
const TINY: u64 = 64;
/// Before this project existed no clock is right: 2025-01-01.
const EPOCH: Timestamp = Timestamp::from_micros(1_735_689_600_000_000);

#[derive(Debug, clap::Args)]
// The options of serving have the group's usual name already.
#[group(skip)]
pub(super) struct Args {
    #[command(flatten)]
    serve: config::Args,
    /// Ask no provider
    #[arg(long)]
    offline: bool,
}

/// What became of one check.
enum Outcome {
    Fine(String),
    /// It works, but somebody should know.
    Note(String),
    Wrong(u8, String),
}

struct Report {
    text: String,
    code: u8,
}

impl Report {
    fn add(&mut self, what: &str, outcome: Outcome) {
        let (word, said) = match outcome {
            Outcome::Fine(said) => ("ok", said),
            Outcome::Note(said) => ("note", said),
            Outcome::Wrong(code, said) => {
                // Data that cannot be used matters more than a provider.
                self.code = self.code.max(code);
                ("FAIL", said)
            }
        };
        // Writing to a text does not fail.
        let _ = writeln!(self.text, "{word:<5} {what}: {said}");
    }
}

pub(super) fn run(args: Args, vars: &Vars) -> Result<u8, Failure> {
    let settings = Settings::new(args.serve, vars)?;
    let runtime = runtime()?;
    Traces::from_vars(vars, runtime.handle().clone())?;
    let report = runtime.block_on(check(settings, args.offline));
    output::print(report.text.as_bytes())?;
    Ok(report.code)
}

async fn check(settings: Settings, offline: bool) -> Report {
    let mut report = Report {
        text: String::new(),
        code: 0,
    };
    report.add("clock", clock(SystemRuntime.now()));
    for path in &settings.key_files {
        report.add(&path.display().to_string(), privacy(path, 0o077));
    }
    if let Some(tls) = &settings.tls {
        let what = format!("certificate {}", tls.certificate.display());
        report.add(&what, certificate(tls));
    }
    let served = format!("address {}, port {}", settings.host, settings.port);
    report.add(&served, address::served(&settings).await);
    if let Some((host, port)) = &settings.metrics_listen {
        let watched = format!("metrics at {host}, port {port}");
        report.add(&watched, address::watched(host, *port).await);
    }
    let data = settings.data.to_string();
    report.add(&format!("data {data}"), store(&settings.data).await);
    if let Location::Sled(path) = &settings.data {
        report.add(
            &format!("permissions of {}", path.display()),
            privacy(path, 0o077),
        );
    }
    report.add(&format!("files {}", settings.files), files(&settings).await);
    if let Some(url) = &settings.redis {
        report.add(&format!("redis {url}"), redis(url, &settings.data).await);
    }
    let settings = settings.discover().await;
    let configs: Vec<_> = settings
        .providers
        .iter()
        .map(|c| c.config.clone())
        .collect();
    if let Err(error) = put_together(&settings).await {
        report.add(
            "settings",
            Outcome::Wrong(WRONG_CONFIGURATION, said(&error)),
        );
    }
    for config in configs {
        let alone = alone(&config);
        let count = alone.len();
        for (i, config) in alone.into_iter().enumerate() {
            let what = match count {
                1 => format!("provider {}", config.name),
                _ => format!("provider {}, key {} of {count}", config.name, i + 1),
            };
            let outcome = match offline {
                true => Outcome::Note("not asked".to_owned()),
                false => provider(&config).await,
            };
            report.add(&what, outcome);
        }
    }
    report
}

/// The provider with each of its keys alone, without anything around it.
fn alone(config: &ProviderConfig) -> Vec<ProviderConfig> {
    let mut bare = config.clone();
    bare.fallback.clear();
    bare.breaker = None;
    bare.concurrency = None;
    bare.max_retries = 0;
    let keys: Vec<_> = bare.key.iter().chain(&bare.spare_keys).cloned().collect();
    bare.spare_keys.clear();
    if keys.is_empty() {
        return vec![bare];
    }
    let with = |key| {
        let mut config = bare.clone();
        config.key = Some(key);
        config
    };
    keys.into_iter().map(with).collect()
}

fn clock(now: Timestamp) -> Outcome {
    if now < EPOCH {
        return Outcome::Wrong(
            FAILED,
            format!("{now} is in the past: set the time, or certificates will not be accepted"),
        );
    }
    Outcome::Fine(now.to_string())
}

/// Whether nobody else on this machine can read it.
#[cfg(unix)]
fn privacy(path: &Path, others: u32) -> Outcome {
    use std::os::unix::fs::PermissionsExt;
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.permissions().mode() & others == 0 => {
            Outcome::Fine("nobody else can read it".to_owned())
        }
        Ok(_) => Outcome::Note(format!(
            "others on this machine may read it: chmod go= {}",
            path.display()
        )),
        Err(error) => Outcome::Note(format!("cannot be looked at: {error}")),
    }
}

#[cfg(not(unix))]
fn privacy(_: &Path, _: u32) -> Outcome {
    Outcome::Note("permissions are not checked on this system".to_owned())
}

fn certificate(files: &TlsFiles) -> Outcome {
    match files.load() {
        Ok(_) => Outcome::Fine("goes with its key".to_owned()),
        Err(error) => Outcome::Wrong(WRONG_CONFIGURATION, said(&error)),
    }
}

/// Makes what a server makes of its settings, on data of its own.
async fn put_together(settings: &Settings) -> TutorResult<()> {
    let tutor = settings.builder(&Metrics::default())?.build().await?;
    tutor.close().await?;
    if let Some(bounds) = settings.people.clone() {
        let store = Arc::new(MemoryStore::new());
        People::open(store, Arc::new(SystemRuntime), bounds).await?;
    }
    Ok(())
}

/// Opens the data, and writes a record.
async fn store(location: &Location) -> Outcome {
    let write = |value: Option<Vec<u8>>| RecordWrite {
        kind: "doctor".to_owned(),
        key: "probe".to_owned(),
        value,
        expect: Expect::Any,
    };
    let tried: TutorResult<()> = async {
        let store = location.open().await?;
        let written = async {
            store.commit(vec![write(Some(b"?".to_vec()))]).await?;
            store.commit(vec![write(None)]).await
        };
        let written = written.await;
        store.close().await?;
        written
    }
    .await;
    match tried {
        Ok(()) => Outcome::Fine("can be opened and written".to_owned()),
        Err(error) if error.kind() == ErrorKind::StoreLocked => Outcome::Note(format!(
            "in use, as by a server that runs ({})",
            said(&error)
        )),
        Err(error) => Outcome::Wrong(DATA_NOT_USABLE, said(&error)),
    }
}

/// Writes, reads and removes something where uploaded files are.
async fn files(settings: &Settings) -> Outcome {
    // Whose records are elsewhere; here is no file.
    let tried = async {
        let files = settings.open_files(Arc::new(MemoryStore::new()))?;
        files.try_out().await
    };
    match tried.await {
        Ok(()) => Outcome::Fine("can be written and read".to_owned()),
        Err(error) => Outcome::Wrong(DATA_NOT_USABLE, said(&error)),
    }
}

/// Asks Redis, which is worth something only where others can open the data.
async fn redis(url: &RedisUrl, data: &Location) -> Outcome {
    match Shared::new(url) {
        Ok(shared) => match shared.bus().check().await {
            Ok(()) if matches!(data, Location::Postgres(_)) => Outcome::Fine("answers".to_owned()),
            Ok(()) => Outcome::Note(
                "answers, and is of no use: several instances need data in PostgreSQL".to_owned(),
            ),
            Err(error) => Outcome::Wrong(
                FAILED,
                format!(
                    "{}: start it, or check REDIS_URL; until then instances count callers each for \
                     itself and follow each other's replies through the store",
                    said(&error)
                ),
            ),
        },
        Err(error) => Outcome::Wrong(WRONG_CONFIGURATION, said(&error)),
    }
}

async fn provider(config: &ProviderConfig) -> Outcome {
    if config.kind == ProviderKind::Demo {
        return Outcome::Note(
            "answers by itself, without a language model: set OPENAI_API_KEY or \
             ANTHROPIC_API_KEY, or write [providers.NAME], to get real answers"
                .to_owned(),
        );
    }
    let provider = match config.build() {
        Ok(provider) => provider,
        Err(error) => return Outcome::Wrong(WRONG_CONFIGURATION, said(&error)),
    };
    let model = provider.info().default_model;
    let start = Instant::now();
    match ask(&provider, &model).await {
        Ok(()) => Outcome::Fine(format!(
            "{model} answers in {:.1} s",
            start.elapsed().as_secs_f64()
        )),
        Err(error) => explain(config, &model, &error).await,
    }
}

/// One tiny request; the reply itself does not matter.
async fn ask(provider: &SharedProvider, model: &str) -> TutorResult<()> {
    let mut request = CompletionRequest::new(model, "Say OK.");
    request.max_tokens = Some(TINY);
    request.context.deadline = Some(tokio::time::Instant::now() + PATIENCE);
    let mut stream = provider.stream(request).await?;
    while let Some(delta) = stream.next().await {
        if let Delta::Finished { .. } = delta? {
            return Ok(());
        }
    }
    Err(Error::new(ErrorKind::Interrupted, "the reply ended early"))
}

/// What went wrong, and what to do.
async fn explain(config: &ProviderConfig, model: &str, error: &Error) -> Outcome {
    let fact = |key| error.context_value(key);
    let host = fact("host").unwrap_or("the server");
    let advice = match (fact("reason"), fact("cause")) {
        (_, Some("dns")) => format!("DNS: {host} has no address: check base_url and the network"),
        (_, Some("refused")) => {
            format!("refused: nothing listens at {host}: start it, or check the port in base_url")
        }
        (_, Some("tls")) => format!(
            "TLS: no trusted connection to {host}: check https or http in base_url, this \
             machine's root certificates and its clock"
        ),
        (_, Some("unreachable")) => format!("unreachable: no way to {host}: check the network"),
        (Some("timeout"), _) if fact("phase") == Some("connect") => {
            format!("timeout: {host} takes no connection: check the firewall, or set proxy")
        }
        (Some("timeout"), _) => "timeout: it takes requests and does not answer".to_owned(),
        (Some("auth" | "permission"), _) => {
            "auth: the key is refused: check the key, and what its account may use".to_owned()
        }
        (Some("quota_exhausted"), _) => {
            "quota: the account has no credit left, or reached its limit: check its billing page"
                .to_owned()
        }
        (Some("rate_limited"), _) => {
            return Outcome::Note("works, but takes no more requests at the moment".to_owned());
        }
        (Some("empty_response"), _) => {
            return Outcome::Note(format!("{model} answers, but with nothing"));
        }
        (Some("not_found"), _) => {
            let others = others(config).await;
            format!("model: there is no {model}: set default_model{others}")
        }
        _ => said(error),
    };
    Outcome::Wrong(FAILED, advice)
}

/// A few models that there are.
async fn others(config: &ProviderConfig) -> String {
    match config::list_models(config).await {
        Ok(models) if !models.is_empty() => {
            let names: Vec<_> = models
                .iter()
                .take(5)
                .map(|model| model.id.as_str())
                .collect();
            format!("; there are {}", names.join(", "))
        }
        Ok(_) | Err(_) => String::new(),
    }
}

/// The sentence and the facts.
fn said(error: &Error) -> String {
    let facts: Vec<_> = error
        .context()
        .map(|(key, value)| format!("{key}: {value}"))
        .collect();
    match facts.as_slice() {
        [] => error.message().to_owned(),
        facts => format!("{} ({})", error.message(), facts.join(", ")),
    }
}
