//! One file on disk as a queue: SQLite in write-ahead mode, synced at every commit.
//!
//! Goals:
//! 1. **A job is one row**, and every settlement is one transaction that changes its state: there is no moment at which a
//!    job is in two places or in none, not even for a crash.
//! 2. **A worker holds a job by a lease** with a token of its own, renewed while the [`Delivery`] is alive. A worker that
//!    dies stops renewing, and the job comes back when its lease ends. One that was only slow finds its token gone:
//!    [`QueueError::Lost`].
//! 3. **Several processes may use the file at once**: every decision is taken inside a write transaction, never on what
//!    was read before it.
//! 4. **Candidatures take turns**: the next job of a lane is of the candidature with the fewest jobs in workers' hands,
//!    among those of the one that was served longest ago, and then the oldest. Jobs without a candidature take turns
//!    together, as one sender.
//! 5. **The runtime is never blocked**: one thread owns the connection and does one thing after the other.
//!
//! Events stay until they are purged, as in a broker's queue that nobody consumes, or until they are as old as
//! `queue.events_keep_days` says.

mod schema;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak, mpsc};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row, ToSql, TransactionBehavior, params};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot, watch};

use super::config::QueueConfig;
use super::{
    Consumer, Delivery, Depth, Destination, Health, Place, Queue, QueueError, Replies, Settle, Traffic, Waiting, jittered, random_name,
};
use crate::model::message::{Envelope, Lane, ParkReason};
use crate::model::probe::Probe;
use crate::telemetry;

/// How long an idle consumer waits before it looks for what other processes have put in: nobody wakes it.
const POLL: Duration = Duration::from_millis(200);
/// How long a statement waits for another process to finish writing.
const BUSY: Duration = Duration::from_secs(5);
/// Reply boxes that nobody has looked into for so long belong to processes that died, milliseconds.
const STALE_MAILBOX_MS: i64 = DAY_MS;
/// A day, milliseconds.
const DAY_MS: i64 = 24 * 3600 * 1000;
/// Old events that are deleted in one transaction.
const EXPIRED_AT_ONCE: usize = 500;
/// Columns of an envelope, in the order of [`bind`] and [`envelope`].
const ENVELOPE: &str = "id, kind, source, subject, time, content_type, correlation_id, reply_to, traceparent, candidature, body";

/// A queue in a file.
#[derive(Debug)]
pub struct EmbeddedQueue {
    shared: Arc<Shared>,
}

/// What the handle, its consumers and its deliveries have in common.
#[derive(Debug)]
struct Shared {
    path: PathBuf,
    /// To the thread that owns the connection; it ends when the last of these is gone.
    work: mpsc::Sender<Work>,
    lease: Duration,
    delays: Vec<Duration>,
    /// Days; 0: for ever.
    events_keep_days: u32,
    health: watch::Sender<Health>,
    closed: watch::Sender<bool>,
    /// Something became ready in this process.
    wake: Notify,
    /// Leases that are renewed.
    held: Mutex<HashSet<String>>,
}

type Work = Box<dyn FnOnce(&mut Connection) + Send>;

impl EmbeddedQueue {
    /// Opens the file, and makes it where there is none.
    ///
    /// # Errors
    /// [`QueueError::Refused`]: it is no queue, one of a newer version, or cannot be opened; [`QueueError::Unavailable`]:
    /// another process is writing for too long, the disk is full.
    pub async fn open(config: &QueueConfig) -> Result<Self, QueueError> {
        let path = config.path.clone();
        let (work, orders) = mpsc::channel::<Work>();
        let (opened, outcome) = oneshot::channel();
        let thread_path = path.clone();
        let spawned = std::thread::Builder::new().name("queue".to_owned()).spawn(move || {
            let mut connection = match open_file(&thread_path) {
                Ok(connection) => connection,
                Err(e) => return drop(opened.send(Err(e))),
            };
            // Nobody waits for it any more: nothing to do.
            if opened.send(Ok(())).is_ok() {
                while let Ok(order) = orders.recv() {
                    order(&mut connection);
                }
            }
        });
        let gone = |source| unavailable(&path, "cannot start the thread that owns the file", source);
        spawned.map_err(|e| gone(Some(Box::new(e))))?;
        outcome.await.map_err(|e| gone(Some(Box::new(e))))??;
        let shared = Arc::new(Shared {
            path,
            work,
            lease: Duration::from_secs(config.lease_seconds),
            delays: config.retry_delays_seconds.iter().map(|s| Duration::from_secs(*s)).collect(),
            events_keep_days: config.events_keep_days,
            health: watch::Sender::new(Health::Up),
            closed: watch::Sender::new(false),
            wake: Notify::new(),
            held: Mutex::new(HashSet::new()),
        });
        tokio::spawn(renew(Arc::downgrade(&shared), shared.closed.subscribe()));
        Ok(Self { shared })
    }
}

