//! One setting from several places: defaults, then the file, then the environment, then flags.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::de::DeserializeOwned;
use serde_json::Value;
use tutor_core::json::nearest;
use tutor_core::{Error, Result};

use super::{Vars, config};

/// A setting, and what it is called where.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setting {
    /// In the file. On the command line the same with dashes, after `--`.
    pub(super) key: &'static str,
    /// In the environment.
    pub(super) var: &'static str,
    /// What to write.
    pub(super) form: &'static str,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// This configuration file.
    File(String),
    /// This environment variable.
    Environment(String),
    /// This variable in the `.env` file.
    EnvironmentFile(String),
    /// This flag.
    Flag(String),
    /// It was found on this machine.
    Found(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => f.write_str(path),
            Self::Environment(name) => write!(f, "{name} in the environment"),
            Self::EnvironmentFile(name) => write!(f, "{name} in .env"),
            Self::Flag(name) => f.write_str(name),
            Self::Found(what) => write!(f, "found: {what}"),
        }
    }
}

/// A setting as it is in effect.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Effective {
    /// Its key in the file.
    pub key: &'static str,
    /// Its value, without secrets.
    pub value: Value,
    /// Where it comes from.
    pub origin: Origin,
}

/// Reads settings, and notes where they come from.
#[derive(Debug)]
pub(super) struct Layers<'a> {
    vars: &'a Vars,
    known: Vec<&'static str>,
    effective: Vec<Effective>,
}

impl<'a> Layers<'a> {
    pub(super) fn new(vars: &'a Vars) -> Self {
        Self {
            vars,
            known: Vec::new(),
            effective: Vec::new(),
        }
    }

    /// The value of a setting.
    ///
    /// # Errors
    /// `config`, naming the setting as it is called where it was set, and what to write.
    pub(super) fn pick<T>(&mut self, setting: Setting, flag: Option<T>, default: T) -> Result<T>
    where
        T: FromStr + DeserializeOwned + Clone + Into<Value>,
    {
        let found = self.find(setting, flag, |value| serde_json::from_value(value).ok())?;
        let (value, origin) = found.unwrap_or((default, Origin::Default));
        self.note(setting.key, value.clone().into(), origin);
        Ok(value)
    }

    /// A count of which none would refuse everything.
    ///
    /// # Errors
    /// As of [`pick`](Self::pick); also `config` for zero.
    pub(super) fn pick_count(
        &mut self,
        setting: Setting,
        flag: Option<usize>,
        default: usize,
    ) -> Result<usize> {
        let found = self.find(setting, flag, |value| serde_json::from_value(value).ok())?;
        let (count, origin) = found.unwrap_or((default, Origin::Default));
        if count == 0 {
            let zero = config(format!("0 would refuse everything: write {}", setting.form));
            return Err(self.named(setting, &origin, &zero));
        }
        self.note(setting.key, count.into(), origin);
        Ok(count)
    }

    /// A setting that is true or false; also `yes`, `on`, `1` and their opposites.
    pub(super) fn pick_truth(&mut self, setting: Setting, flag: bool) -> Result<bool> {
        let truth = |value: Value| value.as_bool().map(Truth);
        let found = self.find(setting, flag.then_some(Truth(true)), truth)?;
        let (Truth(value), origin) = found.unwrap_or((Truth(false), Origin::Default));
        self.note(setting.key, value.into(), origin);
        Ok(value)
    }

    /// A text, or in the file a list of texts; what it is read as may fail. The value is noted as
    /// `shown` makes it.
    pub(super) fn pick_read<T>(
        &mut self,
        setting: Setting,
        flag: Option<String>,
        read: impl Fn(&str) -> Result<T>,
        shown: impl Fn(&T) -> Value,
        default: impl FnOnce() -> T,
    ) -> Result<T> {
        let found = self.find(setting, flag, |value| match value {
            Value::String(text) => Some(text),
            Value::Array(list) => {
                let texts: Option<Vec<_>> = list.iter().map(Value::as_str).collect();
                texts.map(|texts| texts.join(","))
            }
            _ => None,
        })?;
        let (value, origin) = match found {
            Some((text, origin)) => {
                let value = read(&text).map_err(|error| self.named(setting, &origin, &error))?;
                (value, origin)
            }
            None => (default(), Origin::Default),
        };
        self.note(setting.key, shown(&value), origin);
        Ok(value)
    }

