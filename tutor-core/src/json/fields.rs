//! A JSON object that is read member by member.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::nearest::nearest;
use crate::error::{Error, ErrorKind, Result};
use crate::message::Metadata;

/// The longest unknown member's name that an error repeats, in bytes.
const MAX_SHOWN_NAME: usize = 40;

/// An object of which every member has to be known.
pub(crate) struct Fields {
    what: &'static str,
    kind: ErrorKind,
    members: Metadata,
    known: Vec<&'static str>,
}

impl Fields {
    /// Reads `members` of a `what`; what is wrong with them is an error of this kind.
    pub(crate) fn new(what: &'static str, kind: ErrorKind, members: Metadata) -> Self {
        Self {
            what,
            kind,
            members,
            known: Vec::new(),
        }
    }

    fn wrong(&self, name: &'static str, expected: &str) -> Error {
        Error::new(
            self.kind,
            format!("{name} of a {} is {expected}", self.what),
        )
        .with_context("field", name)
    }

    /// A member of any type.
    pub(crate) fn value(&mut self, name: &'static str) -> Option<Value> {
        self.known.push(name);
        self.members.remove(name).filter(|value| !value.is_null())
    }

    /// A member that deserializes into `T`, which is `expected`.
    pub(crate) fn parsed<T: DeserializeOwned>(
        &mut self,
        name: &'static str,
        expected: &str,
    ) -> Result<Option<T>> {
        let value = self.value(name);
        value
            .map(|value| serde_json::from_value(value).map_err(|_| self.wrong(name, expected)))
            .transpose()
    }

    /// A text.
    pub(crate) fn text(&mut self, name: &'static str) -> Result<Option<String>> {
        self.parsed(name, "a text")
    }

    /// True or false; false if absent.
    pub(crate) fn flag(&mut self, name: &'static str) -> Result<bool> {
        Ok(self.parsed(name, "true or false")?.unwrap_or_default())
    }

    /// A whole number from 0.
    pub(crate) fn count<T: DeserializeOwned>(&mut self, name: &'static str) -> Result<Option<T>> {
        self.parsed(name, "a whole number from 0")
    }

    /// An object.
    pub(super) fn object(&mut self, name: &'static str) -> Result<Option<Metadata>> {
        self.parsed(name, "an object")
    }

    /// A duration in seconds.
    pub(crate) fn seconds(&mut self, name: &'static str) -> Result<Option<Duration>> {
        let expected = "a number of seconds from 0";
        let seconds: Option<f64> = self.parsed(name, expected)?;
        seconds
            .map(|seconds| {
                Duration::try_from_secs_f64(seconds).map_err(|_| self.wrong(name, expected))
            })
            .transpose()
    }

    /// Refuses members that nobody asked for.
    pub(crate) fn end(self) -> Result<()> {
        match self.members.keys().next() {
            None => Ok(()),
            Some(unknown) => Err(unknown_member(self.kind, self.what, unknown, &self.known)),
        }
    }
}

/// That a `what` has no member `unknown`, with what was probably meant, and all `known` ones.
pub fn unknown_member(kind: ErrorKind, what: &str, unknown: &str, known: &[&str]) -> Error {
    let near = match nearest(unknown, known.iter().copied()) {
        Some(near) => format!(": did you mean {near}?"),
        None => ";".to_owned(),
    };
    let error = Error::new(
        kind,
        format!(
            "a {what} has no such member{near} known: {}",
            known.join(", ")
        ),
    );
    let is_name = unknown.len() <= MAX_SHOWN_NAME
        && unknown
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if is_name {
        error.with_context("field", unknown)
    } else {
        error
    }
}
