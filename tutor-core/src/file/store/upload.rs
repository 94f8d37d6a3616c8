//! A file that is being taken: sniffed, bounded, and never whole in memory.

use std::fmt;

use bytes::BytesMut;
use object_store::{MultipartUpload, ObjectStoreExt};

use super::{FileInfo, FileStore, KIND, key, place, too_large, unusable};
use crate::error::{Error, Result};
use crate::file::{IMAGE_TYPES, PDF, sniff};
use crate::id::OwnerId;
use crate::store::Expect;
use crate::store::document::put;
use crate::tutor::Tutor;

/// Bytes by which the type of a file is known.
const HEAD_BYTES: usize = 8 << 10;

/// The longest name of a file, in characters.
const MAX_NAME_CHARS: usize = 255;

/// What file names promise.
const EXTENSIONS: [(&str, &str); 8] = [
    ("png", "image/png"),
    ("jpg", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("gif", "image/gif"),
    ("webp", "image/webp"),
    ("pdf", PDF),
    ("md", "text/markdown"),
    ("txt", "text/plain"),
];

/// A file that is being taken. Dropping it takes nothing.
pub struct Upload {
    files: FileStore,
    owner: OwnerId,
    id: String,
    name: Option<String>,
    target: Box<dyn MultipartUpload>,
    /// What was not handed on yet.
    part: BytesMut,
    head: Vec<u8>,
    bytes: u64,
    /// How many bytes the owner may still have.
    room: u64,
    text: Utf8,
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload")
            .field("id", &self.id)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl Upload {
    pub(super) async fn begin(
        files: FileStore,
        owner: OwnerId,
        name: Option<String>,
        room: u64,
    ) -> Result<Self> {
        let id = files.runtime.new_id();
        let target = files.objects.put_multipart(&place(&owner, &id)).await;
        Ok(Self {
            target: target.map_err(|error| unusable(&error))?,
            files,
            owner,
            id,
            name: name.as_deref().and_then(plain),
            part: BytesMut::new(),
            head: Vec::new(),
            bytes: 0,
            room,
            text: Utf8::default(),
        })
    }

    /// How many bytes were taken so far.
    pub fn len(&self) -> u64 {
        self.bytes
    }

    /// True if none were.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Takes more of the file.
    ///
    /// # Errors
    /// `too_large` if it is, or the owner's files are then; errors of the object store.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.bytes += bytes.len() as u64;
        let max = self.files.bounds.max_file_bytes;
        if self.bytes > max {
            return Err(too_large(format!(
                "the file has more than {max} bytes: send a smaller one"
            )));
        }
        if self.bytes > self.room {
            return Err(too_large(format!(
                "your files would have more than {} bytes: delete one first",
                self.files.bounds.max_bytes
            )));
        }
        let missing = HEAD_BYTES.saturating_sub(self.head.len());
        self.head
            .extend_from_slice(&bytes[..bytes.len().min(missing)]);
        self.text.read(bytes);
        self.part.extend_from_slice(bytes);
        while self.part.len() >= self.files.part_bytes {
            self.hand_on(self.files.part_bytes).await?;
        }
        Ok(())
    }

    async fn hand_on(&mut self, bytes: usize) -> Result<()> {
        let part = self.part.split_to(bytes).freeze();
        let written = self.target.put_part(part.into()).await;
        written.map_err(|error| unusable(&error))
    }

    /// What the file is.
    ///
    /// # Errors
    /// `invalid_input` if it is empty, of no type that is taken, or not what its name says.
    pub fn media_type(&self) -> Result<&'static str> {
        let refuse = |why: &'static str| Error::invalid_input(why).with_context("field", "file");
        if self.bytes == 0 {
            return Err(refuse("the file is empty"));
        }
        let extension = self.name.as_deref().and_then(|name| name.rsplit_once('.'));
        let extension = extension.map(|(_, extension)| extension.to_ascii_lowercase());
        let promised = EXTENSIONS
            .iter()
            .find(|(known, _)| extension.as_deref() == Some(*known))
            .map(|(_, media_type)| *media_type);
        let found = match sniff(&self.head) {
            Some(found) if IMAGE_TYPES.contains(&found) || found == PDF => found,
            Some(_) => return Err(refuse(UNKNOWN)),
            None if self.text.is_text() => match promised {
                Some("text/markdown") => "text/markdown",
                _ => "text/plain",
            },
            None => return Err(refuse(UNKNOWN)),
        };
        match promised {
            Some(promised) if promised != found => {
                Err(refuse("the file is not what its name says that it is"))
            }
            _ => Ok(found),
        }
    }

    /// Keeps the file. Durable when it returns.
    ///
    /// # Errors
    /// As [`media_type`](Self::media_type); errors of the stores.
    pub async fn finish(mut self) -> Result<FileInfo> {
        let media_type = match self.media_type() {
            Ok(media_type) => media_type,
            Err(error) => {
                self.abort().await;
                return Err(error);
            }
        };
        let rest = self.part.len();
        self.hand_on(rest).await?;
        let completed = self.target.complete().await;
        completed.map_err(|error| unusable(&error))?;
        let info = FileInfo {
            id: self.id.clone(),
            name: self.name.take(),
            media_type: media_type.to_owned(),
            bytes: self.bytes,
            created_at: self.files.runtime.now(),
        };
        let write = put(KIND, &key(&self.owner, &info.id), &info, Expect::Absent)?;
        if let Err(error) = self.files.documents.commit(vec![write]).await {
            // Its bytes are of no use without it.
            self.files.remove(&place(&self.owner, &self.id)).await?;
            return Err(error);
        }
        Ok(info)
    }

    /// [`finish`](Self::finish), once its bytes are counted against the quota of this tutor's
    /// owner, whose file it is. What is refused for what it is costs nothing of it.
    ///
    /// # Errors
    /// As [`finish`](Self::finish); `rate_limited` if it does not fit into the quota.
    pub async fn finish_for(self, tutor: &Tutor) -> Result<FileInfo> {
        let counted = match self.media_type() {
            Ok(_) => tutor.count_upload(self.bytes).await,
            Err(error) => Err(error),
        };
        match counted {
            Ok(()) => self.finish().await,
            Err(error) => {
                self.abort().await;
                Err(error)
            }
        }
    }

    /// Takes nothing of it.
    pub async fn abort(mut self) {
        if let Err(error) = self.target.abort().await {
            tracing::debug!(%error, "an upload could not be undone: a sweep will");
        }
    }
}

