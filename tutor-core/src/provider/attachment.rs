//! Images and files in a prompt.

use crate::event::Notice;

/// What stands for a file whose content nobody put into the request.
pub(crate) fn placeholder(name: Option<&str>, notices: &mut Vec<Notice>) -> String {
    ignored(
        "the content of a file was not sent: the model sees only its name",
        notices,
    );
    format!("[attached file: {}]", name.unwrap_or("unnamed"))
}

/// What stands for an image that this server or protocol does not take.
pub(crate) fn unseen_image(why: &'static str, notices: &mut Vec<Notice>) -> String {
    ignored(why, notices);
    "[attached image]".to_owned()
}

fn ignored(message: &'static str, notices: &mut Vec<Notice>) {
    let notice = Notice::new("attachment_ignored", message);
    if !notices.contains(&notice) {
        notices.push(notice);
    }
}

/// An image as its URL has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Image<'a> {
    /// Embedded: its media type and its bytes in base64.
    Embedded(&'a str, &'a str),
    /// Somewhere else: its media type, if anything tells, and its URL.
    Linked(Option<&'static str>, &'a str),
}

impl<'a> Image<'a> {
    /// `declared` is the media type that counts more than what the URL says.
    pub(crate) fn of(url: &'a str, declared: Option<&'a str>) -> Self {
        let embedded = url
            .strip_prefix("data:")
            .and_then(|rest| rest.split_once(";base64,"));
        match embedded {
            Some((media, data)) => {
                let media = media.split(';').next().filter(|media| !media.is_empty());
                Self::Embedded(declared.or(media).unwrap_or("image/png"), data)
            }
            None => Self::Linked(by_extension(url), url),
        }
    }
}

fn by_extension(url: &str) -> Option<&'static str> {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let (_, extension) = path.rsplit_once('.')?;
    match extension.to_ascii_lowercase().as_str() {
        "png" => Some("image/png"),
        "jpg" | "jpeg" => Some("image/jpeg"),
        "gif" => Some("image/gif"),
        "webp" => Some("image/webp"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_embedded_or_linked() {
        for (url, declared, image) in [
            (
                "data:image/jpeg;base64,AA",
                None,
                Image::Embedded("image/jpeg", "AA"),
            ),
            ("data:;base64,AA", None, Image::Embedded("image/png", "AA")),
            (
                "data:image/png;name=x;base64,AA",
                None,
                Image::Embedded("image/png", "AA"),
            ),
            (
                "data:image/png;base64,AA",
                Some("image/webp"),
                Image::Embedded("image/webp", "AA"),
            ),
        ] {
            assert_eq!(Image::of(url, declared), image);
        }
        let linked = "https://x.example/a.JPG?size=2";
        assert_eq!(
            Image::of(linked, None),
            Image::Linked(Some("image/jpeg"), linked)
        );
    }
}
