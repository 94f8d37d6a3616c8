//! Images and files in messages: by bytes or by reference, checked before they are kept.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::error::{Error, ErrorKind, Result};
use crate::id::OwnerId;
use crate::limits::Limits;
use crate::message::{Content, Part};

#[cfg(feature = "pdf")]
mod pdf;
#[cfg(feature = "files")]
mod place;
#[cfg(feature = "files")]
mod store;

#[cfg(feature = "files")]
pub use place::FilePlace;
#[cfg(feature = "files-cloud")]
pub use store::URL_SCHEMES;
#[cfg(feature = "files")]
pub use store::{FILE_RECORDS, FileBounds, FileInfo, FileStore, Upload};

/// The image types that models can look at.
pub const IMAGE_TYPES: [&str; 4] = ["image/png", "image/jpeg", "image/gif", "image/webp"];

/// How PDFs are called.
const PDF: &str = "application/pdf";

/// Bytes of a document's text that a model is sent, at most; the rest is cut off and that is said.
const MAX_TEXT_BYTES: usize = 1 << 20;

/// The longest URL of an image that is elsewhere, in bytes.
pub const MAX_URL_BYTES: usize = 2048;

/// Where the files are that messages name by id. A host that takes uploads implements it.
#[async_trait]
pub trait FileSource: fmt::Debug + Send + Sync + 'static {
    /// The file of this owner, or `None`: another owner's file does not exist.
    ///
    /// # Errors
    /// Those of wherever the files are.
    async fn file(&self, owner: &OwnerId, id: &str) -> Result<Option<StoredFile>>;
}

/// A file source behind a pointer.
pub type SharedFileSource = Arc<dyn FileSource>;

/// A file that a message names.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredFile {
    /// The name to show.
    pub name: Option<String>,
    /// What the model gets of it.
    pub content: FileContent,
}

impl StoredFile {
    /// A file of this content.
    pub fn new(name: Option<String>, content: FileContent) -> Self {
        Self { name, content }
    }
}

/// What a model gets of a file.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileContent {
    /// The text of a document.
    Text(String),
    /// An image of one of the [`IMAGE_TYPES`].
    Image(Vec<u8>),
    /// Nothing but its name: no text can be had of it.
    NameOnly,
}

impl fmt::Debug for StoredFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredFile")
            .field("content", &self.content)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for FileContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "Text(<{} bytes>)", text.len()),
            Self::Image(bytes) => write!(f, "Image(<{} bytes>)", bytes.len()),
            Self::NameOnly => f.write_str("NameOnly"),
        }
    }
}

/// The media type of these bytes by what they are, not by what somebody calls them: `None` if
/// they begin like no known format.
pub fn sniff(bytes: &[u8]) -> Option<&'static str> {
    infer::get(bytes).map(|kind| kind.mime_type())
}

impl Part {
    /// An image by its bytes.
    ///
    /// # Errors
    /// `invalid_input` if they are no image of the [`IMAGE_TYPES`].
    pub fn image(bytes: &[u8]) -> Result<Self> {
        let media_type = image_type(bytes)?;
        Ok(Self::Image {
            url: data_url(media_type, bytes),
            media_type: Some(media_type.to_owned()),
        })
    }

    /// A file by its bytes. Its type is what it is, or `text/plain` if it is UTF-8.
    ///
    /// # Errors
    /// `invalid_input` if it is empty, or of no known type.
    pub fn file(name: impl Into<String>, bytes: &[u8]) -> Result<Self> {
        if bytes.is_empty() {
            return Err(Error::invalid_input("the file is empty"));
        }
        let is_text = || std::str::from_utf8(bytes).is_ok().then_some("text/plain");
        let media_type = sniff(bytes).or_else(is_text).ok_or_else(|| {
            Error::invalid_input("the file is of no known type: send text, a PDF or an image")
        })?;
        Ok(Self::File {
            file_id: data_url(media_type, bytes),
            name: Some(name.into()),
            media_type: Some(media_type.to_owned()),
        })
    }
}

impl Part {
    /// An image or a file, by what these bytes are: images of other types than the
    /// [`IMAGE_TYPES`] are files. A name is shown with a file; images have none.
    ///
    /// # Errors
    /// `invalid_input` if there are none, or they are of no known type.
    pub fn attachment(name: Option<&str>, bytes: &[u8]) -> Result<Self> {
        if sniff(bytes).is_some_and(|found| IMAGE_TYPES.contains(&found)) {
            return Self::image(bytes);
        }
        let mut part = Self::file("", bytes)?;
        if let Self::File { name: shown, .. } = &mut part {
            *shown = name.map(str::to_owned);
        }
        Ok(part)
    }
}

fn image_type(bytes: &[u8]) -> Result<&'static str> {
    sniff(bytes)
        .filter(|found| IMAGE_TYPES.contains(found))
        .ok_or_else(|| {
            Error::invalid_input(format!(
                "the image is of none of the types {}",
                IMAGE_TYPES.join(", ")
            ))
        })
}

