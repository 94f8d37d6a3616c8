//! The tools of a turn, and what comes of calling them.

use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use serde_json::Value;

use super::schema::{Schema, is_name};
use crate::error::{Error, Result};
use crate::event::Event;
use crate::limits::Limits;
use crate::tool::{SharedTool, ToolCall, ToolSpec};

/// Tools by their names, ready to be called.
#[derive(Clone, Debug, Default)]
pub(crate) struct Toolbox(Arc<Vec<Ready>>);

#[derive(Clone, Debug)]
struct Ready {
    spec: ToolSpec,
    schema: Arc<Schema>,
    /// `None` if the caller runs it.
    tool: Option<SharedTool>,
}

impl Toolbox {
    /// These tools, the ones of `more`, and those that the caller runs.
    ///
    /// # Errors
    /// `invalid_input` for a name or schema that is none, and for two tools of one name.
    pub(crate) fn with(&self, more: &[SharedTool], callers: &[ToolSpec]) -> Result<Self> {
        if more.is_empty() && callers.is_empty() {
            return Ok(self.clone());
        }
        let mut ready: Vec<Ready> = self.0.to_vec();
        let own = more
            .iter()
            .map(|tool| (tool.spec(), Some(Arc::clone(tool))));
        let callers = callers.iter().map(|spec| (spec.clone(), None));
        for (spec, tool) in own.chain(callers) {
            let refuse =
                |why: &'static str| Err(Error::invalid_input(why).with_context("tool", &spec.name));
            if !is_name(&spec.name) {
                return refuse("a tool's name has 1 to 64 ASCII letters, digits, _ and -");
            }
            if ready.iter().any(|other| other.spec.name == spec.name) {
                return refuse("two tools have the same name: rename one");
            }
            let schema = Schema::new(&spec.parameters)
                .map_err(|error| error.with_context("tool", &spec.name))?;
            ready.push(Ready {
                spec,
                schema: Arc::new(schema),
                tool,
            });
        }
        Ok(Self(Arc::new(ready)))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What the model is told.
    pub(crate) fn specs(&self) -> Vec<ToolSpec> {
        self.0.iter().map(|ready| ready.spec.clone()).collect()
    }

    /// Makes all calls of a round at the same time. The results are in the calls' order; those
    /// that the caller has to make are left open.
    pub(crate) async fn answer(self, calls: Vec<ToolCall>, limits: Limits) -> Vec<Event> {
        let answers = calls.into_iter().enumerate().map(|(n, call)| {
            let (tools, limits) = (&self, &limits);
            async move {
                let call_id = call.id.clone();
                let answered = if n < limits.max_tool_calls {
                    tools.call(call, limits).await.transpose()?
                } else {
                    Err(format!(
                        "not called: at most {} tools are called at a time",
                        limits.max_tool_calls
                    ))
                };
                let is_error = answered.is_err();
                Some(Event::ToolResult {
                    call_id,
                    result: answered.unwrap_or_else(Value::String),
                    is_error,
                })
            }
        });
        let answers = futures_util::future::join_all(answers).await;
        answers.into_iter().flatten().collect()
    }

    /// Makes one call; `None` if the caller has to make it. The error is what the model is told.
    async fn call(
        &self,
        call: ToolCall,
        limits: &Limits,
    ) -> std::result::Result<Option<Value>, String> {
        let Some(ready) = self.0.iter().find(|ready| ready.spec.name == call.name) else {
            let known: Vec<&str> = self.0.iter().map(|t| t.spec.name.as_str()).collect();
            return Err(format!(
                "there is no such tool; known: {}",
                known.join(", ")
            ));
        };
        if !call.arguments.is_object() {
            return Err("the arguments are not a JSON object".to_owned());
        }
        ready
            .schema
            .check(&call.arguments)
            .map_err(|why| format!("the arguments do not fit the tool's schema: {why}"))?;
        let Some(tool) = &ready.tool else {
            return Ok(None);
        };
        let name = call.name.clone();
        let working = AssertUnwindSafe(async { tool.call(call).await }).catch_unwind();
        match tokio::time::timeout(limits.tool_timeout, working).await {
            Err(_) => {
                tracing::warn!(tool = name, "a tool took too long");
                Err(format!(
                    "the tool did not answer within {:?}",
                    limits.tool_timeout
                ))
            }
            Ok(Err(_)) => {
                tracing::error!(tool = name, "a tool panicked: this is a bug in the tool");
                Err("the tool failed".to_owned())
            }
            Ok(Ok(Err(error))) => {
                tracing::debug!(tool = name, code = error.code(), "a tool failed");
                Err(bounded(error.message(), limits.max_tool_result_bytes))
            }
            Ok(Ok(Ok(value))) if exceeds(&value, limits.max_tool_result_bytes) => Err(format!(
                "the answer has more than {} bytes: ask for less",
                limits.max_tool_result_bytes
            )),
            Ok(Ok(Ok(value))) => Ok(Some(value)),
        }
    }
}

fn bounded(text: &str, max: usize) -> String {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

/// True if the value is longer than this as JSON.
fn exceeds(value: &Value, max: usize) -> bool {
    struct Left(usize);
    impl io::Write for Left {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            match self.0.checked_sub(bytes.len()) {
                Some(left) => {
                    self.0 = left;
                    Ok(bytes.len())
                }
                None => Err(io::ErrorKind::FileTooLarge.into()),
            }
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    serde_json::to_writer(Left(max), value).is_err()
}
