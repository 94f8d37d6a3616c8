//! A server, talked to by its own API.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use reqwest::{Client, Method, RequestBuilder, Response, Url, header};
use serde_json::{Map, Value, json};
use tutor_core::provider::sse::{Decoder, Frame, LimitExceeded};
use tutor_core::{Error, ErrorKind, Event, Result, Role, SessionId, TurnEvent, TurnId};

use crate::outbound::{self, Unread};

use super::talk::{Brief, Part, Replying, Said, Say, What};

/// How long a connection may take.
const CONNECT_TIME: Duration = Duration::from_secs(10);

/// How long nothing may come: a server that lives says so every 15 seconds.
const SILENCE: Duration = Duration::from_secs(60);

/// The longest answer that is no stream, in bytes.
const MAX_ANSWER_BYTES: usize = 16 << 20;

pub(super) struct Remote {
    client: Client,
    base: Url,
    token: Option<String>,
}

impl fmt::Debug for Remote {
    /// Without the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Remote({})", self.base)
    }
}

impl Remote {
    pub(super) fn new(url: &str, token: Option<String>) -> Result<Self> {
        let wrong = "the URL of a server is like http://localhost:8000";
        let base = Url::parse(url).map_err(|_| Error::new(ErrorKind::Config, wrong))?;
        if !matches!(base.scheme(), "http" | "https") || !base.has_host() {
            return Err(Error::new(ErrorKind::Config, wrong));
        }
        let client = outbound::client()
            .connect_timeout(CONNECT_TIME)
            .read_timeout(SILENCE)
            .build()
            .map_err(|error| {
                Error::internal("the client cannot be made").with_source(error.without_url())
            })?;
        Ok(Self {
            client,
            base,
            token,
        })
    }

    /// A page of so many, from the place of this parameter on.
    async fn page(
        &self,
        path: &[&str],
        limit: usize,
        place: Option<(&str, &str)>,
    ) -> Result<Value> {
        let (client, request) = self.request(Method::GET, path)?.build_split();
        let mut request = request.map_err(unreachable)?;
        let limit = limit.to_string();
        let parameters = place.into_iter().chain([("limit", limit.as_str())]);
        request.url_mut().query_pairs_mut().extend_pairs(parameters);
        let request = RequestBuilder::from_parts(client, request);
        read(self.send(request, None).await?).await
    }

    fn request(&self, method: Method, path: &[&str]) -> Result<RequestBuilder> {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .map_err(|()| Error::internal("the URL has no path"))?
            .pop_if_empty()
            .extend(path);
        let request = self.client.request(method, url);
        Ok(match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        })
    }

    async fn send(&self, request: RequestBuilder, body: Option<Value>) -> Result<Response> {
        let request = match body {
            Some(body) => request
                .header(header::CONTENT_TYPE, "application/json")
                .body(body.to_string()),
            None => request,
        };
        let response = request.send().await.map_err(unreachable)?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status().as_u16();
        let body = read(response).await.unwrap_or_default();
        let kind = body["code"].as_str().and_then(ErrorKind::from_code);
        let detail = match &body["detail"] {
            Value::String(detail) => detail.clone(),
            Value::Array(problems) => {
                let messages = problems
                    .iter()
                    .filter_map(|problem| problem["msg"].as_str());
                messages.collect::<Vec<_>>().join("; ")
            }
            _ => "the server refused, and did not say why".to_owned(),
        };
        let kind = kind.unwrap_or(match status {
            401 => ErrorKind::Unauthorized,
            403 => ErrorKind::Forbidden,
            404 => ErrorKind::NotFound,
            422 => ErrorKind::InvalidInput,
            _ => ErrorKind::Internal,
        });
        Err(Error::new(kind, detail).with_context("status", status))
    }

    async fn json(&self, method: Method, path: &[&str], body: Option<Value>) -> Result<Value> {
        let response = self.send(self.request(method, path)?, body).await?;
        read(response).await
    }

    pub(super) async fn ask(&self, say: Say) -> Result<Replying> {
        let mut preferences = Map::new();
        preferences.extend(say.model.map(|model| ("model".to_owned(), model.into())));
        preferences.extend(
            say.provider
                .map(|name| ("provider".to_owned(), name.into())),
        );
        let mut body = json!({"stream": true, "preferences": preferences});
        if let Some(session) = &say.session {
            body["session_id"] = session.as_str().into();
        }
        let said = |text: String| json!([{"role": "user", "content": text}]);
        match say.what {
            What::Words(text) => body["messages"] = said(text),
            What::Instead(question, text) => {
                body["edit"] = question.as_str().into();
                body["messages"] = said(text);
            }
            What::Again(reply) => body["regenerate"] = reply.as_str().into(),
        }
        let request = self.request(Method::POST, &["api", "chat"])?;
        let response = self.send(request, Some(body)).await?;
        let events = Events {
            body: response.bytes_stream().boxed(),
            decoder: Decoder::default(),
            events: VecDeque::new(),
        };
        Ok(stream::unfold(events, async |mut events| {
            let event = events.next().await.transpose()?;
            Some((event, events))
        })
        .boxed())
    }

    pub(super) async fn cancel(&self, turn: &TurnId) -> Result<()> {
        let path = ["api", "turns", turn.as_str(), "cancel"];
        self.json(Method::POST, &path, None).await.map(drop)
    }

    pub(super) async fn sessions(&self, limit: usize, from: Option<&str>) -> Result<Part<Brief>> {
        let place = from.map(|cursor| ("cursor", cursor));
        let body = self.page(&["api", "sessions"], limit, place).await?;
        list(&body, "sessions", |session| {
            Some(Brief {
                id: session["id"].as_str()?.parse().ok()?,
                title: session["title"].as_str()?.to_owned(),
                messages: session["message_count"].as_u64()?,
            })
        })
    }

    pub(super) async fn messages(
        &self,
        session: &SessionId,
        limit: usize,
        before: Option<&str>,
    ) -> Result<Part<Said>> {
        let path = ["api", "sessions", session.as_str(), "messages"];
        let place = before.map(|message| ("before", message));
        let body = self.page(&path, limit, place).await?;
        list(&body, "messages", |message| {
            Some(Said {
                id: message["id"].as_str()?.parse().ok()?,
                role: serde_json::from_value::<Role>(message["role"].clone()).ok()?,
                text: text_of(&message["content"]),
                is_text: message["content"].is_string(),
            })
        })
    }

    pub(super) async fn rename(&self, session: &SessionId, title: &str) -> Result<()> {
        let path = ["api", "sessions", session.as_str()];
        let body = json!({"title": title});
        self.json(Method::PATCH, &path, Some(body)).await.map(drop)
    }
}

