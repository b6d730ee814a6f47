//! Tables of the file, and the questions that decide whose turn it is.

use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};

use super::{STALE_MAILBOX_MS, now_ms};
use crate::model::message::Lane;

/// What this program reads and writes. A file of a newer version is refused; there is no older one.
const VERSION: i64 = 1;
/// Says in the file's header whose it is: "GrfQ".
const APPLICATION: i64 = 0x4772_6651;

/// `body` stands last: what is counted and sorted is read without it. Times are milliseconds since 1970.
const TABLES: &str = "
CREATE TABLE jobs (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    lane TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('ready', 'leased', 'retry', 'parked')),
    sender TEXT NOT NULL,
    attempt INTEGER NOT NULL DEFAULT 0,
    redelivered INTEGER NOT NULL DEFAULT 0,
    enqueued_at INTEGER NOT NULL,
    available_at INTEGER NOT NULL DEFAULT 0,
    lease_until INTEGER NOT NULL DEFAULT 0,
    lease_token TEXT,
    reason_code TEXT,
    reason_detail TEXT,
    id TEXT NOT NULL, kind TEXT NOT NULL, source TEXT NOT NULL, subject TEXT, time TEXT, content_type TEXT NOT NULL,
    correlation_id TEXT, reply_to TEXT, traceparent TEXT, candidature TEXT, body BLOB NOT NULL
) STRICT;
CREATE INDEX jobs_turn ON jobs (lane, state, sender, seq);
CREATE INDEX jobs_state ON jobs (state, seq);
CREATE INDEX jobs_id ON jobs (id);
CREATE INDEX jobs_due ON jobs (available_at) WHERE state = 'retry';
CREATE INDEX jobs_leased ON jobs (lease_until) WHERE state = 'leased';
CREATE UNIQUE INDEX jobs_token ON jobs (lease_token) WHERE lease_token IS NOT NULL;
CREATE TABLE turns (
    lane TEXT NOT NULL,
    sender TEXT NOT NULL,
    served INTEGER NOT NULL,
    PRIMARY KEY (lane, sender)
) STRICT, WITHOUT ROWID;
CREATE INDEX turns_served ON turns (lane, served);
CREATE TABLE events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    id TEXT NOT NULL, kind TEXT NOT NULL, source TEXT NOT NULL, subject TEXT, time TEXT, content_type TEXT NOT NULL,
    correlation_id TEXT, reply_to TEXT, traceparent TEXT, candidature TEXT, body BLOB NOT NULL
) STRICT;
CREATE TABLE mailboxes (name TEXT PRIMARY KEY, seen_at INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE mail (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    mailbox TEXT NOT NULL REFERENCES mailboxes (name) ON DELETE CASCADE,
    id TEXT NOT NULL, kind TEXT NOT NULL, source TEXT NOT NULL, subject TEXT, time TEXT, content_type TEXT NOT NULL,
    correlation_id TEXT, reply_to TEXT, traceparent TEXT, candidature TEXT, body BLOB NOT NULL
) STRICT;
CREATE INDEX mail_box ON mail (mailbox, seq);
";

/// Makes the tables where the file is new; says what is wrong where it is not ours.
pub fn settle(connection: &mut Connection) -> rusqlite::Result<Result<(), String>> {
    // Immediate: of two processes that find a new file, one makes the tables and the other one sees them.
    let t = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let application: i64 = t.pragma_query_value(None, "application_id", |r| r.get(0))?;
    let version: i64 = t.pragma_query_value(None, "user_version", |r| r.get(0))?;
    let tables: i64 = t.query_row("SELECT COUNT(*) FROM sqlite_schema", [], |r| r.get(0))?;
    if tables == 0 && application == 0 && version == 0 {
        t.execute_batch(TABLES)?;
        t.pragma_update(None, "application_id", APPLICATION)?;
        t.pragma_update(None, "user_version", VERSION)?;
        t.commit()?;
        return Ok(Ok(()));
    }
    Ok(match (application, version) {
        (APPLICATION, VERSION) => Ok(()),
        (APPLICATION, newer) => Err(format!(
            "it was written by another version of greffier (schema {newer}, this one knows {VERSION}): use that version, or another queue.path"
        )),
        _ => Err("it is another program's database; set queue.path to another file".to_owned()),
    })
}

/// Whether a lane has anything to hand out, or anything at all is due to come back.
pub fn something_to_do(connection: &Connection, lane: Lane, now: i64) -> rusqlite::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM jobs WHERE lane = ?1 AND state = 'ready')
               OR EXISTS (SELECT 1 FROM jobs WHERE state = 'retry' AND available_at <= ?2)
               OR EXISTS (SELECT 1 FROM jobs WHERE state = 'leased' AND lease_until <= ?2)";
    connection.prepare(sql)?.query_row(params![lane.as_str(), now], |r| r.get(0))
}

