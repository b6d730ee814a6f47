//! Login to the console through an OpenID provider: at `oidc-provider-mock`, a provider that others wrote (on Authlib), and at
//! one of ours, which lies where no good provider does.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Form, Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD as URL_SAFE};
use greffier::ops::config::OidcConfig;
use greffier::ops::login_probes;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use ring::{hmac, rand::SystemRandom};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::doctor::doctor;
use crate::ops::{Served, TOKEN, ask, ask_at, serve, serve_at};
use crate::support::{python, root};

/// What only the console and the provider know.
const SECRET: &str = "between-us: two & \"a half\"";

/// `[http.oidc]` for an issuer; people come back to `redirect`.
fn oidc(issuer: &str, redirect: &str) -> String {
    format!(
        "[http.oidc]\nissuer = \"{issuer}\"\nclient_id = \"greffier\"\nclient_secret = '{SECRET}'\n\
         redirect_url = \"{redirect}/login/callback\"\nallowed = [\"greffier-ops\"]\nname = \"Guichet\""
    )
}

/// The settings of most tests: everybody comes from an address of their own, else the failures of one would hold up the next.
fn settings(issuer: &str) -> String {
    format!("token = \"{TOKEN}\"\ntrust_forwarded_for = true\n{}", oidc(issuer, "http://127.0.0.1:1"))
}

/// What a browser keeps, and nothing else of one.
struct Browser<'a> {
    served: &'a Served,
    address: String,
    cookies: BTreeMap<String, String>,
}

impl<'a> Browser<'a> {
    fn new(served: &'a Served) -> Self {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        Self { served, address: format!("198.51.100.{n}"), cookies: BTreeMap::new() }
    }

    fn ask(&mut self, method: &str, path: &str) -> (u16, String) {
        let cookies: Vec<_> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let (address, cookies) = (&self.address, cookies.join("; "));
        let request = format!(
            "{method} {path} HTTP/1.1\nHost: HOST\nAccept: text/html\nSec-Fetch-Site: same-origin\nX-Forwarded-For: {address}\nCookie: {cookies}"
        );
        let (status, answer) = ask(self.served, &request);
        for set in answer.lines().filter_map(|line| line.strip_prefix("set-cookie: ")) {
            let (name, value) = set.split(';').next().unwrap().split_once('=').unwrap();
            if set.contains("Max-Age=0") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.into(), value.into());
            }
        }
        (status, answer)
    }

    fn get(&mut self, path: &str) -> (u16, String) {
        self.ask("GET", path)
    }

    /// Begins a login: where the console sends the browser.
    fn begin(&mut self, path: &str) -> url::Url {
        let (status, answer) = self.get(path);
        assert_eq!(status, 303, "{answer}");
        header(&answer, "location").parse().unwrap()
    }

    /// Begins a login at our own provider, and comes back with its answer.
    fn login(&mut self, provider: &Liar) -> (u16, String) {
        let back = provider.consent(&self.begin("/login/start"));
        self.get(&back)
    }
}

fn header<'a>(answer: &'a str, name: &str) -> &'a str {
    let found = answer.lines().find_map(|line| line.split_once(": ").filter(|(one, _)| one.eq_ignore_ascii_case(name)));
    found.map(|(_, value)| value).unwrap_or_else(|| panic!("no {name}: {answer}"))
}

fn query(url: &url::Url) -> HashMap<String, String> {
    url.query_pairs().into_owned().collect()
}

/// Path and query: what a browser asks the console for.
fn local(url: &str) -> String {
    let url: url::Url = url.parse().unwrap();
    url[url::Position::BeforePath..].to_owned()
}

// --------------------------------------------------------------------------------------------------- a provider of others

/// `oidc-provider-mock` with three people; ended when dropped.
struct Provider {
    child: Child,
    issuer: String,
}

