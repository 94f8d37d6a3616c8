//! Checks the form of what was sent, and tells everything that is wrong with it at once, in the
//! shape that FastAPI's clients know.

use std::borrow::Cow;
use std::fmt;

use serde::Serialize;
use serde_json::{Map, Value, json};
use tutor_core::Error;

use crate::error::ApiError;

/// Problems that are told of one request; more are not looked for.
const MAX_PROBLEMS: usize = 100;

/// How much of an input is sent back, in characters.
const MAX_INPUT_CHARS: usize = 200;

/// One thing that is wrong with a request.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Problem {
    r#type: &'static str,
    loc: Vec<Place>,
    msg: Cow<'static, str>,
    input: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    ctx: Option<Value>,
}

/// A step on the way to a value.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum Place {
    Name(Cow<'static, str>),
    Index(usize),
}

impl From<&'static str> for Place {
    fn from(name: &'static str) -> Self {
        Self::Name(Cow::Borrowed(name))
    }
}

impl From<String> for Place {
    fn from(name: String) -> Self {
        Self::Name(Cow::Owned(name))
    }
}

impl From<usize> for Place {
    fn from(index: usize) -> Self {
        Self::Index(index)
    }
}

impl Problem {
    pub(crate) fn new(
        r#type: &'static str,
        loc: Vec<Place>,
        msg: impl Into<Cow<'static, str>>,
        input: &Value,
    ) -> Self {
        Self {
            r#type,
            loc,
            msg: msg.into(),
            input: clip(input),
            ctx: None,
        }
    }

    pub(crate) fn with_ctx(mut self, ctx: Value) -> Self {
        self.ctx = Some(ctx);
        self
    }

    /// A value of the right type that cannot be used.
    pub(crate) fn value(loc: Vec<Place>, why: &str, input: &Value) -> Self {
        Self::new("value_error", loc, format!("Value error, {why}"), input)
            .with_ctx(json!({"error": why}))
    }

    /// What the engine says about this part of a request, whose form is right.
    pub(crate) fn of_engine(error: &Error, place: &str) -> Self {
        let field = error.context_value("field").into_iter();
        let names = field.flat_map(|field| field.split('.'));
        let loc = [place].into_iter().chain(names);
        Self::value(
            loc.map(|name| name.to_owned().into()).collect(),
            error.message(),
            &Value::Null,
        )
    }
}

impl fmt::Display for Problem {
    /// The way to the value, and what is wrong with it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, place) in self.loc.iter().skip(1).enumerate() {
            let dot = if i == 0 { "" } else { "." };
            match place {
                Place::Name(name) => write!(f, "{dot}{name}")?,
                Place::Index(index) => write!(f, "{dot}{index}")?,
            }
        }
        let colon = if self.loc.len() > 1 { ": " } else { "" };
        write!(f, "{colon}{}", self.msg)
    }
}

/// What is sent back of an input: enough to recognize it.
fn clip(input: &Value) -> Value {
    let text = match input {
        Value::String(text) => Cow::Borrowed(text.as_str()),
        Value::Array(_) | Value::Object(_) => Cow::Owned(input.to_string()),
        Value::Null | Value::Bool(_) | Value::Number(_) => return input.clone(),
    };
    match text.char_indices().nth(MAX_INPUT_CHARS) {
        Some((end, _)) => Value::String(format!("{}\u{2026}", &text[..end])),
        None => input.clone(),
    }
}

/// Collects the problems of one request while it is taken apart.
#[derive(Debug)]
pub(crate) struct Checker {
    problems: Vec<Problem>,
    at: Vec<Place>,
}

impl Checker {
    /// Begins at `root`: `body`, `query`, `path` or `header`.
    pub(crate) fn new(root: &'static str) -> Self {
        Self {
            problems: Vec::new(),
            at: vec![root.into()],
        }
    }

