//! Login through an OpenID provider: Authorization Code with PKCE (OpenID Connect Core 1.0 §3.1, RFC 7636, RFC 9207).
//!
//! 1. **Who is told nothing new.** State, nonce and code verifier are kept here, once, for ten minutes, and belong to the one
//!    browser that holds the cookie they were given with: an answer from elsewhere, or a second time, finds nothing.
//! 2. **The ID token is believed for its signature**, by a key that the issuer publishes and an algorithm of public keys; then
//!    issuer, audience, time and nonce must be those of this login, and the configured claim must let in.
//! 3. **The provider is not ours.** It is looked for in the background: without it the console runs on, for those with a token.

use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::str::FromStr as _;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use openidconnect::core::{
    CoreAuthenticationFlow, CoreClient, CoreClientAuthMethod, CoreIdToken, CoreJsonWebKey, CoreJsonWebKeySet, CoreJsonWebKeyType,
    CoreJwsSigningAlgorithm as Algorithm,
};
use openidconnect::{
    AsyncHttpClient, AuthType, AuthorizationCode, ClaimsVerificationError as Claims, ClientId, ClientSecret, CsrfToken, EndpointMaybeSet,
    EndpointNotSet, EndpointSet, HttpRequest, HttpResponse, IssuerUrl, JsonWebKey as _, JsonWebKeyUse, LogoutRequest, Nonce,
    PkceCodeChallenge, PkceCodeVerifier, PostLogoutRedirectUrl, ProviderMetadataWithLogout, RedirectUrl, RequestTokenError, Scope,
    SignatureVerificationError as Signature, TokenResponse as _,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::Url;

use super::config::{CheckedOidc, HttpError, OidcConfig, is_private};
use super::guard::network;
use super::health::{Condition, Health};
use super::secret;
use crate::model::probe::Probe;
use crate::model::text::{chain, display_safe};

/// How long somebody may take to log in at the provider.
pub(super) const PATIENCE: Duration = Duration::from_secs(600);
/// Logins under way at once; beyond, the oldest of the address that has most is forgotten.
const MAX_FLOWS: usize = 1_024;
/// How far the provider's clock may be from ours.
const SKEW: Duration = Duration::from_secs(60);
/// Largest answer of the provider that is read, bytes.
const MAX_ANSWER: usize = 1024 * 1024;
/// Largest ID token kept until logout, bytes: browsers and servers take no longer address.
const MAX_HINT: usize = 6 * 1024;
/// How soon a provider that was not found is looked for again.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// How often what the provider publishes is read again.
const REFRESH: Duration = Duration::from_secs(3600);
/// A key that is not known has the keys read again, but no sooner than this after the last time.
const KEYS_AGAIN: Duration = Duration::from_secs(60);

/// Public keys only: with a shared secret, everybody who can check a token can make one.
const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RsaSsaPkcs1V15Sha256,
    Algorithm::RsaSsaPkcs1V15Sha384,
    Algorithm::RsaSsaPkcs1V15Sha512,
    Algorithm::RsaSsaPssSha256,
    Algorithm::RsaSsaPssSha384,
    Algorithm::RsaSsaPssSha512,
    Algorithm::EcdsaP256Sha256,
    Algorithm::EcdsaP384Sha384,
    Algorithm::EdDsa,
];

/// Why somebody was not let in.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoginError {
    /// An answer that nobody here asked for, or that was used, or that is late.
    #[error("LOGIN-STATE: no login that began in this browser waits for this answer")]
    State,
    /// The provider, or the person, said no.
    #[error("LOGIN-DENIED: the provider answered: {0}")]
    Denied(String),
    /// The provider cannot be asked, or its answers cannot be used.
    #[error("LOGIN-PROVIDER: {0}")]
    Provider(String),
    /// The ID token cannot be believed.
    #[error("LOGIN-TOKEN: {check}: {why}")]
    Token {
        /// Which check failed; one word.
        check: &'static str,
        /// Why.
        why: String,
    },
    /// Known to the provider, and not among those who may enter.
    #[error("LOGIN-NOT-ALLOWED: the claim `{0}` has none of the values that let in")]
    NotAllowed(String),
    /// This machine failed.
    #[error("LOGIN-PROVIDER: no random numbers")]
    Random(#[from] std::io::Error),
}