impl Provider {
    fn start() -> Self {
        let people = [
            json!({ "sub": "alice", "name": "Alice", "groups": ["x", "greffier-ops"] }),
            json!({ "sub": "bob", "groups": ["greffier"] }),
            json!({ "sub": "<b>carol</b>\u{202e}", "groups": "greffier-ops" }),
        ];
        let mut child = Command::new(python());
        child.args(["-m", "oidc_provider_mock", "--port", "0", "--require-nonce", "true"]).env("PYTHONUNBUFFERED", "1");
        for person in people {
            child.args(["--user-claims", &person.to_string()]);
        }
        let mut child = child.stdout(Stdio::null()).stderr(Stdio::piped()).stdin(Stdio::null()).spawn().expect("Python runs");
        let mut told = BufReader::new(child.stderr.take().expect("standard error"));
        let (mut said, mut line) = (String::new(), String::new());
        let issuer = loop {
            line.clear();
            assert!(told.read_line(&mut line).expect("a line") > 0, "the provider ended: {said}");
            if let Some((_, rest)) = line.split_once("running on ") {
                break rest.split_whitespace().next().expect("an address").to_owned();
            }
            said.push_str(&line);
        };
        std::thread::spawn(move || std::io::copy(&mut told, &mut std::io::sink()));
        Self { child, issuer }
    }

