//! Configuration of what is served over HTTP.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::{Host, Url};

/// Metrics, health and console over HTTP. Configuration `[http]`.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    /// Address and port. Beyond loopback only with a token or `[http.oidc]`, and TLS. Empty: nothing is served.
    pub listen: String,
    /// Secret that opens metrics and console: `Authorization: Bearer …`, the password of Basic (any user), or the login
    /// page. At least 16 characters. Better in the environment (`GREFFIER_HTTP__TOKEN`) or in `token_file`.
    pub token: String,
    /// File that holds the token; a line break at its end does not count.
    pub token_file: Option<PathBuf>,
    /// Login of people through an OpenID provider, beside the token or without one.
    pub oidc: OidcConfig,
    /// How long a login lasts, seconds: a minute to 30 days. The process keeps the sessions: its end, and a logout, end them earlier.
    pub session_seconds: u64,
    /// PEM file of our certificate and those above it: TLS is spoken by this program itself.
    pub certificate_file: Option<PathBuf>,
    /// PEM file of our private key.
    pub key_file: Option<PathBuf>,
    /// TLS is ended by a proxy in front, which alone can reach us.
    pub behind_tls: bool,
    /// The address of a client is the last one of `X-Forwarded-For`: only behind a proxy that sets it, and there it should be
    /// set: without it all clients have one address, and whoever guesses tokens makes everybody wait.
    pub trust_forwarded_for: bool,
    /// Host names under which browsers reach us without a token, besides those of loopback: any other is refused, so that
    /// no web page can reach a console on its reader's machine by a name of its own (DNS rebinding).
    pub host_names: Vec<String>,
    /// Whether the console is served beside metrics and health.
    pub console: bool,
    /// Requests of one address in a minute, over which it is told to wait. Health is not counted.
    pub requests_per_minute: u32,
    /// Connections at once; half of them for one address, unless a proxy stands in front. When all are in use, connections that
    /// wait for a request are closed first, and health and metrics are answered on some more.
    pub max_connections: u32,
    /// How long a client may take to send the head of a request, and an idle connection stays open, seconds: 1 to 600.
    pub head_seconds: u64,
    /// Least rate of an upload, and of reading an answer, bytes a second, after a start of twice `head_seconds`. Slower
    /// connections are closed.
    pub least_bytes_per_second: u64,
    /// How long jobs may be under way without one going a step further before `/livez` fails, seconds. Above
    /// `worker.job_seconds`, after which a job is put off anyway.
    pub stalled_seconds: u64,
    /// Largest file that the deposit page takes, bytes.
    pub max_upload_bytes: u64,
    /// Largest deposit through the deposit page, bytes.
    pub max_deposit_bytes: u64,
    /// Files in one deposit through the deposit page.
    pub max_deposit_files: usize,
    /// Free space that deposits leave on the disk of their drafts, bytes: over it they are refused.
    pub least_free_bytes: u64,
}

/// Login through an OpenID provider (Authorization Code with PKCE, OpenID Connect Core 1.0). Configuration `[http.oidc]`.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OidcConfig {
    /// Issuer, letter for letter as the provider's discovery document says it: `https`, or `http` on this machine. Empty: no
    /// such login.
    pub issuer: String,
    /// Who we are to the provider.
    pub client_id: String,
    /// Our secret; empty for a public client. Better in the environment (`GREFFIER_HTTP__OIDC__CLIENT_SECRET`) or in
    /// `client_secret_file`.
    pub client_secret: String,
    /// File that holds the secret; a line break at its end does not count.
    pub client_secret_file: Option<PathBuf>,
    /// Where the provider sends people back, as registered there: our address as browsers know it, and `/login/callback`.
    /// After a logout they come back to `/login` of the same address, which has to be registered too.
    pub redirect_url: String,
    /// Scopes asked for besides `openid`.
    pub scopes: Vec<String>,
    /// Claim of the ID token that says who may enter: its name (`groups`, `sub`, `email`), or a JSON pointer (RFC 6901) to one
    /// further inside (`/realm_access/roles`). `email` counts only where `email_verified` is true.
    pub claim: String,
    /// Values of the claim that let in; one is enough.
    pub allowed: Vec<String>,
    /// What the login page calls the provider.
    pub name: String,
    /// PEM file of certificate authorities trusted besides those of the system.
    pub extra_ca_file: Option<PathBuf>,
}