const UNKNOWN: &str = "files of this type are not taken: send a PNG, JPEG, GIF or WebP image, a PDF, or text in UTF-8";

/// The last part of a name, without what has no place in one; `None` if nothing is left.
fn plain(name: &str) -> Option<String> {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let is_fine = |c: &char| !c.is_control() && !is_bidi(*c);
    let name: String = last
        .trim()
        .chars()
        .filter(is_fine)
        .take(MAX_NAME_CHARS)
        .collect();
    let is_name = name.chars().any(|c| c != '.' && !c.is_whitespace());
    is_name.then_some(name)
}

/// True for what makes a name look like another one.
fn is_bidi(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Knows whether all bytes so far are UTF-8 text, though they come in pieces.
#[derive(Debug, Default)]
struct Utf8 {
    /// The beginning of a character.
    open: Vec<u8>,
    is_broken: bool,
}

impl Utf8 {
    fn read(&mut self, bytes: &[u8]) {
        if self.is_broken {
            return;
        }
        let mut rest = bytes;
        while !self.open.is_empty() && !rest.is_empty() {
            self.open.push(rest[0]);
            rest = &rest[1..];
            match std::str::from_utf8(&self.open) {
                Ok(text) => {
                    self.is_broken |= text.contains('\0');
                    self.open.clear();
                }
                Err(error) if error.error_len().is_some() || self.open.len() >= 4 => {
                    self.is_broken = true;
                    return;
                }
                Err(_) => {}
            }
        }
        match std::str::from_utf8(rest) {
            Ok(_) => {}
            Err(error) if error.error_len().is_none() => {
                self.open.extend_from_slice(&rest[error.valid_up_to()..]);
            }
            Err(_) => self.is_broken = true,
        }
        self.is_broken |= rest.contains(&0);
    }

    fn is_text(&self) -> bool {
        !self.is_broken && self.open.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_no_path_and_nothing_that_hides_what_it_is() {
        for (name, expected) in [
            ("a.txt", Some("a.txt")),
            ("../../etc/passwd", Some("passwd")),
            ("C:\\x\\b.png", Some("b.png")),
            ("a\0b\r\n.txt", Some("ab.txt")),
            ("\u{202e}gnp.exe", Some("gnp.exe")),
            ("..", None),
            (" ", None),
            ("x/", None),
        ] {
            assert_eq!(plain(name).as_deref(), expected, "{name:?}");
        }
        assert_eq!(plain(&"x".repeat(4096)).unwrap().len(), 255);
    }

    #[test]
    fn text_is_text_however_it_is_cut() {
        let text = "aé€🌱z".as_bytes();
        for first in 0..=text.len() {
            for second in first..=text.len() {
                let mut utf8 = Utf8::default();
                utf8.read(&text[..first]);
                utf8.read(&text[first..second]);
                utf8.read(&text[second..]);
                assert!(utf8.is_text(), "{first} {second}");
            }
        }
        for broken in [&b"a\xff"[..], b"\xe2\x82", b"a\0b", b"\xc3("] {
            let mut utf8 = Utf8::default();
            for byte in broken {
                utf8.read(&[*byte]);
            }
            assert!(!utf8.is_text(), "{broken:?}");
        }
    }
}
