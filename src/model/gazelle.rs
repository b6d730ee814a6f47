//! Gazelle: what a link is, what came back, and the one model that every report generation is read into.
//!
//! Goals:
//! 1. *One model.* GVR (v1, XML and JSON), the gateway's v2, Maestro test reports and the plain-text answers of
//!    old servers all become a [`GazelleReport`]; rules never see which one it was.
//! 2. *Declared and computed stay apart.* A report's own result and counters are claims; what follows from
//!    the constraints it lists is computed beside them, so that a contradiction can be shown.
//! 3. *Nothing of the tested document.* It may hold health data. Its name, size and digest are kept, never
//!    its content, nor the values that constraints quote from it.
//! 4. *Outcomes are facts.* A private, unknown or unreachable report is a description, not an error.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The schema of `pin.json`.
pub const PIN_SCHEMA: &str = "greffier/gazelle-pin/1";

// ---------------------------------------------------------------------------------------------------------
// Policy: what a pipeline says of Gazelle. No secret, no network setting.

/// Which Gazelle servers a démarche accepts, and what it expects of their identifiers. Part of a pipeline.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GazellePolicy {
    /// The allow-list: a link to any other host is refused before a name is resolved.
    pub hosts: Vec<HostRule>,
    /// Arcs under which result identifiers are expected (`1.3.6.1.4.1.12559.11.36`). Empty: any.
    pub oid_arcs: Vec<String>,
}

/// One server of the allow-list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HostRule {
    /// Host name, exactly; no wildcard.
    pub host: String,
    /// Port, where it is not 443.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// What the server is for.
    pub role: HostRole,
    /// Path under which the new portal shows reports (`/validation-portal`, its default).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub portal_path: Option<String>,
}

/// What a Gazelle server is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum HostRole {
    /// The environment whose reports count for the référencement.
    Referencement,
    /// Free testing ahead of the phase: shows reports, does not count.
    EarlyTesting,
    /// Known, allowed, and neither of the two.
    Other,
}

impl GazellePolicy {
    /// The rule for `host:port`. Names compare without case, port 443 is the default.
    pub fn host(&self, host: &str, port: u16) -> Option<&HostRule> {
        self.hosts.iter().find(|rule| rule.host.eq_ignore_ascii_case(host) && rule.port.unwrap_or(443) == port)
    }

    /// The hosts whose reports count, for people: `interopsegur.esante.gouv.fr, …`.
    pub fn referencement_hosts(&self) -> String {
        let hosts: Vec<_> = self.hosts.iter().filter(|h| h.role == HostRole::Referencement).map(|h| h.host.as_str()).collect();
        hosts.join(", ")
    }
}

/// What a requirement expects of the report filed under it. Every list is an alternative; an empty list
/// expects nothing. Patterns compare without case, with whitespace folded; `*` stands for anything.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Expectation {
    /// Validation service (`Schematron Based CDA Validator`).
    pub services: Vec<String>,
    /// Validator or profile, by name or OID.
    pub validators: Vec<String>,
    /// File name of the tested object.
    pub object_names: Vec<String>,
}

// ---------------------------------------------------------------------------------------------------------
// The link.

/// What a link turned out to be, share keys removed.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LinkFacts {
    /// The link as it may be shown and logged: values of parameters that are not known to be harmless are `***`.
    pub shown: String,
    /// Stable identity without share key (hex SHA-256 of host, kind and identifier): names its pin.
    pub id: String,
    /// What kind of page it leads to; absent where that is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<LinkKind>,
    /// Host, lower case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Port, where it is not the scheme's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// OID or portal item id of the result, or the number of the test instance or message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result_id: Option<String>,
    /// Whether the link carries a share key.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub has_share_key: bool,
    /// Whether the link said `http:`; it was asked over `https:` all the same.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub upgraded_from_http: bool,
}