impl Default for OidcConfig {
    fn default() -> Self {
        Self {
            issuer: String::new(),
            client_id: String::new(),
            client_secret: String::new(),
            client_secret_file: None,
            redirect_url: String::new(),
            scopes: Vec::new(),
            claim: "groups".into(),
            allowed: Vec::new(),
            name: "OpenID".into(),
            extra_ca_file: None,
        }
    }
}

impl std::fmt::Debug for OidcConfig {
    /// Without the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OidcConfig")
            .field("issuer", &self.issuer)
            .field("client_id", &self.client_id)
            .field("redirect_url", &self.redirect_url)
            .field("claim", &self.claim)
            .field("allowed", &self.allowed)
            .finish_non_exhaustive()
    }
}

/// Where the provider sends people back to.
pub(super) const CALLBACK: &str = "/login/callback";

/// Shortest token, characters: 16 of a random alphabet are beyond guessing over a network.
const MIN_TOKEN: usize = 16;

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:9464".into(),
            token: String::new(),
            token_file: None,
            oidc: OidcConfig::default(),
            session_seconds: 12 * 3600,
            certificate_file: None,
            key_file: None,
            behind_tls: false,
            trust_forwarded_for: false,
            host_names: Vec::new(),
            console: true,
            requests_per_minute: 1_200,
            max_connections: 256,
            head_seconds: 10,
            // A quarter of a line that sends 128 kbit/s: the deposit page sends four files at once.
            least_bytes_per_second: 4 * 1024,
            stalled_seconds: 1_200,
            max_upload_bytes: 2 * 1024 * 1024 * 1024,
            max_deposit_bytes: 8 * 1024 * 1024 * 1024,
            max_deposit_files: 5_000,
            least_free_bytes: 1024 * 1024 * 1024,
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
            .field("oidc", &self.oidc)
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
    /// The login through an OpenID provider cannot be as configured.
    #[error("HTTP-OIDC: {0}")]
    Oidc(String),
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
    /// The OpenID provider, where there is one.
    pub oidc: Option<CheckedOidc>,
    /// Certificate and key files, where we speak TLS.
    pub tls: Option<(PathBuf, PathBuf)>,
}

impl std::fmt::Debug for Checked {
    /// Without the token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checked").field("listen", &self.listen).field("tls", &self.tls).finish_non_exhaustive()
    }
}

/// A checked `[http.oidc]`, with its secret.
#[derive(Clone)]
pub struct CheckedOidc {
    /// As configured.
    pub config: OidcConfig,
    /// Our secret, where there is one.
    pub secret: Option<String>,
    /// `redirect_url`.
    pub redirect: Url,
}

/// What is given in the configuration or in a file, not in both; empty where it is given in neither.
fn read_secret(key: &str, given: &str, file: Option<&Path>) -> Result<String, String> {
    match file {
        Some(_) if !given.is_empty() => Err(format!("{key} and {key}_file are both set: one of them would be ignored")),
        Some(path) => match std::fs::read_to_string(path) {
            Ok(read) if read.trim_end().is_empty() => Err(format!("{} is empty", path.display())),
            Ok(read) => Ok(read.trim_end().to_owned()),
            Err(e) => Err(format!("{} cannot be read: {e}", path.display())),
        },
        None => Ok(given.to_owned()),
    }
}

/// Whether what is sent there can be read by nobody on the way: over TLS, or without leaving this machine.
pub(super) fn is_private(url: &Url) -> bool {
    let here = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    };
    url.scheme() == "https" || (url.scheme() == "http" && here)
}

