//! Codecs by their four-character codes: which play on a verifier's desktop as it comes.

/// Codes that a plain Windows 10/11 plays without an added extension: H.264, MPEG-4 part 2 and its AVI
/// names, Motion JPEG, Windows Media, H.263 of 3GPP phones, uncompressed pictures.
const EVERYWHERE: [&str; 30] = [
    "avc1", "avc2", "avc3", "avc4", "h264", "x264", "davc", "mp4v", "xvid", "divx", "dx50", "fmp4", "mp42", "mp43", "div3", "div4", "mp4s",
    "m4s2", "wmv1", "wmv2", "wmv3", "wvc1", "mjpg", "mss1", "mss2", "s263", "dib ", "rgb ", "raw ", "bi_rgb",
];

/// Names for people, by code in lower case.
const NAMES: [(&str, &str); 34] = [
    ("hvc1", "HEVC/H.265"),
    ("hev1", "HEVC/H.265"),
    ("dvh1", "Dolby Vision"),
    ("dvhe", "Dolby Vision"),
    ("av01", "AV1"),
    ("vp08", "VP8"),
    ("vp80", "VP8"),
    ("vp09", "VP9"),
    ("vp90", "VP9"),
    ("vp6 ", "On2 VP6"),
    ("vp6a", "On2 VP6"),
    ("flv1", "Sorenson H.263"),
    ("fsv1", "Flash Screen Video"),
    ("fsv2", "Flash Screen Video 2"),
    ("apch", "Apple ProRes"),
    ("apcn", "Apple ProRes"),
    ("apcs", "Apple ProRes"),
    ("apco", "Apple ProRes"),
    ("ap4h", "Apple ProRes"),
    ("ap4x", "Apple ProRes"),
    ("icod", "Apple Intermediate Codec"),
    ("rle ", "QuickTime Animation"),
    ("svq1", "Sorenson Video"),
    ("svq3", "Sorenson Video 3"),
    ("cvid", "Cinepak"),
    ("png ", "PNG"),
    ("jpeg", "JPEG"),
    ("mjp2", "JPEG 2000"),
    ("mjpa", "Motion JPEG A"),
    ("tscc", "TechSmith Screen Capture"),
    ("tsc2", "TechSmith Screen Capture 2"),
    ("cscd", "CamStudio"),
    ("iv50", "Indeo 5"),
    ("ffv1", "FFV1"),
];

/// Whether a plain Windows desktop plays this codec.
pub(super) fn plays_everywhere(codec: &str) -> bool {
    let code = codec.to_ascii_lowercase();
    EVERYWHERE.contains(&code.as_str())
}

/// The codec's name, or its code where it has none here.
pub(super) fn name(codec: &str) -> String {
    let code = codec.to_ascii_lowercase();
    NAMES.iter().find(|(c, _)| *c == code).map_or_else(|| codec.trim().to_owned(), |(_, name)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_does_not_matter_and_unknown_codes_name_themselves() {
        assert!(plays_everywhere("XviD") && plays_everywhere("avc1") && !plays_everywhere("hvc1"));
        assert_eq!(name("HVC1"), "HEVC/H.265");
        assert_eq!(name("abc "), "abc");
    }
}