/// An event stream as it comes.
struct Events {
    body: BoxStream<'static, reqwest::Result<Bytes>>,
    decoder: Decoder,
    events: VecDeque<TurnEvent>,
}

impl Events {
    /// The next event; `None` at the end. Signs of life are passed over, and so is all that is no
    /// data: the data says all of it.
    async fn next(&mut self) -> Result<Option<Event>> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event.event));
            }
            let Some(bytes) = self.body.next().await else {
                return Ok(None);
            };
            let events = &mut self.events;
            let pushed = self
                .decoder
                .push(&bytes.map_err(unreachable)?, &mut |frame| {
                    if let Frame::Event { data, .. } = frame {
                        events.push_back(serde_json::from_str(data).map_err(|_| Strange)?);
                    }
                    Ok(())
                });
            pushed.map_err(|Strange| strange())?;
        }
    }
}

/// The server says what no server of ours says.
struct Strange;

impl From<LimitExceeded> for Strange {
    fn from(_: LimitExceeded) -> Self {
        Self
    }
}

async fn read(response: Response) -> Result<Value> {
    let body = outbound::read(response, MAX_ANSWER_BYTES).await;
    let body = body.map_err(|unread| match unread {
        Unread::Broken(error) => unreachable(error),
        Unread::TooLong => strange(),
    })?;
    if body.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&body).map_err(|_| strange())
}

fn list<T>(body: &Value, name: &str, of: impl Fn(&Value) -> Option<T>) -> Result<Part<T>> {
    let items = body[name].as_array().ok_or_else(strange)?;
    let items = items.iter().map(|item| of(item).ok_or_else(strange));
    Ok(Part {
        items: items.collect::<Result<_>>()?,
        next: body["next_cursor"].as_str().map(str::to_owned),
    })
}

/// The text of a message's content.
fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts
            .iter()
            .filter_map(|part| part["text"].as_str())
            .collect(),
        _ => String::new(),
    }
}

fn strange() -> Error {
    Error::new(
        ErrorKind::Internal,
        "what answers there is no Neuro Tutor of this version",
    )
}

fn is_distrusted(error: &reqwest::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        // An error of the system passes over what it wraps.
        let inner = error
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref);
        cause = match inner {
            Some(inner) => Some(inner),
            None if error.is::<tokio_rustls::rustls::Error>() => return true,
            None => error.source(),
        };
    }
    false
}

fn unreachable(error: reqwest::Error) -> Error {
    let message = if error.is_timeout() {
        "the server did not answer in time"
    } else if error.is_connect() && is_distrusted(&error) {
        "the server's certificate is not trusted: if it is yours, name it by SSL_CERT_FILE"
    } else if error.is_connect() {
        "the server cannot be reached: is it running, and is the URL right?"
    } else {
        "the connection to the server broke off"
    };
    Error::new(ErrorKind::Internal, message).with_source(error.without_url())
}
