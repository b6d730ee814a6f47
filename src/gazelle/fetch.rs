//! Fetches reports: politely, within limits, through the guard, and without ever failing. What goes wrong is an
//! outcome.
//!
//! What is asked, for a link to result OID on host H:
//!
//! 1. `GET /evs/rest/validations/OID/report`, as an anonymous reader with the link's share key: that is what a
//!    verifier has. `200` is the report, `202` is pending, `401`/`403` is private.
//! 2. `404` says two things (unknown, or not ready), so `GET /evs/rest/validations/OID` is asked: `404` again
//!    is unknown, provided that the service itself is there (`GET /evs/rest/validations` answers `405`; a `404` there
//!    means that the server moved or is down, which is not the vendor's fault).
//! 3. With the report in hand, the record is asked too: it alone names the tested object.
//! 4. Only where an anonymous reader is refused and a credential for H is configured, the record is asked for with it, to
//!    tell whether the result exists; nothing else of that answer is kept ([`pin`](super::pin)). Before a result is called
//!    private, the service itself is asked as in 2: where it refuses everybody (a firewall, a closed service), that is not
//!    the vendor's fault either.
//!
//! Links to an EVS Client 5 are asked at its text endpoints first, then as above.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{self, HeaderMap};
use sha2::{Digest, Sha256};
use tokio::time::{Instant, timeout, timeout_at};
use url::Url;

use super::config::{Credential, GazelleConfig, GazellePolicy};
use super::guard::{Guard, Lookup, Refusal, SystemLookup};
use super::link::{self, Link, Recognised};
use super::pin::{self, CopyId, Owner, PinError, PinSource};
use super::polite::{self, Politeness};
use super::redact;
use super::report::{self, Unreadable, legacy};
use crate::model::gazelle::{
    Drift, Exchange, GazelleFacts, GazelleOutcome, LinkFacts, LinkKind, PIN_SCHEMA, Pin, PinnedBody, Purpose, ReplayReason, Replayed,
    Unreachable,
};
use crate::model::text::display_safe;

/// How we introduce ourselves.
const USER_AGENT: &str = concat!("greffier/", env!("CARGO_PKG_VERSION"));
const XML: &str = "application/xml";
const JSON: &str = "application/json";

/// Field of a [`Drift`] that tells that the server no longer gives what an earlier run could read: `pinned` is when that was.
pub(super) const AVAILABILITY: &str = "availability";

/// Why a client cannot be built: the settings, or the system's certificate store. A reason not to start.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// A setting.
    #[error("GAZELLE-SETTINGS: {0}")]
    Config(String),
    /// `extra_ca_file`.
    #[error("GAZELLE-CA: gazelle.extra_ca_file: {0}")]
    ExtraCa(String),
    /// The HTTP or TLS stack.
    #[error("GAZELLE-HTTPS: cannot set up HTTPS: {0}")]
    Http(String),
}

/// Fetches reports. Cheap to clone; clones share politeness towards each host.
#[derive(Debug, Clone)]
pub struct GazelleClient {
    config: Arc<GazelleConfig>,
    policy: Arc<GazellePolicy>,
    guard: Guard,
    /// Absent when offline.
    http: Option<reqwest::Client>,
    politeness: Arc<Politeness>,
}

impl GazelleClient {
    /// A client for the hosts of `policy`. Nothing is asked yet; offline, nothing ever is.
    ///
    /// # Errors
    /// Settings that cannot work, or no usable TLS.
    pub fn new(config: GazelleConfig, policy: GazellePolicy) -> Result<Self, ClientError> {
        Self::with_lookup(config, policy, Arc::new(SystemLookup))
    }

