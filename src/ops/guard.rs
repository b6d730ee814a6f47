//! Who may do what, from where, and how often.
//!
//! 1. **Host.** Without a token, only names of this machine are answered: a web page that gives its own name our address
//!    (DNS rebinding) gets nothing.
//! 2. **Token.** Where one is configured, everything but health asks for it: as a bearer token, as the password of Basic, or
//!    through the login page, which gives a session cookie (`HttpOnly`, `SameSite=Strict`, signed, twelve hours).
//! 3. **Same origin.** Whatever changes something must come from our own pages (`Sec-Fetch-Site`, else `Origin`), or carry
//!    the token in a header, which no other site can make a browser do.
//! 4. **Rate.** A bucket of tokens for each client address; failed logins empty another, much smaller one.
//! 5. Every answer says that it may run our own script only, be framed by nobody, and be kept by no cache.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD as BASE64, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use ring::hmac;

use super::config::{Checked, HttpConfig};
use super::listen::Peer;

/// How long a session lasts, seconds.
const SESSION: i64 = 12 * 3600;
/// Logins of one address in a minute.
const LOGINS: u32 = 10;
/// Addresses remembered at once.
const MAX_ADDRESSES: usize = 16_384;

/// Style, script and pictures of our own; nothing else, and no page around ours.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// The rules of one server.
#[derive(Clone)]
pub(super) struct Guard(Arc<Rules>);

struct Rules {
    /// Signs sessions and compares tokens; drawn from the token, so that sessions outlive a restart and a changed token ends them.
    key: Option<hmac::Key>,
    /// The tag of the right token.
    tag: Option<hmac::Tag>,
    loopback: bool,
    secure: bool,
    trust_forwarded_for: bool,
    host_names: Vec<String>,
    rate: Buckets,
    logins: Buckets,
}

/// What a request may do; in the extensions of every request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Visitor {
    /// The token was shown, or none is needed.
    pub(super) known: bool,
    /// A session cookie opened the door: there is something to log out of.
    pub(super) session: bool,
    /// Client address, as far as it can be told.
    pub(super) address: IpAddr,
}

impl Guard {
    pub(super) fn new(config: &HttpConfig, checked: &Checked) -> Self {
        let token = checked.token.as_deref();
        let key = token.map(|token| hmac::Key::new(hmac::HMAC_SHA256, format!("greffier/session/1\0{token}").as_bytes()));
        let tag = key.as_ref().zip(token).map(|(key, token)| hmac::sign(key, token.as_bytes()));
        Self(Arc::new(Rules {
            key,
            tag,
            loopback: checked.listen.ip().is_loopback(),
            secure: config.is_secure(),
            trust_forwarded_for: config.trust_forwarded_for,
            host_names: config.host_names.iter().map(|name| name.to_ascii_lowercase()).collect(),
            rate: Buckets::new(config.requests_per_minute.max(60)),
            logins: Buckets::new(LOGINS),
        }))
    }

    /// Whether a token is asked for.
    pub(super) fn asks_token(&self) -> bool {
        self.0.key.is_some()
    }

    /// The right token opens a session: the cookie to set.
    pub(super) fn login(&self, token: &str) -> Option<HeaderValue> {
        self.is_token(token.as_bytes()).then(|| self.cookie(SESSION)).flatten()
    }

    /// Whether this address may try another login now.
    pub(super) fn may_login(&self, address: IpAddr) -> bool {
        self.0.logins.take(address)
    }

    /// The cookie that ends a session.
    pub(super) fn logout(&self) -> Option<HeaderValue> {
        self.cookie(0)
    }