    /// Says yes on the provider's page as `person`; gives where it sends the browser.
    fn consent(&self, at: &url::Url, person: &str) -> String {
        let address = self.issuer.trim_start_matches("http://");
        let body = url::form_urlencoded::Serializer::new(String::new()).append_pair("sub", person).finish();
        let asked = format!(
            "POST {} HTTP/1.1\nHost: {address}\nContent-Type: application/x-www-form-urlencoded\n\n{body}",
            &at[url::Position::BeforePath..]
        );
        let (status, answer) = ask_at(address, TcpStream::connect(address).expect("the provider"), &asked);
        assert_eq!(status, 302, "{answer}");
        local(header(&answer, "location"))
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The provider is found in the background.
fn wait_for(served: &Served) {
    let deadline = Instant::now() + Duration::from_secs(300);
    while ask(served, "GET /readyz HTTP/1.1\nHost: HOST").1.contains("\"login\"") {
        assert!(Instant::now() < deadline, "the provider was never found");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
#[ignore = "needs Python; run by scripts/test"]
fn whom_the_provider_knows_and_we_let_in_gets_in_and_out_again() {
    let provider = Provider::start();
    let served = serve(&settings(&provider.issuer));
    wait_for(&served);
    let mut alice = Browser::new(&served);
    let page = alice.get("/login?to=%2Fparked").1;
    assert!(page.contains("/login/start?to=%2Fparked") && page.contains("Guichet") && page.contains("name=\"token\""), "{page}");
    let at = alice.begin("/login/start?to=%2Fparked");
    let asked = query(&at);
    assert_eq!((asked["response_type"].as_str(), asked["code_challenge_method"].as_str()), ("code", "S256"));
    assert!(asked["state"].len() >= 16 && asked["nonce"].len() >= 16 && asked["scope"] == "openid", "{asked:?}");
    let (status, page) = alice.get(&provider.consent(&at, "alice"));
    assert_eq!(status, 200, "{page}");
    assert_eq!(header(&page, "refresh"), "0; url=/parked", "by a page of ours: strict cookies go along");
    assert_eq!(alice.cookies.len(), 1, "what belonged to the login is gone: {:?}", alice.cookies);
    let (status, page) = alice.get("/");
    assert!(status == 200 && page.contains("alice") && page.contains("/logout"), "{page}");

    let copy = alice.cookies.clone();
    let (status, page) = alice.ask("POST", "/logout");
    let end: url::Url = header(&page, "refresh").strip_prefix("0; url=").unwrap().parse().unwrap();
    assert!(status == 200 && end.as_str().starts_with(&provider.issuer), "{end}");
    let told = query(&end);
    assert_eq!(told["post_logout_redirect_uri"], "http://127.0.0.1:1/login");
    assert_eq!(told["id_token_hint"].split('.').count(), 3);
    assert_eq!(alice.get("/").0, 303);
    alice.cookies = copy;
    assert_eq!(alice.get("/").0, 303, "a copy of the cookie opens nothing after the logout");

    for (person, expected, status) in [("bob", "LOGIN-NOT-ALLOWED", 403), ("stranger", "LOGIN-NOT-ALLOWED", 403)] {
        let mut browser = Browser::new(&served);
        let at = browser.begin("/login/start");
        let answered = browser.get(&provider.consent(&at, person));
        assert!(answered.0 == status && answered.1.contains(expected), "{person}: {}", answered.1);
        assert_eq!(browser.get("/").0, 303);
    }
    // What the provider says of people is shown, and is no page.
    let mut carol = Browser::new(&served);
    let at = carol.begin("/login/start");
    carol.get(&provider.consent(&at, "<b>carol</b>\u{202e}"));
    let page = carol.get("/").1;
    assert!(page.contains("carol") && !page.contains("<b>carol") && !page.contains('\u{202e}'), "{page}");
}

#[test]
#[ignore = "needs Chromium and Python; run by scripts/test"]
fn a_login_works_in_a_browser() {
    let provider = Provider::start();
    // The provider sends the browser back to the console: its port has to be known before it listens, and another test may
    // take it meanwhile.
    let tried = (0..10).find_map(|_| {
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let own = format!("http://{address}");
        serve_at(&address, &oidc(&provider.issuer, &own)).map(|served| (own, served))
    });
    let (own, served) = tried.expect("a port that stays free");
    wait_for(&served);
    let home = tempfile::tempdir().expect("a folder");
    let mut looking = Command::new(python());
    looking.arg(root().join("tests/browser/test_login.py")).arg(&own);
    looking.env("HOME", home.path()).env("TMPDIR", home.path()).env("PYTHONDONTWRITEBYTECODE", "1");
    let output = looking.output().expect("Python runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "test_login.py: {}\n{}{said}", output.status, String::from_utf8_lossy(&output.stdout));
    assert!(said.contains("\nOK") && !said.contains("Ran 0 tests") && !said.contains("skipped"), "{said}");
}

// ------------------------------------------------------------------------------------------------------ a provider of ours

/// What is wrong with the next ID token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lie {
    Nothing,
    OtherNonce,
    NoNonce,
    OtherAudience,
    MoreAudiences,
    OtherParty,
    OtherIssuer,
    Expired,
    NotYet,
    FromTheFuture,
    Unsigned,
    /// HS256, with the public key as the secret that everybody has.
    PublicKeyAsSecret,
    /// HS256, with the client's secret: a good signature of a kind that is not taken.
    SharedSecret,
    OtherKey,
    UnknownKey,
    NoClaim,
    NoToken,
}

struct Secrets {
    key: EcdsaKeyPair,
    id: String,
    lie: Lie,
    /// By code: what was asked for with it.
    codes: HashMap<String, HashMap<String, String>>,
    keys_read: usize,
    /// What stands otherwise in the discovery document; `null`: not at all.
    published: Value,
    /// The key set, where it is not the one key.
    keys: Option<Value>,
}

/// A provider that checks what a client must do (secret, PKCE, code and address once), and lies as it is told.
#[derive(Clone)]
struct Liar {
    issuer: String,
    secrets: Arc<Mutex<Secrets>>,
}

fn new_key() -> EcdsaKeyPair {
    let random = SystemRandom::new();
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random).unwrap()
}

impl Liar {
    /// Listens for as long as the tests run.
    fn start() -> Self {
        Self::start_at(std::net::TcpListener::bind("127.0.0.1:0").unwrap())
    }

    fn start_at(listener: std::net::TcpListener) -> Self {
        listener.set_nonblocking(true).unwrap();
        let issuer = format!("http://{}/realm", listener.local_addr().unwrap());
        let secrets = Secrets {
            key: new_key(),
            id: "first".into(),
            lie: Lie::Nothing,
            codes: HashMap::new(),
            keys_read: 0,
            published: json!({}),
            keys: None,
        };
        let liar = Self { issuer, secrets: Arc::new(Mutex::new(secrets)) };
        let router = Router::new()
            .route("/realm/.well-known/openid-configuration", get(configuration))
            .route("/realm/keys", get(keys))
            .route("/realm/token", post(token))
            .with_state(liar.clone());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { axum::serve(tokio::net::TcpListener::from_std(listener).unwrap(), router).await.unwrap() });
        });
        liar
    }