/// The kinds of page a Gazelle link can lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LinkKind {
    /// `/evs/report.seam?oid=…`: EVS Client 6.
    EvsReport,
    /// `/evs/rest/validations/OID[/report]`.
    RestValidation,
    /// `/validation-portal/reports/ITEM`: the new portal.
    PortalReport,
    /// `/EVSClient/…Result.seam?oid=…`: EVS Client 5.
    LegacyResult,
    /// `/evs/rest/GetValidation…?oid=…`: the text endpoints.
    LegacyRest,
    /// A test instance of Gazelle Test Management; needs a login, has no public service behind it.
    TestInstance,
    /// A message of Patient Manager; likewise.
    PatientManagerMessage,
    /// A form where a validation is started: no result.
    ValidatorForm,
    /// The tool's home page: no result.
    HomePage,
    /// Administration pages: no result.
    AdministrationPage,
}

impl LinkKind {
    /// Whether there is a service behind it from which a report can be fetched.
    pub const fn is_report(self) -> bool {
        matches!(self, Self::EvsReport | Self::RestValidation | Self::PortalReport | Self::LegacyResult | Self::LegacyRest)
    }
    /// Whether it can only be checked for its shape.
    pub const fn is_shape_only(self) -> bool {
        matches!(self, Self::TestInstance | Self::PatientManagerMessage)
    }
    /// The word used in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EvsReport => "evs-report",
            Self::RestValidation => "rest-validation",
            Self::PortalReport => "portal-report",
            Self::LegacyResult => "legacy-result",
            Self::LegacyRest => "legacy-rest",
            Self::TestInstance => "test-instance",
            Self::PatientManagerMessage => "patient-manager-message",
            Self::ValidatorForm => "validator-form",
            Self::HomePage => "home-page",
            Self::AdministrationPage => "administration-page",
        }
    }
}

// ---------------------------------------------------------------------------------------------------------
// What came back.

/// Everything known of one link after it was looked at, fetched or replayed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GazelleFacts {
    /// The link.
    pub link: LinkFacts,
    /// What came of it.
    pub outcome: GazelleOutcome,
    /// Set where the report comes from a pinned copy and not from the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replayed: Option<Replayed>,
    /// How the server's answer differs from an earlier pinned copy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drift: Vec<Drift>,
}

/// What came of a link.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum GazelleOutcome {
    /// A report was read.
    Fetched {
        /// The report.
        report: Box<GazelleReport>,
        /// The copy that is kept.
        pin: Box<Pin>,
    },
    /// Not an address at all.
    NotALink {
        /// Why, in a few words.
        why: String,
    },
    /// An address that must not be asked.
    NotAllowed {
        /// Why.
        why: NotAllowed,
    },
    /// A Gazelle page that holds no result.
    NotAProof,
    /// On an allowed host, but no page we know.
    NotRecognised {
        /// Why, in a few words.
        why: String,
    },
    /// A page that only a person can open: its address was checked, not its content.
    ShapeOnly,
    /// The server refuses an anonymous reader.
    Private {
        /// HTTP status (401, 403, or 200/302 for a login page).
        status: u16,
        /// Whether the operator's credential opens it. That is all that is kept of such an answer.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        opens_with_credential: bool,
    },
    /// The server does not know the result.
    Unknown,
    /// The validation has not ended.
    Pending {
        /// What the server says of its progress.
        progress: String,
    },
    /// The server could not be asked, or answered nothing useful: a technical failure, never the vendor's.
    Unreachable {
        /// What went wrong.
        reason: Unreachable,
        /// Detail for an operator; holds no share key.
        detail: String,
        /// Seconds the server asks to wait.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after_s: Option<u64>,
    },
    /// The network is switched off and no pinned copy is at hand.
    Offline,
}

/// One table: a word's parts, which logs and drift join by `-`, as JSON does, and labels by `_`, as Prometheus and OpenTelemetry
/// do.
macro_rules! outcome_words {
    ($($shape:pat => $first:literal $(- $more:literal)*;)*) => {
        impl GazelleOutcome {
            /// Every label.
            pub const LABELS: &[&str] = &[$(concat!($first $(, "_", $more)*)),*];

            /// The word used in metrics and traces.
            pub const fn label(&self) -> &'static str {
                match self { $($shape => concat!($first $(, "_", $more)*)),* }
            }

            /// The word used in logs and drift.
            pub const fn word(&self) -> &'static str {
                match self { $($shape => concat!($first $(, "-", $more)*)),* }
            }
        }
    };
}

