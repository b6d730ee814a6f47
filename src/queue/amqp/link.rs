//! The connection, and its supervisor.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use lapin::{Channel, Connection, ErrorKind, Event};
use tokio::sync::watch;

use super::address::{self, Address};
use super::topology::{self, Names};
use crate::queue::config::QueueConfig;
use crate::queue::{Health, QueueError, random};

/// Longest pause between two rounds of trying.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How often the state of the connection is looked at besides its events.
const LOOK: Duration = Duration::from_millis(500);

/// The way to the broker.
pub struct Link {
    /// Names of what is declared.
    pub names: Names,
    /// What the configuration asks for.
    pub config: QueueConfig,
    /// Follows the connection.
    pub health: watch::Sender<Health>,
    /// Whether everything is to be declared again after reconnecting.
    pub prepared: AtomicBool,
    addresses: Vec<Address>,
    state: watch::Sender<State>,
}

/// Where the connection stands.
#[derive(Clone)]
pub enum State {
    /// Not connected. `refused`: nobody lets us in, and waiting will not mend it.
    Down { why: String, refused: bool },
    /// Connected.
    Up(Arc<Live>),
    /// For good.
    Closed,
}

/// One connection.
pub struct Live {
    /// It.
    pub connection: Connection,
    /// Which broker it leads to.
    pub address: Address,
    /// Channels in confirm mode that nobody publishes on right now.
    pub idle: Mutex<Vec<Channel>>,
}

