//! Who may do what, from where, and how often.
//!
//! 1. **Host.** Without a token, only names of this machine are answered: a web page that gives its own name our address
//!    (DNS rebinding) gets nothing.
//! 2. **Token, or a session.** Where a token or an OpenID provider is configured, everything but health asks for one: a bearer
//!    token, the token as the password of Basic, or a login, which gives a cookie (`HttpOnly`, `SameSite=Strict`). The cookie
//!    only names a session that this process keeps: logging out ends it here, whoever has a copy of the cookie.
//! 3. **Same origin.** Whatever changes something must come from our own pages (`Sec-Fetch-Site`, else `Origin`), or carry
//!    the token in a header, which no other site can make a browser do.
//! 4. **Rate.** A bucket of tokens for each client address; failed logins and wrong tokens empty another, much smaller one.
//!    While that is empty no token is even looked at: the right one would tell itself from the wrong ones. The tables of buckets
//!    are bounded, and an address that is not in a full one is not refused for it: the fullest buckets are forgotten.
//! 5. Every answer says that it may run our own script only, be framed by nobody, and be kept by no cache.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::hmac;
use sha2::{Digest as _, Sha256};

use super::client::Client;
use super::config::{Checked, HttpConfig};
use super::console::form;
use super::listen::Peer;
use super::oidc::{PATIENCE, Person, Provider};
use super::{make_room, secret};

/// Failed attempts of one address in a minute.
const ATTEMPTS: u32 = 10;
/// Longest session, seconds: whoever left the provider's group is out by then.
const MAX_SESSION: u64 = 30 * 24 * 3600;
/// Sessions kept at once; beyond, the one that would end first ends.
const MAX_SESSIONS: usize = 4_096;
/// Client addresses whose rate is remembered at once.
const MAX_ADDRESSES: usize = 16_384;
/// Part of a full table of buckets that is forgotten at once: looking through the table is paid for by so many newcomers.
const FORGOTTEN_PART: usize = 4;

/// Style, script and pictures of our own; nothing else, and no page around ours.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// The rules of one server.
#[derive(Clone)]
pub(super) struct Guard(Arc<Rules>);

struct Rules {
    /// The tag of the right token, and what makes tags: they are compared in constant time and say nothing of its length.
    token: Option<(hmac::Key, hmac::Tag)>,
    provider: Option<Arc<Provider>>,
    /// Somebody has to show something, even where there is no page to log in on.
    closed: bool,
    /// By the digest of what the cookie says.
    sessions: Mutex<HashMap<[u8; 32], Session>>,
    session_length: Duration,
    loopback: bool,
    secure: bool,
    trust_forwarded_for: bool,
    proxied: bool,
    host_names: Vec<String>,
    rate: Buckets,
    attempts: Buckets,
}

/// Somebody who logged in.
#[derive(Debug, Clone)]
pub(super) struct Session {
    until: Instant,
    /// Names it among others, and opens nothing.
    digest: [u8; 32],
    /// Who, where the provider said it: the token says nothing of who has it.
    pub(super) person: Option<Arc<Person>>,
    /// What the provider knows its own session by.
    pub(super) id_token: Option<Arc<str>>,
}

/// What a request may do; in the extensions of every request.
#[derive(Debug, Clone)]
pub(super) struct Visitor {
    /// Token or session were shown, or none is needed.
    pub(super) known: bool,
    /// What opened the door, where that is a session: there is something to log out of.
    pub(super) session: Option<Session>,
    /// Client address, as far as it can be told.
    pub(super) address: IpAddr,
    /// The address is a proxy's, and many clients have it.
    pub(super) proxied: bool,
}

impl Visitor {
    /// Who it is, where that is known: what the log says.
    pub(super) fn subject(&self) -> Option<&str> {
        self.session.as_ref()?.person.as_ref().map(|person| person.subject.as_str())
    }

    /// What is held for it is counted under this.
    pub(super) fn client(&self) -> Client {
        Client::new((!self.proxied).then_some(self.address), self.session.as_ref().map(|session| session.digest))
    }
}

/// What an `Authorization` header shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    Nothing,
    Right,
    Wrong,
    /// Too many wrong ones came from this address: not looked at.
    Unread,
}

/// Which of our cookies; the name says to browsers that no other site and no plain connection may set it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Cookie {
    Session,
    /// Belongs to a login that is under way at the provider.
    Login,
}

