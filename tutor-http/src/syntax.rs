//! Where a text stops being JSON, in the words and with the offsets of Python's decoder: what
//! front ends of the original server show.

use std::iter::Peekable;
use std::str::CharIndices;

/// Nesting that is followed; the parser gives up at the same depth.
const MAX_DEPTH: usize = 128;

/// The first place where a text is not JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Characters before it.
    pub(crate) at: usize,
    /// What is wrong.
    pub(crate) what: String,
}

/// True if the parser gave up because of the nesting alone.
pub(crate) fn is_too_deep(error: &serde_json::Error) -> bool {
    error.to_string().starts_with("recursion limit")
}

impl Fault {
    /// Finds the fault in a text that the parser refused with `error`.
    pub(crate) fn find(text: &str, error: &serde_json::Error) -> Self {
        let mut scanner = Scanner {
            text,
            chars: text.char_indices().peekable(),
            at: 0,
        };
        match scanner.document() {
            Err(fault) => fault,
            // Python's decoder is more lenient: about NaN, lone surrogates and huge numbers.
            Ok(()) => Self {
                at: offset(text, error),
                what: reason(error),
            },
        }
    }
}

/// The place that the parser names, in characters from the start of the text.
fn offset(text: &str, error: &serde_json::Error) -> usize {
    let lines = text.split_inclusive('\n');
    let before: usize = lines
        .take(error.line().saturating_sub(1))
        .map(str::len)
        .sum();
    // Columns count bytes, from 1.
    let end = before + error.column().saturating_sub(1);
    text.char_indices().take_while(|(i, _)| *i < end).count()
}

/// What the parser says, without the place.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.split_once(" at line ") {
        Some((reason, _)) => reason.to_owned(),
        None => text,
    }
}

struct Scanner<'a> {
    text: &'a str,
    chars: Peekable<CharIndices<'a>>,
    /// Characters taken so far.
    at: usize,
}

type Scan = Result<(), Fault>;

impl Scanner<'_> {
    fn document(&mut self) -> Scan {
        self.space();
        self.value(0)?;
        self.space();
        match self.peek() {
            Some(_) => self.fault("Extra data"),
            None => Ok(()),
        }
    }

    fn value(&mut self, depth: usize) -> Scan {
        match self.peek() {
            _ if depth > MAX_DEPTH => self.fault("Nesting too deep"),
            Some('"') => self.string(),
            Some('{') => self.object(depth),
            Some('[') => self.array(depth),
            Some('-' | '0'..='9') => self.number(),
            Some(_) => self.word(&["null", "true", "false", "NaN", "Infinity"]),
            None => self.fault("Expecting value"),
        }
    }

    fn object(&mut self, depth: usize) -> Scan {
        self.take();
        self.space();
        if self.skip('}') {
            return Ok(());
        }
        loop {
            if self.peek() != Some('"') {
                return self.fault("Expecting property name enclosed in double quotes");
            }
            self.string()?;
            self.space();
            if !self.skip(':') {
                return self.fault("Expecting ':' delimiter");
            }
            self.space();
            self.value(depth + 1)?;
            self.space();
            if self.skip('}') {
                return Ok(());
            }
            if !self.skip(',') {
                return self.fault("Expecting ',' delimiter");
            }
            self.space();
        }
    }

    fn array(&mut self, depth: usize) -> Scan {
        self.take();
        self.space();
        if self.skip(']') {
            return Ok(());
        }
        loop {
            self.value(depth + 1)?;
            self.space();
            if self.skip(']') {
                return Ok(());
            }
            if !self.skip(',') {
                return self.fault("Expecting ',' delimiter");
            }
            self.space();
        }
    }

    fn string(&mut self) -> Scan {
        let start = self.at;
        self.take();
        loop {
            match self.peek() {
                None => return fault(start, "Unterminated string starting at"),
                Some('"') => {
                    self.take();
                    return Ok(());
                }
                Some('\\') => self.escape(start)?,
                Some(c) if c < ' ' => return self.fault("Invalid control character at"),
                Some(_) => self.take(),
            }
        }
    }

    fn escape(&mut self, start: usize) -> Scan {
        let backslash = self.at;
        self.take();
        match self.peek() {
            None => fault(start, "Unterminated string starting at"),
            Some('u') => {
                self.take();
                let first = self.at;
                for _ in 0..4 {
                    if !self.peek().is_some_and(|c| c.is_ascii_hexdigit()) {
                        return fault(first, "Invalid \\uXXXX escape");
                    }
                    self.take();
                }
                Ok(())
            }
            Some('"' | '\\' | '/' | 'b' | 'f' | 'n' | 'r' | 't') => {
                self.take();
                Ok(())
            }
            Some(_) => fault(backslash, "Invalid \\escape"),
        }
    }

    fn number(&mut self) -> Scan {
        let start = self.at;
        if self.skip('-') && self.peek() == Some('I') {
            return self.word(&["Infinity"]);
        }
        if !self.skip('0') && self.digits() == 0 {
            return fault(start, "Expecting value");
        }
        // A fraction or exponent without digits does not belong to the number.
        self.attempt(|s| s.skip('.') && s.digits() > 0);
        self.attempt(|s| {
            let exponent = s.skip('e') || s.skip('E');
            let _sign = exponent && (s.skip('+') || s.skip('-'));
            exponent && s.digits() > 0
        });
        Ok(())
    }

    fn attempt(&mut self, f: impl FnOnce(&mut Self) -> bool) {
        let before = (self.chars.clone(), self.at);
        if !f(self) {
            (self.chars, self.at) = before;
        }
    }

    fn digits(&mut self) -> usize {
        let start = self.at;
        while self.peek().is_some_and(|c| c.is_ascii_digit()) {
            self.take();
        }
        self.at - start
    }

    fn word(&mut self, words: &[&str]) -> Scan {
        let rest = self.chars.peek().map_or("", |(i, _)| &self.text[*i..]);
        let Some(word) = words.iter().find(|word| rest.starts_with(**word)) else {
            return self.fault("Expecting value");
        };
        word.chars().for_each(|_| self.take());
        Ok(())
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(' ' | '\t' | '\n' | '\r')) {
            self.take();
        }
    }

    fn peek(&mut self) -> Option<char> {
        self.chars.peek().map(|(_, c)| *c)
    }

    fn take(&mut self) {
        if self.chars.next().is_some() {
            self.at += 1;
        }
    }

    fn skip(&mut self, c: char) -> bool {
        let found = self.peek() == Some(c);
        if found {
            self.take();
        }
        found
    }

    fn fault(&self, what: &str) -> Scan {
        fault(self.at, what)
    }
}

