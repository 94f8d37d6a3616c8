//! A `.env` file, read as python-dotenv and Docker Compose read it, but that a `$` is a `$`: keys
//! have some. Only `${NAME}` of a variable that is set stands for its value.

use std::collections::HashMap;

/// The longest value, in bytes: values can be made of others, over and over.
const MAX_VALUE_BYTES: usize = 1 << 20;

/// A line that cannot be read. Its words are not told: they may be a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    /// From 1.
    pub(super) line: usize,
    pub(super) why: &'static str,
}

/// Variables by name.
type Variables = HashMap<String, String>;

/// The variables of a file. `environment` is what lies over them.
///
/// A line is `NAME=value`, with `export` before it or not. What is behind ` #` is a comment. A
/// value in single quotes is taken as it is, but for `\'`; in double quotes `\n`, `\r`, `\t`, `\"`,
/// `\\` and `\$` are escapes. Both kinds may go over several lines. Outside of single quotes
/// `${NAME}` is the value of that variable, in the environment or else further up, and
/// `${NAME:-TEXT}` is the text if there is none; any other `$` is one. Of two lines with a name the
/// last one counts, and a name without `=` says nothing.
///
/// # Errors
/// The first line that is nothing of this.
pub(super) fn read(text: &str, environment: &Variables) -> Result<Variables, Refused> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut found = Variables::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let refused = |why| {
            let line = text[..text.len() - rest.len()].matches('\n').count() + 1;
            Refused { line, why }
        };
        let known = |name: &str| environment.get(name).or_else(|| found.get(name));
        let mut value = Value::new(&known);
        let (name, behind) = statement(rest, &mut value).map_err(refused)?;
        if let Some(name) = name {
            let (name, value) = (name.to_owned(), value.text);
            found.insert(name, value);
        }
        rest = behind.trim_start();
    }
    Ok(found)
}

/// Reads what is up to the end of a line, and longer if a quote is open there. The name, if it has
/// a value, and what is behind.
fn statement<'a>(
    text: &'a str,
    value: &mut Value<'_>,
) -> Result<(Option<&'a str>, &'a str), &'static str> {
    let exported = text.strip_prefix("export");
    let exported = exported.filter(|rest| rest.starts_with(BLANKS));
    let text = exported.unwrap_or(text).trim_start_matches(BLANKS);
    let is_end = |c: char| c == '=' || c == '#' || c.is_whitespace();
    let (name, rest) = text.split_at(text.find(is_end).unwrap_or(text.len()));
    let Some(rest) = rest.trim_start_matches(BLANKS).strip_prefix('=') else {
        return Ok((None, end_of_line(rest).ok_or("it is not NAME=value")?));
    };
    if name.is_empty() {
        return Err("it has no name before =");
    }
    let written = rest.trim_start_matches(BLANKS);
    let rest = if let Some(quoted) = written.strip_prefix('\'') {
        end_of_line(value.read_single_quoted(quoted)?).ok_or(MORE)?
    } else if let Some(quoted) = written.strip_prefix('"') {
        end_of_line(value.read_double_quoted(quoted)?).ok_or(MORE)?
    } else {
        let (line, rest) = rest.split_at(rest.find('\n').unwrap_or(rest.len()));
        let mut marks = line.match_indices('#').map(|(at, _)| at);
        let comment = marks.find(|at| line[..*at].ends_with(BLANKS));
        let line = &line[..comment.unwrap_or(line.len())];
        value.read_expanding(line.trim())?;
        rest
    };
    Ok((Some(name), rest))
}

const BLANKS: [char; 2] = [' ', '\t'];

/// What is behind the line; `None` if more than a comment is on it.
fn end_of_line(text: &str) -> Option<&str> {
    let (line, rest) = text.split_at(text.find('\n').unwrap_or(text.len()));
    let line = line.trim();
    (line.is_empty() || line.starts_with('#')).then_some(rest)
}

/// A value that is being read.
struct Value<'k> {
    text: String,
    known: &'k dyn Fn(&str) -> Option<&'k String>,
}