impl Guard {
    pub(super) fn new(config: &HttpConfig, checked: &Checked, provider: Option<Arc<Provider>>) -> Self {
        let token = checked.token.as_deref().map(|token| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, b"greffier/token");
            let tag = hmac::sign(&key, token.as_bytes());
            (key, tag)
        });
        Self(Arc::new(Rules {
            closed: token.is_some() || checked.oidc.is_some(),
            token,
            provider,
            sessions: Mutex::default(),
            session_length: Duration::from_secs(config.session_seconds.clamp(60, MAX_SESSION)),
            loopback: checked.listen.ip().is_loopback(),
            secure: config.is_secure(),
            trust_forwarded_for: config.trust_forwarded_for,
            proxied: config.behind_tls && !config.trust_forwarded_for,
            host_names: config.host_names.iter().map(|name| name.to_ascii_lowercase()).collect(),
            rate: Buckets::new(config.requests_per_minute.max(60)),
            attempts: Buckets::new(ATTEMPTS),
        }))
    }

    /// Whether there is a token to log in with.
    pub(super) fn has_token(&self) -> bool {
        self.0.token.is_some()
    }

    /// Whether there is a provider to log in at.
    pub(super) fn provider(&self) -> Option<&Arc<Provider>> {
        self.0.provider.as_ref()
    }

    /// Counts an attempt that may fail; false: this address has to wait.
    pub(super) fn attempt(&self, address: IpAddr) -> bool {
        self.0.attempts.take(address)
    }

    /// The attempt did not fail.
    pub(super) fn succeeded(&self, address: IpAddr) {
        self.0.attempts.give_back(address);
    }

    /// When the next attempt may be made, seconds.
    pub(super) fn retry_after(&self) -> String {
        self.0.attempts.refill().to_string()
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<[u8; 32], Session>> {
        self.0.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a session: the cookie to set.
    pub(super) fn open(&self, person: Option<Person>, id_token: Option<String>) -> std::io::Result<HeaderValue> {
        let name = secret()?;
        let now = Instant::now();
        let until = now.checked_add(self.0.session_length).unwrap_or(now);
        let mut sessions = self.sessions();
        sessions.retain(|_, session| session.until > now);
        make_room(&mut sessions, MAX_SESSIONS, |session| session.until);
        let digest = digest(&name);
        sessions.insert(digest, Session { until, digest, person: person.map(Arc::new), id_token: id_token.map(Into::into) });
        self.cookie(Cookie::Session, &name, self.0.session_length)
    }

    /// Ends the session of this browser: the cookie that says so.
    pub(super) fn close(&self, headers: &HeaderMap) -> std::io::Result<HeaderValue> {
        if let Some(name) = self.kept_by(headers, Cookie::Session) {
            self.sessions().remove(&digest(name));
        }
        self.cookie(Cookie::Session, "", Duration::ZERO)
    }

    /// The session that this browser's cookie names, while it lasts.
    pub(super) fn session(&self, headers: &HeaderMap) -> Option<Session> {
        let name = self.kept_by(headers, Cookie::Session)?;
        self.sessions().get(&digest(name)).filter(|session| session.until > Instant::now()).cloned()
    }

    fn name(&self, which: Cookie) -> &'static str {
        match (which, self.0.secure) {
            (Cookie::Session, true) => "__Host-greffier",
            (Cookie::Session, false) => "greffier",
            (Cookie::Login, true) => "__Host-greffier-login",
            (Cookie::Login, false) => "greffier-login",
        }
    }

    /// What the browser keeps in one of our cookies.
    pub(super) fn kept_by<'a>(&self, headers: &'a HeaderMap, which: Cookie) -> Option<&'a str> {
        cookie(headers, self.name(which))
    }

    /// A cookie of ours for a browser, for so long; zero takes it away.
    fn cookie(&self, which: Cookie, value: &str, lasts: Duration) -> std::io::Result<HeaderValue> {
        let secure = if self.0.secure { "; Secure" } else { "" };
        // The provider's page sends people back to us: a strict cookie would stay behind.
        let site = if matches!(which, Cookie::Session) { "Strict" } else { "Lax" };
        let (name, seconds) = (self.name(which), lasts.as_secs());
        let cookie = format!("{name}={value}; Path=/; HttpOnly; SameSite={site}; Max-Age={seconds}{secure}");
        HeaderValue::from_str(&cookie).map_err(std::io::Error::other)
    }

    /// The cookie that belongs to a login under way; `None` takes it away.
    pub(super) fn login_cookie(&self, value: Option<&str>) -> std::io::Result<HeaderValue> {
        self.cookie(Cookie::Login, value.unwrap_or_default(), value.map_or(Duration::ZERO, |_| PATIENCE))
    }

    pub(super) fn is_token(&self, shown: &[u8]) -> bool {
        self.0.token.as_ref().is_some_and(|(key, tag)| hmac::verify(key, shown, tag.as_ref()).is_ok())
    }

    fn shown(&self, headers: &HeaderMap, address: IpAddr) -> Shown {
        // Where there is no token nobody guesses one: what a proxy passes on is its own affair.
        let Some(shown) = headers.get(header::AUTHORIZATION).filter(|_| self.has_token()) else { return Shown::Nothing };
        if !self.attempt(address) {
            return Shown::Unread;
        }
        if !shown.to_str().is_ok_and(|shown| self.is_authorisation(shown)) {
            return Shown::Wrong;
        }
        self.succeeded(address);
        Shown::Right
    }

    fn is_authorisation(&self, shown: &str) -> bool {
        let Some((scheme, shown)) = shown.split_once(' ') else { return false };
        if scheme.eq_ignore_ascii_case("bearer") {
            return self.is_token(shown.trim().as_bytes());
        }
        if scheme.eq_ignore_ascii_case("basic") {
            let Ok(pair) = BASE64.decode(shown.trim()) else { return false };
            return pair.iter().position(|b| *b == b':').and_then(|colon| pair.get(colon + 1..)).is_some_and(|word| self.is_token(word));
        }
        false
    }

    fn answers_to(&self, host: Option<&str>) -> bool {
        if self.0.closed || !self.0.loopback {
            return true;
        }
        let Some(host) = host else { return false };
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.is_empty() => name,
            _ => host,
        };
        let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name).to_ascii_lowercase();
        let loopback = name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        loopback || self.0.host_names.contains(&name)
    }

    fn address(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        if !self.0.trust_forwarded_for {
            return peer;
        }
        // The last one is what our own proxy saw; those before it are what a client says of itself.
        let forwarded = headers.get_all("x-forwarded-for").iter().next_back().and_then(|value| value.to_str().ok());
        forwarded.and_then(|list| list.rsplit(',').next()?.trim().parse().ok()).unwrap_or(peer)
    }
}

