//! What a provider's refusal means: error bodies of every shape in use, read into a [`Failure`].
//!
//! Codes count more than the status, and the status more than the text.

use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::fault::{Failure, Fault};
use super::json::{Wide, Word, lenient};
use wire::{Detail, Fields, Problem, Violation};
use words::{CONTEXT_PHRASES, KEY_PHRASES, by_word};

#[cfg(test)]
mod tables;
mod wire;
mod words;

/// An error as a body or an event of a stream has it.
#[derive(Debug, Default)]
pub(crate) struct Rejection {
    code: Option<String>,
    kind: Option<String>,
    param: Option<String>,
    request_id: Option<String>,
    /// In lower case; only ever searched.
    message: String,
    status: Option<u16>,
    moderated: bool,
    /// A limit per day was reached.
    daily: bool,
    retry_after: Option<Duration>,
}

impl Rejection {
    /// Reads the body of a response that is not 2xx. Whatever it is, it is a rejection.
    pub(crate) fn of_body(body: &str) -> Self {
        Self::of_value(body).unwrap_or_else(|| Self {
            message: body.to_lowercase(),
            ..Self::default()
        })
    }

    /// Reads what is known to be an error: an error object or string, bare or under `error`.
    pub(crate) fn of_value(json: &str) -> Option<Self> {
        let mut rejection = Self::default();
        let array = serde_json::from_str::<Vec<&RawValue>>(json).unwrap_or_default();
        rejection
            .read(array.first().map_or(json, |first| first.get()), 0)
            .then_some(rejection)
    }

    /// The error in a JSON object of a stream or of a 200, if it has one.
    pub(crate) fn within(json: &str) -> Option<Self> {
        let array = serde_json::from_str::<Vec<&RawValue>>(json).unwrap_or_default();
        let json = array.first().map_or(json, |first| first.get());
        let fields: Fields<'_> = object(json)?;
        let flagged = fields.error.is_some_and(is_truthy)
            || fields.error_type.is_some()
            || fields.r#type.as_ref().is_some_and(|kind| kind.0 == "error")
            || (fields.message.is_some() && is_error_object(json));
        if flagged { Self::of_value(json) } else { None }
    }

    fn read(&mut self, json: &str, depth: usize) -> bool {
        if let Ok(text) = serde_json::from_str::<Wide>(json) {
            self.message = text.into_text().to_lowercase();
            return true;
        }
        let Some(fields) = object::<Fields<'_>>(json) else {
            return false;
        };
        if let Some(inner) = fields.error.filter(|error| depth < 2 && is_truthy(error)) {
            self.read(inner.get(), depth + 1);
        }
        let word = |word: Option<Word>| word.map(|word| word.0);
        // What is nested deeper was read first, and is more specific.
        if let Some(details) = fields.details {
            self.read_details(details);
        }
        self.set_code(word(fields.code));
        self.set_code(
            fields
                .innererror
                .and_then(|inner| inner.code)
                .map(|code| code.0),
        );
        self.kind = self
            .kind
            .take()
            .or(word(fields.error_type))
            .or(word(fields.r#type));
        self.param = self.param.take().or(word(fields.param));
        self.request_id = self.request_id.take().or(word(fields.request_id));
        self.status = self
            .status
            .or_else(|| http_status(&fields.status_code?.0))
            .or_else(|| http_status(&fields.raw_status_code?.0));
        // Google's word for a code; others have the HTTP status there, or a state.
        if let Some(status) = word(fields.status) {
            match http_status(&status) {
                Some(status) => self.status = self.status.or(Some(status)),
                None if status.bytes().all(|b| b.is_ascii_uppercase() || b == b'_') => {
                    self.set_code(Some(status.clone()));
                    self.kind = self.kind.take().or(Some(status));
                }
                None => {}
            }
        }
        self.moderated |= fields
            .metadata
            .and_then(|meta| meta.reasons)
            .is_some_and(|reasons| !reasons.is_empty());
        if self.message.is_empty() {
            let said = fields.message.or(fields.error_message).map(Wide::into_text);
            self.message = said
                .or_else(|| fields.detail.map(detail))
                .unwrap_or_default()
                .to_lowercase();
        }
        true
    }

    fn read_details(&mut self, details: &RawValue) {
        let list = serde_json::from_str::<Vec<&RawValue>>(details.get());
        for detail in list.unwrap_or_else(|_| vec![details]) {
            let Some(detail) = object::<Detail<'_>>(detail.get()) else {
                continue;
            };
            self.set_code(detail.error_code.or(detail.reason).map(|code| code.0));
            let delay = detail.retry_delay.and_then(|delay| {
                Duration::try_from_secs_f64(delay.0.strip_suffix('s')?.parse().ok()?).ok()
            });
            self.retry_after = self.retry_after.or(delay.filter(|delay| !delay.is_zero()));
            for violation in detail.violations.unwrap_or_default() {
                self.daily |= object::<Violation>(violation.get())
                    .and_then(|violation| violation.quota_id)
                    .is_some_and(|id| id.0.contains("PerDay"));
            }
        }
    }

