//! The traffic of small jobs, and nothing else: the reads, writes, events and acks that `greffier worker` makes for a
//! submission of two small files, in the same order, through the same stores and queue, without looking at anything. What
//! a worker takes longer than this is checking and bundling.
//!
//! ```text
//! traffic CONFIG JOBS
//! ```
//! CONFIG is a configuration file; queue and stores are those it names, and should be empty. `scripts/soak` runs it.

#![expect(clippy::unwrap_used, reason = "a measurement stops where something fails")]

use std::sync::Arc;
use std::time::Instant;

use greffier::model::message::{Envelope, Lane};
use greffier::queue::{Delivery, Queue};
use greffier::store::{Content, Key, Store};
use greffier::worker::records::read_bytes;
use sha2::{Digest as _, Sha256};
use tokio::task::JoinSet;

/// Sizes of what a job of two small files writes, bytes: round numbers for what such jobs leave in the vault, not measured.
const RECORD: usize = 2_000;
const FACTS: usize = 1_500;
const LINE: usize = 300;
const PAGE: usize = 60_000;
const REPORT: usize = 60_000;
const BUNDLE: usize = 60_000;

struct Edges {
    queue: Arc<dyn Queue>,
    staging: Arc<dyn Store>,
    vault: Arc<dyn Store>,
}

#[tokio::main]
async fn main() {
    greffier::tls::install_tls_provider();
    let mut arguments = std::env::args().skip(1);
    let (Some(config), Some(jobs)) = (arguments.next(), arguments.next()) else { panic!("traffic CONFIG JOBS") };
    let config: greffier::config::Config = toml::from_str(&std::fs::read_to_string(config).unwrap()).unwrap();
    let jobs: usize = jobs.parse().unwrap();
    let edges = Arc::new(Edges {
        queue: greffier::queue::open(&config.queue).await.unwrap(),
        staging: greffier::store::open(&config.staging).await.unwrap(),
        vault: greffier::store::open(&config.vault).await.unwrap(),
    });
    edges.queue.prepare().await.unwrap();
    for n in 0..jobs {
        for file in 0..2 {
            let bytes = format!("upload {n} {file}");
            edges.staging.create(&key(format!("uploads/{n}-{file}")), Content::Bytes(bytes.as_bytes()), "").await.unwrap();
        }
        let body = format!("{n}").into_bytes();
        edges.queue.enqueue(Lane::Submission, &Envelope::new(format!("traffic-{n}"), "test", "test", body)).await.unwrap();
    }
    let at_once = usize::from(config.worker.submission_jobs);
    let mut consumer = edges.queue.consume(Lane::Submission, config.worker.submission_jobs * 4).await.unwrap();
    let since = Instant::now();
    let mut running = JoinSet::new();
    for _ in 0..jobs {
        let delivery = consumer.next().await.unwrap();
        if running.len() >= at_once {
            running.join_next().await.unwrap().unwrap();
        }
        running.spawn(job(Arc::clone(&edges), delivery));
    }
    while let Some(ended) = running.join_next().await {
        ended.unwrap();
    }
    println!("{:.1}", jobs as f64 / since.elapsed().as_secs_f64());
}

fn key(text: String) -> Key {
    text.parse().unwrap()
}

impl Edges {
    async fn look(&self, name: &str) {
        read_bytes(self.vault.as_ref(), &key(name.to_owned()), 1 << 20).await.unwrap();
    }
    async fn write(&self, name: &str, size: usize) {
        // Unlike any other object, as a job's are.
        let mut bytes = name.as_bytes().to_vec();
        bytes.resize(size.max(bytes.len()), b' ');
        self.vault.create(&key(name.to_owned()), Content::Bytes(&bytes), "").await.unwrap();
    }
    async fn tell(&self, job: &str, kind: &str) {
        let event = Envelope::new(format!("{job}-{kind}"), "test", "test", vec![b' '; RECORD]);
        self.queue.announce(&event).await.unwrap();
    }
}

/// The same calls as `worker/job.rs`, in its order.
async fn job(edges: Arc<Edges>, delivery: Delivery) {
    let n = String::from_utf8(delivery.message.body.clone()).unwrap();
    let job = hex::encode(Sha256::digest(n.as_bytes()));
    edges.look(&format!("outcomes/{job}")).await;
    edges.look(&format!("received/{job}")).await;
    edges.write(&format!("received/{job}"), RECORD).await;
    edges.vault.list(&format!("journal/{job}/"), None, 500).await.unwrap();
    edges.write(&format!("journal/{job}/0"), LINE).await;
    edges.tell(&job, "received").await;
    edges.write(&format!("journal/{job}/1"), LINE).await;
    let files = (0..2).map(|file| {
        let (edges, n) = (&edges, &n);
        async move {
            let bytes = read_bytes(edges.staging.as_ref(), &key(format!("uploads/{n}-{file}")), 1 << 20).await.unwrap().unwrap();
            let digest = hex::encode(Sha256::digest(&bytes));
            edges.vault.create(&key(format!("vault/{digest}")), Content::Bytes(&bytes), "").await.unwrap();
            edges.look(&format!("facts/{digest}")).await;
            edges.write(&format!("facts/{digest}"), FACTS).await;
            edges.tell(&format!("{n}-{file}"), "item").await;
        }
    });
    futures_util::future::join_all(files).await;
    for (name, size) in [("bundle", BUNDLE), ("index", PAGE), ("report", REPORT)] {
        edges.write(&format!("bundles/{job}/{name}"), size).await;
    }
    edges.write(&format!("journal/{job}/2"), LINE).await;
    edges.look(&format!("outcomes/{job}")).await;
    edges.write(&format!("outcomes/{job}"), RECORD).await;
    edges.write(&format!("journal/{job}/3"), LINE).await;
    edges.vault.replace(&key(format!("rounds/{job}")), &[b' '; 200], "").await.unwrap();
    edges.vault.remove(&key(format!("parked/{job}"))).await.unwrap();
    edges.tell(&job, "outcome").await;
    delivery.settle.ack().await.unwrap();
}
