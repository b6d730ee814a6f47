//! The journal of a job in the vault: one object a line, each created once, hash-chained as [`crate::seal::journal`] says.
//!
//! Two workers with the same job append to the same chain: whoever is second finds the line taken, reads it, and goes on.

use jiff::Timestamp;

use super::records::read_bytes;
use crate::seal::journal::{self, Fields, Head, JournalError, MAX_LINE};
use crate::store::{Content, Key, Store, StoreError};

/// Bytes of one job's journal that are read: far more than retries and operators make.
const MAX_JOURNAL: usize = 64 * 1024 * 1024;

/// Why the journal could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum JobJournalError {
    /// The vault.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The lines.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Nobody's work makes a journal that long.
    #[error("the journal of job {0} has more than {MAX_JOURNAL} bytes")]
    TooLong(String),
}

impl JobJournalError {
    /// Whether the same call may succeed later, without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Store(e) => e.is_transient(),
            Self::Journal(_) | Self::TooLong(_) => false,
        }
    }
}

fn prefix(job: &str) -> String {
    format!("journal/{job}/")
}

fn key(job: &str, seq: u64) -> Key {
    // Twenty digits hold any number: keys sort as lines do.
    Key::ours(format!("{}{seq:020}.json", prefix(job)))
}

/// Every line so far, verified.
///
/// # Errors
/// [`JobJournalError`].
pub async fn read(vault: &dyn Store, job: &str) -> Result<(Vec<journal::Entry>, Head), JobJournalError> {
    let mut lines = Vec::new();
    let mut after = None;
    loop {
        let listed = vault.list(&prefix(job), after.as_ref(), 500).await?;
        let Some(last) = listed.last() else { return Ok(journal::read_lines(&lines)?) };
        after = Some(last.key.clone());
        for stat in &listed {
            lines.extend(read_bytes(vault, &stat.key, MAX_LINE as u64).await?.unwrap_or_default());
            if lines.len() > MAX_JOURNAL {
                return Err(JobJournalError::TooLong(job.to_owned()));
            }
        }
    }
}

/// Appends an event; durable when this returns. `known` is where the chain ended when it was last looked at, if it was: where
/// somebody wrote meanwhile, it is read again.
///
/// # Errors
/// [`JobJournalError`].
pub async fn append(
    vault: &dyn Store,
    job: &str,
    mut known: Option<Head>,
    at: Timestamp,
    event: &str,
    fields: Fields,
) -> Result<Head, JobJournalError> {
    loop {
        let head = match known.take() {
            Some(head) => head,
            None => read(vault, job).await?.1,
        };
        let (line, next) = journal::line(&head, at, event, fields.clone())?;
        match vault.create(&key(job, head.entries), Content::Bytes(&line), "application/x-ndjson").await {
            // The very same line is ours: no other worker writes it at the same nanosecond, and an answer may be lost.
            Ok(_) => return Ok(next),
            Err(StoreError::Conflict { .. }) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// Times that a worker began the job and never said how that ended, since it was last parked.
pub fn unfinished(entries: &[journal::Entry]) -> u32 {
    entries.iter().fold(0_u32, |open, entry| match entry.event.as_str() {
        "begun" => open.saturating_add(1),
        "delayed" | "returned" => open.saturating_sub(1),
        "parked" => 0,
        _ => open,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::directory::DirectoryStore;

    #[tokio::test]
    async fn lines_chain_and_crashes_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let store = DirectoryStore::new(dir.path());
        let mut first = None;
        for (second, event) in (0..).zip(["received", "begun", "delayed", "begun", "begun"]) {
            let at = Timestamp::from_second(second).unwrap();
            // What was known once is old by now, but for the second line.
            let head = append(&store, "j", first.clone(), at, event, Fields::new()).await.unwrap();
            first.get_or_insert(head);
        }
        let (entries, head) = read(&store, "j").await.unwrap();
        assert_eq!((entries.len(), head.entries, unfinished(&entries)), (5, 5, 2));
        append(&store, "j", None, Timestamp::UNIX_EPOCH, "parked", Fields::new()).await.unwrap();
        append(&store, "j", None, Timestamp::UNIX_EPOCH, "begun", Fields::new()).await.unwrap();
        assert_eq!(unfinished(&read(&store, "j").await.unwrap().0), 1);
    }

    #[tokio::test]
    async fn two_workers_write_one_chain() {
        let dir = tempfile::tempdir().unwrap();
        let store = std::sync::Arc::new(DirectoryStore::new(dir.path()));
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..8_u32 {
            let store = std::sync::Arc::clone(&store);
            tasks.spawn(async move {
                append(store.as_ref(), "j", None, Timestamp::UNIX_EPOCH, "begun", Fields::from([("n".into(), n.into())])).await.unwrap();
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
        assert_eq!(read(store.as_ref(), "j").await.unwrap().1.entries, 8);
    }
}