    /// The same with another resolver; for tests.
    ///
    /// # Errors
    /// As [`GazelleClient::new`].
    pub fn with_lookup(config: GazelleConfig, policy: GazellePolicy, lookup: Arc<dyn Lookup>) -> Result<Self, ClientError> {
        config.check().map_err(ClientError::Config)?;
        let (config, policy) = (Arc::new(config), Arc::new(policy));
        let guard = Guard::new(Arc::clone(&policy), Arc::clone(&config), lookup);
        let http = if config.offline { None } else { Some(http_client(&config, guard.clone())?) };
        let politeness = Arc::new(Politeness::new(&config));
        Ok(Self { config, policy, guard, http, politeness })
    }

    /// Looks at one link and fetches its report. Never fails: what goes wrong is an outcome.
    pub async fn fetch(&self, url: &str) -> GazelleFacts {
        match link::recognise(url, &self.policy, &self.config) {
            Recognised::Settled(link, outcome) => facts(link, outcome),
            Recognised::Report(link) => {
                let _turn = match (&self.http, &link.facts.host) {
                    (Some(_), Some(host)) => self.politeness.gate(host).turn().await,
                    _ => None,
                };
                let outcome = match timeout(self.config.link_timeout(), self.report(&link)).await {
                    Ok(outcome) => outcome,
                    Err(_) => unreachable(Unreachable::Timeout, format!("no end after {} ms", self.config.link_timeout_ms)),
                };
                tracing::debug!(gazelle.link = %link.facts.shown, gazelle.outcome = outcome_word(&outcome), "gazelle link asked");
                facts(link.facts, outcome)
            }
        }
    }

    /// The name of the copy that `owner` may have of what `url` leads to; `None` where it leads to no report.
    pub fn copy_id(&self, url: &str, owner: &Owner) -> Option<CopyId> {
        match link::recognise(url, &self.policy, &self.config) {
            Recognised::Report(link) => Some(link.copy_id(owner)),
            Recognised::Settled(..) => None,
        }
    }

    /// As [`GazelleClient::fetch`], beside the copy that `owner` has of it: see [`GazelleClient::beside_copy`].
    pub async fn fetch_or_replay(&self, url: &str, pins: &dyn PinSource, owner: &Owner) -> GazelleFacts {
        let now = self.fetch(url).await;
        self.beside_copy(url, now, pins, owner)
    }

    /// What is known of a link, from what the server said `now` and from the copy that `owner` has of the same result,
    /// opened with the same share keys. The copy stands in where the server gave no answer; where it gave the report, the
    /// facts say how the two differ; where it refused, they say that the report was readable before, and nothing of it.
    pub fn beside_copy(&self, url: &str, mut now: GazelleFacts, pins: &dyn PinSource, owner: &Owner) -> GazelleFacts {
        let Recognised::Report(link) = link::recognise(url, &self.policy, &self.config) else { return now };
        let found = match pins.find(&link.copy_id(owner)) {
            Ok(None) => return now,
            Ok(Some(pin)) if pin.link.id != link.facts.id || pin.needed_credential => Err(PinError::OtherLink),
            Ok(Some(pin)) => pin::report_of(&pin, self.config.max_body_bytes).map(|report| (pin, report)).map_err(PinError::from),
            Err(e) => Err(e),
        };
        let (pin, report) = match found {
            Ok(found) => found,
            // A damaged copy matters to the verdict where it is needed, and only there.
            Err(why) if matches!(now.outcome, GazelleOutcome::Offline) => {
                return facts(now.link, unreachable(Unreachable::PinDamaged, why.to_string()));
            }
            Err(why) => {
                tracing::warn!(gazelle.link = %now.link.shown, error = %why, "pinned copy of a gazelle report cannot be used");
                return now;
            }
        };
        let because = match &now.outcome {
            GazelleOutcome::Offline => ReplayReason::Offline,
            GazelleOutcome::Unreachable { reason, .. } if reason.is_outage() => ReplayReason::Unreachable,
            GazelleOutcome::Pending { .. } => ReplayReason::Pending,
            GazelleOutcome::Fetched { report: new, pin: new_pin } => {
                now.drift = pin::drift((&pin, &report), (new_pin, new));
                return now;
            }
            GazelleOutcome::Private { .. } | GazelleOutcome::Unknown => {
                let answer = outcome_word(&now.outcome).into();
                now.drift = vec![Drift { field: AVAILABILITY.into(), pinned: pin.fetched_at, now: answer }];
                return now;
            }
            _ => return now,
        };
        GazelleFacts {
            replayed: Some(Replayed { fetched_at: pin.fetched_at.clone(), because }),
            drift: Vec::new(),
            link: now.link,
            outcome: GazelleOutcome::Fetched { report: Box::new(report), pin: Box::new(pin) },
        }
    }

