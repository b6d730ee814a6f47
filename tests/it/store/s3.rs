//! What is particular to S3: against a real server, and with a server of ours in between that misbehaves.

use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use greffier::model::probe::Probe;
use greffier::store::s3::S3Store;
use greffier::store::{Content, Created, Store, StoreConfig, StoreError, StoreKind};
use tokio::io::AsyncReadExt as _;

use super::proxy::{Act, Proxy, Request, answer, error};
use super::{create, create_file, digest, key, keys, noise, read, unique};

/// Address of the real server.
fn endpoint() -> String {
    crate::watchdog::watch();
    std::env::var("GREFFIER_TEST_S3").expect("GREFFIER_TEST_S3 is the address of an S3 server: run ./scripts/test")
}

/// `host:port` of the real server.
fn address() -> String {
    endpoint().trim_start_matches("http://").trim_end_matches('/').to_owned()
}

/// The SDK itself, for what no store does.
fn client() -> Client {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("test", "test", None, None, "test"))
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .endpoint_url(endpoint())
        .force_path_style(true);
    Client::from_conf(config.build())
}

/// A new bucket.
pub async fn bucket() -> String {
    let name = format!("t-{}", unique());
    client().create_bucket().bucket(&name).send().await.expect("the S3 server of GREFFIER_TEST_S3 answers");
    name
}

fn config(bucket: &str) -> StoreConfig {
    StoreConfig {
        kind: StoreKind::S3,
        bucket: bucket.into(),
        prefix: "greffier/".into(),
        endpoint: Some(endpoint()),
        path_style: true,
        multipart_from_bytes: 5 * 1024 * 1024,
        ..StoreConfig::default()
    }
}

async fn build(config: &StoreConfig) -> S3Store {
    S3Store::with_credentials(config, "test", "test").await
}

pub async fn store(bucket: &str) -> S3Store {
    build(&config(bucket)).await
}

/// A store that reaches the real server through `proxy`.
async fn through(proxy: &Proxy, config: StoreConfig) -> S3Store {
    build(&StoreConfig { endpoint: Some(proxy.url.clone()), ..config }).await
}

fn failed(probes: &[Probe]) -> Vec<(&str, &str)> {
    probes.iter().filter(|p| !p.ok).map(|p| (p.name.as_str(), p.detail.as_str())).collect()
}

#[tokio::test]
#[ignore = "needs S3; run by scripts/test"]
async fn what_lies_beside_the_prefix_is_another_store() {
    let bucket = bucket().await;
    let (one, two) = (store(&bucket).await, build(&StoreConfig { prefix: "greffier/2/".into(), ..config(&bucket) }).await);
    create(&one, &key("a"), b"1").await.unwrap();
    create(&two, &key("a"), b"2").await.unwrap();
    client().put_object().bucket(&bucket).key("beside").send().await.unwrap();
    assert_eq!(keys(&two, "").await, ["a"]);
    assert_eq!(keys(&one, "").await, ["2/a", "a"]);
    assert_eq!(read(&two, &key("a")).await.unwrap(), b"2");
}

#[tokio::test]
#[ignore = "needs S3; run by scripts/test"]
async fn parts_keep_the_digest_of_the_whole_and_leave_no_upload_behind() {
    let (bucket, dir) = (bucket().await, tempfile::tempdir().unwrap());
    let store = store(&bucket).await;
    let (bytes, path) = (noise(12 * 1024 * 1024, 1), dir.path().join("f"));
    create_file(&store, &key("a"), &path, &bytes).await.unwrap();
    assert_eq!(store.stat(&key("a")).await.unwrap().unwrap().sha256, Some(digest(&bytes)));
    let head = client().head_object().bucket(&bucket).key("greffier/a").send().await.unwrap();
    assert!(head.e_tag().unwrap().contains("-2"), "two parts: {head:?}");
    let wrong = Content::File { path: &path, size: bytes.len() as u64, sha256: &digest(b"other") };
    assert!(matches!(store.create(&key("b"), wrong, "text/plain").await, Err(StoreError::Corrupt { .. })));
    let uploads = client().list_multipart_uploads().bucket(&bucket).send().await.unwrap();
    assert!(uploads.uploads().is_empty(), "{uploads:?}");
    assert_eq!(keys(&store, "").await, ["a"]);
}

