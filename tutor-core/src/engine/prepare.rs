//! From a request to a turn that can begin: what to store, whom to ask, and what to send.

use std::time::Duration;

use tokio::time::Instant;

use super::background::Afterwork;
use super::history::Past;
use super::output::Form;
use super::tools::Toolbox;
use super::{Engine, results, title};
use crate::error::{Error, ErrorKind, Result};
use crate::event::Notice;
use crate::file;
use crate::id::{MessageId, OwnerId, SessionId, TurnId};
use crate::limits::Limits;
use crate::message::{Audience, Author, Message, MessageStatus, Metadata, Role, Usage};
use crate::provider::router::Route;
use crate::provider::{CompletionRequest, RequestContext};
use crate::session::{Session, SessionKey};
use crate::store::NewTurn;
use crate::trace::Trace;
use crate::turn::{ChatRequest, InputMessage, MAX_IDEMPOTENCY_KEY_BYTES, Turn, TurnStatus};
use crate::usage::ledger::Wish;

/// A turn that can begin.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) new_turn: NewTurn,
    pub(super) route: Route,
    pub(super) completion: CompletionRequest,
    pub(super) notices: Vec<Notice>,
    pub(super) deadline: Instant,
    /// What the model may have called.
    pub(super) tools: Toolbox,
    /// What the reply must be.
    pub(super) form: Option<Form>,
    pub(super) afterwork: Afterwork,
    /// Whoever asked named the model.
    pub(super) names_model: bool,
    /// What it reserves.
    pub(super) wish: Wish,
}

impl Engine {
    /// Checks what can be checked without reading anything.
    pub(super) fn check(&self, request: &ChatRequest) -> Result<()> {
        let limits = &self.limits;
        request.preferences.validate()?;
        check_object(
            "preferences",
            &request.preferences.to_map(),
            limits.max_object_bytes,
        )?;
        if let Some(key) = &request.idempotency_key
            && (key.is_empty()
                || key.len() > MAX_IDEMPOTENCY_KEY_BYTES
                || !key.bytes().all(|b| b.is_ascii_graphic()))
        {
            return Err(Error::invalid_input(format!(
                "an idempotency key has 1 to {MAX_IDEMPOTENCY_KEY_BYTES} visible ASCII characters"
            )));
        }
        if request.regenerate.is_some() {
            if request.messages.is_empty()
                && request.parent_id.is_none()
                && request.edit.is_none()
                && request.session_id.is_some()
            {
                return Ok(());
            }
            return Err(Error::invalid_input(
                "to regenerate a reply, name its session and send neither messages nor a parent",
            ));
        }
        if request.edit.is_some() && (request.parent_id.is_some() || request.session_id.is_none()) {
            return Err(
                Error::invalid_input("to edit a message, name its session and no parent")
                    .with_context("field", "edit"),
            );
        }
        if request.messages.len() > limits.max_request_messages {
            return Err(too_large(
                "messages in a request",
                limits.max_request_messages,
            ));
        }
        check_content(&request.messages, limits)?;
        match request.messages.last() {
            Some(last) if last.role == Role::User && !last.content.is_blank() => Ok(()),
            Some(last) if last.role == Role::User => {
                Err(Error::invalid_input("the learner's message is blank")
                    .with_context("field", "messages"))
            }
            _ => Err(Error::invalid_input(
                "the last message must be the learner's, with the role user",
            )
            .with_context("field", "messages")),
        }
    }

