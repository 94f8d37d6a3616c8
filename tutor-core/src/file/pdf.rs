//! The text of PDFs, for models. Whoever uploads one may have made it to do harm: it is taken apart
//! on a thread of its own, within bounds of time, memory, pages and text, and without following
//! anything that leads out of it.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lopdf::{Document, LoadOptions, Object, ObjectId};
use tokio::sync::{Semaphore, oneshot};

mod page;

/// How long taking one apart may take, with the wait for a place.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many are taken apart at a time.
const MAX_AT_ONCE: usize = 2;

/// The most pages whose text is read; the rest is cut off and that is said.
const MAX_PAGES: usize = 500;

/// The most bytes that one stream may grow to when it is decompressed.
const MAX_STREAM_BYTES: usize = 16 << 20;

/// The most bytes of everything in it that is kept in memory, about.
const MAX_HELD_BYTES: usize = 64 << 20;

/// The most things in it.
const MAX_OBJECTS: usize = 300_000;

/// What is kept of a thing besides its own bytes, about.
const OBJECT_BYTES: usize = 64;

const STACK_BYTES: usize = 16 << 20;

const CUT: &str = "\n[the rest of the file is cut off]";

static PLACES: Semaphore = Semaphore::const_new(MAX_AT_ONCE);

/// Why there is no text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoText {
    /// A password is needed.
    Encrypted,
    /// It is no PDF that can be understood.
    Damaged,
    /// It is larger inside than what is looked at.
    TooLarge,
    /// It took too long, or too many are looked at already.
    TooSlow,
    /// There is none in it: it may be pictures of pages.
    Nothing,
}

impl NoText {
    /// What a model is told instead.
    pub(crate) fn notice(self) -> &'static str {
        match self {
            Self::Encrypted => "[its text cannot be read: it is protected by a password]",
            Self::Damaged => "[its text cannot be read: the file is damaged]",
            Self::TooLarge => "[its text cannot be read: the file is too large inside]",
            Self::TooSlow => "[its text could not be read in time]",
            Self::Nothing => "[it has no text that can be read: it may be scanned pages]",
        }
    }
}

/// The text of a PDF, of about so many bytes at most, or what to tell a model instead.
pub(crate) async fn text_or_notice(bytes: Vec<u8>, max_bytes: usize) -> String {
    match text(bytes, max_bytes).await {
        Ok(text) => text,
        Err(why) => {
            tracing::debug!(?why, "a PDF without text");
            why.notice().to_owned()
        }
    }
}

async fn text(bytes: Vec<u8>, max_bytes: usize) -> Result<String, NoText> {
    let stop = Arc::new(AtomicBool::new(false));
    let reading = async {
        let place = PLACES.acquire().await.map_err(|_| NoText::TooSlow)?;
        let (done, told) = oneshot::channel();
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("pdf".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || {
                // Given back when the work is over, not when somebody stopped waiting for it.
                let _place = place;
                let read = AssertUnwindSafe(|| extract(&bytes, max_bytes, &stopped));
                let read = catch_unwind(read).unwrap_or(Err(NoText::Damaged));
                // Who gave up waiting does not need to know.
                let _ = done.send(read);
            });
        thread.map_err(|_| NoText::TooSlow)?;
        told.await.unwrap_or(Err(NoText::Damaged))
    };
    let read = tokio::time::timeout(PATIENCE, reading).await;
    stop.store(true, Ordering::Relaxed);
    read.unwrap_or(Err(NoText::TooSlow))
}

/// What may still be kept of the PDF that this thread takes apart.
struct Budget {
    objects: usize,
    bytes: usize,
    stop: Arc<AtomicBool>,
}

thread_local! {
    static BUDGET: RefCell<Option<Budget>> = const { RefCell::new(None) };
}

/// Counts a thing, and keeps it if it is within the budget. Pictures are kept without their bytes.
fn keep(id: ObjectId, object: &mut Object) -> Option<(ObjectId, Object)> {
    if let Object::Stream(stream) = object
        && matches!(stream.dict.get(b"Subtype"), Ok(Object::Name(name)) if name == b"Image")
    {
        stream.set_content(Vec::new());
    }
    let is_within = BUDGET.with_borrow_mut(|budget| {
        let Some(budget) = budget else {
            return false;
        };
        let (objects, bytes) = size(object);
        budget.objects = budget.objects.saturating_sub(objects);
        budget.bytes = budget.bytes.saturating_sub(bytes);
        budget.objects > 0 && budget.bytes > 0 && !budget.stop.load(Ordering::Relaxed)
    });
    is_within.then(|| (id, object.clone()))
}

