//! Files past an antivirus: clean, infected, or not scanned, which is never clean.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who scans. Configuration `[antivirus]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AntivirusConfig {
    /// `clamd` engines: `127.0.0.1:3310` or a path of a Unix socket. A file is clean where every engine says so.
    pub engines: Vec<String>,
    /// Whether a file that was not scanned is undetermined. `false`: every report says that it was not scanned.
    pub required: bool,
    /// How long an engine may take to be reached, milliseconds.
    pub connect_timeout_ms: u64,
    /// How long one scan may take, milliseconds.
    pub scan_timeout_ms: u64,
}

impl Default for AntivirusConfig {
    fn default() -> Self {
        Self { engines: Vec::new(), required: false, connect_timeout_ms: 3_000, scan_timeout_ms: 120_000 }
    }
}