fn data_url(media_type: &str, bytes: &[u8]) -> String {
    format!("data:{media_type};base64,{}", STANDARD.encode(bytes))
}

/// The type that a `data:` URL claims, and its bytes; `None` if the URL is another one.
fn decode(url: &str) -> Option<Result<(&str, Vec<u8>)>> {
    let rest = url.strip_prefix("data:")?;
    let Some((head, data)) = rest.split_once(',') else {
        return Some(Err(malformed()));
    };
    let Some(media_type) = head.strip_suffix(";base64") else {
        return Some(Err(malformed()));
    };
    let media_type = media_type.split(';').next().unwrap_or_default();
    Some(
        STANDARD
            .decode(data)
            .map(|bytes| (media_type, bytes))
            .map_err(|_| malformed()),
    )
}

fn malformed() -> Error {
    Error::invalid_input("data is sent as data:TYPE;base64,DATA")
}

/// Checks each attachment of a message as a caller sent it.
///
/// # Errors
/// `too_large`, or `invalid_input` for what is not what it is called.
pub(crate) fn check(content: &Content, limits: &Limits) -> Result<()> {
    let Content::Parts(parts) = content else {
        return Ok(());
    };
    for part in parts {
        let checked = match part {
            Part::Image { url, media_type } => check_image(url, media_type.as_deref(), limits),
            Part::File {
                file_id,
                media_type,
                ..
            } => check_file(file_id, media_type.as_deref(), limits),
            Part::Text { .. }
            | Part::ToolCall { .. }
            | Part::ToolResult { .. }
            | Part::Replay { .. } => continue,
        };
        checked.map_err(|error| error.with_context("field", "messages"))?;
    }
    Ok(())
}

fn check_image(url: &str, declared: Option<&str>, limits: &Limits) -> Result<()> {
    match decode(url) {
        Some(data) => {
            bound(url, limits)?;
            let (claimed, bytes) = data?;
            let found = image_type(&bytes)?;
            agree(found, Some(claimed))?;
            agree(found, declared)
        }
        None if url.starts_with("https://") && url.len() <= MAX_URL_BYTES => Ok(()),
        None => Err(Error::invalid_input(format!(
            "an image has a data: URL, or an https: URL of at most {MAX_URL_BYTES} bytes"
        ))),
    }
}

fn check_file(id: &str, declared: Option<&str>, limits: &Limits) -> Result<()> {
    let Some(data) = decode(id) else {
        if id.is_empty() || id.len() > MAX_URL_BYTES {
            return Err(Error::invalid_input(format!(
                "a file's id has 1 to {MAX_URL_BYTES} bytes"
            )));
        }
        return Ok(());
    };
    bound(id, limits)?;
    let (claimed, bytes) = data?;
    match sniff(&bytes) {
        Some(found) => {
            agree(found, Some(claimed))?;
            agree(found, declared)
        }
        None if std::str::from_utf8(&bytes).is_ok() && is_text(claimed) => Ok(()),
        None => Err(Error::invalid_input(
            "the file is not of the type that it is called: send text, a PDF or an image",
        )),
    }
}

fn is_text(media_type: &str) -> bool {
    media_type.starts_with("text/") || media_type == "application/json"
}

fn bound(url: &str, limits: &Limits) -> Result<()> {
    // Base64 has four bytes for three.
    if url.len() / 4 * 3 > limits.max_attachment_bytes.saturating_add(64) {
        return Err(too_large(format!(
            "an image or file has more than {} bytes: send a smaller one",
            limits.max_attachment_bytes
        )));
    }
    Ok(())
}

fn agree(found: &str, claimed: Option<&str>) -> Result<()> {
    let same = |claimed: &str| {
        let claimed = claimed.trim().to_ascii_lowercase();
        claimed == found || (claimed == "image/jpg" && found == "image/jpeg")
    };
    match claimed {
        Some(claimed) if !claimed.is_empty() && !same(claimed) => Err(Error::invalid_input(
            format!("an attachment is called another type than it is, which is {found}"),
        )),
        _ => Ok(()),
    }
}

fn too_large(message: String) -> Error {
    Error::new(ErrorKind::TooLarge, message)
}

/// What the model gets of a file part: the text of a file, or its image; the part itself if there
/// is neither.
///
/// # Errors
/// `invalid_input` if the source knows no such file; errors of the source.
pub(crate) async fn resolve(
    source: Option<&SharedFileSource>,
    owner: &OwnerId,
    part: &Part,
) -> Result<Part> {
    let Part::File { file_id, name, .. } = part else {
        return Ok(part.clone());
    };
    let file = match (decode(file_id), source) {
        (Some(data), _) => embedded(data?).await,
        (None, Some(source)) => source.file(owner, file_id).await?.ok_or_else(|| {
            Error::invalid_input("no such file: upload it first").with_context("file", file_id)
        })?,
        (None, None) => return Ok(part.clone()),
    };
    let name = file
        .name
        .as_deref()
        .or(name.as_deref())
        .unwrap_or("unnamed");
    Ok(match file.content {
        FileContent::Text(text) => Part::Text {
            text: format!("[attached file: {name}]\n{text}\n[end of {name}]\n"),
        },
        FileContent::Image(bytes) => Part::image(&bytes)?,
        FileContent::NameOnly => part.clone(),
    })
}

