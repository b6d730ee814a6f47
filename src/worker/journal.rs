//! The journal of a job in the vault: one object a line, each created once, hash-chained as [`crate::seal::journal`] says.
//!
//! Two workers with the same job append to the same chain: whoever is second finds the line taken, reads it, and goes on.

use jiff::Timestamp;

use super::records::read_bytes;
use crate::seal::journal::{self, Fields, Head, JournalError, MAX_LINE};
use crate::store::{Content, Key, Store, StoreError};

/// Lines of one job that are read: far more than retries and operators make.
const MAX_LINES: usize = 10_000;

/// Why the journal could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum JobJournalError {
    /// The vault.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The lines.
    #[error(transparent)]
    Journal(#[from] JournalError),
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
    while lines.len() < MAX_LINES * MAX_LINE {
        let listed = vault.list(&prefix(job), after.as_ref(), 500).await?;
        let Some(last) = listed.last() else { break };
        after = Some(last.key.clone());
        for stat in &listed {
            lines.extend(read_bytes(vault, &stat.key, MAX_LINE as u64).await?.unwrap_or_default());
        }
    }
    Ok(journal::read_lines(&lines)?)
}

/// Appends an event; durable when this returns.
///
/// # Errors
/// [`JobJournalError`].
pub async fn append(vault: &dyn Store, job: &str, at: Timestamp, event: &str, fields: Fields) -> Result<Head, JobJournalError> {
    loop {
        let (_, head) = read(vault, job).await?;
        let (line, next) = journal::line(&head, at, event, fields.clone())?;
        match vault.create(&key(job, head.entries), Content::Bytes(&line), "application/x-ndjson").await {
            Ok(_) => return Ok(next),
            Err(StoreError::Conflict { .. }) => {}
            Err(e) => return Err(e.into()),
        }
    }
}
