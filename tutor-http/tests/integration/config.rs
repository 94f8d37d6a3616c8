//! The settings of the server: which place wins, what is refused, and what is shown.

use std::path::Path;

use clap::Parser;
use tempfile::TempDir;
use tracing::level_filters::LevelFilter;
use tutor_core::conformance::upstream::{Act, Upstream, json_response};
use tutor_core::provider::ProviderKind;
use tutor_core::store::Location;
use tutor_core::{ErrorKind, Result};
use tutor_http::Bounds;
use tutor_http::config::{Args, Origin, Settings, Vars};
use tutor_http::metrics::Metrics;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: Args,
}

fn args(args: &[&str]) -> Args {
    let line = Line::try_parse_from([&["neuro-tutor"], args].concat());
    line.unwrap().args
}

fn settings(flags: &[&str], vars: &[(&str, &str)]) -> Result<Settings> {
    Settings::new(args(flags), &vars.iter().copied().collect())
}

/// A directory with these files.
fn directory(files: &[(&str, &str)]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    directory
}

fn in_directory(directory: &Path, flags: &[&str]) -> Result<Settings> {
    Settings::new(args(flags), &Vars::load(directory, None)?)
}

fn with_file(text: &str) -> Result<Settings> {
    let directory = directory(&[("neuro-tutor.toml", text), ("key.txt", "canary-file\n")]);
    in_directory(directory.path(), &[])
}

#[test]
fn a_catalog_of_ones_own_adds_models() {
    let json = r#"{"models": {"mine": {"context_window": 7}}}"#;
    let files = directory(&[("good.json", json), ("bad.json", "oops")]);
    let named = |name: &str| {
        let path = files.path().join(name);
        settings(&[], &[("MODEL_CATALOG", path.to_str().unwrap())])
    };
    let catalog = named("good.json").unwrap().catalog;
    let size = |model| catalog.find(model).and_then(|card| card.context_window);
    assert_eq!((size("mine"), size("gpt-4o")), (Some(7), Some(128_000)));
    for name in ["bad.json", "missing.json"] {
        let error = named(name).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("MODEL_CATALOG"), "{error}");
    }
}

#[test]
fn nothing_needs_to_be_set() {
    let settings = settings(&[], &[]).unwrap();
    assert_eq!((settings.host.as_str(), settings.port), ("127.0.0.1", 8000));
    assert_eq!(settings.data, Location::Sled("neuro-tutor-data".into()));
    assert_eq!(settings.bounds, Bounds::default());
    assert_eq!(settings.log_level, LevelFilter::INFO);
    assert_eq!(settings.providers.len(), 1);
    assert!(
        settings
            .effective
            .iter()
            .all(|setting| setting.origin == Origin::Default)
    );
}

#[test]
fn a_flag_wins_over_the_environment() {
    let vars = [
        ("HOST", "::1"),
        ("PORT", "1"),
        ("DATABASE_URL", "memory:"),
        ("LOG_LEVEL", "ERROR"),
        ("MAX_LIVE_TURNS", "3"),
    ];
    let from_vars = settings(&[], &vars).unwrap();
    assert_eq!((from_vars.host.as_str(), from_vars.port), ("::1", 1));
    assert_eq!(from_vars.limits.max_live_turns, 3);
    assert_eq!(
        (from_vars.data, from_vars.log_level),
        (Location::Memory, LevelFilter::ERROR)
    );
    let flags = [
        "--host",
        "127.0.0.2",
        "--port",
        "2",
        "--data",
        "d",
        "--log-level",
        "trace",
        "--max-live-turns",
        "4",
    ];
    let from_flags = settings(&flags, &vars).unwrap();
    assert_eq!(
        (from_flags.host.as_str(), from_flags.port),
        ("127.0.0.2", 2)
    );
    assert_eq!(from_flags.limits.max_live_turns, 4);
    assert_eq!(from_flags.data, Location::Sled("d".into()));
    assert_eq!(from_flags.log_level, LevelFilter::TRACE);
}

