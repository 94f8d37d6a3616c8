//! Tool calls, put together from fragments whose keys cannot be trusted.

use std::mem;

use serde::de::IgnoredAny;

use super::Delta;
use super::fault::Failure;
use super::json::{Joiner, Wide};
use super::reply::limit;
use super::values::Nesting;

/// The most calls of one completion.
pub(crate) const MAX_CALLS: usize = 128;
/// The longest arguments of one call, in bytes.
pub(crate) const MAX_ARGUMENT_BYTES: usize = 1 << 20;

/// A piece of a call. What it does not have is empty.
#[derive(Debug, Default)]
pub(crate) struct Fragment {
    pub(crate) index: Option<i64>,
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) arguments: Wide,
}

/// The calls of one completion, in order.
///
/// An index is a name and never a position: servers send 0 for every call, none at all, or -1.
#[derive(Debug, Default)]
pub(crate) struct Calls(Vec<Call>);

#[derive(Debug, Default)]
struct Call {
    index: Option<i64>,
    id: String,
    name: String,
    arguments: String,
    nesting: Nesting,
    joiner: Joiner,
}

impl Calls {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a fragment to the call it belongs to, or begins one. The place of that call.
    pub(crate) fn push(&mut self, fragment: Fragment) -> Result<usize, Failure> {
        let at = match self.find(&fragment) {
            Some(at) => at,
            None => self.begin(fragment.index)?,
        };
        let call = &mut self.0[at];
        if call.id.is_empty() {
            call.id = fragment.id;
        }
        // Repeated names are the same name, not its continuation.
        if call.name.is_empty() {
            call.name = fragment.name;
        }
        call.push_arguments(fragment.arguments)?;
        Ok(at)
    }

    /// Adds a call that came whole. Its place.
    pub(crate) fn add(
        &mut self,
        id: String,
        name: String,
        arguments: Wide,
    ) -> Result<usize, Failure> {
        let at = self.begin(None)?;
        let call = &mut self.0[at];
        (call.id, call.name) = (id, name);
        call.push_arguments(arguments)?;
        Ok(at)
    }

    /// More of the arguments of the call at this place.
    pub(crate) fn append(&mut self, at: usize, arguments: Wide) -> Result<(), Failure> {
        let call = self.0.get_mut(at);
        call.map_or(Ok(()), |call| call.push_arguments(arguments))
    }

    /// True if the call at this place has no arguments yet.
    pub(crate) fn is_bare(&self, at: usize) -> bool {
        self.0.get(at).is_some_and(|call| call.arguments.is_empty())
    }

    /// Replaces what is known of a call by what is said to be the whole of it.
    pub(crate) fn complete(&mut self, at: usize, fragment: Fragment) -> Result<(), Failure> {
        let Some(call) = self.0.get_mut(at) else {
            return Ok(());
        };
        if !fragment.id.is_empty() {
            call.id = fragment.id;
        }
        if !fragment.name.is_empty() {
            call.name = fragment.name;
        }
        if !fragment.arguments.is_empty() {
            call.arguments.clear();
            (call.nesting, call.joiner) = (Nesting::default(), Joiner::default());
            call.push_arguments(fragment.arguments)?;
        }
        Ok(())
    }

    fn begin(&mut self, index: Option<i64>) -> Result<usize, Failure> {
        if self.0.len() == MAX_CALLS {
            return Err(limit("tool_calls"));
        }
        self.0.push(Call {
            index,
            ..Call::default()
        });
        Ok(self.0.len() - 1)
    }

