//! In which protocol a reply is sent: what the client names, else what its body is, else what it
//! accepts. Never by who the client says it is.

use axum::response::Response;
use http::HeaderMap;
use serde_json::Value;
use tutor_core::TurnStream;

use crate::encode::agui::AgUi;
use crate::encode::anthropic::Anthropic;
use crate::encode::native::Native;
use crate::encode::openai::{OpenAi, unix_seconds};
use crate::encode::text::Text;
use crate::encode::ui::{Sdk, Ui};
use crate::error::ApiError;
use crate::params::{Query, header};
use crate::sse;
use crate::state::AppState;
use crate::validate::Checker;

/// A protocol for a streamed reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Output {
    Native,
    Ui(Sdk),
    OpenAi,
    Anthropic,
    AgUi,
    Text,
}

const NAMES: &str = "native, ui, openai, anthropic, agui or text";

impl Output {
    /// The protocol that the query names; `None` if it names none.
    ///
    /// # Errors
    /// The documented 422 for a name that nobody knows.
    pub(super) fn named(query: &Query, headers: &HeaderMap) -> Result<Option<Self>, ApiError> {
        let Some(name) = query.get("protocol") else {
            return Ok(None);
        };
        Ok(Some(match name {
            "native" => Self::Native,
            "ui" => Self::Ui(sdk(query, headers)?),
            "openai" => Self::OpenAi,
            "anthropic" => Self::Anthropic,
            "agui" => Self::AgUi,
            "text" => Self::Text,
            _ => {
                let mut checker = Checker::new("query");
                let input = Value::from(name);
                checker.within("protocol", |c| {
                    c.fail_value(&format!("a protocol is {NAMES}"), &input);
                });
                return checker.finish(None);
            }
        }))
    }

    /// The response that streams `events` in this protocol.
    pub(super) fn respond(self, state: &AppState, events: TurnStream) -> Response {
        match self {
            Self::Native => sse::respond(state, Native, None, events),
            Self::Ui(sdk) => sse::respond(state, Ui::new(sdk), None, events),
            Self::OpenAi => {
                let created = unix_seconds(state.runtime.now());
                sse::respond(state, OpenAi::new(created, true), None, events)
            }
            Self::Anthropic => sse::respond(state, Anthropic::default(), None, events),
            Self::AgUi => {
                let (thread, run) = (
                    events.session_id().to_string(),
                    events.turn_id().to_string(),
                );
                sse::respond(state, AgUi::new(thread, run), None, events)
            }
            Self::Text => sse::respond(state, Text::default(), None, events),
        }
    }
}

/// The release of the AI SDK that the client names by `?sdk=` or `x-tutor-ai-sdk`.
pub(super) fn sdk(query: &Query, headers: &HeaderMap) -> Result<Sdk, ApiError> {
    const HEADER: &str = "x-tutor-ai-sdk";
    let (root, place, text) = match (query.get("sdk"), header(headers, HEADER)?) {
        (Some(text), _) => ("query", "sdk", text),
        (None, Some(text)) => ("header", HEADER, text),
        (None, None) => return Ok(Sdk::default()),
    };
    let mut checker = Checker::new(root);
    let sdk = Sdk::parse(text);
    if sdk.is_none() {
        checker.within(place, |c| {
            c.fail_value("write 5, 5.0.92, 6, 7 or 7.0.77", &Value::from(text));
        });
    }
    checker.finish(sdk)
}