impl Shared {
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn held(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        // A set of strings has no state in between.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `todo` on the connection's thread, inside a write transaction, and follows with the health.
    async fn write<T: Send + 'static>(
        &self,
        what: &'static str,
        todo: impl FnOnce(&rusqlite::Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, QueueError> {
        self.call(what, move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let out = todo(&transaction)?;
            transaction.commit()?;
            Ok(out)
        })
        .await
    }

    /// Runs `todo` on the connection's thread.
    async fn call<T: Send + 'static>(
        &self,
        what: &'static str,
        todo: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, QueueError> {
        let (answer, answered) = oneshot::channel();
        let work: Work = Box::new(move |connection| {
            // Nobody waits any more: what `todo` returned undoes itself where it must (a lease).
            let _ = answer.send(todo(connection));
        });
        self.work.send(work).map_err(|_| unavailable(&self.path, what, None))?;
        let ended = answered.await.map_err(|e| unavailable(&self.path, what, Some(Box::new(e))))?;
        let ended = ended.map_err(|e| classify(&self.path, what, e));
        match &ended {
            Ok(_) => self.feel(&Health::Up),
            Err(e) => self.feel(&Health::Down(e.to_string())),
        }
        ended
    }

    fn feel(&self, health: &Health) {
        self.health.send_if_modified(|now| {
            let changed = now != health;
            if changed {
                now.clone_from(health);
            }
            changed
        });
    }

    fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }
}

/// Renews what is held, in a third of a lease: two renewals may fail before it ends.
async fn renew(shared: Weak<Shared>, mut closed: watch::Receiver<bool>) {
    let mut last_sweep: Option<std::time::Instant> = None;
    let mut expiring = false;
    loop {
        let Some(lease) = shared.upgrade().map(|s| s.lease) else { return };
        tokio::select! {
            () = tokio::time::sleep(lease / 3) => {}
            _ = closed.wait_for(|c| *c) => return,
        }
        let Some(shared) = shared.upgrade() else { return };
        let tokens: Vec<String> = shared.held().iter().cloned().collect();
        let until = now_ms().saturating_add(millis(lease));
        if !tokens.is_empty() {
            let renewed = shared.write("renew leases", move |t| {
                let mut renew = t.prepare("UPDATE jobs SET lease_until = ?1 WHERE lease_token = ?2 AND state = 'leased'")?;
                let mut gone = Vec::new();
                for token in tokens {
                    if renew.execute(params![until, token])? == 0 {
                        gone.push(token);
                    }
                }
                Ok(gone)
            });
            match renewed.await {
                Ok(gone) => shared.held().retain(|token| !gone.contains(token)),
                Err(e) => tracing::warn!(error = %e, "cannot renew leases; jobs under way may be handed out again"),
            }
        }
        if last_sweep.is_none_or(|at| at.elapsed() > Duration::from_secs(3600)) {
            last_sweep = Some(std::time::Instant::now());
            if let Err(e) = shared.write("sweep", schema::sweep).await {
                tracing::debug!(error = %e, "cannot sweep old reply boxes");
            }
            expiring = shared.events_keep_days > 0;
        }
        if expiring {
            // A part at each turn: leases must be renewed in time, however many events there are.
            expiring = match expire_events(&shared).await {
                Ok(more) => more,
                Err(e) => {
                    tracing::warn!(error = %e, "old events cannot be deleted; trying again in an hour");
                    false
                }
            };
        }
    }
}

