//! The known cases of hostile and of merely peculiar traffic that have no file among the fixtures,
//! in the same words as `expected.json`, and what each dialect of Chat Completions is sent.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use tutor_core::Content;
use tutor_core::conformance::upstream::{Act, Upstream, event_stream, json_response};
use tutor_core::message::{Part, Role};
use tutor_core::provider::{
    ApiKey, CompletionRequest, Dialect, OpenAiProvider, PromptMessage, ProviderConfig, ProviderKind,
};
use tutor_core::tool::{OutputSchema, ToolSpec};

use super::fixtures::{Fixture, line_stream, replay, run};

use ProviderKind::{Anthropic, Gemini, Ollama, OpenAi, OpenAiResponses};

/// Name, protocol, the whole response, and what is made of it.
type Case = (&'static str, ProviderKind, Vec<u8>, Value);

fn events(events: &[Value]) -> Vec<u8> {
    let body: String = events
        .iter()
        .map(|event| format!("data: {event}\n\n"))
        .collect();
    event_stream(body)
}

/// Chunks, then `[DONE]`.
fn chat(chunks: &[Value]) -> Vec<u8> {
    let mut response = events(chunks);
    response.extend_from_slice(b"data: [DONE]\n\n");
    response
}

fn delta(delta: &Value) -> Value {
    json!({"choices": [{"index": 0, "delta": delta, "finish_reason": null}]})
}

fn end(reason: &str) -> Value {
    json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
}

fn calls(calls: &Value) -> Value {
    delta(&json!({"tool_calls": calls}))
}

fn tokens(input: u64, output: u64) -> Value {
    json!({"choices": [], "usage": {"prompt_tokens": input, "completion_tokens": output}})
}

fn usage(input: u64, cached: u64, output: u64, reasoning: u64) -> Value {
    json!({
        "input_total": input, "input_cached": cached, "input_cache_write": 0,
        "output_total": output, "output_reasoning": reasoning,
    })
}

fn ok(text: &str, finish: &str) -> Value {
    json!({"outcome": "ok", "text": text, "finish": finish})
}

fn with(mut expect: Value, name: &str, value: Value) -> Value {
    expect[name] = value;
    expect
}

fn fails(kind: &str, retryable: bool, more: &Value) -> Value {
    let mut error = json!({"kind": kind, "retryable": retryable});
    for (name, value) in more.as_object().unwrap() {
        error[name] = value.clone();
    }
    json!({"outcome": "error", "error": error})
}

fn response(head: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let head = format!("HTTP/1.1 {head}\r\nconnection: close\r\n\r\n");
    [head.as_bytes(), body.as_ref()].concat()
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

/// The body in chunks of 1 to 5 bytes.
fn tiny_chunks(mut body: &[u8]) -> Vec<u8> {
    let head =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let mut response = head.as_bytes().to_vec();
    for size in (1..6).cycle() {
        let (piece, rest) = body.split_at(usize::min(size, body.len()));
        response.extend(format!("{:X}\r\n", piece.len()).into_bytes());
        response.extend([piece, b"\r\n"].concat());
        body = rest;
        if piece.is_empty() {
            return response;
        }
    }
    unreachable!("the sizes never end")
}

fn message(id: &str, blocks: &[Value], stop: &str, usage: &Value) -> Vec<Value> {
    let mut all = vec![json!({"type": "message_start", "message": {"id": id, "usage": usage}})];
    all.extend_from_slice(blocks);
    all.push(json!({"type": "message_delta", "delta": {"stop_reason": stop}}));
    all.push(json!({"type": "message_stop"}));
    all
}

fn said(text: &str) -> [Value; 2] {
    [
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}),
    ]
}

