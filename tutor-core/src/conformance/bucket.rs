//! A fake bucket: a server on the loopback interface that speaks as much of S3's protocol as files need.

#![expect(clippy::unwrap_used, reason = "a law fails by panicking, like a test")]

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

#[derive(Debug, Default)]
struct Held {
    objects: BTreeMap<String, Vec<u8>>,
    parts: BTreeMap<String, BTreeMap<u32, Vec<u8>>>,
    /// How many requests there were.
    asked: usize,
    /// What the next requests are answered, instead of what they ask for.
    faults: VecDeque<Fault>,
}

/// What a request is answered instead of what it asks for.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// This status, with an error of S3 that quotes what it was sent.
    Status(u16),
    /// Nothing, for ever.
    Silence,
    /// The right answer, byte by byte.
    Slow,
}

/// As S3 answers, which may quote what it was sent.
const REFUSAL: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>SignatureDoesNotMatch</Code>\
    <Message>The request signature does not match</Message><AWSAccessKeyId>canary-id</AWSAccessKeyId>\
    <StringToSign>canary</StringToSign><RequestId>1</RequestId></Error>";

/// A bucket of the name `bucket`, on the loopback interface. Dropping it closes it.
#[derive(Debug)]
pub struct Bucket {
    address: SocketAddr,
    held: Arc<Mutex<Held>>,
    server: JoinHandle<()>,
}

impl Drop for Bucket {
    fn drop(&mut self) {
        self.server.abort();
    }
}

struct Asked {
    method: String,
    path: String,
    query: String,
    range: Option<(usize, usize)>,
    /// The headers that make a signature of version 4.
    signs: usize,
    body: Vec<u8>,
}

async fn read(stream: &mut BufReader<TcpStream>) -> Option<Asked> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok().filter(|n| *n > 0)?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let (mut length, mut range, mut signs) = (0, None, 0);
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        let Some((name, value)) = line.trim().split_once(':') else {
            break;
        };
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().ok()?,
            "authorization" if value.starts_with("AWS4-HMAC-SHA256 Credential=canary-id/") => {
                signs += 1;
            }
            "x-amz-date" | "x-amz-content-sha256" => signs += 1,
            "range" => {
                let (first, last) = value.strip_prefix("bytes=")?.split_once('-')?;
                range = Some((first.parse().ok()?, last.parse().ok()?));
            }
            _ => {}
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(Asked {
        method,
        path: path.to_owned(),
        query: query.to_owned(),
        range,
        signs,
        body,
    })
}

