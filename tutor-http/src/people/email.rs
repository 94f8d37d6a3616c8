//! Addresses: the names under which people sign in.

use tutor_core::{Error, Result};

/// The longest address, in bytes.
const MAX_BYTES: usize = 254;

/// The address as it is compared and kept: lower case, without space around it.
pub(super) fn normalized(text: &str) -> String {
    text.trim().to_lowercase()
}

/// Checks an address. Whether mail arrives there shows only by sending some.
///
/// # Errors
/// `invalid_input`.
pub(super) fn parse(text: &str) -> Result<String> {
    let email = normalized(text);
    let has_shape = email.split_once('@').is_some_and(|(name, host)| {
        !name.is_empty() && !host.is_empty() && !host.contains('@') && !host.starts_with('.')
    });
    let is_plain = !email.chars().any(|c| c.is_whitespace() || c.is_control());
    if has_shape && is_plain && email.len() <= MAX_BYTES {
        return Ok(email);
    }
    Err(
        Error::invalid_input("an address is written like ada@example.org")
            .with_context("field", "email"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_name_and_a_host() {
        assert_eq!(parse(" Ada@Example.org ").unwrap(), "ada@example.org");
        for bad in [
            "",
            "ada",
            "@example.org",
            "ada@",
            "a@b@c",
            "a b@c",
            "a@.c",
            "a\u{7}@c",
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
        assert!(parse(&format!("{}@example.org", "a".repeat(250))).is_err());
    }
}