#[test]
fn each_setting_comes_from_the_strongest_place_that_has_it() {
    let directory = directory(&[
        (
            "neuro-tutor.toml",
            "port = 1\nmax_connections = 1\nmax_live_turns = 1\nhost = '127.0.0.3'\n\
             cors_origins = ['http://a.example', 'http://b.example']\ninsecure_no_auth = true\n",
        ),
        (".env", "MAX_CONNECTIONS=2\nMAX_LIVE_TURNS=2\n"),
    ]);
    let settings = in_directory(directory.path(), &["--max-live-turns", "3"]).unwrap();
    assert_eq!(settings.host, "127.0.0.3");
    assert!(settings.insecure_no_auth);
    assert_eq!((settings.port, settings.bounds.max_connections), (1, 2));
    assert_eq!(settings.limits.max_live_turns, 3);
    let origin = |key: &str| {
        let setting = settings.effective.iter().find(|setting| setting.key == key);
        setting.unwrap().origin.clone()
    };
    assert!(matches!(origin("port"), Origin::File(path) if path.ends_with("neuro-tutor.toml")));
    assert_eq!(
        origin("max_connections"),
        Origin::EnvironmentFile("MAX_CONNECTIONS".into())
    );
    assert_eq!(
        origin("max_live_turns"),
        Origin::Flag("--max-live-turns".into())
    );
    assert_eq!(origin("max_body_bytes"), Origin::Default);
}

#[test]
fn the_environment_of_the_original_is_understood() {
    for (vars, level) in [
        (&[("DEBUG", "True")][..], LevelFilter::DEBUG),
        (&[("DEBUG", "False")], LevelFilter::INFO),
        (
            &[("DEBUG", "True"), ("LOG_LEVEL", "INFO")],
            LevelFilter::INFO,
        ),
        (&[("LOG_LEVEL", "WARNING")], LevelFilter::WARN),
    ] {
        assert_eq!(settings(&[], vars).unwrap().log_level, level, "{vars:?}");
    }
}

#[test]
fn a_wrong_setting_is_named() {
    for (name, value) in [
        ("PORT", "eighty"),
        ("PORT", "65536"),
        ("LOG_LEVEL", "LOUD"),
        ("DEBUG", "maybe"),
        ("CORS_ORIGINS", "*"),
        (
            "DATABASE_URL",
            "mysql://user:password@localhost/neuro_tutor",
        ),
        ("OPENAI_BASE_URL", "ftp://a"),
        ("DEMO_DELAY_MS", "fast"),
        ("MAX_CONNECTIONS", "many"),
        ("MAX_CONNECTIONS", "0"),
        ("MAX_LIVE_TURNS", "0"),
        ("MAX_LIVE_TURNS_PER_PERSON", "0"),
        ("MAX_BODY_BYTES", "0"),
        ("MAX_MESSAGE_CHARS", "0"),
        ("OLLAMA_HOST", "a:b"),
    ] {
        let error = settings(&[], &[(name, value)]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.message().contains(name), "{error}");
    }
}