fn answer(held: &mut Held, asked: Asked) -> (u16, String, Vec<u8>) {
    let xml = |body: String| (200, String::new(), body.into_bytes());
    if asked.signs != 3 {
        return (403, String::new(), REFUSAL.into());
    }
    let Some(key) = asked.path.strip_prefix("/bucket") else {
        return (404, String::new(), Vec::new());
    };
    let key = key.trim_start_matches('/').to_owned();
    let part = asked
        .query
        .split('&')
        .find_map(|q| q.strip_prefix("partNumber="));
    let has = |name: &str| {
        asked
            .query
            .split('&')
            .any(|q| q.split('=').next() == Some(name))
    };
    match asked.method.as_str() {
        "POST" if has("uploads") => {
            held.parts.insert(key, BTreeMap::new());
            xml("<InitiateMultipartUploadResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><UploadId>u1</UploadId></InitiateMultipartUploadResult>".into())
        }
        "PUT" if part.is_some() => {
            let number = part.and_then(|n| n.parse().ok()).unwrap();
            held.parts.get_mut(&key).unwrap().insert(number, asked.body);
            (200, format!("etag: \"p{number}\"\r\n"), Vec::new())
        }
        "POST" if has("uploadId") => {
            let parts = held.parts.remove(&key).unwrap();
            held.objects
                .insert(key, parts.into_values().flatten().collect());
            xml(
                "<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>"
                    .into(),
            )
        }
        "POST" if has("delete") => {
            let text = String::from_utf8(asked.body).unwrap();
            let keys = text
                .split("<Key>")
                .skip(1)
                .filter_map(|rest| rest.split('<').next());
            let deleted = keys.map(|key| {
                held.objects.remove(key);
                format!("<Deleted><Key>{key}</Key></Deleted>")
            });
            let deleted: String = deleted.collect();
            xml(format!("<DeleteResult>{deleted}</DeleteResult>"))
        }
        "DELETE" => {
            held.objects.remove(&key);
            held.parts.remove(&key);
            (204, String::new(), Vec::new())
        }
        "PUT" => {
            held.objects.insert(key, asked.body);
            (200, "etag: \"e\"\r\n".to_owned(), Vec::new())
        }
        "GET" if has("list-type") => {
            let contents = held.objects.iter().map(|(key, bytes)| {
                format!(
                    "<Contents><Key>{key}</Key><Size>{}</Size><ETag>e</ETag>\
                     <LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>",
                    bytes.len()
                )
            });
            xml(format!(
                "<ListBucketResult>{}</ListBucketResult>",
                contents.collect::<String>()
            ))
        }
        _ => match (held.objects.get(&key), asked.range) {
            (None, _) => (
                404,
                String::new(),
                b"<Error><Code>NoSuchKey</Code></Error>".to_vec(),
            ),
            (Some(all), Some((first, last))) => {
                let last = last.min(all.len() - 1);
                let about = format!(
                    "etag: \"e\"\r\ncontent-range: bytes {first}-{last}/{}\r\n\
                    last-modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n",
                    all.len()
                );
                (206, about, all[first..=last].to_vec())
            }
            (Some(all), None) => {
                let about = "etag: \"e\"\r\nlast-modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n";
                (200, about.to_owned(), all.clone())
            }
        },
    }
}

impl Bucket {
    /// An empty one.
    pub async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let held = Arc::new(Mutex::new(Held::default()));
        let shared = Arc::clone(&held);
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let held = Arc::clone(&shared);
                tokio::spawn(async move {
                    let mut stream = BufReader::new(stream);
                    while let Some(asked) = read(&mut stream).await {
                        let told = {
                            let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
                            held.asked += 1;
                            match held.faults.pop_front() {
                                Some(Fault::Status(status)) => {
                                    Some((false, (status, String::new(), REFUSAL.into())))
                                }
                                Some(Fault::Silence) => None,
                                Some(Fault::Slow) => Some((true, answer(&mut held, asked))),
                                None => Some((false, answer(&mut held, asked))),
                            }
                        };
                        let Some((is_slow, (status, about, body))) = told else {
                            return std::future::pending().await;
                        };
                        let head = format!(
                            "HTTP/1.1 {status} X\r\n{about}content-length: {}\r\n\r\n",
                            body.len()
                        );
                        let sent = [head.as_bytes(), &body[..]].concat();
                        let piece = if is_slow { 1 } else { sent.len() };
                        for piece in sent.chunks(piece) {
                            if stream.get_mut().write_all(piece).await.is_err() {
                                return;
                            }
                            tokio::task::yield_now().await;
                        }
                    }
                });
            }
        });
        Self {
            address,
            held,
            server,
        }
    }

    /// The keys of all objects.
    pub fn keys(&self) -> Vec<String> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.objects.keys().cloned().collect()
    }

    /// Answers the next requests so. Those before do not count any more.
    pub fn fail(&self, faults: &[Fault]) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.faults = faults.iter().copied().collect();
        held.asked = 0;
    }

    /// How many requests there were.
    pub fn asked(&self) -> usize {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.asked
    }

    /// The variables by which it is found, and these. Its keys are canaries.
    pub fn options(&self, more: &[(&str, &str)]) -> Vec<(String, String)> {
        let endpoint = format!("http://{}", self.address);
        let own = [
            ("AWS_ENDPOINT_URL", endpoint.as_str()),
            ("AWS_ACCESS_KEY_ID", "canary-id"),
            ("AWS_SECRET_ACCESS_KEY", "canary-secret"),
            ("AWS_REGION", "eu-central-1"),
            ("AWS_SOMETHING_ELSE", "passed over"),
        ];
        let all = own.iter().chain(more);
        all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }
}
