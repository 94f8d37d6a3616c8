//! `neuro-tutor chat`: a conversation in the terminal.

use std::io::{IsTerminal, stdin};

use futures_util::{FutureExt, StreamExt};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use tutor_core::{Error, Event, MessageId, OwnerId, Role, SessionId, TurnId};

use super::failure::{DATA_NOT_USABLE, DONE, FAILED, Failure, INTERRUPTED};
use super::runtime;
use super::signals::Interrupts;
use crate::config::{self, DataArgs, Settings, Vars};
use crate::control::report::sentence;
use crate::metrics::Metrics;

mod command;
mod remote;
mod screen;
mod talk;

use command::{Command, HELP};
use remote::Remote;
use screen::Screen;
use talk::{Brief, Said, Say, Talk};

pub(super) const EXAMPLES: &str = "\
Examples:
  neuro-tutor chat                                     talk, and keep it in ./neuro-tutor-data
  neuro-tutor chat --last                              go on where you were
  neuro-tutor chat What is photosynthesis?             one answer
  neuro-tutor chat --url http://localhost:8000         through a server that runs

Ctrl-C stops a reply, Ctrl-D leaves, /help says what else there is.";

/// Sessions that are listed.
const LISTED: usize = 20;

/// Messages of a session that are shown when it is opened.
const SHOWN: usize = 20;

#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// What to ask; without it you talk until Ctrl-D
    words: Vec<String>,
    #[command(flatten)]
    data: DataArgs,
    /// Talk through the server at this URL instead of opening the data
    #[arg(long, value_name = "URL", conflicts_with = "data")]
    url: Option<String>,
    /// An access token or API key for that server [env: NEURO_TUTOR_TOKEN]
    #[arg(long, value_name = "TOKEN", requires = "url")]
    token: Option<String>,
    /// Go on with this conversation
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// Go on with the latest conversation
    #[arg(long, conflicts_with = "session")]
    last: bool,
    /// Whose conversations [default: local]
    #[arg(long, value_name = "ID", conflicts_with = "url")]
    owner: Option<OwnerId>,
    /// Which model answers, or provider/model
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Which provider answers
    #[arg(long, value_name = "NAME")]
    provider: Option<String>,
}

pub(super) fn run(args: Args, vars: &Vars) -> Result<u8, Failure> {
    runtime()?.block_on(talk(args, vars))
}

async fn talk(args: Args, vars: &Vars) -> Result<u8, Failure> {
    let talk = match &args.url {
        Some(url) => {
            let token = args.token.clone();
            let token = token.or(vars.get("NEURO_TUTOR_TOKEN").map(str::to_owned));
            Talk::There(Remote::new(url, token)?)
        }
        None => open(&args, vars).await?,
    };
    let mut chat = Chat {
        talk,
        screen: Screen::new(),
        session: None,
        last_reply: None,
        model: args.model.clone(),
        provider: args.provider.clone(),
        listed: Vec::new(),
        interrupts: Interrupts::new()
            .map_err(|error| Failure::new(FAILED, format!("Ctrl-C cannot be received: {error}")))?,
    };
    let outcome = chat.run(&args).await;
    let closed = chat.talk.close().await;
    let code = outcome?;
    closed?;
    Ok(code)
}

async fn open(args: &Args, vars: &Vars) -> Result<Talk, Failure> {
    let settings = config::Args {
        data: args.data.clone(),
        ..config::Args::default()
    };
    let settings = Settings::new(settings, vars)?.discover().await;
    let opened = settings.open(&Metrics::default()).await;
    let opened = opened.map_err(|error| match error.kind() {
        tutor_core::ErrorKind::StoreLocked => Failure::new(
            DATA_NOT_USABLE,
            format!(
                "{}; talk through the server that has it by --url",
                sentence(&error)
            ),
        ),
        _ => Failure::from(error),
    })?;
    Ok(Talk::Here(match &args.owner {
        Some(owner) => opened.tutor.for_owner(owner.clone()),
        None => opened.tutor,
    }))
}

/// A conversation, and where in it we are.
struct Chat {
    talk: Talk,
    screen: Screen,
    session: Option<SessionId>,
    last_reply: Option<MessageId>,
    model: Option<String>,
    provider: Option<String>,
    /// The sessions that were listed last, to be opened by their numbers.
    listed: Vec<Brief>,
    interrupts: Interrupts,
}

