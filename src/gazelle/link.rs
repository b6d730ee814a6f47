//! Links: which page they lead to, which REST calls answer for it, and how they may be shown.
//!
//! Goals:
//! 1. A vendor pastes what the browser shows: every permanent link that Gazelle ever gave is recognised, with
//!    its real-world blemishes (`/EVSClient//detailedResult.seam`, `?&oid=`, `&amp;`, `;jsessionid=`).
//! 2. The address given is never fetched as such. It is taken apart, and the calls are built anew from its
//!    host, its identifier and its share key: nothing else of it reaches the network.
//! 3. A share key opens a private report: it is carried over, and shown to nobody.

use sha2::{Digest, Sha256};
use url::Url;

use super::config::{GazelleConfig, GazellePolicy};
use super::pin::{CopyId, Owner};
use crate::model::gazelle::{GazelleOutcome, LinkFacts, LinkKind, NotAllowed};
use crate::model::text::display_safe;

/// Longest address that is looked at, bytes. Browsers and servers stop well before.
const MAX_URL_BYTES: usize = 4096;

/// Parameters whose values are known to be harmless; every other value is redacted.
const HARMLESS: &[&str] = &["oid", "id", "standard", "type", "cache", "toolOid", "externalId", "severityThreshold"];

/// A link that can be asked for.
#[derive(Clone, PartialEq)]
pub struct Link {
    /// What may be said of it.
    pub facts: LinkFacts,
    /// `https://host[:port]`.
    origin: Url,
    /// OID or portal item id.
    result_id: String,
    /// Share keys as given: name and value.
    share_keys: Vec<(&'static str, String)>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("facts", &self.facts).finish_non_exhaustive()
    }
}

/// What a link is: something to ask for, or an outcome already.
#[derive(Debug, Clone, PartialEq)]
pub enum Recognised {
    /// A report to fetch.
    Report(Link),
    /// Nothing to fetch: the outcome is known from the address alone.
    Settled(LinkFacts, GazelleOutcome),
}

/// Tells what `given` leads to, without any network.
pub fn recognise(given: &str, policy: &GazellePolicy, config: &GazelleConfig) -> Recognised {
    let mut facts = LinkFacts { shown: redact(given), ..LinkFacts::default() };
    facts.id = identity(&["given", &facts.shown]);
    let cleaned = clean(given);
    if cleaned.len() > MAX_URL_BYTES {
        return Recognised::Settled(facts, GazelleOutcome::NotALink { why: format!("more than {MAX_URL_BYTES} bytes") });
    }
    let mut url = match Url::parse(&cleaned) {
        Ok(url) => url,
        Err(e) => return Recognised::Settled(facts, GazelleOutcome::NotALink { why: e.to_string() }),
    };
    if !matches!(url.scheme(), "http" | "https") {
        let scheme = display_safe(url.scheme(), 20);
        return Recognised::Settled(facts, GazelleOutcome::NotAllowed { why: NotAllowed::Scheme(scheme) });
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Recognised::Settled(facts, GazelleOutcome::NotAllowed { why: NotAllowed::Credentials });
    }
    let Some(host) = url.host_str().map(|h| h.strip_suffix('.').unwrap_or(h).to_ascii_lowercase()) else {
        return Recognised::Settled(facts, GazelleOutcome::NotALink { why: "no host".into() });
    };
    facts.host = Some(host.clone());
    facts.port = url.port();
    let given_port = url.port_or_known_default().unwrap_or(443);
    let loopback = config.permits_loopback(&host, given_port);
    if url.scheme() == "http" && !loopback {
        // Never asked in clear: the same address over TLS, on the default port, is what was meant.
        facts.upgraded_from_http = true;
        if url.set_scheme("https").is_err() {
            return Recognised::Settled(facts, GazelleOutcome::NotALink { why: "no secure address".into() });
        }
    }
    let port = url.port_or_known_default().unwrap_or(443);
    if !policy.hosts.iter().any(|rule| rule.host.eq_ignore_ascii_case(&host)) {
        return Recognised::Settled(facts, GazelleOutcome::NotAllowed { why: NotAllowed::Host(display_safe(&host, 120)) });
    }
    let Some(rule) = policy.host(&host, port) else {
        return Recognised::Settled(facts, GazelleOutcome::NotAllowed { why: NotAllowed::Port(port) });
    };
    // A trailing dot names the same host to DNS and another one to TLS and virtual hosting.
    if url.set_host(Some(&host)).is_err() {
        return Recognised::Settled(facts, GazelleOutcome::NotALink { why: "no usable host".into() });
    }

    let page = match page(&url, rule.portal_path.as_deref().unwrap_or("/validation-portal")) {
        Ok(page) => page,
        Err(why) => return Recognised::Settled(facts, GazelleOutcome::NotRecognised { why: why.into() }),
    };
    facts.kind = Some(page.kind);
    facts.result_id = page.result_id.as_deref().map(|id| display_safe(id, 200));
    let Some(result_id) = page.result_id else {
        return Recognised::Settled(facts, GazelleOutcome::NotAProof);
    };
    let family = if page.kind.is_report() { "validation" } else { page.kind.as_str() };
    facts.id = identity(&[&host, &port.to_string(), family, &result_id]);
    if page.kind.is_shape_only() {
        return Recognised::Settled(facts, GazelleOutcome::ShapeOnly);
    }
    let mut share_keys = Vec::new();
    for (name, value) in query(&url) {
        for known in ["readAccessKey", "privacyKey"] {
            if name.eq_ignore_ascii_case(known) && !value.is_empty() && !share_keys.iter().any(|(n, _)| *n == known) {
                share_keys.push((known, value.clone()));
            }
        }
    }
    facts.has_share_key = !share_keys.is_empty();
    url.set_path("/");
    url.set_query(None);
    url.set_fragment(None);
    Recognised::Report(Link { facts, origin: url, result_id, share_keys })
}