/// Deletes some of the events that nobody took in `queue.events_keep_days`; whether there may be more.
async fn expire_events(shared: &Shared) -> Result<bool, QueueError> {
    let before = now_ms().saturating_sub(i64::from(shared.events_keep_days) * DAY_MS);
    let expired = shared.write("delete old events", move |t| schema::expire_events(t, before, EXPIRED_AT_ONCE)).await?;
    super::EVENTS_EXPIRED.inc_by(expired as u64);
    if expired > 0 {
        tracing::info!(events = expired, queue.events_keep_days = shared.events_keep_days, "events that nobody took were deleted");
    }
    Ok(expired == EXPIRED_AT_ONCE)
}

/// A leased job. Dropped unsettled, the job goes back at once: whoever had it panicked, or never saw it.
#[derive(Debug)]
struct Lease {
    shared: Arc<Shared>,
    token: String,
    attempt: u32,
    /// Seen by a worker: giving it back counts.
    handed: Arc<AtomicBool>,
    settled: bool,
    /// The place in the consumer's window.
    _permit: Option<OwnedSemaphorePermit>,
}

impl Lease {
    /// Changes the row if it is still ours, by `sql`, whose last parameter is the token.
    async fn settle(mut self, what: &'static str, sql: &'static str, values: Vec<rusqlite::types::Value>) -> Result<(), QueueError> {
        let token = self.token.clone();
        let changed = self.shared.write(what, move |t| {
            let mut values: Vec<&dyn ToSql> = values.iter().map(|v| v as &dyn ToSql).collect();
            values.push(&token);
            t.execute(sql, values.as_slice())
        });
        let changed = changed.await?;
        self.settled = true;
        self.shared.held().remove(&self.token);
        self.shared.wake.notify_waiters();
        if changed == 1 { Ok(()) } else { Err(QueueError::Lost { queue: self.shared.name() }) }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.shared.held().remove(&self.token);
        if self.settled {
            return;
        }
        let (token, counts) = (self.token.clone(), i64::from(self.handed.load(Ordering::Relaxed)));
        let shared = Arc::downgrade(&self.shared);
        // Where this fails too, the lease ends by itself.
        let _ = self.shared.work.send(Box::new(move |connection| {
            let given = connection.execute(
                "UPDATE jobs SET state = 'ready', lease_token = NULL, redelivered = redelivered + ?1
                 WHERE lease_token = ?2 AND state = 'leased'",
                params![counts, token],
            );
            match (given, shared.upgrade()) {
                (Ok(_), Some(shared)) => shared.wake.notify_waiters(),
                (Err(e), _) => tracing::debug!(error = %e, "a job comes back when its lease ends"),
                (Ok(_), None) => {}
            }
        }));
    }
}

#[async_trait]
impl Settle for Lease {
    async fn ack(self: Box<Self>) -> Result<(), QueueError> {
        self.settle("acknowledge a job", "DELETE FROM jobs WHERE lease_token = ?1 AND state = 'leased'", Vec::new()).await
    }

    async fn retry(self: Box<Self>, reason: &ParkReason) -> Result<Duration, QueueError> {
        let attempt = self.attempt;
        let step = self.shared.delays.get(attempt as usize).copied();
        let Some(step) = step else { return Err(QueueError::NoMoreRetries { queue: self.shared.name(), attempt }) };
        let delay = jittered(step);
        let sql = "UPDATE jobs SET state = 'retry', attempt = attempt + 1, redelivered = 0, lease_token = NULL, \
                   available_at = ?1, reason_code = ?2, reason_detail = ?3, traceparent = COALESCE(?4, traceparent) \
                   WHERE lease_token = ?5 AND state = 'leased'";
        let available_at = now_ms().saturating_add(millis(delay));
        let mut values = vec![available_at.into()];
        values.extend(noted(reason));
        self.settle("put a job back for later", sql, values).await?;
        Ok(delay)
    }

    async fn park(self: Box<Self>, reason: &ParkReason) -> Result<(), QueueError> {
        let sql = "UPDATE jobs SET state = 'parked', lease_token = NULL, reason_code = ?1, reason_detail = ?2, \
                   traceparent = COALESCE(?3, traceparent) WHERE lease_token = ?4 AND state = 'leased'";
        self.settle("park a job", sql, noted(reason).into()).await
    }

    async fn release(self: Box<Self>) -> Result<(), QueueError> {
        let sql = "UPDATE jobs SET state = 'ready', lease_token = NULL WHERE lease_token = ?1 AND state = 'leased'";
        self.settle("give a job back", sql, Vec::new()).await
    }
}

