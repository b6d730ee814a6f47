//! Every submission there is, from what the vault remembers of it: found, searched, opened.
//!
//! The vault is the only truth; what is kept in memory is a copy of records that never change (`received/`, `outcomes/`),
//! and of the few that do (`parked/`) with the moment of their last change. Two consoles over one vault show the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::StreamExt as _;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;

use crate::model::Verdict;
use crate::model::event::{About, Object, Outcome, SubmissionParked};
use crate::store::{Key, Opened, Stat, Store, StoreError};
use crate::worker::records::{OUTCOMES, PARKED, RECEIVED, Received, job_key, read};

/// The newest submissions that can be searched.
const MAX_ENTRIES: usize = 50_000;
/// Objects asked for in one listing.
const LISTING: usize = 1_000;
/// Records read at once.
const AT_ONCE: usize = 16;
/// Words that are looked for at once: each is compared with every submission.
const MAX_WORDS: usize = 8;
/// Characters of a word that is looked for: a job's id has 64.
const MAX_WORD: usize = 100;
/// How old a listing may be before the store is asked again.
const FRESH: Duration = Duration::from_secs(2);

/// Where one submission stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Standing {
    /// Received, and not ended.
    UnderWay,
    /// Set aside for an operator.
    Parked,
    /// Ended, with this verdict.
    Ended(Verdict),
}

impl Standing {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::UnderWay,
        Self::Parked,
        Self::Ended(Verdict::Rejected),
        Self::Ended(Verdict::Undetermined),
        Self::Ended(Verdict::AcceptedWithWarnings),
        Self::Ended(Verdict::Accepted),
    ];

    /// The word in addresses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnderWay => "under_way",
            Self::Parked => "parked",
            Self::Ended(verdict) => verdict.as_str(),
        }
    }
}

/// One line of the list.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Which.
    pub about: About,
    /// Items.
    pub items: usize,
    /// When a worker first recorded it.
    pub received_at: Timestamp,
    /// Where it stands.
    pub standing: Standing,
}

/// What is looked for.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// Every word must stand in number, company, product, démarche or job id; case does not count. Of very many words, or very
    /// long ones, the first and their beginnings count.
    pub text: String,
    /// Only what stands so.
    pub standing: Option<Standing>,
    /// Lines to leave out before the first.
    pub skip: usize,
    /// Lines at most.
    pub most: usize,
}

/// What was found, the newest first.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// Lines.
    pub entries: Vec<Entry>,
    /// Lines in all.
    pub total: usize,
    /// Whether older submissions were not looked at.
    pub cut: bool,
}

/// All that is recorded of one submission.
#[derive(Debug, Clone)]
pub struct Record {
    /// As it was received.
    pub received: Received,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// Why it is parked.
    pub parked: Option<SubmissionParked>,
}

/// Submissions, to look at.
#[async_trait]
pub trait Ledger: Send + Sync + std::fmt::Debug {
    /// Looks for submissions.
    async fn search(&self, query: &Query) -> Result<Found, StoreError>;
    /// One submission.
    async fn get(&self, job: &str) -> Result<Option<Record>, StoreError>;
    /// What is parked, the latest first.
    async fn parked(&self) -> Result<Vec<SubmissionParked>, StoreError>;
    /// Opens something that an outcome names.
    async fn open(&self, object: &Object) -> Result<Option<Opened>, StoreError>;
}

/// The vault, read.
#[derive(Debug)]
pub struct StoreLedger {
    vault: Arc<dyn Store>,
    index: Mutex<Index>,
}

#[derive(Debug, Default)]
struct Index {
    looked: Option<Instant>,
    received: BTreeMap<String, (About, usize, Timestamp)>,
    ended: BTreeMap<String, Verdict>,
    parked: BTreeMap<String, (Option<Timestamp>, SubmissionParked)>,
    /// Records that could not be read: not asked for again and again.
    damaged: BTreeSet<String>,
    cut: bool,
}

impl StoreLedger {
    /// Over a vault.
    pub fn new(vault: Arc<dyn Store>) -> Self {
        Self { vault, index: Mutex::default() }
    }

    async fn listing(&self, prefix: &str) -> Result<(Vec<(String, Stat)>, bool), StoreError> {
        let mut all = Vec::new();
        let mut after: Option<Key> = None;
        loop {
            let part = self.vault.list(prefix, after.as_ref(), LISTING).await?;
            let full = part.len() >= LISTING;
            after = part.last().map(|stat| stat.key.clone());
            let name = |stat: Stat| {
                let id = stat.key.as_str().strip_prefix(prefix)?.strip_suffix(".json")?.to_owned();
                Some((id, stat))
            };
            all.extend(part.into_iter().filter_map(name));
            if !full {
                break;
            }
        }
        // Keys are digests: which are the newest, only the store's clock tells.
        all.sort_by_key(|(_, stat)| std::cmp::Reverse(stat.modified));
        let cut = all.len() > MAX_ENTRIES;
        all.truncate(MAX_ENTRIES);
        Ok((all, cut))
    }

    /// Reads records at once; those that are gone or damaged are left out, and told in the log.
    async fn read_all<T: DeserializeOwned + Send>(&self, prefix: &str, ids: Vec<String>) -> Result<Vec<(String, Option<T>)>, StoreError> {
        let read = ids.into_iter().map(|id| async move {
            match read::<T>(&*self.vault, &job_key(prefix, &id)).await {
                Ok(record) => Ok((id, record)),
                Err(error) if error.is_transient() => Err(error),
                Err(error) => {
                    tracing::warn!(%error, "a record of the vault is not shown");
                    Ok((id, None))
                }
            }
        });
        futures_util::stream::iter(read).buffer_unordered(AT_ONCE).collect::<Vec<_>>().await.into_iter().collect()
    }