impl Link {
    /// The copy that `owner` may have of this result, opened with the share keys of this very link.
    pub fn copy_id(&self, owner: &Owner) -> CopyId {
        let mut keys: Vec<(&str, &str)> = self.share_keys.iter().map(|(name, value)| (*name, value.as_str())).collect();
        keys.sort_unstable();
        CopyId::of(owner, &self.facts.id, &keys)
    }

    /// `GET …/evs/rest/validations/{id}/report`. Never with `severityThreshold`, which hides constraints.
    pub fn report_url(&self) -> Url {
        self.build(&["evs", "rest", "validations", &self.result_id, "report"], None)
    }
    /// `GET …/evs/rest/validations/{id}`.
    pub fn record_url(&self) -> Url {
        self.build(&["evs", "rest", "validations", &self.result_id], None)
    }
    /// `GET …/evs/rest/validations`: answers 405 where the service is there.
    pub fn service_url(&self) -> Url {
        let mut url = self.origin.clone();
        url.set_path("/evs/rest/validations");
        url
    }
    /// `GET …/EVSClient/rest/GetValidationStatus?oid=…` (or `/evs/rest/…`).
    pub fn legacy_url(&self, call: &str) -> Url {
        let root = if self.facts.kind == Some(LinkKind::LegacyResult) { "EVSClient" } else { "evs" };
        self.build(&[root, "rest", call], Some(&self.result_id))
    }
    /// Whether the text endpoints of an old server are asked first.
    pub fn is_legacy(&self) -> bool {
        self.facts.kind == Some(LinkKind::LegacyResult)
    }

    fn build(&self, segments: &[&str], oid: Option<&str>) -> Url {
        let mut url = self.origin.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.clear().extend(segments);
        }
        if oid.is_some() || !self.share_keys.is_empty() {
            let mut query = url.query_pairs_mut();
            if let Some(oid) = oid {
                query.append_pair("oid", oid);
            }
            for (name, value) in &self.share_keys {
                query.append_pair(name, value);
            }
        }
        url
    }
}

struct Page {
    kind: LinkKind,
    /// Absent for pages that hold no result.
    result_id: Option<String>,
}

