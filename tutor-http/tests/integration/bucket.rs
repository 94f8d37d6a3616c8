//! Uploaded files in a bucket: the real binary, against one on this machine.

use std::fmt::Write as _;

use tutor_core::conformance::bucket::{Bucket, Fault};

use crate::binary::{Binary, line_with};
use crate::client::Request;

/// Where the variables of a bucket are, for the server and all commands.
fn at(bucket: &Bucket, binary: &Binary) {
    let mut file = "FILES=s3://bucket/tutor\n".to_owned();
    for (name, value) in bucket.options(&[("AWS_ALLOW_HTTP", "true")]) {
        writeln!(file, "{name}=\"{value}\"").unwrap();
    }
    std::fs::write(binary.path(".env"), file).unwrap();
}

/// Commands are waited for in place: the bucket is answered by the other thread.
fn run(binary: &Binary, args: &[&str]) -> crate::binary::Ended {
    let ended = tokio::task::block_in_place(|| binary.run(args));
    let said = format!("{}{}", ended.err, String::from_utf8_lossy(&ended.out));
    assert!(!said.contains("canary"), "{said}");
    ended
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_in_a_bucket_are_served_backed_up_restored_and_replaced() {
    let (bucket, binary) = (Bucket::open().await, Binary::new());
    at(&bucket, &binary);
    let shown = run(&binary, &["config"]).text();
    assert!(shown.contains("s3://bucket/tutor"), "{shown}");
    let told = run(
        &binary,
        &["doctor", "--offline", "--port", "0", "--data", "d"],
    );
    let told = String::from_utf8(told.out).unwrap();
    assert!(told.contains("ok    files s3://bucket/tutor"), "{told}");
    assert!(bucket.keys().is_empty(), "{:?}", bucket.keys());

    let server = binary.serve(&["--data", "d"]);
    let form = crate::files::form("one.txt", b"the first text");
    let first = form.send(server.address).await.expect(201);
    let path = format!("/api/files/{}", first["id"].as_str().unwrap());
    let content = Request::get(&path).send(server.address).await;
    assert_eq!(content.text(), "the first text");
    run(&binary, &["backup", "--data", "d", "backups"]).ok();
    let form = crate::files::form("two.txt", b"the second text");
    form.send(server.address).await.expect(201);
    assert_eq!(bucket.keys().len(), 2);
    drop(server);

    // What the backup does not know is nobody's then.
    let said = run(&binary, &["restore", "--data", "d", "backups", "--replace"]);
    assert!(
        said.err
            .contains("removed 1 other files from s3://bucket/tutor"),
        "{}",
        said.err
    );
    said.ok();
    assert_eq!(bucket.keys().len(), 1);
    let server = binary.serve(&["--data", "d"]);
    let content = Request::get(&path).send(server.address).await;
    assert_eq!(content.text(), "the first text");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_refuses_is_an_answer_and_a_line_of_the_log_without_its_keys() {
    let (bucket, binary) = (Bucket::open().await, Binary::new());
    at(&bucket, &binary);
    let args = ["--data", "d", "--log-level", "trace"];
    let (server, lines) = binary.serve_logged(&args, &[]);
    let form = crate::files::form("one.txt", b"a text");
    // As often as it is asked: the sweep at the beginning may be one of those.
    bucket.fail(&[Fault::Status(403); 2]);
    let refused = form.send(server.address).await;
    let told = refused.expect(503);
    assert_eq!(told["code"], "store_unavailable");
    assert!(!told.to_string().contains("canary"), "{told}");
    line_with(&lines, "a request failed");
    bucket.fail(&[Fault::Status(403); 9]);
    let failed = run(
        &binary,
        &["doctor", "--offline", "--port", "0", "--data", "other"],
    );
    let told = String::from_utf8_lossy(&failed.out).into_owned();
    assert!(
        failed.code == 3
            && told.contains("FAIL  files s3://bucket/tutor")
            && told.contains("account"),
        "{told}"
    );
    bucket.fail(&[]);
    form.send(server.address).await.expect(201);
    drop(server);
    let log: Vec<_> = lines.iter().collect();
    let said = log.iter().find(|line| line.contains("canary"));
    assert_eq!(said, None);
}
