//! How many tokens something is to a model.

use serde_json::Value;

use crate::message::{Content, Part};
use crate::provider::PromptMessage;

/// The tokens that a message costs besides its content.
const MESSAGE_OVERHEAD: usize = 4;

/// What an image costs: about the most that current models charge for one.
pub(crate) const IMAGE_TOKENS: usize = 1600;

/// The bytes of a text that are counted one by one; the rest is counted as if it were alike. Bounds
/// the time for any text.
#[cfg(feature = "tokenizer")]
const MAX_COUNTED_BYTES: usize = 64 << 10;

/// About how many tokens `text` is.
///
/// With the feature `tokenizer`: as the tokenizer `o200k_base` of current OpenAI models cuts it,
/// which is close for others; of longer texts the first 64 KiB count for all. Without it: see
/// [`estimate`]. Both take time in proportion to the text at most, whatever it says.
pub(crate) fn count(text: &str) -> usize {
    #[cfg(feature = "tokenizer")]
    {
        let mut end = text.len().min(MAX_COUNTED_BYTES);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let counted = bpe_openai::o200k_base().count(&text[..end]);
        if end == text.len() {
            return counted;
        }
        counted.saturating_mul(text.len()).div_ceil(end)
    }
    #[cfg(not(feature = "tokenizer"))]
    estimate(text)
}

/// An estimate without a tokenizer: a quarter of a token for each byte of Latin, Greek, Cyrillic,
/// Hebrew and Arabic letters, and a whole one for every other character. Rather too high than too
/// low for what people write; too low by up to a half for text without words, such as keys.
#[cfg_attr(
    feature = "tokenizer",
    expect(dead_code, reason = "the tokenizer counts")
)]
pub(crate) fn estimate(text: &str) -> usize {
    let quarters: usize = text
        .chars()
        .map(|c| match c.len_utf8() {
            small @ 1..=2 => small,
            _ => 4,
        })
        .sum();
    quarters.div_ceil(4)
}

/// About how many tokens a message is.
pub(crate) fn of_message(message: &PromptMessage) -> usize {
    let content = match &message.content {
        Content::Text(text) => count(text),
        Content::Parts(parts) => parts.iter().map(of_part).sum(),
    };
    content + MESSAGE_OVERHEAD
}

fn of_part(part: &Part) -> usize {
    match part {
        Part::Text { text } => count(text),
        Part::Image { .. } => IMAGE_TOKENS,
        // What providers send of a file that nobody resolved: its name.
        Part::File { name, .. } => MESSAGE_OVERHEAD + name.as_deref().map_or(0, count),
        Part::ToolCall {
            name, arguments, ..
        } => MESSAGE_OVERHEAD + count(name) + of_json(arguments),
        Part::ToolResult { result, .. } => MESSAGE_OVERHEAD + of_json(result),
        Part::Replay { data, .. } => of_json(data),
    }
}

/// About how many tokens a value is as JSON.
pub(crate) fn of_json(value: &Value) -> usize {
    count(&value.to_string())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_megabyte_of_anything_is_counted_in_bounded_time() {
        for text in [
            "a".repeat(1 << 20),
            " ".repeat(1 << 20),
            "\u{1F468}\u{200D}".repeat(1 << 17),
            "漢".repeat(1 << 18),
            "a1!\n".repeat(1 << 18),
        ] {
            let start = std::time::Instant::now();
            assert!(count(&text) > 1000);
            assert!(
                start.elapsed() < Duration::from_secs(5),
                "{:?}",
                start.elapsed()
            );
        }
    }

    #[test]
    fn tokens_are_about_as_many_as_models_count() {
        for (text, least, most) in [
            ("", 0, 0),
            ("What is photosynthesis?", 4, 7),
            ("Что такое фотосинтез?", 4, 11),
            ("光合作用是什么？", 3, 9),
        ] {
            let counted = count(text);
            assert!((least..=most).contains(&counted), "{text}: {counted}");
        }
    }
}
