//! How the server is configured: flags, then the environment, then a `.env` file, then
//! `neuro-tutor.toml`, then defaults.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tutor_core::file::FileStore;
use tutor_core::provider::{
    Catalog, ModelChoice, ModelInfo, ProviderConfig, SharedProvider, discover,
};
use tutor_core::store::{Durability, Location, Store};
use tutor_core::usage::Quota;
use tutor_core::{Error, ErrorKind, Limits, Result, Tutor, TutorBuilder};

use crate::allowance::Allowances;
use crate::bounds::Bounds;
use crate::edge::{Origins, TrustedProxies};
use crate::logs::LogFormat;
use crate::metrics::{MeteredProvider, MeteredStore, Metrics};
use crate::people::PeopleBounds;
use crate::shared::{RedisUrl, Shared};
use crate::tls::TlsFiles;

mod allowances;
mod args;
mod dotenv;
mod file;
mod instances;
mod issuers;
mod layers;
mod providers;
mod shown;
mod vars;

pub use args::{Args, DataArgs, FilesPlace};
pub use layers::{Effective, Origin};
pub use providers::Configured;
pub use vars::Vars;

use args::BucketVars;
use layers::{Layers, Setting};

/// The directory in which conversations are kept when nothing else is said.
const DEFAULT_DATA: &str = "neuro-tutor-data";

/// How long a local Ollama may take to say that it is there.
const OLLAMA_PATIENCE: Duration = Duration::from_millis(300);

/// What is to be served, where and how.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Settings {
    /// A name or an address.
    pub host: String,
    /// 0 for any free one.
    pub port: u16,
    /// Where conversations are kept.
    pub data: Location,
    /// The server's bounds.
    pub bounds: Bounds,
    /// The engine's bounds.
    pub limits: Limits,
    /// Where uploaded files are kept.
    pub files: FilesPlace,
    /// What a bucket's account needs: names as in the environment, and values.
    bucket: BucketVars,
    /// What other instances on the same data share with this one; `None` for nothing.
    pub redis: Option<RedisUrl>,
    /// How much each owner may use in a day.
    pub quota: Quota,
    /// How much each caller may do.
    pub allowances: Allowances,
    /// True to have the provider make better titles.
    pub improve_titles: bool,
    /// True to have the provider summarize what is too old to be sent.
    pub summarize: bool,
    /// Whose pages may read the answers.
    pub origins: Origins,
    /// Whose `X-Forwarded-For` is believed.
    pub proxies: TrustedProxies,
    /// How much is logged.
    pub log_level: LevelFilter,
    /// How a line of the log looks.
    pub log_format: LogFormat,
    /// What it proves to be itself with; `None` to serve without TLS.
    pub tls: Option<TlsFiles>,
    /// Where health and metrics are told: a host and a port. `None` for beside the API.
    pub metrics_listen: Option<(String, u16)>,
    /// Who may use it; `None` if it asks nobody who they are.
    pub people: Option<PeopleBounds>,
    /// True to listen where others can reach a server that asks nobody who they are.
    pub insecure_no_auth: bool,
    /// Who answers.
    pub providers: Vec<Configured>,
    /// The name of the one that answers when a request names nobody; `None` for the first one.
    pub default_provider: Option<String>,
    /// Where to look for a local Ollama, because nobody else is configured.
    pub ollama: Option<String>,
    /// What is known of models: how much fits into them, and what they cost.
    pub catalog: Catalog,
    /// Every other setting as it is in effect, and where it comes from.
    pub effective: Vec<Effective>,
    /// The files that hold keys.
    pub key_files: Vec<PathBuf>,
}

/// What a server works with.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Opened {
    /// Conversations.
    pub tutor: Tutor,
    /// Where they are kept.
    pub store: Arc<dyn Store>,
    /// Uploaded files.
    pub files: FileStore,
    /// What other instances share with this one; `None` for nothing.
    pub shared: Option<Shared>,
}

