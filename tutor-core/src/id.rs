//! Identifiers: validated once, on construction, then cheap to clone and safe in a URL.

use std::borrow::{Borrow, Cow};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, Result};

/// The longest identifier, in bytes.
pub const MAX_ID_BYTES: usize = 128;

fn validate(what: &'static str, text: &str) -> Result<()> {
    if text.is_empty() || text.len() > MAX_ID_BYTES {
        return Err(Error::invalid_input(format!(
            "the id of {what} has 1 to {MAX_ID_BYTES} bytes, not {}",
            text.len()
        )));
    }
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._~@:+".contains(&b);
    // A path segment `.` or `..` never reaches a server.
    if !text.bytes().all(allowed) || text.bytes().all(|b| b == b'.') {
        return Err(Error::invalid_input(format!(
            "the id of {what} consists of ASCII letters, digits and any of - . _ ~ @ : +"
        )));
    }
    Ok(())
}

/// The text of an id, borrowed from what is read if that can lend it.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        ///
        /// 1 to [`MAX_ID_BYTES`] bytes of ASCII letters, digits and `-._~@:+`.
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The id with this text.
            ///
            /// # Errors
            /// `invalid_input` if the text is empty, too long, or has a character that is not
            /// allowed.
            pub fn new(text: impl AsRef<str>) -> Result<Self> {
                let text = text.as_ref();
                validate($what, text)?;
                Ok(Self(Arc::from(text)))
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = Error;
            fn try_from(text: String) -> Result<Self> {
                Self::new(text)
            }
        }

        impl FromStr for $name {
            type Err = Error;
            fn from_str(text: &str) -> Result<Self> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.as_str().to_owned()
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
                to.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
                let Text(text) = Text::deserialize(from)?;
                Self::new(text).map_err(D::Error::custom)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}

id! {
    /// Whose data it is: a learner, or the one user of an embedded tutor.
    OwnerId, "an owner"
}
id! {
    /// A conversation. Unique per owner.
    SessionId, "a session"
}
id! {
    /// A message. Unique per session.
    MessageId, "a message"
}
id! {
    /// A turn: one exchange. Unique per owner.
    TurnId, "a turn"
}

impl Default for OwnerId {
    /// `local`: the owner when nobody is named.
    fn default() -> Self {
        Self(Arc::from("local"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_validated() {
        for good in [
            "a",
            "0190b5c0-4d2e-7f00-8000-000000000000",
            "user@school.example",
            &"x".repeat(128),
        ] {
            assert_eq!(SessionId::new(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            ".",
            "..",
            "a b",
            "a/b",
            "a\0b",
            "é",
            "a\n",
            &"x".repeat(129),
        ] {
            assert!(SessionId::new(bad).is_err(), "{bad:?}");
            assert!(
                serde_json::from_value::<SessionId>(bad.into()).is_err(),
                "{bad:?}"
            );
        }
    }
}
