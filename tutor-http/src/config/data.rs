//! Where conversations are kept.

use std::path::PathBuf;

use tutor_core::Result;

use super::config;

/// Where conversations are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Data {
    /// In this directory, by the embedded store.
    Sled(PathBuf),
    /// In memory, until the process ends.
    Memory,
}

impl Default for Data {
    fn default() -> Self {
        Self::Sled(PathBuf::from("neuro-tutor-data"))
    }
}

impl Data {
    /// Reads a place: `sled:DIRECTORY`, a directory, or `memory:`. `name` is the setting's.
    ///
    /// # Errors
    /// `config` for a store that this build does not have. Another one is never taken instead:
    /// nobody should have to search for their data.
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        let (scheme, rest) = match text.split_once(':') {
            // One letter is a drive.
            Some((scheme, rest)) if scheme.len() > 1 && is_scheme(scheme) => {
                (scheme.to_ascii_lowercase(), rest)
            }
            _ => ("sled".to_owned(), text),
        };
        match scheme.as_str() {
            "memory" => Ok(Self::Memory),
            "sled" => {
                let path = rest.strip_prefix("//").unwrap_or(rest);
                if path.is_empty() {
                    return Err(config(format!(
                        "{name} names no directory: write sled:./neuro-tutor-data"
                    )));
                }
                Ok(Self::Sled(path.into()))
            }
            scheme => Err(config(format!(
                "{name} names a {scheme} database, which this build cannot use: write \
                 sled:DIRECTORY to keep conversations in a directory, or remove the setting to \
                 keep them in ./neuro-tutor-data"
            ))),
        }
    }
}

/// What may stand before the colon of a URL, such as `postgresql` or `sqlite+aiosqlite`.
fn is_scheme(text: &str) -> bool {
    text.bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_directory_or_memory() {
        let sled = |path: &str| Data::Sled(path.into());
        for (text, expected) in [
            ("memory:", Data::Memory),
            ("sled:./data", sled("./data")),
            ("sled:///srv/data", sled("/srv/data")),
            ("./data", sled("./data")),
            ("/srv/data", sled("/srv/data")),
            ("C:\\data", sled("C:\\data")),
            ("my/da:ta", sled("my/da:ta")),
        ] {
            assert_eq!(Data::parse("--data", text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn another_database_is_refused_by_name_and_without_its_password() {
        for url in [
            "sqlite:///./neuro_tutor.db",
            "postgresql://user:canary@localhost/neuro_tutor",
            "sqlite+aiosqlite:///x.db",
            "sled:",
        ] {
            let error = Data::parse("DATABASE_URL", url).unwrap_err();
            let message = error.message();
            assert!(
                message.contains("DATABASE_URL") && message.contains("sled:"),
                "{message}"
            );
            assert!(!message.contains("canary"), "{message}");
        }
    }
}