outcome_words! {
    Self::Fetched { .. } => "fetched";
    Self::NotALink { .. } => "not" - "a" - "link";
    Self::NotAllowed { .. } => "not" - "allowed";
    Self::NotAProof => "not" - "a" - "proof";
    Self::NotRecognised { .. } => "not" - "recognised";
    Self::ShapeOnly => "shape" - "only";
    Self::Private { .. } => "private";
    Self::Unknown => "unknown";
    Self::Pending { .. } => "pending";
    Self::Unreachable { .. } => "unreachable";
    Self::Offline => "offline";
}

/// Why an address must not be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NotAllowed {
    /// Neither `https:` nor `http:`.
    Scheme(String),
    /// Not on the allow-list.
    Host(String),
    /// A port that the allow-list does not name.
    Port(u16),
    /// A user name or password in the address.
    Credentials,
}

/// Why nothing useful came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Unreachable {
    /// The name does not resolve.
    Dns,
    /// The name resolves to an address that must not be asked.
    AddressRefused,
    /// The server redirects to a place that must not be asked, or in circles.
    RedirectRefused,
    /// No connection.
    Connect,
    /// The certificate or the handshake fails.
    Tls,
    /// Too slow: connection, headers or body.
    Timeout,
    /// The connection ended before the body did.
    Truncated,
    /// More bytes than are ever read.
    TooLarge,
    /// 429, again and again.
    RateLimited,
    /// 5xx.
    ServerError,
    /// A status that the protocol does not give.
    UnexpectedStatus,
    /// A body that is no report.
    Unreadable,
    /// A pinned copy whose digest does not match.
    PinDamaged,
}

impl Unreachable {
    /// Whether no server gave an answer about the result: no connection, no complete answer, overload, 5xx. Everything
    /// else is an answer, or a refusal of ours to ask.
    pub const fn is_outage(self) -> bool {
        match self {
            Self::Dns | Self::Connect | Self::Tls | Self::Timeout | Self::Truncated | Self::RateLimited | Self::ServerError => true,
            Self::AddressRefused
            | Self::RedirectRefused
            | Self::TooLarge
            | Self::UnexpectedStatus
            | Self::Unreadable
            | Self::PinDamaged => false,
        }
    }

    /// The word used in reports and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::AddressRefused => "address-refused",
            Self::RedirectRefused => "redirect-refused",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Truncated => "truncated",
            Self::TooLarge => "too-large",
            Self::RateLimited => "rate-limited",
            Self::ServerError => "server-error",
            Self::UnexpectedStatus => "unexpected-status",
            Self::Unreadable => "unreadable",
            Self::PinDamaged => "pin-damaged",
        }
    }
}

/// Where a replayed report comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Replayed {
    /// When the pinned copy was fetched, RFC 3339.
    pub fetched_at: String,
    /// Why the server was not (or could not be) asked.
    pub because: ReplayReason,
}

/// Why a pinned copy stands in for the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ReplayReason {
    /// The network is switched off.
    Offline,
    /// The server could not be reached, or failed.
    Unreachable,
    /// The server says that the validation is under way (again).
    Pending,
    /// The server no longer gave the report (unknown, private or pending). Read in reports of earlier versions; no longer
    /// given, because a refusal must not be answered from a copy.
    Gone,
}

impl ReplayReason {
    /// The word used in findings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Offline => "offline",
            Self::Unreachable => "unreachable",
            Self::Pending => "pending",
            Self::Gone => "gone",
        }
    }
}

/// One difference between the pinned copy and what the server says now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Drift {
    /// What differs: `result`, `date`, `validator`, `errors`, `uuid`, `bytes`, `availability`…
    pub field: String,
    /// Before.
    pub pinned: String,
    /// Now.
    pub now: String,
}

// ---------------------------------------------------------------------------------------------------------
// The report.

