//! Reading rows, and writing them into a draft: what a group of writes will do, before it is done.

use std::collections::BTreeMap;

use ::sled::{Batch, IVec, Tree};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::envelope::{self, damaged};
use super::tails::Effect;
use super::{keys, unavailable};
use crate::error::{Error, Result};

/// Something with rows in it.
pub(super) trait Rows {
    /// The bytes under a key.
    fn raw(&self, key: &[u8]) -> Result<Option<IVec>>;

    /// The row under a key, or `None`.
    fn row<R: DeserializeOwned>(&self, key: &[u8]) -> Result<Option<R>> {
        let value = self.raw(key)?;
        value.map(|value| self.decode(key, &value)).transpose()
    }

    /// The row that another one says is there.
    fn expect_row<R: DeserializeOwned>(&self, key: &[u8]) -> Result<R> {
        self.row(key)?.ok_or_else(|| damaged(key))
    }

    /// The row whose value begins with these bytes.
    fn decode<R: DeserializeOwned>(&self, key: &[u8], value: &[u8]) -> Result<R> {
        let content = envelope::open(key, value, |piece| self.raw(piece))?;
        // What the decoder says may quote people's words.
        rmp_serde::from_slice(&content).map_err(|_| damaged(key))
    }
}

impl Rows for Tree {
    fn raw(&self, key: &[u8]) -> Result<Option<IVec>> {
        self.get(key).map_err(unavailable)
    }
}

type Changes = BTreeMap<Vec<u8>, Option<IVec>>;

/// What a group of writes will do to a tree. A write sees those before it in the group; one that
/// is refused leaves nothing.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    tree: &'a Tree,
    accepted: Changes,
    current: Changes,
    effects: Vec<Effect>,
    /// How many of the effects are accepted.
    settled: usize,
    bytes: usize,
}

impl<'a> Draft<'a> {
    pub(super) fn new(tree: &'a Tree) -> Self {
        Self {
            tree,
            accepted: Changes::new(),
            current: Changes::new(),
            effects: Vec::new(),
            settled: 0,
            bytes: 0,
        }
    }

    /// Stores a row where none is.
    pub(super) fn insert(&mut self, key: &[u8], row: &impl Serialize) -> Result<()> {
        let content = rmp_serde::to_vec_named(row)
            .map_err(|error| Error::internal("a row cannot be written").with_source(error))?;
        for (key, value) in envelope::seal(key, &content)? {
            self.change(key, Some(IVec::from(value)));
        }
        Ok(())
    }

    /// Stores a row, in place of the one that may be there.
    pub(super) fn replace(&mut self, key: &[u8], row: &impl Serialize) -> Result<()> {
        self.remove(key)?;
        self.insert(key, row)
    }

    /// Stores a key without a row.
    pub(super) fn mark(&mut self, key: Vec<u8>) {
        self.change(key, Some(IVec::default()));
    }

    /// Removes a row or a mark.
    pub(super) fn remove(&mut self, key: &[u8]) -> Result<()> {
        if let Some(value) = self.raw(key)? {
            for n in 1..=envelope::piece_count(&value) {
                self.change(keys::piece(key, n), None);
            }
            self.change(key.to_vec(), None);
        }
        Ok(())
    }

    /// Removes a row that may be damaged: what it says of its pieces is not asked.
    pub(super) fn remove_unread(&mut self, key: &[u8]) -> Result<()> {
        let size = keys::piece(key, 1).len();
        for piece in self.scan(&keys::pieces(key))?.into_keys() {
            // Other keys begin like this one.
            if piece.len() == size {
                self.change(piece, None);
            }
        }
        if self.raw(key)?.is_some() {
            self.change(key.to_vec(), None);
        }
        Ok(())
    }

    /// Removes everything whose key begins like this, and its pieces.
    pub(super) fn remove_all(&mut self, prefix: &[u8]) -> Result<()> {
        for prefix in [prefix, &keys::pieces(prefix)] {
            for key in self.scan(prefix)?.into_keys() {
                self.change(key, None);
            }
        }
        Ok(())
    }

    /// Everything whose key begins like this.
    pub(super) fn scan(&self, prefix: &[u8]) -> Result<BTreeMap<Vec<u8>, IVec>> {
        let mut found = BTreeMap::new();
        for entry in self.tree.scan_prefix(prefix) {
            let (key, value) = entry.map_err(unavailable)?;
            found.insert(key.to_vec(), value);
        }
        for changes in [&self.accepted, &self.current] {
            let inside = changes
                .range(prefix.to_vec()..)
                .take_while(|(key, _)| key.starts_with(prefix));
            for (key, value) in inside {
                match value {
                    Some(value) => found.insert(key.clone(), value.clone()),
                    None => found.remove(key),
                };
            }
        }
        Ok(found)
    }

    /// Ends the current write: keeps what it did, or forgets it.
    pub(super) fn settle(&mut self, accept: bool) {
        if accept {
            // One by one: `append` would build the whole anew each time.
            self.accepted.extend(std::mem::take(&mut self.current));
            self.settled = self.effects.len();
        } else {
            self.current.clear();
            self.effects.truncate(self.settled);
        }
    }

    /// Notes what the current write does to a session.
    pub(super) fn note(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    /// True if the current write changes anything.
    pub(super) fn has_changes(&self) -> bool {
        !self.current.is_empty()
    }

    /// About how many bytes have been written.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// All accepted writes as one, and what they do to sessions; `None` if there is nothing to
    /// write.
    pub(super) fn into_batch(self) -> Option<(Batch, Vec<Effect>)> {
        if self.accepted.is_empty() {
            return None;
        }
        let mut batch = Batch::default();
        for (key, value) in self.accepted {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        Some((batch, self.effects))
    }

    fn change(&mut self, key: Vec<u8>, value: Option<IVec>) {
        self.bytes += key.len() + value.as_ref().map_or(0, |value| value.len());
        self.current.insert(key, value);
    }
}

impl Rows for Draft<'_> {
    fn raw(&self, key: &[u8]) -> Result<Option<IVec>> {
        for changes in [&self.current, &self.accepted] {
            if let Some(value) = changes.get(key) {
                return Ok(value.clone());
            }
        }
        self.tree.raw(key)
    }
}