impl LoginError {
    fn token(check: &'static str, why: &str) -> Self {
        Self::Token { check, why: display_safe(why, 300) }
    }
}

impl From<Claims> for LoginError {
    fn from(e: Claims) -> Self {
        let check = match &e {
            Claims::Expired(_) => "time",
            Claims::InvalidAudience(_) => "audience",
            Claims::InvalidIssuer(_) => "issuer",
            Claims::InvalidNonce(_) => "nonce",
            Claims::SignatureVerification(Signature::NoMatchingKey) => "key",
            Claims::SignatureVerification(Signature::DisallowedAlg(_) | Signature::UnsupportedAlg(_) | Signature::NoSignature) => {
                "algorithm"
            }
            Claims::SignatureVerification(_) => "signature",
            _ => "form",
        };
        Self::token(check, &chain(&e))
    }
}

/// Who somebody is, as the provider says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Person {
    /// `sub`: never another person's at this provider. What the log says.
    pub(super) subject: String,
    /// What the page says.
    pub(super) name: String,
}

/// What the provider's redirection brings (RFC 6749 §4.1.2, RFC 9207).
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Answer {
    state: String,
    code: Option<String>,
    error: Option<String>,
    error_description: Option<String>,
    iss: Option<String>,
}

/// Somebody who may enter.
pub(super) struct Arrival {
    pub(super) person: Person,
    /// Names the session to the provider when it is to end; absent where it would be too long.
    pub(super) id_token: Option<String>,
    /// Page of ours that was wanted.
    pub(super) to: String,
}

/// A login that began and has not come back.
struct Flow {
    browser: String,
    nonce: Nonce,
    verifier: PkceCodeVerifier,
    to: String,
    /// Network of the client that began it.
    address: IpAddr,
    began: Instant,
}

/// Leaves room for one more login below `most`: the oldest of the address that has most of them goes first, so that one client
/// that begins many ends its own.
fn forget_flows(flows: &mut HashMap<String, Flow>, most: usize) {
    while flows.len() >= most {
        let mut addresses: HashMap<IpAddr, (usize, Instant, &String)> = HashMap::new();
        for (state, flow) in flows.iter() {
            let (count, began, oldest) = addresses.entry(flow.address).or_insert((0, flow.began, state));
            *count += 1;
            if flow.began < *began {
                (*began, *oldest) = (flow.began, state);
            }
        }
        let first = addresses.into_values().max_by_key(|(count, began, _)| (*count, std::cmp::Reverse(*began)));
        let Some(state) = first.map(|(.., state)| state.clone()) else { break };
        flows.remove(&state);
    }
}

type Client = CoreClient<EndpointSet, EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointMaybeSet, EndpointMaybeSet>;

/// What the provider publishes of itself.
struct Found {
    client: Client,
    end_session: Option<openidconnect::EndSessionUrl>,
}

/// Why the provider could not be asked.
#[derive(Debug, thiserror::Error)]
enum Unanswered {
    #[error("{0} is not https")]
    Open(Url),
    #[error("its answer has more than {MAX_ANSWER} bytes")]
    TooLarge,
    #[error(transparent)]
    Http(#[from] reqwest::Error),
}

/// How the provider is asked.
struct Http(reqwest::Client);

impl Http {
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, Unanswered> {
        let request = reqwest::Request::try_from(request)?;
        if !is_private(request.url()) {
            return Err(Unanswered::Open(request.url().clone()));
        }
        let mut answer = self.0.execute(request).await?;
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await? {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(Unanswered::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        let mut response = HttpResponse::new(body);
        *response.status_mut() = answer.status();
        *response.headers_mut() = answer.headers().clone();
        Ok(response)
    }
}

impl<'c> AsyncHttpClient<'c> for Http {
    type Error = Unanswered;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, Unanswered>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(self.send(request))
    }
}

/// One provider, and the logins under way there.
pub(super) struct Provider {
    settings: CheckedOidc,
    http: Http,
    found: RwLock<Option<Arc<Found>>>,
    keys_read: tokio::sync::Mutex<Option<Instant>>,
    flows: Mutex<HashMap<String, Flow>>,
}

impl Provider {
    /// Asks nobody yet: see [`Provider::follow`].
    pub(super) fn new(settings: CheckedOidc) -> Result<Self, HttpError> {
        crate::tls::install_tls_provider();
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("greffier/", env!("CARGO_PKG_VERSION")))
            // No provider redirects these, and a redirection would take the secret elsewhere.
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .connect_timeout(Duration::from_secs(5))
            .timeout(Duration::from_secs(10));
        if let Some(file) = &settings.config.extra_ca_file {
            let authorities = crate::tls::authorities(file).map_err(|e| HttpError::Oidc(format!("http.oidc.extra_ca_file: {e}")))?;
            builder = builder.tls_certs_merge(authorities);
        }
        let http = Http(builder.build().map_err(|e| HttpError::Oidc(chain(&e)))?);
        Ok(Self { settings, http, found: RwLock::default(), keys_read: tokio::sync::Mutex::default(), flows: Mutex::default() })
    }