    /// Everything that was found, or `value` if nothing was.
    pub(crate) fn finish<T>(self, value: Option<T>) -> Result<T, ApiError> {
        match value {
            Some(value) if self.problems.is_empty() => Ok(value),
            _ => Err(ApiError::Invalid(self.problems.into())),
        }
    }

    /// Runs `f` one step further inside.
    pub(crate) fn within<T>(
        &mut self,
        place: impl Into<Place>,
        f: impl FnOnce(&mut Self) -> T,
    ) -> T {
        self.at.push(place.into());
        let result = f(self);
        self.at.pop();
        result
    }

    /// Notes a problem with `input`, which is here.
    pub(crate) fn fail(
        &mut self,
        r#type: &'static str,
        msg: impl Into<Cow<'static, str>>,
        input: &Value,
    ) {
        self.note(Problem::new(r#type, self.at.clone(), msg, input));
    }

    pub(crate) fn fail_with(
        &mut self,
        r#type: &'static str,
        msg: impl Into<Cow<'static, str>>,
        input: &Value,
        ctx: Value,
    ) {
        self.note(Problem::new(r#type, self.at.clone(), msg, input).with_ctx(ctx));
    }

    /// Notes that a value of the right type cannot be used.
    pub(crate) fn fail_value(&mut self, why: &str, input: &Value) {
        self.note(Problem::value(self.at.clone(), why, input));
    }

    fn note(&mut self, problem: Problem) {
        if !self.is_full() {
            self.problems.push(problem);
        }
    }

    /// True if so many problems were found that looking for more is a waste.
    pub(crate) fn is_full(&self) -> bool {
        self.problems.len() >= MAX_PROBLEMS
    }

    /// The member `name` of `object`; a problem if it is absent.
    pub(crate) fn required<T>(
        &mut self,
        object: &Map<String, Value>,
        name: &'static str,
        f: impl FnOnce(&mut Self, &Value) -> Option<T>,
    ) -> Option<T> {
        self.within(name, |c| match object.get(name) {
            Some(value) => f(c, value),
            None => {
                c.fail("missing", "Field required", &Value::Object(object.clone()));
                None
            }
        })
    }

    /// The member `name` of `object`; nothing if it is absent or null.
    pub(crate) fn optional<T>(
        &mut self,
        object: &Map<String, Value>,
        name: &'static str,
        f: impl FnOnce(&mut Self, &Value) -> Option<T>,
    ) -> Option<T> {
        let value = object.get(name).filter(|value| !value.is_null())?;
        self.within(name, |c| f(c, value))
    }

    /// Refuses members that are not `known`.
    pub(crate) fn only(&mut self, object: &Map<String, Value>, known: &[&str]) {
        for (name, value) in object {
            if !known.contains(&name.as_str()) {
                let place: String = name.chars().take(MAX_INPUT_CHARS).collect();
                self.within(place, |c| {
                    c.fail("extra_forbidden", "Extra inputs are not permitted", value);
                });
            }
        }
    }

    /// A whole body or a list item.
    pub(crate) fn model<'a>(&mut self, value: &'a Value) -> Option<&'a Map<String, Value>> {
        let object = value.as_object();
        if object.is_none() {
            let msg = "Input should be a valid dictionary or object to extract fields from";
            self.fail("model_attributes_type", msg, value);
        }
        object
    }

    /// An object of any members.
    pub(crate) fn dict(&mut self, value: &Value) -> Option<Map<String, Value>> {
        let object = value.as_object();
        if object.is_none() {
            self.fail("dict_type", "Input should be a valid dictionary", value);
        }
        object.cloned()
    }

    pub(crate) fn list<'a>(&mut self, value: &'a Value) -> Option<&'a [Value]> {
        let list = value.as_array();
        if list.is_none() {
            self.fail("list_type", "Input should be a valid list", value);
        }
        list.map(Vec::as_slice)
    }