#[tokio::test]
#[ignore = "needs S3; run by scripts/test"]
async fn an_object_without_a_digest_is_compared_by_its_bytes() {
    let bucket = bucket().await;
    let store = store(&bucket).await;
    let put = client().put_object().bucket(&bucket).key("greffier/a").body(b"bytes".to_vec().into());
    put.send().await.unwrap();
    assert_eq!(store.open(&key("a")).await.unwrap().unwrap().stat.sha256, None);
    assert_eq!(create(&store, &key("a"), b"bytes").await.unwrap(), Created::Existed);
    assert!(matches!(create(&store, &key("a"), b"other").await, Err(StoreError::Conflict { .. })));
}

#[tokio::test]
#[ignore = "needs S3; run by scripts/test"]
async fn what_is_locked_reads_back_as_locked() {
    let bucket = format!("t-{}", unique());
    client().create_bucket().bucket(&bucket).object_lock_enabled_for_bucket(true).send().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let unlocked = store(&bucket).await;
    create(&unlocked, &key("before"), b"x").await.unwrap();
    let store = build(&StoreConfig { lock_days: 30, ..config(&bucket) }).await;
    let probes = store.probe(true).await;
    assert_eq!(failed(&probes), []);
    assert!(probes.iter().any(|p| p.name == "object lock" && p.detail.contains("stays until")), "{probes:#?}");
    // Trials in a bucket with versions leave no versions, but for the one that is locked.
    let left = client().list_object_versions().bucket(&bucket).prefix("greffier/.greffier-probe/").send().await.unwrap();
    let left: Vec<_> = left.versions().iter().filter_map(|v| v.key()).collect();
    assert!(left.len() == 1 && left[0].contains("/locked/"), "{left:?}");
    assert_eq!(keys(&store, "").await, ["before"]);
    create(&store, &key("a"), b"x").await.unwrap();
    create_file(&store, &key("b"), &dir.path().join("f"), &noise(9 * 1024 * 1024, 1)).await.unwrap();
    // Received again after the lock was configured: locked from now on.
    assert_eq!(create(&store, &key("before"), b"x").await.unwrap(), Created::Existed);
    for name in ["a", "b", "before"] {
        let head = client().head_object().bucket(&bucket).key(format!("greffier/{name}")).send().await.unwrap();
        assert_eq!(head.object_lock_mode().unwrap().as_str(), "COMPLIANCE", "{name}");
        let days = (head.object_lock_retain_until_date().unwrap().secs() - jiff::Timestamp::now().as_second()) / 86_400;
        assert!((29..=30).contains(&days), "{name}: {days}");
    }
}

#[tokio::test]
#[ignore = "needs S3; run by scripts/test"]
async fn a_lock_that_the_bucket_does_not_give_is_refused_at_start() {
    let bucket = bucket().await;
    let store = build(&StoreConfig { lock_days: 30, ..config(&bucket) }).await;
    assert!(failed(&store.probe(true).await).iter().any(|(name, _)| *name == "object lock"));
    // Nor where the server takes the header and forgets it.
    let proxy = Proxy::start(&address(), |request| {
        request.strip("x-amz-object-lock");
        Act::Pass
    })
    .await;
    let store = through(&proxy, StoreConfig { lock_days: 30, ..config(&bucket) }).await;
    let probes = store.probe(true).await;
    assert!(
        failed(&probes).iter().any(|(name, words)| *name == "object lock" && words.contains("make the bucket with object lock")),
        "{probes:#?}"
    );
    let error = create(&store, &key("a"), b"x").await.unwrap_err();
    assert!(matches!(error, StoreError::Refused { .. }), "{error}");
}

#[tokio::test]
#[ignore = "needs S3; run by scripts/test"]
async fn encryption_is_asked_for_and_read_back() {
    let bucket = bucket().await;
    let encrypted = StoreConfig { encryption: "AES256".into(), ..config(&bucket) };
    let probes = build(&encrypted).await.probe(true).await;
    assert!(failed(&probes).is_empty() && probes.iter().any(|p| p.name == "encryption"), "{probes:#?}");
    let proxy = Proxy::start(&address(), |request| {
        request.strip("x-amz-server-side-encryption");
        Act::Pass
    })
    .await;
    // Amazon encrypts whatever it is asked, so the one that is asked for must be another than the one that is always there.
    let kms = StoreConfig { encryption: "aws:kms".into(), kms_key_id: Some("1234".into()), ..config(&bucket) };
    let probes = through(&proxy, kms).await.probe(true).await;
    assert!(probes.iter().any(|p| !p.ok), "{probes:#?}");
}

