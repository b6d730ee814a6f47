//! Writes the bundle of an invented candidature (239 proofs, hostile names) for the browser test and for looking at.
//!
//! `cargo run --example demo_bundle -- bundle.zip`

#![expect(clippy::expect_used, reason = "an invented candidature that cannot be written is a mistake in this program")]

#[path = "../tests/it/bundle/synthetic.rs"]
mod synthetic;

use std::fs::File;
use std::io::BufWriter;

use greffier::bundle::{Options, write};
use greffier::model::work::Work;

fn main() -> anyhow::Result<()> {
    let path = std::env::args().nth(1).ok_or_else(|| anyhow::anyhow!("usage: demo_bundle BUNDLE.zip"))?;
    let (mut report, memory, previews) = synthetic::candidature();
    let start = std::time::Instant::now();
    let summary =
        write(&mut report, &memory, &Options { previews, ..Options::default() }, BufWriter::new(File::create(&path)?), &Work::unbounded())?;
    println!("{path}: {}/, {} files, index.html {} bytes, {:?}", summary.root, summary.payload_files, summary.page_bytes, start.elapsed());
    Ok(())
}