async fn embedded((_, bytes): (&str, Vec<u8>)) -> StoredFile {
    let content = match sniff(&bytes) {
        Some(found) if IMAGE_TYPES.contains(&found) => FileContent::Image(bytes),
        Some(PDF) => of_pdf(bytes, MAX_TEXT_BYTES).await,
        Some(_) => FileContent::NameOnly,
        None => String::from_utf8(bytes).map_or(FileContent::NameOnly, FileContent::Text),
    };
    StoredFile::new(None, content)
}

/// What a model gets of a PDF: its text, or why there is none.
#[cfg(feature = "pdf")]
async fn of_pdf(bytes: Vec<u8>, max_bytes: usize) -> FileContent {
    FileContent::Text(pdf::text_or_notice(bytes, max_bytes).await)
}

/// A program without that part knows the name alone.
#[cfg(not(feature = "pdf"))]
#[expect(clippy::unused_async, reason = "as with that part")]
async fn of_pdf(_: Vec<u8>, _: usize) -> FileContent {
    FileContent::NameOnly
}

#[cfg(test)]
mod tests {
    use super::*;

    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0";

    fn content(part: Part) -> Content {
        Content::Parts(vec![part])
    }

    fn image(url: &str, media_type: Option<&str>) -> Content {
        content(Part::Image {
            url: url.to_owned(),
            media_type: media_type.map(str::to_owned),
        })
    }

    #[test]
    fn what_was_made_of_bytes_is_accepted_and_what_is_called_otherwise_is_refused() {
        let limits = Limits::default();
        check(&content(Part::image(PNG).unwrap()), &limits).unwrap();
        check(
            &content(Part::file("a.txt", "Größe".as_bytes()).unwrap()),
            &limits,
        )
        .unwrap();
        check(
            &content(Part::file("a.pdf", b"%PDF-1.7 x").unwrap()),
            &limits,
        )
        .unwrap();
        let url = data_url("image/png", PNG);
        for refused in [
            image(&url, Some("image/jpeg")),
            image(&url.replace("image/png", "image/gif"), None),
            image(&data_url("image/png", b"no image"), None),
            image("data:image/png,plain", None),
            image("data:image/png;base64,***", None),
            image("http://a.example/x.png", None),
            image("file:///etc/passwd", None),
            image(&format!("https://{}", "a".repeat(MAX_URL_BYTES)), None),
            content(Part::File {
                file_id: data_url("text/plain", PNG),
                name: None,
                media_type: None,
            }),
            content(Part::File {
                file_id: data_url("application/pdf", b"text"),
                name: None,
                media_type: None,
            }),
            content(Part::File {
                file_id: String::new(),
                name: None,
                media_type: None,
            }),
        ] {
            let error = check(&refused, &limits).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{refused:?}");
        }
        let image = Part::attachment(Some("a.png"), PNG).unwrap();
        assert_eq!(image, Part::image(PNG).unwrap());
        let file = Part::attachment(Some("a.txt"), b"text").unwrap();
        assert_eq!(file, Part::file("a.txt", b"text").unwrap());
        assert!(Part::attachment(None, b"\xff\xfe\xfd").is_err());
        assert!(Part::image(b"no image").is_err());
        assert!(Part::file("x", b"\xff\xfe\xfd").is_err());
        assert!(Part::file("x", b"").is_err());
    }

    #[test]
    fn too_large_attachments_are_refused() {
        let limits = Limits {
            max_attachment_bytes: 10_000,
            ..Limits::default()
        };
        let mut bytes = PNG.to_vec();
        bytes.resize(10_000, 0);
        check(&content(Part::image(&bytes).unwrap()), &limits).unwrap();
        bytes.resize(11_000, 0);
        let large = content(Part::image(&bytes).unwrap());
        assert_eq!(
            check(&large, &limits).unwrap_err().kind(),
            ErrorKind::TooLarge
        );
    }

    #[tokio::test]
    async fn embedded_files_become_text_or_an_image() {
        let owner = OwnerId::default();
        let text = Part::file("a.md", b"# Light").unwrap();
        let resolved = resolve(None, &owner, &text).await.unwrap();
        assert!(resolved.as_text().unwrap().contains("# Light"));
        let picture = Part::file("a.png", PNG).unwrap();
        let resolved = resolve(None, &owner, &picture).await.unwrap();
        assert_eq!(resolved, Part::image(PNG).unwrap());
        let pdf = Part::file("a.pdf", b"%PDF-1.7 x").unwrap();
        let resolved = resolve(None, &owner, &pdf).await.unwrap();
        #[cfg(feature = "pdf")]
        assert!(
            resolved.as_text().unwrap().contains("damaged"),
            "{resolved:?}"
        );
        #[cfg(not(feature = "pdf"))]
        assert_eq!(resolved, pdf);
    }
}
