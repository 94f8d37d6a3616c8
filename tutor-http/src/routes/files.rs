//! Uploaded files, which messages name by their ids.

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::multipart::Field;
use axum::extract::{DefaultBodyLimit, FromRequest, Multipart, Request};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_json::Value;
use tutor_core::file::{FileInfo, FileStore, Upload};
use tutor_core::session::{Cursor, MAX_PAGE};
use tutor_core::{Error, ErrorKind};
use utoipa::ToSchema;

use super::{App, to_the_end};
use crate::error::ApiError;
use crate::openapi::{ErrorBody, HTTPValidationError};
use crate::paced::{MAX_HEAD_BYTES, Paced, Unread};
use crate::params::{PathText, Query};
use crate::state::AppState;
use crate::validate::{Checker, Problem};

/// Bytes around a file in the body that brings it: boundaries, the heads of parts, and other parts.
const FRAME_BYTES: u64 = MAX_HEAD_BYTES as u64;

/// An uploaded file.
#[derive(Serialize, ToSchema)]
pub(super) struct File {
    /// Send it in messages as `{"type": "file", "file_id": …}`.
    id: String,
    name: Option<String>,
    /// What it is, by its bytes.
    media_type: String,
    /// Its length.
    bytes: u64,
    #[schema(format = DateTime)]
    created_at: String,
}

impl From<FileInfo> for File {
    fn from(info: FileInfo) -> Self {
        Self {
            id: info.id,
            name: info.name,
            media_type: info.media_type,
            bytes: info.bytes,
            created_at: info.created_at.to_string(),
        }
    }
}

/// Files in the order of their uploads.
#[derive(Serialize, ToSchema)]
pub(super) struct FileList {
    files: Vec<File>,
    /// Send it as `cursor` to read on; null if there is nothing more.
    next_cursor: Option<String>,
}

/// A file to upload.
#[derive(ToSchema)]
#[expect(dead_code, reason = "documents what `upload` reads")]
pub(super) struct FileForm {
    #[schema(value_type = String, format = Binary)]
    file: Vec<u8>,
}

fn files(state: &AppState) -> Result<FileStore, ApiError> {
    state
        .files
        .clone()
        .ok_or_else(|| Error::new(ErrorKind::NotFound, "this server takes no files").into())
}

/// Upload a file
///
/// An image (PNG, JPEG, GIF, WebP), a PDF or text, as the part `file` of a form. Messages name it
/// by its id: a model is shown images and texts, and of a PDF the name.
#[utoipa::path(post, path = "/api/files", tag = "files", operation_id = "upload_file",
    request_body(content = FileForm, content_type = "multipart/form-data"),
    responses((status = 201, description = "Kept", body = File),
        (status = 404, description = "This server takes no files", body = ErrorBody),
        (status = 415, description = "The body is no form", body = ErrorBody)))]
pub(super) async fn upload(
    App(state): App,
    request: Request,
) -> Result<(StatusCode, Json<File>), ApiError> {
    let files = files(&state)?;
    let max = files.bounds().max_file_bytes;
    let announced = request.headers().get(header::CONTENT_LENGTH);
    let announced: Option<u64> = announced.and_then(|length| length.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length| length > max + FRAME_BYTES) {
        let message = format!("the file has more than {max} bytes: send a smaller one");
        return Err(Error::new(ErrorKind::TooLarge, message).into());
    }
    let most = usize::try_from(max + FRAME_BYTES).unwrap_or(usize::MAX);
    // What waits until it is enough for the object store, and what was read of the form.
    let held = files.part_bytes() + MAX_HEAD_BYTES;
    let announced = announced.and_then(|length| usize::try_from(length).ok());
    let _held = state.hold(held.min(announced.unwrap_or(held)))?;
    let (head, body) = request.into_parts();
    let (body, unread) = Paced::new(body);
    let mut request = Request::from_parts(head, Body::new(body));
    DefaultBodyLimit::max(most).apply(&mut request);
    let mut form = Multipart::from_request(request, &()).await.map_err(|_| {
        ApiError::Http(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "send a form with the file, as multipart/form-data with a boundary",
        )
    })?;
    let taking = take(&mut form, &unread, &files, &state);
    let taken = tokio::time::timeout(state.bounds.upload_timeout, taking);
    let upload = taken.await.map_err(|_| TOO_SLOW)??;
    let tutor = state.tutor.clone();
    let kept = to_the_end(async move { upload.finish_for(&tutor).await });
    Ok((StatusCode::CREATED, Json(kept.await?.into())))
}

const TOO_SLOW: ApiError =
    ApiError::Http(StatusCode::REQUEST_TIMEOUT, "Request body took too long");