    /// What the login page calls it.
    pub(super) fn name(&self) -> &str {
        &self.settings.config.name
    }

    /// Finds the provider and keeps what it publishes fresh; tells health. Ends when dropped.
    pub(super) async fn follow(self: Arc<Self>, health: Health) {
        loop {
            let found = self.discover().await;
            let pause = if found.is_ok() { REFRESH } else { LOOK_AGAIN };
            health.set(Condition::Login, found.map(drop).map_err(|e| e.to_string()));
            tokio::time::sleep(pause).await;
        }
    }

    fn found(&self) -> Result<Arc<Found>, LoginError> {
        let found = self.found.read().unwrap_or_else(PoisonError::into_inner).clone();
        found.ok_or_else(|| LoginError::Provider("the provider has not been found yet".into()))
    }

    /// Reads a JSON document of the provider. What is said of a failure names no address: the path or query of one may be a
    /// secret that somebody put there.
    async fn read<T: DeserializeOwned>(&self, address: &str) -> Result<T, String> {
        let request = axum::http::Request::builder().uri(address).header("accept", "application/json").body(Vec::new());
        let answer = match self.http.send(request.map_err(|e| e.to_string())?).await {
            Ok(answer) => answer,
            Err(Unanswered::Http(e)) => return Err(display_safe(&chain(&e.without_url()), 300)),
            Err(e @ Unanswered::TooLarge) => return Err(e.to_string()),
            Err(Unanswered::Open(_)) => return Err("not asked, since it is not https".into()),
        };
        if !answer.status().is_success() {
            return Err(format!("HTTP {}", answer.status().as_u16()));
        }
        serde_json::from_slice(answer.body()).map_err(|e| format!("its answer cannot be read ({})", display_safe(&e.to_string(), 200)))
    }