    fn secrets(&self) -> MutexGuard<'_, Secrets> {
        self.secrets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What its page would do: a code for what is asked; gives where the browser goes back to.
    fn consent(&self, at: &url::Url) -> String {
        let asked = query(at);
        let code = format!("code-{}", asked["nonce"]);
        let back = format!("{}?code={code}&state={}&iss={}", local(&asked["redirect_uri"]), asked["state"], self.issuer);
        self.secrets().codes.insert(code, asked);
        back
    }

    /// An ID token for a login, with what is wrong with it.
    fn id_token(&self, asked: &HashMap<String, String>) -> String {
        let secrets = self.secrets();
        let now = jiff::Timestamp::now().as_second();
        let mut header = json!({ "alg": "ES256", "typ": "JWT", "kid": secrets.id });
        let mut claims = json!({
            "iss": self.issuer, "sub": "alice", "aud": "greffier", "azp": "greffier", "nonce": asked["nonce"],
            "iat": now, "nbf": now, "exp": now + 300, "groups": ["greffier-ops"],
        });
        let mut set = |name: &str, value: Value| claims[name] = value;
        match secrets.lie {
            Lie::OtherNonce => set("nonce", "another".into()),
            Lie::NoNonce => set("nonce", Value::Null),
            Lie::OtherAudience => set("aud", "another".into()),
            Lie::MoreAudiences => set("aud", json!(["greffier", "another"])),
            Lie::OtherParty => set("azp", "another".into()),
            Lie::OtherIssuer => set("iss", "https://another.example".into()),
            Lie::Expired => set("exp", (now - 3_600).into()),
            Lie::NotYet => set("nbf", (now + 3_600).into()),
            Lie::FromTheFuture => set("iat", (now + 3_600).into()),
            Lie::NoClaim => drop(claims.as_object_mut().unwrap().remove("groups")),
            Lie::Unsigned => header = json!({ "alg": "none" }),
            Lie::PublicKeyAsSecret | Lie::SharedSecret => header["alg"] = "HS256".into(),
            Lie::UnknownKey => header["kid"] = "nobody's".into(),
            Lie::Nothing | Lie::OtherKey | Lie::NoToken => {}
        }
        let signed = [header, claims].map(|part| URL_SAFE.encode(part.to_string())).join(".");
        let shared = |secret: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), signed.as_bytes()).as_ref().to_vec();
        let ecdsa = |key: &EcdsaKeyPair| key.sign(&SystemRandom::new(), signed.as_bytes()).unwrap().as_ref().to_vec();
        let signature = match secrets.lie {
            Lie::Unsigned => Vec::new(),
            Lie::PublicKeyAsSecret => shared(secrets.key.public_key().as_ref()),
            Lie::SharedSecret => shared(SECRET.as_bytes()),
            Lie::OtherKey => ecdsa(&new_key()),
            _ => ecdsa(&secrets.key),
        };
        format!("{signed}.{}", URL_SAFE.encode(signature))
    }
}

async fn configuration(State(liar): State<Liar>) -> Json<Value> {
    let issuer = &liar.issuer;
    let mut document = json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"),
        "jwks_uri": format!("{issuer}/keys"),
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256", "HS256", "none"],
        "authorization_response_iss_parameter_supported": true,
    });
    for (key, value) in liar.secrets().published.as_object().unwrap() {
        document[key] = value.clone();
    }
    document.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    Json(document)
}