fn digest(name: &str) -> [u8; 32] {
    Sha256::digest(name).into()
}

/// One cookie's value.
pub(super) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    cookies.flat_map(|all| all.split(';')).find_map(|one| one.trim().split_once('=').filter(|(n, _)| *n == name).map(|(_, value)| value))
}

/// Goes before every request.
pub(super) async fn guard(
    State(guard): State<Guard>,
    ConnectInfo(Peer(peer)): ConnectInfo<Peer>,
    mut request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path();
    let health = matches!(path, "/livez" | "/readyz");
    let open = health || path == "/login" || path.starts_with("/login/") || path.starts_with("/static/");
    let headers = request.headers();
    let address = guard.address(peer.ip(), headers);
    let Some(host) = host(&request) else {
        let why = "A request names its host once (RFC 9112, section 3.2).\n";
        return protected((StatusCode::BAD_REQUEST, why).into_response(), guard.0.secure);
    };
    let answer = if !health && !guard.answers_to(host) {
        let why = "This name is not one of ours. Reach the console by localhost, or list the name under http.host_names.\n";
        (StatusCode::MISDIRECTED_REQUEST, why).into_response()
    } else if !health && !guard.0.rate.take(address) {
        wait(guard.0.rate.refill())
    } else {
        let shown = guard.shown(headers, address);
        let session = if shown == Shown::Right { None } else { guard.session(headers) };
        let known = shown == Shown::Right || session.is_some() || !guard.0.closed;
        if shown == Shown::Unread && !known && !health {
            wait(guard.0.attempts.refill())
        } else if !known && !open {
            unknown(&request)
        } else if !is_safe(request.method()) && shown != Shown::Right && !is_same_origin(headers) {
            (StatusCode::FORBIDDEN, "This request does not come from a page of this console.\n").into_response()
        } else {
            request.extensions_mut().insert(Visitor { known, session, address, proxied: guard.0.proxied });
            next.run(request).await
        }
    };
    protected(answer, guard.0.secure)
}