/// What a job gets that is moved: why, and the trace that it goes on in where it is traced.
fn noted(reason: &ParkReason) -> [rusqlite::types::Value; 3] {
    [reason.code.clone().into(), reason.detail.clone().into(), telemetry::traceparent().into()]
}

/// Jobs of one lane.
struct LaneConsumer {
    shared: Arc<Shared>,
    lane: Lane,
    window: Arc<Semaphore>,
    stopped: bool,
}

#[async_trait]
impl Consumer for LaneConsumer {
    async fn next(&mut self) -> Option<Delivery> {
        let mut closed = self.shared.closed.subscribe();
        loop {
            if self.stopped || self.shared.is_closed() {
                return None;
            }
            // Before looking: what becomes ready after the look wakes us.
            let mut woken = std::pin::pin!(self.shared.wake.notified());
            woken.as_mut().enable();
            let permit = tokio::select! {
                permit = Arc::clone(&self.window).acquire_owned() => permit.ok()?,
                _ = closed.wait_for(|c| *c) => return None,
            };
            let pause = match lease(&self.shared, self.lane, permit).await {
                Ok(Some(delivery)) => return Some(delivery),
                Ok(None) => POLL,
                Err(e) => {
                    tracing::warn!(error = %e, lane = self.lane.as_str(), "cannot take a job; trying again");
                    Duration::from_secs(1)
                }
            };
            tokio::select! {
                () = woken => {}
                () = tokio::time::sleep(pause) => {}
                _ = closed.wait_for(|c| *c) => return None,
            }
        }
    }

    async fn stop(&mut self) {
        self.stopped = true;
    }
}

/// Takes the next job of a lane, where there is one.
async fn lease(shared: &Arc<Shared>, lane: Lane, permit: OwnedSemaphorePermit) -> Result<Option<Delivery>, QueueError> {
    let token = random_name();
    let (owner, mine, until) = (Arc::clone(shared), token.clone(), millis(shared.lease));
    let taken = shared.call("take a job", move |connection| {
        let now = now_ms();
        // An idle queue is only read.
        if !schema::something_to_do(connection, lane, now)? {
            return Ok(None);
        }
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        schema::bring_back(&transaction, now)?;
        let Some(seq) = schema::next_in_turn(&transaction, lane)? else {
            transaction.commit()?;
            return Ok(None);
        };
        transaction.execute(
            "UPDATE jobs SET state = 'leased', lease_token = ?1, lease_until = ?2 WHERE seq = ?3",
            params![mine, now.saturating_add(until), seq],
        )?;
        let sql = format!("SELECT {ENVELOPE}, attempt, redelivered FROM jobs WHERE seq = ?1");
        let (message, attempt, redelivered) =
            transaction.prepare(&sql)?.query_row([seq], |r| Ok((envelope(r)?, r.get::<_, u32>(11)?, r.get::<_, u32>(12)?)))?;
        transaction.commit()?;
        owner.held().insert(mine.clone());
        // From here on, the lease gives itself back wherever it is dropped: also where nobody waits for this answer.
        let handed = Arc::new(AtomicBool::new(false));
        let lease = Lease { shared: owner, token: mine, attempt, handed: Arc::clone(&handed), settled: false, _permit: Some(permit) };
        Ok(Some((handed, Delivery { lane, message, attempt, redelivered, settle: Box::new(lease) })))
    });
    Ok(taken.await?.map(|(handed, delivery)| {
        handed.store(true, Ordering::Relaxed);
        delivery
    }))
}

/// A box for replies.
struct Mailbox {
    shared: Arc<Shared>,
    name: String,
}

#[async_trait]
impl Replies for Mailbox {
    fn address(&self) -> String {
        self.name.clone()
    }

