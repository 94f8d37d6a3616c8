//! [`NativeTutor`]: the engine's handle.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use napi::bindgen_prelude::{Buffer, Either, Env, FnArgs, Function, PromiseRaw};
use napi_derive::napi;
use serde_json::{Value, json};
use tutor_core::message::Part;
use tutor_core::tool::SharedTool;
use tutor_core::{Error, ErrorKind, MessageId, OwnerId, Result, SessionId, TurnId, Tutor, json};

use crate::chat::ChatCall;
use crate::data::{NativeError, Outcome, object, promise, value};
use crate::file::NativeFiles;
use crate::items::NativeItems;
use crate::open::{self, Opened};
use crate::plugin::{Answer, Bridge};
use crate::provider::Sink;
use crate::server::NativeServer;
use crate::stream::NativeStream;
use crate::tool::tools;
use crate::transfer::{NativeExport, NativeImport};

/// A tutor, once it is open.
pub(crate) type Slot = Arc<OnceLock<Opened>>;

/// A handle of the engine, scoped to one owner.
#[napi]
pub struct NativeTutor {
    slot: Slot,
}

/// The same tutor for another owner, or why not.
type Scoped = Either<NativeTutor, NativeError>;

/// What is in a slot.
pub(crate) fn handle(slot: &Slot) -> Result<Opened> {
    slot.get()
        .cloned()
        .ok_or_else(|| Error::internal("the tutor is not open"))
}

/// The tutor in a slot.
pub(crate) fn opened(slot: &Slot) -> Result<Tutor> {
    Ok(handle(slot)?.tutor)
}

/// The names of a session and of a message in it.
pub(crate) fn ids(session: String, message: String) -> Result<(SessionId, MessageId)> {
    Ok((SessionId::new(session)?, MessageId::new(message)?))
}

#[napi]
#[expect(
    clippy::needless_pass_by_value,
    reason = "napi hands over owned strings"
)]
impl NativeTutor {
    /// A handle that is not open yet.
    #[napi(constructor)]
    pub fn new() -> Self {
        Self {
            slot: Slot::default(),
        }
    }

