//! What a line that begins with a slash asks for.

use tutor_core::json::nearest;

pub(super) const HELP: &str = "\
/sessions      the latest conversations; /sessions all: all of them
/open N        go on with one of them, by its number or id
/new           begin another conversation
/history       what was said last; /history all: from the beginning
/title WORDS   call the conversation this
/retry         have the last reply written again, or the last question answered that was not
/model NAME    who writes the next replies; without a name the default
/quit          leave, as Ctrl-D does
A line that ends with \\ goes on in the next one. A line that begins with // says one with /.
";

/// Something to do besides talking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Help,
    Sessions(Extent),
    Open(String),
    New,
    History(Extent),
    Title(String),
    Retry,
    Model(Option<String>),
    Quit,
}

/// How much is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// What is new.
    Latest,
    All,
}

const NAMES: [&str; 9] = [
    "help", "sessions", "open", "new", "history", "title", "retry", "model", "quit",
];

impl Command {
    /// `None` for a line that is said to the tutor; else what it asks for, or what to write
    /// instead.
    pub(super) fn parse(line: &str) -> Option<Result<Self, String>> {
        let line = line.strip_prefix('/')?;
        if line.starts_with('/') {
            return None;
        }
        let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim();
        let needed = |make: fn(String) -> Self, what: &str| match rest {
            "" => Err(format!("/{name} needs {what}")),
            rest => Ok(make(rest.to_owned())),
        };
        let extent = |make: fn(Extent) -> Self| match rest {
            "" => Ok(make(Extent::Latest)),
            "all" => Ok(make(Extent::All)),
            _ => Err(format!("write /{name}, or /{name} all")),
        };
        Some(match name {
            "help" | "?" => Ok(Self::Help),
            "sessions" => extent(Self::Sessions),
            "open" => needed(Self::Open, "a number of /sessions, or an id"),
            "new" => Ok(Self::New),
            "history" => extent(Self::History),
            "title" => needed(Self::Title, "words"),
            "retry" => Ok(Self::Retry),
            "model" => Ok(Self::Model(
                Some(rest.to_owned()).filter(|name| !name.is_empty()),
            )),
            "quit" | "exit" | "q" => Ok(Self::Quit),
            unknown => Err(match nearest(unknown, NAMES) {
                Some(near) => format!("there is no /{unknown}: did you mean /{near}?"),
                None => format!("there is no /{unknown}: /help says what there is"),
            }),
        })
    }
}

/// What a line says that is no command: of two slashes at its beginning, one is said.
pub(super) fn message(line: &str) -> &str {
    match line.strip_prefix('/') {
        Some(rest) if rest.starts_with('/') => rest,
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_can_begin_with_a_slash() {
        assert_eq!(message("//etc/hosts"), "/etc/hosts");
        assert_eq!(message("What is 1/2?"), "What is 1/2?");
        assert_eq!(message("///"), "//");
    }

    #[test]
    fn a_slash_begins_a_command_and_two_begin_a_message() {
        for (line, expected) in [
            ("What is 1/2?", None),
            ("//etc", None),
            ("/sessions", Some(Ok(Command::Sessions(Extent::Latest)))),
            ("/history  all", Some(Ok(Command::History(Extent::All)))),
            ("/open  3 ", Some(Ok(Command::Open("3".to_owned())))),
            ("/title a b", Some(Ok(Command::Title("a b".to_owned())))),
            ("/model", Some(Ok(Command::Model(None)))),
        ] {
            assert_eq!(Command::parse(line), expected, "{line}");
        }
        let near = Command::parse("/sesions").unwrap().unwrap_err();
        assert!(near.contains("/sessions"), "{near}");
        assert!(
            Command::parse("/open")
                .unwrap()
                .unwrap_err()
                .contains("number")
        );
    }

    #[test]
    fn the_help_names_every_command() {
        for name in NAMES.iter().filter(|name| **name != "help") {
            assert!(HELP.contains(&format!("/{name}")), "{name}");
        }
    }
}
