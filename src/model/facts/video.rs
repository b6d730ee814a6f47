//! Facts of video containers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A video.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VideoFacts {
    /// Brand or container variant (`isom`, `qt  `, `AVI`, `FLV1`).
    pub container: String,
    /// Seconds; absent when the container does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<f64>,
    /// Tracks in file order.
    #[serde(default)]
    pub tracks: Vec<TrackFacts>,
    /// Average bit rate over the whole file, bits per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bit_rate: Option<u64>,
    /// Whether playback can start before the whole file is there (`moov` before `mdat`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fast_start: Option<bool>,
}

/// One track.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrackFacts {
    /// Video, audio, other.
    pub kind: TrackKind,
    /// Codec as the container names it (`avc1`, `mp4a`, `XVID`), untrusted.
    pub codec: String,
    /// Seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<f64>,
    /// Pixels across.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<u32>,
    /// Pixels down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<u32>,
    /// Samples (frames) stated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples: Option<u64>,
}

/// What a track carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TrackKind {
    /// Pictures.
    Video,
    /// Sound.
    Audio,
    /// Subtitles, hints, metadata.
    Other,
}
