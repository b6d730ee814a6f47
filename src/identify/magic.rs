//! Formats told by fixed bytes at fixed places, each with enough structure behind to not be chance.

use super::{Told, u16_le, u32_be, u32_le};
use crate::model::format::Format;

/// Magic bytes at the start of the file that need nothing else.
const AT_START: &[(&[u8], Format, &str)] = &[
    (b"\x89PNG", Format::Png, "PNG signature"),
    (b"\xFF\xD8\xFF", Format::Jpeg, "JPEG SOI marker"),
    (b"GIF87a", Format::Gif, "GIF87a"),
    (b"GIF89a", Format::Gif, "GIF89a"),
    (b"II*\0", Format::Tiff, "TIFF little-endian"),
    (b"MM\0*", Format::Tiff, "TIFF big-endian"),
    (b"II+\0", Format::Tiff, "BigTIFF little-endian"),
    (b"MM\0+", Format::Tiff, "BigTIFF big-endian"),
    (b"\0\0\0\x0CjP  ", Format::Jp2, "JPEG 2000 signature box"),
    (b"\xFF\x4F\xFF\x51", Format::Jp2, "JPEG 2000 codestream"),
    (b"8BPS\0", Format::Psd, "8BPS"),
    (b"\x1A\x45\xDF\xA3", Format::Mkv, "EBML header"),
    (b"\x30\x26\xB2\x75\x8E\x66\xCF\x11", Format::Asf, "ASF header object"),
    (b"\0\0\x01\xBA", Format::Mpeg, "MPEG program stream"),
    (b"\0\0\x01\xB3", Format::Mpeg, "MPEG sequence header"),
    (b"OggS\0", Format::Audio, "OggS"),
    (b"fLaC", Format::Audio, "fLaC"),
    (b"ID3\x02", Format::Audio, "ID3 tag"),
    (b"ID3\x03", Format::Audio, "ID3 tag"),
    (b"ID3\x04", Format::Audio, "ID3 tag"),
    (b"MThd\0\0\0\x06", Format::Audio, "MIDI header"),
    (b"#!AMR", Format::Audio, "AMR header"),
    (b"Rar!\x1A\x07", Format::Rar, "RAR signature"),
    (b"7z\xBC\xAF\x27\x1C", Format::SevenZip, "7z signature"),
    (b"\x1F\x8B\x08", Format::Gzip, "GZIP header"),
    (b"\xFD7zXZ\0", Format::Xz, "XZ header"),
    (b"\x28\xB5\x2F\xFD", Format::Zstd, "Zstandard frame"),
    (b"MSCF\0\0\0\0", Format::Cab, "MSCF"),
    (b"\x7FELF", Format::Elf, "ELF header"),
    (b"\xFE\xED\xFA\xCE", Format::MachO, "Mach-O header"),
    (b"\xFE\xED\xFA\xCF", Format::MachO, "Mach-O header"),
    (b"\xCE\xFA\xED\xFE", Format::MachO, "Mach-O header"),
    (b"\xCF\xFA\xED\xFE", Format::MachO, "Mach-O header"),
    (b"L\0\0\0\x01\x14\x02\0", Format::Lnk, "shell link header"),
    (b"SQLite format 3\0", Format::Sqlite, "SQLite header"),
    (b"%!PS", Format::PostScript, "%!PS"),
    (b"\xC5\xD0\xD3\xC6", Format::PostScript, "DOS EPS header"),
    (b"{\\rtf", Format::Rtf, "{\\rtf"),
    // PowerPoint 2 and 3, before OLE.
    (b"\x0B\xAD\xDE\xED", Format::Ppt, "PowerPoint 2 or 3 header"),
    (b"\xED\xDE\xAD\x0B", Format::Ppt, "PowerPoint 2 or 3 header"),
];