/// The name under which a client asks for us, where it gives one; `None` where it gives several, so that no proxy in front and
/// none of ours chooses another one (RFC 9112 §3.2, §3.2.2).
fn host(request: &Request) -> Option<Option<&str>> {
    let mut named = request.headers().get_all(header::HOST).iter();
    let first = match named.next() {
        Some(value) => Some(value.to_str().ok()?),
        None => None,
    };
    let authority = request.uri().authority().map(|authority| authority.as_str());
    let agree = authority.zip(first).is_none_or(|(authority, host)| authority.eq_ignore_ascii_case(host));
    (named.next().is_none() && agree).then(|| first.or(authority))
}

/// Too many requests: how many seconds to wait.
fn wait(seconds: u64) -> Response {
    let wait = [(header::RETRY_AFTER, seconds.to_string())];
    (StatusCode::TOO_MANY_REQUESTS, wait, "Trop de requêtes. / Too many requests.\n").into_response()
}

/// A person is led to the login page; a program is told what is missing.
fn unknown(request: &Request) -> Response {
    let (path, accept) = (request.uri().path(), request.headers().get(header::ACCEPT));
    let person = accept.and_then(|value| value.to_str().ok()).is_some_and(|accept| accept.contains("text/html"));
    if person && request.method() == Method::GET && path != "/metrics" {
        let wanted = request.uri().path_and_query().map_or("/", |wanted| wanted.as_str());
        let login = if wanted == "/" { "/login".to_owned() } else { format!("/login?{}", form(&[("to", wanted)])) };
        return (StatusCode::SEE_OTHER, [(header::LOCATION, login)]).into_response();
    }
    let challenge = [(header::WWW_AUTHENTICATE, "Bearer realm=\"greffier\"")];
    (StatusCode::UNAUTHORIZED, challenge, "A token is needed.\n").into_response()
}

fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// Whether a browser says that our own page asks (Fetch Metadata; for older browsers, Origin of the Fetch standard).
fn is_same_origin(headers: &HeaderMap) -> bool {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let mut sites = headers.get_all("sec-fetch-site").iter().peekable();
    if sites.peek().is_some() {
        return sites.all(|site| site == "same-origin");
    }
    let (Some(origin), Some(host)) = (text(header::ORIGIN), text(header::HOST)) else { return false };
    origin.split_once("://").is_some_and(|(scheme, authority)| matches!(scheme, "http" | "https") && authority.eq_ignore_ascii_case(host))
}

/// Whether a browser says that another site's page asks (Fetch Metadata).
pub(super) fn is_foreign(headers: &HeaderMap) -> bool {
    headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site" || site == "same-site")
}

fn protected(mut answer: Response<Body>, secure: bool) -> Response {
    let headers = answer.headers_mut();
    let mut set = |name: HeaderName, value: &'static str| {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    };
    set(header::CONTENT_SECURITY_POLICY, POLICY);
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::REFERRER_POLICY, "same-origin");
    set(header::X_FRAME_OPTIONS, "DENY");
    set(header::CACHE_CONTROL, "no-store");
    set(HeaderName::from_static("cross-origin-opener-policy"), "same-origin");
    set(HeaderName::from_static("cross-origin-resource-policy"), "same-origin");
    set(HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()");
    if secure {
        set(header::STRICT_TRANSPORT_SECURITY, "max-age=31536000");
    }
    answer
}

/// A bucket of tokens for each client address: full after a minute of rest.
///
/// The table is bounded. When it is full, the buckets with most tokens are forgotten: forgetting a full one changes nothing, and
/// one that is nearly full costs nearly nothing. To have the record of an address that guesses tokens forgotten, an attacker
/// would need a table of addresses that each made as many attempts: with those it could have guessed as often without.
struct Buckets {
    size: f64,
    max: usize,
    of: Mutex<HashMap<IpAddr, Bucket>>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    /// Tokens at a later moment.
    fn tokens_at(&self, now: Instant, size: f64) -> f64 {
        (self.tokens + now.saturating_duration_since(self.at).as_secs_f64() * size / 60.0).min(size)
    }
}

impl Buckets {
    fn new(per_minute: u32) -> Self {
        Self { size: f64::from(per_minute), max: MAX_ADDRESSES, of: Mutex::default() }
    }

