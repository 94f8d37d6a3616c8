//! A learner's conversations as files: to take along, and to bring in.

use std::fmt::Write;

use axum::Json;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use bytes::Buf;
use futures_util::stream;
use http::{StatusCode, header};
use http_body_util::BodyExt;
use serde::Serialize;
use serde_json::Value;
use tutor_core::message::Author;
use tutor_core::store::WholeSession;
use tutor_core::transfer::{Importer, OnConflict};
use tutor_core::{Error, ErrorKind, Message, SessionId};
use utoipa::ToSchema;

use super::App;
use crate::error::ApiError;
use crate::openapi::{ErrorBody, HTTPValidationError};
use crate::params::{PathId, Query};
use crate::state::AppState;
use crate::validate::Checker;
use crate::wire;

const NDJSON: &str = "application/x-ndjson";

/// Export everything
///
/// All of your conversations, one thing a line. Each conversation is as it was at one moment; the
/// last line counts them, so that a file that was cut off is known.
#[utoipa::path(get, path = "/api/export", tag = "sessions", operation_id = "export",
    responses((status = 200, description = "The export", body = String,
        content_type = "application/x-ndjson")))]
pub(super) async fn export(App(state): App) -> Response {
    let exporter = state.tutor.export();
    let lines = stream::unfold(Some(exporter), |exporter| async move {
        let mut exporter = exporter?;
        match exporter.next().await {
            Ok(lines) => Some((Ok(lines?), Some(exporter))),
            Err(error) => {
                tracing::error!(%error, "an export was cut off");
                Some((Err(error), None))
            }
        }
    });
    attachment(Body::from_stream(lines), NDJSON, "conversations.ndjson")
}

/// A conversation as a file.
#[derive(Serialize, ToSchema)]
pub(super) struct SessionExport {
    session: wire::Session,
    /// On all branches, in the order in which they were stored.
    #[schema(value_type = Vec<Object>)]
    messages: Vec<Message>,
}

/// Export a conversation
///
/// As JSON with all branches, or its active branch as Markdown.
#[utoipa::path(get, path = "/api/sessions/{session_id}/export", tag = "sessions",
    operation_id = "export_session",
    params(
        ("session_id" = String, Path),
        ("format" = Option<String>, Query, description = "`json` (the default) or `markdown`")),
    responses(
        (status = 200, description = "The conversation", content(
            (SessionExport = "application/json"), (String = "text/markdown"))),
        (status = 404, description = "There is none", body = ErrorBody),
        (status = 422, description = "Validation Error", body = HTTPValidationError)))]
pub(super) async fn export_session(
    App(state): App,
    PathId(id): PathId<SessionId>,
    query: Query,
) -> Result<Response, ApiError> {
    let mut checker = Checker::new("query");
    let is_markdown = choice(&mut checker, &query, "format", &["json", "markdown"]);
    let is_markdown = checker.finish(is_markdown)? == "markdown";
    let whole = state.tutor.whole_session(&id).await?;
    if is_markdown {
        let text = markdown(&whole);
        let name = format!("{id}.md");
        return Ok(attachment(
            text.into(),
            "text/markdown; charset=utf-8",
            &name,
        ));
    }
    let export = SessionExport {
        session: whole.session.into(),
        messages: whole.messages,
    };
    let mut response = Json(export).into_response();
    disposition(&mut response, &format!("{id}.json"));
    Ok(response)
}

/// What an import did.
#[derive(Serialize, ToSchema)]
pub(super) struct ImportResult {
    /// Conversations in the file.
    sessions: u64,
    /// Messages in the file.
    messages: u64,
    /// Conversations that are new.
    added: u64,
    /// Conversations that were there already, equal.
    unchanged: u64,
    /// Conversations that were there, differed, and were replaced.
    replaced: u64,
    /// Conversations that were there, differ, and were kept.
    kept: u64,
    /// Uploaded files that the messages name. Their bytes are not in an export: upload again what
    /// is not here.
    files: u64,
}

/// Import conversations
///
/// An export of this server or another one; all of it becomes yours. Each conversation is imported
/// whole or not at all, and sending the same file again does what is left to do.
#[utoipa::path(post, path = "/api/import", tag = "sessions", operation_id = "import",
    params(("on_conflict" = Option<String>, Query, description =
        "What to do with conversations that are there and differ: `fail` (the default), `keep` them, or `replace` them")),
    request_body(content = String, content_type = "application/x-ndjson"),
    responses((status = 200, description = "Imported", body = ImportResult),
        (status = 409, description = "A conversation is there and differs", body = ErrorBody),
        (status = 415, description = "The body is no NDJSON", body = ErrorBody),
        (status = 422, description = "Validation Error, or the file is damaged", body = HTTPValidationError)))]
