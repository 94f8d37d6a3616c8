//! What the original server (FastAPI 0.165.0, uvicorn 0.54.0) answers to 104 requests, valid and
//! hostile, and what this one answers to the same bytes.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::client::{Request, Response, send_raw};
use crate::server::Server;

#[derive(Deserialize)]
struct Capture {
    name: String,
    request: Option<Sent>,
    raw: Option<Vec<Part>>,
    response: Answer,
}

#[derive(Deserialize)]
struct Sent {
    method: String,
    path: String,
    headers: BTreeMap<String, String>,
    body: Vec<Part>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Part {
    Text(String),
    Repeat { repeat: String, times: usize },
    Bytes { bytes: Vec<u8> },
}

#[derive(Debug, Deserialize, PartialEq)]
struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    json: Option<Value>,
    text: Option<String>,
}

/// The connection is closed without an answer.
const CLOSED: u16 = 0;

/// Where this server answers otherwise on purpose: the capture, the status here, and why.
const DIFFERENCES: &[(&str, u16, &str)] = &[
    ("health_head", 200, "HEAD works where GET does"),
    ("sessions_head", 200, "HEAD works where GET does"),
    ("chat_empty_messages", 422, "there is nothing to answer"),
    (
        "chat_json_dup_keys",
        422,
        "the last key counts, and it holds no messages",
    ),
    ("chat_json_NaN", 422, "NaN is no JSON, and no temperature"),
    (
        "chat_lone_surrogate",
        422,
        "half a character is an error of the client, not of the server",
    ),
    (
        "chat_content_too_long",
        422,
        "only the first 200 characters of an input are sent back",
    ),
    (
        "chat_handler_error_500",
        200,
        "no provider is configured here that could fail",
    ),
    (
        "chat_pct_path",
        404,
        "paths are matched as they are written",
    ),
    ("sessions_post", 201, "a conversation can be created"),
    ("docs_oauth_redirect", 404, "the API has no OAuth flow"),
    (
        "redoc",
        404,
        "one documentation is enough, and this one loads from other hosts",
    ),
    (
        "raw_bad_request_line",
        400,
        "hyper refuses it without a body",
    ),
    ("raw_no_host", 400, "the refusal is JSON, like every other"),
    (
        "raw_two_hosts",
        400,
        "the refusal is JSON, like every other",
    ),
    ("raw_dup_cl", 400, "hyper refuses it without a body"),
    ("raw_neg_cl", 400, "hyper refuses it without a body"),
    (
        "raw_header_space_colon",
        400,
        "hyper refuses it without a body",
    ),
    ("raw_nul_in_path", 400, "hyper refuses it without a body"),
    ("raw_huge_header", 431, "headers are bounded"),
    (
        "raw_obs_fold",
        400,
        "folded headers are obsolete since 2014 and a means of smuggling",
    ),
    (
        "raw_absolute_form",
        400,
        "the target names another host than Host",
    ),
    (
        "raw_h2_preface",
        CLOSED,
        "a connection that begins with HTTP/2 is not read as HTTP/1",
    ),
];

#[tokio::test]
async fn the_captures_are_answered_as_the_original_does_except_for_the_listed_differences() {
    let captures: Vec<Capture> =
        serde_json::from_str(include_str!("../fixtures/captures.json")).unwrap();
    assert_eq!(captures.len(), 104);
    let mut differing = Vec::new();
    let mut wrong = Vec::new();
    for capture in &captures {
        // A server for each, because a list of conversations is empty only once.
        let server = Server::start().await;
        let actual = normal(&replay(capture, &server).await);
        let expected = original(&capture.response, &actual);
        let listed = DIFFERENCES.iter().find(|(name, ..)| *name == capture.name);
        match listed {
            Some((name, status, _)) => {
                differing.push(*name);
                if actual.status != *status || actual == expected {
                    wrong.push(format!("{name} is listed with {status}: {actual:#?}"));
                }
            }
            None if actual != expected => {
                wrong.push(format!(
                    "{}: {actual:#?} is not {expected:#?}",
                    capture.name
                ));
            }
            None => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(differing.len(), DIFFERENCES.len());
}

async fn replay(capture: &Capture, server: &Server) -> Response {
    if let Some(raw) = &capture.raw {
        let closed = Response {
            status: CLOSED,
            headers: Vec::new(),
            body: Vec::new(),
        };
        let answered = send_raw(server.address, &bytes(raw)).await;
        return answered.unwrap_or(closed);
    }
    let sent = capture.request.as_ref().unwrap();
    let mut request = Request::new(&sent.method, &sent.path).body(bytes(&sent.body));
    for (name, value) in &sent.headers {
        request = request.header(name, value);
    }
    request.send(server.address).await
}

fn bytes(parts: &[Part]) -> Vec<u8> {
    let parts = parts.iter().map(|part| match part {
        Part::Text(text) => text.clone().into_bytes(),
        Part::Repeat { repeat, times } => repeat.repeat(*times).into_bytes(),
        Part::Bytes { bytes } => bytes.clone(),
    });
    parts.collect::<Vec<_>>().concat()
}

/// An answer of this server, in the form of the captures.
fn normal(response: &Response) -> Answer {
    let kept = |name: &str| {
        matches!(name, "content-type" | "allow" | "location" | "vary")
            // Which of the headers a page may read the original did not say.
            || name.starts_with("access-control") && name != "access-control-expose-headers"
    };
    let headers = response.headers.iter().filter(|(name, _)| kept(name));
    let mut headers: BTreeMap<_, _> = headers.cloned().collect();
    if let Some(allow) = headers.get_mut("allow") {
        // Known to be there wherever GET is: HEAD works where GET does.
        *allow = allow.replace("GET,HEAD", "GET");
    }
    let text = response.text();
    let json = serde_json::from_str(&text).ok().map(without_additions);
    let text = (json.is_none() && !text.is_empty()).then_some(text);
    let is_page = headers
        .get("content-type")
        .is_some_and(|kind| kind.starts_with("text/html"));
    Answer {
        status: response.status,
        headers,
        text: text.filter(|_| !is_page),
        json: json.filter(|json| json.get("openapi").is_none()),
    }
}

/// What the original answered, in the form that is compared.
fn original(answer: &Answer, actual: &Answer) -> Answer {
    let mut headers = answer.headers.clone();
    if let Some(location) = headers.get_mut("location") {
        // A relative one is right behind any proxy.
        *location = location.replace("http://HOST", "");
    }
    if answer.json.is_none() && actual.status == 307 {
        headers.remove("content-type");
    }
    Answer {
        status: answer.status,
        headers,
        json: answer.json.clone().map(without_additions),
        text: answer.text.clone(),
    }
}

/// A body without what this server adds, and with placeholders for what differs each time.
fn without_additions(mut json: Value) -> Value {
    let additions = [
        "turn_id",
        "status",
        "finish_reason",
        "provider",
        "model",
        "usage",
        "warnings",
        "next_cursor",
    ];
    let is_reply = json.get("reply_message").is_some();
    if is_reply || json.get("sessions").is_some() {
        let object = json.as_object_mut().unwrap();
        object.retain(|name, _| !additions.contains(&name.as_str()));
    }
    if is_reply {
        let reply = json["reply_message"].as_object_mut().unwrap();
        for name in ["id", "content", "timestamp"] {
            assert!(reply[name].is_string(), "{name}");
            reply[name] = json!("…");
        }
        assert!(json["session_id"].is_string());
        json["session_id"] = json!("…");
    }
    json
}
