//! The guard against requests that a hostile link or server would have us make for it (SSRF).
//!
//! Goals:
//! 1. *An allow-list, not a block-list:* only hosts that the pipeline names, over `https:`, on their port.
//! 2. *The address that was checked is the address that is asked.* The name is resolved once per connection,
//!    every address of the answer is checked, and the connection uses that answer: there is no second look-up
//!    that could say something else (DNS rebinding). One bad address in an answer refuses all of it.
//! 3. *Every hop alike.* A redirect is not followed by the HTTP library; its target comes back here first.
//! 4. *Only public unicast addresses.* Anything an address can hide another one in counts as private.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

use url::{Host, Url};

use super::config::{GazelleConfig, GazellePolicy};

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not `https:`.
    #[error("`{0}:` is not https")]
    Scheme(String),
    /// Not on the allow-list.
    #[error("the host `{0}` is not on the allow-list")]
    Host(String),
    /// On the allow-list, with another port.
    #[error("port {0} is not on the allow-list")]
    Port(u16),
    /// User name or password in the address.
    #[error("the address carries a user name or a password")]
    Credentials,
    /// An address that is not public.
    #[error("`{host}` resolves to {address}, {kind}")]
    Address {
        /// The name.
        host: String,
        /// The address.
        address: IpAddr,
        /// What kind of address it is.
        kind: &'static str,
    },
    /// The name has no address.
    #[error("`{0}` has no address")]
    NoAddress(String),
}

/// How names become addresses; replaced in tests.
pub trait Lookup: Send + Sync + fmt::Debug {
    /// The addresses of `host`.
    fn lookup(&self, host: String) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;
}

/// The system's resolver.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemLookup;

impl Lookup for SystemLookup {
    fn lookup(&self, host: String) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>> {
        Box::pin(async move { Ok(tokio::net::lookup_host((host.as_str(), 0)).await?.map(|a| a.ip()).collect()) })
    }
}

/// Decides which requests may be made. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Guard {
    policy: Arc<GazellePolicy>,
    config: Arc<GazelleConfig>,
    lookup: Arc<dyn Lookup>,
}

impl Guard {
    /// A guard for the hosts of `policy`.
    pub fn new(policy: Arc<GazellePolicy>, config: Arc<GazelleConfig>, lookup: Arc<dyn Lookup>) -> Self {
        Self { policy, config, lookup }
    }

    /// Checks an address before it is asked, without any network.
    ///
    /// # Errors
    /// Why it must not be asked.
    pub fn check_url(&self, url: &Url) -> Result<(), Refusal> {
        let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let port = url.port_or_known_default().unwrap_or(0);
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Refusal::Credentials);
        }
        let loopback = self.config.permits_loopback(host, port);
        if url.scheme() != "https" && !(loopback && url.scheme() == "http") {
            return Err(Refusal::Scheme(url.scheme().chars().take(20).collect()));
        }
        if !self.policy.hosts.iter().any(|rule| rule.host.eq_ignore_ascii_case(host)) {
            return Err(Refusal::Host(host.chars().take(120).collect()));
        }
        if self.policy.host(host, port).is_none() {
            return Err(Refusal::Port(port));
        }
        // An address written as numbers is never looked up, so it is checked here.
        let literal = match url.host() {
            Some(Host::Ipv4(v4)) => Some(IpAddr::V4(v4)),
            Some(Host::Ipv6(v6)) => Some(IpAddr::V6(v6)),
            _ => None,
        };
        literal.map_or(Ok(()), |address| self.check_address(host, address))
    }

    /// Checks one address of `host`.
    ///
    /// # Errors
    /// [`Refusal::Address`] where it is not public (or, for a host with loopback permission, not loopback).
    pub fn check_address(&self, host: &str, address: IpAddr) -> Result<(), Refusal> {
        let refuse = |kind| Err(Refusal::Address { host: host.chars().take(120).collect(), address, kind });
        if self.loopback_host(host) {
            return if address.is_loopback() { Ok(()) } else { refuse("not loopback, which is all this host is permitted") };
        }
        match not_public(address) {
            Some(kind) => refuse(kind),
            None => Ok(()),
        }
    }

    /// Resolves `host` and checks every address of the answer.
    ///
    /// # Errors
    /// The resolver's own error, or a [`Refusal`] inside an [`io::Error`].
    pub async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let addresses = self.lookup.lookup(host.to_owned()).await?;
        if addresses.is_empty() {
            return Err(io::Error::other(Refusal::NoAddress(host.to_owned())));
        }
        for address in &addresses {
            self.check_address(host, *address).map_err(io::Error::other)?;
        }
        Ok(addresses)
    }

    fn loopback_host(&self, host: &str) -> bool {
        self.config.allow_loopback.iter().filter_map(|entry| entry.rsplit_once(':')).any(|(h, _)| h.eq_ignore_ascii_case(host))
    }
}

