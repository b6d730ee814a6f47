//! What is particular to a directory.

use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use greffier::store::directory::DirectoryStore;
use greffier::store::{Content, Created, Store, StoreConfig, StoreError, open};

use super::{create, create_file, digest, key, keys, noise, read};

pub fn store(root: &Path) -> DirectoryStore {
    crate::watchdog::watch();
    DirectoryStore::new(root)
}

#[tokio::test]
async fn a_spooled_file_is_linked_and_sealed() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let bytes = noise(100_000, 1);
    let job = store.spool().unwrap().join("job");
    std::fs::create_dir(&job).unwrap();
    let path = job.join("f");
    assert_eq!(create_file(&store, &key("vault/a"), &path, &bytes).await.unwrap(), Created::New);
    let (made, spooled) = (std::fs::metadata(dir.path().join("vault/a")).unwrap(), std::fs::metadata(&path).unwrap());
    assert_eq!((made.ino(), made.nlink(), made.mode() & 0o7777), (spooled.ino(), 2, 0o444));
    // The same again, and under another key: one file, three names.
    let content = || Content::File { path: &path, size: bytes.len() as u64, sha256: "" };
    assert_eq!(store.create(&key("vault/b"), content(), "").await.unwrap(), Created::New);
    let sha256 = digest(&bytes);
    let same = Content::File { path: &path, size: bytes.len() as u64, sha256: &sha256 };
    assert_eq!(store.create(&key("vault/a"), same, "").await.unwrap(), Created::Existed);
    let short = Content::File { path: &path, size: 1, sha256: &sha256 };
    assert!(matches!(store.create(&key("vault/c"), short, "").await, Err(StoreError::Corrupt { .. })));
    std::fs::remove_file(&path).unwrap();
    assert!(read(&store, &key("vault/a")).await.unwrap() == bytes);
    assert_eq!(keys(&store, "").await, ["vault/a", "vault/b"]);
    // A link below the spool to what lies elsewhere is not taken for a spooled file.
    let secret = dir.path().join("secret");
    std::fs::write(&secret, "secret").unwrap();
    symlink(&secret, &path).unwrap();
    let linked = Content::File { path: &path, size: 6, sha256: &digest(b"secret") };
    assert!(matches!(store.create(&key("vault/d"), linked, "").await, Err(StoreError::Refused { .. })));
}

#[tokio::test]
async fn no_link_leads_out_of_the_root() {
    let (outside, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(outside.path().join("x"), "outside").unwrap();
    symlink(outside.path(), dir.path().join("folder")).unwrap();
    symlink(outside.path().join("x"), dir.path().join("link")).unwrap();
    symlink(outside.path().join("new"), dir.path().join("dangling")).unwrap();
    let store = store(dir.path());
    for name in ["folder/x", "link", "dangling"] {
        let key = key(name);
        let refused = |e: &StoreError| matches!(e, StoreError::Refused { .. }) && e.to_string().contains("symbolic link");
        assert!(store.stat(&key).await.as_ref().is_err_and(refused), "{name}");
        assert!(store.open(&key).await.as_ref().err().is_some_and(refused), "{name}");
        assert!(create(&store, &key, b"outside").await.as_ref().is_err_and(refused), "{name}");
    }
    assert!(matches!(create(&store, &key("folder/new"), b"x").await, Err(StoreError::Refused { .. })));
    assert!(matches!(store.replace(&key("folder/new"), b"x", "").await, Err(StoreError::Refused { .. })));
    assert!(matches!(store.remove(&key("folder/x")).await, Err(StoreError::Refused { .. })));
    assert_eq!(keys(&store, "").await, [""; 0]);
    // Replacing a link replaces the link.
    store.replace(&key("link"), b"inside", "").await.unwrap();
    assert_eq!(std::fs::read(outside.path().join("x")).unwrap(), b"outside");
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn what_is_no_file_is_told_from_what_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    rustix::fs::mknodat(rustix::fs::CWD, dir.path().join("pipe"), rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
    assert!(matches!(store.open(&key("pipe")).await, Err(StoreError::Refused { .. })));
    create(&store, &key("a"), b"x").await.unwrap();
    create(&store, &key("b/c"), b"x").await.unwrap();
    // An object cannot be a folder too.
    assert!(matches!(create(&store, &key("a/b"), b"x").await, Err(StoreError::Refused { .. })));
    assert!(matches!(create(&store, &key("b"), b"x").await, Err(StoreError::Refused { .. })));
    assert!(matches!(store.replace(&key("b"), b"x", "").await, Err(StoreError::Refused { .. })));
}

#[tokio::test]
async fn the_spool_holds_no_objects_and_is_swept() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let spool = store.spool().unwrap();
    assert!(matches!(create(&store, &key(".spool/x"), b"x").await, Err(StoreError::Refused { .. })));
    assert!(matches!(store.stat(&key(".spool")).await, Err(StoreError::Refused { .. })));
    std::fs::create_dir(spool.join("job")).unwrap();
    let (old, new) = (spool.join("job/old"), spool.join("new"));
    for path in [&old, &new] {
        std::fs::write(path, "x").unwrap();
    }
    std::fs::File::open(&old).unwrap().set_modified(SystemTime::now() - Duration::from_secs(25 * 3600)).unwrap();
    assert_eq!(keys(&store, "").await, [""; 0]);
    let probes = store.probe(true).await;
    assert!(probes.iter().any(|p| p.name == "spool" && p.detail.starts_with("1 file")), "{probes:#?}");
    assert!(!old.exists() && new.exists());
    // What a failed write leaves is swept with it: nothing else is there.
    let path = dir.path().join("source");
    std::fs::write(&path, "x").unwrap();
    let wrong = Content::File { path: &path, size: 1, sha256: &digest(b"y") };
    assert!(store.create(&key("a"), wrong, "").await.is_err());
    let left: Vec<_> = std::fs::read_dir(&spool).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| name == "job" || name == "new"), "{left:?}");
}

