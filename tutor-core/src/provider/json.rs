//! Reading JSON of servers that bend the rules.
//!
//! What is needed must be right; what is not needed may be of any type and shape; and a string may
//! hold half of a surrogate pair, because servers cut texts between UTF-16 units.

use std::fmt;

use serde::de::{Deserializer, Error as _, Visitor};
use serde::{Deserialize, de};
use serde_json::value::RawValue;

/// The largest number that can be a count of tokens.
const MAX_COUNT: f64 = 1e12;

/// Reads a field whose wrong type or value only means that it is absent.
pub(crate) fn lenient<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let raw = raw(deserializer)?;
    Ok(raw.and_then(|raw| serde_json::from_str(raw.get()).ok()))
}

/// Reads a field as it stands.
pub(crate) fn raw<'de, D>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error>
where
    D: Deserializer<'de>,
{
    // Not by capturing `null`, too, of which there is a lot.
    Option::<&'de RawValue>::deserialize(deserializer)
}

/// Reads a field that is a [`Count`], or absent.
pub(crate) fn count<'de, D>(deserializer: D) -> Result<Option<u64>, D::Error>
where
    D: Deserializer<'de>,
{
    Ok(lenient::<D, Count>(deserializer)?.map(|count| count.0))
}

/// Makes the control characters that are illegal inside JSON strings legal; `None` if there are none.
pub(crate) fn escape_controls(text: &str) -> Option<String> {
    let (mut out, mut in_string, mut escaped, mut changed) = (String::new(), false, false, false);
    for c in text.chars() {
        match c {
            '"' if !escaped => in_string = !in_string,
            c if in_string && c < ' ' => {
                changed = true;
                // After a backslash the letter of the escape is still missing.
                let escape = format!("u{:04x}", u32::from(c));
                out.push_str(if escaped { "" } else { "\\" });
                out.push_str(&escape);
                escaped = false;
                continue;
            }
            _ => {}
        }
        escaped = in_string && c == '\\' && !escaped;
        out.push(c);
    }
    changed.then_some(out)
}

/// A count of tokens; negative, fractional and absurd ones do not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Count(pub(crate) u64);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = f64::deserialize(deserializer)?;
        if !(0.0..=MAX_COUNT).contains(&number) {
            return Err(D::Error::custom("not a count"));
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the range was checked"
        )]
        Ok(Self(number as u64))
    }
}

/// An identifier or a word: a string, or a number in its decimal form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Word(pub(crate) String);

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WordVisitor;
        impl Visitor<'_> for WordVisitor {
            type Value = Word;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an integer")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Word, E> {
                Ok(Word(text.to_owned()))
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Word, E> {
                Ok(Word(number.to_string()))
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Word, E> {
                Ok(Word(number.to_string()))
            }
        }
        deserializer.deserialize_any(WordVisitor)
    }
}

/// A JSON string in WTF-8: UTF-8 that may also hold lone surrogates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wide(Vec<u8>);

impl Wide {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The string that a JSON value is; `None` if it is no string.
    pub(crate) fn of_raw(raw: &RawValue) -> Option<Self> {
        Self::of_string(raw.get())
    }

    /// The string that `json` is; `None` if it is anything else.
    pub(crate) fn of_string(json: &str) -> Option<Self> {
        let inner = json.strip_prefix('"')?.strip_suffix('"')?;
        // Nearly always: without escapes there is nothing to decode.
        let is_plain = |byte: &u8| !matches!(byte, b'"' | b'\\' | 0..b' ');
        if inner.as_bytes().iter().all(is_plain) {
            return Some(Self::from(inner));
        }
        serde_json::from_str(json).ok()
    }

    /// The text; half pairs become U+FFFD.
    pub(crate) fn into_text(self) -> String {
        let mut joiner = Joiner::default();
        let mut text = joiner.push(self);
        text.push_str(joiner.finish());
        text
    }
}

impl From<&str> for Wide {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

impl<'de> Deserialize<'de> for Wide {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // As bytes, serde_json hands out lone surrogates instead of refusing them.
        deserializer.deserialize_byte_buf(WideVisitor)
    }
}

struct WideVisitor;

impl Visitor<'_> for WideVisitor {
    type Value = Wide;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Wide, E> {
        Ok(Wide(bytes.to_vec()))
    }

    fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<Wide, E> {
        Ok(Wide(bytes))
    }
}

/// Puts surrogate pairs together that were cut between two pieces of one text.
#[derive(Debug, Default)]
pub(crate) struct Joiner {
    high: Option<u32>,
}

