//! [`ItemLogs`]: lists of JSON items, kept for another library.
//!
//! Libraries that run agents keep a list of items of their own: messages, calls, results, reasoning.
//! Such a list has to come back exactly, so it is no conversation of the engine, which understands
//! what it stores. It is kept in records, and is exported and erased with its owner.
//!
//! Adding to a list is one write, and its newest items are read from memory, as long as nobody else
//! has changed it: the record of its length shows who changed it last.

mod ends;

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use self::ends::{Ends, Mark, NO_MARK};
use crate::engine::prepare::digest;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{OwnerId, SessionId};
use crate::session::MAX_PAGE;
use crate::store::{Expect, KeyRange, RecordStore, RecordWrite, scan_all};

/// The most bytes of one item.
pub const MAX_ITEM_BYTES: usize = 16 << 20;

/// How often a change is tried again that another one came before.
const MAX_ATTEMPTS: usize = 32;

/// How many items there are: eight bytes, big-endian, and the [`Mark`] of the last change. What was
/// written by an early release has none.
const COUNTS: &str = "item_counts";
/// The items, numbered from 0 behind the list's name.
const ITEMS: &str = "items";
/// Changes that were made under a name, by their fingerprints.
const OPERATIONS: &str = "item_operations";

/// The lists of a store. Cheap to clone; clones share what they have in memory of lists that were
/// used lately.
#[derive(Clone)]
pub struct ItemLogs {
    store: Arc<dyn RecordStore>,
    ends: Arc<Ends>,
}

impl fmt::Debug for ItemLogs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ItemLogs").finish_non_exhaustive()
    }
}

impl ItemLogs {
    /// The lists of this store.
    pub fn new(store: Arc<dyn RecordStore>) -> Self {
        let ends = Arc::new(Ends::new());
        Self { store, ends }
    }

    /// The list of this owner under this name. It exists once it has an item.
    pub fn log(&self, owner: OwnerId, name: SessionId) -> ItemLog {
        ItemLog {
            logs: self.clone(),
            owner,
            name,
        }
    }
}

/// A list of JSON items under a name. Cheap to clone; as many handles as one likes may change it
/// at the same time, here and in other processes.
#[derive(Clone)]
pub struct ItemLog {
    logs: ItemLogs,
    owner: OwnerId,
    name: SessionId,
}

impl fmt::Debug for ItemLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ItemLog")
            .field("owner", &self.owner)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// How long the list is, who changed it last, and at which version of its record.
struct Length {
    count: u64,
    mark: Mark,
    expect: Expect,
}

/// A change of a list: keeps its first items, and adds others behind them.
struct Change<'a> {
    kept: u64,
    added: &'a [Arc<str>],
    /// The name under which it is made once, and its fingerprint.
    operation: Option<&'a (String, Vec<u8>)>,
}

impl ItemLog {
    /// The newest `limit` items (all if `None`), oldest first, as the texts that were appended.
    ///
    /// # Errors
    /// Errors of the store.
    pub async fn latest(&self, limit: Option<usize>) -> Result<Vec<Arc<str>>> {
        loop {
            let length = self.length().await?;
            let wanted = limit.and_then(|limit| u64::try_from(limit).ok());
            let wanted = wanted.unwrap_or(length.count).min(length.count);
            if let Some(items) = self.known(&length, wanted) {
                return Ok(items);
            }
            let items = self.read(length.count - wanted, length.count).await?;
            let is_unchanged = self.length().await?.expect == length.expect;
            if items.len() as u64 == wanted {
                if is_unchanged {
                    let ends = &self.logs.ends;
                    ends.learn(&self.key(), length.mark, &items);
                }
                return Ok(items);
            }
            // Some were removed in between, or are lost.
            if is_unchanged {
                return Err(Error::new(
                    ErrorKind::DataCorrupt,
                    "items of a list are missing: restore a backup",
                )
                .with_context("key", self.key()));
            }
        }
    }

    /// Appends items, all or none. Each is a text of JSON.
    ///
    /// # Errors
    /// `invalid_input` for what is no JSON; `too_large` for an item of more than
    /// [`MAX_ITEM_BYTES`]; errors of the store.
    pub async fn append(&self, items: Vec<Arc<str>>) -> Result<()> {
        self.replace_end(None, Vec::new(), items).await
    }