    /// Takes a code; a number that is an HTTP status is one.
    fn set_code(&mut self, code: Option<String>) {
        let Some(code) = code.filter(|code| !code.is_empty()) else {
            return;
        };
        match http_status(&code) {
            Some(status) => self.status = self.status.or(Some(status)),
            None => self.code = self.code.take().or(Some(code)),
        }
    }

    /// What it means. `status` is that of the response, `None` inside a stream.
    pub(crate) fn into_failure(self, status: Option<u16>) -> Failure {
        // A 200 that holds an error says nothing about it.
        let telling = status.filter(|status| *status >= 300).or(self.status);
        let fault = self.fault(telling);
        let mut failure = Failure::new(fault);
        if fault == Fault::NotFound && self.is_about_model() {
            failure = failure.of_model();
        }
        if let Some(status) = telling.or(status) {
            failure = failure.with_status(status);
        }
        failure
            .with_token("provider_code", self.code.as_deref())
            .with_token(
                "provider_type",
                self.kind.as_deref().filter(|kind| *kind != "error"),
            )
            .with_token("param", self.param.as_deref())
            .with_token("request_id", self.request_id.as_deref())
            .with_retry_after(self.retry_after)
    }

    fn fault(&self, status: Option<u16>) -> Fault {
        let words = || {
            [self.code.as_deref(), self.kind.as_deref()]
                .into_iter()
                .flatten()
        };
        if self.moderated {
            return Fault::ContentFiltered;
        }
        if self.daily {
            return Fault::QuotaExhausted;
        }
        let fault = words().find_map(|word| by_word(word, status));
        if let Some(fault) = fault.filter(|fault| *fault != Fault::Server) {
            return fault;
        }
        // These sentences are specific enough to be believed beside a vague code.
        if matches!(status, None | Some(400 | 413 | 422 | 500))
            && contains_any(&self.message, CONTEXT_PHRASES)
        {
            return Fault::ContextTooLong;
        }
        if let Some(fault) = fault {
            return fault;
        }
        match status {
            Some(status) => self.by_status(status),
            None if words().any(|word| word.starts_with("invalid_request")) => {
                Fault::InvalidRequest
            }
            None => Fault::Server,
        }
    }

    fn by_status(&self, status: u16) -> Fault {
        let says = |phrases| contains_any(&self.message, phrases);
        match status {
            200..=399 => Fault::InvalidResponse,
            400 if says(KEY_PHRASES) => Fault::Auth,
            400 if self.message.starts_with("invalid model") => Fault::NotFound,
            401 => Fault::Auth,
            402 => Fault::QuotaExhausted,
            403 if says(&["flagged", "moderation"]) => Fault::ContentFiltered,
            403 => Fault::Permission,
            404 => Fault::NotFound,
            408 | 504 => Fault::Timeout,
            413 => Fault::RequestTooLarge,
            425 | 498 | 529 => Fault::Overloaded,
            429 => Fault::RateLimited,
            501 => Fault::InvalidRequest,
            503 if says(&["overload", "capacity", "busy"]) => Fault::Overloaded,
            424 | 499 | 500.. => Fault::Server,
            _ => Fault::InvalidRequest,
        }
    }

    /// True if what was not found is the model, and not the address.
    fn is_about_model(&self) -> bool {
        let word = |word: &str| word.contains("model");
        self.code.as_deref().is_some_and(word)
            || self.kind.as_deref().is_some_and(word)
            || self.message.starts_with("model:")
            || self.message.starts_with("invalid model")
            || (self.message.contains("model")
                && contains_any(&self.message, &["not found", "not exist", "unknown"]))
    }
}

/// Reads a JSON object; derived code would also take an array for one.
fn object<'a, T: Deserialize<'a>>(json: &'a str) -> Option<T> {
    json.trim_start()
        .starts_with('{')
        .then(|| serde_json::from_str(json).ok())
        .flatten()
}

