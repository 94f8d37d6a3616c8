//! Debug output that tells of people's words only how long they are.

use std::fmt;

/// A text that is not shown.
pub(crate) struct Hidden<'a>(pub(crate) &'a str);

impl fmt::Debug for Hidden<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} bytes>", self.0.len())
    }
}

/// A JSON object of which only the size is shown.
pub(crate) struct HiddenObject<'a>(pub(crate) &'a crate::message::Metadata);

impl fmt::Debug for HiddenObject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} members>", self.0.len())
    }
}
