//! What a process of its own costs each file, beyond describing it: the same files described here and in a locked-in child.
//!
//! ```text
//! cargo bench --bench isolation [-- ROUNDS]
//! ```
//! Files are those of the demo dossier up to 1 MB, one after the other, each read from the page cache. For every file the
//! two ways take turns; medians over the rounds are compared, and the facts, which must be the same. What starting any
//! process costs on this machine is told beside, by one that does nothing.

#![expect(clippy::unwrap_used, reason = "a benchmark stops where something fails")]

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use greffier::inspect::{Context, Limits, inspect};
use greffier::model::Facts;
use greffier::sandbox::{Sandbox, SandboxConfig};

const LARGEST: u64 = 1_000_000;

/// What is promised: milliseconds that a child costs a small file, median.
const PROMISED_MS: f64 = 2.0;

#[tokio::main]
async fn main() {
    // `cargo bench` adds arguments of its own.
    let rounds: usize = std::env::args().skip(1).find(|a| !a.starts_with('-')).map_or(9, |n| n.parse().unwrap());
    let sandbox = Sandbox::start_with_program(SandboxConfig::default(), Limits::default(), env!("CARGO_BIN_EXE_greffier").into());
    let sandbox = sandbox.await.unwrap();
    let mut files = Vec::new();
    below(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/dossiers/lgc-demo"), &mut files);
    let (mut here, mut child, mut costs, mut nothing) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for path in &files {
        let (mut described, mut isolated) = (Vec::new(), Vec::new());
        let since = Instant::now();
        assert!(std::process::Command::new("/bin/true").status().unwrap().success());
        nothing.push(milliseconds(since));
        for _ in 0..rounds {
            let since = Instant::now();
            let expected = describe(path);
            described.push(milliseconds(since));
            let since = Instant::now();
            let facts = sandbox.inspect(File::open(path).unwrap()).await.unwrap();
            isolated.push(milliseconds(since));
            assert_eq!(facts, expected, "{}", path.display());
        }
        let (described, isolated) = (percentile(&mut described, 50), percentile(&mut isolated, 50));
        here.push(described);
        child.push(isolated);
        costs.push(isolated - described);
    }
    println!("{} files of up to {LARGEST} bytes, {rounds} rounds, ms a file", files.len());
    println!("{:>8} {:>8} {:>8}", "median", "p90", "max");
    let told = [
        ("described here", &mut here),
        ("in a child", &mut child),
        ("isolation: the difference", &mut costs),
        ("  of which starting any process (/bin/true)", &mut nothing),
    ];
    for (what, values) in told {
        let [median, p90, max] = [50, 90, 100].map(|p| percentile(values, p));
        println!("{median:8.2} {p90:8.2} {max:8.2}  {what}");
    }
    println!("isolation / promised = {:.2} (promised: {PROMISED_MS} ms, median)", percentile(&mut costs, 50) / PROMISED_MS);
}

fn describe(path: &Path) -> Facts {
    let mut bytes = Vec::new();
    File::open(path).unwrap().read_to_end(&mut bytes).unwrap();
    inspect(&bytes, &mut Context::new(Limits::default()))
}

/// Ordinary files below `folder` that are small enough.
fn below(folder: &Path, files: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = folder.read_dir().unwrap().map(Result::unwrap).collect();
    entries.sort_by_key(std::fs::DirEntry::path);
    for entry in entries {
        let told = entry.metadata().unwrap();
        if told.is_dir() {
            below(&entry.path(), files);
        } else if told.is_file() && told.len() <= LARGEST {
            files.push(entry.path());
        }
    }
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}

fn percentile(values: &mut [f64], percent: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    values[(values.len() - 1) * percent / 100]
}