    /// Asks until the validation has ended or patience has.
    async fn report(&self, link: &Link) -> GazelleOutcome {
        if self.http.is_none() {
            return GazelleOutcome::Offline;
        }
        let mut polls = 0;
        loop {
            let outcome = self.round(link).await;
            if !matches!(outcome, GazelleOutcome::Pending { .. }) || polls >= self.config.pending_polls {
                return outcome;
            }
            polls += 1;
            tokio::time::sleep(Duration::from_millis(self.config.pending_wait_ms)).await;
        }
    }

    /// Asks once, anonymously. Where that is refused and there is a credential, only whether it opens the result is asked
    /// and kept: see [`pin`] for why nothing else is.
    async fn round(&self, link: &Link) -> GazelleOutcome {
        if link.is_legacy()
            && let Some(outcome) = self.legacy(link).await
        {
            return outcome;
        }
        let anonymous = self.modern(link).await;
        let GazelleOutcome::Private { status, .. } = anonymous else { return anonymous };
        let opens_with_credential = match link.facts.host.as_deref().and_then(|host| self.config.credential(host)) {
            None => false,
            Some(credential) => {
                let answer = self.ask(link.record_url(), Purpose::Record, XML, Some(credential), self.config.max_attempts).await;
                answer.is_ok_and(|answer| matches!(answer.status, 200 | 202) && web_page(&answer).is_none())
            }
        };
        let private = GazelleOutcome::Private { status, opens_with_credential };
        // A server that lets the credential in does not refuse everybody.
        if opens_with_credential { private } else { self.confirm_private(link, private).await }
    }

    /// A firewall that refuses this program, or a service closed to everybody, answers as a private result does. The
    /// service itself tells them apart: it answers `405` to whoever may talk to it.
    async fn confirm_private(&self, link: &Link, private: GazelleOutcome) -> GazelleOutcome {
        let refuses_all = match self.ask(link.service_url(), Purpose::Record, XML, None, 1).await {
            Ok(answer) => matches!(answer.status, 401 | 403) || matches!(web_page(&answer), Some(GazelleOutcome::Private { .. })),
            Err(failure) => failure.login.is_some(),
        };
        if refuses_all {
            unreachable(Unreachable::UnexpectedStatus, "the REST service refuses every anonymous request, not this result alone")
        } else {
            private
        }
    }

    /// EVS Client 6 and the validation gateway.
    async fn modern(&self, link: &Link) -> GazelleOutcome {
        let mut asked = Asked::default();
        let mut report = self.ask(link.report_url(), Purpose::Report, XML, None, self.config.max_attempts).await;
        if matches!(&report, Ok(answer) if answer.status == 406) {
            report = self.ask(link.report_url(), Purpose::Report, JSON, None, self.config.max_attempts).await;
        }
        let report = match report {
            Ok(report) => report,
            Err(failure) => return failure.outcome(),
        };
        match report.status {
            200 => {
                if let Some(outcome) = web_page(&report) {
                    return outcome;
                }
                if let Err(e) = asked.keep(report, self.config.max_body_bytes) {
                    return unreadable(&e);
                }
                // Best effort: the report stands without it.
                let attempts = self.config.max_attempts.min(2);
                if let Ok(record) = self.ask(link.record_url(), Purpose::Record, XML, None, attempts).await
                    && record.status == 200
                {
                    let _ = asked.keep(record, self.config.max_body_bytes);
                }
                asked.into_outcome(link, self.config.max_body_bytes)
            }
            202 => pending(&report),
            401 | 403 => private(report.status),
            404 | 410 => self.not_found(link).await,
            status => unexpected(status),
        }
    }