async fn keys(State(liar): State<Liar>) -> Json<Value> {
    let mut secrets = liar.secrets();
    secrets.keys_read += 1;
    if let Some(keys) = &secrets.keys {
        return Json(keys.clone());
    }
    let (x, y) = secrets.key.public_key().as_ref()[1..].split_at(32);
    let key = json!({
        "kty": "EC", "crv": "P-256", "use": "sig", "kid": secrets.id, "x": URL_SAFE.encode(x), "y": URL_SAFE.encode(y),
    });
    Json(json!({ "keys": [key, { "kty": "from a later year" }] }))
}

async fn token(State(liar): State<Liar>, headers: HeaderMap, Form(sent): Form<HashMap<String, String>>) -> Response {
    let refuse = |why: &str| (StatusCode::BAD_REQUEST, Json(json!({ "error": why }))).into_response();
    // RFC 6749 §2.3.1: both parts are form-encoded before they are joined.
    let escaped = url::form_urlencoded::byte_serialize(SECRET.as_bytes()).collect::<String>();
    let basic = format!("Basic {}", STANDARD.encode(format!("greffier:{escaped}")));
    if headers.get("authorization").and_then(|value| value.to_str().ok()) != Some(&basic) {
        return refuse("invalid_client");
    }
    let Some(asked) = sent.get("code").and_then(|code| liar.secrets().codes.remove(code)) else { return refuse("invalid_grant") };
    let challenge = URL_SAFE.encode(Sha256::digest(sent.get("code_verifier").map(String::as_str).unwrap_or_default()));
    if asked["code_challenge"] != challenge || sent.get("redirect_uri") != asked.get("redirect_uri") {
        return refuse("invalid_grant");
    }
    let mut answer = json!({ "access_token": "unused", "token_type": "Bearer" });
    if liar.secrets().lie != Lie::NoToken {
        answer["id_token"] = liar.id_token(&asked).into();
    }
    Json(answer).into_response()
}

#[test]
fn an_id_token_that_lies_lets_nobody_in() {
    let liar = Liar::start();
    let served = serve(&settings(&liar.issuer));
    wait_for(&served);
    for (lie, expected) in [
        (Lie::OtherNonce, "LOGIN-TOKEN: nonce"),
        (Lie::NoNonce, "LOGIN-TOKEN: nonce"),
        (Lie::OtherAudience, "LOGIN-TOKEN: audience"),
        (Lie::MoreAudiences, "LOGIN-TOKEN: audience"),
        (Lie::OtherParty, "LOGIN-TOKEN: audience"),
        (Lie::OtherIssuer, "LOGIN-TOKEN: issuer"),
        (Lie::Expired, "LOGIN-TOKEN: time"),
        (Lie::NotYet, "LOGIN-TOKEN: time"),
        (Lie::FromTheFuture, "LOGIN-TOKEN: time"),
        (Lie::Unsigned, "LOGIN-TOKEN: algorithm"),
        (Lie::PublicKeyAsSecret, "LOGIN-TOKEN: algorithm"),
        (Lie::SharedSecret, "LOGIN-TOKEN: algorithm"),
        (Lie::OtherKey, "LOGIN-TOKEN: signature"),
        (Lie::UnknownKey, "LOGIN-TOKEN: key"),
        (Lie::NoToken, "LOGIN-TOKEN: form"),
        (Lie::NoClaim, "LOGIN-NOT-ALLOWED"),
    ] {
        liar.secrets().lie = lie;
        let mut browser = Browser::new(&served);
        let (status, page) = browser.login(&liar);
        assert!(status == 403 && page.contains(expected), "{lie:?}: {status} {page}");
        assert!(!browser.cookies.contains_key("greffier"), "{lie:?}: {:?}", browser.cookies);
        assert_eq!(browser.get("/").0, 303, "{lie:?}");
    }
    // The same provider when it does not lie: it is not for something else that nobody got in.
    liar.secrets().lie = Lie::Nothing;
    let mut browser = Browser::new(&served);
    assert_eq!(browser.login(&liar).0, 200);
    assert_eq!(browser.get("/").0, 200);
}