    /// Reads what the turn builds on, and makes everything that it needs.
    pub(super) async fn prepare(
        &self,
        owner: &OwnerId,
        request: &ChatRequest,
        fingerprint: u64,
    ) -> Result<Box<Prepared>> {
        let route = self.router().route(&request.preferences)?;
        let now = self.runtime.now();
        let session = match &request.session_id {
            None => None,
            Some(id) => {
                let key = SessionKey::new(owner.clone(), id.clone());
                let stored = self.store.session(&key).await?;
                if stored.is_none() && !request.create_session {
                    return Err(Error::not_found("session", id));
                }
                stored
            }
        };
        if let Some(running) = session
            .as_ref()
            .and_then(|session| session.running_turn.as_ref())
        {
            return Err(Error::conflict(
                "a reply is being written in this session: wait for it or cancel it",
            )
            .with_context("turn", running));
        }
        let is_new = session.is_none();
        let session = match session {
            Some(session) => session,
            None => self.new_session(owner, request, now)?,
        };
        let turn_id = TurnId::new(self.runtime.new_id())?;
        let plan = self.plan(&session, is_new, request).await?;
        let mut messages = Vec::with_capacity(plan.input.len());
        let mut parent_id = plan.parent.clone();
        for (input, status) in plan.input {
            let message =
                self.learner_message(&session.id, &turn_id, parent_id, input, status, now)?;
            parent_id = Some(message.id.clone());
            messages.push(message);
        }
        let user_message_id =
            parent_id.ok_or_else(|| Error::internal("a turn answers a message"))?;
        let tools = self.tools.with(&request.tools, &request.client_tools)?;
        let form = request.output.as_ref().map(Form::new).transpose()?;
        let budget = self.budget(&route, request.preferences.max_tokens);
        let past = Past {
            session: &session,
            leaf: plan.parent.as_ref().filter(|_| !is_new),
        };
        let context = self.context(past, &messages, budget, &tools).await?;
        let first_text = || messages.iter().find(|m| m.role == Role::User);
        let made_title = (!is_new && session.message_count == 0 && !session.own_title)
            .then(|| title::from_text(&first_text().map(|m| m.content.text()).unwrap_or_default()));
        let afterwork = Afterwork {
            session: session.key(),
            route: route.clone(),
            titled_from: first_text()
                .filter(|_| {
                    self.improves_titles && session.message_count == 0 && !session.own_title
                })
                .map(|m| m.content.text()),
            unsummarized: context
                .left_out
                .clone()
                .filter(|_| self.summarizes && !context.summarized),
        };

        let mut notices = route.notices.clone();
        let unknown: Vec<&str> = request
            .preferences
            .other
            .keys()
            .map(String::as_str)
            .collect();
        if !unknown.is_empty() {
            notices.push(Notice::new(
                "preference_unknown",
                format!(
                    "these preferences are stored but have no effect: {}",
                    unknown.join(", ")
                ),
            ));
        }
        notices.extend(context.notices);
        let input_tokens = context.tokens;
        let timeout = request
            .timeout
            .unwrap_or(Duration::MAX)
            .min(self.limits.turn_timeout);
        let deadline = Instant::now() + timeout;
        let completion = CompletionRequest {
            model: route.model.clone(),
            system: context.system,
            messages: context.messages,
            temperature: request.preferences.temperature,
            max_tokens: request.preferences.max_tokens,
            tools: tools.specs(),
            output: request.output.clone(),
            streamed: request.streamed,
            context: RequestContext {
                deadline: Some(deadline),
                extensions: request.extensions.clone(),
                ..RequestContext::new(owner.clone())
            },
        };
        let turn = Turn {
            id: turn_id,
            owner: owner.clone(),
            session_id: session.id.clone(),
            user_message_id,
            reply_message_id: MessageId::new(self.runtime.new_id())?,
            status: TurnStatus::Running,
            provider: route.name.clone(),
            model: route.model.clone(),
            started_at: now,
            ended_at: None,
            idempotency_key: request.idempotency_key.clone(),
            fingerprint,
            instance: self.instance.clone(),
            lease_until: now.saturating_add(self.limits.lease),
            has_reply: false,
            error: None,
            finish_reason: None,
            usage: None,
            trace: Trace::default(),
        };
        let max_tokens = request.preferences.max_tokens;
        let wish = self.wish(&turn, &route, input_tokens, max_tokens, timeout);
        let new_turn = NewTurn {
            turn,
            expected_head: session.head.clone(),
            new_session: is_new.then_some(session),
            messages,
            preferences: request.preferences.to_map(),
            made_title,
        };
        Ok(Box::new(Prepared {
            new_turn,
            route,
            completion,
            notices,
            deadline,
            tools,
            form,
            afterwork,
            names_model: request.preferences.model.is_some(),
            wish,
        }))
    }

