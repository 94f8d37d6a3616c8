//! The settings in effect, as a configuration file that says where each comes from.

use std::fmt::Write;

use serde_json::Value;

use super::{Origin, Settings};
use crate::people::KeySource;

impl Settings {
    /// The settings in effect as a configuration file, without secrets; comments say where each
    /// comes from.
    pub fn shown(&self) -> String {
        let mut lines = Vec::new();
        for setting in &self.effective {
            // What somebody left empty is not its default.
            if setting.value == "" && setting.origin == Origin::Default {
                continue;
            }
            lines.push((
                format!("{} = {}", setting.key, toml(&setting.value)),
                &setting.origin,
            ));
        }
        let width = lines.iter().map(|(line, _)| line.chars().count()).max();
        let width = width.unwrap_or_default();
        let mut text = String::new();
        // Writing to a text does not fail.
        for (line, origin) in &lines {
            let _ = writeln!(text, "{line:width$}  # {origin}");
        }
        let issuers = self.people.iter().flat_map(|people| &people.issuers);
        for issuer in issuers {
            let _ = writeln!(text, "\n[issuers.{}]", key(&issuer.name));
            let _ = writeln!(text, "issuer = {}", toml(&issuer.issuer.as_str().into()));
            let _ = writeln!(text, "audience = {}", toml(&issuer.audience.clone().into()));
            let source = match &issuer.keys {
                KeySource::Url(_) => "jwks_url",
                KeySource::File(_) => "jwks_file",
            };
            let _ = writeln!(text, "{source} = {}", toml(&issuer.keys.to_string().into()));
            let algorithms = issuer.algorithms.iter().map(|a| format!("{a:?}"));
            let _ = writeln!(text, "algorithms = {}", toml(&algorithms.collect()));
            let _ = writeln!(
                text,
                "subject_claim = {}",
                toml(&issuer.subject.as_str().into())
            );
            if let Some((claim, role)) = &issuer.admin {
                let _ = writeln!(text, "role_claim = {}", toml(&claim.as_str().into()));
                let _ = writeln!(text, "admin_role = {}", toml(&role.as_str().into()));
            }
            let seconds = issuer.max_lifetime.as_secs();
            let _ = writeln!(text, "max_lifetime = {seconds}");
        }
        for configured in &self.providers {
            let name = &configured.config.name;
            let origin: &Origin = &configured.origin;
            let _ = writeln!(text, "\n[providers.{}]  # {origin}", key(name));
            for (option, value) in configured.config.to_options() {
                let _ = writeln!(text, "{option} = {}", toml(&value));
            }
        }
        text
    }
}

/// A key as TOML writes it.
fn key(name: &str) -> String {
    let is_bare = |b: u8| b.is_ascii_alphanumeric() || b"_-".contains(&b);
    if !name.is_empty() && name.bytes().all(is_bare) {
        name.to_owned()
    } else {
        toml(&Value::from(name))
    }
}

/// A value as TOML writes it on one line.
fn toml(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let members = members
                .iter()
                .map(|(name, value)| format!("{} = {}", key(name), toml(value)));
            format!("{{ {} }}", members.collect::<Vec<_>>().join(", "))
        }
        Value::Array(list) => {
            format!("[{}]", list.iter().map(toml).collect::<Vec<_>>().join(", "))
        }
        // JSON's texts, numbers and truths are TOML's.
        value => value.to_string(),
    }
}