#[tokio::test]
#[ignore = "needs S3; run by scripts/test"]
async fn servers_that_only_pretend_are_refused_at_start() {
    let bucket = bucket().await;
    type Cheat = fn(&mut Request);
    let cheats: [(&str, &str, Cheat); 4] = [
        ("create-only", "ignores create-only writes", |r| r.strip("if-none-match")),
        // Heeded one after the other, not at once: the check is not atomic.
        ("create-only at once", "ignores create-only writes", |r| {
            if r.target.contains("contested") {
                r.strip("if-none-match");
            }
        }),
        ("create-only in parts", "`If-None-Match: *`", |r| {
            if r.target.contains("uploadId") {
                r.strip("if-none-match");
            }
        }),
        ("checksum", "x-amz-checksum-sha256", |r| r.strip("x-amz-checksum-")),
    ];
    for (name, words, cheat) in cheats {
        let proxy = Proxy::start(&address(), move |request| {
            cheat(request);
            Act::Pass
        })
        .await;
        let probes = through(&proxy, config(&bucket)).await.probe(true).await;
        let failed = failed(&probes);
        assert!(failed.len() == 1 && failed[0].0 == name && failed[0].1.contains(words), "{name}: {probes:#?}");
    }
    assert_eq!(keys(&store(&bucket).await, "").await, [""; 0]);
}

#[tokio::test]
#[ignore = "needs S3; run by scripts/test"]
async fn an_answer_that_is_lost_is_no_conflict() {
    let (bucket, dir) = (bucket().await, tempfile::tempdir().unwrap());
    let proxy = Proxy::start(&address(), |request| {
        let lost =
            request.header("x-lost").is_none() && (request.method == "PUT" || request.method == "POST") && request.before.is_multiple_of(2);
        if lost { Act::LoseAnswer } else { Act::Pass }
    })
    .await;
    let store = through(&proxy, config(&bucket)).await;
    assert_eq!(create(&store, &key("a"), b"x").await.unwrap(), Created::Existed);
    assert_eq!(read(&store, &key("a")).await.unwrap(), b"x");
    let bytes = noise(9 * 1024 * 1024, 1);
    let proxy = Proxy::start(&address(), |request| {
        // The completion is done; its answer, and only its first, is lost.
        let completes = request.method == "POST" && request.target.contains("uploadId");
        if completes && request.header("amz-sdk-request").is_some_and(|r| r.contains("attempt=1")) { Act::LoseAnswer } else { Act::Pass }
    })
    .await;
    let store = through(&proxy, config(&bucket)).await;
    create_file(&store, &key("b"), &dir.path().join("f"), &bytes).await.unwrap();
    assert!(read(&store, &key("b")).await.unwrap() == bytes);
    assert!(proxy.seen().iter().filter(|r| r.method == "POST" && r.target.contains("uploadId")).count() > 1);
}

#[tokio::test]
#[ignore = "needs S3; run by scripts/test"]
async fn overload_is_tried_again_and_a_refusal_is_not() {
    let bucket = bucket().await;
    let proxy = Proxy::start(&address(), |request| if request.before < 2 { error("503 Slow Down", "SlowDown") } else { Act::Pass }).await;
    let store = through(&proxy, config(&bucket)).await;
    assert_eq!(create(&store, &key("a"), b"x").await.unwrap(), Created::New);
    assert_eq!(proxy.seen().iter().filter(|r| r.method == "PUT").count(), 3);

    let proxy = Proxy::start(&address(), |_| error("503 Slow Down", "SlowDown")).await;
    let store = through(&proxy, StoreConfig { max_attempts: 2, ..config(&bucket) }).await;
    let overloaded = create(&store, &key("b"), b"x").await.unwrap_err();
    assert!(overloaded.is_transient() && proxy.seen().len() == 2, "{overloaded}");

    for (status, code, words) in [
        ("403 Forbidden", "AccessDenied", "not permitted"),
        ("403 Forbidden", "SignatureDoesNotMatch", "credentials are wrong"),
        ("403 Forbidden", "RequestTimeTooSkewed", "clock"),
        ("400 Bad Request", "AuthorizationHeaderMalformed", "region"),
    ] {
        let proxy = Proxy::start(&address(), move |_| error(status, code)).await;
        let store = through(&proxy, config(&bucket)).await;
        let refused = create(&store, &key("b"), b"x").await.unwrap_err();
        assert!(matches!(refused, StoreError::Refused { .. }) && refused.to_string().contains(words), "{code}: {refused}");
        assert!(store.probe(true).await.iter().any(|p| !p.ok));
    }
    // Somebody else writes at the same time: again, until it is clear who was first.
    let proxy = Proxy::start(
        &address(),
        |request| if request.before == 0 { error("409 Conflict", "ConditionalRequestConflict") } else { Act::Pass },
    )
    .await;
    assert_eq!(create(&through(&proxy, config(&bucket)).await, &key("c"), b"x").await.unwrap(), Created::New);
}

