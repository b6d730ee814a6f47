//! Clients, and how much of something one client may hold at once.
//!
//! A client is told by its address and by its session, where it has one: what is counted is counted under both, so that neither
//! many sessions of one address nor many addresses of one session take everything.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use super::guard::network;

/// What a client is counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum ClientKey {
    /// An IPv4 address, or the network of an IPv6 /64.
    Network(IpAddr),
    /// The digest that names a session.
    Session([u8; 32]),
}

/// Who holds something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client(Vec<ClientKey>);

impl Client {
    /// `address`: absent where it is a proxy's, and says nothing of the client. `session`: the digest that names it.
    pub fn new(address: Option<IpAddr>, session: Option<[u8; 32]>) -> Self {
        let network = address.map(|address| ClientKey::Network(network(address)));
        Self(network.into_iter().chain(session.map(ClientKey::Session)).collect())
    }

    /// Whether both are counted as one client: they share an address or a session.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.0.iter().any(|key| other.0.contains(key))
    }
}

/// A limit on things held at once: in all, and by one client.
#[derive(Debug, Clone)]
pub(super) struct ClientLimit(Arc<Limit>);

#[derive(Debug)]
struct Limit {
    max: usize,
    max_of_client: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    all: usize,
    by: HashMap<ClientKey, usize>,
}

/// One of them; given back when dropped.
#[derive(Debug)]
pub(super) struct ClientPermit {
    limit: Arc<Limit>,
    client: Client,
}

impl ClientLimit {
    pub(super) fn new(max: usize, max_of_client: usize) -> Self {
        Self(Arc::new(Limit { max, max_of_client, held: Mutex::default() }))
    }

    /// `None` where all are held, or the client holds its share.
    pub(super) fn take(&self, client: &Client) -> Option<ClientPermit> {
        let mut held = self.0.held.lock().unwrap_or_else(PoisonError::into_inner);
        let full = client.0.iter().any(|key| held.by.get(key).is_some_and(|n| *n >= self.0.max_of_client));
        if full || held.all >= self.0.max {
            return None;
        }
        held.all += 1;
        for key in &client.0 {
            *held.by.entry(*key).or_insert(0) += 1;
        }
        Some(ClientPermit { limit: Arc::clone(&self.0), client: client.clone() })
    }
}

impl Drop for ClientPermit {
    fn drop(&mut self) {
        let mut held = self.limit.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.all = held.all.saturating_sub(1);
        for key in &self.client.0 {
            if let Some(n) = held.by.get_mut(key) {
                *n = n.saturating_sub(1);
                if *n == 0 {
                    held.by.remove(key);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_takes_its_share_by_address_and_by_session() {
        let limit = ClientLimit::new(5, 2);
        let at = |address: &str, session: u8| Client::new(Some(address.parse().unwrap()), (session > 0).then_some([session; 32]));
        let one: Vec<_> = ["2001:db8::1", "2001:db8::2"].map(|address| limit.take(&at(address, 0)).unwrap()).into();
        assert!(limit.take(&at("2001:db8::3", 1)).is_none(), "other addresses of a /64, and a login, are the same client");
        let two = [limit.take(&at("192.0.2.1", 7)).unwrap(), limit.take(&at("192.0.2.2", 7)).unwrap()];
        assert!(limit.take(&at("192.0.2.3", 7)).is_none(), "other addresses of one session are the same client");
        let behind_a_proxy = limit.take(&Client::new(None, None)).unwrap();
        assert!(limit.take(&at("192.0.2.9", 0)).is_none(), "all are held");
        drop((one, two, behind_a_proxy));
        assert!(limit.0.held.lock().unwrap().by.is_empty());
        assert!(limit.take(&at("2001:db8::3", 7)).is_some());
    }
}