    /// What a turn reserves of its owner's quota.
    fn wish(
        &self,
        turn: &Turn,
        route: &Route,
        input: usize,
        max_tokens: Option<u64>,
        timeout: Duration,
    ) -> Wish {
        let input_tokens = input as u64;
        let output_tokens = max_tokens.unwrap_or(self.limits.reply_tokens as u64);
        let usage = Usage {
            input_tokens: Some(input_tokens),
            output_tokens: Some(output_tokens),
            ..Usage::default()
        };
        // By then it has ended, or its lease has run out and somebody ended it.
        let until = turn
            .started_at
            .saturating_add(timeout + self.limits.lease * 2);
        let cost_usd = self.catalog.cost(&turn.model, &usage);
        Wish {
            turn: turn.id.clone(),
            owner: turn.owner.clone(),
            input_tokens,
            output_tokens,
            cost_usd,
            is_unpriced_choice: cost_usd.is_none() && route.is_free_choice(),
            until,
        }
    }

    /// Refuses metadata that is too large.
    pub(crate) fn check_metadata(&self, metadata: &Metadata) -> Result<()> {
        check_object("metadata", metadata, self.limits.max_object_bytes)
    }

    fn new_session(
        &self,
        owner: &OwnerId,
        request: &ChatRequest,
        now: crate::time::Timestamp,
    ) -> Result<Session> {
        if request.parent_id.is_some() || request.edit.is_some() {
            return Err(Error::invalid_input(
                "to answer from a message, name its session",
            ));
        }
        let first = request.messages.iter().find(|m| m.role == Role::User);
        Ok(Session {
            id: match &request.session_id {
                Some(id) => id.clone(),
                None => SessionId::new(self.runtime.new_id())?,
            },
            owner: owner.clone(),
            title: title::from_text(&first.map(|m| m.content.text()).unwrap_or_default()),
            created_at: now,
            updated_at: now,
            message_count: 0,
            head: None,
            running_turn: None,
            preferences: Metadata::new(),
            metadata: Metadata::new(),
            own_title: false,
            summary: None,
        })
    }

    /// Which messages of the request are new, and what they follow.
    async fn plan(&self, session: &Session, is_new: bool, request: &ChatRequest) -> Result<Plan> {
        if let Some(reply) = &request.regenerate {
            let reply = self.message(session.key(), reply.clone()).await?;
            let (Role::Assistant, Some(parent)) = (reply.role, reply.parent_id) else {
                return Err(Error::invalid_input(
                    "only a reply to a message can be written again",
                ));
            };
            return Ok(Plan {
                parent: Some(parent),
                input: Vec::new(),
            });
        }
        let learner_at = request
            .messages
            .iter()
            .rposition(|m| m.role != Role::User)
            .map_or(0, |at| at + 1);
        let (earlier, learner) = request.messages.split_at(learner_at);
        if is_new {
            let before = earlier.last().map(|m| (m.role, &m.content));
            results::check(before, learner)?;
            let imported = earlier.iter().map(|m| (m.clone(), MessageStatus::Imported));
            let said = learner.iter().map(|m| (m.clone(), MessageStatus::Complete));
            return Ok(Plan {
                parent: None,
                input: imported.chain(said).collect(),
            });
        }
        let (parent, said) = if let Some(edited) = &request.edit {
            let edited = self.message(session.key(), edited.clone()).await?;
            if edited.role != Role::User {
                return Err(
                    Error::invalid_input("only a learner's message can be edited")
                        .with_context("field", "edit"),
                );
            }
            (edited.parent_id, learner.to_vec())
        } else {
            let parent = match &request.parent_id {
                Some(parent) => Some(self.message(session.key(), parent.clone()).await?.id),
                None => session.head.clone(),
            };
            self.unsaid(session, parent, request, learner).await?
        };
        if results::any(&said) {
            let before = match &parent {
                Some(parent) => Some(self.message(session.key(), parent.clone()).await?),
                None => None,
            };
            let before = before.as_ref().map(|m| (m.role, &m.content));
            results::check(before, &said)?;
        }
        let said = said.into_iter().map(|m| (m, MessageStatus::Complete));
        Ok(Plan {
            parent,
            input: said.collect(),
        })
    }