    /// A file that is read, by its path: what the configuration file names is beside it. `None` if
    /// nobody names one.
    ///
    /// # Errors
    /// Those of `read`, with the name of the setting.
    pub(super) fn pick_file<T>(
        &mut self,
        setting: Setting,
        flag: Option<String>,
        read: impl Fn(&Path) -> Result<T>,
    ) -> Result<Option<T>> {
        let found = self.find(setting, flag, |value| match value {
            Value::String(path) => Some(path),
            _ => None,
        })?;
        let Some((path, origin)) = found else {
            self.note(setting.key, "".into(), Origin::Default);
            return Ok(None);
        };
        let path = match origin {
            Origin::File(_) => self.vars.file().directory().join(path),
            _ => PathBuf::from(path),
        };
        let value = read(&path).map_err(|error| self.named(setting, &origin, &error))?;
        self.note(setting.key, path.to_string_lossy().into(), origin);
        Ok(Some(value))
    }

    fn find<T: FromStr>(
        &mut self,
        setting: Setting,
        flag: Option<T>,
        from_file: impl Fn(Value) -> Option<T>,
    ) -> Result<Option<(T, Origin)>> {
        self.known.push(setting.key);
        if let Some(value) = flag {
            return Ok(Some((value, Origin::Flag(flag_name(setting)))));
        }
        if let Some(text) = self.vars.get(setting.var) {
            let value = text.parse().map_err(|_| {
                config(format!(
                    "{} is {text:?}: write {}",
                    setting.var, setting.form
                ))
            })?;
            return Ok(Some((value, self.vars.origin(setting.var))));
        }
        let Some(value) = self.vars.file().setting(setting.key) else {
            return Ok(None);
        };
        let name = self.vars.file().name();
        match from_file(value.clone()) {
            Some(value) => Ok(Some((value, Origin::File(name)))),
            None => Err(config(format!(
                "{} in {name} cannot be used: write {}",
                setting.key, setting.form
            ))),
        }
    }

    /// The error of a value, with the name of its setting where it was set.
    fn named(&self, setting: Setting, origin: &Origin, error: &Error) -> Error {
        let name = match origin {
            Origin::Flag(name) => name.clone(),
            Origin::File(file) => format!("{} in {file}", setting.key),
            _ => setting.var.to_owned(),
        };
        let message = format!("{name}: {}", error.message());
        error
            .context()
            .fold(config(message), |named, (key, value)| {
                named.with_context(key, value)
            })
    }

    pub(super) fn note(&mut self, key: &'static str, value: Value, origin: Origin) {
        self.effective.push(Effective { key, value, origin });
    }

    /// What is in effect, in the order in which it was asked for.
    ///
    /// # Errors
    /// `config` for a key in the file that nobody asked for, with the nearest one that exists.
    pub(super) fn end(self) -> Result<Vec<Effective>> {
        let file = self.vars.file();
        if let Some(unknown) = file.keys().find(|key| !self.known.contains(key)) {
            let known = self.known.iter().copied().chain(["providers", "issuers"]);
            let advice = match nearest(unknown, known) {
                Some(near) => format!("did you mean {near}?"),
                None => format!("known: {}, and [providers.NAME]", self.known.join(", ")),
            };
            return Err(config(format!(
                "{} sets {unknown:?}, which is no setting: {advice}",
                file.name()
            )));
        }
        Ok(self.effective)
    }
}

fn flag_name(setting: Setting) -> String {
    format!("--{}", setting.key.replace('_', "-"))
}

/// True or false, as people write it.
struct Truth(bool);

impl FromStr for Truth {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        super::vars::truth(text).map(Self).ok_or(())
    }
}