pub(super) fn tell(bytes: &[u8]) -> Option<Told> {
    // « %PDF- est la signature… » is a text about the format: readers want a version, or objects behind.
    let is_pdf = || {
        bytes.get(5).is_some_and(u8::is_ascii_digit)
            || memchr::memmem::find(bytes, b"endobj").is_some()
            || super::text::tell(bytes).is_none_or(|told| told.format != Format::Txt)
    };
    if bytes.starts_with(b"%PDF-") && is_pdf() {
        let version: String = bytes.iter().skip(5).take(3).filter(|b| b.is_ascii_graphic()).map(|b| char::from(*b)).collect();
        return Some(Told::new(Format::Pdf, format!("magic %PDF-{version}")));
    }
    if let Some((_, format, basis)) = AT_START.iter().find(|(magic, _, _)| bytes.starts_with(magic)) {
        return Some(Told::new(*format, *basis));
    }
    riff(bytes)
        .or_else(|| flv(bytes))
        .or_else(|| swf(bytes))
        .or_else(|| bmp(bytes))
        .or_else(|| program(bytes))
        .or_else(|| old_office(bytes))
        .or_else(|| audio_frames(bytes))
        .or_else(|| elsewhere(bytes))
}

/// What is looked at last, when the bytes are not even text: documents whose first bytes are damaged, told by
/// what remains behind, so that their inspector can say so.
pub(super) fn tell_late(bytes: &[u8]) -> Option<Told> {
    // The first sector of a workbook stream, behind an OLE header that was blanked.
    if bytes.get(512..514) == Some(&[0x09, 0x08]) && bytes.get(516..518) == Some(&[0, 6]) {
        return Some(Told::new(Format::Xls, "BIFF8 at byte 512 and no OLE header"));
    }
    if bytes.starts_with(&[0xFF, 0xD8]) {
        return Some(Told::new(Format::Jpeg, "JPEG SOI marker and no marker behind"));
    }
    if bytes.get(12..16) == Some(b"IHDR") {
        return Some(Told::new(Format::Png, "IHDR chunk and no PNG signature"));
    }
    let has = |needle: &[u8]| memchr::memmem::find(bytes, needle).is_some();
    if has(b"endobj") && has(b"startxref") && has(b"%%EOF") {
        return Some(Told::new(Format::Pdf, "PDF objects and no header"));
    }
    None
}

fn riff(bytes: &[u8]) -> Option<Told> {
    if !bytes.starts_with(b"RIFF") && !bytes.starts_with(b"RIFX") {
        return None;
    }
    let format = match bytes.get(8..12)? {
        b"AVI " | b"AVIX" => Format::Avi,
        b"WEBP" => Format::Webp,
        b"WAVE" | b"RMID" => Format::Audio,
        _ => return None,
    };
    Some(Told::new(format, format!("RIFF form {}", String::from_utf8_lossy(bytes.get(8..12)?))))
}

/// Adobe FLV v10.1 §E.2: version 1, five reserved and one reserved bit, header of 9 bytes.
fn flv(bytes: &[u8]) -> Option<Told> {
    let header = bytes.starts_with(b"FLV");
    let sane = bytes.get(3).is_some_and(|v| (1..=4).contains(v)) && bytes.get(4).is_some_and(|f| f & 0b1111_1010 == 0);
    (header && sane && u32_be(bytes, 5).is_none_or(|offset| (9..=1024).contains(&offset))).then(|| Told::new(Format::Flv, "FLV header"))
}

/// SWF 19 §"The SWF header": compressed or not, a version, a length.
fn swf(bytes: &[u8]) -> Option<Told> {
    let magic = matches!(bytes.get(..3)?, b"FWS" | b"CWS" | b"ZWS");
    let version = *bytes.get(3)?;
    (magic && (1..=60).contains(&version) && u32_le(bytes, 4)? >= 8 && bytes.get(8..).is_some_and(|b| !b.is_empty()))
        .then(|| Told::new(Format::Swf, "SWF header"))
}

fn bmp(bytes: &[u8]) -> Option<Told> {
    let dib = u32_le(bytes, 14)?;
    (bytes.starts_with(b"BM") && matches!(dib, 12 | 16 | 40 | 52 | 56 | 64 | 108 | 124) && u32_le(bytes, 10)? >= 14 + dib.min(40))
        .then(|| Told::new(Format::Bmp, "BMP header"))
}