    /// Reads what the provider publishes: where it is asked, and its keys.
    async fn discover(&self) -> Result<Arc<Found>, LoginError> {
        let config = &self.settings.config;
        let unusable = |why: String| LoginError::Provider(display_safe(&why, 300));
        let issuer = IssuerUrl::new(config.issuer.clone()).map_err(|e| unusable(e.to_string()))?;
        let metadata = ProviderMetadataWithLogout::discover_async(issuer, &self.http).await.map_err(|e| unusable(chain(&e)))?;
        let end_session = metadata.additional_metadata().end_session_endpoint.clone();
        // Where we ask ourselves is looked at in `Http::send`.
        let browsers = [Some(metadata.authorization_endpoint().url()), end_session.as_ref().map(|end| end.url())];
        if let Some(open) = browsers.into_iter().flatten().find(|url| !is_private(url)) {
            return Err(unusable(Unanswered::Open(open.clone()).to_string()));
        }
        // Basic where nothing is said (OpenID Connect Discovery 1.0 §3).
        let in_body = metadata.token_endpoint_auth_methods_supported().is_some_and(|methods| {
            !methods.contains(&CoreClientAuthMethod::ClientSecretBasic) && methods.contains(&CoreClientAuthMethod::ClientSecretPost)
        });
        let secret = self.settings.secret.clone().map(ClientSecret::new);
        let client = CoreClient::from_provider_metadata(metadata, ClientId::new(config.client_id.clone()), secret)
            .set_redirect_uri(RedirectUrl::from_url(self.settings.redirect.clone()))
            .set_auth_type(if in_body { AuthType::RequestBody } else { AuthType::BasicAuth });
        let found = Arc::new(Found { client, end_session });
        *self.found.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&found));
        Ok(found)
    }

    /// The provider has keys that we do not know: newer ones, unless they were read just now.
    async fn newer(&self, known: &Arc<Found>) -> Option<Arc<Found>> {
        let mut read = self.keys_read.lock().await;
        let found = self.found().ok()?;
        if !Arc::ptr_eq(&found, known) {
            return Some(found);
        }
        if read.is_some_and(|at| at.elapsed() < KEYS_AGAIN) {
            return None;
        }
        *read = Some(Instant::now());
        match self.discover().await {
            Ok(found) => Some(found),
            Err(error) => {
                tracing::warn!(%error, "the keys of the OpenID provider could not be read again");
                None
            }
        }
    }

    /// Where the browser is to be sent, and what it has to keep until it comes back; `to`: the page wanted then.
    pub(super) fn begin(&self, to: &str, address: IpAddr) -> Result<(Url, String), LoginError> {
        let found = self.found()?;
        let browser = secret()?;
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let (url, state, nonce) = found
            .client
            .authorize_url(CoreAuthenticationFlow::AuthorizationCode, CsrfToken::new_random, Nonce::new_random)
            .add_scopes(self.settings.config.scopes.iter().cloned().map(Scope::new))
            .set_pkce_challenge(challenge)
            .url();
        let mut flows = self.flows.lock().unwrap_or_else(PoisonError::into_inner);
        flows.retain(|_, flow| flow.began.elapsed() < PATIENCE);
        let address = network(address);
        forget_flows(&mut flows, MAX_FLOWS);
        let flow = Flow { browser: browser.clone(), nonce, verifier, to: to.to_owned(), address, began: Instant::now() };
        flows.insert(state.secret().clone(), flow);
        Ok((url, browser))
    }

    /// Takes the login that this answer belongs to: once, and only from the browser that began it.
    fn take(&self, state: &str, browser: Option<&str>) -> Result<Flow, LoginError> {
        let mut flows = self.flows.lock().unwrap_or_else(PoisonError::into_inner);
        let flow = flows.get(state).ok_or(LoginError::State)?;
        if browser != Some(flow.browser.as_str()) || flow.began.elapsed() >= PATIENCE {
            return Err(LoginError::State);
        }
        flows.remove(state).ok_or(LoginError::State)
    }

    /// Makes of the provider's answer somebody who may enter.
    pub(super) async fn finish(&self, answer: Answer, browser: Option<&str>) -> Result<Arrival, LoginError> {
        let flow = self.take(&answer.state, browser)?;
        if answer.iss.is_some_and(|iss| iss != self.settings.config.issuer) {
            return Err(LoginError::token("issuer", "the answer is of another provider"));
        }
        if let Some(error) = answer.error {
            let said = format!("{error} {}", answer.error_description.unwrap_or_default());
            return Err(LoginError::Denied(display_safe(said.trim_end(), 300)));
        }
        let code = answer.code.ok_or_else(|| LoginError::Denied("neither a code nor an error".into()))?;
        let found = self.found()?;
        let request = found.client.exchange_code(AuthorizationCode::new(code)).map_err(|e| LoginError::Provider(e.to_string()))?;
        let answered = request.set_pkce_verifier(flow.verifier).request_async(&self.http).await;
        let answered = answered.map_err(|e| match e {
            RequestTokenError::ServerResponse(said) => LoginError::Denied(display_safe(&said.to_string(), 300)),
            RequestTokenError::Request(e) => LoginError::Provider(display_safe(&chain(&e), 300)),
            // Without its cause, which quotes what it could not read: a token, perhaps.
            RequestTokenError::Parse(e, _) => LoginError::token("form", &format!("`{}` of the answer cannot be read", e.path())),
            RequestTokenError::Other(why) => LoginError::Provider(display_safe(&why, 300)),
        })?;
        let id_token = answered.id_token().ok_or_else(|| LoginError::token("form", "the answer has no ID token"))?;
        let claims = match self.verify(&found, id_token, &flow.nonce) {
            Err(LoginError::Token { check: "key", why }) => match self.newer(&found).await {
                Some(newer) => self.verify(&newer, id_token, &flow.nonce),
                None => Err(LoginError::Token { check: "key", why }),
            },
            verified => verified,
        }?;
        let config = &self.settings.config;
        if !lets_in(&claims, &config.claim, &config.allowed) {
            return Err(LoginError::NotAllowed(config.claim.clone()));
        }
        let said = |name: &str| claims.get(name).and_then(Value::as_str).map(|text| display_safe(text, 100));
        let subject = said("sub").unwrap_or_default();
        let name = ["preferred_username", "email", "name"].into_iter().find_map(said).unwrap_or_else(|| subject.clone());
        let id_token = Some(id_token.to_string()).filter(|token| token.len() <= MAX_HINT);
        Ok(Arrival { person: Person { subject, name }, id_token, to: flow.to })
    }

    /// The claims of an ID token that was signed by this issuer, for us, now, for this login (OpenID Connect Core 1.0 §3.1.3.7).
    fn verify(&self, found: &Found, token: &CoreIdToken, nonce: &Nonce) -> Result<Value, LoginError> {
        let now = SystemTime::now();
        let (past, future) = (now.checked_sub(SKEW).unwrap_or(now), now.checked_add(SKEW).unwrap_or(now));
        let verifier =
            found.client.id_token_verifier().set_allowed_algs(ALGORITHMS).set_time_fn(move || past.into()).set_issue_time_verifier_fn(
                move |issued| if SystemTime::from(issued) > future { Err("issued later than now".into()) } else { Ok(()) },
            );
        token.claims(&verifier, nonce)?;
        // What was signed, as it stands: the claim that lets in may be one that no specification knows.
        let raw = token.to_string();
        let payload = raw.split('.').nth(1).and_then(|payload| URL_SAFE_NO_PAD.decode(payload).ok());
        let claims: Option<Value> = payload.and_then(|payload| serde_json::from_slice(&payload).ok());
        let claims = claims.ok_or_else(|| LoginError::token("form", "the claims cannot be read"))?;
        if claims.get("azp").is_some_and(|party| party.as_str() != Some(self.settings.config.client_id.as_str())) {
            return Err(LoginError::token("audience", "azp is another client"));
        }
        let future = future.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        if claims.get("nbf").is_some_and(|since| since.as_f64().is_none_or(|since| since > future)) {
            return Err(LoginError::token("time", "not valid yet (nbf)"));
        }
        Ok(claims)
    }

    /// Where a browser ends its session with the provider too (OpenID Connect RP-Initiated Logout 1.0), where it can.
    pub(super) fn logout(&self, id_token: Option<&str>) -> Option<Url> {
        let end = self.found().ok()?.end_session.clone()?;
        let back = self.settings.redirect.join("/login").ok()?;
        let request = LogoutRequest::from(end)
            .set_client_id(ClientId::new(self.settings.config.client_id.clone()))
            .set_post_logout_redirect_uri(PostLogoutRedirectUrl::from_url(back));
        let request = match id_token.and_then(|token| CoreIdToken::from_str(token).ok()) {
            Some(hint) => request.set_id_token_hint(&hint),
            None => request,
        };
        Some(request.http_get_url())
    }
}