/// The page that `url` leads to. `Err` says in a few words what is not as expected.
fn page(url: &Url, portal_path: &str) -> Result<Page, &'static str> {
    // Empty segments are dropped (`/EVSClient//detailedResult.seam` is real), as are `;jsessionid=…` tails.
    let segments: Vec<&str> =
        url.path_segments().into_iter().flatten().map(|s| s.split(';').next().unwrap_or_default()).filter(|s| !s.is_empty()).collect();
    let portal: Vec<&str> = portal_path.split('/').filter(|s| !s.is_empty()).collect();
    let param = |name: &str| query(url).into_iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.trim().to_owned());
    let oid = || match param("oid") {
        Some(oid) if is_oid(&oid) => Ok(Some(oid)),
        Some(_) => Err("the oid is not an object identifier"),
        None => Err("no oid"),
    };
    let number = || match param("id") {
        Some(id) if !id.is_empty() && id.len() <= 18 && id.bytes().all(|b| b.is_ascii_digit()) => Ok(Some(id)),
        Some(_) => Err("the id is not a number"),
        None => Err("no id"),
    };
    let report = |kind, id: Result<Option<String>, &'static str>| id.map(|result_id| Page { kind, result_id });
    let nothing = |kind| Ok(Page { kind, result_id: None });

    if let Some(rest) = segments.strip_prefix(portal.as_slice())
        && let ["reports", item] = rest
    {
        return match is_item_id(item) {
            true => Ok(Page { kind: LinkKind::PortalReport, result_id: Some((*item).to_owned()) }),
            false => Err("the report id has unexpected characters"),
        };
    }
    match segments.as_slice() {
        [] | ["evs" | "EVSClient" | "gazelle" | "PatientManager"] => nothing(LinkKind::HomePage),
        ["evs" | "EVSClient", "home.seam" | "index.seam" | "index.html" | "index.jsp"] => nothing(LinkKind::HomePage),
        ["evs", "report.seam"] => report(LinkKind::EvsReport, oid()),
        ["evs", "rest", "validations", id] | ["evs", "rest", "validations", id, "report"] => match is_oid(id) {
            true => Ok(Page { kind: LinkKind::RestValidation, result_id: Some((*id).to_owned()) }),
            false => Err("the oid is not an object identifier"),
        },
        ["evs" | "EVSClient", "rest", call] if call.starts_with("GetValidation") => report(
            match segments.first() {
                Some(&"EVSClient") => LinkKind::LegacyResult,
                _ => LinkKind::LegacyRest,
            },
            oid(),
        ),
        ["evs" | "EVSClient", "administration", ..] => nothing(LinkKind::AdministrationPage),
        ["evs" | "EVSClient", .., page] if page.to_ascii_lowercase().contains("validator") && page.ends_with(".seam") => {
            nothing(LinkKind::ValidatorForm)
        }
        ["EVSClient", .., page] if page.to_ascii_lowercase().ends_with("result.seam") => report(LinkKind::LegacyResult, oid()),
        [.., page] if ["testinstance.seam", "mesatestinstance.seam"].contains(&page.to_ascii_lowercase().as_str()) => {
            report(LinkKind::TestInstance, number())
        }
        ["PatientManager", "messages", "messageDisplay.seam"] => report(LinkKind::PatientManagerMessage, number()),
        [.., page] if page.eq_ignore_ascii_case("home.seam") => nothing(LinkKind::HomePage),
        _ => Err("unknown page"),
    }
}

/// The query as name–value pairs; `&amp;` copied out of HTML is undone.
fn query(url: &Url) -> Vec<(String, String)> {
    url.query_pairs()
        .map(|(name, value)| {
            let name = name.trim();
            (name.strip_prefix("amp;").unwrap_or(name).to_owned(), value.into_owned())
        })
        .collect()
}

/// Whether `text` is an object identifier in dotted form (ITU-T X.660), of sensible length.
pub fn is_oid(text: &str) -> bool {
    if text.len() > 200 {
        return false;
    }
    let mut arcs = text.split('.');
    let arc = |a: &str| !a.is_empty() && a.bytes().all(|b| b.is_ascii_digit()) && (a == "0" || !a.starts_with('0'));
    matches!(arcs.next(), Some("0" | "1" | "2")) && text.contains('.') && arcs.all(arc)
}

/// Whether `text` may be a portal item id: a UUID, an OID, a number, a slug.
fn is_item_id(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && !text.bytes().all(|b| b == b'.')
}

fn identity(parts: &[&str]) -> String {
    hex::encode(Sha256::digest(parts.join("\n").as_bytes()))
}

/// Undoes what copying does to an address: spaces (no-break ones too), zero-width characters, `<…>`, quotes.
fn clean(given: &str) -> String {
    given
        .trim_matches(|c: char| c.is_whitespace() || matches!(c, '<' | '>' | '"' | '\'' | '«' | '»' | '\u{200B}'..='\u{200D}' | '\u{FEFF}'))
        .to_owned()
}