const NOT_CLOSED: &str = "its quote is not closed";
const MORE: &str = "something is behind its closing quote";

impl<'k> Value<'k> {
    fn new(known: &'k dyn Fn(&str) -> Option<&'k String>) -> Self {
        Self {
            text: String::new(),
            known,
        }
    }

    fn push(&mut self, text: &str) -> Result<(), &'static str> {
        if self.text.len() + text.len() > MAX_VALUE_BYTES {
            return Err("its value is longer than 1 MiB");
        }
        self.text.push_str(text);
        Ok(())
    }

    /// What is behind the closing quote.
    fn read_single_quoted<'a>(&mut self, mut rest: &'a str) -> Result<&'a str, &'static str> {
        loop {
            let (before, behind) = rest.split_once('\'').ok_or(NOT_CLOSED)?;
            // At the end of a Windows path a backslash is one.
            let is_escape = behind
                .lines()
                .next()
                .is_some_and(|line| line.contains('\''));
            match before.strip_suffix('\\').filter(|_| is_escape) {
                Some(before) => {
                    self.push(before)?;
                    self.push("'")?;
                }
                None => {
                    self.push(before)?;
                    return Ok(behind);
                }
            }
            rest = behind;
        }
    }

    /// What is behind the closing quote.
    fn read_double_quoted<'a>(&mut self, mut rest: &'a str) -> Result<&'a str, &'static str> {
        loop {
            let at = rest.find(['"', '\\', '$']).ok_or(NOT_CLOSED)?;
            let (before, behind) = rest.split_at(at);
            self.push(before)?;
            if let Some(behind) = behind.strip_prefix('"') {
                return Ok(behind);
            }
            rest = match escape(behind) {
                Some((meant, behind)) => {
                    self.push(meant)?;
                    behind
                }
                None => self.read_special(behind)?,
            };
        }
    }

    fn read_expanding(&mut self, mut rest: &str) -> Result<(), &'static str> {
        while let Some(at) = rest.find('$') {
            let (before, behind) = rest.split_at(at);
            self.push(before)?;
            rest = self.read_special(behind)?;
        }
        self.push(rest)
    }

    /// Reads a reference, or else one character, which is itself.
    fn read_special<'a>(&mut self, text: &'a str) -> Result<&'a str, &'static str> {
        if let Some((name, default, behind)) = reference(text)
            && let Some(value) = (self.known)(name).map(String::as_str).or(default)
        {
            self.push(value)?;
            return Ok(behind);
        }
        let mut behind = text.chars();
        behind.next();
        let behind = behind.as_str();
        self.push(&text[..text.len() - behind.len()])?;
        Ok(behind)
    }
}

/// An escape at the beginning: what it means, and what is behind.
fn escape(text: &str) -> Option<(&'static str, &str)> {
    const ESCAPES: [(&str, &str); 6] = [
        ("\\n", "\n"),
        ("\\r", "\r"),
        ("\\t", "\t"),
        ("\\\"", "\""),
        ("\\\\", "\\"),
        ("\\$", "$"),
    ];
    let mut escapes = ESCAPES.into_iter();
    escapes.find_map(|(written, meant)| Some((meant, text.strip_prefix(written)?)))
}