/// Brings back what waited long enough, and what was leased to somebody who is gone.
pub fn bring_back(t: &Transaction<'_>, now: i64) -> rusqlite::Result<()> {
    t.prepare("UPDATE jobs SET state = 'ready' WHERE state = 'retry' AND available_at <= ?1")?.execute([now])?;
    t.prepare(
        "UPDATE jobs SET state = 'ready', lease_token = NULL, redelivered = redelivered + 1
         WHERE state = 'leased' AND lease_until <= ?1",
    )?
    .execute([now])?;
    Ok(())
}

/// The job whose turn it is; notes that its sender is served.
pub fn next_in_turn(t: &Transaction<'_>, lane: Lane) -> rusqlite::Result<Option<i64>> {
    // `senders` hops from one sender to the next in the index `jobs_turn`: the cost grows with the number of senders that
    // wait, never with the number of their jobs.
    let sql = "
        WITH RECURSIVE senders (sender) AS (
            SELECT MIN(sender) FROM jobs WHERE lane = ?1 AND state = 'ready'
            UNION ALL
            SELECT (SELECT MIN(sender) FROM jobs WHERE lane = ?1 AND state = 'ready' AND sender > senders.sender)
            FROM senders WHERE senders.sender IS NOT NULL
        )
        SELECT sender,
            (SELECT MIN(seq) FROM jobs WHERE lane = ?1 AND state = 'ready' AND sender = senders.sender) AS first,
            (SELECT COUNT(*) FROM jobs WHERE lane = ?1 AND state = 'leased' AND sender = senders.sender) AS busy,
            COALESCE((SELECT served FROM turns WHERE lane = ?1 AND sender = senders.sender), 0) AS turn
        FROM senders WHERE sender IS NOT NULL
        ORDER BY busy, turn, first LIMIT 1";
    let found: Option<(String, i64)> = t.prepare(sql)?.query_row([lane.as_str()], |r| Ok((r.get(0)?, r.get(1)?))).optional()?;
    let Some((sender, seq)) = found else { return Ok(None) };
    t.prepare(
        "INSERT INTO turns (lane, sender, served)
         VALUES (?1, ?2, (SELECT COALESCE(MAX(served), 0) + 1 FROM turns WHERE lane = ?1))
         ON CONFLICT DO UPDATE SET served = excluded.served",
    )?
    .execute(params![lane.as_str(), sender])?;
    Ok(Some(seq))
}

/// Forgets reply boxes of processes that died, and turns of senders that have no job.
pub fn sweep(t: &Transaction<'_>) -> rusqlite::Result<()> {
    t.execute("DELETE FROM mailboxes WHERE seen_at < ?1", [now_ms() - STALE_MAILBOX_MS])?;
    // The highest turn stays, so that turns go on growing.
    t.execute(
        "DELETE FROM turns WHERE NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.lane = turns.lane AND jobs.sender = turns.sender)
         AND served < (SELECT MAX(served) FROM turns AS others WHERE others.lane = turns.lane)",
        [],
    )?;
    Ok(())
}

/// Deletes events that were told before a moment (milliseconds since 1970), the oldest `most` at most; returns how many. Where
/// clocks were set back, an older event waits for those before it.
pub fn expire_events(t: &Transaction<'_>, before: i64, most: usize) -> rusqlite::Result<usize> {
    let sql = "DELETE FROM events WHERE at < ?1 AND seq IN (SELECT seq FROM events ORDER BY seq LIMIT ?2)";
    t.execute(sql, params![before, i64::try_from(most).unwrap_or(i64::MAX)])
}