/// `url` as it may be logged and shown: user names, passwords, path parameters, fragments and every query value
/// that is not known to be harmless become `***`. Works on anything, even what is no address.
///
/// ```
/// let shown = greffier::gazelle::redact("https://h/evs/report.seam?oid=1.2.3&privacyKey=k3y");
/// assert_eq!(shown, "https://h/evs/report.seam?oid=1.2.3&privacyKey=***");
/// ```
pub fn redact(url: &str) -> String {
    let url = url.trim();
    let (url, fragment) = url.split_once('#').map_or((url, false), |(head, _)| (head, true));
    let (head, query) = url.split_once('?').map_or((url, None), |(head, query)| (head, Some(query)));
    let mut shown = String::with_capacity(url.len());
    // Authority: what stands before the last `@` of it is a credential.
    let is_scheme = |at: &usize| head.bytes().take(*at).all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
    let path_from = match head.find("://").filter(is_scheme) {
        Some(scheme_end) => {
            let authority_at = scheme_end + 3;
            let authority_end =
                head.get(authority_at..).and_then(|rest| rest.find(['/', '\\'])).map_or(head.len(), |slash| authority_at + slash);
            let authority = head.get(authority_at..authority_end).unwrap_or_default();
            shown.push_str(head.get(..authority_at).unwrap_or_default());
            let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
            if host.len() < authority.len() {
                shown.push_str("***@");
            }
            // `https://host&privacyKey=…`: what no host holds is not shown.
            let end = host.find(['&', '=', ';', ',']).unwrap_or(host.len());
            shown.push_str(host.get(..end).unwrap_or_default());
            if end < host.len() {
                shown.push_str("***");
            }
            authority_end
        }
        None => 0,
    };
    // Path: `;jsessionid=…` opens a session. Without a scheme, `key=value` may stand anywhere.
    for (i, segment) in head.get(path_from..).unwrap_or_default().split('/').enumerate() {
        if i > 0 {
            shown.push('/');
        }
        let (name, tail) = segment.split_once(';').map_or((segment, false), |(name, _)| (name, true));
        match name.split_once('=') {
            Some((key, _)) => {
                shown.push_str(key);
                shown.push_str("=***");
            }
            None => shown.push_str(name),
        }
        if tail {
            shown.push_str(";***");
        }
    }
    if let Some(query) = query {
        shown.push('?');
        for (i, pair) in query.split('&').enumerate() {
            if i > 0 {
                shown.push('&');
            }
            match pair.split_once('=') {
                Some((name, value)) => {
                    shown.push_str(name);
                    shown.push('=');
                    let harmless = HARMLESS.contains(&name.strip_prefix("amp;").unwrap_or(name))
                        && value.len() <= 200
                        && value.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
                    shown.push_str(if harmless || value.is_empty() { value } else { "***" });
                }
                // A bare word is a name or a value: a short name is harmless, anything long may be a key.
                None if pair.len() <= 8 => shown.push_str(pair),
                None => shown.push_str("***"),
            }
        }
    }
    if fragment {
        shown.push_str("#***");
    }
    display_safe(&shown, 500)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gazelle::config::{HostRole, HostRule};
    use proptest::prelude::*;

    const OID: &str = "1.3.6.1.4.1.12559.11.36.4.17466";

    fn policy() -> GazellePolicy {
        let rule = |host: &str, role| HostRule { host: host.into(), port: None, role, portal_path: None };
        GazellePolicy {
            hosts: vec![
                rule("interop.referencement.esante.gouv.fr", HostRole::Referencement),
                rule("interop.esante.gouv.fr", HostRole::EarlyTesting),
                HostRule { port: Some(8443), portal_path: Some("/p/v".into()), ..rule("gateway.example", HostRole::Other) },
            ],
            oid_arcs: vec!["1.3.6.1.4.1.12559.11.36".into()],
        }
    }

    fn see(url: &str) -> Recognised {
        recognise(url, &policy(), &GazelleConfig::default())
    }

    fn link(url: &str) -> Link {
        match see(url) {
            Recognised::Report(link) => link,
            other => panic!("{url}: {other:?}"),
        }
    }

    #[test]
    fn every_kind_of_permanent_link_is_recognised() {
        let h = "https://interop.referencement.esante.gouv.fr";
        for (url, kind) in [
            (format!("{h}/evs/report.seam?oid={OID}"), LinkKind::EvsReport),
            (format!("{h}/evs/report.seam?oid={OID}&privacyKey=K&standard=31"), LinkKind::EvsReport),
            (format!("{h}/evs/report.seam;jsessionid=ABC?oid={OID}&amp;privacyKey=K"), LinkKind::EvsReport),
            (format!("{h}/evs/rest/validations/{OID}"), LinkKind::RestValidation),
            (format!("{h}/evs/rest/validations/{OID}/report?readAccessKey=K"), LinkKind::RestValidation),
            (format!("{h}/validation-portal/reports/8c7e-11?readAccessKey=K"), LinkKind::PortalReport),
            (format!("{h}/EVSClient//detailedResult.seam?type=ATNA&oid={OID}"), LinkKind::LegacyResult),
            (format!("{h}/EVSClient/hl7v2Result.seam?&oid={OID}"), LinkKind::LegacyResult),
            (format!("{h}/EVSClient/rest/GetValidationStatus?oid={OID}"), LinkKind::LegacyResult),
            (format!("{h}/evs/rest/GetValidationStatus?oid={OID}"), LinkKind::LegacyRest),
            ("https://gateway.example:8443/p/v/reports/42".to_owned(), LinkKind::PortalReport),
            (format!("  <{h}/evs/report.seam?oid={OID}>\u{a0}"), LinkKind::EvsReport),
        ] {
            assert_eq!(link(&url).facts.kind, Some(kind), "{url}");
        }
    }

    #[test]
    fn pages_without_public_service_are_checked_for_shape_only() {
        let h = "https://interop.referencement.esante.gouv.fr";
        for (path, kind) in [
            ("/gazelle/testInstance.seam?id=12", LinkKind::TestInstance),
            ("/gazelle/testing/test/test/TestInstance.seam?id=12", LinkKind::TestInstance),
            ("/gazelle/testing/test/mesa/mesaTestInstance.seam?id=12", LinkKind::TestInstance),
            ("/PatientManager/messages/messageDisplay.seam?id=95830", LinkKind::PatientManagerMessage),
        ] {
            match see(&format!("{h}{path}")) {
                Recognised::Settled(facts, GazelleOutcome::ShapeOnly) => assert_eq!(facts.kind, Some(kind), "{path}"),
                other => panic!("{path}: {other:?}"),
            }
        }
        assert!(matches!(
            see(&format!("{h}/gazelle/testInstance.seam?id=12x")),
            Recognised::Settled(_, GazelleOutcome::NotRecognised { .. })
        ));
    }

    #[test]
    fn pages_that_hold_no_result_are_told_apart() {
        let h = "https://interop.referencement.esante.gouv.fr";
        for (path, kind) in [
            ("/evs/fhir/validator.seam?standard=37", LinkKind::ValidatorForm),
            ("/evs/hl7v2/validator.seam?standard=45", LinkKind::ValidatorForm),
            ("/evs/home.seam", LinkKind::HomePage),
            ("/", LinkKind::HomePage),
            ("/evs/administration/apiKeyManagement.seam", LinkKind::AdministrationPage),
        ] {
            match see(&format!("{h}{path}")) {
                Recognised::Settled(facts, GazelleOutcome::NotAProof) => assert_eq!(facts.kind, Some(kind), "{path}"),
                other => panic!("{path}: {other:?}"),
            }
        }
    }

    #[test]
    fn addresses_that_must_not_be_asked_are_refused_before_any_network() {
        let refused = |url: &str| match see(url) {
            Recognised::Settled(_, GazelleOutcome::NotAllowed { why }) => why,
            other => panic!("{url}: {other:?}"),
        };
        assert!(matches!(refused("ftp://interop.esante.gouv.fr/x"), NotAllowed::Scheme(_)));
        assert!(matches!(refused("file:///etc/passwd"), NotAllowed::Scheme(_)));
        assert!(matches!(refused("https://interop.esante.gouv.fr@evil.example/evs/report.seam?oid=1.2"), NotAllowed::Credentials));
        assert!(matches!(refused("https://interop.esante.gouv.fr.evil.example/evs/report.seam?oid=1.2"), NotAllowed::Host(_)));
        assert!(matches!(refused("https://interop.esante.gouv.fr:8443/evs/report.seam?oid=1.2"), NotAllowed::Port(8443)));
        for host in ["127.0.0.1", "2130706433", "0x7f.1", "[::1]", "[::ffff:169.254.169.254]", "localhost", "169.254.169.254", "0177.0.0.1"]
        {
            assert!(matches!(refused(&format!("https://{host}/evs/report.seam?oid=1.2")), NotAllowed::Host(_)), "{host}");
        }
        assert!(matches!(see("hello"), Recognised::Settled(_, GazelleOutcome::NotALink { .. })));
    }

    #[test]
    fn the_calls_are_built_anew_and_carry_the_share_key() {
        let link = link(&format!("http://INTEROP.esante.gouv.fr./evs/report.seam?oid={OID}&privacyKey=a%26b&x=y#z"));
        assert!(link.facts.upgraded_from_http && link.facts.has_share_key);
        assert_eq!(
            link.report_url().as_str(),
            format!("https://interop.esante.gouv.fr/evs/rest/validations/{OID}/report?privacyKey=a%26b")
        );
        assert_eq!(link.record_url().as_str(), format!("https://interop.esante.gouv.fr/evs/rest/validations/{OID}?privacyKey=a%26b"));
        assert!(!format!("{link:?}").contains("a%26b") && !format!("{link:?}").contains("a&b"));
    }

    #[test]
    fn a_severity_threshold_is_not_carried_over() {
        let link = link(&format!("https://interop.esante.gouv.fr/evs/rest/validations/{OID}/report?severityThreshold=ERROR"));
        assert!(link.report_url().query().is_none());
    }

    #[test]
    fn the_identity_ignores_share_keys_and_spelling() {
        let a = link(&format!("https://interop.esante.gouv.fr/evs/report.seam?oid={OID}&privacyKey=one"));
        let b = link(&format!("https://interop.esante.gouv.fr/evs/rest/validations/{OID}/report?privacyKey=two"));
        assert_eq!(a.facts.id, b.facts.id);
    }

    #[test]
    fn secrets_are_redacted_wherever_they_hide() {
        for (url, shown) in [
            ("https://h/evs/report.seam?oid=1.2&privacyKey=SECRET", "https://h/evs/report.seam?oid=1.2&privacyKey=***"),
            ("https://h/p/reports/1?READACCESSKEY=SECRET", "https://h/p/reports/1?READACCESSKEY=***"),
            ("https://u:SECRET@h/x", "https://***@h/x"),
            ("https://h/x;jsessionid=SECRET?oid=1.2", "https://h/x;***?oid=1.2"),
            ("https://h/x?oid=1.2#privacyKey=SECRET", "https://h/x?oid=1.2#***"),
            ("https://h/x?SECRETSECRET", "https://h/x?***"),
            ("https://h/x?oid=SECRET%20SECRET", "https://h/x?oid=***"),
            ("privacyKey=SECRET", "privacyKey=***"),
            ("https://h&privacyKey=SECRET", "https://h***"),
            ("privacyKey=SECRET://h", "privacyKey=***//h"),
            ("h/x?amp;oid=1.2&amp;privacyKey=SECRET", "h/x?amp;oid=1.2&amp;privacyKey=***"),
        ] {
            assert_eq!(redact(url), shown);
        }
    }

    #[test]
    fn object_identifiers_follow_their_grammar() {
        assert!(is_oid(OID) && is_oid("2.16.840.1.113883.2.8.3.1.7") && is_oid("0.0"));
        for bad in ["", "1", "3.1", "1.", "1..2", "1.02", "1.2.a", "1.2/../3", " 1.2"] {
            assert!(!is_oid(bad), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_share_key_is_never_shown(key in "[A-Za-z0-9]{9,40}", junk in "\\PC{0,40}") {
            let url = format!("https://interop.esante.gouv.fr/evs/report.seam?oid={OID}&privacyKey={key}&{junk}");
            let seen = see(&url);
            let told = format!("{seen:?}");
            prop_assert!(!told.contains(&key), "{}", told);
        }

        #[test]
        fn any_text_is_recognised_or_refused_without_panic(text in "\\PC{0,200}") {
            let _ = see(&text);
            let _ = see(&format!("https://interop.esante.gouv.fr/{text}"));
        }
    }
}
