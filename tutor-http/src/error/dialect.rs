//! Errors as the clients of other protocols expect them.

use http::StatusCode;
use serde_json::{Value, json};
use tutor_core::ErrorInfo;

/// In whose words a path's errors are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// The server's own.
    Native,
    /// OpenAI's.
    OpenAi,
    /// Anthropic's.
    Anthropic,
}

impl Dialect {
    /// That of a path.
    pub(crate) fn of(path: &str) -> Self {
        let below = |root: &str| {
            let rest = path.strip_prefix(root);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if below("/v1/messages") {
            Self::Anthropic
        } else if below("/v1") {
            Self::OpenAi
        } else {
            Self::Native
        }
    }

    /// The status in this dialect: these protocols know no 422.
    pub(crate) fn status(self, status: StatusCode) -> StatusCode {
        match self {
            Self::OpenAi | Self::Anthropic if status == StatusCode::UNPROCESSABLE_ENTITY => {
                StatusCode::BAD_REQUEST
            }
            _ => status,
        }
    }

    /// The body of an error; `None` in the server's own words, which say more.
    pub(crate) fn body(
        self,
        status: StatusCode,
        code: Option<&str>,
        message: &str,
        request_id: &str,
    ) -> Option<Value> {
        match self {
            Self::Native => None,
            Self::OpenAi => Some(openai(
                openai_type(status),
                code_name(status, code),
                message,
            )),
            Self::Anthropic => {
                let mut body = anthropic(anthropic_type(status), message);
                body["request_id"] = json!(request_id);
                Some(body)
            }
        }
    }
}

fn code_name(status: StatusCode, code: Option<&str>) -> &str {
    match code {
        Some("context_too_long") => "context_length_exceeded",
        Some(code) => code,
        None if status == StatusCode::NOT_FOUND => "not_found",
        None if status == stopped_status() => STOPPED_CODE,
        None => "invalid_request",
    }
}

/// The status of a reply that somebody stopped: what proxies write down for a request that was
/// ended from outside.
pub(super) fn stopped_status() -> StatusCode {
    StatusCode::from_u16(499).unwrap_or(StatusCode::CONFLICT)
}

/// What such a reply is called.
pub(crate) const STOPPED_CODE: &str = "cancelled";

/// OpenAI's error object. All four members are always there.
pub(crate) fn openai(kind: &str, code: &str, message: &str) -> Value {
    json!({"error": {"message": message, "type": kind, "param": null, "code": code}})
}

/// Why a turn failed, in OpenAI's words.
pub(crate) fn openai_info(error: &ErrorInfo) -> Value {
    let status = status_of(error);
    openai(
        openai_type(status),
        code_name(status, Some(&error.code)),
        &error.message,
    )
}

fn openai_type(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => "authentication_error",
        StatusCode::FORBIDDEN => "permission_error",
        StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
        status if status.is_server_error() || status == stopped_status() => "server_error",
        _ => "invalid_request_error",
    }
}

/// Anthropic's error object.
pub(crate) fn anthropic(kind: &str, message: &str) -> Value {
    json!({"type": "error", "error": {"type": kind, "message": message}})
}

/// Why a turn failed, in Anthropic's words.
pub(crate) fn anthropic_info(error: &ErrorInfo) -> Value {
    anthropic(anthropic_type(status_of(error)), &error.message)
}

fn anthropic_type(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => "authentication_error",
        StatusCode::FORBIDDEN => "permission_error",
        StatusCode::NOT_FOUND => "not_found_error",
        StatusCode::PAYLOAD_TOO_LARGE => "request_too_large",
        StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
        StatusCode::SERVICE_UNAVAILABLE => "overloaded_error",
        StatusCode::GATEWAY_TIMEOUT => "timeout_error",
        status if status.is_server_error() || status == stopped_status() => "api_error",
        _ => "invalid_request_error",
    }
}

fn status_of(error: &ErrorInfo) -> StatusCode {
    let kind = tutor_core::ErrorKind::from_code(&error.code);
    kind.map_or(StatusCode::INTERNAL_SERVER_ERROR, super::status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_tells_the_dialect() {
        for (path, dialect) in [
            ("/v1/chat/completions", Dialect::OpenAi),
            ("/v1/models/x", Dialect::OpenAi),
            ("/v1", Dialect::OpenAi),
            ("/v1/messages", Dialect::Anthropic),
            ("/v1/messages/count_tokens", Dialect::Anthropic),
            ("/v1/messagesx", Dialect::OpenAi),
            ("/v1x", Dialect::Native),
            ("/api/chat", Dialect::Native),
        ] {
            assert_eq!(Dialect::of(path), dialect, "{path}");
        }
    }

    #[test]
    fn an_openai_error_has_all_four_members() {
        let body = Dialect::OpenAi
            .body(StatusCode::NOT_FOUND, None, "Not Found", "r1")
            .unwrap();
        assert_eq!(
            body,
            json!({"error": {"message": "Not Found", "type": "invalid_request_error",
                "param": null, "code": "not_found"}})
        );
    }

    #[test]
    fn an_anthropic_error_names_the_request() {
        let body = Dialect::Anthropic
            .body(
                StatusCode::SERVICE_UNAVAILABLE,
                Some("overloaded"),
                "busy",
                "r1",
            )
            .unwrap();
        assert_eq!(
            body,
            json!({"type": "error", "request_id": "r1",
                "error": {"type": "overloaded_error", "message": "busy"}})
        );
    }
}
