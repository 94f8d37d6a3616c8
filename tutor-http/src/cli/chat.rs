//! `neuro-tutor chat`: a conversation in the terminal.

use std::io::{IsTerminal, stdin};

use futures_util::{FutureExt, StreamExt};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use tracing::level_filters::LevelFilter;
use tutor_core::{Error, Event, OwnerId, SessionId, TurnId};

use super::failure::{DATA_NOT_USABLE, DONE, FAILED, Failure, INTERRUPTED};
use super::runtime;
use super::signals::{Ends, Interrupts};
use crate::config::{self, DataArgs, Settings, Vars};
use crate::control::report::sentence;
use crate::metrics::Metrics;

mod command;
mod look;
mod remote;
mod screen;
mod talk;
mod terminal;

use command::{Command, Extent, HELP};
use remote::Remote;
use screen::Screen;
use talk::{Brief, Say, Talk, What};
use terminal::Terminal;

pub(super) const EXAMPLES: &str = "\
Examples:
  neuro-tutor chat                                     talk, and keep it in ./neuro-tutor-data
  neuro-tutor chat --last                              go on where you were
  neuro-tutor chat What is photosynthesis?             one answer
  neuro-tutor chat --url http://localhost:8000         through a server that runs

Ctrl-C stops a reply, Ctrl-D leaves, /help says what else there is.";

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
    #[arg(long, value_name = "TOKEN", requires = "url", conflicts_with = "data")]
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
    /// Write a log between the lines: error, warn, info, debug or trace [default: off]
    #[arg(long, value_name = "LEVEL", value_parser = config::parse_level)]
    pub(super) log_level: Option<LevelFilter>,
}

pub(super) fn run(args: Args, vars: &Vars) -> Result<u8, Failure> {
    let runtime = runtime()?;
    let terminal = Terminal::as_it_is();
    let ended = runtime.block_on(talk(args, vars));
    // Who is told to end may still be reading a line, which nobody has to type to the end.
    runtime.shutdown_background();
    terminal.put_back();
    ended
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
        retry: None,
        model: args.model.clone(),
        provider: args.provider.clone(),
        listed: Vec::new(),
        interrupts: Interrupts::new()
            .map_err(|error| Failure::new(FAILED, format!("Ctrl-C cannot be received: {error}")))?,
    };
    let mut ends = Ends::new()
        .map_err(|error| Failure::new(FAILED, format!("signals cannot be received: {error}")))?;
    let outcome = tokio::select! {
        outcome = chat.run(&args) => outcome,
        () = ends.next() => Ok(INTERRUPTED),
    };
    chat.screen.end_reply();
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
    /// What is asked for again by `/retry`.
    retry: Option<What>,
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
            self.talk.messages(&id, 1, None).await?;
            self.session = Some(id);
        } else if args.last {
            let latest = self.talk.sessions(1, None).await?.items.into_iter().next();
            self.session = latest.map(|brief| brief.id);
        }
        if !args.words.is_empty() {
            let ended = self.ask(What::Words(args.words.join(" "))).await;
            self.screen.written()?;
            return Ok(match ended {
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
            if let Some(id) = self.session.clone()
                && let Err(error) = self.show(&id, Extent::Latest, &mut editor).await
            {
                self.screen.error(&error);
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
                None => {
                    let words = command::message(line).to_owned();
                    self.ask(What::Words(words)).await
                }
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
            self.screen.written()?;
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
                (self.session, self.retry) = (None, None);
                self.screen
                    .note("A new conversation begins with what you say next.");
            }
            Command::Sessions(extent) => self.list(extent).await?,
            Command::Open(which) => return self.open(&which, editor).await,
            Command::History(extent) => match self.session.clone() {
                Some(id) => self.show(&id, extent, editor).await?,
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
            Command::Retry => match self.retry.clone() {
                Some(what) => return Ok(self.ask(what).await),
                None => self.screen.note("There is no reply to write again."),
            },
        }
        Ok(Ended::Whole)
    }

    /// Asks, and shows the reply as it grows. Ctrl-C stops it; again, it is not waited for.
    async fn ask(&mut self, what: What) -> Ended {
        let say = Say {
            what: what.clone(),
            session: self.session.clone(),
            model: self.model.clone(),
            provider: self.provider.clone(),
        };
        // Until there is a reply, which can be written again.
        self.retry = Some(what.clone());
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
                    user_message_id,
                    ..
                })) => {
                    // Ctrl-C may have come first.
                    if stopped && let Err(error) = self.talk.cancel(&turn_id).await {
                        self.screen.error(&error);
                    }
                    turn = Some(turn_id);
                    self.session = Some(session_id);
                    if let What::Words(text) | What::Instead(_, text) = &what {
                        self.retry = Some(What::Instead(user_message_id, text.clone()));
                    }
                }
                Some(Ok(Event::TextDelta { text })) => self.screen.reply(&text),
                Some(Ok(Event::ReasoningDelta { text })) => self.screen.thought(&text),
                Some(Ok(Event::AttemptRestarted { .. })) => {
                    self.screen.end_reply();
                    self.screen.note("The reply is written again:");
                }
                Some(Ok(Event::Notice(notice))) => self.screen.note(&notice.message),
                Some(Ok(Event::ToolCall { name, .. })) => self.screen.note(&format!("uses {name}")),
                Some(Ok(Event::TurnFinished { message, .. })) => {
                    self.screen.end_reply();
                    self.retry = Some(What::Again(message.id));
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