    /// The report was not found: is it unknown, not ready, or is the service gone?
    async fn not_found(&self, link: &Link) -> GazelleOutcome {
        let record = match self.ask(link.record_url(), Purpose::Record, XML, None, self.config.max_attempts).await {
            Ok(record) => record,
            Err(failure) => return failure.outcome(),
        };
        match record.status {
            202 => pending(&record),
            401 | 403 => private(record.status),
            200 => {
                if let Some(outcome) = web_page(&record) {
                    return outcome;
                }
                match report::read_record(&record.body) {
                    Ok(read) => match read.status.as_deref() {
                        Some(status) if pin::record_result(status).is_some() => {
                            let mut asked = Asked::default();
                            match asked.keep(record, self.config.max_body_bytes) {
                                Ok(()) => asked.into_outcome(link, self.config.max_body_bytes),
                                Err(e) => unreadable(&e),
                            }
                        }
                        status => GazelleOutcome::Pending { progress: status.unwrap_or("—").to_owned() },
                    },
                    Err(e) => unreadable(&e),
                }
            }
            404 | 410 => {
                // A portal's item id need not be known to the REST service: then only a person can open the link.
                if link.facts.kind == Some(LinkKind::PortalReport) {
                    return GazelleOutcome::ShapeOnly;
                }
                match self.ask(link.service_url(), Purpose::Record, XML, None, 1).await {
                    Ok(answer) if matches!(answer.status, 404 | 410) => unreachable(
                        Unreachable::UnexpectedStatus,
                        format!("the REST service itself answers {}: it moved or is stopped", answer.status),
                    ),
                    Ok(_) => GazelleOutcome::Unknown,
                    Err(failure) => failure.outcome(),
                }
            }
            status => unexpected(status),
        }
    }

    /// The text endpoints of EVS Client 5. `None` where they say nothing useful and the newer service is to be asked.
    async fn legacy(&self, link: &Link) -> Option<GazelleOutcome> {
        let mut asked = Asked::default();
        let status = match self
            .ask(link.legacy_url("GetValidationStatus"), Purpose::LegacyStatus, "text/plain, */*", None, self.config.max_attempts)
            .await
        {
            Ok(status) => status,
            Err(failure) => return Some(failure.outcome()),
        };
        if status.status != 200 {
            return None;
        }
        match legacy::status(&report::decode(&status.body))? {
            legacy::Status::Done(_) => {}
            legacy::Status::Pending => return Some(GazelleOutcome::Pending { progress: "NOT_PERFORMED".into() }),
            legacy::Status::Nothing => return None,
        }
        asked.keep(status, self.config.max_body_bytes).ok()?;
        if let Ok(date) = self.ask(link.legacy_url("GetValidationDate"), Purpose::LegacyDate, "text/plain, */*", None, 2).await
            && date.status == 200
        {
            let _ = asked.keep(date, self.config.max_body_bytes);
        }
        Some(asked.into_outcome(link, self.config.max_body_bytes))
    }