/// Takes the part `file`, piece by piece.
async fn take(
    form: &mut Multipart,
    unread: &Unread,
    files: &FileStore,
    state: &AppState,
) -> Result<Upload, ApiError> {
    let patience = state.bounds.body_timeout;
    loop {
        let field = tokio::time::timeout(patience, form.next_field()).await;
        let field = field.map_err(|_| TOO_SLOW)?;
        let field = field.map_err(|_| ApiError::BAD_BODY)?;
        let Some(mut field) = field else {
            return Err(ApiError::invalid(Problem::new(
                "missing",
                vec!["body".into(), "file".into()],
                "Field required",
                &Value::Null,
            )));
        };
        unread.taken();
        if field.name() != Some("file") {
            // Other parts are read past.
            while piece(&mut field, unread, patience).await?.is_some() {}
            continue;
        }
        let name = field.file_name().map(str::to_owned);
        let mut upload = files.upload(state.tutor.owner(), name).await?;
        loop {
            let failed = match piece(&mut field, unread, patience).await {
                Ok(Some(piece)) => match upload.write(&piece).await {
                    Ok(()) => continue,
                    Err(error) => error.into(),
                },
                Ok(None) => return Ok(upload),
                Err(failed) => failed,
            };
            upload.abort().await;
            return Err(failed);
        }
    }
}

/// The next piece of a part.
async fn piece(
    field: &mut Field<'_>,
    unread: &Unread,
    patience: Duration,
) -> Result<Option<Bytes>, ApiError> {
    let piece = tokio::time::timeout(patience, field.chunk()).await;
    // The connection broke, or the form is no form.
    let piece = piece
        .map_err(|_| TOO_SLOW)?
        .map_err(|_| ApiError::BAD_BODY)?;
    unread.taken();
    Ok(piece)
}

/// List files
///
/// In the order of their uploads.
#[utoipa::path(get, path = "/api/files", tag = "files", operation_id = "list_files",
    params(
        ("limit" = Option<u64>, Query, description = "At most so many", minimum = 1, maximum = 200),
        ("cursor" = Option<String>, Query, description = "The `next_cursor` of the page before")),
    responses((status = 200, description = "A page of files", body = FileList),
        (status = 404, description = "This server takes no files", body = ErrorBody),
        (status = 422, description = "Validation Error", body = HTTPValidationError)))]
pub(super) async fn list(App(state): App, query: Query) -> Result<Json<FileList>, ApiError> {
    let files = files(&state)?;
    let max = MAX_PAGE as u64;
    let mut checker = Checker::new("query");
    let limit = query.number(&mut checker, "limit", max, (1, max));
    let limit = usize::try_from(checker.finish(limit)?).unwrap_or(MAX_PAGE);
    let cursor = query.get("cursor").map(Cursor::from_text);
    let page = files.list(state.tutor.owner(), limit, cursor).await?;
    Ok(Json(FileList {
        files: page.items.into_iter().map(File::from).collect(),
        next_cursor: page.next_cursor.map(|cursor| cursor.as_str().to_owned()),
    }))
}

/// Download a file
///
/// Whole, or a part of it by `Range`. Browsers save it, and never show it as a page.
#[utoipa::path(get, path = "/api/files/{file_id}", tag = "files", operation_id = "read_file",
    params(("file_id" = String, Path),
        ("Range" = Option<String>, Header, description = "One range of bytes, such as `bytes=0-99`"),
        ("If-None-Match" = Option<String>, Header, description = "The `ETag` that is known")),
    responses(
        (status = 200, description = "The file", content(
            (String = "image/png"), (String = "image/jpeg"), (String = "image/gif"),
            (String = "image/webp"), (String = "application/pdf"), (String = "text/plain"),
            (String = "text/markdown"))),
        (status = 206, description = "A part of it", content(
            (String = "image/png"), (String = "image/jpeg"), (String = "image/gif"),
            (String = "image/webp"), (String = "application/pdf"), (String = "text/plain"),
            (String = "text/markdown"))),
        (status = 304, description = "It is the one that is known", content(
            (String = "image/png"), (String = "image/jpeg"), (String = "image/gif"),
            (String = "image/webp"), (String = "application/pdf"), (String = "text/plain"),
            (String = "text/markdown"))),
        (status = 404, description = "There is none", body = ErrorBody),
        (status = 416, description = "It is not that long", body = ErrorBody)))]
pub(super) async fn read(
    App(state): App,
    PathText(id): PathText,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let (files, owner) = (files(&state)?, state.tutor.owner());
    let info = files.info(owner, &id).await?;
    let info = info.ok_or_else(|| Error::not_found("file", &id))?;
    let tag = format!("\"{}\"", info.id);
    let text = |name| {
        headers
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
    };
    let is_known = |tags: &str| {
        tags.split(',').any(|known| {
            matches!(known.trim(), "*") || known.trim().trim_start_matches("W/") == tag
        })
    };
    if text(header::IF_NONE_MATCH).is_some_and(is_known) {
        return Ok(described(
            StatusCode::NOT_MODIFIED,
            Body::empty(),
            &info,
            &tag,
        ));
    }
    // A range of another version is no range of this one.
    let is_same = text(header::IF_RANGE).is_none_or(|known| known == tag);
    let range = text(header::RANGE)
        .filter(|_| is_same)
        .map(|range| part(range, info.bytes));
    let (status, (start, end)) = match range {
        None | Some(Part::Whole) => (StatusCode::OK, (0, info.bytes)),
        Some(Part::Of(start, end)) => (StatusCode::PARTIAL_CONTENT, (start, end)),
        Some(Part::Beyond) => {
            return Err(ApiError::Http(
                StatusCode::RANGE_NOT_SATISFIABLE,
                "the file is not that long",
            ));
        }
    };
    let body = Body::from_stream(files.content(owner, &info, (start, end)).await?);
    let mut response = described(status, body, &info, &tag);
    let of = response.headers_mut();
    of.insert(header::CONTENT_LENGTH, (end - start).into());
    if status == StatusCode::PARTIAL_CONTENT {
        let place = format!("bytes {start}-{}/{}", end - 1, info.bytes);
        put(of, header::CONTENT_RANGE, &place);
    }
    Ok(response)
}