impl Settings {
    /// Puts the settings together.
    ///
    /// # Errors
    /// `config`, naming the setting, what is wrong with it, and what to write instead.
    pub fn new(args: Args, vars: &Vars) -> Result<Self> {
        let setting = |key, var, form| Setting { key, var, form };
        let (number, count) = ("a whole number", "a whole number from 1 on");
        let (bounds, mut limits) = (Bounds::default(), Limits::default());
        let mut layers = Layers::new(vars);
        let host = layers.pick(
            setting("host", "HOST", "an address or a name"),
            args.host,
            "127.0.0.1".to_owned(),
        )?;
        let port = layers.pick(
            setting("port", "PORT", "a number from 0 to 65535"),
            args.port,
            8000,
        )?;
        let data = args.data.pick(&mut layers)?;
        let origins = layers.pick_read(
            setting(
                "cors_origins",
                "CORS_ORIGINS",
                "origins like http://localhost:5173",
            ),
            args.cors_origins,
            Origins::parse,
            |origins| origins.to_text().into(),
            Origins::default,
        )?;
        let proxies = layers.pick_read(
            setting(
                "trusted_proxies",
                "TRUSTED_PROXIES",
                "addresses and networks like 127.0.0.1 or 10.0.0.0/8",
            ),
            args.trusted_proxies,
            TrustedProxies::parse,
            |proxies| proxies.to_text().into(),
            TrustedProxies::default,
        )?;
        let is_debug = vars.is_true("DEBUG")?;
        let log_level = layers.pick_read(
            setting("log_level", "LOG_LEVEL", LEVELS),
            args.log_level,
            parse_level,
            |level| level.to_string().to_lowercase().into(),
            || match is_debug {
                true => LevelFilter::DEBUG,
                false => LevelFilter::INFO,
            },
        )?;
        let log_format = layers.pick_read(
            setting("log_format", "LOG_FORMAT", "text or json"),
            args.log_format,
            |word| {
                Ok(if choice(word, ["text", "json"])? {
                    LogFormat::Json
                } else {
                    LogFormat::Text
                })
            },
            |format| {
                if *format == LogFormat::Json {
                    "json"
                } else {
                    "text"
                }
                .into()
            },
            LogFormat::default,
        )?;
        let mut file = |key, var, flag| {
            let setting = setting(key, var, "the path of a PEM file");
            layers.pick_file(setting, flag, |path| Ok(path.to_owned()))
        };
        let tls = tls_files(
            file("tls_certificate", "TLS_CERTIFICATE", args.tls_certificate)?,
            file("tls_key", "TLS_KEY", args.tls_key)?,
        )?;
        let metrics_listen = layers.pick_read(
            setting(
                "metrics_listen",
                "METRICS_LISTEN",
                "an address such as 127.0.0.1:9464",
            ),
            args.metrics_listen,
            |text| host_and_port(text).map(Some),
            |place| {
                place
                    .as_ref()
                    .map(|(host, port)| format!("{host}:{port}"))
                    .unwrap_or_default()
                    .into()
            },
            || None,
        )?;
        let default_provider = layers.pick_read(
            setting("default_provider", "DEFAULT_PROVIDER", "a provider's name"),
            args.default_provider,
            |name| Ok(Some(name.to_owned())),
            |name| name.clone().unwrap_or_default().into(),
            || None,
        )?;
        let has_accounts = layers.pick_read(
            setting("auth", "AUTH", "off or required"),
            args.auth,
            |word| choice(word, ["off", "required"]),
            |required| if *required { "required" } else { "off" }.into(),
            || false,
        )?;
        let open_registration = layers.pick_read(
            setting("registration", "REGISTRATION", "open or closed"),
            args.registration,
            |word| choice(word, ["closed", "open"]),
            |open| if *open { "open" } else { "closed" }.into(),
            || true,
        )?;
        let insecure_no_auth = layers.pick_truth(
            setting("insecure_no_auth", "INSECURE_NO_AUTH", "true or false"),
            args.insecure_no_auth,
        )?;
        let max_connections = layers.pick_count(
            setting("max_connections", "MAX_CONNECTIONS", count),
            args.max_connections,
            bounds.max_connections,
        )?;
        limits.max_live_turns = layers.pick_count(
            setting("max_live_turns", "MAX_LIVE_TURNS", count),
            args.max_live_turns,
            limits.max_live_turns,
        )?;
        let max_body_bytes = layers.pick_count(
            setting("max_body_bytes", "MAX_BODY_BYTES", count),
            args.max_body_bytes,
            bounds.max_body_bytes,
        )?;
        let max_message_chars = layers.pick_count(
            setting("max_message_chars", "MAX_MESSAGE_CHARS", count),
            args.max_message_chars,
            bounds.max_message_chars,
        )?;
        let drain_seconds = layers.pick(
            setting("drain_seconds", "DRAIN_SECONDS", number),
            args.drain_seconds,
            bounds.drain_grace.as_secs(),
        )?;
        limits.max_live_turns_per_owner = layers.pick_count(
            setting(
                "max_live_turns_per_person",
                "MAX_LIVE_TURNS_PER_PERSON",
                count,
            ),
            None,
            limits.max_live_turns_per_owner,
        )?;
        let (allowances, quota) = allowances::pick(&mut layers, has_accounts)?;
        let redis = instances::pick(&mut layers, &mut limits)?;
        let files = args::pick_files(&mut layers, &data)?;
        let improve_titles = layers.pick_truth(
            setting("improve_titles", "IMPROVE_TITLES", "true or false"),
            false,
        )?;
        let summarize =
            layers.pick_truth(setting("summarize", "SUMMARIZE", "true or false"), false)?;
        let catalog = layers.pick_file(
            setting("model_catalog", "MODEL_CATALOG", "the path of a JSON file"),
            None,
            read_catalog,
        )?;
        let (providers, ollama) = providers::providers(vars)?;
        let mut key_files = providers::key_files(vars);
        key_files.extend(tls.iter().map(|files| files.key.clone()));
        let issuers = issuers::issuers(vars)?;
        if !issuers.is_empty() && !has_accounts {
            return Err(config(
                "issuers are of use only where people sign in: set auth to required".to_owned(),
            ));
        }
        Ok(Self {
            host,
            port,
            data,
            bounds: Bounds {
                max_connections,
                max_body_bytes,
                max_message_chars,
                drain_grace: Duration::from_secs(drain_seconds),
                ..bounds
            },
            limits,
            files,
            bucket: BucketVars::of(vars),
            redis,
            quota,
            allowances,
            improve_titles,
            summarize,
            origins,
            proxies,
            log_level,
            log_format,
            tls,
            metrics_listen,
            insecure_no_auth,
            people: has_accounts.then(|| PeopleBounds {
                open_registration,
                issuers,
                ..PeopleBounds::default()
            }),
            providers,
            default_provider,
            ollama,
            catalog: catalog.unwrap_or_else(Catalog::built_in),
            effective: layers.end()?,
            key_files,
        })
    }

