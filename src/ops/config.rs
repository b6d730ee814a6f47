//! Configuration of what is served over HTTP.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

/// Metrics, health and console over HTTP. Configuration `[http]`.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    /// Address and port. Beyond loopback only with a token and TLS. Empty: nothing is served.
    pub listen: String,
    /// Secret that opens metrics and console: `Authorization: Bearer …`, the password of Basic (any user), or the login
    /// page. At least 16 characters. Better in the environment (`GREFFIER_HTTP__TOKEN`) or in `token_file`.
    pub token: String,
    /// File that holds the token; a line break at its end does not count.
    pub token_file: Option<PathBuf>,
    /// PEM file of our certificate and those above it: TLS is spoken by this program itself.
    pub certificate_file: Option<PathBuf>,
    /// PEM file of our private key.
    pub key_file: Option<PathBuf>,
    /// TLS is ended by a proxy in front, which alone can reach us.
    pub behind_tls: bool,
    /// The address of a client is the last one of `X-Forwarded-For`: only behind a proxy that sets it.
    pub trust_forwarded_for: bool,
    /// Host names under which browsers reach us without a token, besides those of loopback: any other is refused, so that
    /// no web page can reach a console on its reader's machine by a name of its own (DNS rebinding).
    pub host_names: Vec<String>,
    /// Whether the console is served beside metrics and health.
    pub console: bool,
    /// Requests of one address in a minute, over which it is told to wait. Health is not counted.
    pub requests_per_minute: u32,
    /// Connections at once.
    pub max_connections: u32,
    /// How long jobs may be under way without one going a step further before `/livez` fails, seconds. Above
    /// `worker.job_seconds`, after which a job is put off anyway.
    pub stalled_seconds: u64,
    /// Largest file that the deposit page takes, bytes.
    pub max_upload_bytes: u64,
    /// Largest deposit through the deposit page, bytes.
    pub max_deposit_bytes: u64,
    /// Files in one deposit through the deposit page.
    pub max_deposit_files: usize,
}

/// Shortest token, characters: 16 of a random alphabet are beyond guessing over a network.
const MIN_TOKEN: usize = 16;

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:9464".into(),
            token: String::new(),
            token_file: None,
            certificate_file: None,
            key_file: None,
            behind_tls: false,
            trust_forwarded_for: false,
            host_names: Vec::new(),
            console: true,
            requests_per_minute: 1_200,
            max_connections: 256,
            stalled_seconds: 1_200,
            max_upload_bytes: 2 * 1024 * 1024 * 1024,
            max_deposit_bytes: 8 * 1024 * 1024 * 1024,
            max_deposit_files: 5_000,
        }
    }
}

impl std::fmt::Debug for HttpConfig {
    /// Without the token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpConfig")
            .field("listen", &self.listen)
            .field("token", &if self.token.is_empty() { "none" } else { "set" })
            .field("token_file", &self.token_file)
            .field("behind_tls", &self.behind_tls)
            .field("console", &self.console)
            .finish_non_exhaustive()
    }
}

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// Anybody could read or change what is served.
    #[error("HTTP-UNPROTECTED: http.listen = `{listen}` can be reached from other machines, and {missing}")]
    Unprotected {
        /// The address.
        listen: SocketAddr,
        /// What is missing, and how to give it.
        missing: &'static str,
    },
    /// The address is none, or is taken.
    #[error("HTTP-ADDRESS: http.listen = `{listen}` cannot be listened on")]
    Address {
        /// As configured.
        listen: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The token cannot be used.
    #[error("HTTP-TOKEN: {0}")]
    Token(String),
    /// Certificate and key cannot be used.
    #[error("HTTP-TLS: {0}")]
    Tls(String),
}

/// A checked configuration, with its secret.
pub struct Checked {
    /// Where to listen.
    pub listen: SocketAddr,
    /// The secret, where there is one.
    pub token: Option<String>,
    /// Certificate and key files, where we speak TLS.
    pub tls: Option<(PathBuf, PathBuf)>,
}

impl std::fmt::Debug for Checked {
    /// Without the token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checked").field("listen", &self.listen).field("tls", &self.tls).finish_non_exhaustive()
    }
}

impl HttpConfig {
    /// Reads the secret and refuses what would be open to everybody; `None` where nothing is to be served.
    ///
    /// # Errors
    /// [`HttpError`], with what to change.
    pub fn resolve(&self) -> Result<Option<Checked>, HttpError> {
        if self.listen.is_empty() {
            return Ok(None);
        }
        let listen = self.address()?;
        let token = match &self.token_file {
            Some(_) if !self.token.is_empty() => {
                return Err(HttpError::Token("http.token and http.token_file are both set: one of them would be ignored".into()));
            }
            Some(path) => {
                let read = std::fs::read_to_string(path);
                read.map_err(|e| HttpError::Token(format!("{} cannot be read: {e}", path.display())))?.trim_end().to_owned()
            }
            None => self.token.clone(),
        };
        if (self.token_file.is_some() || !token.is_empty()) && token.chars().count() < MIN_TOKEN {
            return Err(HttpError::Token(format!("the token has fewer than {MIN_TOKEN} characters: it could be guessed")));
        }
        let tls = match (&self.certificate_file, &self.key_file) {
            (Some(certificate), Some(key)) => Some((certificate.clone(), key.clone())),
            (None, None) => None,
            _ => return Err(HttpError::Tls("http.certificate_file and http.key_file go together".into())),
        };
        if !listen.ip().is_loopback() {
            if token.is_empty() {
                let missing = "there is no token: set http.token_file or GREFFIER_HTTP__TOKEN, or listen on 127.0.0.1";
                return Err(HttpError::Unprotected { listen, missing });
            }
            if tls.is_none() && !self.behind_tls {
                let missing = "the token would travel in clear: set http.certificate_file and http.key_file, or \
                               http.behind_tls where a proxy in front speaks TLS";
                return Err(HttpError::Unprotected { listen, missing });
            }
        }
        Ok(Some(Checked { listen, token: Some(token).filter(|t| !t.is_empty()), tls }))
    }

