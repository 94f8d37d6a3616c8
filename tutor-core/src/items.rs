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
mod tests {
    use super::*;
    use crate::store::MemoryStore;

    fn log(store: &Arc<MemoryStore>, owner: &str, name: &str) -> ItemLog {
        let store: Arc<dyn RecordStore> = Arc::<MemoryStore>::clone(store);
        let (owner, name) = (OwnerId::new(owner).unwrap(), SessionId::new(name).unwrap());
        ItemLogs::new(store).log(owner, name)
    }

    fn text(json: &str) -> Arc<str> {
        Arc::from(json)
    }

    fn texts(range: std::ops::Range<u32>) -> Vec<Arc<str>> {
        range.map(|n| text(&format!("{{\"n\": {n}}}"))).collect()
    }

    /// A store that counts its reads.
    #[derive(Debug, Default)]
    struct Counted(MemoryStore, std::sync::atomic::AtomicUsize);

    #[async_trait::async_trait]
    impl RecordStore for Counted {
        async fn get(&self, kind: &str, key: &str) -> Result<Option<crate::store::Record>> {
            self.0.get(kind, key).await
        }
        async fn kinds(&self) -> Result<Vec<String>> {
            self.0.kinds().await
        }
        async fn scan(
            &self,
            kind: &str,
            range: KeyRange,
            limit: usize,
        ) -> Result<Vec<crate::store::Record>> {
            self.1.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            self.0.scan(kind, range, limit).await
        }
        async fn commit(&self, writes: Vec<RecordWrite>) -> Result<()> {
            self.0.commit(writes).await
        }
    }

    #[tokio::test]
    async fn the_newest_items_are_read_once_and_then_followed_whoever_changes_them() {
        let store = Arc::new(Counted::default());
        let of = |store: &Arc<Counted>| {
            let store: Arc<dyn RecordStore> = Arc::<Counted>::clone(store);
            ItemLogs::new(store).log(OwnerId::default(), SessionId::new("a").unwrap())
        };
        let scans = || store.1.load(std::sync::atomic::Ordering::Relaxed);
        // Each as in a process of its own.
        let (ours, theirs) = (of(&store), of(&store));
        ours.append(texts(0..60)).await.unwrap();
        assert_eq!(ours.latest(Some(50)).await.unwrap(), texts(10..60));
        assert_eq!(ours.pop().await.unwrap(), texts(59..60).pop());
        ours.append(texts(59..62)).await.unwrap();
        let end = ours.replace_end(None, texts(60..62), texts(70..71));
        end.await.unwrap();
        assert_eq!(
            ours.latest(Some(2)).await.unwrap(),
            [texts(59..60), texts(70..71)].concat()
        );
        assert_eq!(scans(), 0, "all of it is this one's own");
        for _ in 0..3 {
            assert_eq!(
                theirs.latest(Some(2)).await.unwrap(),
                [texts(59..60), texts(70..71)].concat()
            );
        }
        assert_eq!(scans(), 1);
        theirs.append(texts(80..81)).await.unwrap();
        for list in [&ours, &theirs, &ours] {
            assert_eq!(
                list.latest(Some(2)).await.unwrap(),
                [texts(70..71), texts(80..81)].concat()
            );
        }
        assert_eq!(scans(), 2, "a change of another one is read once");
        // As many items again, and other ones.
        theirs.clear().await.unwrap();
        theirs.append(texts(100..161)).await.unwrap();
        assert_eq!(ours.latest(Some(61)).await.unwrap(), texts(100..161));
        // What an early release wrote has no mark, and is read each time.
        let before = scans();
        let key = ours.key();
        let counted = write(
            COUNTS,
            key,
            Some(61_u64.to_be_bytes().to_vec()),
            Expect::Any,
        );
        store.commit(vec![counted]).await.unwrap();
        for _ in 0..2 {
            assert_eq!(ours.latest(Some(1)).await.unwrap(), texts(160..161));
        }
        assert_eq!(scans(), before + 2);
        ours.append(texts(1..2)).await.unwrap();
        assert_eq!(ours.latest(Some(1)).await.unwrap(), texts(1..2));
        assert_eq!(scans(), before + 2);
    }

