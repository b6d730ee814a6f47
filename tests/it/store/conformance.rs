//! What every fitting promises.

use greffier::store::{Content, Created, Store, StoreError};

use super::{create, create_file, digest, key, keys, noise, read};

pub async fn what_is_created_is_there_and_stays(store: &dyn Store) {
    let key = key("vault/ab/abcd");
    assert_eq!(create(store, &key, b"bytes").await.unwrap(), Created::New);
    assert_eq!(create(store, &key, b"bytes").await.unwrap(), Created::Existed);
    for other in [&b"other"[..], b"bytes and more", b""] {
        assert!(matches!(create(store, &key, other).await, Err(StoreError::Conflict { .. })), "{other:?}");
    }
    assert_eq!(read(store, &key).await.unwrap(), b"bytes");
    let stat = store.stat(&key).await.unwrap().unwrap();
    assert_eq!((stat.key, stat.size), (key, 5));
    let age = jiff::Timestamp::now().duration_since(stat.modified.unwrap()).as_secs();
    assert!((-5..60).contains(&age), "{age}");
    if let Some(sha256) = stat.sha256 {
        assert_eq!(sha256, digest(b"bytes"));
    }
}

pub async fn of_writers_at_once_exactly_one_wins(store: &dyn Store) {
    let key = key("vault/contested");
    let bodies: Vec<_> = (0..16).map(|n| noise(40_000, n)).collect();
    let results = futures_util::future::join_all(bodies.iter().map(|body| create(store, &key, body))).await;
    let won: Vec<_> = results.iter().enumerate().filter(|(_, r)| matches!(r, Ok(Created::New))).map(|(n, _)| n).collect();
    assert_eq!(won.len(), 1, "{results:?}");
    let lost = results.iter().filter(|r| matches!(r, Err(StoreError::Conflict { .. }))).count();
    assert_eq!(lost, 15, "{results:?}");
    assert!(read(store, &key).await.unwrap() == bodies[won[0]]);
    // The same bytes by everybody: one made it, the others found it.
    let key = super::key("vault/shared");
    let results = futures_util::future::join_all((0..16).map(|_| create(store, &key, b"same"))).await;
    let made = results.iter().filter(|r| matches!(r, Ok(Created::New))).count();
    assert!(made == 1 && results.iter().all(Result::is_ok), "{results:?}");
}

pub async fn a_file_is_stored_whole(store: &dyn Store) {
    let dir = tempfile::tempdir().unwrap();
    let bytes = noise(300_001, 1);
    let (key, path) = (key("vault/file"), dir.path().join("f"));
    assert_eq!(create_file(store, &key, &path, &bytes).await.unwrap(), Created::New);
    assert_eq!(create_file(store, &key, &path, &bytes).await.unwrap(), Created::Existed);
    assert!(matches!(create_file(store, &key, &path, &noise(300_001, 2)).await, Err(StoreError::Conflict { .. })));
    // Whoever changes the file later does not change the object.
    std::fs::write(&path, noise(300_001, 3)).unwrap();
    assert!(read(store, &key).await.unwrap() == bytes);
    // Bytes and files are the same to it.
    assert_eq!(create(store, &key, &bytes).await.unwrap(), Created::Existed);
    assert_eq!(keys(store, "").await, ["vault/file"]);
}

