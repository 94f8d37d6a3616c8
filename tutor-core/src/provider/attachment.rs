//! Files in a prompt.

use crate::event::Notice;

/// What stands for a file whose content nobody put into the request.
pub(crate) fn placeholder(name: Option<&str>, notices: &mut Vec<Notice>) -> String {
    let notice = Notice::new(
        "attachment_ignored",
        "the content of a file was not sent: the model sees only its name",
    );
    if !notices.contains(&notice) {
        notices.push(notice);
    }
    format!("[attached file: {}]", name.unwrap_or("unnamed"))
}