    /// Removes the newest item and returns it; `None` if there is none.
    ///
    /// # Errors
    /// Errors of the store.
    pub async fn pop(&self) -> Result<Option<Arc<str>>> {
        for _ in 0..MAX_ATTEMPTS {
            let length = self.length().await?;
            let Some(last) = length.count.checked_sub(1) else {
                return Ok(None);
            };
            let Some(item) = self.end(&length, 1).await?.pop() else {
                continue;
            };
            let change = Change {
                kept: last,
                added: &[],
                operation: None,
            };
            if self.change(&length, change).await? {
                return Ok(Some(item));
            }
        }
        Err(busy())
    }

    /// Removes all items, and forgets the names of changes.
    ///
    /// # Errors
    /// Errors of the store.
    pub async fn clear(&self) -> Result<()> {
        for _ in 0..MAX_ATTEMPTS {
            let length = self.length().await?;
            let mut writes = vec![write(COUNTS, self.key(), None, length.expect)];
            writes.extend((0..length.count).map(|index| self.item(index, None)));
            for done in scan_all(&*self.logs.store, OPERATIONS, &self.prefix()).await? {
                writes.push(write(OPERATIONS, done.key, None, Expect::Any));
            }
            if self.commit(writes).await? {
                self.logs.ends.forget(&self.key());
                return Ok(());
            }
        }
        Err(busy())
    }

    /// Replaces the end of the list, which must be `expected`, by `replacement`, all or nothing.
    /// Under a name (`operation`) it is made once: again, it does nothing.
    ///
    /// # Errors
    /// `conflict` if the list does not end with `expected`, or another change was made under this
    /// name; `invalid_input` for what is no JSON, and for an empty name; `too_large` for an item of
    /// more than [`MAX_ITEM_BYTES`]; errors of the store.
    pub async fn replace_end(
        &self,
        operation: Option<&str>,
        expected: Vec<Arc<str>>,
        replacement: Vec<Arc<str>>,
    ) -> Result<()> {
        let expected = values(&expected)?;
        let wanted = values(&replacement)?;
        let operation = operation
            .map(|name| self.operation(name, &expected, &wanted))
            .transpose()?;
        if operation.is_none() && expected.is_empty() && replacement.is_empty() {
            return Ok(());
        }
        let removed = expected.len() as u64;
        for _ in 0..MAX_ATTEMPTS {
            if let Some((key, fingerprint)) = &operation
                && let Some(done) = self.logs.store.get(OPERATIONS, key).await?
            {
                return if done.value == *fingerprint {
                    Ok(())
                } else {
                    Err(Error::conflict(
                        "another change was made under this name: use a new name for a new change",
                    ))
                };
            }
            let length = self.length().await?;
            let kept = length.count.checked_sub(removed).ok_or_else(mismatch)?;
            if removed > 0 && values(&self.end(&length, removed).await?)? != expected {
                if self.length().await?.expect == length.expect {
                    return Err(mismatch());
                }
                continue;
            }
            let change = Change {
                kept,
                added: &replacement,
                operation: operation.as_ref(),
            };
            if self.change(&length, change).await? {
                return Ok(());
            }
        }
        Err(busy())
    }

    fn operation(
        &self,
        name: &str,
        expected: &[Value],
        replacement: &[Value],
    ) -> Result<(String, Vec<u8>)> {
        if name.trim().is_empty() {
            return Err(Error::invalid_input("the name of a change is not empty"));
        }
        // `Value` sorts members, so that equal changes have equal texts.
        let text = serde_json::to_vec(&(expected, replacement))
            .map_err(|error| Error::internal("items cannot be written").with_source(error))?;
        Ok((
            format!("{}{name}", self.prefix()),
            digest(&text).to_be_bytes().to_vec(),
        ))
    }

    async fn length(&self) -> Result<Length> {
        let key = self.key();
        let Some(record) = self.logs.store.get(COUNTS, &key).await? else {
            self.logs.ends.forget(&key);
            return Ok(Length {
                count: 0,
                mark: NO_MARK,
                expect: Expect::Absent,
            });
        };
        let (count, mark) = match record.value.split_first_chunk() {
            Some((count, [])) => (count, NO_MARK),
            Some((count, mark)) => match mark.try_into() {
                Ok(mark) => (count, mark),
                Err(_) => return Err(damaged_length(key)),
            },
            None => return Err(damaged_length(key)),
        };
        Ok(Length {
            count: u64::from_be_bytes(*count),
            mark,
            expect: Expect::Version(record.version),
        })
    }

