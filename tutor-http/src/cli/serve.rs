//! `neuro-tutor serve`: opens the data, serves, and stops cleanly.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tutor_core::Tutor;
use tutor_core::time::SystemRuntime;

use super::failure::{ADDRESS_NOT_USABLE, DONE, Failure, INTERRUPTED, WRONG_CONFIGURATION};
use super::{runtime, signals};
use crate::config::{Args, Opened, Settings, Vars};
use crate::control::report::sentence;
use crate::logs::Logs;
use crate::metrics::Metrics;
use crate::people::People;
use crate::traces::Traces;
use crate::{AppState, Served, TlsFiles, control, logs, serve_as};

mod reload;
mod sweep;

use reload::{Reload, Source};
use signals::Hangups;

pub(super) const EXAMPLES: &str = "\
Examples:
  neuro-tutor                                    on http://127.0.0.1:8000, with ./neuro-tutor-data
  neuro-tutor serve --port 0 --data /srv/tutor   on a free port, with another directory
  neuro-tutor --data memory:                     keep nothing";

/// Serves until it is told to stop.
pub(super) fn run(args: Args, vars: &Vars, config: Option<&Path>) -> Result<u8, Failure> {
    let settings = Settings::new(args.clone(), vars)?;
    let source = Source {
        args,
        config: config.map(Path::to_owned),
        file: vars.config_file().map(Path::to_owned),
    };
    let runtime = runtime()?;
    let traces = Traces::from_vars(vars, runtime.handle().clone())?;
    let extra = traces.as_ref().map(Traces::layer);
    let logs = logs::init(settings.log_level, settings.log_format, extra);
    runtime.block_on(serve_until_told(settings, source, &logs))
}

async fn serve_until_told(settings: Settings, source: Source, logs: &Logs) -> Result<u8, Failure> {
    let tls = settings.tls.as_ref().map(TlsFiles::load).transpose()?;
    let listener = bind(&settings, settings.port).await?;
    let address = local_address(&listener)?;
    let watched = match &settings.metrics_listen {
        Some((host, port)) => Some(listen(host, *port, WATCHED).await?),
        None => None,
    };
    let settings = settings.discover().await;
    let metrics = Metrics::default();
    let opened = settings.open(&metrics).await?;
    // Without it the server serves; only commands cannot reach it.
    let _control = control::listen(&settings.data, &opened)
        .inspect_err(|error| tracing::warn!(%error, "commands cannot reach this server"));
    let Opened {
        tutor,
        store,
        files,
        shared,
    } = opened;
    tokio::spawn(sweep::now_and_then(files.clone()));
    let (first, second) = (CancellationToken::new(), CancellationToken::new());
    tokio::spawn(signals::watch(first.clone(), second.clone()));
    // Before anybody can know that the server is there: else this signal would end it.
    let hangups = Hangups::new();
    greet(&tutor, address, tls.is_some(), watched.as_ref());
    let checked = settings.clone();
    // In the background: a provider that is slow to say what it has must not keep anybody waiting.
    tokio::spawn(async move { checked.check_providers().await });

    let people = match settings.people.clone() {
        Some(bounds) => {
            Some(People::open(Arc::clone(&store), Arc::new(SystemRuntime), bounds).await?)
        }
        None => None,
    };
    if let Some(people) = people.clone() {
        tokio::spawn(async move { people.prepare().await });
    }
    let mut state = AppState::new(tutor.clone())
        .with_records(Arc::new(store))
        .with_bounds(settings.bounds.clone())
        .with_allowances(settings.allowances.clone())
        .with_files(files)
        .with_origins(settings.origins.clone())
        .with_proxies(settings.proxies.clone())
        .with_metrics(metrics.clone())
        .hide_metrics(watched.is_some());
    if let Some(people) = people {
        if let Some(shared) = &shared {
            people.share(shared);
        }
        state = state.with_people(people);
    }
    if let Some(shared) = shared {
        state = state.with_shared(shared);
    }
    if let Some(listener) = watched {
        let served = watch::channel(Served::operations(state.clone())).1;
        // It tells that the server stops until the process ends.
        tokio::spawn(serve_as(listener, served, std::future::pending()));
    }
    let (serving, served) = watch::channel(Served::new(state, tls));
    let mut reload = Reload::new(
        source,
        settings,
        tutor.clone(),
        metrics,
        logs,
        serving,
        hangups,
    );
    let stop = first.clone().cancelled_owned();
    let closing = async {
        first.cancelled().await;
        let grace = served.borrow().state.bounds.drain_grace;
        tutor.close_within(grace).await
    };
    let stopped = async { tokio::join!(serve_as(listener, served.clone(), stop), closing) };
    tokio::select! {
        ((), closed) = stopped => closed?,
        () = second.cancelled() => return Ok(INTERRUPTED),
        () = reload.whenever_asked() => {}
    }
    tracing::info!("stopped");
    Ok(DONE)
}

/// The setting that names where health and metrics are told.
pub(super) const WATCHED: &str = "--metrics-listen";

/// Takes an address, which these settings name.
pub(super) async fn listen(host: &str, port: u16, settings: &str) -> Result<TcpListener, Failure> {
    crate::bind(host, port).await.map_err(|error| {
        let message = format!("{}; it is set by {settings}", sentence(&error));
        Failure::new(ADDRESS_NOT_USABLE, message)
    })
}

fn local_address(listener: &TcpListener) -> Result<SocketAddr, Failure> {
    listener.local_addr().map_err(|error| {
        let message = format!("the address is not known: {error}");
        Failure::new(ADDRESS_NOT_USABLE, message)
    })
}

/// Listens on the configured address and this port, unless that would open everything to everybody.
pub(super) async fn bind(settings: &Settings, port: u16) -> Result<TcpListener, Failure> {
    let host = settings.host.as_str();
    let listener = listen(host, port, "--host and --port").await?;
    let is_private = listener
        .local_addr()
        .is_ok_and(|address| address.ip().is_loopback());
    if !is_private && settings.people.is_none() && !settings.insecure_no_auth {
        return Err(Failure::new(
            WRONG_CONFIGURATION,
            format!(
                "others can reach {host}, and this server asks nobody who they are: add --auth \
                 required, or listen on 127.0.0.1, or add --insecure-no-auth if something in front \
                 of it checks that"
            ),
        ));
    }
    Ok(listener)
}

/// Says what one wants to know first. A closed standard output is no reason not to serve.
fn greet(tutor: &Tutor, address: SocketAddr, is_secure: bool, watched: Option<&TcpListener>) {
    let mut out = std::io::stdout();
    for line in crate::config::summary(tutor) {
        let _ = writeln!(out, "{line}");
    }
    let scheme = if is_secure { "https" } else { "http" };
    let _ = writeln!(out, "  server     {scheme}://{address}");
    if let Some(Ok(address)) = watched.map(TcpListener::local_addr) {
        let _ = writeln!(out, "  metrics    http://{address}/metrics");
    }
    let _ = writeln!(out, "  docs       {scheme}://{address}/docs");
    let _ = out.flush();
}