    async fn next(&mut self) -> Result<Envelope, QueueError> {
        let mut closed = self.shared.closed.subscribe();
        loop {
            let mut woken = std::pin::pin!(self.shared.wake.notified());
            woken.as_mut().enable();
            let name = self.name.clone();
            let found = self.shared.call("look for replies", move |connection| {
                let sql = format!("SELECT {ENVELOPE}, seq FROM mail WHERE mailbox = ?1 ORDER BY seq LIMIT 1");
                let first = connection.prepare(&sql)?.query_row([&name], |r| Ok((envelope(r)?, r.get::<_, i64>(11)?))).optional()?;
                if let Some((_, seq)) = &first {
                    connection.execute("DELETE FROM mail WHERE seq = ?1", [seq])?;
                }
                // Still in use, said now and then only: it is a write.
                let now = now_ms();
                connection.execute(
                    "UPDATE mailboxes SET seen_at = ?1 WHERE name = ?2 AND seen_at < ?3",
                    params![now, name, now - STALE_MAILBOX_MS / 24],
                )?;
                Ok(first.map(|(message, _)| message))
            });
            if let Some(message) = found.await? {
                return Ok(message);
            }
            tokio::select! {
                () = woken => {}
                () = tokio::time::sleep(POLL) => {}
                _ = closed.wait_for(|c| *c) => return Err(unavailable(&self.shared.path, "the queue is closed", None)),
            }
        }
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        let name = std::mem::take(&mut self.name);
        // Where this fails, it is swept when it is old.
        let _ = self.shared.work.send(Box::new(move |connection| {
            if let Err(e) = connection.execute("DELETE FROM mailboxes WHERE name = ?1", [&name]) {
                tracing::debug!(error = %e, "a reply box is left for the sweep");
            }
        }));
    }
}

#[async_trait]
impl Queue for EmbeddedQueue {
    fn name(&self) -> String {
        self.shared.name()
    }

    async fn prepare(&self) -> Result<Vec<Probe>, QueueError> {
        let (mode, synchronous, damage) = self
            .shared
            .call("look at the file", |connection| {
                let mode: String = connection.pragma_query_value(None, "journal_mode", |r| r.get(0))?;
                let synchronous: i64 = connection.pragma_query_value(None, "synchronous", |r| r.get(0))?;
                let damage: String = connection.query_row("PRAGMA quick_check(1)", [], |r| r.get(0))?;
                Ok((mode, synchronous, damage))
            })
            .await?;
        // Written and taken away again: a read-only disk or a full one shows now.
        let written = self.shared.write("write to the file", |t| {
            let sql = format!("INSERT INTO events ({ENVELOPE}, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, 0)");
            let trial = Envelope::new("trial", "trial", "trial", vec![0; 64 * 1024]);
            insert(t, &sql, &trial, &[])?;
            t.execute("DELETE FROM events WHERE seq = last_insert_rowid()", [])
        });
        written.await?;
        let (name, mut probes) = ("embedded queue", Vec::new());
        if mode == "wal" && synchronous >= 2 {
            probes.push(Probe::passed(format!("{name} durability"), "write-ahead log, synced at every commit"));
        } else {
            let what = format!("journal_mode is {mode}, synchronous is {synchronous}; put queue.path on a local file system");
            probes.push(Probe::failed(format!("{name} durability"), what));
        }
        if damage == "ok" {
            probes.push(Probe::passed(format!("{name} integrity"), "quick_check found no damage"));
        } else {
            probes.push(Probe::failed(format!("{name} integrity"), format!("{damage}; restore {} from a backup", self.name())));
        }
        Ok(probes)
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.shared.health.subscribe()
    }

    fn destination(&self, traffic: Traffic<'_>) -> Destination {
        let name = match traffic {
            Traffic::Send(lane) | Traffic::Receive(lane) => lane.as_str(),
            Traffic::Announce(_) => "events",
        };
        Destination { system: "greffier", name: name.to_owned(), routing_key: None }
    }

    fn retry_steps(&self) -> usize {
        self.shared.delays.len()
    }

    async fn enqueue(&self, lane: Lane, job: &Envelope) -> Result<(), QueueError> {
        let job = job.clone();
        let put = self.shared.write("enqueue a job", move |t| {
            let sql = format!(
                "INSERT INTO jobs ({ENVELOPE}, lane, enqueued_at, state, sender)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, 'ready', ?14)"
            );
            let sender = job.candidature.clone().unwrap_or_default();
            insert(t, &sql, &job, &[&lane.as_str(), &now_ms(), &sender])
        });
        put.await?;
        self.shared.wake.notify_waiters();
        Ok(())
    }

