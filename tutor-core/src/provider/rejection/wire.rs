//! The shapes of errors.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::provider::json::{Wide, Word, lenient, raw};

/// The fields of all known shapes, at the top or under `error`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Fields<'a> {
    #[serde(default, borrow, deserialize_with = "raw")]
    pub(super) error: Option<&'a RawValue>,
    #[serde(default, borrow, deserialize_with = "raw")]
    pub(super) detail: Option<&'a RawValue>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) code: Option<Word>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) r#type: Option<Word>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) error_type: Option<Word>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) param: Option<Word>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) message: Option<Wide>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) error_message: Option<Wide>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) status_code: Option<Word>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) raw_status_code: Option<Word>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) status: Option<Word>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) request_id: Option<Word>,
    #[serde(default, borrow, deserialize_with = "raw")]
    pub(super) details: Option<&'a RawValue>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) innererror: Option<Inner>,
    #[serde(default, borrow, deserialize_with = "lenient")]
    pub(super) metadata: Option<Metadata<'a>>,
}

/// One of the details of an error: an object of Anthropic's, or one of a list of Google's.
#[derive(Debug, Deserialize)]
pub(super) struct Detail<'a> {
    #[serde(default, deserialize_with = "lenient")]
    pub(super) error_code: Option<Word>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) reason: Option<Word>,
    #[serde(default, rename = "retryDelay", deserialize_with = "lenient")]
    pub(super) retry_delay: Option<Word>,
    #[serde(default, borrow, deserialize_with = "lenient")]
    pub(super) violations: Option<Vec<&'a RawValue>>,
}

/// A limit that was reached.
#[derive(Debug, Deserialize)]
pub(super) struct Violation {
    #[serde(default, rename = "quotaId", deserialize_with = "lenient")]
    pub(super) quota_id: Option<Word>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Inner {
    #[serde(default, deserialize_with = "lenient")]
    pub(super) code: Option<Word>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Metadata<'a> {
    #[serde(default, borrow, deserialize_with = "lenient")]
    pub(super) reasons: Option<Vec<&'a RawValue>>,
}

/// One problem of a validation error.
#[derive(Debug, Deserialize)]
pub(super) struct Problem {
    #[serde(default, deserialize_with = "lenient")]
    pub(super) msg: Option<Wide>,
}