/// What of a discovery document is held against what a login needs (OpenID Connect Discovery 1.0 §3, RFC 8414 §2). As loose
/// as it can be: what is missing or odd is said, not refused as unreadable.
#[derive(Deserialize)]
struct Published {
    issuer: String,
    authorization_endpoint: Option<String>,
    token_endpoint: Option<String>,
    jwks_uri: Option<String>,
    end_session_endpoint: Option<String>,
    id_token_signing_alg_values_supported: Option<Vec<String>>,
    code_challenge_methods_supported: Option<Vec<String>>,
}

/// Whether the provider of `[http.oidc]` is as a login needs it, line by line; nothing where there is none. Our secret is read
/// and sent nowhere; the provider is waited for as long as at a login.
pub async fn probe(config: &OidcConfig) -> Vec<Probe> {
    let settings = "OpenID settings";
    let provider = match config.resolve().and_then(|checked| checked.map(Provider::new).transpose()) {
        Ok(None) => return Vec::new(),
        Ok(Some(provider)) => provider,
        Err(e) => return vec![Probe::failed(settings, e.to_string())],
    };
    let mut probes = vec![Probe::passed(settings, "complete")];
    let name = "OpenID provider";
    // Letter for letter the address that a login asks (`IssuerUrl::join`).
    let between = if config.issuer.ends_with('/') { "" } else { "/" };
    let published: Published = match provider.read(&format!("{}{between}.well-known/openid-configuration", config.issuer)).await {
        Ok(published) => published,
        Err(why) => {
            let advice = "correct http.oidc.issuer, start the provider, or name its authority in http.oidc.extra_ca_file";
            probes.push(unfit(name, &why, advice));
            return probes;
        }
    };
    probes.push(if published.issuer == config.issuer {
        Probe::passed(name, "found, under the name of http.oidc.issuer")
    } else {
        let why = format!("it calls itself {}", display_safe(&published.issuer, 200));
        unfit(name, &why, "http.oidc.issuer must be the same, letter for letter")
    });
    probes.push(endpoints(&published));
    probes.push(challenge(published.code_challenge_methods_supported.as_deref()));
    probes.push(algorithms(published.id_token_signing_alg_values_supported.as_deref()));
    if let Some(address) = &published.jwks_uri {
        probes.push(keys(provider.read(address).await));
    }
    probes
}

