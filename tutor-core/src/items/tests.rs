//! The laws of one item log, over the store in memory.

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
