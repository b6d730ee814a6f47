//! What a verifier receives: a BagIt 1.0 bag (RFC 8493) in a ZIP, with a page to start from.
//!
//! Goals:
//! 1. **The same inputs give the same bytes**: fixed order, fixed time stamps, no clock, no machine name. A bundle is
//!    rebuilt rather than trusted to a backup, and a redelivered job writes what is already there. Previews are inputs:
//!    where other renderers drew them the page differs, the report and its id do not.
//! 2. **Constant memory**: payload is streamed from its source to the ZIP while it is hashed again; what differs from
//!    the digest in the report stops the build.
//! 3. **Safe to unpack and to open** on the desktop of a verifier: names ([`names`]), a page without network and with
//!    everything hostile escaped ([`html`]), a table whose cells are never formulas ([`index_csv`]).
//! 4. **Everything received is accounted for**: what is not laid before the verifier ([`Withhold`]) is listed with
//!    its digest and the reason.
//! 5. Anybody can check it, offline, with this program ([`verify()`]) or with another ([BagIt]).
//!
//! ```text
//! IZCYKCWXGY-chapitre-ins-r1/
//!   bagit.txt  bag-info.txt  manifest-sha256.txt  tagmanifest-sha256.txt
//!   index.html  index.csv  report.json  LISEZ-MOI.txt
//!   data/<chapitre>/<exigence>/<preuve>/<name>      data/eligibilite/<slot>/<name>
//! ```
//!
//! [BagIt]: https://www.rfc-editor.org/rfc/rfc8493

mod bag;
pub mod html;
pub mod index_csv;
mod layout;
mod limited;
pub mod names;
pub mod verify;
pub(crate) mod zip_reader;

use std::collections::BTreeMap;
use std::io::{self, Read};

pub use bag::{write, write_report};
pub use verify::{VerifyReport, verify};

use crate::model::Text;
use crate::model::report::Withheld;

/// Identifies the shape of our bags in `bag-info.txt`; the profile itself is `docs/bagit-profile.json`.
pub const PROFILE_IDENTIFIER: &str = "urn:uuid:5f0c8a52-5a0c-5d0e-9a61-3f4b1f6f0c01";

/// Where the bytes of items come from.
pub trait PayloadSource {
    /// Opens the bytes of the item with this id.
    ///
    /// # Errors
    /// Whatever the store answers; the build stops, nothing is left out in silence.
    fn open(&self, item: &str) -> io::Result<Payload<'_>>;
}

/// The bytes of one item.
pub struct Payload<'a> {
    /// The bytes, from the first.
    pub reader: Box<dyn Read + 'a>,
    /// How many, as the source knows it.
    pub size: u64,
    /// Their SHA-256, lower-case hex, as the source knows it.
    pub sha256: String,
}

/// Which received files are listed but not laid before the verifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Withhold {
    /// What would harm the desktop that opens it: recognised by the antivirus, decompression bombs, programs and
    /// files that a double click runs. Everything else is there, rejected or not: a verifier may want to see why.
    #[default]
    Dangerous,
    /// That, and every rejected item.
    Rejected,
}

/// A picture of an item: a thumbnail, a first page, a frame of a video.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    /// JPEG or PNG bytes, made by us. Anything else, or more than [`html::MAX_PREVIEW`] bytes, is left out.
    pub bytes: Vec<u8>,
    /// What it shows, where that is not obvious (« page 1 », « 0:30 »).
    pub caption: Option<Text>,
}

/// How a bundle is made.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// What is left out.
    pub withhold: Withhold,
    /// Pictures by item id, in display order.
    pub previews: BTreeMap<String, Vec<Preview>>,
    /// Tag files to add, by path inside the bag (`gazelle/1.2.3.xml`): pinned reports. Paths must be safe as
    /// [`names`] understands it and stand outside `data/`.
    pub attachments: BTreeMap<String, Vec<u8>>,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleSummary {
    /// The one folder in the ZIP.
    pub root: String,
    /// Payload files.
    pub payload_files: u64,
    /// Payload bytes, uncompressed.
    pub payload_bytes: u64,
    /// Items whose bytes were left out, and why.
    pub withheld: Vec<(String, Withheld)>,
    /// SHA-256 of `tagmanifest-sha256.txt`, hex: it fixes every byte of the bag, so it is what a seal signs.
    pub tagmanifest_sha256: String,
    /// Size of `index.html`, bytes.
    pub page_bytes: u64,
}

/// Why a bundle could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The report lists the same item id twice.
    #[error("item id `{0}` stands twice in the report")]
    DuplicateItem(String),
    /// The source could not give the bytes.
    #[error("the bytes of item `{item}` cannot be read")]
    Source {
        /// Item id.
        item: String,
        /// Why.
        source: io::Error,
    },
    /// The source gave other bytes than those that were checked.
    #[error("item `{item}` is not what was checked: expected {expected}, found {found}")]
    Changed {
        /// Item id.
        item: String,
        /// Size and digest in the report.
        expected: String,
        /// Size and digest of what was read.
        found: String,
    },
    /// An attachment's path is unsafe or already taken.
    #[error("`{0}` cannot be the path of a tag file")]
    Attachment(String),
    /// The page could not be rendered: a mistake in its template.
    #[error("index.html cannot be rendered")]
    Page(#[from] minijinja::Error),
    /// Stopped, or it needs more steps than it may take.
    #[error("the bundle was not completed")]
    Ended(#[from] crate::model::work::WorkEnded),
    /// What would be written is larger than what a reader of bundles reads.
    #[error("REPORT-TOO-LARGE: `{path}` would be larger than {max} bytes, which is what can be read again")]
    TooLarge {
        /// Which tag file.
        path: String,
        /// The limit, bytes.
        max: u64,
    },
    /// The report could not be serialised.
    #[error("report.json cannot be written")]
    Json(#[from] serde_json::Error),
    /// The table could not be written.
    #[error("index.csv cannot be written")]
    Csv(#[from] csv::Error),
    /// The output could not be written.
    #[error("the bundle cannot be written")]
    Zip(#[from] zip::result::ZipError),
    /// The output could not be written.
    #[error("the bundle cannot be written")]
    Io(#[from] io::Error),
}