fn unfit(name: &str, why: &str, advice: &str) -> Probe {
    Probe::failed(name, format!("LOGIN-PROVIDER: {why}: {advice}"))
}

fn endpoints(published: &Published) -> Probe {
    let name = "OpenID endpoints";
    let needed = [
        ("authorization_endpoint", &published.authorization_endpoint),
        ("token_endpoint", &published.token_endpoint),
        ("jwks_uri", &published.jwks_uri),
    ];
    let missing: Vec<_> = needed.iter().filter(|(_, address)| address.is_none()).map(|(key, _)| *key).collect();
    if !missing.is_empty() {
        return unfit(name, &format!("{} not published", missing.join(", ")), "use a provider that offers the code flow");
    }
    let given = needed.into_iter().chain([("end_session_endpoint", &published.end_session_endpoint)]);
    let open: Vec<_> = given
        .filter_map(|(key, address)| Some((key, address.as_deref()?)))
        .filter(|(_, address)| !Url::parse(address).is_ok_and(|url| is_private(&url)))
        .map(|(key, _)| key)
        .collect();
    if open.is_empty() {
        return Probe::passed(name, "all over https, or on this machine");
    }
    unfit(name, &format!("{} not https", open.join(", ")), "set the provider's own address (behind a proxy, its public one)")
}

/// PKCE with S256 (RFC 7636 §4.2), which every login of ours asks for.
fn challenge(methods: Option<&[String]>) -> Probe {
    let name = "OpenID PKCE";
    match methods {
        // Providers that take S256 are known not to say so (Entra ID): silence is not held against them.
        None => Probe::passed(name, "the provider does not say whether it takes S256 (code_challenge_methods_supported)"),
        Some(methods) if methods.iter().any(|method| method == "S256") => Probe::passed(name, "S256 is offered"),
        Some(_) => unfit(name, "S256 is not offered", "switch PKCE with S256 on for this client"),
    }
}