    /// The newest `count` items, if they are in memory.
    fn known(&self, length: &Length, count: u64) -> Option<Vec<Arc<str>>> {
        if count == 0 {
            return Some(Vec::new());
        }
        self.logs.ends.newest(&self.key(), &length.mark, count)
    }

    /// The newest `count` items, as far as they are there.
    async fn end(&self, length: &Length, count: u64) -> Result<Vec<Arc<str>>> {
        match self.known(length, count) {
            Some(items) => Ok(items),
            None => self.read(length.count - count, length.count).await,
        }
    }

    /// The items from `first` to before `end`, as far as they are there.
    async fn read(&self, first: u64, end: u64) -> Result<Vec<Arc<str>>> {
        let mut items = Vec::new();
        let mut next = first;
        while next < end {
            let limit = usize::try_from(end - next)
                .unwrap_or(MAX_PAGE)
                .min(MAX_PAGE);
            let range = KeyRange {
                prefix: self.prefix(),
                after: next.checked_sub(1).map(|before| self.item_key(before)),
            };
            let page = self.logs.store.scan(ITEMS, range, limit).await?;
            let found = page.len();
            for record in page {
                if record.key != self.item_key(next) {
                    return Ok(items);
                }
                let text = String::from_utf8(record.value).map_err(|_| {
                    Error::new(ErrorKind::DataCorrupt, "an item is damaged")
                        .with_context("key", record.key)
                })?;
                items.push(text.into());
                next += 1;
            }
            if found < limit {
                break;
            }
        }
        Ok(items)
    }

    /// Changes the list, all or nothing. False if it has changed since its length was read.
    async fn change(&self, length: &Length, change: Change<'_>) -> Result<bool> {
        let Change { kept, added, .. } = change;
        let (key, mark) = (self.key(), self.logs.ends.mark());
        let count = kept + added.len() as u64;
        let counted = [&count.to_be_bytes()[..], &mark].concat();
        let mut writes = vec![write(COUNTS, key.clone(), Some(counted), length.expect)];
        for (index, text) in (kept..).zip(added) {
            writes.push(self.item(index, Some(text)));
        }
        writes.extend((count..length.count).map(|index| self.item(index, None)));
        if let Some((key, fingerprint)) = change.operation {
            let done = Some(fingerprint.clone());
            writes.push(write(OPERATIONS, key.clone(), done, Expect::Absent));
        }
        let changed = self.commit(writes).await?;
        if changed {
            let removed = length.count - kept;
            self.logs
                .ends
                .follow(&key, (&length.mark, mark), removed, added);
        }
        Ok(changed)
    }

    /// False if the list has changed since its length was read.
    async fn commit(&self, writes: Vec<RecordWrite>) -> Result<bool> {
        match self.logs.store.commit(writes).await {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn item(&self, index: u64, text: Option<&str>) -> RecordWrite {
        let bytes = text.map(|text| text.as_bytes().to_vec());
        write(ITEMS, self.item_key(index), bytes, Expect::Any)
    }

    fn key(&self) -> String {
        format!("{}/{}", self.owner, self.name)
    }

    fn prefix(&self) -> String {
        format!("{}/", self.key())
    }

    /// In the order of the items.
    fn item_key(&self, index: u64) -> String {
        format!("{}{index:020}", self.prefix())
    }
}

fn write(kind: &str, key: String, value: Option<Vec<u8>>, expect: Expect) -> RecordWrite {
    RecordWrite {
        kind: kind.to_owned(),
        key,
        value,
        expect,
    }
}

/// What the texts say.
fn values(items: &[Arc<str>]) -> Result<Vec<Value>> {
    let read = |text: &Arc<str>| {
        if text.len() > MAX_ITEM_BYTES {
            let message = format!("an item has more than {MAX_ITEM_BYTES} bytes");
            return Err(Error::new(ErrorKind::TooLarge, message));
        }
        serde_json::from_str(text).map_err(|_| Error::invalid_input("an item is no JSON"))
    };
    items.iter().map(read).collect()
}

fn damaged_length(key: String) -> Error {
    Error::new(
        ErrorKind::DataCorrupt,
        "the length of a list of items is damaged",
    )
    .with_context("key", key)
}

fn mismatch() -> Error {
    Error::conflict("the list of items does not end as expected: read it again, then decide")
}

fn busy() -> Error {
    Error::conflict("the list of items keeps changing: try again in a moment").retryable(None)
}

#[cfg(test)]
mod tests;
