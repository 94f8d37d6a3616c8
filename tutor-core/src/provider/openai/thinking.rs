//! Thinking that a server left in the text, and thinking that it wants back.

use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// The largest thinking that is kept to be sent again, in bytes of JSON.
const MAX_REPLAY_BYTES: usize = 1 << 20;

/// The most white space before a tag, in bytes. After more of it no tag is expected.
const MAX_HELD_BYTES: usize = 1 << 10;

const OPEN: &str = "<think>";
const CLOSE: &str = "</think>";

/// Tells thinking in tags at the beginning of a text from what is said.
#[derive(Debug, Default)]
pub(super) struct ThinkTags {
    state: Tags,
    /// What may be the beginning of a tag.
    held: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Tags {
    /// Nothing but white space has come.
    #[default]
    Before,
    Within,
    /// White space after the thinking belongs to neither.
    Behind,
    Over,
}

impl ThinkTags {
    /// The next piece of the text, taken apart: thinking, then what is said. Either may be empty.
    pub(super) fn push(&mut self, piece: &str) -> (String, String) {
        let mut text = std::mem::take(&mut self.held) + piece;
        let mut thinking = String::new();
        if self.state == Tags::Before {
            let begun = text.trim_start();
            if let Some(rest) = begun.strip_prefix(OPEN) {
                self.state = Tags::Within;
                text = rest.to_owned();
            } else if OPEN.starts_with(begun) && text.len() <= MAX_HELD_BYTES {
                self.held = text;
                return (thinking, String::new());
            } else {
                self.state = Tags::Over;
            }
        }
        if self.state == Tags::Within {
            if let Some((before, after)) = text.split_once(CLOSE) {
                thinking.push_str(before);
                self.state = Tags::Behind;
                text = after.to_owned();
            } else {
                let held = (1..CLOSE.len())
                    .rev()
                    .find(|length| text.ends_with(&CLOSE[..*length]))
                    .unwrap_or(0);
                self.held = text.split_off(text.len() - held);
                return (text, String::new());
            }
        }
        if self.state == Tags::Behind {
            text = text.trim_start().to_owned();
            if !text.is_empty() {
                self.state = Tags::Over;
            }
        }
        (thinking, text)
    }

    /// The text is over: what was held back was no tag.
    pub(super) fn finish(&mut self) -> (String, String) {
        let held = std::mem::take(&mut self.held);
        match self.state {
            Tags::Within => (held, String::new()),
            _ => (String::new(), held),
        }
    }
}

/// What a server wants to be sent again with the results of the tools that it asked for.
#[derive(Debug, Default)]
pub(super) struct Replay {
    text: String,
    details: Vec<Map<String, Value>>,
    signatures: Map<String, Value>,
    bytes: usize,
}

impl Replay {
    /// More of the thinking as text.
    pub(super) fn text(&mut self, thought: &str) {
        if self.has_room(thought.len()) {
            self.text.push_str(thought);
        }
    }

    /// One of the details of thinking: another one, or the continuation of the last.
    pub(super) fn detail(&mut self, raw: &RawValue) {
        let Ok(fields) = serde_json::from_str::<Map<String, Value>>(raw.get()) else {
            return;
        };
        if !self.has_room(raw.get().len()) {
            return;
        }
        let same = |known: &Map<String, Value>, name| known.get(name) == fields.get(name);
        match self.details.last_mut() {
            Some(last) if same(last, "type") && same(last, "index") => {
                for (name, value) in fields {
                    match (last.get_mut(&name), value) {
                        (Some(Value::String(before)), Value::String(more))
                            if matches!(name.as_str(), "text" | "summary" | "data") =>
                        {
                            before.push_str(&more);
                        }
                        (Some(_), Value::Null) => {}
                        (_, value) => {
                            last.insert(name, value);
                        }
                    }
                }
            }
            _ => self.details.push(fields),
        }
    }

    /// What stands beside the call at this place.
    pub(super) fn signature(&mut self, call: usize, raw: &RawValue) {
        if let Ok(value) = serde_json::from_str::<Value>(raw.get())
            && self.has_room(raw.get().len())
        {
            self.signatures.insert(call.to_string(), value);
        }
    }

    fn has_room(&mut self, bytes: usize) -> bool {
        self.bytes += bytes;
        self.bytes <= MAX_REPLAY_BYTES
    }

    /// All of it, if there is any; `ids` are those of the calls.
    pub(super) fn finish(self, ids: &[String]) -> Option<Value> {
        let mut data = Map::new();
        if !self.text.is_empty() {
            data.insert("reasoning_content".to_owned(), self.text.into());
        }
        if !self.details.is_empty() {
            let details = self.details.into_iter().map(Value::Object).collect();
            data.insert("reasoning_details".to_owned(), Value::Array(details));
        }
        let signatures: Map<String, Value> = self
            .signatures
            .into_iter()
            .filter_map(|(call, value)| {
                let id = ids.get(call.parse::<usize>().ok()?)?;
                Some((id.clone(), value))
            })
            .collect();
        if !signatures.is_empty() {
            data.insert("extra_content".to_owned(), Value::Object(signatures));
        }
        (!data.is_empty()).then_some(Value::Object(data))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn apart(pieces: &[&str]) -> (String, String) {
        let mut tags = ThinkTags::default();
        let mut both = (String::new(), String::new());
        let mut take = |(thinking, text): (String, String)| {
            both.0 += &thinking;
            both.1 += &text;
        };
        pieces.iter().for_each(|piece| take(tags.push(piece)));
        take(tags.finish());
        both
    }

    #[test]
    fn thinking_in_tags_is_told_from_text_at_every_cut() {
        let text = "\n<think>a < b </thin </think>\n\nThe <think> answer";
        for cut in 0..=text.len() {
            let (first, second) = text.split_at(cut);
            let expected = ("a < b </thin ".to_owned(), "The <think> answer".to_owned());
            assert_eq!(apart(&[first, second]), expected, "{cut}");
        }
        let single: Vec<_> = text.split_inclusive(|_| true).collect();
        assert_eq!(apart(&single).1, "The <think> answer");
    }

    #[test]
    fn a_text_without_thinking_is_not_touched() {
        for text in ["", " \n", "<thin", "<p>x</p>", "x <think>y</think>"] {
            assert_eq!(apart(&[text]), (String::new(), text.to_owned()));
        }
        assert_eq!(apart(&["<think>never", " ended </"]).0, "never ended </");
    }

    #[test]
    fn pieces_of_one_detail_are_put_together() {
        let raw = |value: &Value| RawValue::from_string(value.to_string()).unwrap();
        let mut replay = Replay::default();
        for piece in [
            json!({"type": "reasoning.text", "index": 0, "text": "a", "signature": null}),
            json!({"type": "reasoning.text", "index": 0, "text": "b", "signature": "s"}),
            json!({"type": "reasoning.encrypted", "index": 1, "data": "x"}),
        ] {
            replay.detail(&raw(&piece));
        }
        replay.signature(1, &raw(&json!({"google": {"thought_signature": "t"}})));
        assert_eq!(
            replay.finish(&["p".to_owned(), "q".to_owned()]).unwrap(),
            json!({
                "reasoning_details": [
                    {"type": "reasoning.text", "index": 0, "text": "ab", "signature": "s"},
                    {"type": "reasoning.encrypted", "index": 1, "data": "x"},
                ],
                "extra_content": {"q": {"google": {"thought_signature": "t"}}},
            })
        );
    }
}