    fn take(&self, address: IpAddr) -> bool {
        self.take_at(address, Instant::now())
    }

    fn take_at(&self, address: IpAddr, now: Instant) -> bool {
        let address = network(address);
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        if of.len() >= self.max && !of.contains_key(&address) {
            self.forget_fullest(&mut of, now);
        }
        let bucket = of.entry(address).or_insert(Bucket { tokens: self.size, at: now });
        let tokens = bucket.tokens_at(now, self.size);
        let taken = tokens >= 1.0;
        *bucket = Bucket { tokens: if taken { tokens - 1.0 } else { tokens }, at: now };
        taken
    }

    /// Makes room for newcomers. Always forgets at least one.
    fn forget_fullest(&self, of: &mut HashMap<IpAddr, Bucket>, now: Instant) {
        let mut fullness: Vec<(f64, IpAddr)> = of.iter().map(|(address, bucket)| (bucket.tokens_at(now, self.size), *address)).collect();
        let part = (fullness.len() / FORGOTTEN_PART).max(1).min(fullness.len());
        if part < fullness.len() {
            fullness.select_nth_unstable_by(part, |a, b| b.0.total_cmp(&a.0));
        }
        for (_, address) in fullness.iter().take(part) {
            of.remove(address);
        }
    }

    /// What was taken was not used.
    fn give_back(&self, address: IpAddr) {
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = of.get_mut(&network(address)) {
            bucket.tokens = (bucket.tokens + 1.0).min(self.size);
        }
    }

    /// After how many seconds there is one more.
    fn refill(&self) -> u64 {
        (60.0 / self.size).ceil() as u64
    }
}