#[tokio::test]
#[ignore = "needs S3; run by scripts/test"]
async fn a_bucket_that_is_gone_is_not_an_object_that_is_gone() {
    let store = store("no-such-bucket-here").await;
    let refused = |e: StoreError| assert!(matches!(e, StoreError::Refused { .. }) && e.to_string().contains("bucket"), "{e}");
    refused(store.stat(&key("a")).await.unwrap_err());
    refused(store.open(&key("a")).await.err().unwrap());
    refused(create(&store, &key("a"), b"x").await.unwrap_err());
    refused(store.list("", None, 1).await.unwrap_err());
    for writable in [true, false] {
        let probes = store.probe(writable).await;
        assert!(failed(&probes)[0].1.contains("the bucket does not exist"), "{probes:#?}");
    }
}

#[tokio::test]
#[ignore = "needs S3; run by scripts/test"]
async fn a_server_that_cannot_be_reached_is_worth_waiting_for() {
    let nobody = crate::support::nobody();
    let silent = Proxy::start("", |_| Act::Silence).await;
    for (url, words) in [(format!("http://{nobody}"), "no connection"), (silent.url.clone(), "no answer in time")] {
        let config = StoreConfig { endpoint: Some(url), request_timeout_ms: 300, max_attempts: 2, ..config("bucket") };
        let store = build(&config).await;
        let all = async {
            let error = create(&store, &key("a"), b"x").await.unwrap_err();
            assert!(error.is_transient() && error.to_string().contains(words), "{error}");
            assert!(store.open(&key("a")).await.err().unwrap().is_transient());
            assert!(store.stat(&key("a")).await.unwrap_err().is_transient());
            assert!(!store.probe(false).await[0].ok);
        };
        // Two attempts of 0.3 s and a wait, four times: it gives up long before, unless it never does.
        tokio::time::timeout(Duration::from_secs(240), all).await.expect("it gives up in time");
    }
}

/// What answers an HTTPS client with something else: the TLS that is compiled in is asked for, and refuses it.
#[tokio::test]
#[ignore = "needs S3; run by scripts/test"]
async fn an_address_that_speaks_no_tls_is_no_connection() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let mut greeted = 0;
        while greeted < 2 {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut hello = [0; 6];
            stream.read_exact(&mut hello).await.unwrap();
            // RFC 8446, 5.1 and 4: a handshake record that begins with a ClientHello.
            assert_eq!((hello[0], hello[5]), (22, 1));
            tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
            greeted += 1;
        }
    });
    let store = build(&StoreConfig { endpoint: Some(url), max_attempts: 2, ..config("bucket") }).await;
    let error = store.stat(&key("a")).await.unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("no connection"), "{error}");
    server.await.unwrap();
}

#[tokio::test]
#[ignore = "needs S3; run by scripts/test"]
async fn uploads_that_nobody_completed_are_aborted_when_they_are_old() {
    let bucket = bucket().await;
    let mut listed = String::new();
    for (name, hours) in [("old", 25), ("new", 1)] {
        let upload = client().create_multipart_upload().bucket(&bucket).key(format!("greffier/{name}")).send().await.unwrap();
        let at = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(hours);
        let at = at.strftime("%Y-%m-%dT%H:%M:%S.000Z");
        let id = upload.upload_id().unwrap();
        listed.push_str(&format!("<Upload><Key>greffier/{name}</Key><UploadId>{id}</UploadId><Initiated>{at}</Initiated></Upload>"));
    }
    // The real server has no way to make an upload old: its listing is told with other times.
    let listing =
        format!("<ListMultipartUploadsResult><Bucket>b</Bucket><IsTruncated>false</IsTruncated>{listed}</ListMultipartUploadsResult>");
    let proxy = Proxy::start(&address(), move |request| {
        let lists = request.method == "GET" && request.target.contains("uploads") && request.target.contains("prefix=greffier");
        if lists { answer("200 OK", &[("content-type", "application/xml")], listing.len(), listing.as_bytes()) } else { Act::Pass }
    })
    .await;
    let probes = through(&proxy, config(&bucket)).await.probe(true).await;
    assert!(failed(&probes).is_empty() && probes.iter().any(|p| p.name == "uploads" && p.detail.starts_with("1 left over")), "{probes:#?}");
    let left = client().list_multipart_uploads().bucket(&bucket).send().await.unwrap();
    let left: Vec<_> = left.uploads().iter().filter_map(|u| u.key()).collect();
    assert_eq!(left, ["greffier/new"]);
}