    #[tokio::test]
    async fn items_come_back_as_they_were_written_in_their_order() {
        let store = Arc::new(MemoryStore::new());
        let list = log(&store, "ada", "a");
        assert_eq!(list.latest(None).await.unwrap(), Vec::<Arc<str>>::new());
        list.append(Vec::new()).await.unwrap();
        list.append(texts(0..3)).await.unwrap();
        list.append(texts(3..450)).await.unwrap();
        assert_eq!(list.latest(None).await.unwrap(), texts(0..450));
        assert_eq!(list.latest(Some(2)).await.unwrap(), texts(448..450));
        assert_eq!(list.latest(Some(0)).await.unwrap(), Vec::<Arc<str>>::new());
        assert_eq!(list.latest(Some(9999)).await.unwrap().len(), 450);
        for n in (447..450).rev() {
            assert_eq!(list.pop().await.unwrap(), texts(n..n + 1).pop());
        }
        list.append(texts(0..1)).await.unwrap();
        assert_eq!(
            list.latest(Some(2)).await.unwrap(),
            [texts(446..447), texts(0..1)].concat()
        );
        list.clear().await.unwrap();
        assert_eq!(list.pop().await.unwrap(), None);
        assert!(store.kinds().await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn lists_do_not_mix() {
        let store = Arc::new(MemoryStore::new());
        let lists = [
            log(&store, "a", "b"),
            log(&store, "a", "bc"),
            log(&store, "ab", "b"),
        ];
        for (list, n) in lists.iter().zip(0..) {
            list.append(texts(n..n + 1)).await.unwrap();
            list.replace_end(Some("once"), vec![], texts(n..n + 1))
                .await
                .unwrap();
        }
        lists[0].clear().await.unwrap();
        assert_eq!(lists[1].latest(None).await.unwrap().len(), 2);
        assert_eq!(lists[2].latest(None).await.unwrap().len(), 2);
    }

    #[tokio::test]
    async fn a_change_under_a_name_is_made_once_and_only_where_the_end_is_as_expected() {
        let store = Arc::new(MemoryStore::new());
        let list = log(&store, "ada", "a");
        list.append(texts(0..3)).await.unwrap();
        // Compared by what they say, not by their blanks and the order of their members.
        let end = || vec![text("{\"n\":1}"), text(" {\"n\":2} ")];
        for _ in 0..2 {
            list.replace_end(Some("x"), end(), texts(7..8))
                .await
                .unwrap();
            assert_eq!(
                list.latest(None).await.unwrap(),
                [texts(0..1), texts(7..8)].concat()
            );
        }
        for (name, expected) in [(Some("x"), vec![]), (Some("y"), end()), (None, texts(0..9))] {
            let error = list
                .replace_end(name, expected, texts(1..2))
                .await
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Conflict);
        }
        let longer = list.replace_end(None, texts(7..8), texts(1..5)).await;
        longer.unwrap();
        assert_eq!(list.latest(None).await.unwrap(), texts(0..5));
        for (name, items) in [(Some(" "), texts(0..1)), (None, vec![text("{")])] {
            let error = list.replace_end(name, vec![], items).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
        }
        assert_eq!(list.latest(None).await.unwrap(), texts(0..5));
    }

    #[tokio::test]
    async fn a_lost_item_is_named_by_its_list_and_not_waited_for() {
        let store = Arc::new(MemoryStore::new());
        let list = log(&store, "ada", "a");
        list.append(texts(0..3)).await.unwrap();
        store.commit(vec![list.item(1, None)]).await.unwrap();
        let list = log(&store, "ada", "a");
        let error = list.latest(None).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DataCorrupt);
        assert_eq!(list.latest(Some(1)).await.unwrap(), texts(2..3));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn of_changes_at_the_same_time_none_is_lost() {
        let store = Arc::new(MemoryStore::new());
        let tasks = (0..8).map(|n| {
            let list = log(&store, "ada", "a");
            tokio::spawn(async move {
                for _ in 0..10 {
                    while let Err(error) = list.append(texts(n..n + 1)).await {
                        assert!(error.is_retryable(), "{error}");
                    }
                }
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
        let mut items = log(&store, "ada", "a").latest(None).await.unwrap();
        items.sort();
        assert_eq!(items.len(), 80);
        assert!((0..8).all(|n| items.iter().filter(|it| **it == texts(n..n + 1)[0]).count() == 10));
    }
}