impl Live {
    /// Takes or gives back idle channels.
    pub fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Channel>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Link {
    /// Starts the supervisor.
    ///
    /// # Errors
    /// [`QueueError::Refused`]: a URL that is none.
    pub fn start(config: &QueueConfig) -> Result<Arc<Self>, QueueError> {
        let addresses = address::read(config)?;
        let why = "not connected yet".to_owned();
        let link = Arc::new(Self {
            names: Names::new(config),
            config: config.clone(),
            health: watch::Sender::new(Health::Down(why.clone())),
            prepared: AtomicBool::new(false),
            addresses,
            state: watch::Sender::new(State::Down { why, refused: false }),
        });
        tokio::spawn(supervise(Arc::clone(&link)));
        Ok(link)
    }

    /// For messages: the broker in use, or all of them. No secret.
    pub fn name(&self) -> String {
        match &*self.state.borrow() {
            State::Up(live) => live.address.name(),
            _ => self.addresses.iter().map(Address::name).collect::<Vec<_>>().join(", "),
        }
    }

    /// Where it stands, now and later.
    pub fn state(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// Whether it is closed for good.
    pub fn is_closed(&self) -> bool {
        matches!(*self.state.borrow(), State::Closed)
    }

    /// The connection, waited for as long as one round of trying takes.
    ///
    /// # Errors
    /// [`QueueError::Unavailable`]: still none. [`QueueError::Refused`]: no broker lets us in.
    pub async fn live(&self) -> Result<Arc<Live>, QueueError> {
        let rounds = u32::try_from(self.addresses.len()).unwrap_or(u32::MAX).saturating_add(1);
        let patience = Duration::from_millis(self.config.connect_timeout_ms).saturating_mul(rounds);
        let mut state = self.state();
        let decided = state.wait_for(|s| !matches!(s, State::Down { refused: false, .. }));
        let decided = tokio::time::timeout(patience, decided).await.map(|s| s.map(|s| s.clone()));
        match decided {
            Ok(Ok(State::Up(live))) => Ok(live),
            Ok(Ok(State::Down { why, .. })) => Err(self.refused(why, None)),
            Ok(Ok(State::Closed) | Err(_)) => Err(self.unavailable("the queue is closed", None)),
            Err(_) => {
                let why = match &*self.state.borrow() {
                    State::Down { why, .. } => why.clone(),
                    _ => "it came and went".to_owned(),
                };
                Err(self.unavailable(format!("no connection: {why}"), None))
            }
        }
    }

    /// A new channel.
    ///
    /// # Errors
    /// As [`Link::live`].
    pub async fn channel(&self) -> Result<Channel, QueueError> {
        let live = self.live().await?;
        live.connection.create_channel().await.map_err(|e| self.failed("open a channel", e))
    }

    /// An error that may pass.
    pub fn unavailable(&self, what: impl Into<String>, source: Option<lapin::Error>) -> QueueError {
        QueueError::Unavailable { queue: self.name(), what: what.into(), source: source.map(|e| Box::new(e) as _) }
    }

    /// An error that somebody must mend.
    pub fn refused(&self, what: impl Into<String>, source: Option<lapin::Error>) -> QueueError {
        QueueError::Refused { queue: self.name(), what: what.into(), source: source.map(|e| Box::new(e) as _) }
    }

    /// The error for what the library reported while trying `what`.
    pub fn failed(&self, what: &str, error: lapin::Error) -> QueueError {
        if is_refusal(&error) {
            self.refused(format!("cannot {what}: {error}"), Some(error))
        } else {
            self.unavailable(format!("cannot {what}"), Some(error))
        }
    }

    /// Ends everything without waiting for it.
    pub fn shut(&self) {
        self.state.send_replace(State::Closed);
        self.feel(Health::Down("closed".to_owned()));
    }

    /// Ends everything politely: the broker gives back what was not settled.
    pub async fn close(&self, patience: Duration) {
        let before = self.state.send_replace(State::Closed);
        self.feel(Health::Down("closed".to_owned()));
        if let State::Up(live) = before {
            // Where it does not answer, it takes back what was not settled as soon as it misses us.
            let closed = tokio::time::timeout(patience, live.connection.close(200, "bye".into())).await;
            if !matches!(closed, Ok(Ok(()))) {
                tracing::debug!(queue = live.address.name(), "the broker did not say goodbye");
            }
        }
    }

    fn feel(&self, health: Health) {
        self.health.send_if_modified(|now| {
            let changed = *now != health;
            if changed {
                *now = health;
            }
            changed
        });
    }

    /// Unless it was closed meanwhile. Returns whether it was not.
    fn become_(&self, state: State) -> bool {
        self.state.send_if_modified(|now| {
            let open = !matches!(now, State::Closed);
            if open {
                *now = state;
            }
            open
        })
    }
}

/// Reply codes that waiting does not mend (AMQP 0-9-1 §1.8 and RabbitMQ's use of them): access refused, not found, locked,
/// precondition failed, not allowed, not implemented.
fn is_refusal(error: &lapin::Error) -> bool {
    match error.kind() {
        ErrorKind::ProtocolError(e) => matches!(e.get_id(), 311 | 403 | 404 | 405 | 406 | 530 | 540),
        ErrorKind::InvalidProtocolVersion(_) | ErrorKind::AuthProviderError(_) => true,
        _ => false,
    }
}

/// The reply code of a broker's refusal, where it is one.
pub fn reply_code(error: &lapin::Error) -> Option<u16> {
    match error.kind() {
        ErrorKind::ProtocolError(e) => Some(e.get_id()),
        _ => None,
    }
}

/// Connects, watches, connects again.
async fn supervise(link: Arc<Link>) {
    let mut closed = link.state();
    let ended = closed.wait_for(|s| matches!(s, State::Closed));
    tokio::select! {
        // Also where every sender is gone: nobody needs a connection then.
        _ = ended => {}
        () = keep_connected(&link) => {}
    }
}

async fn keep_connected(link: &Arc<Link>) {
    let (mut next, mut failures) = (0_usize, 0_u32);
    loop {
        let (mut why, mut refused) = (String::new(), true);
        for _ in 0..link.addresses.len() {
            let Some(address) = link.addresses.get(next % link.addresses.len()) else { return };
            next = next.wrapping_add(1);
            match enter(link, address).await {
                Ok(live) => {
                    let live = Arc::new(live);
                    let mut events = std::pin::pin!(live.connection.events_listener());
                    if !link.become_(State::Up(Arc::clone(&live))) {
                        return;
                    }
                    link.feel(Health::Up);
                    tracing::info!(queue = address.name(), "connected to the broker");
                    failures = 0;
                    let ended = watch(link, &live, events.as_mut()).await;
                    tracing::warn!(queue = address.name(), reason = ended, "lost the broker; connecting again");
                    (why, refused) = (format!("{}: {ended}", address.name()), false);
                    link.feel(Health::Down(why.clone()));
                    if !link.become_(State::Down { why: why.clone(), refused: false }) {
                        return;
                    }
                    // The same one first: most often it is one connection that broke.
                    next = next.wrapping_sub(1);
                    break;
                }
                Err((what, is_refused)) => {
                    refused &= is_refused;
                    let said = format!("{}: {what}", address.name());
                    why = if why.is_empty() { said } else { format!("{why}; {said}") };
                }
            }
        }
        if failures == 0 || failures % 10 == 9 {
            tracing::warn!(reason = why, "no broker");
        }
        link.feel(Health::Down(why.clone()));
        if !link.become_(State::Down { why, refused }) {
            return;
        }
        tokio::time::sleep(pause(failures)).await;
        failures = failures.saturating_add(1);
    }
}

/// Between half and all of a pause that doubles: many workers that lost one broker do not all come back at once.
fn pause(failures: u32) -> Duration {
    let longest = Duration::from_millis(100).saturating_mul(1 << failures.min(10)).min(LONGEST_PAUSE);
    let [share] = random();
    longest.mul_f64(0.5 + f64::from(share) / 512.0)
}

/// Connects to one broker, and declares again what was declared. Says what failed and whether it is a refusal.
async fn enter(link: &Link, address: &Address) -> Result<Live, (String, bool)> {
    let limit = Duration::from_millis(link.config.connect_timeout_ms);
    let connection = match tokio::time::timeout(limit, address.connect()).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(e)) => return Err((e.to_string(), is_refusal(&e))),
        Err(_) => return Err((format!("no answer within {} ms", limit.as_millis()), false)),
    };
    if link.prepared.load(Ordering::Relaxed) {
        // The broker may be a new one, or may have lost its disk.
        topology::declare(link, &connection).await.map_err(|e| (e.to_string(), !e.is_transient()))?;
    }
    Ok(Live { connection, address: address.clone(), idle: Mutex::new(Vec::new()) })
}

/// Follows one connection to its end; returns why it ended.
async fn watch(link: &Link, live: &Live, mut events: impl futures_util::Stream<Item = Event> + Unpin) -> String {
    loop {
        let event = tokio::time::timeout(LOOK, events.next()).await;
        match event {
            // A memory or disk alarm: the broker reads nothing more from connections that publish.
            Ok(Some(Event::ConnectionBlocked(reason))) => {
                link.feel(Health::Down(format!("{}: the broker takes no messages: {reason}", live.address.name())));
            }
            Ok(Some(Event::ConnectionUnblocked)) => link.feel(Health::Up),
            // Errors of single channels come here too: what counts is whether the connection stands.
            Ok(Some(Event::Error(e))) if !live.connection.status().connected() => return e.to_string(),
            Ok(None) => return "the connection ended".to_owned(),
            Ok(Some(_)) | Err(_) if !live.connection.status().connected() => return "the connection ended".to_owned(),
            Ok(Some(_)) | Err(_) => {}
        }
    }
}