/// A validation or test report of any generation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GazelleReport {
    /// How it was written.
    pub generation: Generation,
    /// Version of the model, where the report names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_version: Option<String>,
    /// The report's own identifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// When the validation was done. Absent means absent: it is never made up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date: Option<ReportDate>,
    /// Who validated with what.
    #[serde(default)]
    pub method: Method,
    /// The result the report claims; absent where it claims none that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declared_result: Option<TestResult>,
    /// Another result the report claims in another place, where the two differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declared_elsewhere: Option<TestResult>,
    /// The result that follows from what it lists; absent where it lists nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub computed_result: Option<TestResult>,
    /// The counters the report claims.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declared_counters: Option<DeclaredCounters>,
    /// The counters that follow from what it lists.
    #[serde(default)]
    pub computed_counters: Counters,
    /// What was tested.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<TestedObject>,
    /// Sub-reports, nested.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sub_reports: Vec<SubReport>,
    /// Additional metadata, name → value (untrusted, capped).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// What the server's own record of the validation says, where it was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<ValidationRecord>,
    /// Whether a credential of ours was needed: an anonymous reader is refused. Read in reports of earlier versions; no
    /// longer set, because such answers are not kept.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub needed_credential: bool,
    /// Whether assertions or sub-reports beyond the caps were counted and not kept.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
}

/// How a report was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Generation {
    /// v1, `gvr:validationReport`.
    GvrXml,
    /// v1 in JSON.
    GvrJson,
    /// v2 in XML.
    V2Xml,
    /// v2 in JSON.
    V2Json,
    /// Maestro test report.
    MaestroJson,
    /// Plain-text answers of an old server: a status and maybe a date, nothing else.
    LegacyText,
    /// The server's record of the validation, without report: a status, nothing else.
    RecordOnly,
}

impl Generation {
    /// Whether only a status is known.
    pub const fn is_status_only(self) -> bool {
        matches!(self, Self::LegacyText | Self::RecordOnly)
    }
}

/// The result of a report, a sub-report or an assertion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum TestResult {
    /// Passed.
    Passed,
    /// Failed.
    Failed,
    /// Not known: something went wrong while validating. Heavier than a failure, never a pass.
    Undefined,
}

impl TestResult {
    /// The word in the report's own spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "PASSED",
            Self::Failed => "FAILED",
            Self::Undefined => "UNDEFINED",
        }
    }
}

impl fmt::Display for TestResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// When a validation was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReportDate {
    /// RFC 3339, UTC.
    pub at: String,
    /// Whether the report gave no offset; it was read as UTC, as Gazelle itself does.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub without_offset: bool,
}

/// Who validated with what.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Method {
    /// Validation service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Its version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_version: Option<String>,
    /// Validator or profile identifier (often an OID).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validator_id: Option<String>,
    /// Validator or profile name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validator_name: Option<String>,
    /// Its version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validator_version: Option<String>,
}

/// Counters as a report claims them; a counter it does not give is absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DeclaredCounters {
    /// Assertions in all (Maestro: tests).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assertions: Option<u64>,
    /// Failed, severity INFO.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub infos: Option<u64>,
    /// Failed, severity WARNING.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warnings: Option<u64>,
    /// Failed, severity ERROR.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errors: Option<u64>,
    /// Not determined.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub undefined: Option<u64>,
    /// Errors of the validator itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unexpected: Option<u64>,
}

/// Counters as they follow from what is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Counters {
    /// Assertions in all (Maestro: tests).
    pub assertions: u64,
    /// Failed, severity INFO.
    pub infos: u64,
    /// Failed, severity WARNING.
    pub warnings: u64,
    /// Failed, severity ERROR.
    pub errors: u64,
    /// Not determined.
    pub undefined: u64,
    /// Errors of the validator itself.
    pub unexpected: u64,
}

impl Counters {
    /// Adds `other`.
    pub fn add(&mut self, other: &Self) {
        self.assertions = self.assertions.saturating_add(other.assertions);
        self.infos = self.infos.saturating_add(other.infos);
        self.warnings = self.warnings.saturating_add(other.warnings);
        self.errors = self.errors.saturating_add(other.errors);
        self.undefined = self.undefined.saturating_add(other.undefined);
        self.unexpected = self.unexpected.saturating_add(other.unexpected);
    }
}

/// Something that was tested.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TestedObject {
    /// File name or item id (untrusted).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Kind of object, in Gazelle's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// SHA-256 of the document that the report carried, hex; the document itself was dropped. Compare it with
    /// the digest of a deposited file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Size of that document, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
}