fn hostile() -> Vec<Case> {
    let page = "<!doctype html><html><body>Bad gateway</body></html>";
    let whole = json!({
        "choices": [{"message": {"content": "7 × 8 = 56"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 19, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 16}},
    });
    let rotated = |kind: &str, id: &str, more: Value| {
        let mut event = json!({"type": format!("response.{kind}"), "item_id": id, "output_index": 0, "content_index": 0});
        event
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        event
    };
    let counted = json!({"input_tokens": 3, "output_tokens": 2});
    let line = |text: &str, done: bool| {
        let mut line = json!({"message": {"role": "assistant", "content": text}, "done": done});
        if done {
            line["done_reason"] = json!("stop");
            line["prompt_eval_count"] = json!(39);
            line["eval_count"] = json!(12);
        }
        line.to_string()
    };
    let mut cut = events(&[delta(&json!({"content": "End"})), end("stop"), tokens(4, 3)]);
    cut.truncate(cut.len() - 2);
    let latin = b"data: {\"choices\":[{\"delta\":{\"content\":\"caf\xE9 au lait\"},\"finish_reason\":\"stop\"}]}\n\n";
    let broken = [
        events(&[delta(&json!({"content": "good "}))]),
        b"data: {\"choices\":[{\"delta\":{\"con\n\ndata: {\"choices\":[{\"delta\":{\"content\":\"late\"},\"finish_reason\":\"stop\"}]}\n\n".to_vec(),
    ];
    let zipped = chat(&[delta(&json!({"content": "zipped"})), end("stop")]);
    let zipped = gzip(&zipped[event_stream("").len()..]);
    let accents = chat(&[delta(&json!({"content": "détaché 漢字"})), end("stop")]);
    let junk = concat!(
        " data: no\nDATA: no\nnonsense\ndata\n\nid: 1\nretry: 5\n",
        "data: {\"choices\":[{\"delta\":{\"content\":\"ok\"},\"finish_reason\":\"stop\"}]}\n\n",
        "data: [DONE]\n\n"
    );
    vec![
        (
            "h03 no trailing blank line",
            OpenAi,
            cut,
            with(ok("End", "stop"), "usage", usage(4, 0, 3, 0)),
        ),
        (
            "h08 done only",
            OpenAi,
            event_stream("data: [DONE]\n\n"),
            fails("empty_response", true, &json!({})),
        ),
        (
            "h09 html 502",
            OpenAi,
            response("502 Bad Gateway\r\ncontent-type: text/html", page),
            fails("server", true, &json!({"status": 502})),
        ),
        (
            "h10 captive portal",
            OpenAi,
            response("200 OK\r\ncontent-type: text/html", page),
            fails("malformed", false, &json!({"status": 200})),
        ),
        (
            "h11 json error instead of a stream",
            OpenAi,
            json_response(
                200,
                &json!({"error": {"message": "The server had an error", "type": "server_error"}}),
            ),
            fails("server", true, &json!({"status": 200})),
        ),
        (
            "h17 tool index starts at one",
            OpenAi,
            chat(&[
                delta(&json!({"content": "Reading"})),
                calls(
                    &json!([{"index": 1, "id": "c", "function": {"name": "read_file", "arguments": "{\"p\":"}}]),
                ),
                calls(&json!([{"index": 1, "function": {"arguments": " \"x\"}"}}])),
                end("tool_calls"),
            ]),
            with(
                ok("Reading", "tool_calls"),
                "tool_calls",
                json!([{"id": "c", "name": "read_file", "arguments": {"p": "x"}}]),
            ),
        ),
        (
            "h19 stop with tool calls",
            OpenAi,
            chat(&[
                calls(
                    &json!([{"index": 0, "id": "c", "function": {"name": "z", "arguments": "{\"q\":2}"}}]),
                ),
                end("stop"),
            ]),
            with(
                ok("", "tool_calls"),
                "tool_calls",
                json!([{"id": "c", "name": "z", "arguments": {"q": 2}}]),
            ),
        ),
        (
            "h20 arguments are no json",
            OpenAi,
            chat(&[
                calls(
                    &json!([{"index": 0, "id": "c", "function": {"name": "z", "arguments": "{\"q\": nope"}}]),
                ),
                end("tool_calls"),
            ]),
            with(
                ok("", "tool_calls"),
                "incomplete_tool_calls",
                json!([{"id": "c", "name": "z", "raw_arguments": "{\"q\": nope"}]),
            ),
        ),
        (
            "h24 missing choices and float usage",
            OpenAi,
            chat(&[
                json!({"id": "x"}),
                delta(&json!({"content": "y"})),
                end("stop"),
                json!({"usage": {"prompt_tokens": 12.0, "completion_tokens": 3.0}}),
            ]),
            with(ok("y", "stop"), "usage", usage(12, 0, 3, 0)),
        ),
        (
            "h30 invalid utf-8",
            OpenAi,
            event_stream(latin),
            ok("caf\u{FFFD} au lait", "stop"),
        ),
        (
            "h32 bad json in the middle",
            OpenAi,
            broken.concat(),
            with(fails("malformed", true, &json!({})), "text", json!("good ")),
        ),
        (
            "h35 gzip unasked",
            OpenAi,
            response(
                "200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: gzip",
                zipped,
            ),
            ok("zipped", "stop"),
        ),
        (
            "h36 tiny odd chunks",
            OpenAi,
            tiny_chunks(&accents[event_stream("").len()..]),
            ok("détaché 漢字", "stop"),
        ),
        (
            "h38 content-length too long",
            OpenAi,
            response(
                "200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 500",
                ": hm\n\n",
            ),
            fails("connection", true, &json!({})),
        ),
        (
            "h42 retry-after negative",
            OpenAi,
            response("503 Busy\r\nretry-after: -5", "{}"),
            fails("server", true, &json!({"status": 503})),
        ),
        (
            "h42 retry-after infinite",
            OpenAi,
            response(
                "503 Busy\r\nretry-after: inf\r\nretry-after-ms: 1e999",
                "{}",
            ),
            fails("server", true, &json!({"status": 503})),
        ),
        (
            "h46 blank lines before json",
            OpenAi,
            response(
                "200 OK\r\ncontent-type: application/json",
                format!("\n\n\n  \n{whole}"),
            ),
            with(ok("7 × 8 = 56", "stop"), "usage", usage(19, 16, 7, 0)),
        ),
        (
            "h49 anthropic without event lines",
            Anthropic,
            events(&message(
                "m",
                &said("No names"),
                "end_turn",
                &json!({"input_tokens": 25, "output_tokens": 3}),
            )),
            with(ok("No names", "stop"), "usage", usage(25, 0, 3, 0)),
        ),
        (
            "h54 responses in progress before created",
            OpenAiResponses,
            events(&[
                json!({"type": "response.in_progress", "response": {}}),
                json!({"type": "response.created", "response": {}}),
                json!({"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "Zig"}),
                json!({"type": "response.completed", "response": {"status": "completed"}}),
            ]),
            ok("Zig", "stop"),
        ),
        (
            "h55 item ids rotate",
            OpenAiResponses,
            events(&[
                rotated(
                    "output_item.added",
                    "a",
                    json!({"item": {"type": "message", "id": "a", "content": []}}),
                ),
                rotated("output_text.delta", "b", json!({"delta": "ro"})),
                rotated("output_text.delta", "c", json!({"delta": "ta"})),
                rotated("output_text.done", "d", json!({"text": "rota"})),
                json!({"type": "response.completed", "response": {"status": "completed", "output": null, "usage": counted}}),
            ]),
            with(ok("rota", "stop"), "usage", usage(3, 0, 2, 0)),
        ),
        (
            "h58 gemini array without alt=sse",
            Gemini,
            response(
                "200 OK\r\ncontent-type: application/json",
                concat!(
                    "[{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"Arr\"}]}}]},\n",
                    "{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"ay\"}]},\"finishReason\":\"STOP\"}],",
                    "\"usageMetadata\":{\"promptTokenCount\":3,\"candidatesTokenCount\":2}}]"
                ),
            ),
            with(ok("Array", "stop"), "usage", usage(3, 0, 2, 0)),
        ),
        (
            "h61 two objects on a line",
            Ollama,
            line_stream(format!("{}{}\n", line("a", false), line("b", true)).as_bytes()),
            with(ok("ab", "stop"), "usage", usage(39, 0, 12, 0)),
        ),
        (
            "h62 plain text 404",
            Ollama,
            response(
                "404 Not Found\r\ncontent-type: text/plain",
                "404 page not found",
            ),
            fails("not_found", false, &json!({"status": 404})),
        ),
        (
            "h63 junk before fields",
            OpenAi,
            event_stream(junk),
            ok("ok", "stop"),
        ),
    ]
}

fn peculiar() -> Vec<Case> {
    let too_long =
        "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens.";
    vec![
        (
            "c03 deepseek",
            OpenAi,
            {
                let mut body = b": keep-alive\n\n".to_vec();
                let chunks = chat(&[
                    delta(
                        &json!({"role": "assistant", "content": null, "reasoning_content": "Try "}),
                    ),
                    delta(&json!({"content": null, "reasoning_content": "3."})),
                    delta(&json!({"content": "x=3", "reasoning_content": null})),
                    json!({"choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "stop"}], "usage": {
                    "prompt_tokens": 18, "completion_tokens": 30, "prompt_cache_hit_tokens": 10, "prompt_cache_miss_tokens": 8,
                    "completion_tokens_details": {"reasoning_tokens": 22}}}),
                ]);
                body.extend_from_slice(&chunks[event_stream("").len()..]);
                event_stream(body)
            },
            with(
                with(ok("x=3", "stop"), "reasoning", json!("Try 3.")),
                "usage",
                usage(18, 10, 30, 22),
            ),
        ),
        (
            "c08 mistral 401 detail",
            OpenAi,
            json_response(401, &json!({"detail": "Invalid API Key"})),
            fails("auth", false, &json!({"status": 401})),
        ),
        (
            "c09 mistral flat",
            OpenAi,
            json_response(
                400,
                &json!({"object": "error", "message": "Invalid model: x", "type": "invalid_model", "param": null, "code": "1500"}),
            ),
            fails("not_found", false, &json!({"status": 400, "code": "1500"})),
        ),
        (
            "c11 openrouter 403 moderation",
            OpenAi,
            json_response(
                403,
                &json!({"error": {"code": 403, "message": "flagged", "metadata": {"reasons": ["violence"], "flagged_input": "…", "provider_name": "x"}}, "user_id": "u"}),
            ),
            fails("content_filtered", false, &json!({"status": 403})),
        ),
        (
            "c13 vllm integer code",
            OpenAi,
            json_response(
                400,
                &json!({"error": {"message": too_long, "type": "BadRequestError", "param": null, "code": 400}}),
            ),
            fails("context_too_long", false, &json!({"status": 400})),
        ),
        (
            "c14 vllm legacy flat",
            OpenAi,
            json_response(
                400,
                &json!({"object": "error", "message": too_long, "type": "BadRequestError", "param": null, "code": 400}),
            ),
            fails("context_too_long", false, &json!({"status": 400})),
        ),
        (
            "c18 llama.cpp",
            OpenAi,
            chat(&[
                delta(&json!({"role": "assistant", "content": null})),
                delta(&json!({"reasoning_content": "Okay"})),
                delta(&json!({"content": "2 + 2"})),
                delta(&json!({"content": " = 4"})),
                end("stop"),
                json!({"choices": [], "usage": {"prompt_tokens": 19, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 18}}, "timings": {"prompt_n": 1}}),
            ]),
            with(
                with(ok("2 + 2 = 4", "stop"), "reasoning", json!("Okay")),
                "usage",
                usage(19, 18, 7, 0),
            ),
        ),
        (
            "c20 mistral content parts",
            OpenAi,
            chat(&[
                delta(
                    &json!({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Let me think"}]}]}),
                ),
                delta(&json!({"content": [{"type": "text", "text": "Bon"}]})),
                delta(&json!({"content": "jour"})),
                json!({"choices": [{"delta": {"content": ""}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 5, "completion_tokens": 4}}),
            ]),
            with(
                with(ok("Bonjour", "stop"), "reasoning", json!("Let me think")),
                "usage",
                usage(5, 0, 4, 0),
            ),
        ),
        (
            "c21 mistral model_length",
            OpenAi,
            chat(&[
                delta(&json!({"content": "x"})),
                json!({"choices": [{"delta": {"content": "y"}, "finish_reason": "model_length"}], "usage": {"prompt_tokens": 32000, "completion_tokens": 768}}),
            ]),
            with(ok("xy", "length"), "usage", usage(32000, 0, 768, 0)),
        ),
        (
            "c22 mistral tools in one chunk",
            OpenAi,
            chat(&[
                json!({"p": "abc", "choices": [{"index": 0, "finish_reason": "tool_calls", "delta": {"content": "", "tool_calls": [
            {"id": "a1b2c3d4e", "function": {"name": "lookup", "arguments": "{}"}, "index": 0},
            {"id": "f5g6h7i8j", "function": {"name": "lookup2", "arguments": "{\"k\": 1}"}, "index": 1}]}}],
            "usage": {"prompt_tokens": 213, "completion_tokens": 16}}),
            ]),
            with(
                with(
                    ok("", "tool_calls"),
                    "tool_calls",
                    json!([
            {"id": "a1b2c3d4e", "name": "lookup", "arguments": {}}, {"id": "f5g6h7i8j", "name": "lookup2", "arguments": {"k": 1}}]),
                ),
                "usage",
                usage(213, 0, 16, 0),
            ),
        ),
        (
            "c24 anthropic with a done tail",
            Anthropic,
            {
                let mut body = events(&message(
                    "m",
                    &said("Hey"),
                    "end_turn",
                    &json!({"input_tokens": 32, "output_tokens": 16}),
                ));
                body.extend_from_slice(b"event: data\ndata: [DONE]\n\n");
                body
            },
            with(ok("Hey", "stop"), "usage", usage(32, 0, 16, 0)),
        ),
        (
            "c27 openrouter truncated calls",
            OpenAi,
            chat(&[
                calls(
                    &json!([{"index": 0, "id": "c", "function": {"name": "save", "arguments": "{\"text\": \"half"}}]),
                ),
                json!({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": "tool_calls", "native_finish_reason": "length"}]}),
                json!({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": "tool_calls", "native_finish_reason": "length"}], "usage": {"prompt_tokens": 30, "completion_tokens": 16}}),
            ]),
            with(
                with(
                    ok("", "length"),
                    "incomplete_tool_calls",
                    json!([{"name": "save"}]),
                ),
                "usage",
                usage(30, 0, 16, 0),
            ),
        ),
        (
            "c31 vllm error then done",
            OpenAi,
            chat(&[
                delta(&json!({"content": "Once upon"})),
                json!({"error": {"object": "error", "message": "EngineCore died", "type": "InternalServerError", "param": null, "code": 500}}),
            ]),
            with(
                fails("server", true, &json!({"status": 500})),
                "text",
                json!("Once upon"),
            ),
        ),
    ]
}

#[tokio::test]
async fn every_case_of_the_tables_gives_what_is_expected_in_pieces_of_any_size() {
    for (file, kind, bytes, expect) in hostile().into_iter().chain(peculiar()) {
        let fixture = Fixture {
            file: file.to_owned(),
            kind,
            bytes,
            expect,
            cuts: Vec::new(),
        };
        let whole = vec![Act::Send(fixture.bytes.clone())];
        replay(&fixture, whole, "whole").await;
        for size in [1, 7] {
            let pieces = vec![Act::SendBy(size, fixture.bytes.clone())];
            replay(&fixture, pieces, &format!("by {size}")).await;
        }
    }
}

/// What is particular about a dialect: everything else is as in the first row.
struct Row {
    dialect: Dialect,
    path: &'static str,
    key_header: &'static str,
    limit: &'static str,
    stream_options: Value,
    has_images: bool,
    has_tools: bool,
    strict: bool,
    schema: &'static str,
}

const COMMON: Row = Row {
    dialect: Dialect::Compatible,
    path: "/v1/chat/completions",
    key_header: "authorization",
    limit: "max_tokens",
    stream_options: Value::Null,
    has_images: true,
    has_tools: true,
    strict: false,
    schema: "json_schema",
};

fn rows() -> Vec<Row> {
    let asks = || json!({"include_usage": true});
    let common = |dialect| Row {
        dialect,
        stream_options: asks(),
        ..COMMON
    };
    vec![
        Row {
            limit: "max_completion_tokens",
            stream_options: json!({"include_usage": true, "include_obfuscation": false}),
            strict: true,
            ..common(Dialect::OpenAi)
        },
        Row {
            path: "/openai/v1/chat/completions",
            key_header: "api-key",
            limit: "max_completion_tokens",
            strict: true,
            ..common(Dialect::Azure)
        },
        common(Dialect::Vllm),
        common(Dialect::LlamaCpp),
        common(Dialect::LmStudio),
        Row {
            path: "/openai/v1/chat/completions",
            limit: "max_completion_tokens",
            ..common(Dialect::Groq)
        },
        Row {
            stream_options: Value::Null,
            ..common(Dialect::Mistral)
        },
        Row {
            has_images: false,
            schema: "json_object",
            ..common(Dialect::DeepSeek)
        },
        Row {
            path: "/api/v1/chat/completions",
            ..common(Dialect::OpenRouter)
        },
        common(Dialect::Xai),
        Row {
            path: "/chat/completions",
            stream_options: Value::Null,
            has_tools: false,
            ..common(Dialect::Perplexity)
        },
        common(Dialect::Together),
        common(Dialect::Ollama),
        Row {
            path: "/v1beta/openai/chat/completions",
            ..common(Dialect::Gemini)
        },
        common(Dialect::Compatible),
    ]
}

/// A request with everything that dialects treat differently.
fn rich_request() -> CompletionRequest {
    let image = Part::Image {
        url: "data:image/png;base64,AA".to_owned(),
        media_type: None,
    };
    let text = Part::Text {
        text: "See.".to_owned(),
    };
    let mut request = CompletionRequest::new("some-model", Content::Parts(vec![text, image]));
    let call = Part::ToolCall {
        call_id: "call_of_another_length".to_owned(),
        name: "plot".to_owned(),
        arguments: json!({"x": 1}),
    };
    let result = Part::ToolResult {
        call_id: "call_of_another_length".to_owned(),
        name: "plot".to_owned(),
        result: json!("done"),
        is_error: false,
    };
    for (role, part) in [(Role::Assistant, call), (Role::User, result)] {
        request.messages.push(PromptMessage {
            role,
            content: Content::Parts(vec![part]),
        });
    }
    let closed = json!({"type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"], "additionalProperties": false});
    request.tools = vec![ToolSpec {
        name: "plot".to_owned(),
        description: "Plots.".to_owned(),
        parameters: closed.clone(),
    }];
    request.output = Some(OutputSchema {
        name: "grade".to_owned(),
        schema: closed,
    });
    request.system = Some("Be brief.".to_owned());
    request.temperature = Some(0.5);
    request.max_tokens = Some(7);
    request
}

#[tokio::test]
async fn every_dialect_is_asked_in_its_own_words() {
    let rows = rows();
    assert_eq!(rows.len(), Dialect::ALL.len(), "a dialect has no row");
    for row in rows {
        let dialect = row.dialect;
        let upstream = Upstream::start([vec![Act::Send(chat(&[end("stop")]))]]).await;
        let upstream = upstream.unwrap();
        let mut config = ProviderConfig::new(OpenAi)
            .with_base_url(upstream.url())
            .with_dialect(dialect);
        config.key = Some(ApiKey::new("the-key"));
        let provider = OpenAiProvider::new(&config).unwrap();
        let outcome = run(&provider, rich_request()).await;
        assert_eq!(outcome.finish, Some("stop"), "{dialect}");
        let received = &upstream.requests()[0];
        let body = received.json();
        assert_eq!(received.target, row.path, "{dialect}");
        let key = received.header(row.key_header).unwrap();
        assert_eq!(key.trim_start_matches("Bearer "), "the-key", "{dialect}");
        let other = ["authorization", "api-key"]
            .into_iter()
            .find(|it| *it != row.key_header);
        assert_eq!(received.header(other.unwrap()), None, "{dialect}");
        assert_eq!(body["stream"], true, "{dialect}");
        assert_eq!(body["stream_options"], row.stream_options, "{dialect}");
        assert_eq!(body[row.limit], 7, "{dialect}");
        let limits = ["max_tokens", "max_completion_tokens"].into_iter();
        assert_eq!(
            limits.filter(|name| !body[*name].is_null()).count(),
            1,
            "{dialect}"
        );
        assert_eq!(body["temperature"], 0.5, "{dialect}");
        assert_eq!(body["response_format"]["type"], row.schema, "{dialect}");
        assert_eq!(body["tools"].is_array(), row.has_tools, "{dialect}");
        let strict = &body["tools"][0]["function"]["strict"];
        assert_eq!(*strict == true, row.strict, "{dialect}");
        let messages = body["messages"].as_array().unwrap();
        assert_eq!(messages[0]["role"], "system", "{dialect}");
        assert_eq!(
            messages[1]["content"].is_array(),
            row.has_images,
            "{dialect}"
        );
        let (call, result) = (&messages[2]["tool_calls"][0], &messages[3]);
        assert_eq!(call["id"], result["tool_call_id"], "{dialect}");
        assert!(result["content"].is_string(), "{dialect}");
        let id = call["id"].as_str().unwrap();
        assert_eq!(
            id.len() == 9,
            dialect == Dialect::Mistral,
            "{dialect}: {id}"
        );
        // Strict servers refuse messages with anything that they do not know.
        for message in messages {
            let known = ["role", "content", "tool_calls", "tool_call_id"];
            let mut names = message.as_object().unwrap().keys();
            assert!(
                names.all(|name| known.contains(&name.as_str())),
                "{dialect}: {message}"
            );
        }
    }
}

#[tokio::test]
async fn every_dialect_is_read_with_the_same_tolerance() {
    for dialect in Dialect::ALL {
        for (name, kind, bytes, expect) in peculiar() {
            if kind != OpenAi || expect["outcome"] != "ok" {
                continue;
            }
            let upstream = Upstream::start([vec![Act::Send(bytes)]]).await.unwrap();
            let config = ProviderConfig::openai("key")
                .with_base_url(upstream.url())
                .with_dialect(*dialect);
            let provider = OpenAiProvider::new(&config).unwrap();
            let outcome = run(&provider, CompletionRequest::new("m", "Why?")).await;
            assert_eq!(outcome.text, expect["text"], "{dialect} {name}");
            assert_eq!(
                outcome.finish,
                expect["finish"].as_str(),
                "{dialect} {name}"
            );
        }
    }
}