fn contains_any(text: &str, phrases: &[&str]) -> bool {
    phrases.iter().any(|phrase| text.contains(phrase))
}

fn http_status(code: &str) -> Option<u16> {
    code.parse()
        .ok()
        .filter(|status| (400..600).contains(status))
}

fn is_truthy(value: &RawValue) -> bool {
    !matches!(value.get(), "null" | "false" | "\"\"" | "{}" | "[]" | "0")
}

/// True for the flat shape `{"object":"error","message":…}`.
fn is_error_object(json: &str) -> bool {
    #[derive(Deserialize)]
    struct Object {
        #[serde(default, deserialize_with = "lenient")]
        object: Option<Word>,
    }
    serde_json::from_str::<Object>(json)
        .is_ok_and(|it| it.object.is_some_and(|object| object.0 == "error"))
}

/// The sentences of a `detail`, which is a string or a list of problems. What was refused, which the
/// list repeats, is not among them.
fn detail(detail: &RawValue) -> String {
    if let Ok(text) = serde_json::from_str::<Wide>(detail.get()) {
        return text.into_text();
    }
    let problems: Vec<Problem> = serde_json::from_str(detail.get()).unwrap_or_default();
    let sentences: Vec<String> = problems
        .into_iter()
        .filter_map(|it| it.msg)
        .map(Wide::into_text)
        .collect();
    sentences.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn fault(status: u16, body: &str) -> Fault {
        Rejection::of_body(body).into_failure(Some(status)).fault()
    }

    #[test]
    fn codes_count_more_than_the_status() {
        let quota = r#"{"error":{"message":"x","type":"insufficient_quota","code":"credit_balance_exhausted"}}"#;
        assert_eq!(fault(429, quota), Fault::QuotaExhausted);
        assert_eq!(
            fault(
                429,
                r#"{"error":{"type":"insufficient_quota","code":"project_spend_limit_exceeded"}}"#
            ),
            Fault::QuotaExhausted
        );
        assert_eq!(
            fault(503, r#"{"error":{"code":"slow_down"}}"#),
            Fault::Overloaded
        );
        assert_eq!(
            fault(
                413,
                r#"{"error":{"message":"TPM","type":"tokens","code":"rate_limit_exceeded"}}"#
            ),
            Fault::RequestTooLarge
        );
        assert_eq!(
            fault(400, r#"{"error":{"code":"model_not_found"}}"#),
            Fault::NotFound
        );
        let azure = r#"{"error":{"message":"x","type":null,"code":"content_filter","status":400,"innererror":{"code":"ResponsibleAIPolicyViolation"}}}"#;
        assert_eq!(fault(400, azure), Fault::ContentFiltered);
    }

    #[test]
    fn the_status_counts_more_than_the_text() {
        let body = r#"{"error":{"message":"token 429: rate limit, overloaded","type":"invalid_request_error","code":null}}"#;
        assert_eq!(fault(400, body), Fault::InvalidRequest);
        for (status, expected) in [
            (302, Fault::InvalidResponse),
            (401, Fault::Auth),
            (402, Fault::QuotaExhausted),
            (403, Fault::Permission),
            (404, Fault::NotFound),
            (408, Fault::Timeout),
            (409, Fault::InvalidRequest),
            (413, Fault::RequestTooLarge),
            (422, Fault::InvalidRequest),
            (429, Fault::RateLimited),
            (498, Fault::Overloaded),
            (500, Fault::Server),
            (501, Fault::InvalidRequest),
            (502, Fault::Server),
            (503, Fault::Server),
            (504, Fault::Timeout),
            (529, Fault::Overloaded),
        ] {
            for body in ["", "{}", "<html>nginx</html>", r#"{"error":null}"#, "[]"] {
                assert_eq!(fault(status, body), expected, "{status} {body}");
            }
        }
    }

    #[test]
    fn every_shape_of_a_long_context_is_recognized() {
        for (status, body) in [
            (
                400,
                r#"{"error":{"message":"This model's maximum context length is 8192 tokens.","type":"BadRequestError","param":null,"code":400}}"#,
            ),
            (
                400,
                r#"{"object":"error","message":"This model's maximum context length is 8192 tokens.","type":"BadRequestError","code":400}"#,
            ),
            (
                400,
                r#"{"error":{"message":"Input tokens exceed the configured limit","code":null}}"#,
            ),
            (
                500,
                r#"{"error":{"code":500,"message":"Context size has been exceeded.","type":"server"}}"#,
            ),
            (
                400,
                r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 5 tokens > 4 maximum"}}"#,
            ),
            (
                400,
                r#"[{"error":{"code":400,"message":"The input token count (9) exceeds the maximum number of tokens allowed (8)."}}]"#,
            ),
            (
                400,
                r#"{"error_type":"context_length_exceeded","error_message":"x"}"#,
            ),
        ] {
            assert_eq!(fault(status, body), Fault::ContextTooLong, "{body}");
        }
        assert_eq!(
            fault(401, r#"{"error":{"message":"maximum context length"}}"#),
            Fault::Auth
        );
    }

    #[test]
    fn odd_shapes_are_read() {
        assert_eq!(fault(401, r#"{"detail":"Invalid API Key"}"#), Fault::Auth);
        assert_eq!(
            fault(
                400,
                r#"{"code":"invalid-argument","error":"Incorrect API key provided."}"#
            ),
            Fault::Auth
        );
        assert_eq!(
            fault(
                400,
                r#"{"object":"error","message":"Invalid model: x","type":"invalid_model","param":null,"code":"1500"}"#
            ),
            Fault::NotFound
        );
        assert_eq!(
            fault(
                403,
                r#"{"error":{"code":403,"message":"x","metadata":{"reasons":["violence"]}}}"#
            ),
            Fault::ContentFiltered
        );
        assert_eq!(
            fault(400, r#"{"error":{"error":{"error":{"error":"deep"}}}}"#),
            Fault::InvalidRequest
        );
    }

    #[test]
    fn an_unknown_model_differs_from_a_wrong_address() {
        let kind = |body| {
            Rejection::of_body(body)
                .into_failure(Some(404))
                .into_error("p")
                .kind()
        };
        assert_eq!(
            kind(r#"{"error":{"code":"model_not_found"}}"#),
            ErrorKind::InvalidInput
        );
        assert_eq!(
            kind(
                r#"{"type":"error","error":{"type":"not_found_error","message":"model: claude-nope"}}"#
            ),
            ErrorKind::InvalidInput
        );
        assert_eq!(
            kind(r#"{"error":"Specified model not found: nope."}"#),
            ErrorKind::InvalidInput
        );
        assert_eq!(kind("404 page not found"), ErrorKind::ProviderRejected);
        assert_eq!(
            kind(r#"{"type":"error","error":{"type":"not_found_error","message":"Not Found"}}"#),
            ErrorKind::ProviderRejected
        );
    }

    #[test]
    fn an_error_inside_a_stream_is_told_from_a_chunk() {
        for chunk in [
            r#"{"choices":[],"error":null}"#,
            r#"{"type":"ping"}"#,
            r#"{"error":{}}"#,
            "1",
            "\"x\"",
            "{",
        ] {
            assert!(Rejection::within(chunk).is_none(), "{chunk}");
        }
        let failure = |json| Rejection::within(json).unwrap().into_failure(None);
        assert_eq!(
            failure(r#"{"error":{"code":502,"message":"gone"}}"#).fault(),
            Fault::Server
        );
        let error = failure(r#"{"error":{"code":502,"message":"gone"}}"#).into_error("p");
        assert_eq!(error.context_value("status"), Some("502"));
        assert_eq!(
            failure(r#"{"object":"error","message":"x","code":40303}"#).fault(),
            Fault::Server
        );
        assert_eq!(
            failure(r#"{"type":"error","error":{"type":"overloaded_error"}}"#).fault(),
            Fault::Overloaded
        );
        assert_eq!(failure(r#"{"error":"boom"}"#).fault(), Fault::Server);
    }

    #[test]
    fn what_the_other_side_says_stays_out_of_the_error() {
        let body = r#"{"error":{"message":"Incorrect API key provided: sk-live-SECRET","type":"invalid_request_error","param":"your words: hello","code":"invalid_api_key"},"request_id":"req_1"}"#;
        let error = Rejection::of_body(body)
            .into_failure(Some(401))
            .into_error("openai");
        let printed = format!("{error} {error:?}");
        assert!(
            !printed.contains("SECRET") && !printed.contains("hello"),
            "{printed}"
        );
        assert_eq!(
            error.context_value("provider_code"),
            Some("invalid_api_key")
        );
        assert_eq!(error.context_value("request_id"), Some("req_1"));
    }
}
