//! What is known of models: how much fits into them, and what they cost.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

use super::ModelInfo;
use crate::error::{Error, ErrorKind, Result};
use crate::message::Usage;

/// Derived from others' work; the file says whose, and how old it is.
const BUILT_IN: &str = include_str!("catalog/models.json");

/// Picodollars per token in a dollar per million tokens.
const PICODOLLARS: f64 = 1e6;

/// Models by their ids, as their makers call them.
///
/// A model is also found with the name of a vendor before it (`openai/gpt-6-luna`), with a date or
/// `latest` after it (`claude-haiku-4-5-20251001`), and with dots for dashes
/// (`claude-sonnet-4.5`).
#[derive(Clone, Debug, PartialEq)]
pub struct Catalog {
    models: BTreeMap<String, ModelCard>,
}

/// What is known of a model. Prices are in US dollars per million tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ModelCard {
    /// The most tokens of a prompt.
    pub context_window: Option<u64>,
    /// The most tokens of a reply.
    pub max_output: Option<u64>,
    /// The price of what is sent; without it nothing is known of the price.
    pub input: Option<f64>,
    /// The price of what is received, reasoning included.
    pub output: Option<f64>,
    /// The price of what is read from the provider's cache; that of `input` if absent.
    pub cache_read: Option<f64>,
    /// The price of what is written to the provider's cache; that of `input` if absent.
    pub cache_write: Option<f64>,
    /// The price of what is written to stay there for hours; that of `cache_write` if absent.
    pub cache_write_long: Option<f64>,
    /// Other prices for long prompts.
    pub long: Option<LongPrices>,
}

/// The prices of a whole request whose prompt is long.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct LongPrices {
    /// A prompt with more tokens is long.
    pub above: u64,
    /// As in [`ModelCard`].
    pub input: f64,
    /// As in [`ModelCard`].
    pub output: f64,
    /// As in [`ModelCard`].
    pub cache_read: Option<f64>,
    /// As in [`ModelCard`].
    pub cache_write: Option<f64>,
    /// As in [`ModelCard`].
    pub cache_write_long: Option<f64>,
}

impl Catalog {
    /// The models that were known when this version was made. Prices are list prices, and somebody's
    /// transcription of them.
    pub fn built_in() -> Self {
        static CATALOG: LazyLock<Catalog> = LazyLock::new(|| {
            let empty = Catalog {
                models: BTreeMap::new(),
            };
            // The file is part of the program, and a test reads it.
            empty.with_json(BUILT_IN).unwrap_or(Catalog {
                models: BTreeMap::new(),
            })
        });
        CATALOG.clone()
    }

    /// Adds models, replacing those of the same id, from JSON like
    /// `{"models": {"my-model": {"context_window": 8192, "input": 0.5, "output": 1.5}}}`.
    ///
    /// # Errors
    /// `config` for anything else, saying at which line.
    pub fn with_json(mut self, json: &str) -> Result<Self> {
        #[derive(Deserialize)]
        struct Document {
            models: BTreeMap<String, ModelCard>,
        }
        let document: Document = serde_json::from_str(json).map_err(|error| {
            Error::new(
                ErrorKind::Config,
                "the catalog of models is not like {\"models\": {\"my-model\": {\"context_window\": \
                 8192, \"input\": 0.5, \"output\": 1.5}}}",
            )
            .with_context("line", error.line())
            .with_source(error)
        })?;
        for (id, card) in document.models {
            self = self.with_model(id, card)?;
        }
        Ok(self)
    }

    /// Adds a model, or replaces it.
    ///
    /// # Errors
    /// `config` for a price that is negative or no number.
    pub fn with_model(mut self, id: impl Into<String>, card: ModelCard) -> Result<Self> {
        let id = id.into();
        let long = card.long.map(|long| {
            [
                Some(long.input),
                Some(long.output),
                long.cache_read,
                long.cache_write,
                long.cache_write_long,
            ]
        });
        let prices = [
            card.input,
            card.output,
            card.cache_read,
            card.cache_write,
            card.cache_write_long,
        ];
        let wrong = |price: &f64| !(0.0..=1e9).contains(price);
        let mut prices = prices
            .into_iter()
            .chain(long.into_iter().flatten())
            .flatten();
        if prices.any(|price| wrong(&price)) {
            return Err(Error::new(
                ErrorKind::Config,
                "a price of a model is a number of US dollars per million tokens, not below zero",
            )
            .with_context("model", id));
        }
        self.models.insert(id, card);
        Ok(self)
    }