    /// Opens it. `start` runs providers that are written in JavaScript, `ask` calls functions that
    /// are, `cancel` stops either, and `forget` is told which functions are of no use any more.
    #[napi]
    pub fn open<'e>(
        &self,
        env: &'e Env,
        options: String,
        start: Function<'_, FnArgs<(u32, u32, String, Sink)>, ()>,
        ask: Function<'_, FnArgs<(u32, u32, String, Answer)>, ()>,
        cancel: Function<'_, u32, ()>,
        forget: Function<'_, u32, ()>,
    ) -> napi::Result<PromiseRaw<'e, Outcome>> {
        let bridge = Bridge::new(&start, &ask, &cancel, &forget)?;
        let slot = Arc::clone(&self.slot);
        promise(env, async move {
            let options =
                object(&options).map_err(|error| open::config(error.message().to_owned()))?;
            let tutor = open::open(options, bridge).await?;
            match slot.set(tutor) {
                Ok(()) => Ok(Value::Null),
                Err(_) => Err(Error::internal("the tutor is open already")),
            }
        })
    }

    /// The same tutor for another owner.
    #[napi(ts_return_type = "NativeTutor | NativeError")]
    pub fn for_owner(&self, owner: String) -> Scoped {
        let scoped = handle(&self.slot).and_then(|opened| {
            let tutor = opened.tutor.for_owner(OwnerId::new(owner)?);
            Ok(Opened { tutor, ..opened })
        });
        match scoped {
            Ok(scoped) => Either::A(Self {
                slot: Arc::new(OnceLock::from(scoped)),
            }),
            Err(error) => Either::B(error.into()),
        }
    }

    /// Whose data it reads and writes.
    #[napi(getter)]
    pub fn owner(&self) -> Option<String> {
        self.slot
            .get()
            .map(|opened| opened.tutor.owner().to_string())
    }

    /// The error for an option that a `what` has not, with what was probably meant; `code` is that
    /// of the error.
    #[napi]
    pub fn unknown_option(
        code: String,
        what: String,
        name: String,
        known: Vec<String>,
    ) -> NativeError {
        let kind = ErrorKind::from_code(&code).unwrap_or(ErrorKind::InvalidInput);
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        json::unknown_member(kind, &what, &name, &known).into()
    }

    /// An image or a file as a part of a message, by what its bytes are.
    #[napi]
    pub fn attachment(bytes: Buffer, name: Option<String>) -> Outcome {
        Part::attachment(name.as_deref(), &bytes)
            .and_then(value)
            .into()
    }

    /// The most bytes that an image or a file may have.
    #[napi(getter)]
    pub fn max_attachment_bytes(&self) -> u32 {
        let bytes = self
            .slot
            .get()
            .map(|it| it.tutor.limits().max_attachment_bytes);
        bytes.map_or(0, |bytes| u32::try_from(bytes).unwrap_or(u32::MAX))
    }

    /// A question that is answered whole: `run()` asks, `cancel()` stops. `tools` are of this
    /// question, as [`crate::tool::tools`] reads them.
    #[napi]
    pub fn chat(&self, request: String, tools: Option<String>) -> ChatCall {
        ChatCall::new(Arc::clone(&self.slot), request, self.tools(tools))
    }

    /// A question whose answer is streamed. Asked when the first event is.
    #[napi]
    pub fn stream(&self, request: String, tools: Option<String>) -> NativeStream {
        NativeStream::ask(Arc::clone(&self.slot), request, self.tools(tools))
    }

    /// The events of a turn after a number.
    #[napi]
    pub fn events(&self, turn: String, after: f64) -> NativeStream {
        NativeStream::follow(Arc::clone(&self.slot), turn, after)
    }

    /// Stops a turn.
    #[napi]
    pub fn cancel<'e>(&self, env: &'e Env, turn: String) -> napi::Result<PromiseRaw<'e, Outcome>> {
        self.run(env, |tutor| async move {
            Ok(json::turn(&tutor.cancel(&TurnId::new(turn)?).await?))
        })
    }

    /// A turn.
    #[napi]
    pub fn turn<'e>(&self, env: &'e Env, turn: String) -> napi::Result<PromiseRaw<'e, Outcome>> {
        self.run(env, |tutor| async move {
            Ok(json::turn(&tutor.turn(&TurnId::new(turn)?).await?))
        })
    }

    /// The turn that an idempotency key names; `null` if there is none.
    #[napi]
    pub fn turn_by_key<'e>(
        &self,
        env: &'e Env,
        key: String,
    ) -> napi::Result<PromiseRaw<'e, Outcome>> {
        self.run(env, |tutor| async move {
            let turn = tutor.turn_by_key(&key).await?;
            Ok(turn.as_ref().map_or(Value::Null, json::turn))
        })
    }

    /// Stops all turns of this owner.
    #[napi]
    pub fn cancel_all<'e>(&self, env: &'e Env) -> napi::Result<PromiseRaw<'e, Outcome>> {
        self.run(env, |tutor| async move {
            tutor.cancel_all().await;
            Ok(Value::Null)
        })
    }

    /// How it is.
    #[napi]
    pub fn status<'e>(&self, env: &'e Env) -> napi::Result<PromiseRaw<'e, Outcome>> {
        self.run(env, |tutor| async move { Ok(json::status(&tutor)) })
    }

    /// A page of sessions.
    #[napi]
    pub fn sessions<'e>(
        &self,
        env: &'e Env,
        options: String,
    ) -> napi::Result<PromiseRaw<'e, Outcome>> {
        self.run(env, |tutor| async move {
            let (limit, cursor) = json::sessions(object(&options)?)?;
            value(tutor.sessions(limit, cursor).await?)
        })
    }

    /// A page of the sessions in which all words of a text occur.
    #[napi]
    pub fn search<'e>(
        &self,
        env: &'e Env,
        text: String,
        options: String,
    ) -> napi::Result<PromiseRaw<'e, Outcome>> {
        self.run(env, |tutor| async move {
            let (limit, cursor) = json::sessions(object(&options)?)?;
            value(tutor.search(&text, limit, cursor).await?)
        })
    }

    /// A session.
    #[napi]
    pub fn session<'e>(&self, env: &'e Env, id: String) -> napi::Result<PromiseRaw<'e, Outcome>> {
        self.run(env, |tutor| async move {
            value(tutor.session(&SessionId::new(id)?).await?)
        })
    }

    /// Creates a session.
    #[napi]
    pub fn create_session<'e>(
        &self,
        env: &'e Env,
        options: String,
    ) -> napi::Result<PromiseRaw<'e, Outcome>> {
        self.run(env, |tutor| async move {
            let new = json::new_session(object(&options)?)?;
            value(tutor.create_session(new).await?)
        })
    }

    /// Changes a session's `title` or `metadata`.
    #[napi]
    pub fn update_session<'e>(
        &self,
        env: &'e Env,
        id: String,
        changes: String,
    ) -> napi::Result<PromiseRaw<'e, Outcome>> {
        self.run(env, |tutor| async move {
            let (title, metadata) = json::session_changes(object(&changes)?)?;
            let id = SessionId::new(id)?;
            value(tutor.update_session(&id, title, metadata).await?)
        })
    }

    /// Deletes a session.
    #[napi]
    pub fn delete_session<'e>(
        &self,
        env: &'e Env,
        id: String,
    ) -> napi::Result<PromiseRaw<'e, Outcome>> {
        self.run(env, |tutor| async move {
            Ok(tutor.delete_session(&SessionId::new(id)?).await?.into())
        })
    }

    /// A page of messages.
    #[napi]
    pub fn messages<'e>(
        &self,
        env: &'e Env,
        session: String,
        range: String,
    ) -> napi::Result<PromiseRaw<'e, Outcome>> {
        self.run(env, |tutor| async move {
            let range = json::messages(object(&range)?)?;
            value(tutor.messages(&SessionId::new(session)?, range).await?)
        })
    }

    /// A message whose session is not known.
    #[napi]
    pub fn find_message<'e>(
        &self,
        env: &'e Env,
        message: String,
    ) -> napi::Result<PromiseRaw<'e, Outcome>> {
        self.run(env, |tutor| async move {
            value(tutor.find_message(&MessageId::new(message)?).await?)
        })
    }

    /// The messages that follow what a message follows.
    #[napi]
    pub fn siblings<'e>(
        &self,
        env: &'e Env,
        session: String,
        message: String,
    ) -> napi::Result<PromiseRaw<'e, Outcome>> {
        self.run(env, |tutor| async move {
            let (session, message) = ids(session, message)?;
            value(tutor.siblings(&session, &message).await?)
        })
    }

    /// Switches to the branch that ends with a message.
    #[napi]
    pub fn set_head<'e>(
        &self,
        env: &'e Env,
        session: String,
        message: String,
    ) -> napi::Result<PromiseRaw<'e, Outcome>> {
        self.run(env, |tutor| async move {
            let (session, message) = ids(session, message)?;
            value(tutor.set_head(&session, &message).await?)
        })
    }

    /// Deletes a message, perhaps with all that follows it.
    #[napi]
    pub fn delete_message<'e>(
        &self,
        env: &'e Env,
        session: String,
        message: String,
        with_branch: bool,
    ) -> napi::Result<PromiseRaw<'e, Outcome>> {
        self.run(env, move |tutor| async move {
            let (session, message) = ids(session, message)?;
            let deleted = tutor.delete_message(&session, &message, with_branch);
            Ok(deleted.await?.into())
        })
    }

    /// What a model would be sent.
    #[napi]
    pub fn context<'e>(
        &self,
        env: &'e Env,
        session: String,
        tokens: Option<u32>,
    ) -> napi::Result<PromiseRaw<'e, Outcome>> {
        self.run(env, move |tutor| async move {
            let tokens = tokens.and_then(|tokens| usize::try_from(tokens).ok());
            let context = tutor.context(&SessionId::new(session)?, tokens).await?;
            Ok(json::context(&context))
        })
    }

    /// Removes everything of this owner.
    #[napi]
    pub fn erase<'e>(&self, env: &'e Env) -> napi::Result<PromiseRaw<'e, Outcome>> {
        let slot = Arc::clone(&self.slot);
        promise(env, async move {
            let opened = handle(&slot)?;
            let erased = opened.files.erase(&opened.tutor, &*opened.store).await?;
            Ok(json!({"sessions": erased.sessions, "records": erased.records}))
        })
    }

    /// The configured providers.
    #[napi]
    pub fn providers<'e>(&self, env: &'e Env) -> napi::Result<PromiseRaw<'e, Outcome>> {
        self.run(env, |tutor| async move {
            let providers = tutor.providers();
            Ok(providers.iter().map(json::provider_info).collect())
        })
    }

    /// Has these providers, described as in `open`, answer from now on.
    #[napi]
    pub fn replace_providers<'e>(
        &self,
        env: &'e Env,
        providers: String,
        preferred: Option<String>,
    ) -> napi::Result<PromiseRaw<'e, Outcome>> {
        let slot = Arc::clone(&self.slot);
        promise(env, async move {
            let Opened {
                tutor,
                bridge,
                metrics,
                ..
            } = handle(&slot)?;
            let described: Vec<Value> = serde_json::from_str(&providers)
                .map_err(|_| Error::internal("providers are an array"))?;
            let providers = open::providers(Vec::new(), &described, &bridge, &metrics)?;
            tutor.replace_providers(providers, preferred.as_deref())?;
            Ok(Value::Null)
        })
    }

    /// The models of a provider.
    #[napi]
    pub fn models<'e>(
        &self,
        env: &'e Env,
        provider: String,
    ) -> napi::Result<PromiseRaw<'e, Outcome>> {
        self.run(
            env,
            |tutor| async move { value(tutor.models(&provider).await?) },
        )
    }

    /// A list of items that are another library's.
    #[napi]
    pub fn items(&self, name: String) -> NativeItems {
        NativeItems::new(Arc::clone(&self.slot), name)
    }

    /// What is stored, as lines of an export.
    #[napi]
    pub fn export(&self, options: String) -> NativeExport {
        NativeExport::new(Arc::clone(&self.slot), options)
    }

    /// Takes an export.
    #[napi]
    pub fn import(&self, options: String) -> NativeImport {
        NativeImport::new(Arc::clone(&self.slot), options)
    }

    /// An HTTP server of this tutor, to be started.
    #[napi]
    pub fn server(&self) -> NativeServer {
        NativeServer::new(Arc::clone(&self.slot))
    }

    /// Closes the engine and all its handles.
    #[napi]
    pub fn close<'e>(
        &self,
        env: &'e Env,
        grace_ms: Option<f64>,
    ) -> napi::Result<PromiseRaw<'e, Outcome>> {
        self.run(env, move |tutor| async move {
            match grace_ms {
                None => tutor.close().await?,
                Some(millis) => {
                    let grace = Duration::try_from_secs_f64(millis / 1000.0).map_err(|_| {
                        Error::invalid_input("the grace is a number of milliseconds, at least 0")
                    })?;
                    tutor.close_within(grace).await?;
                }
            }
            Ok(Value::Null)
        })
    }

    /// The uploaded files.
    #[napi]
    pub fn files(&self) -> NativeFiles {
        NativeFiles::new(Arc::clone(&self.slot))
    }

    fn tools(&self, described: Option<String>) -> Result<Vec<SharedTool>> {
        match described {
            Some(described) => tools(&described, &handle(&self.slot)?.bridge),
            None => Ok(Vec::new()),
        }
    }

    pub(crate) fn run<'e, F, W>(
        &self,
        env: &'e Env,
        work: F,
    ) -> napi::Result<PromiseRaw<'e, Outcome>>
    where
        F: FnOnce(Tutor) -> W + Send + 'static,
        W: Future<Output = Result<Value>> + Send + 'static,
    {
        let slot = Arc::clone(&self.slot);
        promise(env, async move { work(opened(&slot)?).await })
    }
}
