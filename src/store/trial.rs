//! What every fitting must prove before it is trusted: create-only one after the other and at once, reading back, listing.
//!
//! Objects of a trial lie below [`RESERVED`], each trial in a folder of its own, and are removed afterwards.

use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::future::join_all;
use tokio::io::AsyncReadExt as _;

use super::{Content, Created, Key, Store, StoreError};
use crate::model::probe::Probe;

/// Where objects of a trial lie. Not listed, unless asked for.
pub(super) const RESERVED: &str = ".greffier-probe/";

/// Writers of the same key at once, and how often.
const WRITERS: usize = 6;
const ROUNDS: usize = 4;

/// Bytes of a contested object: enough that writing it takes longer than looking whether it is there.
const CONTESTED: usize = 64 * 1024;

const NOT_CREATE_ONLY: &str = "a second write with other bytes replaced the first: this store ignores create-only writes (`If-None-Match: *`), \
     and what was received could be lost. Use Amazon S3 or a server that honours them, or a directory";

/// Whether a listing of `prefix` leaves `path` out.
pub(super) fn hidden(path: &str, prefix: &str) -> bool {
    path.starts_with(RESERVED) && !prefix.starts_with(RESERVED)
}

/// An error with its reasons, in one line.
pub(super) fn words(error: &(dyn std::error::Error + 'static)) -> String {
    let chain = std::iter::successors(Some(error), |e| e.source());
    let mut said: Vec<String> = Vec::new();
    for text in chain.map(ToString::to_string) {
        // Many libraries repeat the reason in the message.
        if !said.last().is_some_and(|before| before.contains(&text)) {
            said.push(text);
        }
    }
    said.join(": ")
}

/// A folder of keys for one trial.
pub(super) fn folder() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    format!("{RESERVED}{now:x}-{:x}/", std::process::id())
}

/// Create-only, reading back and listing, tried on `store` below a [`folder`].
pub(super) async fn create_only(store: &dyn Store, folder: &str) -> Vec<Probe> {
    let key = Key::ours(format!("{folder}sequence"));
    let mut probes = vec![sequence(store, &key).await];
    let mut keys = vec![key];
    if probes.iter().all(|p| p.ok) {
        let contested: Vec<Key> = (0..ROUNDS).map(|n| Key::ours(format!("{folder}contested-{n}"))).collect();
        probes.push(at_once(store, &contested).await);
        keys.extend(contested);
        keys.sort();
    }
    if probes.iter().all(|p| p.ok) {
        probes.push(listed(store, folder, &keys).await);
    }
    probes.push(removed(store, &keys).await);
    probes
}

async fn sequence(store: &dyn Store, key: &Key) -> Probe {
    const NAME: &str = "create-only";
    let (first, second) = (b"first".as_slice(), b"other".as_slice());
    let create = |bytes| store.create(key, Content::Bytes(bytes), "application/octet-stream");
    match create(first).await {
        Ok(Created::New) => {}
        Ok(Created::Existed) => return Probe::failed(NAME, "a new key is said to exist"),
        Err(e) => return Probe::failed(NAME, words(&e)),
    }
    match create(second).await {
        Err(StoreError::Conflict { .. }) => {}
        Ok(_) => return Probe::failed(NAME, NOT_CREATE_ONLY),
        Err(e) => return Probe::failed(NAME, words(&e)),
    }
    match create(first).await {
        Ok(Created::Existed) => {}
        Ok(Created::New) => return Probe::failed(NAME, NOT_CREATE_ONLY),
        Err(e) => return Probe::failed(NAME, words(&e)),
    }
    match read(store, key).await {
        Ok(bytes) if bytes == first => Probe::passed(NAME, "a second write is refused, and the first reads back"),
        Ok(bytes) => Probe::failed(NAME, format!("{} other bytes are read than the {} that were written", bytes.len(), first.len())),
        Err(e) => Probe::failed(NAME, words(&e)),
    }
}

async fn at_once(store: &dyn Store, keys: &[Key]) -> Probe {
    const NAME: &str = "create-only at once";
    let bodies: Vec<Vec<u8>> = (0..WRITERS).map(|n| vec![u8::try_from(n).unwrap_or(0); CONTESTED]).collect();
    for key in keys {
        let writes = bodies.iter().map(|body| store.create(key, Content::Bytes(body), "application/octet-stream"));
        let mut winners = Vec::new();
        for (n, result) in join_all(writes).await.into_iter().enumerate() {
            match result {
                Ok(Created::New) => winners.push(n),
                Ok(Created::Existed) => return Probe::failed(NAME, "other bytes are said to be the same"),
                Err(StoreError::Conflict { .. }) => {}
                // Read back, it was another's.
                Err(StoreError::Corrupt { .. }) => return Probe::failed(NAME, NOT_CREATE_ONLY),
                Err(e) => return Probe::failed(NAME, words(&e)),
            }
        }
        let [winner] = winners[..] else {
            let detail =
                format!("of {WRITERS} writers of one key at once {} were told that theirs is there: {NOT_CREATE_ONLY}", winners.len());
            return Probe::failed(NAME, detail);
        };
        match read(store, key).await {
            Ok(bytes) if bytes == bodies[winner] => {}
            Ok(_) => return Probe::failed(NAME, "the bytes that are read are not those of the writer who was told that they are there"),
            Err(e) => return Probe::failed(NAME, words(&e)),
        }
    }
    Probe::passed(NAME, format!("one of {WRITERS} writers won, {ROUNDS} times of {ROUNDS}"))
}

async fn listed(store: &dyn Store, folder: &str, keys: &[Key]) -> Probe {
    const NAME: &str = "list";
    let mut found = Vec::new();
    loop {
        // In two pages: what is listed must go on where it ended.
        match store.list(folder, found.last(), keys.len() - 1).await {
            Ok(page) if page.is_empty() => break,
            Ok(page) => found.extend(page.into_iter().map(|stat| stat.key)),
            Err(e) => return Probe::failed(NAME, words(&e)),
        }
        if found.len() > keys.len() {
            break;
        }
    }
    match found == keys {
        true => Probe::passed(NAME, "what was written is listed, page by page"),
        false => Probe::failed(NAME, format!("{} objects were written, and {} are listed, or in another order", keys.len(), found.len())),
    }
}

async fn removed(store: &dyn Store, keys: &[Key]) -> Probe {
    const NAME: &str = "remove";
    for key in keys {
        match store.remove(key).await {
            Ok(()) => {}
            // A vault from which nobody may remove anything is a good vault.
            Err(StoreError::Refused { .. }) => {
                return Probe::passed(NAME, format!("not permitted: what was tried stays below `{RESERVED}`"));
            }
            Err(e) => return Probe::failed(NAME, words(&e)),
        }
    }
    match store.stat(&keys[0]).await {
        Ok(None) => Probe::passed(NAME, "what was tried is gone"),
        Ok(Some(_)) => Probe::failed(NAME, "what was removed is still there"),
        Err(e) => Probe::failed(NAME, words(&e)),
    }
}

/// All bytes of a small object.
pub(super) async fn read(store: &dyn Store, key: &Key) -> Result<Vec<u8>, StoreError> {
    let opened = store.open(key).await?;
    let mut bytes = Vec::new();
    let read = match opened {
        None => Err(std::io::Error::from(std::io::ErrorKind::NotFound)),
        Some(mut opened) => opened.reader.read_to_end(&mut bytes).await.map(|_| bytes),
    };
    read.map_err(|e| StoreError::Unavailable { store: store.name(), what: format!("reading `{key}`"), source: Box::new(e) })
}
