//! What models take, told by their names.

#[cfg(any(feature = "provider-openai", feature = "provider-responses"))]
/// True for OpenAI's models that reason: they refuse sampling parameters and `max_tokens`, and take
/// instructions as `developer`.
///
/// A name may carry its vendor, as in `openai/gpt-6-luna`.
pub(crate) fn is_reasoning_model(model: &str) -> bool {
    let name = model.rsplit('/').next().unwrap_or(model);
    let numbered = |prefix: &str, first: char| {
        let rest = name.strip_prefix(prefix).unwrap_or_default();
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let version = &rest[..digits];
        // Compared by length first: gpt-10 comes after gpt-5.
        digits > 1 || version.chars().next().is_some_and(|digit| digit >= first)
    };
    numbered("gpt-", '5') || numbered("o", '1')
}

#[cfg(feature = "provider-anthropic")]
/// True for models of Anthropic's protocol that take sampling parameters: Claude up to 4.6, and those of other makers.
///
/// An unknown Claude is a newer one. A name may carry its vendor, and dots for dashes, as in
/// `anthropic/claude-sonnet-4.5`.
pub(crate) fn claude_takes_temperature(model: &str) -> bool {
    let Some(at) = model.find("claude-") else {
        return true;
    };
    let name = model[at..].replace('.', "-");
    let is = |family: &str| {
        // A date may follow, but not another part of the version: claude-opus-4 is not claude-opus-4-8.
        name.strip_prefix(family)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '@']) || is_suffix(rest))
    };
    let fours = [
        "claude-haiku-4-5",
        "claude-sonnet-4-5",
        "claude-opus-4-5",
        "claude-sonnet-4-6",
        "claude-opus-4-6",
    ];
    let older = ["claude-opus-4-1", "claude-opus-4", "claude-sonnet-4"];
    name.starts_with("claude-3-")
        || name.starts_with("claude-2")
        || fours.iter().chain(&older).any(|family| is(family))
}

/// True for what may follow a version: a date such as `-20251001`, or a word such as `-latest`.
#[cfg(feature = "provider-anthropic")]
fn is_suffix(rest: &str) -> bool {
    rest.strip_prefix('-').is_some_and(|rest| {
        let part = rest.split(['-', ':', '@']).next().unwrap_or_default();
        part.len() == 8 || !part.starts_with(|c: char| c.is_ascii_digit())
    })
}

/// True for Gemini models that take sampling parameters: those up to 3.1. An unknown one is newer.
#[cfg(feature = "provider-gemini")]
pub(crate) fn gemini_takes_temperature(model: &str) -> bool {
    let name = model.rsplit('/').next().unwrap_or(model);
    !name.starts_with("gemini") || gemini_version(name).is_some_and(|version| version < (3, 5))
}

/// True for Gemini models that can be held to a schema although they may call tools: those from 3
/// on. The others refuse the request.
#[cfg(feature = "provider-gemini")]
pub(crate) fn gemini_combines_schema_and_tools(model: &str) -> bool {
    let name = model.rsplit('/').next().unwrap_or(model);
    gemini_version(name).is_none_or(|version| version >= (3, 0))
}

/// The version in the name of a Gemini model, if it has one: `gemini-flash-latest` has none.
#[cfg(feature = "provider-gemini")]
fn gemini_version(name: &str) -> Option<(u32, u32)> {
    let version = name.strip_prefix("gemini-")?.split('-').next()?;
    let (major, minor) = version.split_once('.').unwrap_or((version, "0"));
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(any(feature = "provider-openai", feature = "provider-responses"))]
    #[test]
    fn reasoning_models_are_known_by_name() {
        for model in [
            "gpt-6-luna",
            "gpt-6.1-sol",
            "gpt-5",
            "gpt-5-mini",
            "gpt-10",
            "o3",
            "o4-mini",
            "o1-2024-12-17",
            "openai/gpt-6-luna",
        ] {
            assert!(is_reasoning_model(model), "{model}");
        }
        for model in [
            "gpt-4o",
            "gpt-4.1-mini",
            "gpt-3.5-turbo",
            "gpt-oss-20b",
            "omni",
            "mistral-small",
            "claude-haiku-5-5",
            "o",
            "",
        ] {
            assert!(!is_reasoning_model(model), "{model}");
        }
    }

    #[cfg(feature = "provider-gemini")]
    #[test]
    fn newer_gemini_models_take_no_temperature() {
        for (model, takes) in [
            ("gemini-2.5-pro", true),
            ("models/gemini-3.1-flash-lite", true),
            ("gemini-3-pro-preview", true),
            ("gemini-3.5-flash-lite", false),
            ("gemini-3.8-flash", false),
            ("gemini-4-argon", false),
            ("gemini-flash-latest", false),
            ("gemma-4", true),
        ] {
            assert_eq!(gemini_takes_temperature(model), takes, "{model}");
        }
    }

    #[cfg(feature = "provider-gemini")]
    #[test]
    fn older_gemini_models_take_a_schema_or_tools() {
        for (model, both) in [
            ("gemini-1.5-pro", false),
            ("models/gemini-2.5-flash-lite", false),
            ("gemini-3-pro-preview", true),
            ("gemini-3.8-flash", true),
            ("gemini-flash-latest", true),
        ] {
            assert_eq!(gemini_combines_schema_and_tools(model), both, "{model}");
        }
    }
}