#[test]
fn an_answer_serves_once_and_only_the_browser_that_asked() {
    let liar = Liar::start();
    let served = serve(&settings(&liar.issuer));
    wait_for(&served);
    let refused = |(status, page): (u16, String), code: &str| assert!((400..404).contains(&status) && page.contains(code), "{page}");
    // Login CSRF: an answer that somebody else got for himself.
    let (mut attacker, mut victim) = (Browser::new(&served), Browser::new(&served));
    let own = liar.consent(&attacker.begin("/login/start"));
    refused(victim.get(&own), "LOGIN-STATE");
    victim.begin("/login/start");
    refused(victim.get(&own), "LOGIN-STATE");
    assert!(!victim.cookies.contains_key("greffier"));
    // He can use it himself: once.
    let login = attacker.cookies.clone();
    assert_eq!(attacker.get(&own).0, 200);
    attacker.cookies = login;
    refused(attacker.get(&own), "LOGIN-STATE");

    let mut browser = Browser::new(&served);
    refused(browser.get("/login/callback?code=x&state=made-up"), "LOGIN-STATE");
    refused(browser.get("/login/callback"), "LOGIN-STATE");
    let state = |at: &url::Url| query(at)["state"].clone();
    let at = browser.begin("/login/start");
    let denied = browser.get(&format!("/login/callback?error=access_denied&error_description=%3Cb%3Eno&state={}", state(&at)));
    assert!(!denied.1.contains("<b>no"), "{}", denied.1);
    refused(denied, "LOGIN-DENIED");
    // RFC 9207: the answer of another provider.
    let at = browser.begin("/login/start");
    let back = liar.consent(&at).replace(&liar.issuer, "https://another.example");
    refused(browser.get(&back), "LOGIN-TOKEN: issuer");
    // A code that the provider does not know.
    let at = browser.begin("/login/start");
    refused(browser.get(&format!("/login/callback?code=made-up&state={}", state(&at))), "LOGIN-DENIED");

    // Only to a page of ours.
    for elsewhere in ["//evil.example", "https://evil.example", "/%5Cevil.example", "/%0D%0ASet-Cookie:x"] {
        let mut browser = Browser::new(&served);
        let back = liar.consent(&browser.begin(&format!("/login/start?to={elsewhere}")));
        assert_eq!(header(&browser.get(&back).1, "refresh"), "0; url=/", "{elsewhere}");
        let page = browser.get(&format!("/login?to={elsewhere}")).1;
        assert_eq!(header(&page, "location"), "/", "{elsewhere}");
    }
}

#[test]
fn new_keys_are_read_when_they_are_used_and_not_at_every_key_that_nobody_has() {
    let liar = Liar::start();
    let served = serve(&settings(&liar.issuer));
    wait_for(&served);
    assert_eq!(Browser::new(&served).login(&liar).0, 200);
    let before = liar.secrets().keys_read;
    {
        let mut secrets = liar.secrets();
        (secrets.key, secrets.id) = (new_key(), "second".into());
    }
    assert_eq!(Browser::new(&served).login(&liar).0, 200, "a key that came later");
    liar.secrets().lie = Lie::UnknownKey;
    // At most once a minute: more than one reading for each of these would take a machine that needs a minute for each.
    for _ in 0..9 {
        assert!(Browser::new(&served).login(&liar).1.contains("LOGIN-TOKEN: key"));
    }
    let read = liar.secrets().keys_read - before;
    assert!((1..9).contains(&read), "{read}");
}