/// Windows, DOS and Java programs.
fn program(bytes: &[u8]) -> Option<Told> {
    if bytes.starts_with(b"MZ") || bytes.starts_with(b"ZM") {
        let at = u32_le(bytes, 60).unwrap_or(0) as usize;
        let new = bytes.get(at..at.checked_add(2)?).is_some_and(|s| at >= 4 && matches!(s, b"PE" | b"NE" | b"LE" | b"LX"));
        // DOS: last page of at most 512 bytes, some pages, a header in paragraphs of 16 bytes.
        let dos = u16_le(bytes, 2)? <= 512 && (1..=2048).contains(&u16_le(bytes, 4)?) && (2..=512).contains(&u16_le(bytes, 8)?);
        return (new || dos).then(|| Told::new(Format::Exe, if new { "MZ and PE headers" } else { "MZ header" }));
    }
    if bytes.starts_with(&[0xCA, 0xFE, 0xBA, 0xBE]) {
        // Java and universal Mach-O share the magic: versions start at 45, architectures are few.
        return Some(if u32_be(bytes, 4)? & 0xFFFF >= 45 {
            Told::new(Format::JavaClass, "class file header")
        } else {
            Told::new(Format::MachO, "universal Mach-O header")
        });
    }
    (bytes.starts_with(b"BZh")
        && bytes.get(3).is_some_and(|b| (b'1'..=b'9').contains(b))
        && matches!(bytes.get(4..10), Some(b"1AY&SY" | b"\x17\x72\x45\x38\x50\x90") | None))
    .then(|| Told::new(Format::Bzip2, "BZIP2 header"))
}

/// Word and Excel before OLE: [MS-XLS] and its ancestors' BOF records; the FIB magics of Word 1 to 6, and of a
/// Word stream out of its container.
fn old_office(bytes: &[u8]) -> Option<Told> {
    let head = bytes.get(..4)?;
    match head {
        [0x09, 0x00, 4..=8, 0x00] => Some(Told::new(Format::Xls, "BIFF2 BOF record")),
        [0x09, 0x02, 6..=8, 0x00] => Some(Told::new(Format::Xls, "BIFF3 BOF record")),
        [0x09, 0x04, 6..=8, 0x00] => Some(Told::new(Format::Xls, "BIFF4 BOF record")),
        [0x09, 0x08, 8 | 16, 0x00] if matches!(bytes.get(4..6), Some([0, 5 | 6])) => {
            Some(Told::new(Format::Xls, "BIFF BOF record without OLE"))
        }
        [0xDB, 0xA5, _, 0x00] | [0x9B, 0xA5, _, 0x00] | [0xDC, 0xA5, _, 0x00] | [0xEC, 0xA5, _, 0x00] | [0xFE, 0x37, 0x00, _] => {
            Some(Told::new(Format::Doc, "Word header without OLE"))
        }
        [0x31 | 0x32, 0xBE, 0x00, 0x00] => Some(Told::new(Format::Doc, "Word for DOS or Write header")),
        _ => None,
    }
}

/// MPEG audio and AAC have no header but frames: two in a row, at the distance the first one announces.
fn audio_frames(bytes: &[u8]) -> Option<Told> {
    const KBPS: [u32; 15] = [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320];
    let frame = |at: usize| -> Option<usize> {
        let h = bytes.get(at..at.checked_add(6)?)?;
        if h[0] != 0xFF {
            return None;
        }
        if h[1] & 0xF6 == 0xF0 {
            // ADTS: thirteen bits of length.
            let len = (usize::from(h[3] & 3) << 11) | (usize::from(h[4]) << 3) | usize::from(h[5] >> 5);
            return (len > 7).then_some(len);
        }
        // MPEG-1 layer III only: the one that people deposit.
        let rate = [44_100u32, 48_000, 32_000].get(usize::from(h[2] >> 2 & 3))?;
        let kbps = KBPS.get(usize::from(h[2] >> 4)).filter(|k| **k > 0)?;
        (h[1] & 0xFE == 0xFA).then(|| (144_000 * kbps / rate + u32::from(h[2] >> 1 & 1)) as usize)
    };
    let second = frame(0)?;
    frame(second).map(|_| Told::new(Format::Audio, "audio frames"))
}

