//! Whether a server could listen where it should: by listening there.

use std::net::IpAddr;
use std::time::Duration;

use tokio::net::TcpListener;

use super::Outcome;
use crate::cli::failure::Failure;
use crate::cli::serve;
use crate::config::Settings;
use crate::outbound;

/// How long a server may take to say that it is one, and the most that it may say, in bytes.
const GREETING: Duration = Duration::from_secs(2);
const MAX_GREETING_BYTES: usize = 1024;

const IN_USE: &str = "in use by a server of this kind that runs";

/// The address that is served at.
pub(super) async fn served(settings: &Settings) -> Outcome {
    let scheme = if settings.tls.is_some() {
        "https"
    } else {
        "http"
    };
    match serve::bind(settings, settings.port).await {
        Err(_) if is_ours(scheme, &settings.host, settings.port).await => {
            match serve::bind(settings, 0).await {
                Ok(_) => Outcome::Note(IN_USE.to_owned()),
                refused => listened(refused),
            }
        }
        tried => listened(tried),
    }
}

/// The address at which health and metrics are told.
pub(super) async fn watched(host: &str, port: u16) -> Outcome {
    match serve::listen(host, port, serve::WATCHED).await {
        Err(_) if is_ours("http", host, port).await => Outcome::Note(IN_USE.to_owned()),
        tried => listened(tried),
    }
}

fn listened(tried: Result<TcpListener, Failure>) -> Outcome {
    match tried {
        Ok(_) => Outcome::Fine("can be listened on".to_owned()),
        Err(failure) => {
            let (code, why) = failure.into_parts();
            Outcome::Wrong(code, why)
        }
    }
}

/// True if what listens there says what our servers say.
async fn is_ours(scheme: &str, host: &str, port: u16) -> bool {
    let host = host.trim_matches(['[', ']']);
    let host = match host.parse::<IpAddr>() {
        Ok(IpAddr::V6(address)) if address.is_unspecified() => "[::1]".to_owned(),
        Ok(address) if address.is_unspecified() => "127.0.0.1".to_owned(),
        Ok(IpAddr::V6(address)) => format!("[{address}]"),
        _ => host.to_owned(),
    };
    let asked = async {
        // It is told nothing, and so need not prove who it is.
        let client = outbound::client().tls_danger_accept_invalid_certs(true);
        let client = client.no_proxy().timeout(GREETING).build().ok()?;
        let url = format!("{scheme}://{host}:{port}/healthz");
        let answer = client.get(url).send().await.ok()?;
        let body = outbound::read(answer, MAX_GREETING_BYTES).await.ok()?;
        serde_json::from_slice::<serde_json::Value>(&body).ok()
    };
    asked.await.is_some_and(|told| told["status"] == "healthy")
}