/// How a reply ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    Whole,
    Stopped,
    Failed,
    /// Whoever waits has lost patience.
    Abandoned,
}

impl Chat {
    async fn run(&mut self, args: &Args) -> Result<u8, Failure> {
        if let Some(id) = &args.session {
            let id: SessionId = id.parse()?;
            // Says whether there is one.
            self.talk.messages(&id, 1).await?;
            self.session = Some(id);
        } else if args.last {
            let latest = self.talk.sessions(1).await?.into_iter().next();
            self.session = latest.map(|brief| brief.id);
        }
        if !args.words.is_empty() {
            return Ok(match self.ask(args.words.join(" "), None).await {
                Ended::Whole => DONE,
                Ended::Stopped | Ended::Abandoned => INTERRUPTED,
                Ended::Failed => FAILED,
            });
        }
        self.converse().await
    }

    async fn converse(&mut self) -> Result<u8, Failure> {
        let mut editor = DefaultEditor::new().map_err(|error| {
            Failure::new(FAILED, format!("the terminal cannot be used: {error}"))
        })?;
        let is_terminal = stdin().is_terminal();
        if is_terminal {
            self.screen
                .note("Ctrl-C stops a reply, Ctrl-D leaves, /help says what else there is.");
            if let Some(id) = self.session.clone() {
                self.show(&id, &mut editor).await;
            }
        }
        let mut code = DONE;
        loop {
            // Reading a line blocks, and so it has a thread of its own.
            let read = tokio::task::spawn_blocking(move || {
                let line = read_message(&mut editor);
                (editor, line)
            });
            let Ok((kept, line)) = read.await else {
                return Err(Failure::new(FAILED, "the terminal cannot be read"));
            };
            editor = kept;
            let line = match line {
                Ok(line) => line,
                Err(ReadlineError::Interrupted) => {
                    self.screen.note("Ctrl-D or /quit leaves.");
                    continue;
                }
                Err(ReadlineError::Eof) => return Ok(code),
                Err(error) => {
                    return Err(Failure::new(
                        FAILED,
                        format!("the terminal cannot be read: {error}"),
                    ));
                }
            };
            let line = line.trim();
            if line.is_empty() {
                continue;
            }
            // Fails for nothing that is read here.
            let _ = editor.add_history_entry(line);
            let ended = match Command::parse(line) {
                None => self.ask(command::message(line).to_owned(), None).await,
                Some(Err(why)) => {
                    self.screen.note(&why);
                    Ended::Failed
                }
                Some(Ok(Command::Quit)) => return Ok(code),
                Some(Ok(command)) => match self.obey(command, &mut editor).await {
                    Ok(ended) => ended,
                    Err(error) => {
                        self.screen.error(&error);
                        Ended::Failed
                    }
                },
            };
            match ended {
                Ended::Abandoned => return Ok(INTERRUPTED),
                // A script wants to know; a person has seen it.
                Ended::Failed if !is_terminal => code = FAILED,
                _ => {}
            }
        }
    }

    async fn obey(&mut self, command: Command, editor: &mut DefaultEditor) -> Result<Ended, Error> {
        match command {
            Command::Help => self.screen.print(HELP),
            Command::Quit => {}
            Command::New => {
                (self.session, self.last_reply) = (None, None);
                self.screen
                    .note("A new conversation begins with what you say next.");
            }
            Command::Sessions => {
                self.listed = self.talk.sessions(LISTED).await?;
                let current = self.session.as_ref();
                for (number, brief) in (1..).zip(&self.listed) {
                    let mark = if current == Some(&brief.id) { "*" } else { " " };
                    let line = format!(
                        "{mark}{number:>3}  {}  ({} messages)\n",
                        brief.title, brief.messages
                    );
                    self.screen.print(&line);
                }
                if self.listed.is_empty() {
                    self.screen.note("There are no conversations yet.");
                }
            }
            Command::Open(which) => {
                let by_number = which.parse::<usize>().ok();
                let listed = by_number.and_then(|n| self.listed.get(n.checked_sub(1)?));
                let id = match listed {
                    Some(brief) => brief.id.clone(),
                    None => which.parse()?,
                };
                self.talk.messages(&id, 1).await?;
                self.last_reply = None;
                self.session = Some(id.clone());
                self.show(&id, editor).await;
            }
            Command::History => match self.session.clone() {
                Some(id) => self.show(&id, editor).await,
                None => self.screen.note("Nothing has been said yet."),
            },
            Command::Title(title) => match &self.session {
                Some(id) => self.talk.rename(id, title).await?,
                None => self.screen.note("Nothing has been said yet."),
            },
            Command::Model(model) => {
                self.model = model;
                let now = self.model.as_deref().unwrap_or("the default one");
                self.screen.note(&format!("The next reply is by {now}."));
            }
            Command::Retry => match self.last_reply.clone() {
                Some(reply) => return Ok(self.ask(String::new(), Some(reply)).await),
                None => self.screen.note("There is no reply to write again."),
            },
        }
        Ok(Ended::Whole)
    }

