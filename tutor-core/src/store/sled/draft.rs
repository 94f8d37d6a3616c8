//! Reading rows, and writing them into a draft: what a group of writes will do, before it is done.

use std::collections::BTreeMap;

use ::sled::{Batch, IVec, Tree};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::envelope::{self, damaged};
use super::rows::StoredSession;
use super::tails::{Effect, Tails};
use super::{keys, reads, unavailable};
use crate::error::{Error, Result};
use crate::session::SessionKey;

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

/// What a group of writes will do to a tree. A write sees those before it in the group; one that
/// is refused leaves nothing.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    tree: &'a Tree,
    /// What the tree has of some sessions, already understood.
    tails: &'a Tails,
    changes: BTreeMap<IVec, Option<IVec>>,
    /// What the current write changed, and what was to be done there before.
    undo: Vec<(IVec, Option<Option<IVec>>)>,
    effects: Vec<Effect>,
    /// How many of the effects are accepted.
    settled: usize,
    bytes: usize,
}

impl<'a> Draft<'a> {
    pub(super) fn new(tree: &'a Tree, tails: &'a Tails) -> Self {
        Self {
            tree,
            tails,
            changes: BTreeMap::new(),
            undo: Vec::new(),
            effects: Vec::new(),
            settled: 0,
            bytes: 0,
        }
    }

    /// A session, with what only its store knows of it.
    pub(super) fn session(&self, key: &SessionKey) -> Result<Option<StoredSession>> {
        let name = keys::session(key);
        if !self.changes.contains_key(&*name)
            && let Some(stored) = self.tails.stored(key)
        {
            return Ok(Some(stored));
        }
        reads::session(self, key)
    }

    /// Stores a row where none is. Gives the number of its further pieces.
    pub(super) fn insert(&mut self, key: &[u8], row: &impl Serialize) -> Result<u16> {
        let mut value = envelope::room();
        rmp_serde::encode::write_named(&mut value, row)
            .map_err(|error| Error::internal("a row cannot be written").with_source(error))?;
        let mut pieces = 0;
        for (piece, n) in envelope::seal(key, &mut value)?.into_iter().zip(1..) {
            self.change(keys::piece(key, n).into(), Some(piece.into()));
            pieces = n;
        }
        self.change(key.into(), Some(value.into()));
        Ok(pieces)
    }

    /// Stores a row, in place of the one that may be there.
    pub(super) fn replace(&mut self, key: &[u8], row: &impl Serialize) -> Result<()> {
        self.remove(key)?;
        self.insert(key, row).map(drop)
    }

    /// Stores a row in place of one that has so many further pieces. Gives the number of its own.
    pub(super) fn replace_known(
        &mut self,
        key: &[u8],
        pieces: u16,
        row: &impl Serialize,
    ) -> Result<u16> {
        self.remove_pieces(key, pieces);
        self.insert(key, row)
    }

    /// Stores a key without a row.
    pub(super) fn mark(&mut self, key: Vec<u8>) {
        self.change(key.into(), Some(IVec::default()));
    }

    /// Removes a key without a row.
    pub(super) fn unmark(&mut self, key: Vec<u8>) {
        self.change(key.into(), None);
    }

    /// Removes a row and gives it, if it was there.
    pub(super) fn take<R: DeserializeOwned>(&mut self, key: &[u8]) -> Result<Option<R>> {
        let Some(value) = self.raw(key)? else {
            return Ok(None);
        };
        let row = self.decode(key, &value)?;
        self.remove_pieces(key, envelope::piece_count(&value));
        self.change(key.into(), None);
        Ok(Some(row))
    }

    /// Removes a row or a mark.
    pub(super) fn remove(&mut self, key: &[u8]) -> Result<()> {
        if let Some(value) = self.raw(key)? {
            self.remove_pieces(key, envelope::piece_count(&value));
            self.change(key.into(), None);
        }
        Ok(())
    }

    fn remove_pieces(&mut self, key: &[u8], pieces: u16) {
        for n in 1..=pieces {
            self.change(keys::piece(key, n).into(), None);
        }
    }

    /// Removes a row that may be damaged: what it says of its pieces is not asked.
    pub(super) fn remove_unread(&mut self, key: &[u8]) -> Result<()> {
        let size = keys::piece(key, 1).len();
        for piece in self.scan(&keys::pieces(key))?.into_keys() {
            // Other keys begin like this one.
            if piece.len() == size {
                self.change(piece.into(), None);
            }
        }
        if self.raw(key)?.is_some() {
            self.change(key.into(), None);
        }
        Ok(())
    }

    /// Removes everything whose key begins like this, and its pieces.
    pub(super) fn remove_all(&mut self, prefix: &[u8]) -> Result<()> {
        for prefix in [prefix, &keys::pieces(prefix)] {
            for key in self.scan(prefix)?.into_keys() {
                self.change(key.into(), None);
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
        let inside = self
            .changes
            .range(IVec::from(prefix)..)
            .take_while(|(key, _)| key.starts_with(prefix));
        for (key, value) in inside {
            match value {
                Some(value) => found.insert(key.to_vec(), value.clone()),
                None => found.remove(&**key),
            };
        }
        Ok(found)
    }

    /// Ends the current write: keeps what it did, or undoes it.
    pub(super) fn settle(&mut self, accept: bool) {
        if accept {
            self.undo.clear();
            self.settled = self.effects.len();
            return;
        }
        for (key, before) in self.undo.drain(..).rev() {
            match before {
                Some(before) => self.changes.insert(key, before),
                None => self.changes.remove(&key),
            };
        }
        self.effects.truncate(self.settled);
    }

    /// Notes what the current write does to a session.
    pub(super) fn note(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    /// True if nothing is to be written.
    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// True if the current write changes anything.
    pub(super) fn has_changes(&self) -> bool {
        !self.undo.is_empty()
    }

    /// About how many bytes have been written.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// All accepted writes as one, and what they do to sessions; `None` if there is nothing to
    /// write.
    pub(super) fn into_batch(self) -> Option<(Batch, Vec<Effect>)> {
        if self.changes.is_empty() {
            return None;
        }
        let mut batch = Batch::default();
        for (key, value) in self.changes {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        Some((batch, self.effects))
    }

    fn change(&mut self, key: IVec, value: Option<IVec>) {
        self.bytes += key.len() + value.as_ref().map_or(0, |value| value.len());
        let before = self.changes.insert(key.clone(), value);
        self.undo.push((key, before));
    }
}

impl Rows for Draft<'_> {
    fn raw(&self, key: &[u8]) -> Result<Option<IVec>> {
        match self.changes.get(key) {
            Some(value) => Ok(value.clone()),
            None => self.tree.raw(key),
        }
    }
}
