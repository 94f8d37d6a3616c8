//! Who a turn is charged to besides its owner.

use std::sync::Arc;

use super::Quota;

/// All who pay for a turn besides its owner.
pub(crate) type Payers = Arc<[Payer]>;

/// What turns and uploads are charged to besides their owner, such as the API key or the network
/// address that they came from. It has a quota of its own, counted by the day like an owner's and
/// reserved together with it: all of them have room for a turn, or it is refused.
///
/// What it used is kept for as long as it can be limited by it, and is no part of an export.
#[derive(Clone, Debug, PartialEq)]
pub struct Payer {
    pub(crate) kind: &'static str,
    name: String,
    pub(crate) quota: Quota,
    pub(crate) max_live_turns: Option<usize>,
}

impl Payer {
    /// A payer without limits. `kind` is a word such as `key` or `address`, with which the names of its
    /// limits begin (`address_tokens_per_day`); `name` is unique among its kind.
    pub fn new(kind: &'static str, name: impl Into<String>) -> Self {
        Self {
            kind,
            name: name.into(),
            quota: Quota::default(),
            max_live_turns: None,
        }
    }

    /// Sets how much it may use in a day.
    #[must_use]
    pub fn with_quota(mut self, quota: Quota) -> Self {
        self.quota = quota;
        self
    }

    /// Sets how many of its turns may run at the same time, on this instance.
    #[must_use]
    pub fn with_max_live_turns(mut self, max: usize) -> Self {
        self.max_live_turns = Some(max);
        self
    }

    /// Its name among all payers.
    pub(crate) fn id(&self) -> String {
        format!("{}:{}", self.kind, self.name)
    }

    /// True if anything that it uses has to be written down.
    pub(crate) fn is_counted(&self) -> bool {
        self.quota.limits_turns() || self.quota.upload_bytes_per_day.is_some()
    }
}