    /// What is known of a model.
    pub fn find(&self, model: &str) -> Option<&ModelCard> {
        let without_vendor = model.rsplit('/').next().unwrap_or(model);
        let dashed = without_vendor
            .contains('.')
            .then(|| without_vendor.replace('.', "-"));
        let names = [
            Some(model),
            (without_vendor != model).then_some(without_vendor),
            dashed.as_deref(),
        ];
        names.into_iter().flatten().find_map(|id| {
            self.models
                .get(id)
                .or_else(|| self.models.get(without_version(id)?))
        })
    }

    /// What `usage` cost in US dollars; `None` if the price or the usage is not known.
    pub fn cost(&self, model: &str, usage: &Usage) -> Option<f64> {
        let card = self.find(model)?;
        let (input, output) = (usage.input_tokens?, usage.output_tokens?);
        let prices = match card.long {
            // The whole request is billed so, and not only what is above.
            Some(long) if input > long.above => Prices::new(
                (long.input, long.output),
                long.cache_read,
                (long.cache_write, long.cache_write_long),
            ),
            _ => Prices::new(
                (card.input?, card.output?),
                card.cache_read,
                (card.cache_write, card.cache_write_long),
            ),
        };
        let read = usage.cached_input_tokens.unwrap_or(0);
        let written = usage.cache_write_tokens.unwrap_or(0);
        let written_long = usage.cache_write_long_tokens.unwrap_or(0).min(written);
        let fresh = input.saturating_sub(read).saturating_sub(written);
        let sum = [
            (fresh, prices.input),
            (read, prices.cache_read),
            (written - written_long, prices.cache_write),
            (written_long, prices.cache_write_long),
            (output, prices.output),
        ]
        .into_iter()
        .map(|(tokens, price)| u128::from(tokens) * u128::from(price))
        .sum::<u128>();
        #[expect(
            clippy::cast_precision_loss,
            reason = "a sum of money in a float is exact to far less than a cent"
        )]
        Some(sum as f64 / 1e12)
    }

    /// The same model with what is known of its size, unless it has one.
    pub fn described(&self, mut model: ModelInfo) -> ModelInfo {
        if model.context_window.is_none() {
            model.context_window = self.find(&model.id).and_then(|card| card.context_window);
        }
        model
    }
}

impl Default for Catalog {
    fn default() -> Self {
        Self::built_in()
    }
}

/// Picodollars per token: integers, so that sums are exact.
struct Prices {
    input: u64,
    output: u64,
    cache_read: u64,
    cache_write: u64,
    cache_write_long: u64,
}

impl Prices {
    fn new(
        (input, output): (f64, f64),
        cache_read: Option<f64>,
        (cache_write, cache_write_long): (Option<f64>, Option<f64>),
    ) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "prices are checked when they enter the catalog"
        )]
        let exact = |price: f64| (price * PICODOLLARS).round() as u64;
        Self {
            input: exact(input),
            output: exact(output),
            cache_read: exact(cache_read.unwrap_or(input)),
            cache_write: exact(cache_write.unwrap_or(input)),
            cache_write_long: exact(cache_write_long.or(cache_write).unwrap_or(input)),
        }
    }
}

