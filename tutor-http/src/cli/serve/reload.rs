//! Reading the configuration again while the server runs.
//!
//! All of it is read and checked before any of it is used: a mistake changes nothing.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tutor_core::provider::SharedProvider;
use tutor_core::{Error, ErrorKind, Result, Tutor};

use crate::cli::signals::Hangups;
use crate::config::{Args, Settings, Vars};
use crate::control::report::sentence;
use crate::logs::Logs;
use crate::metrics::Metrics;
use crate::{Served, Tls, TlsFiles};

/// How often it is looked whether the certificate was replaced.
const TLS_CHECK: Duration = Duration::from_secs(5);

/// Settings that a running server takes over, for new connections; providers are among them, and
/// so is the certificate, but not whether there is one. The others take effect at the next start.
const LIVE: [&str; 8] = [
    "cors_origins",
    "trusted_proxies",
    "log_level",
    "default_provider",
    "max_connections",
    "max_body_bytes",
    "max_message_chars",
    "drain_seconds",
];

/// Where the certificate is.
const TLS: [&str; 2] = ["tls_certificate", "tls_key"];

/// Where the settings came from at the start, and come from again.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) args: Args,
    pub(super) config: Option<PathBuf>,
    /// The configuration file that was read last, if there was one.
    pub(super) file: Option<PathBuf>,
}

/// Reads the configuration again whenever it is asked to.
pub(super) struct Reload<'a> {
    source: Source,
    /// What is in effect.
    settings: Settings,
    tutor: Tutor,
    metrics: Metrics,
    logs: &'a Logs,
    served: watch::Sender<Served>,
    stamp: Option<[SystemTime; 2]>,
    hangups: Hangups,
}

/// A configuration that can be used.
struct Fresh {
    settings: Settings,
    file: Option<PathBuf>,
    /// `None` if they are the same as before.
    providers: Option<Vec<SharedProvider>>,
    tls: Option<Tls>,
}

impl<'a> Reload<'a> {
    pub(super) fn new(
        source: Source,
        settings: Settings,
        tutor: Tutor,
        metrics: Metrics,
        logs: &'a Logs,
        served: watch::Sender<Served>,
        hangups: Hangups,
    ) -> Self {
        Self {
            hangups,
            stamp: settings.tls.as_ref().and_then(TlsFiles::stamp),
            source,
            settings,
            tutor,
            metrics,
            logs,
            served,
        }
    }

    /// At every SIGHUP all of it, and the certificate when its files change. Never ends.
    pub(super) async fn whenever_asked(&mut self) {
        loop {
            tokio::select! {
                () = self.hangups.next() => self.everything().await,
                () = tokio::time::sleep(TLS_CHECK) => self.certificate(),
            }
        }
    }

    async fn everything(&mut self) {
        let used = match self.read().await {
            Ok(fresh) => self.apply(fresh),
            Err(error) => Err(error),
        };
        if let Err(error) = used {
            tracing::error!(
                "the configuration cannot be used, and the one before stays: {}",
                sentence(&error)
            );
        }
    }

    async fn read(&self) -> Result<Fresh> {
        let vars = Vars::load(Path::new("."), self.source.config.as_deref())?;
        let file = vars.config_file().map(Path::to_owned);
        if let (Some(before), None) = (&self.source.file, &file) {
            // Without it nearly everything would be as if nobody had said anything.
            return Err(Error::new(
                ErrorKind::Config,
                format!(
                    "{} is missing: put it back, or start the server again to do without it",
                    before.display()
                ),
            ));
        }
        let settings = Settings::new(self.source.args.clone(), &vars)?;
        let settings = settings.discover().await;
        let is_same = settings.providers == self.settings.providers
            && settings.default_provider == self.settings.default_provider;
        Ok(Fresh {
            providers: match is_same {
                true => None,
                false => Some(settings.build_providers(&self.metrics)?),
            },
            tls: settings.tls.as_ref().map(TlsFiles::load).transpose()?,
            settings,
            file,
        })
    }

    fn apply(&mut self, fresh: Fresh) -> Result<()> {
        let Fresh {
            settings,
            file,
            providers,
            tls,
        } = fresh;
        // Who calls a port knows whether it speaks TLS.
        let speaks_the_same = settings.tls.is_some() == self.settings.tls.is_some();
        let mut applied = Vec::new();
        if let Some(providers) = providers {
            let default = settings.default_provider.as_deref();
            // The one step that can fail, and then it changes nothing.
            self.tutor.replace_providers(providers, default)?;
            applied.push("providers");
        }
        let mut later = Vec::new();
        for new in &settings.effective {
            let mut before = self.settings.effective.iter_mut();
            let Some(old) = before.find(|old| old.key == new.key) else {
                continue;
            };
            if old.value == new.value {
                continue;
            }
            if LIVE.contains(&new.key) || (speaks_the_same && TLS.contains(&new.key)) {
                applied.push(new.key);
                *old = new.clone();
            } else {
                later.push(new.key);
            }
        }
        let issuers = |settings: &Settings| settings.people.as_ref().map(|p| p.issuers.clone());
        if issuers(&settings) != issuers(&self.settings) {
            later.push("issuers");
        }
        // Whichever is louder tells of it.
        if settings.log_level > self.settings.log_level {
            self.logs.set_level(settings.log_level);
        }
        if speaks_the_same {
            self.stamp = settings.tls.as_ref().and_then(TlsFiles::stamp);
            self.settings.tls = settings.tls;
        }
        self.served.send_modify(|served| {
            let state = served
                .state
                .clone()
                .with_bounds(settings.bounds.clone())
                .with_origins(settings.origins.clone())
                .with_proxies(settings.proxies.clone());
            let tls = if speaks_the_same {
                tls
            } else {
                served.tls.take()
            };
            *served = Served::new(state, tls);
        });
        self.source.file = file;
        self.settings.providers = settings.providers;
        self.settings.default_provider = settings.default_provider;
        self.settings.log_level = settings.log_level;
        tracing::info!(
            changed = applied.join(", "),
            "the configuration was read again"
        );
        if !later.is_empty() {
            tracing::warn!(
                settings = later.join(", "),
                "these settings take effect when the server is started again"
            );
        }
        self.logs.set_level(settings.log_level);
        Ok(())
    }

    /// Takes a certificate that was replaced. While only one of its two files is new they do not
    /// fit, and the one before stays.
    fn certificate(&mut self) {
        let Some(files) = &self.settings.tls else {
            return;
        };
        let stamp = files.stamp();
        if stamp == self.stamp {
            return;
        }
        self.stamp = stamp;
        match files.load() {
            Ok(tls) => {
                self.served.send_modify(|served| {
                    *served = Served::new(served.state.clone(), Some(tls));
                });
                tracing::info!("the certificate was replaced");
            }
            Err(error) => tracing::error!(
                "the certificate cannot be used, and the one before stays: {}",
                sentence(&error)
            ),
        }
    }
}
