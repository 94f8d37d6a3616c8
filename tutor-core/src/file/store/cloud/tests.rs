//! Against a bucket on this machine.

use futures_util::TryStreamExt;

use super::*;
use crate::conformance::bucket::{Bucket, Fault};
use crate::file::{FileContent, FileSource};
use crate::id::OwnerId;
use crate::store::MemoryStore;

fn in_bucket(bucket: &Bucket) -> FileStore {
    let options = bucket.options(&[("AWS_ALLOW_HTTP", "true")]);
    FileStore::at_url("s3://bucket/x", options, Arc::new(MemoryStore::new())).unwrap()
}

#[tokio::test]
async fn files_in_a_bucket_are_taken_read_listed_and_erased() {
    let bucket = Bucket::open().await;
    let options = bucket.options(&[("AWS_ALLOW_HTTP", "true")]);
    let records = Arc::new(MemoryStore::new());
    let files = FileStore::at_url("s3://bucket/tutor/files", options, records).unwrap();
    let ada = OwnerId::new("ada").unwrap();
    let text = "A leaf is green. ".repeat(500_000);
    let mut upload = files.upload(&ada, Some("leaf.txt".into())).await.unwrap();
    upload.write(text.as_bytes()).await.unwrap();
    let info = upload.finish().await.unwrap();
    assert_eq!(bucket.keys(), [format!("tutor/files/ada/{}", info.id)]);
    let content = files.content(&ada, &info, (2, 6)).await.unwrap();
    let content: Vec<_> = content.try_collect().await.unwrap();
    assert_eq!(content.concat(), b"leaf");
    assert_eq!(files.read(&ada, &info).await.unwrap(), text.as_bytes());
    let shown = files.file(&ada, &info.id).await.unwrap().unwrap();
    assert!(matches!(shown.content, FileContent::Text(text) if text.starts_with("A leaf")));
    let held = files.held_bytes().await.unwrap();
    assert_eq!(held, [(ada.clone(), info.id.clone(), info.bytes)]);
    let mut small = files.upload(&ada, None).await.unwrap();
    small.write(b"no image").await.unwrap();
    small.abort().await;
    assert_eq!(files.erase(&ada).await.unwrap(), 1);
    assert!(bucket.keys().is_empty());
    assert!(files.content(&ada, &info, (0, 1)).await.is_err());
}

#[tokio::test]
async fn a_bucket_that_cannot_be_used_is_told_without_its_keys() {
    let records: Arc<dyn RecordStore> = Arc::new(MemoryStore::new());
    for url in [
        "s3://",
        "s4://bucket",
        "bucket",
        "http://bucket/",
        "file:///tmp",
        "s3://canary:canary@bucket/x",
    ] {
        let error = FileStore::at_url(url, Vec::new(), Arc::clone(&records)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{url}");
        assert!(!format!("{error:?}").contains("canary"), "{error:?}");
    }
    for (url, name) in [
        ("gs://bucket", "GOOGLE_SERVICE_ACCOUNT_KEY"),
        ("az://container", "AZURE_STORAGE_ACCOUNT_KEY"),
    ] {
        let options = [(name.to_owned(), "canary".to_owned())];
        let error = FileStore::at_url(url, options, Arc::clone(&records)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{url}");
        assert!(!format!("{error:?}").contains("canary"), "{error:?}");
    }
    // Nobody allowed plain HTTP, over which anybody could read what is sent.
    let bucket = Bucket::open().await;
    let files = FileStore::at_url("s3://bucket/x", bucket.options(&[]), records).unwrap();
    let error = files.upload(&OwnerId::default(), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StoreUnavailable);
    assert!(
        !format!("{error:?} {files:?}").contains("canary"),
        "{error:?}"
    );
    assert_eq!(bucket.asked(), 0);
}

async fn keep(files: &FileStore) -> Result<crate::file::FileInfo> {
    let mut upload = files.upload(&OwnerId::default(), None).await?;
    upload.write(b"A leaf is green.").await?;
    upload.finish().await
}

#[tokio::test]
async fn a_refused_account_is_told_at_once_and_without_what_the_bucket_says() {
    let bucket = Bucket::open().await;
    let files = in_bucket(&bucket);
    for status in [401, 403] {
        bucket.fail(&[Fault::Status(status)]);
        let error = keep(&files).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StoreUnavailable);
        assert!(error.message().contains("account"), "{error}");
        assert!(!format!("{error:?}").contains("canary"), "{error:?}");
        assert_eq!(bucket.asked(), 1, "{status}");
    }
}

#[tokio::test]
async fn a_bucket_that_fails_for_a_moment_is_tried_again() {
    let bucket = Bucket::open().await;
    let files = in_bucket(&bucket);
    // Each of the three requests of an upload.
    let fails = [Fault::Status(500), Fault::Status(503), Fault::Slow];
    bucket.fail(&[fails[0], fails[2], fails[1], fails[2], fails[0], fails[2]]);
    let info = keep(&files).await.unwrap();
    assert_eq!(bucket.asked(), 6);
    bucket.fail(&[Fault::Status(500), Fault::Slow]);
    let read = files.read(&OwnerId::default(), &info).await.unwrap();
    assert_eq!(&read[..], b"A leaf is green.");
    // And not for ever.
    bucket.fail(&[Fault::Status(500); 9]);
    let error = files.read(&OwnerId::default(), &info).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StoreUnavailable);
    assert!(!format!("{error:?}").contains("canary"), "{error:?}");
    assert_eq!(bucket.asked(), 1 + MAX_RETRIES);
}

#[tokio::test(start_paused = true)]
async fn a_bucket_that_does_not_answer_is_given_up() {
    let bucket = Bucket::open().await;
    let files = in_bucket(&bucket);
    bucket.fail(&[Fault::Silence; 9]);
    let start = tokio::time::Instant::now();
    let error = keep(&files).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StoreUnavailable);
    assert!(start.elapsed() < Duration::from_secs(120), "{start:?}");
}
