//! `[issuers.NAME]` in the configuration file: who else says who somebody is.

use std::time::Duration;

use reqwest::Url;
use serde_json::{Map, Value};
use tutor_core::json::nearest;
use tutor_core::{Error, Result};

use super::file::File;
use super::{Vars, config};
use crate::people::external::{algorithm, algorithms};
use crate::people::{IssuerConfig, KeySource};

/// What can be said of an issuer.
const KEYS: [&str; 9] = [
    "issuer",
    "audience",
    "jwks_url",
    "jwks_file",
    "algorithms",
    "subject_claim",
    "role_claim",
    "admin_role",
    "max_lifetime",
];

/// What this server calls itself in its tokens.
const OURS: &str = "neuro-tutor";

/// The issuers of the configuration file.
///
/// # Errors
/// `config`, naming the table, what is wrong, and what to write.
pub(super) fn issuers(vars: &Vars) -> Result<Vec<IssuerConfig>> {
    let file = vars.file();
    let read = file.issuers().iter().map(|(name, options)| {
        read(name, options, file).map_err(|error| {
            let table = format!("[issuers.{name}] in {}", file.name());
            config(format!("{table}: {}", error.message()))
        })
    });
    read.collect()
}

fn read(name: &str, options: &Map<String, Value>, file: &File) -> Result<IssuerConfig> {
    if let Some(unknown) = options.keys().find(|key| !KEYS.contains(&key.as_str())) {
        let advice = match nearest(unknown, KEYS) {
            Some(near) => format!("did you mean {near}?"),
            None => format!("known: {}", KEYS.join(", ")),
        };
        return Err(wrong(format!("{unknown:?} is no setting: {advice}")));
    }
    let text = |key: &str| match options.get(key) {
        None => Ok(None),
        Some(Value::String(text)) if !text.is_empty() => Ok(Some(text.clone())),
        Some(_) => Err(wrong(format!("{key} is a text"))),
    };
    let texts = |key: &str| match options.get(key) {
        Some(Value::Array(list)) => list
            .iter()
            .map(|item| {
                item.as_str()
                    .filter(|text| !text.is_empty())
                    .map(str::to_owned)
            })
            .collect::<Option<Vec<_>>>()
            .filter(|list| !list.is_empty())
            .map(Some)
            .ok_or_else(|| wrong(format!("{key} is a text, or a list of texts"))),
        _ => Ok(text(key)?.map(|text| vec![text])),
    };
    let missing = |what: &str| wrong(format!("write {what}"));
    let issuer = text("issuer")?
        .ok_or_else(|| missing("issuer, what the issuer calls itself: the `iss` of its tokens"))?;
    if issuer == OURS {
        return Err(wrong(format!("{OURS} is what this server calls itself")));
    }
    let audience = texts("audience")?.ok_or_else(|| {
        missing("audience, what the issuer calls this server: the `aud` of its tokens")
    })?;
    let keys = match (text("jwks_url")?, text("jwks_file")?) {
        (Some(url), None) => KeySource::Url(address(&url)?),
        (None, Some(path)) => KeySource::File(file.directory().join(path)),
        _ => {
            return Err(missing(
                "either jwks_url or jwks_file: where its public keys are",
            ));
        }
    };
    let mut found = IssuerConfig::new(name, issuer, "", keys);
    found.audience = audience;
    if let Some(names) = texts("algorithms")? {
        let known = |name: &String| {
            algorithm(name).ok_or_else(|| {
                let known = algorithms();
                wrong(format!(
                    "{name:?} is no algorithm of signatures that is taken: {known}"
                ))
            })
        };
        found.algorithms = names.iter().map(known).collect::<Result<_>>()?;
    }
    if let Some(claim) = text("subject_claim")? {
        found.subject = claim;
    }
    found.admin = match (text("role_claim")?, text("admin_role")?) {
        (Some(claim), Some(role)) => Some((claim, role)),
        (None, None) => None,
        _ => {
            return Err(missing(
                "role_claim and admin_role together, or neither: then nobody is an administrator",
            ));
        }
    };
    if let Some(seconds) = options.get("max_lifetime") {
        let seconds = seconds.as_u64().filter(|seconds| *seconds > 0);
        let seconds = seconds.ok_or_else(|| wrong("max_lifetime is seconds".to_owned()))?;
        found.max_lifetime = Duration::from_secs(seconds);
    }
    Ok(found)
}