    /// One request, asked again where the server is overloaded or the connection breaks.
    async fn ask(
        &self,
        url: Url,
        purpose: Purpose,
        accept: &'static str,
        credential: Option<&Credential>,
        attempts: u32,
    ) -> Result<Answer, Failure> {
        let host = url.host_str().unwrap_or_default().to_owned();
        let mut attempt = 0;
        loop {
            attempt += 1;
            let failure = match self.once(&url, purpose, accept, credential).await {
                Ok(answer) if matches!(answer.status, 429 | 500 | 502 | 503 | 504) => Failure {
                    reason: if answer.status == 429 { Unreachable::RateLimited } else { Unreachable::ServerError },
                    detail: format!("status {} after {attempt} attempt(s)", answer.status),
                    retry_after: answer
                        .headers
                        .get(header::RETRY_AFTER)
                        .and_then(|v| v.to_str().ok())
                        .and_then(|v| polite::retry_after(v, jiff::Timestamp::now())),
                    again: true,
                    login: None,
                },
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let wait = failure.retry_after.unwrap_or_else(|| polite::backoff(&self.config, attempt));
            if failure.retry_after.is_some() || failure.reason == Unreachable::RateLimited {
                // What the server asks of one request it asks of all.
                self.politeness.gate(&host).hold(wait.min(Duration::from_millis(self.config.backoff_max_ms)));
            }
            if !failure.again || attempt >= attempts || wait > Duration::from_millis(self.config.backoff_max_ms) {
                return Err(failure);
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// One request, redirects followed by hand so that each target passes the guard.
    async fn once(&self, url: &Url, purpose: Purpose, accept: &'static str, credential: Option<&Credential>) -> Result<Answer, Failure> {
        let Some(http) = &self.http else { return Err(Failure::of(Unreachable::Connect, "offline")) };
        let mut at = url.clone();
        let mut redirects: Vec<String> = Vec::new();
        loop {
            self.guard.check_url(&at).map_err(|refusal| Failure::refused(&refusal, !redirects.is_empty()))?;
            let host = at.host_str().unwrap_or_default().to_owned();
            let _slot = self.politeness.gate(&host).enter().await;
            let mut request = http.get(at.clone()).header(header::ACCEPT, accept).header(header::ACCEPT_ENCODING, "identity");
            let mut request_headers = vec![
                ("accept".to_owned(), accept.to_owned()),
                ("accept-encoding".to_owned(), "identity".to_owned()),
                ("user-agent".to_owned(), USER_AGENT.to_owned()),
            ];
            // A credential goes to the host it is for, whatever redirects there were.
            if let Some(credential) = credential.filter(|c| c.host.eq_ignore_ascii_case(&host) && at.origin() == url.origin()) {
                let mut value = header::HeaderValue::from_str(&credential.header())
                    .map_err(|_| Failure::of(Unreachable::Connect, "the credential cannot be sent as a header"))?;
                value.set_sensitive(true);
                request = request.header(header::AUTHORIZATION, value);
                request_headers.push(("authorization".to_owned(), format!("{} ***", credential.scheme.as_str())));
            }
            let response = match timeout(self.config.header_timeout(), request.send()).await {
                Ok(Ok(response)) => response,
                Ok(Err(e)) => return Err(Failure::from_http(e, !redirects.is_empty())),
                Err(_) => {
                    let detail = format!("no answer within {} ms", self.config.header_timeout_ms);
                    return Err(Failure { again: true, ..Failure::of(Unreachable::Timeout, detail) });
                }
            };
            // The connection was made to a checked address; this is the belt to those braces.
            let peer = response.remote_addr();
            if let Some(peer) = peer {
                self.guard.check_address(&host, peer.ip()).map_err(|refusal| Failure::refused(&refusal, !redirects.is_empty()))?;
            }
            let status = response.status().as_u16();
            let location = response.headers().get(header::LOCATION).and_then(|v| v.to_str().ok()).map(str::to_owned);
            if let (301 | 302 | 303 | 307 | 308, Some(location)) = (status, location) {
                at = self.next_hop(&at, &location, status, &mut redirects)?;
                continue;
            }
            let headers = response.headers().clone();
            let received = self.read(response).await?;
            let (received_sha256, received_size) = (hex::encode(Sha256::digest(&received)), received.len() as u64);
            let body = decode_content(&headers, received, self.config.max_body_bytes)?;
            let exchange = Exchange {
                purpose,
                method: "GET".into(),
                url: redact(at.as_str()),
                request_headers,
                peer: peer.map(|p| p.ip().to_string()),
                redirects,
                status,
                response_headers: kept_headers(&headers),
                received_sha256,
                received_size,
                body_sha256: hex::encode(Sha256::digest(&body)),
                body_size: body.len() as u64,
                copy: None,
            };
            return Ok(Answer { status, headers, body, exchange });
        }
    }

    /// Where a redirect leads. The guard looks at it before it is asked, as at every hop.
    fn next_hop(&self, from: &Url, location: &str, status: u16, redirects: &mut Vec<String>) -> Result<Url, Failure> {
        let next = from.join(location).map_err(|e| Failure::of(Unreachable::RedirectRefused, format!("redirect to no address: {e}")))?;
        // A login page says that the result is private, wherever the login is.
        if is_login(&next) {
            return Err(Failure { login: Some(status), ..Failure::of(Unreachable::RedirectRefused, "redirect to a login page") });
        }
        redirects.push(redact(next.as_str()));
        if redirects.len() > self.config.max_redirects as usize {
            return Err(Failure::of(Unreachable::RedirectRefused, format!("more than {} redirects", self.config.max_redirects)));
        }
        Ok(next)
    }

    /// The body as received, within its cap and its time.
    async fn read(&self, mut response: reqwest::Response) -> Result<Vec<u8>, Failure> {
        let cap = self.config.max_body_bytes;
        let too_large = || Failure::of(Unreachable::TooLarge, format!("more than {cap} bytes"));
        if response.content_length().is_some_and(|n| n > cap) {
            return Err(too_large());
        }
        let deadline = Instant::now() + self.config.body_timeout();
        let mut received = Vec::new();
        loop {
            match timeout_at(deadline, response.chunk()).await {
                Ok(Ok(Some(chunk))) => {
                    if received.len() as u64 + chunk.len() as u64 > cap {
                        return Err(too_large());
                    }
                    received.extend_from_slice(&chunk);
                }
                Ok(Ok(None)) => return Ok(received),
                Ok(Err(e)) => {
                    let detail = format!("body ended after {} bytes: {}", received.len(), chain(&e.without_url()));
                    return Err(Failure { again: true, ..Failure::of(Unreachable::Truncated, detail) });
                }
                Err(_) => {
                    let detail = format!("body not complete within {} ms, {} bytes so far", self.config.body_timeout_ms, received.len());
                    return Err(Failure { again: false, ..Failure::of(Unreachable::Timeout, detail) });
                }
            }
        }
    }
}

fn http_client(config: &GazelleConfig, guard: Guard) -> Result<reqwest::Client, ClientError> {
    crate::tls::install_tls_provider();
    let mut builder = reqwest::Client::builder()
        .user_agent(USER_AGENT)
        // A proxy would resolve names itself, behind the guard's back.
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .http1_only()
        .http1_max_headers(100)
        .connect_timeout(config.connect_timeout())
        .pool_idle_timeout(Duration::from_secs(20))
        .pool_max_idle_per_host(config.max_concurrent_per_host.max(1) as usize)
        .dns_resolver(Arc::new(guard));
    if let Some(file) = &config.extra_ca_file {
        let authorities = crate::tls::authorities(file).map_err(ClientError::ExtraCa)?;
        builder = builder.tls_certs_merge(authorities);
    }
    builder.build().map_err(|e| ClientError::Http(chain(&e)))
}

/// A response, body decoded.
struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
    exchange: Exchange,
}

/// No useful response.
struct Failure {
    reason: Unreachable,
    detail: String,
    retry_after: Option<Duration>,
    /// Whether asking again may help.
    again: bool,
    /// A login page was met: status that led there.
    login: Option<u16>,
}

impl Failure {
    fn of(reason: Unreachable, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into(), retry_after: None, again: false, login: None }
    }

    fn refused(refusal: &Refusal, redirected: bool) -> Self {
        let reason = match refusal {
            _ if redirected => Unreachable::RedirectRefused,
            Refusal::NoAddress(_) => Unreachable::Dns,
            _ => Unreachable::AddressRefused,
        };
        Self::of(reason, refusal.to_string())
    }

    fn from_http(e: reqwest::Error, redirected: bool) -> Self {
        let e = e.without_url();
        if let Some(refusal) = find_in_chain::<Refusal>(&e) {
            return Self::refused(refusal, redirected);
        }
        let said = chain(&e);
        let reason = if find_in_chain::<rustls::Error>(&e).is_some() {
            Unreachable::Tls
        } else if e.is_timeout() {
            Unreachable::Timeout
        } else if said.contains("dns error") {
            Unreachable::Dns
        } else {
            Unreachable::Connect
        };
        Self { again: reason != Unreachable::Tls, ..Self::of(reason, said) }
    }

    fn outcome(self) -> GazelleOutcome {
        match self.login {
            Some(status) => private(status),
            None => GazelleOutcome::Unreachable {
                reason: self.reason,
                detail: display_safe(&self.detail, 300),
                retry_after_s: self.retry_after.map(|wait| wait.as_secs()),
            },
        }
    }
}

/// The first error of type `E` in the chain; what an [`std::io::Error`] wraps counts too.
fn find_in_chain<'e, E: std::error::Error + 'static>(e: &'e (dyn std::error::Error + 'static)) -> Option<&'e E> {
    let mut at = Some(e);
    for _ in 0..20 {
        let e = at?;
        if let Some(found) = e.downcast_ref::<E>() {
            return Some(found);
        }
        // `source()` of an io::Error skips the error it wraps.
        at = match e.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => e.source(),
        };
    }
    None
}

