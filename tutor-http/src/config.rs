//! How the server is configured: flags, then the environment, then a `.env` file, then defaults.

use std::time::Duration;

use tutor_core::provider::DemoProvider;
use tutor_core::provider::config::ProviderConfig;
use tutor_core::store::{Durability, Location};
use tutor_core::{Error, ErrorKind, Limits, Result, Tutor};

use crate::bounds::Bounds;
use crate::edge::Origins;

mod vars;

pub use vars::Vars;

// No doc comment: clap would show it as the help of the command that takes these options.
#[derive(Clone, Debug, Default, clap::Args)]
#[non_exhaustive]
#[expect(
    missing_docs,
    reason = "what is written here would be shown as the help of a command"
)]
pub struct Args {
    /// Address to listen on [env: HOST] [default: 127.0.0.1]
    #[arg(long)]
    pub host: Option<String>,
    /// Port to listen on; 0 for any that is free [env: PORT] [default: 8000]
    #[arg(long)]
    pub port: Option<u16>,
    #[command(flatten)]
    pub data: DataArgs,
    /// Pages that may call the server from a browser, separated by commas [env: CORS_ORIGINS] [default: http://localhost:5173,http://localhost:5180]
    #[arg(long)]
    pub cors_origins: Option<String>,
    /// error, warn, info, debug or trace [env: LOG_LEVEL] [default: info, or debug if DEBUG is set]
    #[arg(long)]
    pub log_level: Option<String>,
    /// Listen on an address that others can reach, though anybody can read and write everything
    #[arg(long)]
    pub insecure_no_auth: bool,
    /// Open connections; more are refused with 503 [default: 4096]
    #[arg(long)]
    pub max_connections: Option<usize>,
    /// Replies that are written at the same time; more are refused with 503 [default: 1024]
    #[arg(long)]
    pub max_live_turns: Option<usize>,
    /// Bytes of a request's body; more are refused with 413 [default: 2097152]
    #[arg(long)]
    pub max_body_bytes: Option<usize>,
    /// Characters of one message of a learner; more are refused with 422 [default: 20000]
    #[arg(long)]
    pub max_message_chars: Option<usize>,
    /// Seconds that a stopping server waits for running replies [default: 10]
    #[arg(long)]
    pub drain_seconds: Option<u64>,
}

/// The directory in which conversations are kept when nothing else is said.
const DEFAULT_DATA: &str = "neuro-tutor-data";

// Shared by every command that opens the data.
#[derive(Clone, Debug, Default, clap::Args)]
#[non_exhaustive]
#[expect(
    missing_docs,
    reason = "what is written here would be shown as the help of a command"
)]
pub struct DataArgs {
    /// Where conversations are kept: a directory, sqlite:///FILE, postgresql://USER:PASSWORD@HOST/NAME, or memory: [env: DATABASE_URL] [default: neuro-tutor-data]
    #[arg(long, value_name = "LOCATION")]
    pub data: Option<String>,
}

impl DataArgs {
    /// Where the data is: what the command line says, else the environment, else the default.
    ///
    /// # Errors
    /// `config` for a location that cannot be used, naming the setting.
    pub fn locate(&self, vars: &Vars) -> Result<Location> {
        match (&self.data, vars.get("DATABASE_URL")) {
            (Some(data), _) => location("--data", data),
            (None, Some(url)) => location("DATABASE_URL", url),
            (None, None) => Ok(Location::Sled(DEFAULT_DATA.into())),
        }
    }
}

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
    /// Whose pages may read the answers.
    pub origins: Origins,
    /// How much is logged.
    pub log_level: tracing::level_filters::LevelFilter,
    /// True to listen where others can reach a server that asks nobody who they are.
    pub insecure_no_auth: bool,
    /// Who answers, the default first.
    pub providers: Vec<ProviderConfig>,
}

impl Settings {
    /// Puts the settings together.
    ///
    /// # Errors
    /// `config`, naming the setting, what is wrong with it, and what to write instead.
    pub fn new(args: Args, vars: &Vars) -> Result<Self> {
        let bounds = Bounds::default();
        let mut limits = Limits::default();
        if let Some(max) = args.max_live_turns {
            limits.max_live_turns = max;
        }
        let grace = args.drain_seconds.map(Duration::from_secs);
        let data = args.data.locate(vars)?;
        let port = match args.port {
            Some(port) => port,
            None => vars
                .parsed("PORT", "a number from 0 to 65535")?
                .unwrap_or(8000),
        };
        let origins = args.cors_origins.as_deref().or(vars.get("CORS_ORIGINS"));
        let level = args.log_level.as_deref().or(vars.get("LOG_LEVEL"));
        let log_level = match level {
            Some(level) => parse_level(level)?,
            None if vars.is_true("DEBUG")? => tracing::level_filters::LevelFilter::DEBUG,
            None => tracing::level_filters::LevelFilter::INFO,
        };
        Ok(Self {
            host: args
                .host
                .or_else(|| vars.get("HOST").map(str::to_owned))
                .unwrap_or_else(|| "127.0.0.1".to_owned()),
            port,
            data,
            bounds: Bounds {
                max_connections: args.max_connections.unwrap_or(bounds.max_connections),
                max_body_bytes: args.max_body_bytes.unwrap_or(bounds.max_body_bytes),
                max_message_chars: args.max_message_chars.unwrap_or(bounds.max_message_chars),
                drain_grace: grace.unwrap_or(bounds.drain_grace),
                ..bounds
            },
            limits,
            origins: origins.map_or_else(|| Ok(Origins::default()), Origins::parse)?,
            log_level,
            insecure_no_auth: args.insecure_no_auth,
            providers: ProviderConfig::from_vars(|name| vars.get(name).map(str::to_owned))?,
        })
    }
}

