//! Uploads in a real directory.

use super::*;
use crate::store::MemoryStore;
use crate::transfer::erase_owner;

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0";

fn owner(id: &str) -> OwnerId {
    OwnerId::new(id).unwrap()
}

fn stores() -> (FileStore, Arc<MemoryStore>, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let records = Arc::new(MemoryStore::new());
    let files = FileStore::directory(directory.path(), records.clone()).unwrap();
    (files, records, directory)
}

async fn put(files: &FileStore, of: &str, name: &str, bytes: &[u8]) -> Result<FileInfo> {
    let mut upload = files.upload(&owner(of), Some(name.to_owned())).await?;
    for piece in bytes.chunks(7) {
        upload.write(piece).await?;
    }
    upload.finish().await
}

async fn content(files: &FileStore, of: &str, info: &FileInfo, range: (u64, u64)) -> Vec<u8> {
    let pieces = files.content(&owner(of), info, range).await.unwrap();
    let pieces: Vec<Bytes> = pieces.try_collect().await.unwrap();
    pieces.concat()
}

fn on_disk(directory: &FsPath) -> usize {
    let entries = std::fs::read_dir(directory).unwrap().flatten();
    entries
        .map(|entry| match entry.file_type().unwrap().is_dir() {
            true => on_disk(&entry.path()),
            false => 1,
        })
        .sum()
}

#[tokio::test]
async fn what_was_uploaded_is_there_whole_and_in_part_and_its_owners_alone() {
    let (files, _, directory) = stores();
    let text = "Größe ".repeat(200_000);
    let info = put(&files, "a:~+@", "../notes.md", text.as_bytes())
        .await
        .unwrap();
    assert_eq!(
        (info.name.as_deref(), info.media_type.as_str()),
        (Some("notes.md"), "text/markdown")
    );
    assert_eq!(info.bytes, text.len() as u64);
    assert_eq!(
        content(&files, "a:~+@", &info, (0, info.bytes)).await,
        text.as_bytes()
    );
    assert_eq!(
        content(&files, "a:~+@", &info, (1, 4)).await,
        &text.as_bytes()[1..4]
    );
    assert!(content(&files, "a:~+@", &info, (4, 4)).await.is_empty());
    for other in ["b", "a"] {
        assert_eq!(files.info(&owner(other), &info.id).await.unwrap(), None);
        assert!(files.content(&owner(other), &info, (0, 1)).await.is_err());
        assert!(!files.delete(&owner(other), &info.id).await.unwrap());
        assert!(
            files
                .list(&owner(other), 10, None)
                .await
                .unwrap()
                .items
                .is_empty()
        );
    }
    assert_eq!(files.sweep().await.unwrap(), 0);
    assert!(files.delete(&owner("a:~+@"), &info.id).await.unwrap());
    assert_eq!(files.info(&owner("a:~+@"), &info.id).await.unwrap(), None);
    assert_eq!(on_disk(directory.path()), 0);
}

#[tokio::test]
async fn a_file_is_what_its_bytes_say_and_its_name_must_agree() {
    let (files, _, directory) = stores();
    for (name, bytes, expected) in [
        ("a.png", PNG, Some("image/png")),
        ("a", PNG, Some("image/png")),
        ("a.txt", b"hi", Some("text/plain")),
        ("a.rs", b"fn main() {}", Some("text/plain")),
        ("a.pdf", b"%PDF-1.7 x", Some("application/pdf")),
        ("a.png", b"<svg xmlns='x'><script/></svg>", None),
        ("a.png", b"alert(1)", None),
        ("a.pdf", PNG, None),
        ("a.html", b"<!DOCTYPE html><html></html>", None),
        ("a.zip", b"PK\x03\x04xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", None),
        ("a.txt", b"\xff\xfe\x00", None),
        ("a.txt", b"", None),
    ] {
        let found = put(&files, "a", name, bytes).await;
        match expected {
            Some(media_type) => assert_eq!(found.unwrap().media_type, media_type),
            None => assert_eq!(found.unwrap_err().kind(), ErrorKind::InvalidInput, "{name}"),
        }
    }
    // Nothing is left of what was refused.
    assert_eq!(on_disk(directory.path()), 5);
    assert_eq!(
        files
            .list(&owner("a"), 200, None)
            .await
            .unwrap()
            .items
            .len(),
        5
    );
}

#[tokio::test]
async fn what_is_too_much_is_refused_while_it_comes() {
    let (files, _, directory) = stores();
    let files = files.with_bounds(FileBounds {
        max_file_bytes: 20,
        max_bytes: 30,
        max_files: 2,
        ..FileBounds::default()
    });
    let refused =
        |found: Result<FileInfo>| assert_eq!(found.unwrap_err().kind(), ErrorKind::TooLarge);
    refused(put(&files, "a", "x", &[b'x'; 21]).await);
    put(&files, "a", "x", &[b'x'; 20]).await.unwrap();
    refused(put(&files, "a", "x", &[b'x'; 11]).await);
    put(&files, "a", "x", &[b'x'; 10]).await.unwrap();
    refused(put(&files, "a", "x", b"x").await);
    put(&files, "b", "x", b"x").await.unwrap();
    assert_eq!(on_disk(directory.path()), 3);
}