/// An error and what caused it, on one line.
fn chain(e: &dyn std::error::Error) -> String {
    let mut said = e.to_string();
    let mut cause = e.source();
    while let Some(inner) = cause {
        let _ = write!(said, ": {inner}");
        cause = inner.source();
    }
    said
}

/// Exchanges that make a report, and the copies kept of them.
#[derive(Default)]
struct Asked {
    exchanges: Vec<Exchange>,
    bodies: BTreeMap<String, PinnedBody>,
}

impl Asked {
    fn keep(&mut self, answer: Answer, max_bytes: u64) -> Result<(), Unreadable> {
        let mut exchange = answer.exchange;
        pin::keep(&mut exchange, &answer.body, max_bytes, &mut self.bodies)?;
        self.exchanges.push(exchange);
        Ok(())
    }

    fn into_outcome(self, link: &Link, max_bytes: u64) -> GazelleOutcome {
        match pin::assemble(&self.exchanges, &self.bodies, max_bytes) {
            Ok(report) => GazelleOutcome::Fetched {
                report: Box::new(report),
                pin: Box::new(Pin {
                    schema: PIN_SCHEMA.into(),
                    link: link.facts.clone(),
                    fetched_at: now(),
                    fetched_by: USER_AGENT.into(),
                    needed_credential: false,
                    exchanges: self.exchanges,
                    bodies: self.bodies,
                }),
            },
            Err(e) => unreadable(&e),
        }
    }
}