/// Delete a file
///
/// For good. Messages that name it keep its id, and the name that they gave it.
#[utoipa::path(delete, path = "/api/files/{file_id}", tag = "files", operation_id = "delete_file",
    params(("file_id" = String, Path)),
    responses((status = 204, description = "Deleted"),
        (status = 404, description = "There is none", body = ErrorBody)))]
pub(super) async fn delete(
    App(state): App,
    PathText(id): PathText,
) -> Result<StatusCode, ApiError> {
    let (files, owner) = (files(&state)?, state.tutor.owner().clone());
    let name = id.clone();
    let deleted = to_the_end(async move { files.delete(&owner, &name).await }).await?;
    match deleted {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(Error::not_found("file", id).into()),
    }
}

/// A response that is a file. Whatever is in it, a browser takes it for a file to save, without
/// scripts and without guessing.
fn described(status: StatusCode, body: Body, info: &FileInfo, tag: &str) -> Response {
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    let kind = match info.media_type.starts_with("text/") {
        true => format!("{}; charset=utf-8", info.media_type),
        false => info.media_type.clone(),
    };
    for (name, value) in [
        (header::CONTENT_TYPE, kind.as_str()),
        (header::ETAG, tag),
        (header::ACCEPT_RANGES, "bytes"),
        (header::CACHE_CONTROL, "private, no-cache"),
        (
            header::CONTENT_SECURITY_POLICY,
            "sandbox; default-src 'none'",
        ),
    ] {
        put(headers, name, value);
    }
    let name = info.name.as_deref().unwrap_or(&info.id);
    let name: String = form_urlencoded::byte_serialize(name.as_bytes()).collect();
    // What a form writes for a space is no space here.
    let name = name.replace('+', "%20").replace('*', "%2A");
    let shown = format!("attachment; filename*=UTF-8''{name}");
    put(headers, header::CONTENT_DISPOSITION, &shown);
    response
}

fn put(headers: &mut HeaderMap, name: header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

#[derive(Debug, PartialEq)]
enum Part {
    /// Not one range of bytes: it is as if none were asked for.
    Whole,
    /// From the first to before the second.
    Of(u64, u64),
    Beyond,
}

/// What of a file of this length a `Range` asks for.
fn part(range: &str, length: u64) -> Part {
    let Some((first, last)) = range
        .strip_prefix("bytes=")
        .filter(|range| !range.contains(','))
        .and_then(|range| range.trim().split_once('-'))
    else {
        return Part::Whole;
    };
    let number = |text: &str| match text {
        "" => Some(None),
        text if text.bytes().all(|b| b.is_ascii_digit()) => {
            Some(Some(text.parse().unwrap_or(u64::MAX)))
        }
        _ => None,
    };
    match (number(first), number(last)) {
        (Some(Some(first)), Some(last)) => {
            let end = last.map_or(length, |last: u64| last.saturating_add(1).min(length));
            match first < end {
                true => Part::Of(first, end),
                false if last.is_some_and(|last| last < first) => Part::Whole,
                false => Part::Beyond,
            }
        }
        (Some(None), Some(Some(0))) => Part::Beyond,
        (Some(None), Some(Some(last))) => match length {
            0 => Part::Beyond,
            length => Part::Of(length.saturating_sub(last), length),
        },
        _ => Part::Whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_a_part_of_the_file_or_beyond_it_or_no_range() {
        for (range, expected) in [
            ("bytes=0-4", Part::Of(0, 5)),
            ("bytes=5-", Part::Of(5, 10)),
            ("bytes=9-99999999999999999999", Part::Of(9, 10)),
            ("bytes=-3", Part::Of(7, 10)),
            ("bytes=-99", Part::Of(0, 10)),
            ("bytes=10-", Part::Beyond),
            ("bytes=-0", Part::Beyond),
            ("bytes=4-2", Part::Whole),
            ("bytes=0-1,3-4", Part::Whole),
            ("lines=0-1", Part::Whole),
            ("bytes=a-b", Part::Whole),
            ("bytes=-", Part::Whole),
        ] {
            assert_eq!(part(range, 10), expected, "{range}");
        }
    }
}