#[tokio::test]
async fn a_folder_that_is_not_mounted_is_no_empty_store() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("not/there");
    let store = open(&StoreConfig::directory(&root)).await.unwrap();
    assert!(matches!(store.stat(&key("a")).await, Err(StoreError::Unavailable { .. })));
    assert!(matches!(store.list("", None, 1).await, Err(StoreError::Unavailable { .. })));
    assert!(matches!(create(&*store, &key("a"), b"x").await, Err(StoreError::Unavailable { .. })));
    assert!(!store.probe(false).await.iter().all(|p| p.ok));
    assert!(!root.exists());
    // A file in its place, or above it, is no matter of time.
    let file = dir.path().join("file");
    std::fs::write(&file, "x").unwrap();
    for root in [file.clone(), file.join("below")] {
        let store = open(&StoreConfig::directory(&root)).await.unwrap();
        assert!(matches!(store.stat(&key("a")).await, Err(StoreError::Refused { .. })), "{root:?}");
        let probes = store.probe(true).await;
        assert!(matches!(probes.as_slice(), [probe] if !probe.ok && probe.detail.contains("a file stands")), "{probes:?}");
    }
    // Who may write there makes it, when it starts.
    assert!(store.probe(true).await.iter().all(|p| p.ok));
    assert_eq!(create(&*store, &key("a"), b"x").await.unwrap(), Created::New);
}

#[tokio::test]
async fn a_file_that_is_cut_while_it_is_read_is_no_shorter_object() {
    use tokio::io::AsyncReadExt as _;
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let path = dir.path().join("upload");
    std::fs::write(&path, noise(5_000_000, 1)).unwrap();
    let mut opened = store.open(&key("upload")).await.unwrap().unwrap();
    let mut bytes = vec![0; 1000];
    opened.reader.read_exact(&mut bytes).await.unwrap();
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(10).unwrap();
    let error = opened.reader.read_to_end(&mut bytes).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof, "{error}");
    // One that grows gives what was announced.
    let mut opened = store.open(&key("upload")).await.unwrap().unwrap();
    std::fs::write(&path, noise(100, 2)).unwrap();
    bytes.clear();
    opened.reader.read_to_end(&mut bytes).await.unwrap();
    assert_eq!(bytes.len(), 10);
}

/// Runs [`on_a_full_disk`] in a mount namespace of its own, where the disk is 1 MiB large.
#[test]
fn a_full_disk_is_worth_waiting_for_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=1m tmpfs \"$GREFFIER_TEST_FULL_DISK\" && exec \"$0\" --exact store::directory::child::on_a_full_disk --ignored";
    let output = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", script])
        .arg(std::env::current_exe().unwrap())
        .env("GREFFIER_TEST_FULL_DISK", dir.path())
        .output()
        .expect("util-linux is installed");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

async fn on_a_full_disk() {
    let root = std::env::var_os("GREFFIER_TEST_FULL_DISK").expect("set by the test that runs this one");
    let (store, elsewhere) = (store(Path::new(&root)), tempfile::tempdir().unwrap());
    create(&store, &key("small"), &noise(100_000, 1)).await.unwrap();
    let large = noise(2_000_000, 2);
    let full = |result: Result<Created, StoreError>| {
        let error = result.unwrap_err();
        assert!(error.is_transient() && error.to_string().contains("no space left"), "{error}");
    };
    full(create(&store, &key("bytes"), &large).await);
    full(create_file(&store, &key("file"), &elsewhere.path().join("f"), &large).await);
    assert!(store.replace(&key("small"), &large, "").await.is_err_and(|e| e.is_transient()));
    // Nothing is half there, what was there is whole, and there is room again.
    assert_eq!(keys(&store, "").await, ["small"]);
    assert!(read(&store, &key("small")).await.unwrap() == noise(100_000, 1));
    create(&store, &key("again"), &noise(700_000, 3)).await.unwrap();
}

/// Tests that another test starts, in a process of their own; `scripts/test` leaves out what is in a module of this name.
mod child {
    #[tokio::test]
    #[ignore = "run by a_full_disk_is_worth_waiting_for_and_leaves_nothing"]
    async fn on_a_full_disk() {
        super::on_a_full_disk().await;
    }
}