/// Now, in whole seconds.
fn now() -> String {
    let now = jiff::Timestamp::now();
    jiff::Timestamp::from_second(now.as_second()).unwrap_or(now).to_string()
}

fn facts(link: LinkFacts, outcome: GazelleOutcome) -> GazelleFacts {
    GazelleFacts { link, outcome, replayed: None, drift: Vec::new() }
}

fn unreachable(reason: Unreachable, detail: impl AsRef<str>) -> GazelleOutcome {
    GazelleOutcome::Unreachable { reason, detail: display_safe(detail.as_ref(), 300), retry_after_s: None }
}

fn unreadable(e: &Unreadable) -> GazelleOutcome {
    let reason = if matches!(e, Unreadable::TooLarge(_)) { Unreachable::TooLarge } else { Unreachable::Unreadable };
    unreachable(reason, e.to_string())
}

fn private(status: u16) -> GazelleOutcome {
    GazelleOutcome::Private { status, opens_with_credential: false }
}

fn unexpected(status: u16) -> GazelleOutcome {
    unreachable(Unreachable::UnexpectedStatus, format!("status {status}"))
}

fn pending(answer: &Answer) -> GazelleOutcome {
    let progress = answer.headers.get("x-progress").and_then(|v| v.to_str().ok()).unwrap_or("PENDING");
    GazelleOutcome::Pending { progress: display_safe(progress, 40) }
}