fn algorithms(offered: Option<&[String]>) -> Probe {
    let name = "OpenID algorithms";
    let ours = |word: &&String| serde_json::from_value::<Algorithm>((*word).clone().into()).is_ok_and(|a| ALGORITHMS.contains(&a));
    let offered = offered.unwrap_or_default();
    // A set: a provider may say the same as often as it likes.
    let taken: std::collections::BTreeSet<_> = offered.iter().filter(ours).map(String::as_str).collect();
    if taken.is_empty() {
        let said = display_safe(&offered.join(", "), 200);
        return unfit(
            name,
            &format!("ID tokens are signed with [{said}], none of which is taken"),
            "have them signed with RS256, PS256, ES256 or EdDSA",
        );
    }
    Probe::passed(name, format!("ID tokens may be signed with {}", taken.into_iter().collect::<Vec<_>>().join(", ")))
}

/// Keys that are published, and may have signed an ID token.
fn keys(read: Result<CoreJsonWebKeySet, String>) -> Probe {
    let name = "OpenID keys";
    let advice = "look at what jwks_uri of the provider answers";
    match read {
        Err(why) => unfit(name, &why, advice),
        Ok(set) => {
            let signs = |key: &&CoreJsonWebKey| {
                let public = matches!(
                    key.key_type(),
                    CoreJsonWebKeyType::RSA | CoreJsonWebKeyType::EllipticCurve | CoreJsonWebKeyType::OctetKeyPair
                );
                public && key.key_use().is_none_or(JsonWebKeyUse::allows_signature)
            };
            match set.keys().iter().filter(signs).count() {
                0 => unfit(name, "no public key that signs", advice),
                n => Probe::passed(name, format!("{n} that may sign")),
            }
        }
    }
}

/// Whether the claim has one of the values: a string, or one in a list.
fn lets_in(claims: &Value, claim: &str, allowed: &[String]) -> bool {
    // An address that nobody verified is whatever somebody typed.
    if claim == "email" && claims.get("email_verified") != Some(&Value::Bool(true)) {
        return false;
    }
    let found = if claim.starts_with('/') { claims.pointer(claim) } else { claims.get(claim) };
    let is_one = |value: &Value| value.as_str().is_some_and(|value| allowed.iter().any(|one| one == value));
    match found {
        Some(Value::Array(values)) => values.iter().any(is_one),
        Some(value) => is_one(value),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_client_that_begins_many_logins_has_its_own_forgotten() {
        let mut flows = HashMap::new();
        let now = Instant::now();
        let mut begin = |n: u64, address: &str| {
            forget_flows(&mut flows, 8);
            let flow = Flow {
                browser: String::new(),
                nonce: Nonce::new(String::new()),
                verifier: PkceCodeVerifier::new("x".repeat(43)),
                to: String::new(),
                address: network(address.parse().unwrap()),
                began: now + Duration::from_secs(n),
            };
            flows.insert(n.to_string(), flow);
        };
        begin(0, "192.0.2.1");
        (1..100).for_each(|n| begin(n, &format!("2001:db8::{n}")));
        let mut left: Vec<u64> = flows.keys().map(|n| n.parse().unwrap()).collect();
        left.sort_unstable();
        assert_eq!(left, [0, 93, 94, 95, 96, 97, 98, 99], "the other client's login goes on, and the newest of this one");
    }

    #[test]
    fn the_claim_lets_in_by_one_of_its_values_and_an_address_only_verified() {
        let allowed = ["ops".to_owned(), "a@example.fr".to_owned()];
        for (claims, claim, expected) in [
            (json!({ "groups": ["x", "ops"] }), "groups", true),
            (json!({ "groups": "ops" }), "groups", true),
            (json!({ "groups": "ops x" }), "groups", false),
            (json!({ "groups": ["opsx"] }), "groups", false),
            (json!({ "groups": { "ops": true } }), "groups", false),
            (json!({ "groups": [["ops"]] }), "groups", false),
            (json!({}), "groups", false),
            (json!({ "realm_access": { "roles": ["ops"] } }), "/realm_access/roles", true),
            (json!({ "https://example.fr/roles": ["ops"] }), "https://example.fr/roles", true),
            (json!({ "email": "a@example.fr", "email_verified": true }), "email", true),
            (json!({ "email": "a@example.fr", "email_verified": "true" }), "email", false),
            (json!({ "email": "a@example.fr" }), "email", false),
        ] {
            assert_eq!(lets_in(&claims, claim, &allowed), expected, "{claims} {claim}");
        }
    }
}