    /// Shows a conversation, and lets its questions be found with the arrow keys.
    async fn show(&mut self, id: &SessionId, editor: &mut DefaultEditor) {
        match self.talk.messages(id, SHOWN).await {
            Ok(messages) => {
                for Said { id, role, text } in messages {
                    self.screen.said(role, &text);
                    match role {
                        Role::User => drop(editor.add_history_entry(&text)),
                        Role::Assistant => self.last_reply = Some(id),
                        _ => {}
                    }
                }
            }
            Err(error) => self.screen.error(&error),
        }
    }

    /// Asks, and shows the reply as it grows. Ctrl-C stops it; again, it is not waited for.
    async fn ask(&mut self, text: String, regenerate: Option<MessageId>) -> Ended {
        let say = Say {
            text,
            regenerate,
            session: self.session.clone(),
            model: self.model.clone(),
            provider: self.provider.clone(),
        };
        let mut events = match self.talk.ask(say).await {
            Ok(events) => events,
            Err(error) => {
                self.screen.error(&error);
                return Ended::Failed;
            }
        };
        // Those before were not about this reply.
        while self.interrupts.next().now_or_never().is_some() {}
        let (mut turn, mut stopped): (Option<TurnId>, bool) = (None, false);
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                () = self.interrupts.next() => {
                    if stopped {
                        return Ended::Abandoned;
                    }
                    stopped = true;
                    if let Some(turn) = &turn
                        && let Err(error) = self.talk.cancel(turn).await
                    {
                        self.screen.error(&error);
                    }
                    continue;
                }
            };
            match event {
                None => {
                    self.screen.end_reply();
                    self.screen
                        .note("The reply broke off. /history shows what is kept of it.");
                    return Ended::Failed;
                }
                Some(Err(error)) => {
                    self.screen.end_reply();
                    self.screen.error(&error);
                    return Ended::Failed;
                }
                Some(Ok(Event::TurnStarted {
                    turn_id,
                    session_id,
                    reply_message_id,
                    ..
                })) => {
                    // Ctrl-C may have come first.
                    if stopped && let Err(error) = self.talk.cancel(&turn_id).await {
                        self.screen.error(&error);
                    }
                    turn = Some(turn_id);
                    self.session = Some(session_id);
                    self.last_reply = Some(reply_message_id);
                }
                Some(Ok(Event::TextDelta { text })) => self.screen.reply(&text),
                Some(Ok(Event::ReasoningDelta { text })) => self.screen.thought(&text),
                Some(Ok(Event::AttemptRestarted { .. })) => {
                    self.screen.end_reply();
                    self.screen.note("The reply is written again:");
                }
                Some(Ok(Event::Notice(notice))) => self.screen.note(&notice.message),
                Some(Ok(Event::ToolCall { name, .. })) => self.screen.note(&format!("uses {name}")),
                Some(Ok(Event::TurnFinished { .. })) => {
                    self.screen.end_reply();
                    if stopped {
                        self.screen.note("stopped");
                        return Ended::Stopped;
                    }
                    return Ended::Whole;
                }
                Some(Ok(Event::TurnFailed { error, .. })) => {
                    self.screen.end_reply();
                    self.screen.error(&Error::from(error));
                    return Ended::Failed;
                }
                Some(Ok(_)) => {}
            }
        }
    }
}

/// A message: one line, or several of which all but the last end with a backslash.
fn read_message(editor: &mut DefaultEditor) -> rustyline::Result<String> {
    let mut message = String::new();
    let mut prompt = "> ";
    loop {
        let line = editor.readline(prompt)?;
        match line.strip_suffix('\\') {
            Some(begun) => {
                message.push_str(begun);
                message.push('\n');
                prompt = "… ";
            }
            None => {
                message.push_str(&line);
                return Ok(message);
            }
        }
    }
}