#[test]
fn without_its_provider_the_console_serves_those_with_a_token_and_finds_it_later() {
    // A port that is taken and does not answer, until the provider listens there.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let served = serve(&settings(&format!("http://{address}/realm")));
    let deadline = Instant::now() + Duration::from_secs(300);
    let ready = loop {
        let (status, answer) = ask(&served, &format!("GET /readyz HTTP/1.1\nHost: HOST\nAuthorization: Bearer {TOKEN}"));
        if status == 200 {
            break answer;
        }
        assert!(Instant::now() < deadline, "not ready for want of a provider: {answer}");
        std::thread::sleep(Duration::from_millis(50));
    };
    assert!(ready.contains("\"ready\":true") && ready.contains("\"login\""), "{ready}");
    assert_eq!(ask(&served, &format!("GET / HTTP/1.1\nHost: HOST\nAuthorization: Bearer {TOKEN}")).0, 200);
    let (status, page) = Browser::new(&served).get("/login/start");
    assert!(status == 502 && page.contains("LOGIN-PROVIDER") && page.contains("fournisseur"), "{page}");
    assert!(!page.contains(&address), "where it is, is nothing for strangers");
    let liar = Liar::start_at(listener);
    wait_for(&served);
    assert_eq!(Browser::new(&served).login(&liar).0, 200);
}

#[test]
fn logins_that_nobody_ends_make_their_address_wait() {
    let liar = Liar::start();
    let served = serve(&settings(&liar.issuer));
    wait_for(&served);
    let mut browser = Browser::new(&served);
    let wait = crate::ops::refused(|| browser.get("/login/start"), 303);
    assert_eq!(wait, 6);
    // Pictures on another site's page use up nobody's attempts.
    let mut other = Browser::new(&served);
    let from = &other.address;
    for foreign in ["cross-site", "same-site"].repeat(15) {
        let sent =
            |path: &str| ask(&served, &format!("GET {path} HTTP/1.1\nHost: HOST\nSec-Fetch-Site: {foreign}\nX-Forwarded-For: {from}"));
        let (status, answer) = sent("/login/start?to=%2Fparked");
        assert!(status == 303 && header(&answer, "location") == "/login?to=%2Fparked", "{answer}");
        assert!(!answer.contains("set-cookie"), "{answer}");
        assert_eq!(sent("/login/callback?state=guessed").0, 400);
    }
    assert_eq!(other.login(&liar).0, 200);
    let mut third = Browser::new(&served);
    for _ in 0..30 {
        assert_eq!(third.login(&liar).0, 200, "who gets in pays nothing");
    }
}

// --------------------------------------------------------------------------------------------------------------- doctor

/// What `doctor` says of `[http.oidc]` at an issuer: whether all is well, and `NAME: DETAIL` of what holds and what does not.
fn looked_at(issuer: &str, more: &[(&str, &str)]) -> (Option<i32>, Vec<String>, Vec<String>) {
    let settings = [
        ("NO_PROXY", "127.0.0.1"),
        ("GREFFIER_HTTP__OIDC__ISSUER", issuer),
        ("GREFFIER_HTTP__OIDC__CLIENT_ID", "greffier"),
        ("GREFFIER_HTTP__OIDC__CLIENT_SECRET", "hunter2-hunter2"),
        ("GREFFIER_HTTP__OIDC__REDIRECT_URL", "https://greffier.example.fr/login/callback"),
        ("GREFFIER_HTTP__OIDC__ALLOWED", "[\"greffier-ops\"]"),
    ];
    let (exit, report) = doctor(&[settings.as_slice(), more].concat(), &[]);
    assert!(!report.to_string().contains("hunter2"), "{report}");
    let checks = report["checks"].as_array().unwrap().iter().filter(|c| c["name"].as_str().unwrap().starts_with("OpenID"));
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for check in checks {
        let told = format!("{}: {}", check["name"].as_str().unwrap(), check["detail"].as_str().unwrap());
        if check["ok"] == true { good.push(told) } else { bad.push(told) }
    }
    (exit, good, bad)
}