/// Where keys are fetched from. Whoever can change them on the way can be anybody.
fn address(text: &str) -> Result<Url> {
    let url = Url::parse(text).ok();
    let is_near = |url: &Url| {
        url.host_str().is_some_and(|host| {
            let host = host.trim_start_matches('[').trim_end_matches(']');
            let address = host.parse::<std::net::IpAddr>();
            host == "localhost" || address.is_ok_and(|address| address.is_loopback())
        })
    };
    url.filter(|url| match url.scheme() {
        "https" => url.has_host(),
        "http" => is_near(url),
        _ => false,
    })
    .ok_or_else(|| wrong("jwks_url begins with https://, except on this machine".to_owned()))
}

fn wrong(message: String) -> Error {
    config(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(table: &str) -> Result<Vec<IssuerConfig>> {
        let directory = tempfile::tempdir().unwrap();
        let text = format!("[issuers.school]\n{table}");
        std::fs::write(directory.path().join("neuro-tutor.toml"), text).unwrap();
        issuers(&Vars::load(directory.path(), None)?)
    }

    const GOOD: &str = "issuer = 'https://id.example'\naudience = 'tutor'\n";

    #[test]
    fn an_issuer_has_a_name_an_audience_and_keys() {
        let found = parse(&format!(
            "{GOOD}jwks_url = 'https://id.example/keys'\nalgorithms = ['ES256']\nmax_lifetime = 60\n\
             role_claim = 'realm.roles'\nadmin_role = 'teacher'\nsubject_claim = 'oid'\n"
        ))
        .unwrap();
        let [found] = &found[..] else {
            panic!("{found:?}");
        };
        assert_eq!(found.audience, ["tutor"]);
        assert_eq!(found.subject, "oid");
        assert_eq!(found.max_lifetime.as_secs(), 60);
        assert_eq!(found.algorithms.len(), 1);
        let near = parse(&format!("{GOOD}jwks_url = 'http://127.0.0.1:1/keys'")).unwrap();
        assert_eq!(near[0].admin, None);
    }

    #[test]
    fn what_is_wrong_is_named_with_what_to_write() {
        for (more, expected) in [
            ("", "jwks_url"),
            ("jwks_url = 'http://id.example/keys'", "https"),
            ("jwks_url = 'http://localhost.evil.example/keys'", "https"),
            ("jwks_url = 'file:///keys'", "https"),
            ("jwks_file = 'k'\njwks_url = 'https://a'", "either"),
            ("jwks_file = 'k'\nalgorithms = ['HS256']", "RS256"),
            ("jwks_file = 'k'\nalgorithms = ['none']", "RS256"),
            ("jwks_file = 'k'\nalgorithms = []", "list"),
            ("jwks_file = 'k'\nrole_claim = 'r'", "admin_role"),
            ("jwks_file = 'k'\naudiense = 'r'", "audience"),
            ("jwks_file = 'k'\nmax_lifetime = 0", "seconds"),
        ] {
            let error = parse(&format!("{GOOD}{more}")).unwrap_err();
            assert!(error.message().contains(expected), "{more}: {error}");
            assert!(error.message().contains("[issuers.school]"), "{error}");
        }
        let ours = parse("issuer = 'neuro-tutor'\naudience = 'a'\njwks_file = 'k'");
        assert!(ours.unwrap_err().message().contains("itself"));
    }
}