    /// Looks for a local Ollama if nobody is configured who could give real answers.
    pub async fn discover(mut self) -> Self {
        if let Some(url) = self.ollama.take()
            && let Some(config) = discover::local_ollama(&url, OLLAMA_PATIENCE).await
        {
            let origin = Origin::Found(format!("Ollama at {url}"));
            self.providers = vec![Configured { config, origin }];
        }
        self
    }

    /// Makes the providers, which count in `metrics`.
    ///
    /// # Errors
    /// `config` for providers that cannot be made.
    pub fn build_providers(&self, metrics: &Metrics) -> Result<Vec<SharedProvider>> {
        let configs: Vec<_> = self.providers.iter().map(|c| c.config.clone()).collect();
        let built = ProviderConfig::build_all(&configs)?.into_iter();
        Ok(built
            .map(|provider| Arc::new(MeteredProvider::new(provider, metrics.clone())) as _)
            .collect())
    }

    /// A tutor as it is configured, but for its data. Its providers count in `metrics`.
    ///
    /// # Errors
    /// `config` for providers that cannot be made.
    pub fn builder(&self, metrics: &Metrics) -> Result<TutorBuilder> {
        let mut builder = Tutor::builder()
            .limits(self.limits.clone())
            .quota(self.quota.clone())
            .improve_titles(self.improve_titles)
            .summarize(self.summarize)
            .catalog(self.catalog.clone());
        for provider in self.build_providers(metrics)? {
            builder = builder.provider(provider);
        }
        if let Some(name) = &self.default_provider {
            builder = builder.default_provider(name);
        }
        Ok(builder)
    }