/// The guard is the HTTP library's resolver: what it lets through is what is connected to.
impl reqwest::dns::Resolve for Guard {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let guard = self.clone();
        Box::pin(async move {
            let addresses = Guard::resolve(&guard, name.as_str()).await?;
            let addresses: reqwest::dns::Addrs = Box::new(addresses.into_iter().map(|ip| SocketAddr::new(ip, 0)));
            Ok(addresses)
        })
    }
}

/// The kind of address, where it is anything but a public unicast one (IANA special-purpose registries, RFC 6890).
pub fn not_public(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(v4) => not_public_v4(v4),
        IpAddr::V6(v6) => not_public_v6(v6),
    }
}

fn not_public_v4(v4: Ipv4Addr) -> Option<&'static str> {
    let [a, b, c, _] = v4.octets();
    match (a, b, c) {
        (0, ..) => Some("this network"),
        (10, ..) | (172, 16..=31, _) | (192, 168, _) => Some("a private address"),
        (100, 64..=127, _) => Some("a shared carrier address"),
        (127, ..) => Some("a loopback address"),
        (169, 254, _) => Some("a link-local address"),
        (192, 0, 0) => Some("a protocol-assignment address"),
        (192, 0, 2) | (198, 51, 100) | (203, 0, 113) => Some("a documentation address"),
        (192, 88, 99) => Some("a 6to4 relay address"),
        (198, 18..=19, _) => Some("a benchmarking address"),
        (224..=239, ..) => Some("a multicast address"),
        (240..=255, ..) => Some("a reserved address"),
        _ => None,
    }
}

