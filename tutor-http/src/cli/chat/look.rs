//! Looking at conversations: which there are, and what was said in one.

use rustyline::DefaultEditor;
use tutor_core::session::MAX_PAGE;
use tutor_core::{ErrorKind, Result, Role, SessionId};

use super::command::Extent;
use super::talk::{Said, What};
use super::{Chat, Ended};

/// Conversations, and messages of one, that are shown unless all are asked for.
const SHOWN: usize = 20;

impl Extent {
    /// How many are asked for at a time.
    fn limit(self) -> usize {
        match self {
            Self::Latest => SHOWN,
            Self::All => MAX_PAGE,
        }
    }
}

impl Chat {
    /// Lists conversations with numbers to open them by.
    pub(super) async fn list(&mut self, extent: Extent) -> Result<()> {
        self.listed.clear();
        let mut place: Option<String> = None;
        loop {
            let part = self.talk.sessions(extent.limit(), place.as_deref()).await?;
            for brief in part.items {
                let is_open = self.session.as_ref() == Some(&brief.id);
                let line = format!(
                    "{}{:>3}  {}  ({} messages)\n",
                    if is_open { "*" } else { " " },
                    self.listed.len() + 1,
                    brief.title,
                    brief.messages
                );
                self.screen.print(&line);
                self.listed.push(brief);
            }
            place = part.next;
            if extent == Extent::Latest || place.is_none() {
                break;
            }
        }
        if place.is_some() {
            self.screen
                .note("There are earlier ones: /sessions all lists them too.");
        } else if self.listed.is_empty() {
            self.screen.note("There are no conversations yet.");
        }
        Ok(())
    }

    /// Goes on with a conversation, by its number in the list or its id.
    pub(super) async fn open(&mut self, which: &str, editor: &mut DefaultEditor) -> Result<Ended> {
        let number = which.parse::<usize>().ok();
        if number.is_some() && self.listed.is_empty() {
            self.list(Extent::Latest).await?;
        }
        let listed = number.and_then(|number| self.listed.get(number.checked_sub(1)?));
        let id = match listed {
            Some(brief) => brief.id.clone(),
            None => which.parse()?,
        };
        match self.talk.messages(&id, 1, None).await {
            Err(error) if number.is_some() && error.kind() == ErrorKind::NotFound => {
                self.screen.note(&format!(
                    "There is no conversation {which}: /sessions lists those that there are."
                ));
                return Ok(Ended::Failed);
            }
            there => there.map(drop)?,
        }
        self.retry = None;
        self.session = Some(id.clone());
        self.show(&id, Extent::Latest, editor).await?;
        Ok(Ended::Whole)
    }

    /// Shows a conversation, and lets its questions be found with the arrow keys.
    pub(super) async fn show(
        &mut self,
        id: &SessionId,
        extent: Extent,
        editor: &mut DefaultEditor,
    ) -> Result<()> {
        let (mut parts, mut place) = (Vec::new(), None::<String>);
        loop {
            let part = self.talk.messages(id, extent.limit(), place.as_deref());
            let part = part.await?;
            parts.push(part.items);
            place = part.next;
            if extent == Extent::Latest || place.is_none() {
                break;
            }
        }
        if place.is_some() {
            self.screen
                .note("What was said before is not shown: /history all shows it.");
        }
        // They came from the end on.
        for said in parts.into_iter().rev().flatten() {
            self.screen.said(said.role, &said.text);
            self.note_said(said, editor);
        }
        Ok(())
    }

    fn note_said(&mut self, said: Said, editor: &mut DefaultEditor) {
        match said.role {
            Role::User => {
                // Fails for nothing that is read here.
                let _ = editor.add_history_entry(&said.text);
                let question = What::Instead(said.id, said.text);
                self.retry = said.is_text.then_some(question);
            }
            Role::Assistant => self.retry = Some(What::Again(said.id)),
            _ => {}
        }
    }
}