pub(super) async fn import(
    App(state): App,
    query: Query,
    request: Request,
) -> Result<Json<ImportResult>, ApiError> {
    let mut checker = Checker::new("query");
    let choices = ["fail", "keep", "replace"];
    let on_conflict = choice(&mut checker, &query, "on_conflict", &choices);
    let on_conflict = match checker.finish(on_conflict)? {
        "keep" => OnConflict::Keep,
        "replace" => OnConflict::Replace,
        _ => OnConflict::Fail,
    };
    // Also what keeps foreign pages from posting without a preflight.
    let kind = request.headers().get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case(NDJSON) {
        return Err(ApiError::Http(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "send an export, as application/x-ndjson",
        ));
    }
    let importer = state.tutor.import(on_conflict);
    let body = request.into_body();
    let done = receive(importer, body, &state).await?.finish().await;
    let done = done.map_err(with_line)?;
    Ok(Json(ImportResult {
        sessions: done.read.sessions,
        messages: done.read.messages,
        added: done.added,
        unchanged: done.unchanged,
        replaced: done.replaced,
        kept: done.kept,
        files: done.files,
    }))
}

/// What has arrived counts against the budget of all bodies until the import is over.
async fn receive(
    mut importer: Importer,
    mut body: Body,
    state: &AppState,
) -> Result<Importer, ApiError> {
    let bounds = &state.bounds;
    let (mut received, mut budget) = (0, Vec::new());
    loop {
        let frame = match tokio::time::timeout(bounds.body_timeout, body.frame()).await {
            Ok(Some(frame)) => frame.map_err(|_| ApiError::BAD_BODY)?,
            Ok(None) => return Ok(importer),
            Err(_) => {
                return Err(ApiError::Http(
                    StatusCode::REQUEST_TIMEOUT,
                    "Request body took too long",
                ));
            }
        };
        let Ok(data) = frame.into_data() else {
            continue;
        };
        received += data.remaining();
        if received > bounds.max_import_bytes {
            let max = bounds.max_import_bytes;
            let message = format!("an import has at most {max} bytes: send it in parts");
            return Err(Error::new(ErrorKind::TooLarge, message).into());
        }
        budget.push(state.hold(data.remaining())?);
        importer.write(&data).await.map_err(with_line)?;
    }
}

/// A client reads only the sentence.
fn with_line(error: Error) -> ApiError {
    match error.context_value("line") {
        Some(line) => Error::new(error.kind(), format!("line {line}: {}", error.message())).into(),
        None => error.into(),
    }
}

/// One of some words, the first one if none is given.
fn choice(
    checker: &mut Checker,
    query: &Query,
    name: &'static str,
    words: &[&'static str],
) -> Option<&'static str> {
    let Some(given) = query.get(name) else {
        return words.first().copied();
    };
    let found = words.iter().find(|word| **word == given).copied();
    if found.is_none() {
        checker.within(name, |c| {
            let why = format!("send one of {}", words.join(", "));
            c.fail_value(&why, &Value::from(given));
        });
    }
    found
}

fn attachment(body: Body, kind: &'static str, name: &str) -> Response {
    let mut response = ([(header::CONTENT_TYPE, kind)], body).into_response();
    disposition(&mut response, name);
    response
}

/// Names are ids, which need no quoting.
fn disposition(response: &mut Response, name: &str) {
    let value = format!("attachment; filename=\"{name}\"");
    if let Ok(value) = value.parse() {
        response
            .headers_mut()
            .insert(header::CONTENT_DISPOSITION, value);
    }
}

/// The active branch.
fn markdown(whole: &WholeSession) -> String {
    let mut line = Vec::new();
    let mut next = whole.session.head.as_ref();
    // A message is stored after its parent.
    for message in whole.messages.iter().rev() {
        if Some(&message.id) == next {
            next = message.parent_id.as_ref();
            line.push(message);
        }
    }
    let title = whole.session.title.replace(['\n', '\r'], " ");
    let mut text = format!("# {title}\n");
    for message in line.into_iter().rev() {
        let who = match message.author {
            Author::Learner => "Learner",
            Author::Tutor => "Tutor",
            Author::Teacher => "Teacher",
        };
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "\n## {who}, {}\n\n{}\n",
            message.timestamp,
            message.content.text().trim_end()
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_file_is_told_by_its_line() {
        let error = Error::invalid_input("it is damaged").with_context("line", 7);
        let ApiError::Engine(error) = with_line(error) else {
            panic!();
        };
        assert_eq!(error.message(), "line 7: it is damaged");
        assert_eq!(error.code(), "invalid_input");
    }
}
