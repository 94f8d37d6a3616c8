//! API keys.

use std::fmt;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};

use crate::error::{Error, ErrorKind, Result};

/// The longest API key, in bytes.
pub const MAX_KEY_BYTES: usize = 4096;

/// A provider's API key. It can be used, but neither printed nor serialized. Its memory is
/// overwritten when the last clone is dropped.
#[derive(Clone)]
pub struct ApiKey(Arc<SecretString>);

impl ApiKey {
    /// The key with this text; white space around it, which pasting tends to add, is dropped.
    pub fn new(text: &str) -> Self {
        Self(Arc::new(SecretString::from(text.trim())))
    }

    /// Whether a provider can be asked with this key.
    ///
    /// # Errors
    /// `config` if the key is empty, longer than [`MAX_KEY_BYTES`], or has a character that no HTTP
    /// header may carry. The error does not contain the key.
    pub fn check(&self) -> Result<()> {
        let key = self.expose();
        let usable =
            (1..=MAX_KEY_BYTES).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic());
        if usable {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Config,
            format!(
                "an API key has 1 to {MAX_KEY_BYTES} printable ASCII characters without spaces: copy it again"
            ),
        ))
    }

    /// The key itself: for the header that carries it, and for nothing else.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl PartialEq for ApiKey {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl Eq for ApiKey {}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_never_printed() {
        let key = ApiKey::new(" sk-secret\n");
        assert_eq!(key.expose(), "sk-secret");
        assert_eq!(
            format!("{key:?} {:?}", Some(&key)),
            "<redacted> Some(<redacted>)"
        );
    }

    #[test]
    fn a_key_that_no_header_can_carry_is_refused_without_showing_it() {
        for bad in [
            "",
            "  ",
            "sk-se\ncret",
            "sk-se\0cret",
            "sk se cret",
            "sk-sécret",
            &"x".repeat(4097),
        ] {
            let error = ApiKey::new(bad).check().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(!format!("{error} {error:?}").contains("cret"), "{error}");
        }
    }
}
