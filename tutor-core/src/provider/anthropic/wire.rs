//! The shape of the events of a Messages stream.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::message::Usage;
use crate::provider::json::{Wide, Word, count, lenient, raw};
use crate::provider::usage::OutputDetails;

/// One event: every field may be missing, null, or of a wrong type.
#[derive(Deserialize)]
pub(super) struct Event<'a> {
    #[serde(default, deserialize_with = "lenient")]
    pub(super) r#type: Option<Word>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) index: Option<i64>,
    #[serde(default, borrow)]
    pub(super) message: Option<Message<'a>>,
    #[serde(default, borrow)]
    pub(super) content_block: Option<BlockStart<'a>>,
    #[serde(default)]
    pub(super) delta: Option<BlockDelta>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) usage: Option<WireUsage>,
}

#[derive(Default, Deserialize)]
pub(super) struct Message<'a> {
    #[serde(default, deserialize_with = "lenient")]
    pub(super) id: Option<Word>,
    #[serde(default, borrow)]
    pub(super) content: Option<Vec<Option<BlockStart<'a>>>>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) stop_reason: Option<Word>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) usage: Option<WireUsage>,
}

#[derive(Default, Deserialize)]
pub(super) struct BlockStart<'a> {
    #[serde(default, deserialize_with = "lenient")]
    pub(super) r#type: Option<Word>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) id: Option<Word>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) name: Option<Word>,
    #[serde(default, borrow, deserialize_with = "raw")]
    pub(super) input: Option<&'a RawValue>,
    #[serde(default)]
    pub(super) text: Option<Wide>,
    #[serde(default)]
    pub(super) thinking: Option<Wide>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) signature: Option<Wide>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) data: Option<Wide>,
}

#[derive(Default, Deserialize)]
pub(super) struct BlockDelta {
    #[serde(default)]
    pub(super) text: Option<Wide>,
    #[serde(default)]
    pub(super) thinking: Option<Wide>,
    #[serde(default)]
    pub(super) partial_json: Option<Wide>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) signature: Option<Wide>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) stop_reason: Option<Word>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) struct WireUsage {
    #[serde(default, deserialize_with = "count")]
    input_tokens: Option<u64>,
    #[serde(default, deserialize_with = "count")]
    cache_read_input_tokens: Option<u64>,
    #[serde(default, deserialize_with = "count")]
    cache_creation_input_tokens: Option<u64>,
    #[serde(default, deserialize_with = "lenient")]
    cache_creation: Option<CacheCreation>,
    #[serde(default, deserialize_with = "count")]
    output_tokens: Option<u64>,
    #[serde(default, deserialize_with = "lenient")]
    output_tokens_details: Option<OutputDetails>,
}

/// What was written to the cache, by how long it stays there.
#[derive(Clone, Copy, Debug, Deserialize)]
struct CacheCreation {
    #[serde(default, deserialize_with = "count")]
    ephemeral_1h_input_tokens: Option<u64>,
}

impl WireUsage {
    /// Takes a snapshot: what it does not mention stays as it was.
    pub(super) fn update(&mut self, newer: Self) {
        self.input_tokens = newer.input_tokens.or(self.input_tokens);
        self.cache_read_input_tokens = newer
            .cache_read_input_tokens
            .or(self.cache_read_input_tokens);
        self.cache_creation_input_tokens = newer
            .cache_creation_input_tokens
            .or(self.cache_creation_input_tokens);
        self.cache_creation = newer.cache_creation.or(self.cache_creation);
        self.output_tokens = newer.output_tokens.or(self.output_tokens);
        self.output_tokens_details = newer.output_tokens_details.or(self.output_tokens_details);
    }

    pub(super) fn normalized(self) -> Usage {
        let (read, written) = (
            self.cache_read_input_tokens,
            self.cache_creation_input_tokens,
        );
        let sum = |input: u64| input + read.unwrap_or(0) + written.unwrap_or(0);
        Usage {
            // What the cache took part in is counted beside the input.
            input_tokens: self.input_tokens.map(sum),
            cached_input_tokens: read,
            cache_write_tokens: written,
            output_tokens: self.output_tokens,
            reasoning_tokens: self
                .output_tokens_details
                .and_then(|details| details.reasoning_tokens),
            cache_write_long_tokens: self
                .cache_creation
                .and_then(|written| written.ephemeral_1h_input_tokens),
            cost_usd: None,
        }
    }
}