#[test]
fn a_wrong_file_is_told_by_what_to_write_instead() {
    for (text, words) in [
        ("prot = 1", "did you mean port?"),
        ("default_provder = 'x'", "did you mean default_provider?"),
        ("provider = 'x'", "did you mean providers?"),
        ("colour = 'red'", "known: host, port"),
        ("port = 'eighty'", "port in"),
        ("port = 65536", "a number from 0 to 65535"),
        ("log_level = 'loud'", "log_level in"),
        ("data = 'mysql://u:canary@h/d'", "data in"),
        ("cors_origins = ['*']", "cors_origins in"),
        ("[providers.main]\nkind = 'opanai'", "did you mean openai?"),
        (
            "[providers.openai]\nbas_url = 'canary'",
            "did you mean base_url?",
        ),
        (
            "[providers.openai]\nkey_file = 'lost.txt'",
            "lost.txt cannot be read",
        ),
        (
            "[providers.openai]\nkey_env = 'NOT_SET_AT_ALL'",
            "NOT_SET_AT_ALL",
        ),
        (
            "[providers.openai]\nkey = 'can ary'",
            "[providers.openai] in",
        ),
    ] {
        let error = with_file(text).unwrap_err();
        let printed = format!("{error} {error:?}");
        assert_eq!(error.kind(), ErrorKind::Config, "{text}");
        assert!(printed.contains(words), "{text}: {printed}");
        assert!(
            !printed.contains("canary") && !printed.contains("can ary"),
            "{printed}"
        );
    }
}

#[test]
fn providers_of_the_file_are_all_there_are_in_its_order() {
    let text = "default_provider = 'b'\n\
        [providers.z]\nkind = 'openai'\nkey_file = 'key.txt'\nfallback = ['b/model']\n\
        [providers.b]\nkind = 'anthropic'\nkey = 'canary-b'\n";
    let settings = with_file(text).unwrap();
    let kinds: Vec<_> = settings
        .providers
        .iter()
        .map(|c| (c.config.name.as_str(), c.config.kind))
        .collect();
    assert_eq!(
        kinds,
        [("z", ProviderKind::OpenAi), ("b", ProviderKind::Anthropic)]
    );
    assert_eq!(
        settings.providers[0].config.key.as_ref().unwrap().expose(),
        "canary-file"
    );
    assert_eq!(settings.default_provider.as_deref(), Some("b"));
    assert_eq!(settings.ollama, None);
}

#[tokio::test]
async fn the_default_provider_answers_first_and_an_unknown_one_is_refused() {
    let text = |default| {
        format!(
            "data = 'memory:'\ndefault_provider = '{default}'\n\
             [providers.one]\nkind = 'demo'\n[providers.openai]\nkey = 'k'\n"
        )
    };
    let opened = with_file(&text("openai"))
        .unwrap()
        .open(&Metrics::default())
        .await
        .unwrap();
    let names: Vec<_> = opened
        .tutor
        .providers()
        .into_iter()
        .map(|info| info.name)
        .collect();
    assert_eq!(names, ["openai", "one"]);
    let error = with_file(&text("opnai"))
        .unwrap()
        .open(&Metrics::default())
        .await
        .unwrap_err();
    assert!(
        error.message().contains("opnai") && error.message().contains("openai"),
        "{error}"
    );
}

#[test]
fn what_is_shown_is_a_file_without_secrets_that_means_the_same() {
    let text = "port = 1\ncors_origins = 'http://a.example'\n\
        [providers.main]\nkind = 'openai'\nkey = ['canary-1', 'canary-2']\nmax_concurrent = 3\n\
        aliases = { fast = 'm', 'a b' = 'n' }\nproxy = 'http://user:canary@p:1'\n\
        [providers.'b c']\nkind = 'demo'\n";
    let shown = with_file(text).unwrap().shown();
    assert!(!shown.contains("canary"), "{shown}");
    assert!(
        shown.contains("port = 1 ") && shown.contains("neuro-tutor.toml"),
        "{shown}"
    );
    assert!(shown.contains("# default"), "{shown}");
    let again = shown
        .replace("[\"<redacted>\", \"<redacted>\"]", "['a', 'b']")
        .replace("\"<redacted>\"", "'http://p:1'");
    let again = with_file(&again).unwrap();
    assert_eq!((again.port, again.providers.len()), (1, 2));
    assert_eq!(again.providers[0].config.aliases.len(), 2);
    assert_eq!(
        again.providers[0].config.concurrency.unwrap().max_running,
        3
    );
}

