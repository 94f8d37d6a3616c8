//! Who answers: what is configured, else what the keys in the environment allow, else a local
//! Ollama, else the demo provider.

use std::path::Path;

use tutor_core::Result;
use tutor_core::provider::{KeySource, ProviderConfig, ProviderKind};

use super::layers::Origin;
use super::{Vars, config};

/// Where Ollama listens if nothing else is said.
const OLLAMA_URL: &str = "http://127.0.0.1:11434";
const OLLAMA_PORT: u16 = 11434;

/// A provider's configuration, and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Configured {
    /// What is configured.
    pub config: ProviderConfig,
    /// Where it comes from.
    pub origin: Origin,
}

/// The providers, and where a local Ollama may be if there is none.
pub(super) fn providers(vars: &Vars) -> Result<(Vec<Configured>, Option<String>)> {
    let file = vars.file();
    if !file.providers().is_empty() {
        let configured = file.providers().iter().map(|(name, options)| {
            let read = |source: &KeySource| read_key(source, vars);
            let config = ProviderConfig::from_options(name, options.clone(), read);
            let origin = Origin::File(file.name());
            match config {
                Ok(config) => Ok(Configured { config, origin }),
                Err(error) => Err(config_error(name, &file.name(), &error)),
            }
        });
        return Ok((configured.collect::<Result<_>>()?, None));
    }
    let configs = ProviderConfig::from_vars(|name| vars.get(name).map(str::to_owned))?;
    let configured: Vec<_> = configs
        .into_iter()
        .map(|config| Configured {
            origin: origin_of(&config, vars),
            config,
        })
        .collect();
    let is_alone = configured.iter().all(|c| c.origin == Origin::Default);
    Ok((configured, if is_alone { ollama_url(vars)? } else { None }))
}

fn config_error(name: &str, file: &str, error: &tutor_core::Error) -> tutor_core::Error {
    let message = format!("[providers.{name}] in {file}: {}", error.message());
    error
        .context()
        .fold(config(message), |named, (key, value)| {
            named.with_context(key, value)
        })
}

fn read_key(source: &KeySource, vars: &Vars) -> Result<Option<String>> {
    match source {
        KeySource::Env(name) => Ok(vars.get(name).map(str::to_owned)),
        KeySource::File(path) => {
            let path = vars.file().directory().join(path);
            std::fs::read_to_string(&path).map(Some).map_err(|error| {
                config(format!(
                    "key_file {} cannot be read: {error}",
                    path.display()
                ))
            })
        }
        _ => Ok(None),
    }
}

/// The variable that made `from_vars` configure a provider.
fn origin_of(config: &ProviderConfig, vars: &Vars) -> Origin {
    let names = match config.kind {
        ProviderKind::OpenAi => ["OPENAI_API_KEY", "OPENAI_BASE_URL"],
        ProviderKind::Anthropic => ["ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"],
        _ => ["DEMO_DELAY_MS", "DEMO_DELAY_MS"],
    };
    let set = names.into_iter().find(|name| vars.get(name).is_some());
    set.map_or(Origin::Default, |name| vars.origin(name))
}

/// Where to look for a local Ollama: `OLLAMA_HOST` as Ollama reads it, or `off`.
fn ollama_url(vars: &Vars) -> Result<Option<String>> {
    let Some(host) = vars.get("OLLAMA_HOST") else {
        return Ok(Some(OLLAMA_URL.to_owned()));
    };
    if host.eq_ignore_ascii_case("off") {
        return Ok(None);
    }
    let (scheme, rest) = host.split_once("://").unwrap_or(("http", host));
    let authority = rest.trim_end_matches('/');
    let wrong = || {
        config(format!(
            "OLLAMA_HOST is {host:?}: write an address such as 127.0.0.1:11434, or off"
        ))
    };
    let (name, port) = match authority.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, port.parse().map_err(|_| wrong())?),
        _ => (authority, OLLAMA_PORT),
    };
    // An address to listen on is none to call.
    let name = match name {
        "" | "0.0.0.0" => "127.0.0.1",
        "[::]" => "[::1]",
        name => name,
    };
    if !matches!(scheme, "http" | "https") || name.contains(['/', '@', '?', '#', ' ']) {
        return Err(wrong());
    }
    Ok(Some(format!("{scheme}://{name}:{port}")))
}

/// What the operator should know about files that hold keys.
pub(super) fn key_files(vars: &Vars) -> Vec<std::path::PathBuf> {
    let file = vars.file();
    let named = file.providers().iter().flat_map(|(_, options)| {
        let list = match options.get("key_file") {
            Some(serde_json::Value::Array(list)) => list.clone(),
            Some(one) => vec![one.clone()],
            None => Vec::new(),
        };
        list.into_iter()
            .filter_map(|path| path.as_str().map(|path| file.directory().join(path)))
            .collect::<Vec<_>>()
    });
    let own = file.path().map(Path::to_owned);
    named.chain(own).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(host: &str) -> Result<Option<String>> {
        ollama_url(&[("OLLAMA_HOST", host)].into_iter().collect())
    }

    #[test]
    fn the_address_of_ollama_is_read_as_ollama_reads_it() {
        for (host, expected) in [
            ("127.0.0.1", "http://127.0.0.1:11434"),
            ("0.0.0.0:1234", "http://127.0.0.1:1234"),
            (":1234", "http://127.0.0.1:1234"),
            ("https://gpu.example", "https://gpu.example:11434"),
            ("http://[::]:1/", "http://[::1]:1"),
            ("[::1]", "http://[::1]:11434"),
        ] {
            assert_eq!(url(host).unwrap().as_deref(), Some(expected), "{host}");
        }
        assert_eq!(url("off").unwrap(), None);
        for wrong in ["ftp://a", "a:b", "a/b"] {
            assert!(url(wrong).unwrap_err().message().contains("OLLAMA_HOST"));
        }
    }
}