/// Signatures that do not stand first.
fn elsewhere(bytes: &[u8]) -> Option<Told> {
    if bytes.get(128..132) == Some(b"DICM") {
        return Some(Told::new(Format::Dicom, "DICM at byte 128"));
    }
    if bytes.get(257..262) == Some(b"ustar") {
        return Some(Told::new(Format::Tar, "ustar at byte 257"));
    }
    if old_tar(bytes) == Some(true) {
        return Some(Told::new(Format::Tar, "TAR header checksum"));
    }
    if [0x8001usize, 0x8801, 0x9001].iter().any(|at| bytes.get(*at..at + 5) == Some(b"CD001")) {
        return Some(Told::new(Format::Iso, "CD001 in the volume descriptors"));
    }
    // MPEG transport stream: a sync byte every 188 bytes, or every 192 behind a time stamp.
    for (first, step) in [(0usize, 188usize), (4, 192)] {
        if (0..4).all(|n| bytes.get(first + n * step) == Some(&0x47)) {
            return Some(Told::new(Format::Mpeg, "MPEG transport stream"));
        }
    }
    None
}

/// TAR before POSIX: only the header's checksum tells (octal, of the 512 bytes with its own field as spaces).
fn old_tar(bytes: &[u8]) -> Option<bool> {
    let header = bytes.get(..512)?;
    let field = std::str::from_utf8(header.get(148..156)?).ok()?;
    let declared = u32::from_str_radix(field.trim_matches(['\0', ' ']), 8).ok()?;
    let sum: u32 = header.iter().enumerate().map(|(i, b)| if (148..156).contains(&i) { 32 } else { u32::from(*b) }).sum();
    Some(declared == sum && header.first().is_some_and(|b| *b != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(bytes: &[u8]) -> Option<Format> {
        tell(bytes).map(|t| t.format)
    }

    #[test]
    fn fixed_bytes_tell_the_format() {
        assert_eq!(format(b"\x89PNG\r\n\x1a\n"), Some(Format::Png));
        assert_eq!(format(b"RIFF\x10\0\0\0AVI LIST"), Some(Format::Avi));
        assert_eq!(format(b"RIFF\x10\0\0\0WEBPVP8 "), Some(Format::Webp));
        assert_eq!(format(b"FLV\x01\x05\0\0\0\x09\0\0\0\0"), Some(Format::Flv));
        assert_eq!(format(b"\x09\x02\x06\0\0\0\x10\0"), Some(Format::Xls));
        assert_eq!(format(b"\xDB\xA5\x2D\0\0\0"), Some(Format::Doc));
        assert_eq!(format(b"\xCA\xFE\xBA\xBE\0\0\0\x34"), Some(Format::JavaClass));
        assert_eq!(format(b"\xCA\xFE\xBA\xBE\0\0\0\x02"), Some(Format::MachO));
    }

    #[test]
    fn words_that_start_like_a_magic_stay_text() {
        assert_eq!(format(b"BMW and other makers sell cars in Europe."), None);
        assert_eq!(
            format(b"MZ is the code of Mozambique in ISO 3166, and this is a text about it, long enough to hold a DOS header."),
            None
        );
        assert_eq!(format(b"FLV files are videos"), None);
        assert_eq!(format(b"CWSC is a company with a name"), None);
    }

    #[test]
    fn dicom_and_tar_are_told_behind_their_preamble() {
        let mut dicom = vec![0; 128];
        dicom.extend_from_slice(b"DICM\x02\0");
        assert_eq!(format(&dicom), Some(Format::Dicom));
        let mut tar = vec![0; 512];
        tar[257..262].copy_from_slice(b"ustar");
        assert_eq!(format(&tar), Some(Format::Tar));
    }
}