/// `${NAME}` or `${NAME:-DEFAULT}` at the beginning: the name, the default, and what is behind.
fn reference(text: &str) -> Option<(&str, Option<&str>, &str)> {
    let text = text.strip_prefix("${")?;
    let is_in_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let (name, rest) = text.split_at(text.find(|c| !is_in_name(c))?);
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    if let Some(rest) = rest.strip_prefix('}') {
        return Some((name, None, rest));
    }
    let rest = rest.strip_prefix(":-")?;
    let (default, rest) = rest.split_at(rest.find(['}', '"', '\n'])?);
    Some((name, Some(default), rest.strip_prefix('}')?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(text: &str) -> String {
        let found = read(text, &Variables::new()).unwrap_or_else(|error| panic!("{error:?}"));
        assert_eq!(found.len(), 1, "{found:?}");
        found.into_values().next().unwrap_or_default()
    }

    fn refused(text: &str) -> usize {
        read(text, &Variables::new()).unwrap_err().line
    }

    #[test]
    fn a_value_is_taken_as_it_is_written() {
        for (line, value) in [
            ("K=sk-ab$cd9", "sk-ab$cd9"),
            ("K=\"sk-ab$cd9\"", "sk-ab$cd9"),
            ("K='sk-ab$cd9'", "sk-ab$cd9"),
            ("K=a${NOT_SET}$", "a${NOT_SET}$"),
            ("JSON={\"a\": 1}", "{\"a\": 1}"),
            ("K=two words", "two words"),
            ("X=it's", "it's"),
            ("WIN=C:\\temp\\x", "C:\\temp\\x"),
            ("my-var=1", "1"),
            ("\u{feff}K=1", "1"),
            ("K = 1 ", "1"),
            ("export K=1", "1"),
            ("export=1", "1"),
            ("K=", ""),
            ("K=a#b", "a#b"),
            ("K=#b", "#b"),
            ("K=a #b", "a"),
            ("K= # b", ""),
            ("K='a #b' # c", "a #b"),
            ("K=\"a\\n\\\"b\\\" \\\\ \\$ \\d\" # c", "a\n\"b\" \\ $ \\d"),
            ("K='it\\'s \\n'", "it's \\n"),
            ("K='C:\\temp\\'", "C:\\temp\\"),
            (
                "K=\"-----BEGIN\nMII\n-----END\"\n# c",
                "-----BEGIN\nMII\n-----END",
            ),
            ("K=a=b=", "a=b="),
            ("# c\r\n\r\nK=1\r\nONLY_NAMED\r\n", "1"),
            ("K=1\nK=2", "2"),
            ("K=é\u{a0}ü", "é\u{a0}ü"),
        ] {
            assert_eq!(one(line), value, "{line:?}");
        }
    }

    #[test]
    fn only_a_variable_in_braces_that_is_set_stands_for_its_value() {
        let environment = Variables::from([("HOST".to_owned(), "there".to_owned())]);
        let text = "HOST=here\nU=me\nA=${U}@${HOST}:${PORT:-5432}\nB=\"${U}\\${U}$U\"\nC='${U}'";
        let found = read(text, &environment).unwrap();
        assert_eq!(found["A"], "me@there:5432");
        assert_eq!(found["B"], "me${U}$U");
        assert_eq!(found["C"], "${U}");
    }

    #[test]
    fn what_is_refused_is_named_by_its_line() {
        for (text, line) in [
            ("A=1\nB 2\n", 2),
            ("A=1\n\nB='x\nC=2\n", 3),
            ("B=\"x\n", 1),
            ("A='x' y", 1),
            ("A=\"1\n2\"\n=3", 3),
        ] {
            assert_eq!(refused(text), line, "{text:?}");
        }
    }

    #[test]
    fn values_that_are_made_of_each_other_do_not_grow_without_end() {
        let doubling = "A=${A}${A}\n".repeat(64);
        assert!(refused(&format!("A=0123456789\n{doubling}")) > 10);
    }

    /// Values as people write them, and pieces of what this file is about.
    fn any_text() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just("${A}".to_owned()),
            Just("\n".to_owned()),
            "[A-B=#$'\"\\\\{}:\\- \t\r\u{feff}é]{0,4}",
        ];
        proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn a_quoted_value_is_read_back(value in "[ -~éß\n\t]{0,40}") {
            let literal = value.replace('\'', "\\'");
            if !(value.contains('\'') && value.contains('\n')) {
                prop_assert_eq!(&one(&format!("K='{literal}' # c")), &value);
            }
            let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "\\$");
            prop_assert_eq!(&one(&format!("export K = \"{escaped}\"")), &value);
        }

        #[test]
        fn any_text_is_read_or_refused_by_a_line_that_it_has(text in any_text()) {
            if let Err(refused) = read(&text, &Variables::new()) {
                let lines = text.split(['\n', '\r']).count();
                prop_assert!((1..=lines).contains(&refused.line), "{refused:?}");
            }
        }
    }
}
