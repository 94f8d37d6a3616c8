//! The environment, and the `.env` file behind it.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use tutor_core::Result;

use super::config;

/// Settings by name: the environment's, and behind them those of a `.env` file. An empty value is
/// none.
#[derive(Clone, Default)]
pub struct Vars(HashMap<String, String>);

impl Vars {
    /// Reads `.env` in `directory`, if there is one, and lays the process's environment over it.
    ///
    /// # Errors
    /// `config` if the file cannot be read or understood.
    pub fn load(directory: &Path) -> Result<Self> {
        let mut vars = HashMap::new();
        let path = directory.join(".env");
        if path.is_file() {
            let shown = path.display();
            let unreadable = |error: dotenvy::Error| {
                // The line itself may hold a key.
                let why = match error {
                    dotenvy::Error::LineParse(_, at) => {
                        format!("one line is not NAME=value (at character {at} of it)")
                    }
                    dotenvy::Error::Io(error) => error.to_string(),
                    _ => "it cannot be understood".to_owned(),
                };
                config(format!("{shown} cannot be read: {why}"))
            };
            for entry in dotenvy::from_path_iter(&path).map_err(unreadable)? {
                let (name, value) = entry.map_err(unreadable)?;
                // As in a shell, the last one counts.
                vars.insert(name, value);
            }
        }
        let environment = std::env::vars_os();
        vars.extend(environment.filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        }));
        Ok(Self(vars))
    }

    /// The value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        let value = self.0.get(name).map(|value| value.trim());
        value.filter(|value| !value.is_empty())
    }

    pub(super) fn parsed<T: FromStr>(&self, name: &str, form: &str) -> Result<Option<T>> {
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        match text.parse() {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(config(format!("{name} is {text:?}: write {form}"))),
        }
    }

    pub(super) fn is_true(&self, name: &str) -> Result<bool> {
        let Some(text) = self.get(name) else {
            return Ok(false);
        };
        match text.to_ascii_lowercase().as_str() {
            "1" | "true" | "on" | "yes" | "t" | "y" => Ok(true),
            "0" | "false" | "off" | "no" | "f" | "n" => Ok(false),
            _ => Err(config(format!("{name} is {text:?}: write true or false"))),
        }
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Vars {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(vars: I) -> Self {
        let vars = vars.into_iter();
        Self(vars.map(|(n, v)| (n.into(), v.into())).collect())
    }
}

impl fmt::Debug for Vars {
    /// Values may be keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vars({} of them)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_wins_over_the_file_and_an_empty_value_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let file = "# comment\nexport NT_ONLY_FILE='a b'\nPATH=/nowhere\nNT_EMPTY=\n";
        std::fs::write(directory.path().join(".env"), file).unwrap();
        let vars = Vars::load(directory.path()).unwrap();
        assert_eq!(vars.get("NT_ONLY_FILE"), Some("a b"));
        assert_eq!(vars.get("NT_EMPTY"), None);
        assert_ne!(vars.get("PATH"), Some("/nowhere"));
    }

    #[test]
    fn a_broken_file_is_an_error_that_does_not_show_the_line() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(".env"), "KEY='canary\n").unwrap();
        let error = Vars::load(directory.path()).unwrap_err();
        assert!(error.message().contains(".env"), "{error}");
        assert!(!format!("{error:?}").contains("canary"), "{error:?}");
    }
}