    async fn announce(&self, event: &Envelope) -> Result<(), QueueError> {
        let event = event.clone();
        let told = self.shared.write("announce an event", move |t| {
            let sql = format!("INSERT INTO events ({ENVELOPE}, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)");
            insert(t, &sql, &event, &[&now_ms()])?;
            let Some(address) = &event.reply_to else { return Ok(()) };
            // A box that is gone gets nothing: the event is told to everybody else.
            let sql = format!(
                "INSERT INTO mail ({ENVELOPE}, mailbox)
                 SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, name FROM mailboxes WHERE name = ?12"
            );
            insert(t, &sql, &event, &[address])
        });
        told.await?;
        self.shared.wake.notify_waiters();
        Ok(())
    }

    async fn consume(&self, lane: Lane, window: u16) -> Result<Box<dyn Consumer>, QueueError> {
        let window = Arc::new(Semaphore::new(usize::from(window.max(1))));
        Ok(Box::new(LaneConsumer { shared: Arc::clone(&self.shared), lane, window, stopped: false }))
    }

    async fn replies(&self) -> Result<Box<dyn Replies>, QueueError> {
        let name = format!("reply.{}", random_name());
        let inserted = name.clone();
        let made = self.shared.write("make a reply box", move |t| {
            t.execute("INSERT INTO mailboxes (name, seen_at) VALUES (?1, ?2)", params![inserted, now_ms()])
        });
        made.await?;
        Ok(Box::new(Mailbox { shared: Arc::clone(&self.shared), name }))
    }

    async fn status(&self) -> Result<Vec<Depth>, QueueError> {
        let counted = self.shared.write("count what waits", |t| {
            schema::bring_back(t, now_ms())?;
            let mut depths = Vec::new();
            let oldest = |ms: Option<i64>| ms.and_then(|ms| Timestamp::from_millisecond(ms).ok());
            let mut count = t.prepare("SELECT COUNT(*), MIN(enqueued_at) FROM jobs WHERE lane = ?1 AND state = ?2")?;
            let mut of =
                |lane: Lane, state: &str| count.query_row(params![lane.as_str(), state], |r| Ok((read_count(r)?, oldest(r.get(1)?))));
            for lane in Lane::ALL {
                let (ready, since) = of(lane, "ready")?;
                let (leased, _) = of(lane, "leased")?;
                depths.push(Depth { place: Place::Lane(lane), ready, unsettled: Some(leased), oldest: since, consumers: None });
            }
            for lane in Lane::ALL {
                let (ready, since) = of(lane, "retry")?;
                depths.push(Depth { place: Place::Retry(lane), ready, unsettled: Some(0), oldest: since, consumers: None });
            }
            let one = |sql: &str| t.query_row(sql, [], |r| Ok((read_count(r)?, oldest(r.get(1)?))));
            let (ready, since) = one("SELECT COUNT(*), MIN(enqueued_at) FROM jobs WHERE state = 'parked'")?;
            depths.push(Depth { place: Place::Parked, ready, unsettled: Some(0), oldest: since, consumers: None });
            let (ready, since) = one("SELECT COUNT(*), MIN(at) FROM events")?;
            depths.push(Depth { place: Place::Events, ready, unsettled: Some(0), oldest: since, consumers: None });
            Ok(depths)
        });
        counted.await
    }