    fn address(&self) -> Result<SocketAddr, HttpError> {
        self.listen.parse().map_err(|e: std::net::AddrParseError| self.no_address(e.to_string()))
    }

    fn no_address(&self, why: String) -> HttpError {
        let source = std::io::Error::new(std::io::ErrorKind::InvalidInput, why);
        HttpError::Address { listen: self.listen.clone(), source }
    }

    /// Where this machine itself reaches us: over loopback where we listen on every address.
    ///
    /// # Errors
    /// [`HttpError::Address`] where nothing is served, or on a port that only the server knows.
    pub fn local_url(&self) -> Result<Url, HttpError> {
        let mut listen = self.address()?;
        if listen.port() == 0 {
            return Err(self.no_address("the system chooses the port".into()));
        }
        if listen.ip().is_unspecified() {
            listen.set_ip(if listen.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
        }
        let scheme = if self.certificate_file.is_some() { "https" } else { "http" };
        Url::parse(&format!("{scheme}://{listen}/")).map_err(|e| self.no_address(e.to_string()))
    }

    /// Whether browsers reach us over TLS.
    pub fn is_secure(&self) -> bool {
        self.behind_tls || self.certificate_file.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "correct-horse-battery";

    #[test]
    fn beyond_loopback_a_token_and_tls_are_needed() {
        let beyond = HttpConfig { listen: "0.0.0.0:9464".into(), ..HttpConfig::default() };
        assert!(matches!(beyond.resolve(), Err(HttpError::Unprotected { missing, .. }) if missing.contains("no token")));
        let clear = HttpConfig { token: TOKEN.into(), ..beyond.clone() };
        let refused = clear.resolve().unwrap_err().to_string();
        assert!(refused.starts_with("HTTP-UNPROTECTED: ") && refused.contains("in clear"), "{refused}");
        let open = HttpConfig { behind_tls: true, ..beyond };
        assert!(open.resolve().is_err(), "TLS alone keeps nobody out");
        let safe = HttpConfig { behind_tls: true, ..clear };
        assert_eq!(safe.resolve().unwrap().unwrap().token.as_deref(), Some(TOKEN));
    }

    #[test]
    fn loopback_needs_nothing_and_an_empty_address_serves_nothing() {
        for listen in ["127.0.0.1:0", "[::1]:9464"] {
            assert!(HttpConfig { listen: listen.into(), ..HttpConfig::default() }.resolve().unwrap().is_some());
        }
        assert!(HttpConfig { listen: String::new(), ..HttpConfig::default() }.resolve().unwrap().is_none());
    }

    #[test]
    fn this_machine_reaches_us_over_loopback() {
        let url = |listen: &str, certificate: bool| {
            let config =
                HttpConfig { listen: listen.into(), certificate_file: certificate.then(|| "c.pem".into()), ..HttpConfig::default() };
            config.local_url().map(String::from)
        };
        assert_eq!(url("0.0.0.0:9464", false).unwrap(), "http://127.0.0.1:9464/");
        assert_eq!(url("[::]:9464", true).unwrap(), "https://[::1]:9464/");
        assert_eq!(url("192.0.2.7:80", false).unwrap(), "http://192.0.2.7/");
        for nowhere in ["", "127.0.0.1:0", "worker:9464"] {
            assert!(matches!(url(nowhere, false), Err(HttpError::Address { .. })), "{nowhere}");
        }
    }

    #[test]
    fn a_token_that_is_short_empty_or_given_twice_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let with = |token: &str, file: Option<&std::path::Path>| HttpConfig {
            token: token.into(),
            token_file: file.map(Into::into),
            ..HttpConfig::default()
        };
        assert!(with("short", None).resolve().is_err());
        assert!(with("", Some(file.path())).resolve().is_err(), "an empty file is no token, and must not mean no authentication");
        std::fs::write(file.path(), format!("{TOKEN}\n")).unwrap();
        assert_eq!(with("", Some(file.path())).resolve().unwrap().unwrap().token.as_deref(), Some(TOKEN));
        assert!(with(TOKEN, Some(file.path())).resolve().is_err());
        assert!(!format!("{:?} {:?}", with(TOKEN, None), with(TOKEN, None).resolve().unwrap()).contains(TOKEN));
    }
}