fn fault(at: usize, what: &str) -> Scan {
    let what = what.to_owned();
    Err(Fault { at, what })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_told_as_python_tells_them() {
        for (text, at, what) in [
            (r#"{"messages": ["#, 14, "Expecting value"),
            (r#"{"messages": nope}"#, 13, "Expecting value"),
            (r#"{"é": 1}x"#, 8, "Extra data"),
            (r#"{"a" 1}"#, 5, "Expecting ':' delimiter"),
            (r#"{"a": 1 "b"}"#, 8, "Expecting ',' delimiter"),
            (
                "{a: 1}",
                1,
                "Expecting property name enclosed in double quotes",
            ),
            ("[1,]", 3, "Expecting value"),
            ("[1 2]", 3, "Expecting ',' delimiter"),
            (r#"["ab"#, 1, "Unterminated string starting at"),
            ("[\"a\nb\"]", 3, "Invalid control character at"),
            (r#"["a\x"]"#, 3, "Invalid \\escape"),
            (r#"["\u12g4"]"#, 4, "Invalid \\uXXXX escape"),
            ("01", 1, "Extra data"),
            ("-", 0, "Expecting value"),
            ("[1.]", 2, "Expecting ',' delimiter"),
            ("   ", 3, "Expecting value"),
        ] {
            let error = serde_json::from_str::<serde_json::Value>(text).unwrap_err();
            let expected = Fault {
                at,
                what: what.to_owned(),
            };
            assert_eq!(Fault::find(text, &error), expected, "{text}");
        }
    }

    #[test]
    fn what_only_python_takes_is_refused_with_its_place() {
        for (text, at, what) in [
            (r#"{"t":NaN}"#, 5, "expected value"),
            (r#"["é",-Infinity]"#, 6, "invalid number"),
            ("[1e400]", 5, "number out of range"),
        ] {
            let error = serde_json::from_str::<serde_json::Value>(text).unwrap_err();
            let fault = Fault::find(text, &error);
            assert_eq!((fault.at, fault.what.as_str()), (at, what), "{text}");
        }
        let text = r#"["\ud800"]"#;
        let error = serde_json::from_str::<serde_json::Value>(text).unwrap_err();
        assert!(
            Fault::find(text, &error).what.contains("surrogate")
                || Fault::find(text, &error).what.contains("hex escape")
        );
    }
}