/// One household has one IPv4 address, or 2^64 IPv6 addresses.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => IpAddr::V4(v4),
            None => IpAddr::V6((u128::from(v6) & !u128::from(u64::MAX)).into()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::config::OidcConfig;

    fn at(config: HttpConfig) -> Guard {
        let checked = config.resolve().unwrap().unwrap();
        Guard::new(&config, &checked, None)
    }

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    const TOKEN: &str = "correct-horse-battery";

    /// What a browser sends after it was told to keep a cookie.
    fn kept(cookie: &HeaderValue) -> HeaderMap {
        headers(&[("cookie", &format!("a=b; {}", cookie.to_str().unwrap().split(';').next().unwrap()))])
    }

    #[test]
    fn a_session_ends_with_its_logout_with_its_time_and_with_the_process() {
        let guard = at(HttpConfig { token: TOKEN.into(), ..HttpConfig::default() });
        let (cookie, other) = (guard.open(None, None).unwrap(), guard.open(None, None).unwrap());
        assert!(cookie.to_str().unwrap().contains("; HttpOnly; SameSite=Strict; Max-Age=43200"), "{cookie:?}");
        assert!(guard.session(&kept(&cookie)).is_some());
        assert!(guard.session(&headers(&[("cookie", "greffier=00112233445566778899aabbccddeeff")])).is_none());
        assert!(guard.session(&headers(&[("cookie", "greffier=")])).is_none());
        let gone = guard.close(&kept(&cookie)).unwrap();
        assert!(gone.to_str().unwrap().contains("Max-Age=0"), "{gone:?}");
        assert!(guard.session(&kept(&cookie)).is_none(), "a copy of the cookie opens nothing after the logout");
        assert!(guard.session(&kept(&other)).is_some(), "one logout ends one session");
        guard.sessions().values_mut().for_each(|session| session.until = Instant::now());
        assert!(guard.session(&kept(&other)).is_none());
        assert!(at(HttpConfig { token: TOKEN.into(), ..HttpConfig::default() }).session(&kept(&cookie)).is_none());
    }

    #[test]
    fn only_so_many_sessions_are_kept_and_the_oldest_goes_first() {
        let guard = at(HttpConfig { token: TOKEN.into(), ..HttpConfig::default() });
        let first = guard.open(None, None).unwrap();
        (1..MAX_SESSIONS).for_each(|_| drop(guard.open(None, None).unwrap()));
        let last = guard.open(None, None).unwrap();
        assert_eq!(guard.sessions().len(), MAX_SESSIONS);
        assert!(guard.session(&kept(&first)).is_none() && guard.session(&kept(&last)).is_some());
    }

    #[test]
    fn after_too_many_wrong_tokens_the_right_one_is_not_looked_at_either() {
        let guard = at(HttpConfig { token: TOKEN.into(), ..HttpConfig::default() });
        let bearer = |token: &str| headers(&[("authorization", &format!("Bearer {token}"))]);
        let (here, elsewhere) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        assert!((0..1_000).all(|_| guard.shown(&bearer(TOKEN), here) == Shown::Right), "the right one costs nothing");
        let tried = (0..1_000).take_while(|_| guard.shown(&bearer("wrong-horse-battery"), here) == Shown::Wrong).count();
        // One comes back every six seconds, on a machine that is slow as well.
        assert!((ATTEMPTS as usize..500).contains(&tried), "{tried}");
        guard.0.attempts.of.lock().unwrap().values_mut().for_each(|bucket| *bucket = Bucket { tokens: 0.0, at: Instant::now() });
        assert_eq!(guard.shown(&bearer(TOKEN), here), Shown::Unread);
        assert_eq!(guard.shown(&bearer(TOKEN), elsewhere), Shown::Right);
        assert_eq!(guard.shown(&headers(&[]), here), Shown::Nothing);
        assert_eq!(guard.0.attempts.refill(), 6);
    }

    #[test]
    fn where_there_is_no_token_no_header_counts_as_a_wrong_one() {
        let oidc = OidcConfig {
            issuer: "https://id.example.fr".into(),
            client_id: "greffier".into(),
            redirect_url: "https://greffier.example.fr/login/callback".into(),
            allowed: vec!["ops".into()],
            ..OidcConfig::default()
        };
        let guard = at(HttpConfig { oidc, ..HttpConfig::default() });
        assert!(guard.0.closed && !guard.has_token());
        let (basic, here) = (headers(&[("authorization", "Basic cHJveHk6cHJveHk=")]), "192.0.2.1".parse().unwrap());
        assert!((0..1_000).all(|_| guard.shown(&basic, here) == Shown::Nothing));
        assert!(guard.attempt(here), "its attempts are all there");
    }

    #[test]
    fn bearer_and_basic_carry_the_token() {
        let guard = at(HttpConfig { token: TOKEN.into(), ..HttpConfig::default() });
        let basic = |pair: &str| format!("Basic {}", BASE64.encode(pair));
        assert!(guard.is_authorisation(&format!("bearer {TOKEN}")));
        assert!(guard.is_authorisation(&basic(&format!("prometheus:{TOKEN}"))));
        for wrong in [&basic("prometheus:"), &basic(TOKEN), "Bearer ", "Bearer", TOKEN, ""] {
            assert!(!guard.is_authorisation(wrong), "{wrong}");
        }
        assert!(!at(HttpConfig::default()).is_token(b""), "where there is no token, none is right");
    }

    #[test]
    fn only_our_own_pages_change_something() {
        for (sent, ours) in [
            (vec![("sec-fetch-site", "same-origin")], true),
            (vec![("sec-fetch-site", "same-site"), ("origin", "http://localhost"), ("host", "localhost")], false),
            (vec![("sec-fetch-site", "none")], false),
            (vec![("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")], false),
            (vec![("origin", "http://localhost:9464"), ("host", "localhost:9464")], true),
            (vec![("origin", "http://evil.example"), ("host", "localhost:9464")], false),
            (vec![("origin", "null"), ("host", "localhost:9464")], false),
            (vec![("host", "localhost:9464")], false),
        ] {
            assert_eq!(is_same_origin(&headers(&sent)), ours, "{sent:?}");
        }
        // A bookmark is nobody's page.
        for (site, foreign) in [("cross-site", true), ("same-site", true), ("same-origin", false), ("none", false)] {
            assert_eq!(is_foreign(&headers(&[("sec-fetch-site", site)])), foreign, "{site}");
        }
    }

    #[test]
    fn a_request_names_one_host() {
        let of = |uri: &str, hosts: &[&str]| {
            let mut request = Request::builder().uri(uri);
            for one in hosts {
                request = request.header(header::HOST, *one);
            }
            host(&request.body(Body::empty()).unwrap()).map(|host| host.map(str::to_owned))
        };
        assert_eq!(of("/", &["localhost"]), Some(Some("localhost".into())));
        assert_eq!(of("/", &[]), Some(None));
        assert_eq!(of("http://evil.example/", &[]), Some(Some("evil.example".into())));
        assert_eq!(of("http://LocalHost:80/", &["localhost:80"]), Some(Some("localhost:80".into())));
        for (uri, hosts) in
            [("/", &["localhost", "evil.example"][..]), ("/", &["localhost", "localhost"]), ("http://evil.example/", &["localhost"])]
        {
            assert_eq!(of(uri, hosts), None, "{uri} {hosts:?}");
        }
    }

    #[test]
    fn without_a_token_only_names_of_this_machine_are_answered() {
        let guard = at(HttpConfig { host_names: vec!["poste.local".into()], ..HttpConfig::default() });
        for (host, answered) in [
            ("127.0.0.1:9464", true),
            ("localhost", true),
            ("[::1]:9464", true),
            ("Poste.local:80", true),
            ("evil.example:9464", false),
            ("127.0.0.1.evil.example", false),
            ("[127.0.0.1", false),
            ("", false),
        ] {
            assert_eq!(guard.answers_to(Some(host)), answered, "{host}");
        }
        assert!(!guard.answers_to(None));
    }

    #[test]
    fn a_bucket_runs_dry_and_fills_again() {
        let buckets = Buckets::new(60);
        let (one, two) = ("192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap());
        let now = Instant::now();
        assert_eq!((0..100).filter(|_| buckets.take_at(one, now)).count(), 60);
        assert!(buckets.take_at(two, now), "one address does not wait for another");
        let neighbour: IpAddr = "2001:db8::ffff".parse().unwrap();
        assert_eq!((0..100).filter(|_| buckets.take_at(neighbour, now)).count(), 59, "a /64 is one client");
        assert_eq!((0..100).filter(|_| buckets.take_at(one, now + Duration::from_secs(10))).count(), 10);
    }

    fn many(n: u32) -> IpAddr {
        std::net::Ipv4Addr::from(0x0a00_0000 + n).into()
    }

    #[test]
    fn many_addresses_neither_shut_others_out_nor_have_a_guessing_one_forgotten() {
        let buckets = Buckets::new(ATTEMPTS);
        let (guessing, now): (IpAddr, _) = ("192.0.2.1".parse().unwrap(), Instant::now());
        assert_eq!((0..100).filter(|_| buckets.take_at(guessing, now)).count(), ATTEMPTS as usize);
        // Nine attempts of each address: one fewer than would be refused.
        for n in 0..3 * MAX_ADDRESSES as u32 {
            assert!((1..ATTEMPTS).all(|_| buckets.take_at(many(n), now)), "address {n} was refused for the others");
        }
        assert!(buckets.of.lock().unwrap().len() <= MAX_ADDRESSES);
        assert!(!buckets.take_at(guessing, now), "its record was forgotten");
        assert!(buckets.take_at("203.0.113.7".parse().unwrap(), now), "an honest newcomer");
        // Rest makes the record worth as little as any.
        assert!(buckets.take_at(guessing, now + Duration::from_secs(6)));
    }

    proptest::proptest! {
        #[test]
        fn a_full_table_never_refuses_an_address_that_has_tokens(
            asked in proptest::collection::vec((0_u32..64, 0_u64..5), 1..600),
            max in 1_usize..40,
        ) {
            let buckets = Buckets { max, ..Buckets::new(3) };
            let (mut now, mut last) = (Instant::now(), HashMap::<u32, Vec<Instant>>::new());
            for (n, seconds) in asked {
                now += Duration::from_secs(seconds);
                let recent = last.entry(n).or_default();
                recent.retain(|at| now.duration_since(*at) < Duration::from_secs(60));
                let taken = buckets.take_at(many(n), now);
                // Three a minute are allowed whatever the others do; forgetting only ever gives more.
                proptest::prop_assert!(taken || recent.len() >= 3);
                if taken {
                    recent.push(now);
                }
                proptest::prop_assert!(buckets.of.lock().unwrap().len() <= max);
            }
        }
    }

    #[test]
    fn the_address_is_the_proxys_word_only_where_it_is_trusted() {
        let peer: IpAddr = "10.0.0.1".parse().unwrap();
        let sent = headers(&[("x-forwarded-for", "6.6.6.6, 192.0.2.7")]);
        assert_eq!(at(HttpConfig::default()).address(peer, &sent), peer);
        let behind = at(HttpConfig { trust_forwarded_for: true, ..HttpConfig::default() });
        assert_eq!(behind.address(peer, &sent), "192.0.2.7".parse::<IpAddr>().unwrap());
    }
}