    pub(crate) fn string<'a>(&mut self, value: &'a Value) -> Option<&'a str> {
        let text = value.as_str();
        if text.is_none() {
            self.fail("string_type", "Input should be a valid string", value);
        }
        text
    }

    /// A text of `min` to `max` characters.
    pub(crate) fn text(&mut self, value: &Value, min: usize, max: usize) -> Option<String> {
        let text = self.string(value)?;
        let chars = text.chars().count();
        let s = |n: usize| if n == 1 { "" } else { "s" };
        if chars < min {
            let msg = format!("String should have at least {min} character{}", s(min));
            self.fail_with("string_too_short", msg, value, json!({"min_length": min}));
            return None;
        }
        if chars > max {
            let msg = format!("String should have at most {max} character{}", s(max));
            self.fail_with("string_too_long", msg, value, json!({"max_length": max}));
            return None;
        }
        Some(text.to_owned())
    }

    /// A text that `parse` understands, such as an id.
    pub(crate) fn parsed<T>(
        &mut self,
        value: &Value,
        parse: impl FnOnce(&str) -> tutor_core::Result<T>,
    ) -> Option<T> {
        match parse(self.string(value)?) {
            Ok(parsed) => Some(parsed),
            Err(error) => {
                self.fail_value(error.message(), value);
                None
            }
        }
    }

    /// True or false, and no word or number for it.
    pub(crate) fn yes_or_no(&mut self, value: &Value) -> Option<bool> {
        if value.as_bool().is_none() {
            self.fail("bool_type", "Input should be a valid boolean", value);
        }
        value.as_bool()
    }

    /// True or false, also in the words of query strings.
    pub(crate) fn boolean(&mut self, value: &Value) -> Option<bool> {
        let word = match value {
            Value::Bool(yes) => return Some(*yes),
            Value::String(word) => word.to_ascii_lowercase(),
            Value::Number(number) => number.to_string(),
            Value::Null | Value::Array(_) | Value::Object(_) => {
                self.fail("bool_type", "Input should be a valid boolean", value);
                return None;
            }
        };
        match word.as_str() {
            "1" | "true" | "on" | "yes" | "t" | "y" => Some(true),
            "0" | "false" | "off" | "no" | "f" | "n" => Some(false),
            _ => {
                let msg = "Input should be a valid boolean, unable to interpret input";
                self.fail("bool_parsing", msg, value);
                None
            }
        }
    }

    /// A number from `min` to `max`.
    pub(crate) fn number(&mut self, value: &Value, min: f64, max: f64) -> Option<f64> {
        let Some(number) = value.as_f64() else {
            self.fail("float_type", "Input should be a valid number", value);
            return None;
        };
        if number < min {
            self.below(min, value);
            return None;
        }
        if number > max {
            self.above(max, value);
            return None;
        }
        Some(number)
    }

    /// A whole number of at least `min`; also `5.0`, as JavaScript's numbers are.
    pub(crate) fn integer(&mut self, value: &Value, min: u64) -> Option<u64> {
        // Exact up to 2^53; beyond, nobody counts tokens.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "whole and not negative"
        )]
        let whole = |number: f64| (number.fract() == 0.0 && number >= 0.0).then_some(number as u64);
        let number = value.as_u64().or_else(|| value.as_f64().and_then(whole));
        match number {
            Some(number) if number >= min => Some(number),
            Some(_) => {
                self.below(min, value);
                None
            }
            None if value.as_f64().is_some_and(|number| number < 0.0) => {
                self.below(min, value);
                None
            }
            None => {
                self.fail("int_type", "Input should be a valid integer", value);
                None
            }
        }
    }

    /// A number of digits alone, of 19 at most.
    pub(crate) fn digits(&mut self, text: &str) -> Option<u64> {
        let is_number = text.len() <= 19 && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse().ok().filter(|_| is_number);
        if number.is_none() {
            let msg = "Input should be a valid integer, unable to parse string as an integer";
            self.fail("int_parsing", msg, &Value::from(text));
        }
        number
    }

    /// A whole number from `min` to `max` as a query string has it.
    pub(crate) fn integer_text(&mut self, text: &str, min: u64, max: u64) -> Option<u64> {
        let input = Value::from(text);
        let Ok(number) = text.trim().parse::<i128>() else {
            let msg = "Input should be a valid integer, unable to parse string as an integer";
            self.fail("int_parsing", msg, &input);
            return None;
        };
        if number < i128::from(min) {
            self.below(min, &input);
            return None;
        }
        if number > i128::from(max) {
            self.above(max, &input);
            return None;
        }
        u64::try_from(number).ok()
    }

    fn below(&mut self, min: impl Serialize + std::fmt::Display, input: &Value) {
        let msg = format!("Input should be greater than or equal to {min}");
        self.fail_with("greater_than_equal", msg, input, json!({"ge": min}));
    }

    fn above(&mut self, max: impl Serialize + std::fmt::Display, input: &Value) {
        let msg = format!("Input should be less than or equal to {max}");
        self.fail_with("less_than_equal", msg, input, json!({"le": max}));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(check: impl FnOnce(&mut Checker)) -> Value {
        let mut checker = Checker::new("body");
        check(&mut checker);
        serde_json::to_value(checker.problems).unwrap()
    }

    #[test]
    fn a_long_input_is_clipped_and_a_short_one_is_sent_back() {
        let long = Value::String("é".repeat(201));
        assert_eq!(clip(&long), json!(format!("{}\u{2026}", "é".repeat(200))));
        let fits = Value::String("é".repeat(200));
        assert_eq!(clip(&fits), fits);
        let object = json!({"a": "x".repeat(300)});
        assert!(clip(&object).as_str().unwrap().starts_with(r#"{"a":"xxx"#));
        assert_eq!(clip(&json!({"a": 1})), json!({"a": 1}));
    }

    #[test]
    fn integers_are_taken_as_json_and_as_javascript_write_them() {
        let mut checker = Checker::new("body");
        assert_eq!(checker.integer(&json!(5), 1), Some(5));
        assert_eq!(checker.integer(&json!(5.0), 1), Some(5));
        let found = problems(|c| {
            c.integer(&json!(0), 1);
            c.integer(&json!(-1), 1);
            c.integer(&json!(1.5), 1);
            c.integer(&json!("5"), 1);
        });
        let types: Vec<_> = found
            .as_array()
            .unwrap()
            .iter()
            .map(|p| &p["type"])
            .collect();
        assert_eq!(
            types,
            [
                "greater_than_equal",
                "greater_than_equal",
                "int_type",
                "int_type"
            ]
        );
        assert_eq!(found[0]["ctx"], json!({"ge": 1}));
    }

    #[test]
    fn query_numbers_are_checked_as_the_original_did() {
        let found = problems(|c| {
            c.integer_text("abc", 1, 200);
            c.integer_text("0", 1, 200);
            c.integer_text("1000", 1, 200);
            c.integer_text("99999999999999999999", 1, 200);
        });
        assert_eq!(
            found[2],
            json!({
                "type": "less_than_equal",
                "loc": ["body"],
                "msg": "Input should be less than or equal to 200",
                "input": "1000",
                "ctx": {"le": 200},
            })
        );
        let types: Vec<_> = found
            .as_array()
            .unwrap()
            .iter()
            .map(|p| &p["type"])
            .collect();
        assert_eq!(
            types,
            [
                "int_parsing",
                "greater_than_equal",
                "less_than_equal",
                "less_than_equal"
            ]
        );
    }

    #[test]
    fn the_number_of_problems_is_bounded() {
        let found = problems(|c| {
            for i in 0..1000 {
                c.within(i, |c| c.fail("missing", "Field required", &Value::Null));
            }
        });
        assert_eq!(found.as_array().unwrap().len(), MAX_PROBLEMS);
    }
}