    fn learner_message(
        &self,
        session: &SessionId,
        turn: &TurnId,
        parent_id: Option<MessageId>,
        input: InputMessage,
        status: MessageStatus,
        timestamp: crate::time::Timestamp,
    ) -> Result<Message> {
        let id = match input.id {
            Some(id) => id,
            None => MessageId::new(self.runtime.new_id())?,
        };
        Ok(Message {
            id,
            session_id: session.clone(),
            parent_id,
            turn_id: Some(turn.clone()),
            role: input.role,
            content: input.content,
            status,
            author: if input.role == Role::Assistant {
                Author::Tutor
            } else {
                Author::Learner
            },
            visible_to: Audience::everyone(),
            timestamp,
            provider: None,
            model: None,
            usage: None,
            finish_reason: None,
            metadata: Metadata::new(),
        })
    }
}

/// Refuses contents that are too large, or not what they are called.
fn check_content(messages: &[InputMessage], limits: &Limits) -> Result<()> {
    let (mut bytes, mut attachments) = (0, 0);
    for message in messages {
        file::check(&message.content, limits)?;
        bytes += message.content.text_len();
        attachments += message.content.attachments();
    }
    if bytes > limits.max_request_bytes {
        return Err(too_large(
            "bytes in the messages of a request",
            limits.max_request_bytes,
        ));
    }
    if attachments > limits.max_attachments {
        return Err(too_large(
            "images and files in the messages of a request",
            limits.max_attachments,
        ));
    }
    Ok(())
}

/// The new messages of a request, oldest first, and what the first one follows.
struct Plan {
    parent: Option<MessageId>,
    input: Vec<(InputMessage, MessageStatus)>,
}

/// Refuses a caller's JSON object of more than `max` bytes.
fn check_object(name: &'static str, object: &Metadata, max: usize) -> Result<()> {
    match serde_json::to_string(object) {
        Ok(json) if json.len() <= max => Ok(()),
        _ => Err(too_large("bytes of JSON in an object", max).with_context("field", name)),
    }
}

fn too_large(what: &str, max: usize) -> Error {
    Error::new(
        ErrorKind::TooLarge,
        format!("more than {max} {what}: send less"),
    )
}

/// A digest of everything in a request that decides its answer, or the caller's own.
pub(super) fn fingerprint(request: &ChatRequest) -> u64 {
    if let Some(own) = request.fingerprint {
        return own;
    }
    let messages: Vec<_> = request
        .messages
        .iter()
        .map(|m| (m.role, &m.content))
        .collect();
    let parts = (
        &request.session_id,
        messages,
        request.preferences.to_map(),
        &request.parent_id,
        &request.regenerate,
    );
    // What an older release did not know leaves its fingerprints as they are.
    let json = match &request.edit {
        None => serde_json::to_vec(&parts),
        Some(edit) => serde_json::to_vec(&(parts, edit)),
    };
    let mut json = json.unwrap_or_default();
    if let Some(output) = &request.output {
        json.extend(serde_json::to_vec(output).unwrap_or_default());
    }
    if !request.client_tools.is_empty() {
        json.extend(serde_json::to_vec(&request.client_tools).unwrap_or_default());
    }
    digest(&json)
}

/// FNV-1a, stable for ever.
pub(crate) fn digest(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
