//! Random bytes, and what a fuzzer has found before, at everything that reads requests.

use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;

#[path = "../../fuzz/src/lib.rs"]
#[expect(
    clippy::expect_used,
    unreachable_pub,
    reason = "what cannot go on has failed; and the fuzz targets are another crate"
)]
mod read;

/// What reads bytes of strangers, by name.
type Target = (&'static str, fn(&[u8]));

/// Every target, and inputs that lead it further than random bytes do.
const TARGETS: [Target; 6] = [
    ("json", read::json),
    ("query", read::query),
    ("token", read::token),
    ("form", read::form),
    ("config", read::config),
    ("events", read::events),
];

#[test]
fn what_a_fuzzer_has_found_stays_answered() {
    for (name, target) in TARGETS {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("fuzz/corpus")
            .join(name);
        let mut files = 0;
        for entry in std::fs::read_dir(&corpus).unwrap() {
            target(&std::fs::read(entry.unwrap().path()).unwrap());
            files += 1;
        }
        assert!(files >= 3, "{name}: {files}");
    }
}

/// Pieces of what is read, in any order, so that random inputs get somewhere.
fn bytes(words: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let word = proptest::sample::select(words).prop_map(|word| word.as_bytes().to_vec());
    let piece = prop_oneof![4 => word, 1 => vec(any::<u8>(), 0..8)];
    (any::<u8>(), vec(piece, 0..24)).prop_map(|(first, pieces)| {
        let rest: Vec<u8> = pieces.concat();
        [&[first], &rest[..]].concat()
    })
}

const JSON: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\u",
    "\\ud800",
    "null",
    "true",
    "1e999",
    "-0",
    "\"messages\":[",
    "{\"role\":\"user\",\"content\":\"Hi\"}",
    "\"role\":",
    "\"content\":",
    "\"model\":\"echo\"",
    "\"stream\":true",
    "\"parts\":[{\"type\":\"text\",\"text\":\"x\"}]",
    "\"threadId\":\"t\"",
    "\"session_id\":\"s\"",
    "\"tools\":[]",
    "{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]",
    "\"preferences\":{",
    "\"temperature\":",
    "\u{feff}",
];

const QUERY: &[&str] = &[
    "limit=",
    "cursor=",
    "after=",
    "before=",
    "branch=",
    "format=",
    "q=",
    "&",
    "=",
    "%",
    "%00",
    "%ff",
    "\n",
    "0",
    "18446744073709551616",
    "-1",
    "bytes=",
    "0-1",
    "text/event-stream",
    "W/\"",
    "*",
    "../",
    "all",
];

const FORM: &[&str] = &[
    "--b",
    "--b--",
    "\r\n",
    "\r\n\r\n",
    "content-disposition: form-data; name=\"file\"",
    "; filename=\"a.txt\"",
    "--b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\n\r\n",
    "text",
    "\r\n--b--\r\n",
    "content-type: image/png",
    "\x00",
    "%PDF-1.7",
];

const CONFIG: &[&str] = &[
    "[providers.x]\n",
    "kind = \"openai\"\n",
    "key = \"canary\"\n",
    "port = 1\n",
    "port = \"x\"\n",
    "=",
    "[",
    "]]",
    "host = \"h\"\n",
    "auth = \"required\"\n",
    "\"\"\"",
    "'",
    "#",
    "\n",
    "{ a = 1 }",
    "breaker = false\n",
    "1e400",
    "drain_seconds = -1\n",
    "cors_origins = [\"*\"]\n",
    "[providers]\n",
    "prot = 1\n",
];

const WORDS: &[&str] = &[
    "\0",
    "\n",
    "\r",
    "\n\n",
    "data: ",
    "event: turn.finished\n",
    "id: 1\n",
    ":",
    "\u{2028}",
    "[DONE]",
    "word ",
    "</script>",
    "👩‍🏫",
    "\"",
    "\\",
    "\u{feff}",
    "retry: 0\n",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn any_body_of_json_is_answered(data in bytes(JSON)) {
        read::json(&data);
    }

    #[test]
    fn any_query_and_header_is_answered(data in bytes(QUERY)) {
        read::query(&data);
    }

    #[test]
    fn no_token_but_our_own_is_let_in(data in vec(any::<u8>(), 0..64)) {
        read::token(&data);
    }

    #[test]
    fn any_form_is_answered(data in bytes(FORM)) {
        // The first byte is a choice for the others.
        read::form(&data[1..]);
    }

    #[test]
    fn any_configuration_is_settings_or_one_line(data in bytes(CONFIG)) {
        read::config(&data[1..]);
    }

    #[test]
    fn whatever_a_model_writes_stays_inside_of_its_events(data in bytes(WORDS)) {
        read::events(&data[1..]);
    }
}