#[tokio::test]
async fn files_are_listed_page_by_page_in_the_order_of_their_uploads() {
    let (files, _, _directory) = stores();
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(
            put(&files, "a", &format!("{n}.txt"), b"x")
                .await
                .unwrap()
                .id,
        );
    }
    let (mut seen, mut cursor) = (Vec::new(), None);
    loop {
        let page = files.list(&owner("a"), 2, cursor).await.unwrap();
        seen.extend(page.items.into_iter().map(|info| info.id));
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(seen, ids);
    let odd = Some(Cursor::from_text("a/b"));
    assert!(files.list(&owner("a"), 2, odd).await.is_err());
}

#[tokio::test]
async fn erasing_an_owner_leaves_nothing_and_a_sweep_finds_what_others_left() {
    let (files, records, directory) = stores();
    put(&files, "a", "x", b"x").await.unwrap();
    put(&files, "a", "y", b"y").await.unwrap();
    put(&files, "b", "z", b"z").await.unwrap();
    assert_eq!(files.erase(&owner("a")).await.unwrap(), 2);
    assert_eq!(on_disk(directory.path()), 1);
    // The records alone, as an older program erases them; and an hour later.
    erase_owner(&records, &owner("b"), &mut |_| ())
        .await
        .unwrap();
    assert_eq!(files.sweep().await.unwrap(), 0, "it may be of an upload");
    #[derive(Debug)]
    struct Later;
    impl crate::time::Runtime for Later {
        fn now(&self) -> Timestamp {
            SystemRuntime.now().saturating_add(ORPHAN_AGE * 2)
        }
        fn new_id(&self) -> String {
            SystemRuntime.new_id()
        }
    }
    let later = files.with_runtime(Arc::new(Later));
    assert_eq!(later.sweep().await.unwrap(), 1);
    assert_eq!(on_disk(directory.path()), 0);
}

#[tokio::test]
async fn an_upload_that_is_dropped_leaves_nothing() {
    let (files, _, directory) = stores();
    let mut upload = files.upload(&owner("a"), None).await.unwrap();
    upload.write(&vec![b'x'; 1 << 20]).await.unwrap();
    drop(upload);
    for _ in 0..200 {
        if on_disk(directory.path()) == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the upload is still there");
}

#[tokio::test]
async fn a_model_gets_texts_and_images_and_is_told_why_there_is_none() {
    let (files, _, _directory) = stores();
    let files = files.with_bounds(FileBounds {
        max_text_bytes: 4,
        ..FileBounds::default()
    });
    let of = owner("a");
    let text = put(&files, "a", "x.txt", "abc€".as_bytes()).await.unwrap();
    let found = files.file(&of, &text.id).await.unwrap().unwrap();
    let FileContent::Text(told) = found.content else {
        panic!("no text");
    };
    assert_eq!(told, "abc\n[the rest of the file is cut off]");
    let image = put(&files, "a", "x.png", PNG).await.unwrap();
    let found = files.file(&of, &image.id).await.unwrap().unwrap();
    assert_eq!(found.content, FileContent::Image(PNG.to_vec()));
    let pdf = put(&files, "a", "x.pdf", b"%PDF-1.7").await.unwrap();
    let found = files.file(&of, &pdf.id).await.unwrap().unwrap();
    assert_eq!(found.name.as_deref(), Some("x.pdf"));
    match found.content {
        FileContent::Text(told) if cfg!(feature = "pdf") => assert!(told.contains("damaged")),
        content => assert_eq!(content, FileContent::NameOnly),
    }
    for nobody in ["", "../x", "x", &text.id.repeat(4)] {
        assert!(files.file(&of, nobody).await.unwrap().is_none());
    }
    assert!(files.file(&owner("b"), &text.id).await.unwrap().is_none());
}

#[cfg(feature = "pdf")]
#[tokio::test]
async fn a_model_gets_the_text_of_a_pdf_and_it_is_read_once() {
    let pdf = b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n\
        2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n\
        3 0 obj<</Type/Page/Parent 2 0 R/Contents 4 0 R/Resources<</Font<</F 5 0 R>>>>>>endobj\n\
        4 0 obj<</Length 41>>stream\nBT /F 12 Tf (Light is a wave.) Tj ET     \nendstream endobj\n\
        5 0 obj<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>endobj\n\
        trailer<</Root 1 0 R>>\n%%EOF";
    let (files, _, directory) = stores();
    let info = put(&files, "a", "light.pdf", pdf).await.unwrap();
    let text = FileContent::Text("Light is a wave.".to_owned());
    let of = owner("a");
    assert_eq!(
        files.file(&of, &info.id).await.unwrap().unwrap().content,
        text
    );
    std::fs::write(directory.path().join("a").join(&info.id), "gone").unwrap();
    assert_eq!(
        files.file(&of, &info.id).await.unwrap().unwrap().content,
        text
    );
    assert!(files.file(&owner("b"), &info.id).await.unwrap().is_none());
    files.delete(&of, &info.id).await.unwrap();
    assert!(files.file(&of, &info.id).await.unwrap().is_none());
}