fn not_public_v6(v6: Ipv6Addr) -> Option<&'static str> {
    let s = v6.segments();
    if v6.is_loopback() {
        return Some("a loopback address");
    }
    if v6.is_unspecified() {
        return Some("the unspecified address");
    }
    match s {
        [0, 0, 0, 0, 0, 0xffff, ..] => return Some("an IPv4-mapped address"),
        [0, 0, 0, 0, 0xffff, 0, ..] => return Some("an IPv4-translated address"),
        [0, 0, 0, 0, 0, 0, ..] => return Some("an IPv4-compatible address"),
        [0x64, 0xff9b, ..] => return Some("a NAT64 address"),
        [0xfe80..=0xfebf, ..] => return Some("a link-local address"),
        [0xfec0..=0xfeff, ..] => return Some("a site-local address"),
        [0xfc00..=0xfdff, ..] => return Some("a unique-local address"),
        [0xff00..=0xffff, ..] => return Some("a multicast address"),
        [0x2002, ..] => return Some("a 6to4 address"),
        [0x2001, 0, ..] => return Some("a Teredo address"),
        [0x2001, 0x0db8, ..] | [0x3fff, 0..=0x0fff, ..] => return Some("a documentation address"),
        [0x2001, 0..=0x01ff, ..] => return Some("a protocol-assignment address"),
        // ISATAP hides an IPv4 address in the interface identifier (RFC 5214).
        [_, _, _, _, 0 | 0x0200, 0x5efe, ..] => return Some("an ISATAP address"),
        _ => {}
    }
    // Everything that is routed on the public Internet is 2000::/3.
    if s[0] & 0xe000 == 0x2000 { None } else { Some("outside the public range") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gazelle::config::{HostRole, HostRule};
    use proptest::prelude::*;

    fn guard(loopback: &[&str]) -> Guard {
        let hosts = ["interop.esante.gouv.fr", "127.0.0.1", "gazelle.test", "::1"]
            .map(|host| HostRule {
                host: host.into(),
                port: loopback.iter().find_map(|l| l.rsplit_once(':').filter(|(h, _)| *h == host)?.1.parse().ok()),
                role: HostRole::Other,
                portal_path: None,
            })
            .to_vec();
        let config = GazelleConfig { allow_loopback: loopback.iter().map(|s| (*s).to_owned()).collect(), ..GazelleConfig::default() };
        Guard::new(Arc::new(GazellePolicy { hosts, oid_arcs: vec![] }), Arc::new(config), Arc::new(SystemLookup))
    }

    #[test]
    fn every_form_of_a_private_address_is_refused() {
        for address in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:8.8.8.8",
            "::ffff:169.254.169.254",
            "::ffff:0:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:10::1",
            "2001:db8::1",
            "2002:a9fe:a9fe::1",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "2a00:1450::5efe:10.0.0.1",
            "2a00:1450::200:5efe:a9fe:a9fe",
            "4000::1",
        ] {
            assert!(not_public(address.parse().unwrap()).is_some(), "{address}");
        }
        for address in [
            "8.8.8.8",
            "185.24.184.11",
            "172.32.0.1",
            "100.128.0.1",
            "192.0.1.1",
            "2a00:1450:4007:80e::200e",
            "2606:4700::1111",
            "2001:4860::8888",
        ] {
            assert_eq!(not_public(address.parse().unwrap()), None, "{address}");
        }
    }

    #[test]
    fn only_https_to_a_listed_host_on_its_port_passes() {
        let guard = guard(&[]);
        let check = |url: &str| guard.check_url(&Url::parse(url).unwrap());
        assert_eq!(check("https://interop.esante.gouv.fr/x"), Ok(()));
        assert!(matches!(check("http://interop.esante.gouv.fr/x"), Err(Refusal::Scheme(_))));
        assert!(matches!(check("ftp://interop.esante.gouv.fr/x"), Err(Refusal::Scheme(_))));
        assert!(matches!(check("https://interop.esante.gouv.fr:444/x"), Err(Refusal::Port(444))));
        assert!(matches!(check("https://u:p@interop.esante.gouv.fr/x"), Err(Refusal::Credentials)));
        assert!(matches!(check("https://169.254.169.254/latest"), Err(Refusal::Host(_))));
        assert!(matches!(check("https://evil.example/"), Err(Refusal::Host(_))));
        // Even a listed host may not be an address that is not public.
        assert!(matches!(check("https://127.0.0.1/"), Err(Refusal::Address { .. })));
        assert!(matches!(check("https://[::1]/"), Err(Refusal::Address { .. })));
    }

    #[test]
    fn loopback_permission_opens_loopback_and_nothing_else() {
        let guard = guard(&["127.0.0.1:8080", "gazelle.test:8080"]);
        let check = |url: &str| guard.check_url(&Url::parse(url).unwrap());
        assert_eq!(check("http://127.0.0.1:8080/"), Ok(()));
        assert!(check("http://127.0.0.1:8081/").is_err());
        assert!(check("http://interop.esante.gouv.fr/").is_err());
        assert!(guard.check_address("gazelle.test", "127.0.0.1".parse().unwrap()).is_ok());
        assert!(guard.check_address("gazelle.test", "10.0.0.1".parse().unwrap()).is_err());
        assert!(guard.check_address("gazelle.test", "8.8.8.8".parse().unwrap()).is_err());
        assert!(guard.check_address("interop.esante.gouv.fr", "127.0.0.1".parse().unwrap()).is_err());
    }

    #[derive(Debug)]
    struct Fixed(Vec<IpAddr>);
    impl Lookup for Fixed {
        fn lookup(&self, _: String) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>> {
            let addresses = self.0.clone();
            Box::pin(async move { Ok(addresses) })
        }
    }

    #[tokio::test]
    async fn one_bad_address_refuses_the_whole_answer() {
        let mut guard = guard(&[]);
        guard.lookup = Arc::new(Fixed(vec!["8.8.8.8".parse().unwrap(), "169.254.169.254".parse().unwrap()]));
        assert!(guard.resolve("interop.esante.gouv.fr").await.is_err());
        guard.lookup = Arc::new(Fixed(vec!["8.8.8.8".parse().unwrap()]));
        assert!(guard.resolve("interop.esante.gouv.fr").await.is_ok());
        guard.lookup = Arc::new(Fixed(vec![]));
        assert!(guard.resolve("interop.esante.gouv.fr").await.is_err());
    }

    proptest! {
        #[test]
        fn an_ipv4_address_hidden_in_ipv6_is_never_public(v4 in any::<u32>()) {
            let v4 = Ipv4Addr::from(v4);
            let [a, b, c, d] = v4.octets();
            let (hi, lo) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            for hidden in [
                v4.to_ipv6_mapped(),
                Ipv6Addr::new(0, 0, 0, 0, 0, 0, hi, lo),
                Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, hi, lo),
                Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, hi, lo),
                Ipv6Addr::new(0x2002, hi, lo, 0, 0, 0, 0, 1),
                Ipv6Addr::new(0x2001, 0, hi, lo, 0, 0, 0, 1),
                Ipv6Addr::new(0x2a00, 0, 0, 0, 0, 0x5efe, hi, lo),
            ] {
                prop_assert!(not_public(IpAddr::V6(hidden)).is_some(), "{hidden}");
            }
        }
    }
}