impl OidcConfig {
    /// Reads the secret; `None` where there is no provider.
    pub(super) fn resolve(&self) -> Result<Option<CheckedOidc>, HttpError> {
        let refuse = |why: &str| Err(HttpError::Oidc(why.into()));
        if self.issuer.is_empty() {
            // Somebody believes that this login is on.
            return if *self == Self::default() { Ok(None) } else { refuse("http.oidc.issuer is missing") };
        }
        if self.client_id.is_empty() {
            return refuse("http.oidc.client_id is missing");
        }
        if self.claim.is_empty() || self.allowed.is_empty() || self.allowed.iter().any(String::is_empty) {
            return refuse("http.oidc.claim and http.oidc.allowed say who may enter: without them it would be everybody or nobody");
        }
        if !Url::parse(&self.issuer).is_ok_and(|issuer| is_private(&issuer)) {
            return refuse("http.oidc.issuer is no https:// address (http:// on this machine)");
        }
        let redirect = Url::parse(&self.redirect_url).ok().filter(|url| {
            is_private(url) && url.path() == CALLBACK && url.query().is_none() && url.fragment().is_none() && url.username().is_empty()
        });
        let Some(redirect) = redirect else {
            return refuse("http.oidc.redirect_url is not https://OUR-ADDRESS/login/callback (http:// on this machine)");
        };
        let secret =
            read_secret("http.oidc.client_secret", &self.client_secret, self.client_secret_file.as_deref()).map_err(HttpError::Oidc)?;
        Ok(Some(CheckedOidc { config: self.clone(), secret: Some(secret).filter(|s| !s.is_empty()), redirect }))
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
        let token = read_secret("http.token", &self.token, self.token_file.as_deref()).map_err(HttpError::Token)?;
        if !token.is_empty() && token.chars().count() < MIN_TOKEN {
            return Err(HttpError::Token(format!("the token has fewer than {MIN_TOKEN} characters: it could be guessed")));
        }
        let oidc = self.oidc.resolve()?;
        let tls = match (&self.certificate_file, &self.key_file) {
            (Some(certificate), Some(key)) => Some((certificate.clone(), key.clone())),
            (None, None) => None,
            _ => return Err(HttpError::Tls("http.certificate_file and http.key_file go together".into())),
        };
        if !listen.ip().is_loopback() {
            if token.is_empty() && oidc.is_none() {
                let missing = "there is no token: set http.token_file, GREFFIER_HTTP__TOKEN or [http.oidc], or listen on 127.0.0.1";
                return Err(HttpError::Unprotected { listen, missing });
            }
            if tls.is_none() && !self.behind_tls {
                let missing = "tokens and sessions would travel in clear: set http.certificate_file and http.key_file, or \
                               http.behind_tls where a proxy in front speaks TLS";
                return Err(HttpError::Unprotected { listen, missing });
            }
        }
        Ok(Some(Checked { listen, token: Some(token).filter(|t| !t.is_empty()), oidc, tls }))
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

    fn oidc() -> OidcConfig {
        OidcConfig {
            issuer: "https://sso.example.fr/realms/ans".into(),
            client_id: "greffier".into(),
            client_secret: TOKEN.into(),
            redirect_url: "https://greffier.example.fr/login/callback".into(),
            allowed: vec!["ops".into()],
            ..OidcConfig::default()
        }
    }

    #[test]
    fn an_openid_provider_is_enough_beyond_loopback_and_is_given_whole() {
        let beyond = |oidc| HttpConfig { listen: "0.0.0.0:9464".into(), behind_tls: true, oidc, ..HttpConfig::default() };
        let checked = beyond(oidc()).resolve().unwrap().unwrap();
        assert_eq!(checked.oidc.unwrap().secret.as_deref(), Some(TOKEN));
        assert!(!format!("{:?}", beyond(oidc())).contains(TOKEN));
        assert!(beyond(OidcConfig { client_secret: String::new(), ..oidc() }).resolve().is_ok(), "a public client has no secret");
        for wrong in [
            OidcConfig { issuer: String::new(), ..oidc() },
            OidcConfig { issuer: "http://sso.example.fr".into(), ..oidc() },
            OidcConfig { client_id: String::new(), ..oidc() },
            OidcConfig { allowed: Vec::new(), ..oidc() },
            OidcConfig { allowed: vec![String::new()], ..oidc() },
            OidcConfig { claim: String::new(), ..oidc() },
            OidcConfig { redirect_url: "http://greffier.example.fr/login/callback".into(), ..oidc() },
            OidcConfig { redirect_url: "https://greffier.example.fr/".into(), ..oidc() },
            OidcConfig { client_secret_file: Some("/nowhere".into()), ..oidc() },
        ] {
            let refused = beyond(wrong.clone()).resolve().expect_err("something is missing").to_string();
            assert!(refused.starts_with("HTTP-OIDC: "), "{wrong:?}: {refused}");
        }
        for here in ["http://127.0.0.1:9464", "http://[::1]", "http://localhost:80"] {
            assert!(is_private(&Url::parse(here).unwrap()), "{here}");
        }
        for open in ["http://127.0.0.1.evil.example/", "http://localhost.evil.example/", "ftp://localhost/"] {
            assert!(!is_private(&Url::parse(open).unwrap()), "{open}");
        }
    }
}