pub async fn a_large_file_is_stored_whole(store: &dyn Store) {
    let dir = tempfile::tempdir().unwrap();
    // Above the limit for one request: in two whole parts and a rest.
    let bytes = noise(17 * 1024 * 1024 + 1, 4);
    let (key, path) = (key("vault/large"), dir.path().join("f"));
    assert_eq!(create_file(store, &key, &path, &bytes).await.unwrap(), Created::New);
    assert!(read(store, &key).await.unwrap() == bytes);
    assert_eq!(store.stat(&key).await.unwrap().unwrap().size, bytes.len() as u64);
    assert_eq!(create_file(store, &key, &path, &bytes).await.unwrap(), Created::Existed);
    let other = noise(bytes.len(), 5);
    assert!(matches!(create_file(store, &key, &path, &other).await, Err(StoreError::Conflict { .. })));
    assert!(read(store, &key).await.unwrap() == bytes);
    // At once, with other bytes each.
    let key = super::key("vault/contested");
    let (one, two) = (dir.path().join("1"), dir.path().join("2"));
    let results = tokio::join!(create_file(store, &key, &one, &bytes), create_file(store, &key, &two, &other));
    match results {
        (Ok(Created::New), Err(StoreError::Conflict { .. })) => assert!(read(store, &key).await.unwrap() == bytes),
        (Err(StoreError::Conflict { .. }), Ok(Created::New)) => assert!(read(store, &key).await.unwrap() == other),
        other => panic!("{other:?}"),
    }
}

pub async fn what_is_not_what_its_digest_says_leaves_nothing(store: &dyn Store) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    // Below and above the limit for one request.
    for size in [1000, 9 * 1024 * 1024] {
        let (bytes, other) = (noise(size, 6), noise(size, 7));
        std::fs::write(&path, &bytes).unwrap();
        let key = key(format!("vault/{size}"));
        let claims = [
            ("another digest", size, digest(&other)),
            ("no digest", size, "x".into()),
            ("shorter", size - 1, digest(&bytes[..size - 1])),
            ("longer", size + 1, digest(&bytes)),
        ];
        for (what, size, sha256) in claims {
            let content = Content::File { path: &path, size: size as u64, sha256: &sha256 };
            let result = store.create(&key, content, "application/octet-stream").await;
            assert!(matches!(result, Err(StoreError::Corrupt { .. })), "{what}: {result:?}");
            assert_eq!(store.stat(&key).await.unwrap(), None, "{what}");
        }
        assert_eq!(create_file(store, &key, &path, &bytes).await.unwrap(), Created::New);
    }
    assert_eq!(keys(store, "").await.len(), 2);
    let gone = Content::File { path: &dir.path().join("gone"), size: 1, sha256: &digest(b"x") };
    let result = store.create(&key("vault/gone"), gone, "application/octet-stream").await;
    assert!(matches!(result, Err(StoreError::Unavailable { .. })), "{result:?}");
}

pub async fn nothing_is_an_object_too(store: &dyn Store) {
    let key = key("vault/empty");
    assert_eq!(create(store, &key, b"").await.unwrap(), Created::New);
    assert_eq!(create(store, &key, b"").await.unwrap(), Created::Existed);
    assert!(matches!(create(store, &key, b"x").await, Err(StoreError::Conflict { .. })));
    assert_eq!(read(store, &key).await.unwrap(), b"");
}

pub async fn what_is_not_there_is_none(store: &dyn Store) {
    create(store, &key("folder/object"), b"x").await.unwrap();
    // Also what is a folder, or below an object, in a store that has folders.
    for absent in ["absent", "folder", "folder/absent", "folder/object/below", "absent/absent"] {
        let key = key(absent);
        assert_eq!(store.stat(&key).await.unwrap(), None, "{absent}");
        assert!(store.open(&key).await.unwrap().is_none(), "{absent}");
        store.remove(&key).await.unwrap();
    }
    assert_eq!(keys(store, "absent").await, [""; 0]);
    assert_eq!(read(store, &key("folder/object")).await.unwrap(), b"x");
}