    fn cookie_name(&self) -> &'static str {
        if self.0.secure { "__Host-greffier" } else { "greffier" }
    }

    fn cookie(&self, seconds: i64) -> Option<HeaderValue> {
        let key = self.0.key.as_ref()?;
        let until = Timestamp::now().as_second().saturating_add(seconds).to_string();
        let tag = URL_SAFE_NO_PAD.encode(hmac::sign(key, until.as_bytes()));
        let secure = if self.0.secure { "; Secure" } else { "" };
        let cookie = format!("{}={until}.{tag}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}", self.cookie_name());
        HeaderValue::from_str(&cookie).ok()
    }

    fn is_token(&self, shown: &[u8]) -> bool {
        // Tags are compared in constant time, and say nothing of the length of the token.
        match (&self.0.key, &self.0.tag) {
            (Some(key), Some(tag)) => hmac::verify(key, shown, tag.as_ref()).is_ok(),
            _ => false,
        }
    }

    fn is_session(&self, headers: &HeaderMap) -> bool {
        let Some(key) = &self.0.key else { return false };
        let Some((until, tag)) = cookie(headers, self.cookie_name()).and_then(|value| value.split_once('.')) else { return false };
        let Ok(tag) = URL_SAFE_NO_PAD.decode(tag) else { return false };
        hmac::verify(key, until.as_bytes(), &tag).is_ok() && until.parse::<i64>().is_ok_and(|until| until > Timestamp::now().as_second())
    }

    fn is_authorised(&self, headers: &HeaderMap) -> bool {
        let Some(shown) = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()) else { return false };
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
        if self.asks_token() || !self.0.loopback {
            return true;
        }
        let Some(host) = host else { return false };
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.is_empty() => name,
            _ => host,
        };
        let name = name.trim_matches(['[', ']']).to_ascii_lowercase();
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
    let open = health || path == "/login" || path.starts_with("/static/");
    let headers = request.headers();
    let address = guard.address(peer.ip(), headers);
    let authorised = guard.is_authorised(headers);
    let session = !authorised && guard.is_session(headers);
    let known = authorised || session || !guard.asks_token();
    let host = headers.get(header::HOST).and_then(|value| value.to_str().ok());
    let answer = if !health && !guard.answers_to(host) {
        let why = "This name is not one of ours. Reach the console by localhost, or list the name under http.host_names.\n";
        (StatusCode::MISDIRECTED_REQUEST, why).into_response()
    } else if !health && !guard.0.rate.take(address) {
        let wait = [(header::RETRY_AFTER, "2")];
        (StatusCode::TOO_MANY_REQUESTS, wait, "Trop de requêtes. / Too many requests.\n").into_response()
    } else if !known && !open {
        unknown(request.method(), headers, path)
    } else if !is_safe(request.method()) && !authorised && !is_same_origin(headers) {
        (StatusCode::FORBIDDEN, "This request does not come from a page of this console.\n").into_response()
    } else {
        request.extensions_mut().insert(Visitor { known, session, address });
        next.run(request).await
    };
    protected(answer, guard.0.secure)
}

