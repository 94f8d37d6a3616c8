//! Tool calls, put together from fragments whose keys cannot be trusted.

use std::mem;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::provider::Delta;
use crate::provider::fault::Failure;
use crate::provider::json::{Joiner, Wide, Word, lenient};
use crate::provider::reply::limit;

/// The most calls of one completion.
pub(crate) const MAX_CALLS: usize = 128;
/// The longest arguments of one call, in bytes.
pub(crate) const MAX_ARGUMENT_BYTES: usize = 1 << 20;

/// A fragment of a call.
#[derive(Deserialize)]
pub(super) struct CallDelta<'a> {
    #[serde(default, deserialize_with = "lenient")]
    pub(super) index: Option<i64>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) id: Option<Word>,
    #[serde(default, borrow)]
    pub(super) function: Option<FunctionDelta<'a>>,
}

/// What a fragment adds.
#[derive(Deserialize)]
pub(super) struct FunctionDelta<'a> {
    #[serde(default, deserialize_with = "lenient")]
    name: Option<Word>,
    #[serde(default, borrow, deserialize_with = "lenient")]
    arguments: Option<&'a RawValue>,
}

/// The calls of one completion, in order.
///
/// An index is a name and never a position: servers send 0 for every call, none at all, or -1.
#[derive(Debug, Default)]
pub(super) struct Calls(Vec<Call>);

#[derive(Debug, Default)]
struct Call {
    index: Option<i64>,
    id: String,
    name: String,
    arguments: String,
    joiner: Joiner,
}

impl Calls {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a fragment to the call it belongs to, or begins one.
    pub(super) fn push(&mut self, delta: CallDelta<'_>) -> Result<(), Failure> {
        let id = delta.id.map(|id| id.0).unwrap_or_default();
        let (name, fragment) = match delta.function {
            Some(function) => (
                function.name.map(|name| name.0).unwrap_or_default(),
                function.arguments.map(arguments),
            ),
            None => (String::new(), None),
        };
        let call = match self.find(delta.index, &id, &name) {
            Some(at) => &mut self.0[at],
            None if self.0.len() == MAX_CALLS => return Err(limit("tool_calls")),
            None => {
                self.0.push(Call {
                    index: delta.index,
                    ..Call::default()
                });
                let last = self.0.len() - 1;
                &mut self.0[last]
            }
        };
        if call.id.is_empty() {
            call.id = id;
        }
        // Repeated names are the same name, not its continuation.
        if call.name.is_empty() {
            call.name = name;
        }
        call.push_arguments(&fragment.unwrap_or_default())
    }

    /// The call that a fragment belongs to: a new id begins a call, then the index counts, then
    /// the latest call is meant.
    fn find(&self, index: Option<i64>, id: &str, name: &str) -> Option<usize> {
        let latest = |matches: &dyn Fn(&Call) -> bool| self.0.iter().rposition(matches);
        if !id.is_empty() {
            let known = latest(&|call| call.id == id);
            // An id may also come late, for a call that has none yet.
            return known.or_else(|| {
                latest(&|call| call.id.is_empty() && index.is_some() && call.index == index)
            });
        }
        match index {
            Some(_) => latest(&|call| call.index == index),
            // Without any key, a second name after whole arguments is a second call.
            None => latest(&|_| true).filter(|at| {
                name.is_empty() || self.0[*at].name.is_empty() || !self.0[*at].is_whole()
            }),
        }
    }

    /// The calls as deltas. After a length limit, those that were cut are left out.
    pub(super) fn finish(self, cut: bool) -> Vec<Delta> {
        let mut calls = self.0;
        for call in &mut calls {
            call.arguments.push_str(call.joiner.finish());
        }
        calls.retain(|call| !cut || call.is_whole());
        let mut deltas = Vec::with_capacity(calls.len());
        for at in 0..calls.len() {
            // An id of our own where the server gave none.
            let id = match calls[at].id.is_empty() {
                false => calls[at].id.clone(),
                true => (at..)
                    .map(|number| format!("call_{number}"))
                    .find(|id| calls.iter().all(|call| call.id != *id))
                    .unwrap_or_default(),
            };
            calls[at].id.clone_from(&id);
            let name = mem::take(&mut calls[at].name);
            let arguments = Some(mem::take(&mut calls[at].arguments))
                .filter(|arguments| !arguments.trim().is_empty());
            let arguments = arguments.unwrap_or_else(|| "{}".to_owned());
            deltas.push(Delta::ToolCall {
                id,
                name,
                arguments,
            });
        }
        deltas
    }
}

impl Call {
    fn push_arguments(&mut self, fragment: &Wide) -> Result<(), Failure> {
        let fragment = self.joiner.push(fragment);
        if self.arguments.len() + fragment.len() > MAX_ARGUMENT_BYTES {
            return Err(limit("argument_bytes"));
        }
        self.arguments.push_str(&fragment);
        Ok(())
    }

    fn is_whole(&self) -> bool {
        serde_json::from_str::<IgnoredAny>(&self.arguments).is_ok()
    }
}

/// The arguments of a tool call: a string's content, anything else as it stands.
fn arguments(raw: &RawValue) -> Wide {
    serde_json::from_str(raw.get()).unwrap_or_else(|_| Wide::from(raw.get()))
}