/// Part of a report.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SubReport {
    /// Name (untrusted).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Standards tested against.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub standards: Vec<String>,
    /// Result claimed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub declared_result: Option<TestResult>,
    /// Result that follows from what is listed here and below.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub computed_result: Option<TestResult>,
    /// Counters claimed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub declared_counters: Option<DeclaredCounters>,
    /// Counters that follow from what is listed here and below.
    pub counters: Counters,
    /// Assertions that did not pass. Those that did are counted only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_passed: Vec<Assertion>,
    /// Errors of the validator itself.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unexpected_errors: Vec<String>,
    /// Parts of this part.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sub_reports: Vec<SubReport>,
}

/// One assertion that did not pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Assertion {
    /// Identifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// What it says (untrusted, capped).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Where in the tested document (XPath, FHIRPath, line).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// Severity, computed where the report gives none.
    pub severity: AssertionSeverity,
    /// Result.
    pub result: TestResult,
}

/// Gazelle's severities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum AssertionSeverity {
    /// Information.
    Info,
    /// A recommendation not followed.
    Warning,
    /// A requirement not met.
    Error,
}

/// What the server's own record says of a validation (`GET /validations/{oid}`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ValidationRecord {
    /// OID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oid: Option<String>,
    /// `PENDING`, `IN_PROGRESS`, `DONE_PASSED`, `DONE_FAILED`, `DONE_UNDEFINED`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Date.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub date: Option<ReportDate>,
    /// Validation service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Validator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validator: Option<String>,
    /// Whether the result is shared with its owner only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private: Option<bool>,
    /// Organization of the owner. The user name is personal data and not kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub organization: Option<String>,
    /// What was tested.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<TestedObject>,
}

// ---------------------------------------------------------------------------------------------------------
// The pin.

/// The copy that is kept of what a server said: `pin.json` of the documented layout (see `gazelle::pin`), with
/// the bodies beside it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// Always `greffier/gazelle-pin/1`.
    pub schema: String,
    /// The link.
    pub link: LinkFacts,
    /// When the last exchange ended, RFC 3339 UTC, whole seconds.
    pub fetched_at: String,
    /// Program and version that fetched.
    pub fetched_by: String,
    /// Whether a credential of ours was sent. Read in copies of earlier versions, which are not replayed; no longer set.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub needed_credential: bool,
    /// Requests and responses that made the report, in order.
    pub exchanges: Vec<Exchange>,
    /// The bodies by file name. Not part of `pin.json` on disk, where each is a file of that name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub bodies: BTreeMap<String, PinnedBody>,
}

/// One request and its response.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Exchange {
    /// What was asked for.
    pub purpose: Purpose,
    /// Method: always `GET`.
    pub method: String,
    /// URL, share keys redacted.
    pub url: String,
    /// Request headers, credentials redacted.
    pub request_headers: Vec<(String, String)>,
    /// Address that answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// Redirects followed before this answer: the places redirected to, share keys redacted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub redirects: Vec<String>,
    /// HTTP status.
    pub status: u16,
    /// Response headers, cookies dropped, URLs redacted.
    pub response_headers: Vec<(String, String)>,
    /// SHA-256 of the body exactly as received, before content decoding, hex.
    pub received_sha256: String,
    /// Its size, bytes.
    pub received_size: u64,
    /// SHA-256 of the body after content decoding (the same where there was none), hex.
    pub body_sha256: String,
    /// Its size, bytes.
    pub body_size: u64,
    /// The file that holds the copy; absent where the body told nothing (an error page).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy: Option<BodyCopy>,
}

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// The report.
    Report,
    /// The server's record of the validation.
    Record,
    /// `GetValidationStatus`.
    LegacyStatus,
    /// `GetValidationDate`.
    LegacyDate,
}

/// How a pinned body relates to what was received.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BodyCopy {
    /// File name within the pin.
    pub file: String,
    /// SHA-256 of the copy, hex.
    pub sha256: String,
    /// Size of the copy, bytes.
    pub size: u64,
    /// Whether the copy is byte for byte the decoded body. If not, it is that body with each of `dropped`
    /// replaced, and every other byte as received.
    pub exact: bool,
    /// What was replaced, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dropped: Vec<Dropped>,
}