/// How many things there are in one, and about how many bytes. The parser bounds how deep they are.
fn size(object: &Object) -> (usize, usize) {
    let of_all = |objects: &mut dyn Iterator<Item = &Object>| {
        objects
            .map(size)
            .fold((1, OBJECT_BYTES), |(n, bytes), (more, size)| {
                (n + more, bytes.saturating_add(size))
            })
    };
    match object {
        Object::String(bytes, _) | Object::Name(bytes) => (1, OBJECT_BYTES + bytes.len()),
        Object::Array(list) => of_all(&mut list.iter()),
        Object::Dictionary(dict) => of_all(&mut dict.iter().map(|(_, value)| value)),
        Object::Stream(stream) => {
            let (n, bytes) = of_all(&mut stream.dict.iter().map(|(_, value)| value));
            (n, bytes.saturating_add(stream.content.len()))
        }
        _ => (1, OBJECT_BYTES),
    }
}

fn extract(bytes: &[u8], max_bytes: usize, stop: &Arc<AtomicBool>) -> Result<String, NoText> {
    // Before anything is decrypted, which no bound covers.
    if names_encryption(bytes) {
        return Err(NoText::Encrypted);
    }
    BUDGET.set(Some(Budget {
        objects: MAX_OBJECTS,
        bytes: MAX_HELD_BYTES,
        stop: Arc::clone(stop),
    }));
    let options = LoadOptions {
        filter: Some(keep),
        max_decompressed_size: Some(MAX_STREAM_BYTES),
        ..LoadOptions::default()
    };
    let loaded = Document::load_mem_with_options(bytes, options);
    let is_spent = BUDGET
        .take()
        .is_none_or(|budget| budget.objects == 0 || budget.bytes == 0);
    let document = match loaded {
        _ if stop.load(Ordering::Relaxed) => return Err(NoText::TooSlow),
        _ if is_spent => return Err(NoText::TooLarge),
        Ok(document) => document,
        Err(lopdf::Error::Decompress(lopdf::DecompressError::MemoryLimitExceeded { .. })) => {
            return Err(NoText::TooLarge);
        }
        Err(_) => return Err(NoText::Damaged),
    };
    if document.is_encrypted() || document.was_encrypted() {
        return Err(NoText::Encrypted);
    }
    let mut text = page::Text::new(max_bytes);
    let mut pages = document.page_iter();
    for page in pages.by_ref().take(MAX_PAGES) {
        if text.is_full() || stop.load(Ordering::Relaxed) {
            break;
        }
        // A page that cannot be read is one without text; the others may be fine.
        let _ = page::read(&document, page, &mut text, stop);
        text.end_page();
    }
    let is_cut = text.is_full() || stop.load(Ordering::Relaxed) || pages.next().is_some();
    let mut text = text.finish();
    match (text.is_empty(), is_cut) {
        (true, _) if stop.load(Ordering::Relaxed) => Err(NoText::TooSlow),
        (true, _) => Err(NoText::Nothing),
        (false, true) => {
            text.push_str(CUT);
            Ok(text)
        }
        (false, false) => Ok(text),
    }
}

/// True if the name `Encrypt` is anywhere in the file, also written with escapes.
fn names_encryption(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| *byte == b'/') {
        rest = &rest[at + 1..];
        let mut name = rest;
        let is_it = b"Encrypt"
            .iter()
            .all(|wanted| next_of_name(&mut name) == Some(*wanted));
        if is_it && !name.first().is_some_and(u8::is_ascii_alphanumeric) {
            return true;
        }
    }
    false
}

/// The next byte of a name, in which `#41` is an `A`.
fn next_of_name(name: &mut &[u8]) -> Option<u8> {
    let (first, rest) = name.split_first()?;
    let hex = rest.get(..2).filter(|_| *first == b'#');
    let escaped = hex
        .and_then(|hex| std::str::from_utf8(hex).ok())
        .and_then(|hex| u8::from_str_radix(hex, 16).ok());
    let (byte, rest) = match escaped {
        Some(byte) => (byte, &rest[2..]),
        None => (*first, rest),
    };
    *name = rest;
    Some(byte)
}

#[cfg(test)]
mod tests;