/// A web page where a report was asked for: a login page is a private result, any other is unreadable.
fn web_page(answer: &Answer) -> Option<GazelleOutcome> {
    let text = report::decode(&answer.body);
    if report::form(&text) != Err(Unreadable::Html) {
        return None;
    }
    // Every Gazelle page has a link to its login; only the login page has a password field.
    let page = text.to_ascii_lowercase();
    let login = ["type=\"password\"", "type='password'", "type=password"].iter().any(|field| page.contains(field));
    Some(if login { private(answer.status) } else { unreadable(&Unreadable::Html) })
}

/// Whether `url` is the login page of a single sign-on (CAS, Keycloak).
fn is_login(url: &Url) -> bool {
    let path = url.path().to_ascii_lowercase();
    url.scheme() == "https"
        && url.domain().is_some()
        && ["/cas/login", "/openid-connect/auth", "/login.seam", "/sso/login"].iter().any(|login| path.contains(login))
}

/// Undoes `Content-Encoding`. None was asked for; a server that sends one all the same is read under the cap.
fn decode_content(headers: &HeaderMap, received: Vec<u8>, cap: u64) -> Result<Vec<u8>, Failure> {
    let encoding = headers.get(header::CONTENT_ENCODING).and_then(|v| v.to_str().ok()).unwrap_or("").trim().to_ascii_lowercase();
    let mut inflated = Vec::new();
    let limit = cap.saturating_add(1);
    let read = match encoding.as_str() {
        "" | "identity" => return Ok(received),
        "gzip" | "x-gzip" => flate2::read::MultiGzDecoder::new(received.as_slice()).take(limit).read_to_end(&mut inflated),
        "deflate" => flate2::read::ZlibDecoder::new(received.as_slice()).take(limit).read_to_end(&mut inflated),
        other => return Err(Failure::of(Unreachable::Unreadable, format!("content encoding `{}`", display_safe(other, 40)))),
    };
    if inflated.len() as u64 > cap {
        return Err(Failure::of(Unreachable::TooLarge, format!("{} bytes inflate to more than {cap}", received.len())));
    }
    match read {
        Ok(_) => Ok(inflated),
        Err(e) => Err(Failure { again: true, ..Failure::of(Unreachable::Truncated, format!("{encoding} body: {e}")) }),
    }
}

/// Response headers that say something of the report. No cookies; URLs without share keys.
fn kept_headers(headers: &HeaderMap) -> Vec<(String, String)> {
    const KEPT: &[&str] = &[
        "content-type",
        "content-length",
        "content-encoding",
        "content-location",
        "content-disposition",
        "date",
        "etag",
        "last-modified",
        "location",
        "server",
        "via",
        "x-progress",
        "x-validation-report-redirect",
    ];
    KEPT.iter()
        .flat_map(|name| headers.get_all(*name).iter().map(move |value| (*name, value)))
        .filter_map(|(name, value)| {
            let value = value.to_str().ok()?;
            let url = matches!(name, "location" | "content-location" | "x-validation-report-redirect");
            Some((name.to_owned(), if url { redact(value) } else { display_safe(value, 200) }))
        })
        .collect()
}

/// The outcome in a word, for logs and drift: of a server that could not be asked, why.
pub(crate) fn outcome_word(outcome: &GazelleOutcome) -> &'static str {
    match outcome {
        GazelleOutcome::Unreachable { reason, .. } => reason.as_str(),
        other => other.word(),
    }
}
