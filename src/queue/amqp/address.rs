//! Brokers' URLs, TLS, and who we say we are.

use std::path::PathBuf;

use lapin::tcp::{OwnedIdentity, OwnedTLSConfig};
use lapin::uri::{AMQPUri, SASLMechanism};
use lapin::{Connection, ConnectionProperties};

use crate::queue::QueueError;
use crate::queue::config::QueueConfig;

/// Seconds between signs of life, where the URL asks for nothing else. A dead peer is noticed within two.
const HEARTBEAT: u16 = 20;

/// One broker. No `Debug`: it holds a password.
#[derive(Clone)]
pub struct Address {
    uri: AMQPUri,
    files: Files,
}

#[derive(Clone)]
struct Files {
    ca: Option<PathBuf>,
    identity: Option<(PathBuf, PathBuf)>,
}

/// Reads the URLs of the configuration. What is wrong names the place in the list, never the URL: it may hold a password.
///
/// # Errors
/// [`QueueError::Refused`].
pub fn read(config: &QueueConfig) -> Result<Vec<Address>, QueueError> {
    let identity = config.client_certificate_file.clone().zip(config.client_key_file.clone());
    let files = Files { ca: config.ca_file.clone(), identity };
    let one = |(n, text): (usize, &String)| {
        let refused = |what: &str| QueueError::Refused { queue: format!("queue.urls[{n}]"), what: what.to_owned(), source: None };
        let url = url::Url::parse(text).map_err(|e| refused(&format!("is no URL: {e}")))?;
        let mut uri: AMQPUri = text.parse().map_err(|_| refused("is no amqp:// or amqps:// URL"))?;
        // The parser takes what is no domain name (`[::1]`) for absent, and would connect to `localhost`.
        let host = url.host_str().filter(|h| !h.is_empty()).ok_or_else(|| refused("names no host"))?;
        uri.authority.host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        uri.query.heartbeat.get_or_insert(HEARTBEAT);
        if files.identity.is_some() && url.username().is_empty() {
            uri.query.auth_mechanism = Some(SASLMechanism::External);
        }
        Ok(Address { uri, files: files.clone() })
    };
    config.urls.iter().enumerate().map(one).collect()
}

impl Address {
    /// `host:port/vhost`.
    pub fn name(&self) -> String {
        let AMQPUri { authority, vhost, .. } = &self.uri;
        let host = if authority.host.contains(':') { format!("[{}]", authority.host) } else { authority.host.clone() };
        format!("{host}:{}/{}", authority.port, vhost.trim_start_matches('/'))
    }

    /// For the library's own calls.
    pub fn uri(&self) -> &AMQPUri {
        &self.uri
    }

    /// Certificates, read every time: they are renewed while we run.
    ///
    /// # Errors
    /// A file that cannot be read, with its name.
    pub async fn tls(&self) -> Result<OwnedTLSConfig, std::io::Error> {
        let read = async |path: &PathBuf| {
            let named = |e: std::io::Error| std::io::Error::new(e.kind(), format!("{}: {e}", path.display()));
            tokio::fs::read(path).await.map_err(named)
        };
        let mut tls = OwnedTLSConfig::default();
        if let Some(ca) = &self.files.ca {
            tls.cert_chain = Some(String::from_utf8_lossy(&read(ca).await?).into_owned());
        }
        if let Some((certificate, key)) = &self.files.identity {
            tls.identity = Some(OwnedIdentity::PKCS8 { pem: read(certificate).await?, key: read(key).await? });
        }
        Ok(tls)
    }

    /// Connects. The caller bounds the time.
    ///
    /// # Errors
    /// What the network, TLS or the broker said.
    pub async fn connect(&self) -> lapin::Result<Connection> {
        let tls = self.tls().await?;
        let properties = ConnectionProperties::default().with_connection_name(who().into());
        Connection::connect_uri_with_config(self.uri.clone(), properties, tls, lapin::runtime::default_runtime()?).await
    }
}

/// `greffier/<version> <role> <process>`: what operators see in the broker's list of connections.
fn who() -> String {
    let plain = |word: &String| word.len() <= 20 && word.chars().all(|c| c.is_ascii_lowercase() || c == '-');
    let role = std::env::args().nth(1).filter(plain).unwrap_or_else(|| "embedded".to_owned());
    format!("greffier/{} {role} {}", env!("CARGO_PKG_VERSION"), std::process::id())
}