pub async fn listings_go_on_where_they_ended_in_byte_order(store: &dyn Store) {
    // `-` and `.` sort before the `/` between folders, `0` after it.
    let mut expected = ["p/Z", "p/a-b", "p/a.b", "p/a/1", "p/a/2/3", "p/a0", "p/b/c/d/e", "p/zz", "p/é", "p/\u{10000}", "p/\u{FFFD}"];
    for name in expected {
        create(store, &key(name), name.as_bytes()).await.unwrap();
    }
    create(store, &key("o"), b"").await.unwrap();
    create(store, &key("q"), b"").await.unwrap();
    expected.sort_unstable();
    for most in [1, 2, 3, 100] {
        let mut found = Vec::new();
        loop {
            let page = store.list("p/", found.last(), most).await.unwrap();
            assert!(page.len() <= most);
            if page.is_empty() {
                break;
            }
            for stat in page {
                assert_eq!(stat.size, stat.key.as_str().len() as u64);
                found.push(stat.key);
            }
        }
        assert!(found.iter().map(|k| k.as_str()).eq(expected), "{most}: {found:?}");
    }
    assert_eq!(keys(store, "p/a").await, ["p/a-b", "p/a.b", "p/a/1", "p/a/2/3", "p/a0"]);
    assert_eq!(keys(store, "p/a/").await, ["p/a/1", "p/a/2/3"]);
    assert_eq!(keys(store, "p/a/2").await, ["p/a/2/3"]);
    let after = key("p/a/1x");
    let page = store.list("p/", Some(&after), 2).await.unwrap();
    assert!(page.iter().map(|s| s.key.as_str()).eq(["p/a/2/3", "p/a0"]), "{page:?}");
    assert_eq!(store.list("p/", None, 0).await.unwrap(), []);
    assert_eq!(keys(store, "").await.len(), expected.len() + 2);
}

pub async fn strange_keys_are_kept_as_they_are(store: &dyn Store) {
    let long = "é".repeat(127);
    let mut names: Vec<String> = [
        " leading",
        "trailing ",
        "a b+c",
        "a%2Fb",
        "a%00",
        "100%",
        "..a/..b",
        "a..",
        ".hidden",
        "-rf",
        "~",
        "*",
        "?x=1&y=2",
        "#f",
        "a:b",
        "'\"<>&;|`$(id)",
        "CON",
        "a=b,c",
        "[x]{y}^",
        "été",
        "e\u{301}te\u{301}",
        "証拠",
        "📎",
        "\u{202E}gnp.exe",
    ]
    .iter()
    .map(|s| format!("strange/{s}"))
    .collect();
    names.push(format!("{long}/{long}/{long}"));
    for (n, name) in names.iter().enumerate() {
        assert_eq!(create(store, &key(name), n.to_string().as_bytes()).await.unwrap(), Created::New, "{name}");
    }
    for (n, name) in names.iter().enumerate() {
        assert_eq!(read(store, &key(name)).await.unwrap(), n.to_string().as_bytes(), "{name}");
        assert!(store.stat(&key(name)).await.unwrap().is_some(), "{name}");
    }
    names.sort();
    assert_eq!(keys(store, "").await, names);
    for name in &names {
        store.remove(&key(name)).await.unwrap();
    }
    assert_eq!(keys(store, "").await, [""; 0]);
}

pub async fn a_record_is_replaced_and_removed(store: &dyn Store) {
    let key = key("state/heartbeat.json");
    for text in ["1", "22", "", "333"] {
        store.replace(&key, text.as_bytes(), "application/json").await.unwrap();
        assert_eq!(read(store, &key).await.unwrap(), text.as_bytes());
    }
    store.remove(&key).await.unwrap();
    assert_eq!(store.stat(&key).await.unwrap(), None);
    store.remove(&key).await.unwrap();
    // What is gone may be created.
    assert_eq!(create(store, &key, b"new").await.unwrap(), Created::New);
}

pub async fn it_passes_its_own_probe(store: &dyn Store) {
    create(store, &key("object"), b"x").await.unwrap();
    // As many workers as start at once.
    let all = tokio::join!(store.probe(true), store.probe(true), store.probe(false));
    for probes in [all.0, all.1, all.2] {
        assert!(!probes.is_empty() && probes.iter().all(|p| p.ok), "{probes:#?}");
    }
    // It leaves nothing, and what was there is there.
    assert_eq!(keys(store, "").await, ["object"]);
    assert_eq!(keys(store, ".greffier-probe/").await, [""; 0]);
}