/// A person is led to the login page; a program is told what is missing.
fn unknown(method: &Method, headers: &HeaderMap, path: &str) -> Response {
    let person = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).is_some_and(|accept| accept.contains("text/html"));
    if person && *method == Method::GET && path != "/metrics" {
        return (StatusCode::SEE_OTHER, [(header::LOCATION, "/login")]).into_response();
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
    if let Some(site) = text(HeaderName::from_static("sec-fetch-site")) {
        return site == "same-origin";
    }
    let (Some(origin), Some(host)) = (text(header::ORIGIN), text(header::HOST)) else { return false };
    origin.split_once("://").is_some_and(|(scheme, authority)| matches!(scheme, "http" | "https") && authority.eq_ignore_ascii_case(host))
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

/// A bucket of tokens for each address: full after a minute of rest.
struct Buckets {
    size: f64,
    of: Mutex<HashMap<IpAddr, (f64, Instant)>>,
}

impl Buckets {
    fn new(per_minute: u32) -> Self {
        Self { size: f64::from(per_minute), of: Mutex::default() }
    }

    fn take(&self, address: IpAddr) -> bool {
        self.take_at(address, Instant::now())
    }

    fn take_at(&self, address: IpAddr, now: Instant) -> bool {
        let address = network(address);
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        if of.len() >= MAX_ADDRESSES && !of.contains_key(&address) {
            // What would be full again is as good as never seen.
            of.retain(|_, (_, since)| now.duration_since(*since).as_secs() < 60);
            if of.len() >= MAX_ADDRESSES {
                return false;
            }
        }
        let (left, since) = of.entry(address).or_insert((self.size, now));
        *left = (*left + now.duration_since(*since).as_secs_f64() * self.size / 60.0).min(self.size);
        *since = now;
        let taken = *left >= 1.0;
        if taken {
            *left -= 1.0;
        }
        taken
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
    use std::time::Duration;

    fn at(config: HttpConfig) -> Guard {
        let checked = config.resolve().unwrap().unwrap();
        Guard::new(&config, &checked)
    }

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (HeaderName::from_bytes(n.as_bytes()).unwrap(), HeaderValue::from_str(v).unwrap())).collect()
    }

    const TOKEN: &str = "correct-horse-battery";

    #[test]
    fn sessions_are_signed_end_and_die_with_the_token() {
        let guard = at(HttpConfig { token: TOKEN.into(), ..HttpConfig::default() });
        assert!(guard.login("wrong-horse-battery-").is_none());
        let cookie = guard.login(TOKEN).unwrap().to_str().unwrap().to_owned();
        assert!(cookie.contains("; HttpOnly; SameSite=Strict;"), "{cookie}");
        let sent = cookie.split(';').next().unwrap();
        assert!(guard.is_session(&headers(&[("cookie", &format!("a=b; {sent}"))])));
        let (name, value) = sent.split_once('=').unwrap();
        let (until, tag) = value.split_once('.').unwrap();
        let later = until.parse::<i64>().unwrap() + 1;
        assert!(!guard.is_session(&headers(&[("cookie", &format!("{name}={later}.{tag}"))])), "a longer life is not signed");
        let ended = guard.cookie(-1).unwrap().to_str().unwrap().split(';').next().unwrap().to_owned();
        assert!(!guard.is_session(&headers(&[("cookie", &ended)])));
        let other = at(HttpConfig { token: "another-horse-battery".into(), ..HttpConfig::default() });
        assert!(!other.is_session(&headers(&[("cookie", sent)])));
        let open = at(HttpConfig::default());
        assert!(!open.is_session(&headers(&[("cookie", sent)])) && open.login("").is_none());
    }

    #[test]
    fn bearer_and_basic_carry_the_token() {
        let guard = at(HttpConfig { token: TOKEN.into(), ..HttpConfig::default() });
        let basic = |pair: &str| headers(&[("authorization", &format!("Basic {}", BASE64.encode(pair)))]);
        assert!(guard.is_authorised(&headers(&[("authorization", &format!("Bearer {TOKEN}"))])));
        assert!(guard.is_authorised(&basic(&format!("prometheus:{TOKEN}"))));
        for wrong in [basic("prometheus:"), basic(TOKEN), headers(&[("authorization", "Bearer ")]), headers(&[])] {
            assert!(!guard.is_authorised(&wrong));
        }
    }

    #[test]
    fn only_our_own_pages_change_something() {
        for (sent, ours) in [
            (vec![("sec-fetch-site", "same-origin")], true),
            (vec![("sec-fetch-site", "same-site"), ("origin", "http://localhost"), ("host", "localhost")], false),
            (vec![("sec-fetch-site", "none")], false),
            (vec![("origin", "http://localhost:9464"), ("host", "localhost:9464")], true),
            (vec![("origin", "http://evil.example"), ("host", "localhost:9464")], false),
            (vec![("origin", "null"), ("host", "localhost:9464")], false),
            (vec![("host", "localhost:9464")], false),
        ] {
            assert_eq!(is_same_origin(&headers(&sent)), ours, "{sent:?}");
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

    #[test]
    fn the_address_is_the_proxys_word_only_where_it_is_trusted() {
        let peer: IpAddr = "10.0.0.1".parse().unwrap();
        let sent = headers(&[("x-forwarded-for", "6.6.6.6, 192.0.2.7")]);
        assert_eq!(at(HttpConfig::default()).address(peer, &sent), peer);
        let behind = at(HttpConfig { trust_forwarded_for: true, ..HttpConfig::default() });
        assert_eq!(behind.address(peer, &sent), "192.0.2.7".parse::<IpAddr>().unwrap());
    }
}
