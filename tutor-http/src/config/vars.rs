//! The environment, the `.env` file behind it, and the configuration file behind that.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::Path;

use tutor_core::Result;

use super::file::File;
use super::layers::Origin;
use super::{config, dotenv};

/// The variable that names the configuration file.
const CONFIG_VAR: &str = "NEURO_TUTOR_CONFIG";

/// Settings by name: the environment's, and behind them those of a `.env` file. An empty value is
/// none. Behind both is the configuration file.
#[derive(Clone, Default)]
pub struct Vars {
    values: HashMap<String, String>,
    /// What the process's environment holds itself.
    own: HashSet<String>,
    file: File,
}

impl Vars {
    /// Reads `.env` in `directory`, if there is one, and lays the process's environment over it;
    /// then the configuration file: `named`, else the one that `NEURO_TUTOR_CONFIG` names, else
    /// `neuro-tutor.toml` in `directory`, if there is one.
    ///
    /// # Errors
    /// `config` if a file cannot be read or understood.
    pub fn load(directory: &Path, named: Option<&Path>) -> Result<Self> {
        let environment: HashMap<String, String> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let own = environment.keys().cloned().collect();
        let path = directory.join(".env");
        let mut vars = match path.is_file() {
            true => read_dotenv(&path, &environment)?,
            false => HashMap::new(),
        };
        vars.extend(environment);
        let mut vars = Self {
            values: vars,
            own,
            file: File::default(),
        };
        let named = named.or(vars.get(CONFIG_VAR).map(Path::new));
        vars.file = File::read(directory, named)?;
        Ok(vars)
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Where the configuration file is that was read, if there is one.
    pub fn config_file(&self) -> Option<&Path> {
        self.file.path()
    }

    /// Where the variable, which is set, comes from.
    pub(super) fn origin(&self, name: &str) -> Origin {
        if self.own.contains(name) {
            Origin::Environment(name.to_owned())
        } else {
            Origin::EnvironmentFile(name.to_owned())
        }
    }

    /// The value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        let value = self.values.get(name).map(|value| value.trim());
        value.filter(|value| !value.is_empty())
    }

    /// The variables whose names begin with one of these, and their values.
    pub(super) fn beginning_with(
        &self,
        prefixes: &[&str],
    ) -> impl Iterator<Item = (String, String)> {
        let names = self.values.keys();
        let names = names.filter(|name| prefixes.iter().any(|prefix| name.starts_with(prefix)));
        names.filter_map(|name| Some((name.clone(), self.get(name)?.to_owned())))
    }

    pub(super) fn is_true(&self, name: &str) -> Result<bool> {
        let Some(text) = self.get(name) else {
            return Ok(false);
        };
        truth(text).ok_or_else(|| config(format!("{name} is {text:?}: write true or false")))
    }
}

fn read_dotenv(
    path: &Path,
    environment: &HashMap<String, String>,
) -> Result<HashMap<String, String>> {
    let unreadable = |why| config(format!("{} cannot be read: {why}", path.display()));
    let text = std::fs::read(path).map_err(|error| unreadable(error.to_string()))?;
    let text = String::from_utf8(text)
        .map_err(|_| unreadable("it is not UTF-8: save it as that".to_owned()))?;
    dotenv::read(&text, environment)
        .map_err(|dotenv::Refused { line, why }| unreadable(format!("line {line}: {why}")))
}

/// What a text says about truth.
pub(super) fn truth(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "on" | "yes" | "t" | "y" => Some(true),
        "0" | "false" | "off" | "no" | "f" | "n" => Some(false),
        _ => None,
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Vars {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(vars: I) -> Self {
        let values: HashMap<String, String> = vars
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        Self {
            own: values.keys().cloned().collect(),
            values,
            file: File::default(),
        }
    }
}

impl fmt::Debug for Vars {
    /// Values may be keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vars({} of them)", self.values.len())
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
        let vars = Vars::load(directory.path(), None).unwrap();
        assert_eq!(vars.get("NT_ONLY_FILE"), Some("a b"));
        assert_eq!(vars.get("NT_EMPTY"), None);
        assert_ne!(vars.get("PATH"), Some("/nowhere"));
    }

    #[test]
    fn a_broken_file_is_an_error_that_does_not_show_the_line() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(".env"), "KEY='canary\n").unwrap();
        let error = Vars::load(directory.path(), None).unwrap_err();
        assert!(error.message().contains(".env"), "{error}");
        assert!(error.message().contains("line 1"), "{error}");
        assert!(!format!("{error:?}").contains("canary"), "{error:?}");
    }
}
