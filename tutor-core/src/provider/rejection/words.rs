//! What the words of providers mean.

use crate::provider::fault::Fault;

pub(super) const CONTEXT_PHRASES: &[&str] = &[
    "maximum context length",
    "exceeds the context window",
    "exceed the context window",
    "exceeds the available context",
    "context size has been exceeded",
    "exceed context limit",
    "exceeds context limit",
    "input tokens exceed",
    "prompt is too long",
    "maximum number of tokens allowed",
    "maximum prompt length",
    "exceeds the context length",
    "exceeded max context length",
    "longer than the model's context length",
    "longer than the maximum model length",
    "context length is only",
    "context length of only",
    "input is too long",
];

pub(super) const KEY_PHRASES: &[&str] = &[
    "incorrect api key",
    "invalid api key",
    "api key not valid",
    "api key expired",
];

/// What a code or type means by itself; `None` if it is too vague.
pub(super) fn by_word(word: &str, status: Option<u16>) -> Option<Fault> {
    Some(match word {
        "context_length_exceeded"
        | "exceed_context_size_error"
        | "context_window_exceeded"
        | "model_context_window_exceeded" => Fault::ContextTooLong,
        "insufficient_quota"
        | "credit_balance_exhausted"
        | "billing_error"
        | "billing_not_active"
        | "billing_hard_limit_reached"
        | "organization_usage_limit_exceeded"
        | "exceeded_current_quota_error"
        | "enforced_spend_limit_reached"
        | "contract_spend_limit_reached" => Fault::QuotaExhausted,
        word if word.ends_with("_spend_limit_exceeded") => Fault::QuotaExhausted,
        "invalid_api_key"
        | "authentication_error"
        | "invalid_authentication"
        | "API_KEY_INVALID"
        | "UNAUTHENTICATED" => Fault::Auth,
        "permission_error"
        | "permission_denied"
        | "unsupported_country_region_territory"
        | "PERMISSION_DENIED"
        | "FAILED_PRECONDITION" => Fault::Permission,
        "content_filter"
        | "content_policy_violation"
        | "ResponsibleAIPolicyViolation"
        | "bio_policy"
        | "misalignment_policy_violation" => Fault::ContentFiltered,
        "model_not_found" | "invalid_model" | "not_found_error" | "DeploymentNotFound"
        | "NOT_FOUND" => Fault::NotFound,
        "RESOURCE_EXHAUSTED" if status == Some(402) => Fault::QuotaExhausted,
        "RESOURCE_EXHAUSTED" => Fault::RateLimited,
        "request_too_large" => Fault::RequestTooLarge,
        // A single request above the limit per minute never fits.
        "rate_limit_exceeded" | "tokens" if status == Some(413) => Fault::RequestTooLarge,
        "slow_down" if status == Some(503) => Fault::Overloaded,
        "rate_limit_exceeded" | "rate_limit_error" | "slow_down" => Fault::RateLimited,
        "requests" | "tokens" if matches!(status, None | Some(429)) => Fault::RateLimited,
        "overloaded_error"
        | "server_is_overloaded"
        | "service_unavailable_error"
        | "engine_overloaded_error"
        | "capacity_exceeded"
        | "insufficient_system_resource"
        | "compaction_unavailable"
        | "UNAVAILABLE" => Fault::Overloaded,
        "tool_use_failed" | "json_validate_failed" => Fault::ModelOutputInvalid,
        "timeout_error" | "DEADLINE_EXCEEDED" => Fault::Timeout,
        "unsupported_parameter"
        | "unsupported_value"
        | "invalid_value"
        | "conflict_error"
        | "invalid_prompt"
        | "data_residency_mismatch"
        | "not_supported_error" => Fault::InvalidRequest,
        word if word.starts_with("image_") || word.starts_with("invalid_image") => {
            Fault::InvalidRequest
        }
        "server_error" | "api_error" | "internal_server_error" | "INTERNAL" => Fault::Server,
        _ => return None,
    })
}