impl Joiner {
    /// The next piece of the text; a high surrogate at its end is kept for the next one.
    pub(crate) fn push(&mut self, piece: Wide) -> String {
        let bytes = if self.high.is_none() {
            // Nearly always: the bytes are the text as they are.
            match String::from_utf8(piece.0) {
                Ok(text) => return text,
                Err(error) => error.into_bytes(),
            }
        } else {
            piece.0
        };
        let mut out = String::with_capacity(bytes.len());
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            match *rest {
                [0xED, second @ 0xA0..=0xBF, third, ..] => {
                    self.unit(
                        0xD000 | u32::from(second & 0x3F) << 6 | u32::from(third & 0x3F),
                        &mut out,
                    );
                    rest = &rest[3..];
                }
                _ => {
                    let end = rest[1..]
                        .windows(2)
                        .position(|pair| pair[0] == 0xED && pair[1] >= 0xA0)
                        .map_or(rest.len(), |at| at + 1);
                    out.push_str(self.finish());
                    out.push_str(&String::from_utf8_lossy(&rest[..end]));
                    rest = &rest[end..];
                }
            }
        }
        out
    }

    /// The end of the text: what stands for a high surrogate whose other half never came.
    pub(crate) fn finish(&mut self) -> &'static str {
        if self.high.take().is_some() {
            "\u{FFFD}"
        } else {
            ""
        }
    }

    fn unit(&mut self, unit: u32, out: &mut String) {
        match (self.high, unit) {
            (_, 0xD800..=0xDBFF) => {
                out.push_str(self.finish());
                self.high = Some(unit);
            }
            (Some(high), _) => {
                self.high = None;
                let code = 0x1_0000 + ((high - 0xD800) << 10) + (unit - 0xDC00);
                out.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            (None, _) => out.push(char::REPLACEMENT_CHARACTER),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wide(json: &str) -> Wide {
        serde_json::from_str(json).unwrap()
    }

    #[derive(Deserialize)]
    struct Loose {
        #[serde(default, deserialize_with = "lenient")]
        count: Option<Count>,
        #[serde(default, deserialize_with = "lenient")]
        word: Option<Word>,
    }

    fn loose(json: &str) -> (Option<u64>, Option<String>) {
        let loose: Loose = serde_json::from_str(json).unwrap();
        (loose.count.map(|c| c.0), loose.word.map(|w| w.0))
    }

    #[test]
    fn a_field_of_a_wrong_type_is_absent() {
        assert_eq!(
            loose(r#"{"count":12.0,"word":400}"#),
            (Some(12), Some("400".into()))
        );
        for odd in [
            "null",
            "-5",
            "1e400",
            "99999999999999999999",
            r#""12""#,
            "[1]",
            "{}",
        ] {
            assert_eq!(
                loose(&format!(r#"{{"count":{odd},"x":{odd}}}"#)),
                (None, None),
                "{odd}"
            );
        }
        assert_eq!(loose(r#"{"word":"\ud83d"}"#), (None, None));
        assert_eq!(loose("{}"), (None, None));
    }

    #[test]
    fn surrogate_pairs_are_joined_over_pieces() {
        let mut joiner = Joiner::default();
        let pieces = [
            r#""ok \ud83d""#,
            r#""""#,
            r#""\ude00 done""#,
            r#""\ud83d""#,
            r#""x\ude00""#,
        ];
        let text: String = pieces
            .iter()
            .map(|piece| joiner.push(wide(piece)))
            .collect();
        assert_eq!(text, "ok 😀 done\u{FFFD}x\u{FFFD}");
        assert_eq!(joiner.finish(), "");
        joiner.push(wide(r#""\ud83d""#));
        assert_eq!(joiner.finish(), "\u{FFFD}");
    }

    #[test]
    fn raw_control_characters_in_strings_are_escaped() {
        let fixed = escape_controls("{\"a\":\"x\ty\\\"\n\",\r\n\"b\":1}").unwrap();
        let value: serde_json::Value = serde_json::from_str(&fixed).unwrap();
        assert_eq!(value, serde_json::json!({"a": "x\ty\"\n", "b": 1}));
        assert_eq!(escape_controls("{\n\"a\": 1}"), None);
    }

    proptest! {
        #[test]
        fn any_text_cut_between_any_utf16_units_is_put_together_again(text in "\\PC{0,20}", cuts in proptest::collection::vec(0..40usize, 0..4)) {
            let units: Vec<u16> = text.encode_utf16().collect();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(units.len())).collect();
            cuts.extend([0, units.len()]);
            cuts.sort_unstable();
            let mut joiner = Joiner::default();
            let mut joined = String::new();
            for pair in cuts.windows(2) {
                let escaped: String = units[pair[0]..pair[1]].iter().map(|unit| format!("\\u{unit:04x}")).collect();
                joined += &joiner.push(wide(&format!("\"{escaped}\"")));
            }
            joined += joiner.finish();
            prop_assert_eq!(joined, text);
        }
    }
}
