//! `neuro-tutor serve`: opens the data, serves, and stops cleanly.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::config::{Args, Settings, Vars};
use crate::control::report::sentence;
use crate::people::People;
use crate::{AppState, control, logs, serve};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tutor_core::time::SystemRuntime;
use tutor_core::{Error, Tutor};

use super::failure::{ADDRESS_NOT_USABLE, DONE, Failure, INTERRUPTED, WRONG_CONFIGURATION};
use super::runtime;

pub(super) const EXAMPLES: &str = "\
Examples:
  neuro-tutor                                    on http://127.0.0.1:8000, with ./neuro-tutor-data
  neuro-tutor serve --port 0 --data /srv/tutor   on a free port, with another directory
  neuro-tutor --data memory:                     keep nothing";

/// Serves until it is told to stop.
pub(super) fn run(args: Args, vars: &Vars) -> Result<u8, Failure> {
    let settings = Settings::new(args, vars)?;
    let _logs = logs::init(settings.log_level);
    runtime()?.block_on(serve_until_told(settings))
}

async fn serve_until_told(settings: Settings) -> Result<u8, Failure> {
    let listener = bind(&settings).await?;
    let address = listener.local_addr().map_err(|error| {
        Failure::new(
            ADDRESS_NOT_USABLE,
            format!("the address is not known: {error}"),
        )
    })?;
    let settings = settings.discover().await;
    let (tutor, store) = settings.open().await?;
    // Without it the server serves; only commands cannot reach it.
    let _control = control::listen(&settings.data, Arc::clone(&store), tutor.clone())
        .inspect_err(|error| tracing::warn!(%error, "commands cannot reach this server"));
    let (first, second) = (CancellationToken::new(), CancellationToken::new());
    tokio::spawn(watch_signals(first.clone(), second.clone()));
    greet(&tutor, address);
    let checked = settings.clone();
    // In the background: a provider that is slow to say what it has must not keep anybody waiting.
    tokio::spawn(async move { checked.check_providers().await });

    let people = match settings.people.clone() {
        Some(bounds) => {
            Some(People::open(Arc::clone(&store), Arc::new(SystemRuntime), bounds).await?)
        }
        None => None,
    };
    let mut state = AppState::new(tutor.clone())
        .with_records(Arc::new(store))
        .with_bounds(settings.bounds.clone())
        .with_origins(settings.origins);
    if let Some(people) = people {
        state = state.with_people(people);
    }
    let closing = async {
        first.cancelled().await;
        tutor.close_within(settings.bounds.drain_grace).await
    };
    let stop = first.clone().cancelled_owned();
    let stopped = async { tokio::join!(serve(listener, state, stop), closing) };
    tokio::select! {
        ((), closed) = stopped => closed?,
        () = second.cancelled() => return Ok(INTERRUPTED),
    }
    tracing::info!("stopped");
    Ok(DONE)
}

/// Listens on the configured address, unless that would open everything to everybody.
async fn bind(settings: &Settings) -> Result<TcpListener, Failure> {
    let host = settings.host.as_str();
    let unusable = |error: Error| Failure::new(ADDRESS_NOT_USABLE, sentence(&error));
    let listener = crate::bind(host, settings.port).await.map_err(unusable)?;
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
fn greet(tutor: &Tutor, address: SocketAddr) {
    let mut out = std::io::stdout();
    for line in crate::config::summary(tutor) {
        let _ = writeln!(out, "{line}");
    }
    let _ = writeln!(out, "  server     http://{address}");
    let _ = writeln!(out, "  docs       http://{address}/docs");
    let _ = out.flush();
}

/// The first signal asks the server to stop, the second one ends it.
async fn watch_signals(first: CancellationToken, second: CancellationToken) {
    let mut signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => {
            tracing::warn!(%error, "signals cannot be received");
            return;
        }
    };
    signals.next().await;
    first.cancel();
    signals.next().await;
    second.cancel();
}

#[cfg(unix)]
struct Signals([tokio::signal::unix::Signal; 2]);

#[cfg(unix)]
impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let interrupt = signal(SignalKind::interrupt())?;
        Ok(Self([interrupt, signal(SignalKind::terminate())?]))
    }

    async fn next(&mut self) {
        let [interrupt, terminate] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        // Without the signal there is nothing to wait for.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
