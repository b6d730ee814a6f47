//! Facts of still images.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A PNG or JPEG.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageFacts {
    /// Pixels across, from the header.
    pub width: u32,
    /// Pixels down, from the header.
    pub height: u32,
    /// Whether every pixel was decoded.
    pub decoded: bool,
    /// Standard deviation of luma over the picture, 0–127.5; near 0 = one flat colour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub luma_deviation: Option<f32>,
    /// The same where the picture has transparent parts and stands on black instead of white.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub luma_deviation_on_black: Option<f32>,
    /// 64-bit difference hash of the picture shrunk to 9 × 8 grey pixels, hex: near-equal pictures differ in few bits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub perceptual_hash: Option<String>,
    /// Position in EXIF.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gps: Option<GpsPosition>,
    /// Animated (APNG).
    #[serde(default)]
    pub animated: bool,
}

/// Where a picture was taken, in degrees (WGS 84).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GpsPosition {
    /// North positive.
    pub latitude: f64,
    /// East positive.
    pub longitude: f64,
}