#[test]
fn what_was_left_empty_is_shown_and_redis_with_its_database() {
    let vars = [
        ("CORS_ORIGINS", ","),
        ("REDIS_URL", "redis://ada:canary@h:1/5"),
    ];
    let shown = settings(&[], &vars).unwrap().shown();
    assert!(shown.contains("cors_origins = \"\" "), "{shown}");
    assert!(shown.contains("redis = \"redis://h:1/5\" "), "{shown}");
    assert!(!shown.contains("canary"), "{shown}");
    let again = with_file(&shown).unwrap();
    let value = |key: &str| {
        let found = again.effective.iter().find(|setting| setting.key == key);
        found.unwrap().value.clone()
    };
    assert_eq!(
        (value("cors_origins"), value("redis")),
        ("".into(), "redis://h:1/5".into())
    );
}

#[test]
fn files_that_a_configuration_file_names_are_beside_it() {
    let directory = directory(&[]);
    let below = directory.path().join("below");
    std::fs::create_dir(&below).unwrap();
    let text = "tls_certificate = 'c.pem'\ntls_key = 'k.pem'\nmodel_catalog = 'm.json'\n\
        [providers.main]\nkind = 'openai'\nkey_file = 'key.txt'\n";
    let file = below.join("nt.toml");
    std::fs::write(&file, text).unwrap();
    std::fs::write(below.join("m.json"), r#"{"models": {"mine": {}}}"#).unwrap();
    std::fs::write(below.join("key.txt"), "k").unwrap();
    let vars = Vars::load(directory.path(), Some(&file)).unwrap();
    let settings = Settings::new(args(&[]), &vars).unwrap();
    let tls = settings.tls.unwrap();
    assert_eq!(
        (tls.certificate, tls.key),
        (below.join("c.pem"), below.join("k.pem"))
    );
    assert!(settings.catalog.find("mine").is_some());
}

#[tokio::test]
async fn an_address_of_ipv6_may_be_in_brackets() {
    let plain = tutor_http::bind("::1", 0).await;
    let bracketed = tutor_http::bind("[::1]", 0).await;
    // A machine may have no IPv6.
    assert_eq!(plain.is_ok(), bracketed.is_ok(), "{bracketed:?}");
    let listener = tutor_http::bind("[127.0.0.1]", 0).await.unwrap();
    assert!(listener.local_addr().unwrap().ip().is_loopback());
}

#[tokio::test]
async fn without_any_key_a_local_ollama_answers_if_it_is_there() {
    let tags = serde_json::json!({"models": [{"name": "nomic-embed-text"}, {"name": "qwen3:4b"}]});
    let upstream = Upstream::start([vec![Act::Send(json_response(200, &tags))]])
        .await
        .unwrap();
    let found = |vars: Vec<(String, String)>| async move {
        let settings = Settings::new(args(&[]), &vars.into_iter().collect()).unwrap();
        let mut providers = settings.discover().await.providers;
        assert_eq!(providers.len(), 1);
        providers.remove(0)
    };
    let host = ("OLLAMA_HOST".to_owned(), upstream.url());
    let ollama = found(vec![host.clone()]).await;
    assert_eq!(ollama.config.name, "ollama");
    assert_eq!(ollama.config.default_model.as_deref(), Some("qwen3:4b"));
    assert!(matches!(ollama.origin, Origin::Found(_)));
    // A key comes first; the demo provider last.
    let key = ("ANTHROPIC_API_KEY".to_owned(), "k".to_owned());
    assert_eq!(found(vec![host, key]).await.config.name, "anthropic");
    let silent = Upstream::start([vec![Act::Hold]]).await.unwrap();
    let start = std::time::Instant::now();
    let nobody = found(vec![("OLLAMA_HOST".to_owned(), silent.url())]).await;
    assert_eq!(nobody.config.kind, ProviderKind::Demo);
    assert!(
        start.elapsed() < std::time::Duration::from_secs(2),
        "{:?}",
        start.elapsed()
    );
}
