//! What the protocols' counts of tokens have in common.
//!
//! Each protocol has its own names for the figures, and its own idea of which contain which; all
//! become [`Usage`]: the input with what a cache took part in, the output
//! with the reasoning. What a server does not tell is absent, never 0.

use serde::Deserialize;

use super::json::{count, lenient};
use crate::message::Usage;

/// What is known of the input besides its size.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(crate) struct InputDetails {
    /// What was read from a cache.
    #[serde(default, deserialize_with = "count")]
    pub(crate) cached_tokens: Option<u64>,
    /// What was written to a cache.
    #[serde(default, deserialize_with = "count")]
    cache_write_tokens: Option<u64>,
    /// How long it stays there.
    #[serde(default, deserialize_with = "lenient")]
    cache_write_tokens_details: Option<WriteDetails>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct WriteDetails {
    #[serde(default, deserialize_with = "count")]
    ttl_12h_tokens: Option<u64>,
}

impl InputDetails {
    /// What was written to a cache, and nothing else.
    pub(crate) fn written(self) -> Usage {
        Usage {
            cache_write_tokens: self.cache_write_tokens,
            cache_write_long_tokens: self
                .cache_write_tokens_details
                .and_then(|details| details.ttl_12h_tokens),
            ..Usage::default()
        }
    }
}

/// What is known of the output besides its size.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(crate) struct OutputDetails {
    /// The part of it that is reasoning.
    #[serde(default, alias = "thinking_tokens", deserialize_with = "count")]
    pub(crate) reasoning_tokens: Option<u64>,
}