impl Settings {
    /// Opens the data, and makes the providers.
    ///
    /// # Errors
    /// `store_locked` if another process has the data, naming it; other errors of the store;
    /// `config` for providers that cannot be made.
    pub async fn open(&self) -> Result<Tutor> {
        let mut builder = Tutor::builder().limits(self.limits.clone());
        for provider in &self.providers {
            builder = builder.provider(provider.build()?);
        }
        builder.store(self.data.open().await?).build().await
    }
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
        lines.push(if provider.name == DemoProvider::NAME {
            "  provider   demo: set OPENAI_API_KEY or ANTHROPIC_API_KEY to get real answers"
                .to_owned()
        } else {
            format!(
                "  provider   {}, model {}",
                provider.name, provider.default_model
            )
        });
    }
    lines
}

/// Reads a location; `name` is the setting's.
fn location(name: &str, text: &str) -> Result<Location> {
    text.parse().map_err(|error: Error| {
        let message = format!("{name}: {}", error.message());
        error
            .context()
            .fold(config(message), |named, (key, value)| {
                named.with_context(key, value)
            })
    })
}

/// Takes Python's names too.
fn parse_level(text: &str) -> Result<tracing::level_filters::LevelFilter> {
    use tracing::level_filters::LevelFilter;
    Ok(match text.to_ascii_lowercase().as_str() {
        "critical" | "error" => LevelFilter::ERROR,
        "warning" | "warn" => LevelFilter::WARN,
        "info" => LevelFilter::INFO,
        "debug" => LevelFilter::DEBUG,
        "trace" => LevelFilter::TRACE,
        "off" => LevelFilter::OFF,
        _ => {
            return Err(config(format!(
                "LOG_LEVEL is {text:?}: write error, warn, info, debug or trace"
            )));
        }
    })
}

fn config(message: String) -> Error {
    Error::new(ErrorKind::Config, message)
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use tracing::level_filters::LevelFilter;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn settings(args: &[&str], vars: &[(&str, &str)]) -> Result<Settings> {
        let line = Line::try_parse_from([&["neuro-tutor"], args].concat()).unwrap();
        Settings::new(line.args, &vars.iter().copied().collect())
    }

    #[test]
    fn nothing_needs_to_be_set() {
        let settings = settings(&[], &[]).unwrap();
        assert_eq!((settings.host.as_str(), settings.port), ("127.0.0.1", 8000));
        assert_eq!(settings.data, Location::Sled(DEFAULT_DATA.into()));
        assert_eq!(settings.bounds, Bounds::default());
        assert_eq!(settings.log_level, LevelFilter::INFO);
        assert_eq!(settings.providers.len(), 1);
    }

    #[test]
    fn a_flag_wins_over_the_environment() {
        let vars = [
            ("HOST", "::1"),
            ("PORT", "1"),
            ("DATABASE_URL", "memory:"),
            ("LOG_LEVEL", "ERROR"),
        ];
        let from_vars = settings(&[], &vars).unwrap();
        assert_eq!((from_vars.host.as_str(), from_vars.port), ("::1", 1));
        assert_eq!(
            (from_vars.data, from_vars.log_level),
            (Location::Memory, LevelFilter::ERROR)
        );
        let args = [
            "--host",
            "127.0.0.2",
            "--port",
            "2",
            "--data",
            "d",
            "--log-level",
            "trace",
        ];
        let from_args = settings(&args, &vars).unwrap();
        assert_eq!((from_args.host.as_str(), from_args.port), ("127.0.0.2", 2));
        assert_eq!(from_args.data, Location::Sled("d".into()));
        assert_eq!(from_args.log_level, LevelFilter::TRACE);
    }

    #[test]
    fn the_environment_of_the_original_is_understood() {
        for (vars, level) in [
            (&[("DEBUG", "True")][..], LevelFilter::DEBUG),
            (&[("DEBUG", "False")], LevelFilter::INFO),
            (
                &[("DEBUG", "True"), ("LOG_LEVEL", "INFO")],
                LevelFilter::INFO,
            ),
            (&[("LOG_LEVEL", "WARNING")], LevelFilter::WARN),
        ] {
            assert_eq!(settings(&[], vars).unwrap().log_level, level, "{vars:?}");
        }
    }

    #[test]
    fn a_wrong_setting_is_named() {
        for (name, value) in [
            ("PORT", "eighty"),
            ("PORT", "65536"),
            ("LOG_LEVEL", "LOUD"),
            ("DEBUG", "maybe"),
            ("CORS_ORIGINS", "*"),
            (
                "DATABASE_URL",
                "mysql://user:password@localhost/neuro_tutor",
            ),
            ("OPENAI_BASE_URL", "ftp://a"),
            ("DEMO_DELAY_MS", "fast"),
        ] {
            let error = settings(&[], &[(name, value)]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.message().contains(name), "{error}");
        }
    }
}