    /// The call that a fragment belongs to: a new id begins a call, then the index counts, then
    /// the latest call is meant.
    fn find(&self, fragment: &Fragment) -> Option<usize> {
        let Fragment {
            index, id, name, ..
        } = fragment;
        let latest = |matches: &dyn Fn(&Call) -> bool| self.0.iter().rposition(matches);
        if !id.is_empty() {
            let known = latest(&|call| call.id == *id);
            // An id may also come late, for a call that has none yet.
            return known.or_else(|| {
                latest(&|call| call.id.is_empty() && index.is_some() && call.index == *index)
            });
        }
        let candidate = match index {
            Some(_) => latest(&|call| call.index == *index),
            None => latest(&|_| true),
        };
        // Without any id, a second name after whole arguments is a second call.
        candidate.filter(|at| {
            let call = &self.0[*at];
            let (renamed, more) = (*name != call.name, !fragment.arguments.is_empty());
            // Asked with every fragment: reading all of the arguments each time would be quadratic.
            let over = call.nesting.has_closed() || (call.arguments.is_empty() && renamed);
            name.is_empty() || call.name.is_empty() || !over || !(renamed || more)
        })
    }

    /// The calls as deltas. After a length limit, those that were cut are left out.
    pub(crate) fn finish(self, cut: bool) -> Vec<Delta> {
        let mut calls = self.0;
        for call in &mut calls {
            call.arguments.push_str(call.joiner.finish());
        }
        calls.retain(|call| !cut || call.is_whole());
        let mut deltas = Vec::with_capacity(calls.len());
        for at in 0..calls.len() {
            let id = unique(&calls, at);
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

    /// The ids that [`finish`](Self::finish) will give the calls, if none was cut.
    #[cfg(any(feature = "provider-openai", feature = "provider-gemini"))]
    pub(crate) fn ids(&self) -> Vec<String> {
        let mut calls: Vec<Call> = self.0.iter().map(Call::key).collect();
        for at in 0..calls.len() {
            calls[at].id = unique(&calls, at);
        }
        calls.into_iter().map(|call| call.id).collect()
    }
}

/// The id of the call at `at`, or one of our own where the server gave none or gave it twice.
fn unique(calls: &[Call], at: usize) -> String {
    let id = &calls[at].id;
    if !id.is_empty() && calls[..at].iter().all(|call| call.id != *id) {
        return id.clone();
    }
    (at..)
        .map(own_id)
        .find(|id| calls.iter().all(|call| call.id != *id))
        .unwrap_or_default()
}

/// What stands for an id that the server did not give.
fn own_id(number: usize) -> String {
    format!("{OWN_ID}{number}")
}

/// How the ids begin that stand for those that a server did not give.
pub(crate) const OWN_ID: &str = "call_";

impl Call {
    fn push_arguments(&mut self, fragment: Wide) -> Result<(), Failure> {
        let fragment = self.joiner.push(fragment);
        if self.arguments.len() + fragment.len() > MAX_ARGUMENT_BYTES {
            return Err(limit("argument_bytes"));
        }
        fragment.bytes().for_each(|byte| self.nesting.push(byte));
        self.arguments.push_str(&fragment);
        Ok(())
    }

    fn is_whole(&self) -> bool {
        serde_json::from_str::<IgnoredAny>(&self.arguments).is_ok()
    }

    #[cfg(any(feature = "provider-openai", feature = "provider-gemini"))]
    fn key(&self) -> Self {
        Self {
            id: self.id.clone(),
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    /// Some servers repeat the name with every fragment, and give no key.
    #[test]
    fn many_fragments_of_one_call_take_no_quadratic_time() {
        let mut calls = Calls::default();
        let fragment = |arguments: &str| Fragment {
            name: "f".to_owned(),
            arguments: Wide::from(arguments),
            ..Fragment::default()
        };
        let start = Instant::now();
        calls.push(fragment("{\"text\":\"")).unwrap();
        for _ in 0..500_000 {
            calls.push(fragment("}")).unwrap();
        }
        calls.push(fragment("\"}")).unwrap();
        let calls = calls.finish(false);
        assert_eq!(calls.len(), 1);
        // Reading them again with every fragment would take hours.
        assert!(start.elapsed() < Duration::from_secs(60));
    }
}