    /// Opens the data, and makes the providers. Both count in `metrics`.
    ///
    /// # Errors
    /// `store_locked` if another process has the data, naming it; other errors of the store;
    /// `config` for providers that cannot be made.
    pub async fn open(&self, metrics: &Metrics) -> Result<Opened> {
        let builder = self.builder(metrics)?;
        let store = MeteredStore::new(self.data.open().await?, metrics.clone());
        let store: Arc<dyn Store> = Arc::new(store);
        let files = self.open_files(Arc::clone(&store))?;
        let mut builder = builder.data(Arc::clone(&store)).files(files.clone());
        let shared = self.redis.as_ref().map(Shared::new).transpose()?;
        if let Some(shared) = &shared {
            builder = builder.bus(shared.bus().clone());
        }
        Ok(Opened {
            tutor: builder.build().await?,
            store,
            files,
            shared,
        })
    }

    /// Opens the place of uploaded files, whose records are in `store`.
    ///
    /// # Errors
    /// `config` for a bucket whose account is not given right; `store_unavailable` for a directory
    /// that cannot be used.
    pub fn open_files(&self, store: Arc<dyn Store>) -> Result<FileStore> {
        self.files.open(&self.bucket, store)
    }

    /// Says in the log which providers cannot be used as they are configured: a wrong key, a host
    /// that is not there, a model that is not offered. They may still recover, so that this is no
    /// reason not to serve.
    pub async fn check_providers(&self) {
        let checks = self.providers.iter().map(|configured| async {
            let config = &configured.config;
            match list_models(config).await {
                Err(error) => tracing::warn!(
                    provider = config.name,
                    code = error.code(),
                    reason = error.context_value("reason"),
                    host = error.context_value("host"),
                    cause = error.context_value("cause"),
                    "this provider cannot be used: {}; `neuro-tutor doctor` says more",
                    error.message()
                ),
                Ok(models) => {
                    if let Some(model) = missing_model(config, &models) {
                        tracing::warn!(
                            provider = config.name,
                            model,
                            "this provider does not list its default model: set default_model to one that it has"
                        );
                    }
                }
            }
        });
        futures_util::future::join_all(checks).await;
    }
}

/// How long a provider may take to list its models.
const LIST_PATIENCE: Duration = Duration::from_secs(10);

/// What the provider itself says that it has, asked once.
///
/// # Errors
/// Those of the provider.
pub async fn list_models(config: &ProviderConfig) -> Result<Vec<ModelInfo>> {
    let mut config = config.clone();
    config.models.clear();
    config.aliases.clear();
    config.fallback.clear();
    let provider = config.build()?;
    tokio::time::timeout(LIST_PATIENCE, provider.models())
        .await
        .unwrap_or_else(|_| {
            Err(Error::new(
                ErrorKind::Timeout,
                "the provider did not list its models in time",
            ))
        })
}