    async fn refreshed(&self) -> Result<tokio::sync::MutexGuard<'_, Index>, StoreError> {
        let mut index = self.index.lock().await;
        if index.looked.is_some_and(|at| at.elapsed() < FRESH) {
            return Ok(index);
        }
        let (received, cut) = self.listing(RECEIVED).await?;
        let new = |known: &dyn Fn(&str) -> bool, damaged: &BTreeSet<String>, prefix: &str, all: &[(String, Stat)]| -> Vec<String> {
            let ids = all.iter().map(|(id, _)| id);
            ids.filter(|id| is_job(id) && !known(id) && !damaged.contains(&format!("{prefix}{id}"))).cloned().collect()
        };
        let ids = new(&|id| index.received.contains_key(id), &index.damaged, RECEIVED, &received);
        for (id, record) in self.read_all::<Received>(RECEIVED, ids).await? {
            match record {
                Some(r) => {
                    index.received.insert(id, (r.about, r.submission.items.len(), r.received_at));
                }
                None => {
                    index.damaged.insert(format!("{RECEIVED}{id}"));
                }
            }
        }
        let (ended, _) = self.listing(OUTCOMES).await?;
        let ids = new(&|id| index.ended.contains_key(id), &index.damaged, OUTCOMES, &ended);
        for (id, record) in self.read_all::<Outcome>(OUTCOMES, ids).await? {
            match record {
                Some(outcome) => {
                    index.ended.insert(id, outcome.verdict);
                }
                None => {
                    index.damaged.insert(format!("{OUTCOMES}{id}"));
                }
            }
        }
        // Parked records come, change and go.
        let (parked, _) = self.listing(PARKED).await?;
        let times: BTreeMap<_, _> = parked.iter().map(|(id, stat)| (id.clone(), stat.modified)).collect();
        index.parked.retain(|id, (modified, _)| modified.is_some() && times.get(id) == Some(modified));
        let changed: Vec<_> = times.keys().filter(|id| !index.parked.contains_key(*id)).cloned().collect();
        for (id, record) in self.read_all::<SubmissionParked>(PARKED, changed).await? {
            if let Some(record) = record {
                let modified = times.get(&id).copied().flatten();
                index.parked.insert(id, (modified, record));
            }
        }
        index.cut = cut;
        index.looked = Some(Instant::now());
        Ok(index)
    }
}

/// Whether a text can be the id of a job.
pub fn is_job(id: &str) -> bool {
    id.len() == 64 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[async_trait]
impl Ledger for StoreLedger {
    async fn search(&self, query: &Query) -> Result<Found, StoreError> {
        let index = self.refreshed().await?;
        let words: Vec<_> = query
            .text
            .split_whitespace()
            .take(MAX_WORDS)
            .map(|word| word.chars().take(MAX_WORD).collect::<String>().to_lowercase())
            .collect();
        let matches = |about: &About| {
            let fields =
                [Some(&about.candidature), about.company.as_ref(), about.product.as_ref(), Some(&about.demarche), Some(&about.job)];
            let text = fields.into_iter().flatten().map(|field| field.to_lowercase()).collect::<Vec<_>>().join("\n");
            words.iter().all(|word| text.contains(word))
        };
        let standing = |job: &str| match (index.ended.get(job), index.parked.contains_key(job)) {
            // Parked again after an end (a replay) still has the outcome that was published.
            (Some(verdict), _) => Standing::Ended(*verdict),
            (None, true) => Standing::Parked,
            (None, false) => Standing::UnderWay,
        };
        let mut found: Vec<_> = index
            .received
            .iter()
            .map(|(job, (about, items, received_at))| (standing(job), about, *items, *received_at))
            .filter(|(standing, about, ..)| query.standing.is_none_or(|wanted| wanted == *standing) && matches(about))
            .collect();
        found.sort_by(|a, b| b.3.cmp(&a.3).then_with(|| a.1.job.cmp(&b.1.job)));
        let total = found.len();
        let page = found.into_iter().skip(query.skip).take(query.most);
        let entries =
            page.map(|(standing, about, items, received_at)| Entry { about: about.clone(), items, received_at, standing }).collect();
        Ok(Found { entries, total, cut: index.cut })
    }

    async fn get(&self, job: &str) -> Result<Option<Record>, StoreError> {
        if !is_job(job) {
            return Ok(None);
        }
        let Some(received) = read::<Received>(&*self.vault, &job_key(RECEIVED, job)).await? else { return Ok(None) };
        let outcome = read(&*self.vault, &job_key(OUTCOMES, job)).await?;
        let parked = read(&*self.vault, &job_key(PARKED, job)).await?;
        Ok(Some(Record { received, outcome, parked }))
    }

    async fn parked(&self) -> Result<Vec<SubmissionParked>, StoreError> {
        let index = self.refreshed().await?;
        let mut parked: Vec<_> = index.parked.values().map(|(_, record)| record.clone()).collect();
        parked.sort_by_key(|record| std::cmp::Reverse(record.parked_at));
        Ok(parked)
    }

    async fn open(&self, object: &Object) -> Result<Option<Opened>, StoreError> {
        let key: Key = match object.key.parse() {
            Ok(key) => key,
            // A record of ours names what is no key: as good as nothing there.
            Err(_) => return Ok(None),
        };
        self.vault.open(&key).await
    }
}