/// The id without a date or `latest` after it; `None` if there is none.
fn without_version(id: &str) -> Option<&str> {
    if let Some(id) = id.strip_suffix("-latest") {
        return Some(id);
    }
    let digits =
        |text: &str, length| text.len() == length && text.bytes().all(|b| b.is_ascii_digit());
    let (rest, last) = id.rsplit_once(['-', '@'])?;
    if digits(last, 8) {
        return Some(rest);
    }
    let (rest, month) = rest.rsplit_once('-').filter(|_| digits(last, 2))?;
    let (rest, year) = rest.rsplit_once('-').filter(|_| digits(month, 2))?;
    digits(year, 4).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(input: u64, read: u64, written: u64, output: u64) -> Usage {
        Usage {
            input_tokens: Some(input),
            cached_input_tokens: Some(read),
            cache_write_tokens: Some(written),
            output_tokens: Some(output),
            ..Usage::default()
        }
    }

    #[test]
    fn the_file_is_read_and_every_model_has_a_size_and_a_price() {
        let catalog = Catalog::built_in();
        assert!(catalog.models.len() > 50);
        for (id, card) in &catalog.models {
            assert!(
                card.context_window > Some(0) && card.max_output > Some(0),
                "{id}"
            );
            assert!(card.input > Some(0.0) && card.output > Some(0.0), "{id}");
        }
    }

    #[test]
    fn a_model_is_found_under_its_many_names() {
        let catalog = Catalog::built_in();
        for (name, id) in [
            ("gpt-6-luna", "gpt-6-luna"),
            ("openai/gpt-6-luna", "gpt-6-luna"),
            ("gpt-5-mini-2025-08-07", "gpt-5-mini"),
            ("claude-haiku-4-5-20251001", "claude-haiku-4-5"),
            ("claude-haiku-4-5@20251001", "claude-haiku-4-5"),
            ("claude-haiku-4-5-latest", "claude-haiku-4-5"),
            ("anthropic/claude-sonnet-4.5", "claude-sonnet-4-5"),
            ("models/gemini-2.5-flash", "gemini-2.5-flash"),
            ("mistral-large-latest", "mistral-large-latest"),
            ("openai/gpt-oss-20b", "openai/gpt-oss-20b"),
        ] {
            assert_eq!(catalog.find(name), catalog.models.get(id), "{name}");
            assert!(catalog.find(name).is_some(), "{name}");
        }
        for unknown in [
            "",
            "gpt-6",
            "gpt-6-luna-2",
            "qwen3:4b",
            "/",
            "-",
            "2025-01-01",
        ] {
            assert_eq!(catalog.find(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn every_kind_of_token_has_its_price_and_long_prompts_have_others() {
        let catalog = Catalog::built_in();
        // 10, 1, 12.5 and 50 dollars per million.
        let cost = catalog.cost("gpt-6-astra", &usage(1_000, 200, 100, 500));
        assert_eq!(
            cost,
            Some((700.0 * 10.0 + 200.0 + 100.0 * 12.5 + 500.0 * 50.0) / 1e6)
        );
        let at = catalog.cost("gpt-6-astra", &usage(272_000, 0, 0, 0));
        assert_eq!(at, Some(2.72));
        let above = catalog.cost("gpt-6-astra", &usage(272_001, 0, 0, 1));
        assert_eq!(above, Some((272_001.0 * 20.0 + 75.0) / 1e6));
        // xAI's long prompts begin at the threshold.
        assert_eq!(
            catalog.cost("grok-4.7", &usage(200_000, 0, 0, 0)),
            Some(0.8)
        );
        // Without a price of its own, what is written costs what is sent.
        assert_eq!(
            catalog.cost("gpt-4o", &usage(10, 0, 10, 0)),
            Some(25.0 / 1e6)
        );
    }

    #[test]
    fn what_is_not_known_costs_nothing_known() {
        let catalog = Catalog::built_in();
        assert_eq!(catalog.cost("my-model", &usage(1, 0, 0, 1)), None);
        assert_eq!(catalog.cost("gpt-4o", &Usage::default()), None);
        let sized = ModelCard {
            context_window: Some(9),
            ..ModelCard::default()
        };
        let catalog = catalog.with_model("my-model", sized).unwrap();
        assert_eq!(catalog.cost("my-model", &usage(1, 0, 0, 1)), None);
        let described = catalog.described(ModelInfo::new("my-model"));
        assert_eq!(described.context_window, Some(9));
    }

    #[test]
    fn a_user_overrides_and_adds_models() {
        let json = r#"{"models": {"gpt-4o": {"input": 0, "output": 0}, "mine": {"input": 1, "output": 2, "long": {"above": 5, "input": 3, "output": 4}}}}"#;
        let catalog = Catalog::built_in().with_json(json).unwrap();
        assert_eq!(catalog.cost("gpt-4o", &usage(9, 0, 0, 9)), Some(0.0));
        assert_eq!(catalog.cost("mine", &usage(6, 0, 0, 1)), Some(22.0 / 1e6));
        for bad in [
            "",
            "[]",
            r#"{"models": {"x": {"input": "1"}}}"#,
            r#"{"models": {"x": {"inputs": 1}}}"#,
            r#"{"models": {"x": {"input": -1}}}"#,
            r#"{"models": {"x": {"output": 1e300}}}"#,
        ] {
            let error = Catalog::built_in().with_json(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{bad}");
        }
    }

    #[test]
    fn what_stays_in_a_cache_for_hours_has_its_own_price() {
        let catalog = Catalog::built_in();
        let cost = |written: u64, long: u64| {
            let usage = Usage {
                cache_write_long_tokens: Some(long),
                ..usage(1_000_000, 0, written, 0)
            };
            catalog.cost("claude-haiku-5-5", &usage)
        };
        // Above 100,000 tokens the long-context prices count, which know no other one.
        assert_eq!(cost(1_000_000, 0), cost(1_000_000, 400_000));
        let usage = |long| Usage {
            cache_write_long_tokens: Some(long),
            ..usage(100_000, 0, 100_000, 0)
        };
        let cost = |long| catalog.cost("claude-haiku-5-5", &usage(long)).unwrap();
        assert_eq!(cost(0), 0.0125);
        assert_eq!(cost(100_000), 0.02);
        // More than was written cannot stay.
        assert_eq!(cost(200_000), 0.02);
    }
}
