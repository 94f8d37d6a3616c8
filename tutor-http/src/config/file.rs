//! The configuration file.

use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use tutor_core::Result;

use super::config;

/// The file that is read from the working directory if it is there.
pub(super) const DEFAULT_FILE: &str = "neuro-tutor.toml";

/// What a configuration file says. Without one it says nothing.
#[derive(Clone, Default)]
pub(super) struct File {
    path: Option<PathBuf>,
    settings: Map<String, Value>,
    providers: Tables,
    issuers: Tables,
}

/// Tables by their names, in their order.
type Tables = Vec<(String, Map<String, Value>)>;

impl File {
    /// Reads `named`, which must be there, or else `neuro-tutor.toml` in `directory`, if it is.
    ///
    /// # Errors
    /// `config` if it cannot be read or is not TOML, with the place and without the text, which may
    /// be a key.
    pub(super) fn read(directory: &Path, named: Option<&Path>) -> Result<Self> {
        let path = match named {
            Some(path) => path.to_owned(),
            None => directory.join(DEFAULT_FILE),
        };
        if named.is_none() && !path.exists() {
            return Ok(Self::default());
        }
        let shown = path.display();
        let text = std::fs::read_to_string(&path)
            .map_err(|error| config(format!("{shown} cannot be read: {error}")))?;
        let table: toml::Table = toml::from_str(&text).map_err(|error| {
            let before = error
                .span()
                .map_or("", |span| &text[..span.start.min(text.len())]);
            let line = before.matches('\n').count() + 1;
            let what = error.message().lines().next().unwrap_or_default();
            config(format!("{shown} is not TOML: line {line}: {what}"))
        })?;
        let mut file = Self {
            path: Some(path.clone()),
            ..Self::default()
        };
        for (name, value) in table {
            let tables = match name.as_str() {
                "providers" => &mut file.providers,
                "issuers" => &mut file.issuers,
                _ => {
                    file.settings.insert(name, json(value));
                    continue;
                }
            };
            let toml::Value::Table(found) = value else {
                return Err(config(format!(
                    "{name} in {shown} are tables: write [{name}.NAME]"
                )));
            };
            for (one, options) in found {
                let Value::Object(options) = json(options) else {
                    return Err(config(format!(
                        "one of the {name} in {shown} is a table: write [{name}.{one}]"
                    )));
                };
                tables.push((one, options));
            }
        }
        Ok(file)
    }

    /// The file's name, for people.
    pub(super) fn name(&self) -> String {
        match &self.path {
            Some(path) => path.display().to_string(),
            None => DEFAULT_FILE.to_owned(),
        }
    }

    /// Where it is, if there is one.
    pub(super) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// What relative paths in it are relative to.
    pub(super) fn directory(&self) -> &Path {
        let parent = self.path.as_deref().and_then(Path::parent);
        parent.unwrap_or(Path::new(""))
    }

    pub(super) fn setting(&self, key: &str) -> Option<&Value> {
        self.settings.get(key)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.settings.keys().map(String::as_str)
    }

    /// The issuers in their order.
    pub(super) fn issuers(&self) -> &[(String, Map<String, Value>)] {
        &self.issuers
    }

    /// The providers in their order.
    pub(super) fn providers(&self) -> &[(String, Map<String, Value>)] {
        &self.providers
    }
}

impl fmt::Debug for File {
    /// Values may be keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "File({})", self.name())
    }
}

/// The same in JSON; a date is a text.
fn json(value: toml::Value) -> Value {
    match value {
        toml::Value::String(text) => Value::String(text),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Float(number) => number.into(),
        toml::Value::Boolean(truth) => truth.into(),
        toml::Value::Datetime(date) => Value::String(date.to_string()),
        toml::Value::Array(list) => list.into_iter().map(json).collect(),
        toml::Value::Table(table) => {
            let members = table.into_iter().map(|(name, value)| (name, json(value)));
            Value::Object(members.collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<File> {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(DEFAULT_FILE), text).unwrap();
        File::read(directory.path(), None)
    }

    #[test]
    fn providers_keep_their_order() {
        let file = read("port = 1\n[providers.z]\nkind = 'demo'\n[providers.a]\n").unwrap();
        let names: Vec<_> = file
            .providers()
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        assert_eq!(names, ["z", "a"]);
        assert_eq!(file.setting("port"), Some(&Value::from(1)));
    }

    #[test]
    fn a_broken_file_is_told_by_its_line_and_not_by_its_text() {
        for text in [
            "port = 1\nkey = \"canary",
            "a = 1\n[canary",
            "x = 1\nproviders.p = 'canary'",
        ] {
            let error = read(text).unwrap_err();
            let printed = format!("{error} {error:?}");
            assert!(printed.contains(DEFAULT_FILE), "{printed}");
            assert!(!printed.contains("canary"), "{printed}");
        }
        assert!(
            read("a = 1\nkey = \"x")
                .unwrap_err()
                .message()
                .contains("line 2")
        );
    }

    #[test]
    fn a_named_file_must_be_there_and_another_one_need_not() {
        let directory = tempfile::tempdir().unwrap();
        File::read(directory.path(), None).unwrap();
        let lost = directory.path().join("lost.toml");
        let error = File::read(directory.path(), Some(&lost)).unwrap_err();
        assert!(error.message().contains("lost.toml"), "{error}");
    }
}