const SIZE: usize = 3_000_000;

/// A server that has one object and breaks the connection after `bytes` of every answer.
async fn breaking(bytes: usize, metadata: &'static str) -> Proxy {
    Proxy::start("", move |request| {
        let object = noise(SIZE, 9);
        let from = request.header("range").map_or(0, |r| r.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap());
        let range = format!("bytes {from}-{}/{SIZE}", SIZE - 1);
        let mut headers = vec![("etag", "\"one\"")];
        if !metadata.is_empty() {
            headers.push(("x-amz-meta-sha256", metadata));
        }
        let status = if request.header("range").is_some() {
            headers.push(("content-range", &range));
            "206 Partial Content"
        } else {
            "200 OK"
        };
        let rest = &object[from..];
        answer(status, &headers, rest.len(), &rest[..bytes.min(rest.len())])
    })
    .await
}

async fn read_through(proxy: &Proxy) -> Result<Vec<u8>, std::io::Error> {
    let store = through(proxy, config("bucket")).await;
    let mut opened = store.open(&key("a")).await.unwrap().unwrap();
    let mut bytes = Vec::new();
    opened.reader.read_to_end(&mut bytes).await.map(|_| bytes)
}

#[tokio::test]
#[ignore = "needs S3; run by scripts/test"]
async fn a_connection_that_breaks_is_taken_up_where_it_broke() {
    let proxy = breaking(1_100_000, "").await;
    assert!(read_through(&proxy).await.unwrap() == noise(SIZE, 9));
    let seen = proxy.seen();
    assert_eq!(seen.len(), 3, "{seen:?}");
    for request in &seen[1..] {
        assert_eq!(request.header("if-match"), Some("\"one\""));
        assert!(request.header("range").is_some());
    }
}

#[tokio::test]
#[ignore = "needs S3; run by scripts/test"]
async fn an_object_that_stays_short_is_an_error() {
    // Always the same bytes are missing: no attempt brings any.
    let proxy = Proxy::start("", |request| match request.header("range") {
        None => answer("200 OK", &[("etag", "\"one\"")], SIZE, &noise(1000, 9)),
        Some(_) => answer("206 Partial Content", &[("content-range", "bytes 1000-2999999/3000000")], SIZE - 1000, b""),
    })
    .await;
    let error = read_through(&proxy).await.unwrap_err();
    assert!(error.kind() == std::io::ErrorKind::UnexpectedEof && error.to_string().contains("at byte 1000 of 3000000"), "{error}");
    assert_eq!(proxy.seen().len(), 6);
    // A server without ranges would begin anew.
    let proxy = Proxy::start("", |_| answer("200 OK", &[], SIZE, &noise(1000, 9))).await;
    let error = read_through(&proxy).await.unwrap_err();
    assert!(error.to_string().contains("knows no ranges"), "{error}");
}

#[tokio::test]
#[ignore = "needs S3; run by scripts/test"]
async fn another_object_is_not_taken_for_the_rest_of_this_one() {
    let proxy = Proxy::start("", |request| match request.header("range") {
        None => answer("200 OK", &[("etag", "\"one\"")], SIZE, &noise(1000, 9)),
        Some(_) => error("412 Precondition Failed", "PreconditionFailed"),
    })
    .await;
    let error = read_through(&proxy).await.unwrap_err();
    assert!(error.kind() == std::io::ErrorKind::InvalidData && error.to_string().contains("replaced"), "{error}");
}

#[tokio::test]
#[ignore = "needs S3; run by scripts/test"]
async fn bytes_that_are_not_what_their_digest_says_are_an_error_at_their_end() {
    let right: &'static str = digest(&noise(SIZE, 9)).leak();
    let wrong: &'static str = digest(b"other").leak();
    // Also where the connection broke in between.
    for at in [SIZE, 2_000_000] {
        assert!(read_through(&breaking(at, right).await).await.unwrap() == noise(SIZE, 9));
        let error = read_through(&breaking(at, wrong).await).await.unwrap_err();
        assert!(error.kind() == std::io::ErrorKind::InvalidData && error.to_string().contains(wrong), "{error}");
    }
}
