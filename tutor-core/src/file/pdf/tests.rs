//! Text out of PDFs, good ones and such as are made to do harm.

use std::io::Write;
use std::time::Instant;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use lopdf::{Dictionary, Stream, dictionary};

use super::*;

const MAX: usize = 1 << 20;

fn file(mut document: Document) -> Vec<u8> {
    let mut bytes = Vec::new();
    document.save_to(&mut bytes).unwrap();
    bytes
}

/// A document with a page for each content, in one usual font.
fn pages(contents: &[Stream], kids: impl Fn(Vec<ObjectId>) -> Vec<ObjectId>) -> Document {
    let mut document = Document::with_version("1.5");
    let tree = document.new_object_id();
    let font = document.add_object(dictionary! {
        "Type" => "Font", "Subtype" => "Type1", "BaseFont" => "Helvetica",
        "Encoding" => "WinAnsiEncoding",
    });
    let resources = document.add_object(dictionary! { "Font" => dictionary! { "F1" => font } });
    let made = contents.iter().map(|content| {
        let content = document.add_object(content.clone());
        document.add_object(dictionary! {
            "Type" => "Page", "Parent" => tree, "Contents" => content, "Resources" => resources,
        })
    });
    let kids = kids(made.collect());
    let count = i64::try_from(kids.len()).unwrap();
    let kids: Vec<Object> = kids.into_iter().map(Object::Reference).collect();
    let root = dictionary! { "Type" => "Pages", "Kids" => kids, "Count" => count };
    document.objects.insert(tree, Object::Dictionary(root));
    let catalog = document.add_object(dictionary! { "Type" => "Catalog", "Pages" => tree });
    document.trailer.set("Root", catalog);
    document
}

fn content(operations: &str) -> Stream {
    Stream::new(Dictionary::new(), operations.as_bytes().to_vec())
}

fn simple(operations: &str) -> Vec<u8> {
    file(pages(&[content(operations)], |kids| kids))
}

fn deflated(bytes: &[u8], times: usize) -> Stream {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    for _ in 0..times {
        encoder.write_all(bytes).unwrap();
    }
    let filter = dictionary! { "Filter" => "FlateDecode" };
    Stream::new(filter, encoder.finish().unwrap())
}

#[tokio::test]
async fn words_and_lines_come_out_as_they_are_seen() {
    for (operations, expected) in [
        (
            "BT /F1 12 Tf 72 700 Td (A leaf is green.) Tj ET",
            "A leaf is green.",
        ),
        (
            "BT /F1 12 Tf 72 700 Td (One) Tj 0 -14 Td (Two) Tj ET",
            "One\nTwo",
        ),
        (
            "BT /F1 12 Tf 14 TL 72 700 Td (One) Tj T* (Two) Tj (Three) ' ET",
            "One\nTwo\nThree",
        ),
        (
            "BT /F1 12 Tf 72 700 Td [(gr) 20 (een) -300 (leaf)] TJ ET",
            "green leaf",
        ),
        (
            "BT /F1 12 Tf 72 700 Td (One) Tj 200 0 Td (Two) Tj ET",
            "One Two",
        ),
        (
            "BT /F1 1 Tf 12 0 0 12 72 700 Tm (One) Tj 12 0 0 12 72 680 Tm (Two) Tj ET",
            "One\nTwo",
        ),
        (
            "q 1 0 0 1 72 700 cm BT /F1 12 Tf (One) Tj ET Q q 1 0 0 1 72 600 cm BT /F1 12 Tf (Two) Tj ET Q",
            "One\nTwo",
        ),
        ("BT /F1 12 Tf (caf\\351) Tj ET", "café"),
    ] {
        let read = text(simple(operations), MAX).await;
        assert_eq!(read.as_deref(), Ok(expected), "{operations}");
    }
    let pages = [
        content("BT /F1 9 Tf (One) Tj ET"),
        content("BT /F1 9 Tf (Two) Tj ET"),
    ];
    let two = file(self::pages(&pages, |kids| kids));
    assert_eq!(text(two, MAX).await.as_deref(), Ok("One\n\nTwo"));
}

#[tokio::test]
async fn text_is_cut_at_its_bound_and_at_the_bound_of_pages() {
    let long = format!("BT /F1 9 Tf ({}) Tj ET", "word ".repeat(1000));
    let read = text(simple(&long), 100).await.unwrap();
    assert!(read.len() < 150 && read.ends_with("cut off]"), "{read}");
    let page = content("BT /F1 9 Tf (again) Tj ET");
    let many = pages(&[page], |kids| vec![kids[0]; 100_000]);
    let began = Instant::now();
    let read = text(file(many), MAX).await;
    assert!(began.elapsed() < Duration::from_secs(8));
    if let Ok(read) = read {
        assert!(read.matches("again").count() <= MAX_PAGES);
    }
}