/// The default model, if the list is one and lacks it.
pub fn missing_model(config: &ProviderConfig, models: &[ModelInfo]) -> Option<String> {
    let wanted = config.default_model.clone()?;
    // Ollama lists tags, Gemini and gateways list paths.
    let is_it = |model: &ModelInfo| {
        model.id == wanted
            || model
                .id
                .strip_prefix(&wanted)
                .is_some_and(|rest| rest.starts_with(':'))
            || model
                .id
                .strip_suffix(&wanted)
                .is_some_and(|rest| rest.ends_with('/'))
    };
    (!models.is_empty() && !models.iter().any(is_it)).then_some(wanted)
}

/// What one wants to know of a server that starts: where the data is, and who answers.
pub fn summary(tutor: &Tutor) -> Vec<String> {
    let store = tutor.store_info();
    let survives = match store.durability {
        Durability::None => "lost when the server stops",
        Durability::Process => "survives a crash of the server",
        Durability::Power => "survives power loss",
    };
    let mut lines = vec![
        format!("Neuro Tutor {}", env!("CARGO_PKG_VERSION")),
        format!("  data       {} ({survives})", store.location),
    ];
    for provider in tutor.providers() {
        lines.push(if provider.models == ModelChoice::StandIn {
            format!(
                "  provider   {}: set OPENAI_API_KEY or ANTHROPIC_API_KEY to get real answers",
                provider.name
            )
        } else {
            format!(
                "  provider   {}, model {}",
                provider.name, provider.default_model
            )
        });
    }
    lines
}

const LEVELS: &str = "error, warn, info, debug or trace";

/// The models that are known, with those of a file added.
fn read_catalog(path: &Path) -> Result<Catalog> {
    let json = std::fs::read_to_string(path).map_err(|error| {
        config("the catalog of models cannot be read".to_owned()).with_source(error)
    })?;
    Catalog::built_in().with_json(&json)
}

/// Takes Python's names too.
pub(crate) fn parse_level(text: &str) -> Result<LevelFilter> {
    Ok(match text.to_ascii_lowercase().as_str() {
        "critical" | "error" => LevelFilter::ERROR,
        "warning" | "warn" => LevelFilter::WARN,
        "info" => LevelFilter::INFO,
        "debug" => LevelFilter::DEBUG,
        "trace" => LevelFilter::TRACE,
        "off" => LevelFilter::OFF,
        _ => {
            return Err(config(format!(
                "there is no level {text:?}: write {LEVELS}"
            )));
        }
    })
}

/// Where the certificate and its key are, which belong together.
fn tls_files(certificate: Option<PathBuf>, key: Option<PathBuf>) -> Result<Option<TlsFiles>> {
    match (certificate, key) {
        (None, None) => Ok(None),
        (Some(certificate), Some(key)) => Ok(Some(TlsFiles { certificate, key })),
        (Some(_), None) => Err(config(
            "tls_certificate needs tls_key: set it too".to_owned(),
        )),
        (None, Some(_)) => Err(config(
            "tls_key needs tls_certificate: set it too".to_owned(),
        )),
    }
}

fn host_and_port(text: &str) -> Result<(String, u16)> {
    let parts = text.rsplit_once(':').and_then(|(host, port)| {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        Some((host.to_owned(), port.parse().ok()?)).filter(|_| !host.is_empty())
    });
    parts.ok_or_else(|| {
        config(format!(
            "{text:?} is no address: write one such as 127.0.0.1:9464"
        ))
    })
}

/// True for the second of two words.
fn choice(word: &str, [no, yes]: [&str; 2]) -> Result<bool> {
    match word.to_ascii_lowercase() {
        word if word == no => Ok(false),
        word if word == yes => Ok(true),
        _ => Err(config(format!("it is not {word:?}: write {no} or {yes}"))),
    }
}

fn config(message: String) -> Error {
    Error::new(ErrorKind::Config, message)
}