/// A value that was replaced in a pinned body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Dropped {
    /// Name of the field: `content`, `valueInValidatedObject`, `subjectValue`, `privacyKey`…
    pub field: String,
    /// Offset of the value in the decoded body, bytes.
    pub at: u64,
    /// Its length there, bytes.
    pub length: u64,
    /// SHA-256 of the document that the value encodes (base64 decoded where it is base64), hex. Only for
    /// `content`: the digest of a short value would give it away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Size of that document, bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
}

/// The bytes of a pinned body. In JSON they are base64.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct PinnedBody(pub Vec<u8>);

impl fmt::Debug for PinnedBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PinnedBody({} bytes)", self.0.len())
    }
}

impl Serialize for PinnedBody {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use base64::Engine as _;
        serializer.serialize_str(&base64::engine::general_purpose::STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for PinnedBody {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use base64::Engine as _;
        let text = String::deserialize(deserializer)?;
        base64::engine::general_purpose::STANDARD.decode(text).map(Self).map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for PinnedBody {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "PinnedBody".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "contentEncoding": "base64", "description": "The bytes of a pinned body." })
    }
}

impl GazelleFacts {
    /// The report, where one was read.
    pub fn report(&self) -> Option<&GazelleReport> {
        match &self.outcome {
            GazelleOutcome::Fetched { report, .. } => Some(report),
            _ => None,
        }
    }
    /// The copy that is kept, where there is one.
    pub fn pin(&self) -> Option<&Pin> {
        match &self.outcome {
            GazelleOutcome::Fetched { pin, .. } => Some(pin),
            _ => None,
        }
    }
    /// The same without the pinned bytes, for `report.json` and logs.
    #[must_use]
    pub fn without_bodies(&self) -> Self {
        let mut light = self.clone();
        if let GazelleOutcome::Fetched { pin, .. } = &mut light.outcome {
            pin.bodies.clear();
        }
        light
    }
}

impl GazelleReport {
    /// A report of which nothing is known yet.
    pub fn empty(generation: Generation) -> Self {
        Self {
            generation,
            model_version: None,
            uuid: None,
            date: None,
            method: Method::default(),
            declared_result: None,
            declared_elsewhere: None,
            computed_result: None,
            declared_counters: None,
            computed_counters: Counters::default(),
            objects: Vec::new(),
            sub_reports: Vec::new(),
            metadata: BTreeMap::new(),
            record: None,
            needed_credential: false,
            truncated: false,
        }
    }

    /// Whether the report proves a pass: it says PASSED, nothing it lists says otherwise, and neither its
    /// counters nor its constraints know an error.
    pub fn is_pass(&self) -> bool {
        let declared = self.declared_counters.unwrap_or_default();
        self.declared_result == Some(TestResult::Passed)
            && self.declared_elsewhere.is_none()
            && self.computed_result.is_none_or(|r| r == TestResult::Passed)
            && declared.errors.unwrap_or(0) == 0
            && declared.unexpected.unwrap_or(0) == 0
            && self.computed_counters.errors == 0
            && self.computed_counters.unexpected == 0
    }

    /// Every sub-report, outermost first.
    pub fn walk(&self) -> Vec<&SubReport> {
        let mut all = Vec::new();
        let mut queue: Vec<&SubReport> = self.sub_reports.iter().rev().collect();
        while let Some(sub) = queue.pop() {
            all.push(sub);
            queue.extend(sub.sub_reports.iter().rev());
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_has_one_word_which_labels_write_their_way() {
        let schema = serde_json::to_value(schemars::schema_for!(GazelleOutcome)).unwrap();
        let kinds: Vec<_> = schema["oneOf"].as_array().unwrap().iter().map(|one| one["properties"]["kind"]["const"].clone()).collect();
        let words: Vec<_> = GazelleOutcome::LABELS.iter().map(|label| label.replace('_', "-")).collect();
        assert_eq!(kinds, words);
        for outcome in [GazelleOutcome::NotALink { why: "empty".into() }, GazelleOutcome::ShapeOnly, GazelleOutcome::Offline] {
            assert_eq!(serde_json::to_value(&outcome).unwrap()["kind"], outcome.word());
            assert_eq!(outcome.label(), outcome.word().replace('-', "_"));
        }
    }
}