#[tokio::test]
async fn a_million_pages_end_in_a_text_or_a_notice() {
    let page = content("BT /F1 9 Tf (again) Tj ET");
    let mut document = pages(&[page], |kids| kids);
    let page = document.page_iter().next().unwrap();
    let template = document.get_object(page).unwrap().clone();
    let kids: Vec<Object> = (0..1_000_000)
        .map(|_| Object::Reference(document.add_object(template.clone())))
        .collect();
    let tree = template
        .as_dict()
        .unwrap()
        .get(b"Parent")
        .unwrap()
        .as_reference()
        .unwrap();
    let tree = document
        .get_object_mut(tree)
        .unwrap()
        .as_dict_mut()
        .unwrap();
    tree.set("Kids", kids);
    let bytes = file(document);
    let began = Instant::now();
    // A slow machine gives up before it has counted all of them.
    let refused = text(bytes, MAX).await.unwrap_err();
    assert!(matches!(refused, NoText::TooLarge | NoText::TooSlow));
    assert!(began.elapsed() < PATIENCE * 2);
}

#[tokio::test]
async fn what_grows_when_it_is_decompressed_is_not_held() {
    let bomb = deflated(&[b' '; 1 << 20], 512);
    assert!(bomb.content.len() < 1 << 20);
    let page = file(pages(std::slice::from_ref(&bomb), |kids| kids));
    assert_eq!(text(page, MAX).await, Err(NoText::Nothing));
    // A stream of objects is decompressed already when the file is opened, up to its bound.
    let mut document = pages(&[content("BT /F1 9 Tf (fine) Tj ET")], |kids| kids);
    let mut objects = bomb;
    objects.dict.set("Type", "ObjStm");
    objects.dict.set("N", 1);
    objects.dict.set("First", 4);
    document.add_object(objects);
    assert_eq!(text(file(document), MAX).await.as_deref(), Ok("fine"));
}

#[tokio::test]
async fn what_is_encrypted_is_said_to_be_however_that_is_written() {
    for name in ["Encrypt", "#45ncrypt", "Encryp#74"] {
        let bytes = simple("BT /F1 9 Tf (x) Tj ET");
        let kind = b"/Type/XRef";
        let at = bytes.windows(kind.len()).position(|part| part == kind);
        let mut changed = bytes.clone();
        changed.splice(
            at.unwrap()..at.unwrap(),
            format!("/{name} 1 0 R").into_bytes(),
        );
        assert_eq!(text(changed, MAX).await, Err(NoText::Encrypted), "{name}");
    }
    let only_a_word = simple("BT /F1 9 Tf (We /Encryption and encrypt) Tj ET");
    assert!(text(only_a_word, MAX).await.is_ok());
}

#[tokio::test]
async fn broken_files_end_in_a_notice_and_the_next_one_is_read() {
    let good = simple("BT /F1 9 Tf (fine) Tj ET");
    for at in (0..good.len()).step_by(7) {
        let mut cut = good.clone();
        cut.truncate(at);
        let _ = text(cut, MAX).await;
        let mut flipped = good.clone();
        flipped[at] ^= 0x55;
        let _ = text(flipped, MAX).await;
    }
    let deep = |open: &str, close: &str| {
        let nested = format!("{}{}", open.repeat(100_000), close.repeat(100_000));
        format!("%PDF-1.4\n1 0 obj\n{nested}\nendobj\ntrailer\n<</Root 1 0 R>>\n%%EOF")
    };
    for bytes in [
        Vec::new(),
        b"%PDF-1.7".to_vec(),
        b"%PDF-1.7\nxref\n0 4294967295\n0000000000 65535 f\ntrailer\n<</Size 4294967295/Root 1 0 R>>\nstartxref\n9\n%%EOF".to_vec(),
        b"%PDF-1.4\n1 0 obj\n<</Type/Catalog/Pages 1 0 R/Kids[1 0 R]/Parent 1 0 R>>\nendobj\ntrailer\n<</Root 1 0 R/Prev 9>>\nstartxref\n9\n%%EOF".to_vec(),
        deep("[", "]").into_bytes(),
        deep("<</A", ">>").into_bytes(),
        deep("(", ")").into_bytes(),
        simple(&format!("BT /F1 9 Tf {} ET", "[".repeat(200_000))),
        simple(&"q ".repeat(500_000)),
    ] {
        let read = text(bytes, MAX).await;
        assert!(read.is_err(), "{read:?}");
    }
    assert_eq!(text(good, MAX).await.as_deref(), Ok("fine"));
}