    async fn peek(&self, place: Place, most: usize) -> Result<Vec<Waiting>, QueueError> {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let seen = self.shared.write("look at what waits", move |t| {
            schema::bring_back(t, now_ms())?;
            let (from, lane, state) = match place {
                Place::Lane(lane) => ("lane = ?1 AND state = ?2", lane.as_str(), "ready"),
                Place::Retry(lane) => ("lane = ?1 AND state = ?2", lane.as_str(), "retry"),
                Place::Parked => ("?1 = '' AND state = ?2", "", "parked"),
                Place::Events => {
                    let sql = format!("SELECT {ENVELOPE} FROM events ORDER BY seq LIMIT ?1");
                    let mut events = t.prepare(&sql)?;
                    let bare = |r: &Row<'_>| Ok(Waiting { message: envelope(r)?, lane: None, attempt: 0, reason: None });
                    return events.query_map([most], bare)?.collect();
                }
            };
            let sql = format!(
                "SELECT {ENVELOPE}, lane, attempt, reason_code, reason_detail FROM jobs WHERE {from}
                 ORDER BY CASE state WHEN 'retry' THEN available_at ELSE seq END LIMIT ?3"
            );
            let mut jobs = t.prepare(&sql)?;
            let read = |r: &Row<'_>| {
                let (lane, code, detail): (String, Option<String>, Option<String>) = (r.get(11)?, r.get(13)?, r.get(14)?);
                let reason = code.map(|code| ParkReason { code, detail: detail.unwrap_or_default() });
                Ok(Waiting { message: envelope(r)?, lane: lane.parse().ok(), attempt: r.get(12)?, reason })
            };
            jobs.query_map(params![lane, state, most], read)?.collect()
        });
        seen.await
    }

    async fn requeue(&self, id: Option<&str>, most: usize) -> Result<usize, QueueError> {
        let (id, most) = (id.map(str::to_owned), i64::try_from(most).unwrap_or(i64::MAX));
        let moved = self.shared.write("requeue parked jobs", move |t| {
            t.execute(
                "UPDATE jobs SET state = 'ready', attempt = 0, redelivered = 0, reason_code = NULL, reason_detail = NULL
                 WHERE seq IN (SELECT seq FROM jobs WHERE state = 'parked' AND (?1 IS NULL OR id = ?1) ORDER BY seq LIMIT ?2)",
                params![id, most],
            )
        });
        let moved = moved.await?;
        self.shared.wake.notify_waiters();
        Ok(moved)
    }

    async fn park_waiting(&self, lane: Lane, id: &str, reason: &ParkReason) -> Result<bool, QueueError> {
        let (id, reason) = (id.to_owned(), reason.clone());
        let parked = self.shared.write("park a waiting job", move |t| {
            schema::bring_back(t, now_ms())?;
            t.execute(
                "UPDATE jobs SET state = 'parked', reason_code = ?1, reason_detail = ?2
                 WHERE lane = ?3 AND state = 'ready' AND id = ?4",
                params![reason.code, reason.detail, lane.as_str(), id],
            )
        });
        Ok(parked.await? > 0)
    }

    async fn purge(&self, place: Place) -> Result<u64, QueueError> {
        let purged = self.shared.write("purge", move |t| {
            schema::bring_back(t, now_ms())?;
            match place {
                Place::Lane(lane) => t.execute("DELETE FROM jobs WHERE lane = ?1 AND state = 'ready'", [lane.as_str()]),
                Place::Retry(lane) => t.execute("DELETE FROM jobs WHERE lane = ?1 AND state = 'retry'", [lane.as_str()]),
                Place::Parked => t.execute("DELETE FROM jobs WHERE state = 'parked'", []),
                Place::Events => t.execute("DELETE FROM events", []),
            }
        });
        Ok(purged.await? as u64)
    }

    async fn close(&self) {
        self.shared.closed.send_replace(true);
        let tokens: Vec<String> = self.shared.held().drain().collect();
        // Nothing is ours afterwards: deliveries that are still about are lost to whoever holds them.
        let given = self.shared.write("give jobs back", move |t| {
            let mut give = t.prepare("UPDATE jobs SET state = 'ready', lease_token = NULL WHERE lease_token = ?1")?;
            tokens.iter().try_for_each(|token| give.execute([token]).map(drop))
        });
        if let Err(e) = given.await {
            tracing::warn!(error = %e, "jobs come back when their leases end");
        }
        self.shared.feel(&Health::Down("closed".to_owned()));
    }
}

/// Opens or makes the file.
fn open_file(path: &Path) -> Result<Connection, QueueError> {
    let refused = |what: String, source: Option<Box<dyn std::error::Error + Send + Sync>>| QueueError::Refused {
        queue: path.display().to_string(),
        what,
        source,
    };
    make_private(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::StorageFull => unavailable(path, "cannot make the file", Some(Box::new(e))),
        _ => refused("cannot make or open the file; set queue.path to a place this user may write".to_owned(), Some(Box::new(e))),
    })?;
    let as_error = |e| classify(path, "open the file", e);
    let mut connection = Connection::open(path).map_err(as_error)?;
    connection.busy_timeout(BUSY).map_err(as_error)?;
    let mode: String = connection.pragma_update_and_check(None, "journal_mode", "wal", |r| r.get(0)).map_err(as_error)?;
    if mode != "wal" {
        return Err(refused(format!("its file system allows no write-ahead log ({mode}); put queue.path on a local disk"), None));
    }
    connection.pragma_update(None, "synchronous", "full").map_err(as_error)?;
    connection.pragma_update(None, "foreign_keys", true).map_err(as_error)?;
    match schema::settle(&mut connection).map_err(as_error)? {
        Ok(()) => Ok(connection),
        Err(what) => Err(refused(what, None)),
    }
}

