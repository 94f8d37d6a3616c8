//! The shape of the events of a Responses stream.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::message::Usage;
use crate::provider::json::{Wide, Word, count, lenient, raw};
use crate::provider::usage::{InputDetails, OutputDetails};

/// One event: every field may be missing, null, or of a wrong type.
#[derive(Deserialize)]
pub(super) struct Event<'a> {
    #[serde(default, deserialize_with = "lenient")]
    pub(super) r#type: Option<Word>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) output_index: Option<i64>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) content_index: Option<i64>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) summary_index: Option<i64>,
    // In other events than those of texts these may be anything.
    #[serde(default, deserialize_with = "lenient")]
    pub(super) delta: Option<Wide>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) text: Option<Wide>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) refusal: Option<Wide>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) arguments: Option<Wide>,
    #[serde(default, borrow, deserialize_with = "raw")]
    pub(super) item: Option<&'a RawValue>,
    #[serde(default, borrow)]
    pub(super) response: Option<Response<'a>>,
}

#[derive(Default, Deserialize)]
pub(super) struct Response<'a> {
    #[serde(default, deserialize_with = "lenient")]
    pub(super) status: Option<Word>,
    #[serde(default, borrow, deserialize_with = "raw")]
    pub(super) error: Option<&'a RawValue>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) incomplete_details: Option<Incomplete>,
    #[serde(default, borrow, deserialize_with = "lenient")]
    pub(super) output: Option<Vec<&'a RawValue>>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) usage: Option<WireUsage>,
}

#[derive(Deserialize)]
pub(super) struct Incomplete {
    #[serde(default, deserialize_with = "lenient")]
    pub(super) reason: Option<Word>,
}

#[derive(Deserialize)]
pub(super) struct Item<'a> {
    #[serde(default, deserialize_with = "lenient")]
    pub(super) r#type: Option<Word>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) id: Option<Word>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) call_id: Option<Word>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) name: Option<Word>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) arguments: Option<Wide>,
    #[serde(default, borrow, deserialize_with = "lenient")]
    pub(super) content: Option<Vec<&'a RawValue>>,
    #[serde(default, borrow, deserialize_with = "lenient")]
    pub(super) summary: Option<Vec<&'a RawValue>>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) encrypted_content: Option<Word>,
}

impl<'a> Item<'a> {
    /// The item, if it is a call.
    pub(super) fn call(raw: &'a RawValue) -> Option<Self> {
        let item: Self = serde_json::from_str(raw.get()).ok()?;
        let is_call = item.r#type.as_ref()?.0 == "function_call";
        is_call.then_some(item)
    }
}

/// A part of a message, or of thinking.
#[derive(Deserialize)]
pub(super) struct Content {
    #[serde(default, deserialize_with = "lenient")]
    pub(super) text: Option<Wide>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) refusal: Option<Wide>,
}

pub(super) fn read_part(raw: &RawValue) -> Option<Content> {
    serde_json::from_str(raw.get()).ok()
}

#[derive(Clone, Copy, Deserialize)]
pub(super) struct WireUsage {
    #[serde(default, deserialize_with = "count")]
    input_tokens: Option<u64>,
    #[serde(default, deserialize_with = "lenient")]
    input_tokens_details: Option<InputDetails>,
    #[serde(default, deserialize_with = "count")]
    output_tokens: Option<u64>,
    #[serde(default, deserialize_with = "lenient")]
    output_tokens_details: Option<OutputDetails>,
}

impl WireUsage {
    pub(super) fn normalized(self) -> Usage {
        let input = self.input_tokens_details.unwrap_or_default();
        let output = self.output_tokens_details.unwrap_or_default();
        Usage {
            input_tokens: self.input_tokens,
            cached_input_tokens: input.cached_tokens,
            output_tokens: self.output_tokens,
            reasoning_tokens: output.reasoning_tokens,
            ..input.written()
        }
    }
}
