//! How fast a large file comes from staging into the vault, beside hashing it and nothing else.
//!
//! ```text
//! cargo bench --bench ingest [-- FOLDER [MEGABYTES]]
//! ```
//! FOLDER is where the stores are made and removed: the disk to be measured (default: below `target`). The file is read
//! from the page cache, where an upload that just ended is. Syncing is shown apart: it is the disk's speed, not ours.

#![expect(clippy::unwrap_used, reason = "a benchmark stops where something fails")]

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use greffier::check::Sources as _;
use greffier::check::ingest::digest;
use greffier::model::submission::{Content, FileRef, FiledUnder, Item, Submission};
use greffier::store::directory::DirectoryStore;
use greffier::store::{Key, Store};
use greffier::worker::copy::copy;
use greffier::worker::intake::{Intake, IntakeLimits};
use sha2::{Digest as _, Sha256};

const ROUNDS: usize = 5;

#[tokio::main]
async fn main() {
    // `cargo bench` adds arguments of its own.
    let mut arguments = std::env::args().skip(1).filter(|a| !a.starts_with('-'));
    let below = arguments.next().map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    let megabytes: usize = arguments.next().map_or(2_000, |n| n.parse().unwrap());
    let bytes = megabytes * 1_000_000;
    let dir = tempfile::tempdir_in(&below).unwrap();
    let folders = ["staging", "vault"].map(|name| dir.path().join(name));
    folders.iter().for_each(|f| std::fs::create_dir(f).unwrap());
    let upload = folders[0].join("upload");
    noise(&upload, bytes);
    let [staging, vault] = folders.map(|f| std::sync::Arc::new(DirectoryStore::new(f)));
    println!("{megabytes} MB, best of {ROUNDS} rounds, MB/s; below {}", below.display());

    let speed = |since: Instant| megabytes as f64 / since.elapsed().as_secs_f64();
    let mut best: Vec<(&str, f64)> = Vec::new();
    let mut told = |what: &'static str, speed: f64| match best.iter_mut().find(|(name, _)| *name == what) {
        Some((_, best)) => *best = best.max(speed),
        None => best.push((what, speed)),
    };
    for _ in 0..ROUNDS {
        let chunk = vec![1_u8; 256 * 1024];
        let (mut hasher, since) = (Sha256::new(), Instant::now());
        (0..bytes / chunk.len()).for_each(|_| hasher.update(&chunk));
        std::hint::black_box(hasher.finalize());
        told("hashing memory", speed(since));

        let since = Instant::now();
        let (_, expected) = digest(File::open(&upload).unwrap()).unwrap();
        told("hashing the file", speed(since));

        let to = dir.path().join("copy");
        let since = Instant::now();
        let (mut from, mut file, mut chunk) = (File::open(&upload).unwrap(), File::create_new(&to).unwrap(), vec![0; 256 * 1024]);
        while let n @ 1.. = from.read(&mut chunk).unwrap() {
            file.write_all(&chunk[..n]).unwrap();
        }
        told("copying, not hashing", speed(since));
        file.sync_all().unwrap();
        std::fs::remove_file(&to).unwrap();

        let opened = staging.open(&Key::ours("upload".to_owned())).await.unwrap().unwrap();
        let file = File::create_new(&to).unwrap();
        let synced = file.try_clone().unwrap();
        let since = Instant::now();
        let digest = copy(opened, file, |_| Ok(())).await.unwrap();
        told("ingest: copying and hashing", speed(since));
        assert_eq!(digest, expected);
        let since = Instant::now();
        synced.sync_all().unwrap();
        told("  then syncing", speed(since));
        std::fs::remove_file(&to).unwrap();

        let submission = submission(bytes as u64);
        let limits = IntakeLimits { file: u64::MAX, submission: u64::MAX };
        let spool = vault.spool().unwrap();
        let intake = Intake::new(staging.clone(), vault.clone(), limits, &spool, &submission).unwrap();
        let Content::File(file) = &submission.items[0].content else { unreachable!() };
        let since = Instant::now();
        let source = intake.open("a", file).await.unwrap_or_else(|e| panic!("{e:?}"));
        told("ingest whole: copied, hashed, synced, in the vault", speed(since));
        assert_eq!(source.digest.unwrap(), expected);
        vault.remove(&greffier::worker::records::vault_key(&expected.sha256)).await.unwrap();
    }
    for (what, speed) in &best {
        println!("{speed:8.0}  {what}");
    }
    let of = |name: &str| best.iter().find(|(n, _)| *n == name).map_or(0.0, |(_, s)| *s);
    let ingest = of("ingest: copying and hashing");
    println!("ingest / hashing the file   = {:.2}", ingest / of("hashing the file"));
    println!("ingest / hashing memory     = {:.2}", ingest / of("hashing memory"));
}

/// A file that does not repeat, synced, so that writing it does not disturb what is measured.
fn noise(path: &Path, bytes: usize) {
    let mut file = File::create_new(path).unwrap();
    let (mut chunk, mut left, mut state) = (vec![0_u8; 1 << 20], bytes, 0x9E37_79B9_7F4A_7C15_u64);
    while left > 0 {
        for word in chunk.chunks_exact_mut(8) {
            // xorshift64 (Marsaglia 2003).
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_le_bytes());
        }
        let n = left.min(chunk.len());
        file.write_all(&chunk[..n]).unwrap();
        left -= n;
    }
    file.sync_all().unwrap();
}

fn submission(size: u64) -> Submission {
    let file = FileRef { object: "upload".into(), name: "upload.bin".into(), size: Some(size), media_type: None, sha256: None };
    Submission {
        schema: greffier::model::submission::SCHEMA.into(),
        demarche: "lgc-vague-2".into(),
        candidature: greffier::model::submission::Candidature::default(),
        stage: greffier::model::submission::Stage::Chapter { chapter: "services-socles".into() },
        revision: 1,
        submitted_at: None,
        requests: Vec::new(),
        items: vec![Item { id: "a".into(), filed_under: FiledUnder::Preuve("APCV.01".into()), content: Content::File(file) }],
    }
}