/// Makes the file and its folder for their owner only: jobs name people and candidatures. SQLite gives its companions
/// (`-wal`, `-shm`) the same rights.
fn make_private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
    if let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty()) {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    std::fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path).map(drop)
}

fn unavailable(path: &Path, what: &str, source: Option<Box<dyn std::error::Error + Send + Sync>>) -> QueueError {
    QueueError::Unavailable { queue: path.display().to_string(), what: what.to_owned(), source }
}

/// Whose fault it is: what may pass by itself, and what somebody must change.
fn classify(path: &Path, what: &str, error: rusqlite::Error) -> QueueError {
    use rusqlite::ErrorCode as Code;
    let queue = path.display().to_string();
    let (passes, advice) = match error.sqlite_error_code() {
        Some(Code::DatabaseBusy | Code::DatabaseLocked) => (true, "another process holds it for too long"),
        Some(Code::DiskFull) => (true, "the disk is full"),
        Some(Code::SystemIoFailure | Code::OutOfMemory | Code::OperationInterrupted | Code::FileLockingProtocolFailed) => {
            (true, "the system failed")
        }
        Some(Code::DatabaseCorrupt) => (false, "the file is damaged; restore it from a backup, or start with a new one"),
        Some(Code::NotADatabase) => (false, "the file is no queue; set queue.path to another one"),
        Some(Code::ReadOnly | Code::PermissionDenied | Code::CannotOpen) => (false, "the file cannot be written by this user"),
        _ => (false, "SQLite refuses it"),
    };
    let (what, source) = (format!("cannot {what}: {advice}"), Some(Box::new(error) as _));
    if passes { QueueError::Unavailable { queue, what, source } } else { QueueError::Refused { queue, what, source } }
}

fn now_ms() -> i64 {
    Timestamp::now().as_millisecond()
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Runs an insert whose first parameters are those of [`ENVELOPE`].
fn insert(t: &rusqlite::Transaction<'_>, sql: &str, message: &Envelope, more: &[&dyn ToSql]) -> rusqlite::Result<()> {
    let Envelope { id, kind, source, subject, time, content_type, correlation_id, reply_to, traceparent, candidature, body } = message;
    let time = time.map(|t| t.to_string());
    let mut values: Vec<&dyn ToSql> =
        vec![id, kind, source, subject, &time, content_type, correlation_id, reply_to, traceparent, candidature, body];
    values.extend(more);
    t.prepare(sql)?.execute(values.as_slice()).map(drop)
}

/// Reads the columns of [`ENVELOPE`].
fn envelope(row: &Row<'_>) -> rusqlite::Result<Envelope> {
    Ok(Envelope {
        id: row.get(0)?,
        kind: row.get(1)?,
        source: row.get(2)?,
        subject: row.get(3)?,
        time: row.get::<_, Option<String>>(4)?.and_then(|t| t.parse().ok()),
        content_type: row.get(5)?,
        correlation_id: row.get(6)?,
        reply_to: row.get(7)?,
        traceparent: row.get(8)?,
        candidature: row.get(9)?,
        body: row.get(10)?,
    })
}

/// A COUNT in the first column.
fn read_count(row: &Row<'_>) -> rusqlite::Result<u64> {
    row.get::<_, i64>(0).map(i64::unsigned_abs)
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::*;

    #[test]
    fn what_may_pass_is_told_from_what_somebody_must_mend() {
        let told = |code| classify(Path::new("q"), "do it", rusqlite::Error::SqliteFailure(ffi::Error::new(code), None));
        for passes in
            [ffi::SQLITE_FULL, ffi::SQLITE_BUSY, ffi::SQLITE_LOCKED, ffi::SQLITE_IOERR, ffi::SQLITE_NOMEM, ffi::SQLITE_BUSY_SNAPSHOT]
        {
            assert!(told(passes).is_transient(), "{}", told(passes));
        }
        for stays in [ffi::SQLITE_CORRUPT, ffi::SQLITE_NOTADB, ffi::SQLITE_READONLY, ffi::SQLITE_CANTOPEN, ffi::SQLITE_PERM] {
            assert!(matches!(told(stays), QueueError::Refused { .. }), "{}", told(stays));
        }
    }
}
