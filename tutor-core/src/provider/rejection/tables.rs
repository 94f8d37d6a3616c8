//! What the makers document, and what their imitators were seen to answer, row by row.

use super::*;
use Fault::{
    Auth, ContentFiltered, ContextTooLong, InvalidRequest, ModelOutputInvalid, NotFound,
    Overloaded, Permission, QuotaExhausted, RateLimited, RequestTooLarge, Server, Timeout,
};

#[track_caller]
fn assert_rows(rows: &[(u16, &str, Fault)]) {
    for (status, body, expected) in rows {
        let fault = Rejection::of_body(body).into_failure(Some(*status)).fault();
        assert_eq!(fault, *expected, "{status} {body}");
    }
}

#[test]
fn openai() {
    let error = |kind: &str, code: &str| {
        format!(r#"{{"error":{{"message":"x","type":"{kind}","param":null,"code":"{code}"}}}}"#)
    };
    let said = |message: &str| {
        format!(
            r#"{{"error":{{"message":"{message}","type":"invalid_request_error","param":null,"code":null}}}}"#
        )
    };
    for (status, kind, code, expected) in [
        (
            400,
            "invalid_request_error",
            "context_length_exceeded",
            ContextTooLong,
        ),
        (
            400,
            "invalid_request_error",
            "unsupported_parameter",
            InvalidRequest,
        ),
        (
            400,
            "invalid_request_error",
            "unsupported_value",
            InvalidRequest,
        ),
        (
            400,
            "invalid_request_error",
            "invalid_value",
            InvalidRequest,
        ),
        (
            400,
            "invalid_request_error",
            "decimal_above_max_value",
            InvalidRequest,
        ),
        (
            400,
            "invalid_request_error",
            "string_above_max_length",
            InvalidRequest,
        ),
        (
            400,
            "invalid_request_error",
            "previous_response_not_found",
            InvalidRequest,
        ),
        (
            400,
            "invalid_request_error",
            "content_policy_violation",
            ContentFiltered,
        ),
        (400, "invalid_request_error", "model_not_found", NotFound),
        (401, "invalid_request_error", "invalid_api_key", Auth),
        (
            403,
            "request_forbidden",
            "unsupported_country_region_territory",
            Permission,
        ),
        (404, "invalid_request_error", "model_not_found", NotFound),
        (429, "requests", "rate_limit_exceeded", RateLimited),
        (429, "tokens", "rate_limit_exceeded", RateLimited),
        (429, "rate_limit_error", "slow_down", RateLimited),
        (
            429,
            "insufficient_quota",
            "insufficient_quota",
            QuotaExhausted,
        ),
        (
            429,
            "insufficient_quota",
            "credit_balance_exhausted",
            QuotaExhausted,
        ),
        (
            429,
            "insufficient_quota",
            "organization_spend_limit_exceeded",
            QuotaExhausted,
        ),
        (
            429,
            "insufficient_quota",
            "project_spend_limit_exceeded",
            QuotaExhausted,
        ),
        (
            429,
            "insufficient_quota",
            "organization_usage_limit_exceeded",
            QuotaExhausted,
        ),
        (500, "server_error", "server_error", Server),
        (
            503,
            "service_unavailable_error",
            "server_is_overloaded",
            Overloaded,
        ),
        (503, "service_unavailable_error", "slow_down", Overloaded),
        // What a response of the Responses API says beside HTTP 200.
        (200, "", "rate_limit_exceeded", RateLimited),
        (200, "", "invalid_prompt", InvalidRequest),
        (200, "", "bio_policy", ContentFiltered),
        (200, "", "misalignment_policy_violation", ContentFiltered),
        (200, "", "data_residency_mismatch", InvalidRequest),
        (200, "", "image_too_large", InvalidRequest),
        (200, "", "server_error", Server),
    ] {
        assert_rows(&[(status, &error(kind, code), expected)]);
    }
    assert_rows(&[
        (
            400,
            &said("This model's maximum context length is 8192 tokens."),
            ContextTooLong,
        ),
        (
            400,
            &said("Input tokens exceed the configured limit of 922000."),
            ContextTooLong,
        ),
        (
            400,
            &said("Your input exceeds the context window of this model."),
            ContextTooLong,
        ),
        (
            400,
            r#"{"error":{"message":"x","type":null,"code":"content_filter","innererror":{"code":"ResponsibleAIPolicyViolation","content_filter_result":{}}}}"#,
            ContentFiltered,
        ),
        (
            401,
            r#"{"error":{"message":"You must be a member of an organization to use the API","type":"invalid_request_error"},"status":401}"#,
            Auth,
        ),
    ]);
}

#[test]
fn anthropic() {
    let error = |kind: &str, message: &str, code: &str| {
        format!(
            r#"{{"type":"error","error":{{"type":"{kind}","message":"{message}","details":{{"error_code":"{code}"}}}},"request_id":null}}"#
        )
    };
    for (status, kind, message, code, expected) in [
        (400, "invalid_request_error", "x", "", InvalidRequest),
        (
            400,
            "invalid_request_error",
            "x",
            "available_tools_limit_exceeded",
            InvalidRequest,
        ),
        (
            400,
            "invalid_request_error",
            "x",
            "image_dimensions_too_large",
            InvalidRequest,
        ),
        (
            400,
            "invalid_request_error",
            "x",
            "organization_on_hold",
            InvalidRequest,
        ),
        (
            400,
            "invalid_request_error",
            "prompt is too long: 9 tokens > 8 maximum",
            "",
            ContextTooLong,
        ),
        (
            400,
            "invalid_request_error",
            "input length and `max_tokens` exceed context limit: 1",
            "",
            ContextTooLong,
        ),
        (401, "authentication_error", "x", "", Auth),
        (
            401,
            "authentication_error",
            "CORS requests are not allowed",
            "",
            Auth,
        ),
        (
            402,
            "billing_error",
            "x",
            "linked_organization_suspended",
            QuotaExhausted,
        ),
        (403, "permission_error", "x", "", Permission),
        (404, "not_found_error", "model: x", "", NotFound),
        (409, "conflict_error", "x", "", InvalidRequest),
        (412, "precondition_error", "x", "", InvalidRequest),
        (413, "request_too_large", "x", "", RequestTooLarge),
        (429, "rate_limit_error", "x", "", RateLimited),
        (
            429,
            "rate_limit_error",
            "x",
            "ramp_limit_exceeded",
            RateLimited,
        ),
        (
            429,
            "rate_limit_error",
            "x",
            "enforced_spend_limit_reached",
            QuotaExhausted,
        ),
        (
            429,
            "rate_limit_error",
            "x",
            "contract_spend_limit_reached",
            QuotaExhausted,
        ),
        (500, "api_error", "x", "", Server),
        (503, "api_error", "x", "cmek_unavailable", Server),
        (504, "timeout_error", "x", "", Timeout),
        (529, "overloaded_error", "x", "", Overloaded),
        (
            529,
            "overloaded_error",
            "x",
            "compaction_unavailable",
            Overloaded,
        ),
    ] {
        assert_rows(&[(status, &error(kind, message, code), expected)]);
    }
}

#[test]
fn gemini() {
    let error = |status: u16, word: &str, message: &str, details: &str| {
        format!(
            r#"{{"error":{{"code":{status},"message":"{message}","status":"{word}","details":[{details}]}}}}"#
        )
    };
    let quota = |id: &str| {
        format!(
            r#"{{"@type":"QuotaFailure","violations":[{{"quotaId":"{id}"}}]}},{{"@type":"RetryInfo","retryDelay":"34.4s"}}"#
        )
    };
    let key = r#"{"reason":"API_KEY_INVALID"}"#;
    for (status, word, message, details, expected) in [
        (400, "INVALID_ARGUMENT", "x", "", InvalidRequest),
        (400, "INVALID_ARGUMENT", "x", key, Auth),
        (
            400,
            "INVALID_ARGUMENT",
            "The input token count exceeds the maximum number of tokens allowed",
            "",
            ContextTooLong,
        ),
        (400, "FAILED_PRECONDITION", "x", "", Permission),
        (402, "RESOURCE_EXHAUSTED", "x", "", QuotaExhausted),
        (403, "PERMISSION_DENIED", "x", "", Permission),
        (404, "NOT_FOUND", "x", "", NotFound),
        (
            429,
            "RESOURCE_EXHAUSTED",
            "x",
            &quota("GenerateRequestsPerMinutePerProject"),
            RateLimited,
        ),
        (
            429,
            "RESOURCE_EXHAUSTED",
            "x",
            &quota("GenerateRequestsPerDayPerProject"),
            QuotaExhausted,
        ),
        (500, "INTERNAL", "x", "", Server),
        (503, "UNAVAILABLE", "x", "", Overloaded),
        (504, "DEADLINE_EXCEEDED", "x", "", Timeout),
    ] {
        let body = error(status, word, message, details);
        assert_rows(&[
            (status, &body, expected),
            (status, &format!("[{body}]"), expected),
        ]);
    }
    let wait = Rejection::of_body(&error(429, "RESOURCE_EXHAUSTED", "x", &quota("PerMinute")));
    assert_eq!(wait.retry_after, Some(Duration::from_millis(34_400)));
}

#[test]
fn ollama() {
    assert_rows(&[
        (400, r#"{"error":"invalid request"}"#, InvalidRequest),
        (
            400,
            r#"{"error":"x does not support tools"}"#,
            InvalidRequest,
        ),
        (
            400,
            r#"{"error":"x does not support chat"}"#,
            InvalidRequest,
        ),
        (
            401,
            r#"{"error":"unauthorized","signin_url":"https://x.example"}"#,
            Auth,
        ),
        (403, r#"{"error":"cloud is disabled"}"#, Permission),
        (404, r#"{"error":"model 'x' not found"}"#, NotFound),
        (429, r#"{"error":"too many requests"}"#, RateLimited),
        (499, r#"{"error":"canceled"}"#, Server),
        (500, r#"{"error":"x"}"#, Server),
        (502, r#"{"error":"cloud unreachable"}"#, Server),
        (
            503,
            r#"{"error":"server busy, please try again. maximum pending requests exceeded"}"#,
            Overloaded,
        ),
    ]);
}

#[test]
fn servers_that_speak_like_openai() {
    assert_rows(&[
        // Azure OpenAI, vLLM, SGLang.
        (
            404,
            r#"{"error":{"code":"DeploymentNotFound","message":"x"}}"#,
            NotFound,
        ),
        (
            400,
            r#"{"error":{"message":"This model's maximum context length is 2048 tokens","type":"BadRequestError","param":null,"code":400}}"#,
            ContextTooLong,
        ),
        (
            400,
            r#"{"object":"error","message":"x","type":"BadRequestError","param":null,"code":400}"#,
            InvalidRequest,
        ),
        // llama.cpp, LM Studio.
        (
            400,
            r#"{"error":{"code":400,"message":"x","type":"exceed_context_size_error","n_prompt_tokens":9,"n_ctx":8}}"#,
            ContextTooLong,
        ),
        (
            501,
            r#"{"error":{"code":501,"message":"x","type":"not_supported_error"}}"#,
            InvalidRequest,
        ),
        (
            500,
            r#"{"error":{"code":500,"message":"Context size has been exceeded.","type":"server_error"}}"#,
            ContextTooLong,
        ),
        // Groq.
        (
            400,
            r#"{"error":{"message":"x","code":"tool_use_failed","failed_generation":"<"}}"#,
            ModelOutputInvalid,
        ),
        (
            413,
            r#"{"error":{"message":"Request too large","type":"tokens","code":"rate_limit_exceeded"}}"#,
            RequestTooLarge,
        ),
        (422, r#"{"error":{"message":"x"}}"#, InvalidRequest),
        (424, r#"{"error":{"message":"x"}}"#, Server),
        (
            498,
            r#"{"error":{"message":"x","code":"capacity_exceeded"}}"#,
            Overloaded,
        ),
        (499, r#"{"error":{"message":"x"}}"#, Server),
        // Mistral.
        (
            400,
            r#"{"object":"error","message":"Invalid model: x","type":"invalid_model","param":null,"code":"1500"}"#,
            NotFound,
        ),
        (401, r#"{"detail":"Invalid API Key"}"#, Auth),
        (
            422,
            r#"{"detail":[{"loc":["body"],"msg":"Extra inputs are not permitted"}]}"#,
            InvalidRequest,
        ),
        (
            503,
            r#"{"object":"error","message":"Service tier capacity exceeded for this model.","type":"service_tier_capacity_exceeded"}"#,
            Overloaded,
        ),
        // DeepSeek.
        (
            402,
            r#"{"error":{"message":"Insufficient Balance","type":"unknown_error","code":"invalid_request_error"}}"#,
            QuotaExhausted,
        ),
        (
            503,
            r#"{"error":{"message":"The server is overloaded","type":"server_error"}}"#,
            Server,
        ),
        // OpenRouter.
        (
            402,
            r#"{"error":{"code":402,"message":"x"},"user_id":"u"}"#,
            QuotaExhausted,
        ),
        (
            403,
            r#"{"error":{"code":403,"message":"x","metadata":{"reasons":["violence"]}}}"#,
            ContentFiltered,
        ),
        (408, r#"{"error":{"code":408,"message":"x"}}"#, Timeout),
        (502, r#"{"error":{"code":502,"message":"x"}}"#, Server),
        (503, r#"{"error":{"code":503,"message":"x"}}"#, Server),
        // xAI, Venice.
        (
            400,
            r#"{"code":"invalid-argument","error":"Incorrect API key provided: x"}"#,
            Auth,
        ),
        (404, r#"{"error":"x"}"#, NotFound),
    ]);
}