#[test]
#[ignore = "needs Python; run by scripts/test"]
fn doctor_says_that_a_good_provider_is_as_a_login_needs_it() {
    let provider = Provider::start();
    let (_, good, bad) = looked_at(&provider.issuer, &[]);
    assert_eq!(bad, Vec::<String>::new());
    let names: Vec<_> = good.iter().map(|told| told.split(':').next().unwrap()).collect();
    assert_eq!(names, ["OpenID settings", "OpenID provider", "OpenID endpoints", "OpenID PKCE", "OpenID algorithms", "OpenID keys"]);
    assert!(good[4].contains("RS256"), "{good:?}");
    let (_, report) = doctor(&[], &[]);
    assert!(!report.to_string().contains("OpenID"), "nothing is said of what is not configured: {report}");
}

#[test]
fn doctor_names_what_a_provider_lacks_line_by_line() {
    let liar = Liar::start();
    let settings = OidcConfig {
        issuer: liar.issuer.clone(),
        client_id: "greffier".into(),
        redirect_url: "https://greffier.example.fr/login/callback".into(),
        allowed: vec!["greffier-ops".into()],
        ..OidcConfig::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let look = || {
        let (good, bad): (Vec<_>, Vec<_>) = runtime.block_on(login_probes(&settings)).into_iter().partition(|probe| probe.ok);
        (good.len(), bad.into_iter().map(|probe| format!("{}: {}", probe.name, probe.detail)).collect::<Vec<_>>())
    };
    assert_eq!(look(), (6, Vec::new()));
    for (published, keys, expected) in [
        (json!({ "issuer": format!("{}/", liar.issuer) }), None, "OpenID provider: LOGIN-PROVIDER: it calls itself"),
        (json!({ "token_endpoint": null }), None, "OpenID endpoints: LOGIN-PROVIDER: token_endpoint not published"),
        (json!({ "token_endpoint": "http://192.0.2.1/token" }), None, "OpenID endpoints: LOGIN-PROVIDER: token_endpoint not https"),
        (
            json!({ "end_session_endpoint": "http://sso.example/" }),
            None,
            "OpenID endpoints: LOGIN-PROVIDER: end_session_endpoint not https",
        ),
        (json!({ "code_challenge_methods_supported": ["plain"] }), None, "OpenID PKCE: LOGIN-PROVIDER: S256 is not offered"),
        (
            json!({ "id_token_signing_alg_values_supported": ["HS256", "none"] }),
            None,
            "OpenID algorithms: LOGIN-PROVIDER: ID tokens are signed with [HS256, none]",
        ),
        (json!({ "jwks_uri": format!("{}/nothing", liar.issuer) }), None, "OpenID keys: LOGIN-PROVIDER: HTTP 404"),
        (json!({}), Some(json!({ "keys": [] })), "OpenID keys: LOGIN-PROVIDER: no public key that signs"),
        (json!({}), Some(json!("none")), "OpenID keys: LOGIN-PROVIDER: its answer cannot be read"),
    ] {
        let mut secrets = liar.secrets();
        (secrets.published, secrets.keys) = (published, keys);
        drop(secrets);
        let (good, bad) = look();
        assert!(good == 5 && bad.len() == 1 && bad[0].starts_with(expected), "{expected}: {bad:?}");
    }
    // Nobody there, and settings that are not whole.
    let (exit, _, bad) = looked_at("http://127.0.0.1:1", &[]);
    assert!(exit == Some(1) && bad.len() == 1 && bad[0].starts_with("OpenID provider: LOGIN-PROVIDER: "), "{bad:?}");
    let (exit, _, bad) = looked_at(&liar.issuer, &[("GREFFIER_HTTP__OIDC__ALLOWED", "[]")]);
    assert!(exit == Some(1) && bad.len() == 1 && bad[0].starts_with("OpenID settings: HTTP-OIDC: "), "{bad:?}");
}
