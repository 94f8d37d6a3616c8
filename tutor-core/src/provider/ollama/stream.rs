//! The lines of an Ollama chat.

use std::mem;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::message::{FinishReason, Usage};
use crate::provider::Delta;
use crate::provider::calls::Calls;
use crate::provider::fault::{Failure, Fault};
use crate::provider::json::{Joiner, Wide, Word, count, lenient, raw};
use crate::provider::reply::{Progress, Protocol, empty_output, push, read_document, read_json};

/// What has been read of one completion.
#[derive(Debug, Default)]
pub(crate) struct ChatStream {
    text: Joiner,
    reasoning: Joiner,
    calls: Calls,
    /// Why it is done; empty if it did not say.
    done: Option<String>,
    begun: bool,
    said: bool,
}

impl Protocol for ChatStream {
    const VALUES: bool = true;

    fn event(&mut self, json: &str, out: &mut Vec<Delta>) -> Result<Progress, Failure> {
        let done = read_json(json, |json| {
            serde_json::from_str::<Line<'_>>(json).map(|line| self.line(line, out))
        })??;
        if !done {
            return Ok(Progress::Running);
        }
        self.finish(out)?;
        Ok(Progress::Ended)
    }

    fn document(&mut self, json: &str, out: &mut Vec<Delta>) -> Result<(), Failure> {
        read_document(json, |json| {
            serde_json::from_str::<Line<'_>>(json).map(|line| self.line(line, out))
        })??;
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<Delta>) -> Result<(), Failure> {
        let Some(done) = self.done.take() else {
            return Err(Failure::new(if self.begun {
                Fault::TruncatedStream
            } else {
                Fault::EmptyResponse
            }));
        };
        push(out, Delta::Reasoning(self.reasoning.finish().to_owned()));
        push(out, Delta::Text(self.text.finish().to_owned()));
        let reason = match done.as_str() {
            "stop" | "" if !self.calls.is_empty() => FinishReason::ToolCalls,
            "stop" | "" => FinishReason::Stop,
            "length" => FinishReason::Length,
            _ => FinishReason::Other,
        };
        if !self.said && self.calls.is_empty() {
            out.push(empty_output());
        }
        out.extend(mem::take(&mut self.calls).finish(reason == FinishReason::Length));
        out.push(Delta::Finished { reason });
        Ok(())
    }
}

impl ChatStream {
    /// True if it was the last one.
    fn line(&mut self, line: Line<'_>, out: &mut Vec<Delta>) -> Result<bool, Failure> {
        if line.message.is_none() && line.done.is_none() {
            // Another protocol: the base URL is wrong.
            return Err(Failure::hopeless(Fault::Malformed));
        }
        self.begun = true;
        if let Some(message) = line.message {
            push(
                out,
                Delta::Reasoning(self.reasoning.push(message.thinking.unwrap_or_default())),
            );
            let text = message.content.unwrap_or_default();
            self.said |= !text.is_empty();
            push(out, Delta::Text(self.text.push(text)));
            for call in message.tool_calls.into_iter().flatten().flatten() {
                let word = |word: Option<Word>| word.map(|word| word.0).unwrap_or_default();
                let function = call.function.unwrap_or_default();
                let arguments = function.arguments.map(arguments).unwrap_or_default();
                self.calls
                    .add(word(call.id), word(function.name), arguments)?;
            }
        }
        if line.done != Some(true) {
            return Ok(false);
        }
        let usage = Usage {
            input_tokens: line.prompt_eval_count,
            output_tokens: line.eval_count,
            ..Usage::default()
        };
        if !usage.is_empty() {
            out.push(Delta::Usage(usage));
        }
        self.done = Some(line.done_reason.map(|reason| reason.0).unwrap_or_default());
        Ok(true)
    }
}

/// Arguments are an object here; some imitators send its text.
fn arguments(raw: &RawValue) -> Wide {
    serde_json::from_str(raw.get()).unwrap_or_else(|_| Wide::from(raw.get()))
}

/// One line, or a whole reply: every field may be missing, null, or of a wrong type.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(default, borrow)]
    message: Option<Message<'a>>,
    #[serde(default, deserialize_with = "lenient")]
    done: Option<bool>,
    #[serde(default, deserialize_with = "lenient")]
    done_reason: Option<Word>,
    #[serde(default, deserialize_with = "count")]
    prompt_eval_count: Option<u64>,
    #[serde(default, deserialize_with = "count")]
    eval_count: Option<u64>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(default)]
    content: Option<Wide>,
    #[serde(default, deserialize_with = "lenient")]
    thinking: Option<Wide>,
    #[serde(default, borrow)]
    tool_calls: Option<Vec<Option<Call<'a>>>>,
}

#[derive(Deserialize)]
struct Call<'a> {
    #[serde(default, deserialize_with = "lenient")]
    id: Option<Word>,
    #[serde(default, borrow)]
    function: Option<Function<'a>>,
}

#[derive(Default, Deserialize)]
struct Function<'a> {
    #[serde(default, deserialize_with = "lenient")]
    name: Option<Word>,
    #[serde(default, borrow, deserialize_with = "raw")]
    arguments: Option<&'a RawValue>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::reply::testing;

    fn run(body: &str) -> (Vec<Delta>, Option<(Fault, bool)>) {
        testing::run(ChatStream::default(), body)
    }

    fn text(text: &str) -> Delta {
        Delta::Text(text.to_owned())
    }

    #[test]
    fn reasons_to_be_done_are_known() {
        for (done, reason) in [
            (r#""stop""#, FinishReason::Stop),
            (r#""""#, FinishReason::Stop),
            ("null", FinishReason::Stop),
            (r#""length""#, FinishReason::Length),
            (r#""unload""#, FinishReason::Other),
        ] {
            let body = format!(
                "{{\"message\":{{\"content\":\"x\"}}}}\n{{\"done\":true,\"done_reason\":{done}}}"
            );
            let expected = vec![text("x"), Delta::Finished { reason }];
            assert_eq!(run(&body), (expected, None), "{done}");
        }
    }

    #[test]
    fn a_model_that_was_only_loaded_says_nothing() {
        let (deltas, failure) =
            run(r#"{"message":{"content":""},"done":true,"done_reason":"load"}"#);
        assert_eq!(failure, None);
        assert!(
            matches!(&deltas[..], [Delta::Notice(notice), Delta::Finished { reason: FinishReason::Other }] if notice.code == "empty_output")
        );
    }

    #[test]
    fn without_done_a_reply_is_not_complete() {
        let cut = "{\"message\":{\"content\":\"x\"},\"done\":false}\n{\"message\":";
        let truncated = Some((Fault::TruncatedStream, true));
        assert_eq!(run(cut), (vec![text("x")], truncated));
        assert_eq!(run("{\"message\":{\"content\":\"x\"}}\n").1, truncated);
    }

    #[test]
    fn what_is_no_line_of_this_protocol_is_hopeless() {
        for body in [
            "{\"choices\":[]}\n",
            "{\"message\":{\"content\":\"x\"}}\noops",
        ] {
            assert_eq!(run(body).1, Some((Fault::Malformed, false)), "{body}");
        }
    }

    #[test]
    fn an_error_may_come_at_any_line() {
        for (error, fault) in [
            (
                "the input exceeds the context length",
                Fault::ContextTooLong,
            ),
            ("something broke", Fault::Server),
        ] {
            let body =
                format!("{{\"message\":{{\"content\":\"x\"}}}}\n{{\"error\":\"{error}\"}}\n");
            assert_eq!(run(&body).1.map(|it| it.0), Some(fault));
        }
    }
}
