//! The name of one request, in its answer and in the log.

use http::{HeaderMap, HeaderName};
use tutor_core::time::Runtime;

pub(super) const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// The id that the client or a proxy gave, if it can go into a log as it is; else a new one.
pub(super) fn of(headers: &HeaderMap, runtime: &dyn Runtime) -> String {
    let given = headers.get(HEADER).and_then(|id| id.to_str().ok());
    match given.filter(|id| is_valid(id)) {
        Some(id) => id.to_owned(),
        None => runtime.new_id(),
    }
}

fn is_valid(id: &str) -> bool {
    (8..=64).contains(&id.len())
        && id
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_ids_are_taken_over() {
        for id in ["12345678", "Req_1-abcdef", &"x".repeat(64)] {
            assert!(is_valid(id), "{id}");
        }
        for id in [
            "",
            "1234567",
            "with space",
            "new\nline",
            "é2345678",
            &"x".repeat(65),
        ] {
            assert!(!is_valid(id), "{id}");
        }
    }

    #[test]
    fn an_id_that_the_runtime_makes_is_valid() {
        assert!(is_valid(&tutor_core::time::SystemRuntime.new_id()));
    }
}
