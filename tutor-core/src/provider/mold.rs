//! The form that most events of a stream have.

use super::json::Wide;

/// What stands around the text in an event that has nothing else to say. Most events of a stream
/// differ in their text alone: when one was read, the others need not be.
#[derive(Debug, Default)]
pub(crate) struct Mold {
    /// Empty while there is none.
    before: String,
    behind: String,
}

impl Mold {
    /// Takes the form of `json`, of which `text`, a string as it stands there, is the text.
    pub(crate) fn take(&mut self, json: &str, text: &str) {
        let at = text.as_ptr().addr().wrapping_sub(json.as_ptr().addr());
        let (Some(before), Some(behind)) =
            (json.get(..at), json.get(at.saturating_add(text.len())..))
        else {
            return;
        };
        self.before.clear();
        self.before.push_str(before);
        self.behind.clear();
        self.behind.push_str(behind);
    }

    /// The text of `json`, if it has this form.
    pub(crate) fn text(&self, json: &str) -> Option<Wide> {
        if self.before.is_empty() {
            return None;
        }
        let rest = json.strip_prefix(&*self.before)?;
        Wide::of_string(rest.strip_suffix(&*self.behind)?)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::*;
    use crate::provider::json::escape_controls;

    fn mold(json: &str, text: &str) -> Mold {
        let mut mold = Mold::default();
        let at = json.find(text).unwrap();
        mold.take(json, &json[at..at + text.len()]);
        mold
    }

    #[test]
    fn only_a_string_in_the_place_of_the_text_has_the_form() {
        let mold = mold(r#"{"a":{"text":"x"},"n":null}"#, r#""x""#);
        let text = |json: &str| mold.text(json).map(Wide::into_text);
        let of = |text: &str| format!(r#"{{"a":{{"text":{text}}},"n":null}}"#);
        assert_eq!(text(&of(r#""""#)).unwrap(), "");
        assert_eq!(text(&of(r#""né""#)).unwrap(), "né");
        assert_eq!(text(&of(r#""a\n\"b\"\\""#)).unwrap(), "a\n\"b\"\\");
        assert_eq!(text(&of(r#""\ud83d\ude00""#)).unwrap(), "😀");
        for other in [
            "null",
            "1",
            "\"",
            r#""a","b":"c""#,
            r#""a\"#,
            r#""a\""#,
            r#" "a""#,
            r#"["a"]"#,
        ] {
            assert!(text(&of(other)).is_none(), "{other}");
        }
        // As it would be read once it is repaired.
        assert_eq!(text(&of("\"a\tb\"")).unwrap(), "a\tb");
        assert!(text(r#"{"a":{"text":"x"},"n":1}"#).is_none());
        assert!(text(r#"{"a":{"text":"x"},"n":null} "#).is_none());
        assert!(text("").is_none());
        assert!(Mold::default().text(r#""x""#).is_none());
    }

    proptest! {
        #[test]
        fn what_has_the_form_is_what_a_parser_reads(middle in r#"["\\a{}:, u0-9\n]{0,12}"#) {
            let json = format!(r#"{{"text":{middle}}}"#);
            let found = mold(r#"{"text":"x"}"#, r#""x""#).text(&json);
            #[derive(serde::Deserialize)]
            struct One<'a> {
                #[serde(borrow)]
                text: &'a RawValue,
            }
            if let Some(found) = found {
                // Nothing but the text, and the same text.
                let json = escape_controls(&json).unwrap_or(json);
                let parsed: One<'_> = serde_json::from_str(&json).unwrap();
                prop_assert_eq!(parsed.text.get().len() + r#"{"text":}"#.len(), json.len());
                prop_assert_eq!(Some(found), Wide::of_raw(parsed.text));
            }
        }
    }
}
