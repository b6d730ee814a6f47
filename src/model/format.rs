//! Formats: one table for code, extensions, media types and family, so that they cannot drift apart.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a family of formats has in common: which inspector reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// PDF.
    Pdf,
    /// Office Open XML packages (ISO/IEC 29500).
    Ooxml,
    /// OpenDocument packages (ISO/IEC 26300).
    Odf,
    /// Office 97–2003 binaries in an OLE compound file ([MS-CFB]).
    Ole,
    /// Still images that are decoded.
    Image,
    /// Videos whose container is walked.
    Video,
    /// Plain text and CSV.
    Text,
    /// ZIP archives.
    Zip,
    /// Recognised, never opened.
    Other,
}

macro_rules! formats {
    ($($variant:ident, $code:literal, $label:literal, $family:ident, [$($ext:literal),*], [$($mime:literal),*];)*) => {
        /// A true format, told from bytes and structure.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        pub enum Format { $(#[doc = $label] #[serde(rename = $code)] $variant,)* }

        impl Format {
            /// Every format, in table order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];
            /// Stable code, as written in pipelines and reports.
            pub const fn code(self) -> &'static str { match self { $(Self::$variant => $code,)* } }
            /// Name for people.
            pub const fn label(self) -> &'static str { match self { $(Self::$variant => $label,)* } }
            /// Which inspector reads it.
            pub const fn family(self) -> Family { match self { $(Self::$variant => Family::$family,)* } }
            /// File-name extensions, lower case, the usual one first.
            pub const fn extensions(self) -> &'static [&'static str] { match self { $(Self::$variant => &[$($ext),*],)* } }
            /// Media types, the registered one first.
            pub const fn media_types(self) -> &'static [&'static str] { match self { $(Self::$variant => &[$($mime),*],)* } }
        }
    };
}

formats! {
    Pdf, "pdf", "PDF", Pdf, ["pdf"], ["application/pdf", "application/x-pdf"];
    Xlsx, "xlsx", "Excel (xlsx)", Ooxml, ["xlsx"], ["application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"];
    Xlsm, "xlsm", "Excel avec macros (xlsm)", Ooxml, ["xlsm", "xltm", "xlam"], ["application/vnd.ms-excel.sheet.macroenabled.12"];
    Xltx, "xltx", "Modèle Excel (xltx)", Ooxml, ["xltx"], ["application/vnd.openxmlformats-officedocument.spreadsheetml.template"];
    Xlsb, "xlsb", "Excel binaire (xlsb)", Ooxml, ["xlsb"], ["application/vnd.ms-excel.sheet.binary.macroenabled.12"];
    Docx, "docx", "Word (docx)", Ooxml, ["docx"], ["application/vnd.openxmlformats-officedocument.wordprocessingml.document"];
    Docm, "docm", "Word avec macros (docm)", Ooxml, ["docm", "dotm"], ["application/vnd.ms-word.document.macroenabled.12"];
    Dotx, "dotx", "Modèle Word (dotx)", Ooxml, ["dotx"], ["application/vnd.openxmlformats-officedocument.wordprocessingml.template"];
    Pptx, "pptx", "PowerPoint (pptx)", Ooxml, ["pptx"], ["application/vnd.openxmlformats-officedocument.presentationml.presentation"];
    Pptm, "pptm", "PowerPoint avec macros (pptm)", Ooxml, ["pptm", "potm", "ppsm"], ["application/vnd.ms-powerpoint.presentation.macroenabled.12"];
    Ppsx, "ppsx", "Diaporama PowerPoint (ppsx)", Ooxml, ["ppsx", "potx"], ["application/vnd.openxmlformats-officedocument.presentationml.slideshow"];
    Visio, "vsdx", "Visio (vsdx)", Other, ["vsdx", "vsdm"], ["application/vnd.ms-visio.drawing"];
    Opc, "opc", "Paquet OPC d'un autre genre", Ooxml, ["xps", "oxps", "nupkg"], ["application/oxps"];
    Ods, "ods", "Classeur OpenDocument (ods)", Odf, ["ods", "fods", "ots"], ["application/vnd.oasis.opendocument.spreadsheet", "application/vnd.oasis.opendocument.spreadsheet-template"];
    Odt, "odt", "Texte OpenDocument (odt)", Odf, ["odt", "ott"], ["application/vnd.oasis.opendocument.text", "application/vnd.oasis.opendocument.text-template"];
    Odp, "odp", "Présentation OpenDocument (odp)", Odf, ["odp", "otp"], ["application/vnd.oasis.opendocument.presentation", "application/vnd.oasis.opendocument.presentation-template"];
    Odf, "odf", "Formule OpenDocument (odf)", Odf, ["odf"], ["application/vnd.oasis.opendocument.formula"];
    Odg, "odg", "Dessin OpenDocument (odg)", Odf, ["odg"], ["application/vnd.oasis.opendocument.graphics"];
    Xls, "xls", "Excel 97–2003 (xls)", Ole, ["xls", "xlt"], ["application/vnd.ms-excel"];
    Doc, "doc", "Word 97–2003 (doc)", Ole, ["doc", "dot"], ["application/msword"];
    Ppt, "ppt", "PowerPoint 97–2003 (ppt)", Ole, ["ppt", "pps", "pot"], ["application/vnd.ms-powerpoint"];
    OoxmlEncrypted, "ooxml-encrypted", "Document Office chiffré", Ole, ["docx", "xlsx", "pptx", "xlsm", "docm", "pptm", "xlsb"], ["application/x-ole-storage"];
    Msg, "msg", "Message Outlook (msg)", Other, ["msg"], ["application/vnd.ms-outlook"];
    Msi, "msi", "Installateur Windows (msi)", Other, ["msi"], ["application/x-msi"];
    Ole, "ole", "Fichier composé OLE d'un autre genre", Ole, ["ole", "mpp", "vsd", "pub"], ["application/x-ole-storage"];
    Csv, "csv", "CSV", Text, ["csv", "tsv"], ["text/csv", "text/tab-separated-values", "application/vnd.ms-excel", "text/plain"];
    Txt, "txt", "Texte (txt)", Text, ["txt", "text", "log", "md"], ["text/plain"];
    Xml, "xml", "XML", Other, ["xml", "xsl", "xsd"], ["application/xml", "text/xml"];
    Html, "html", "HTML", Other, ["html", "htm", "xhtml"], ["text/html"];
    Svg, "svg", "SVG", Other, ["svg"], ["image/svg+xml"];
    Json, "json", "JSON", Other, ["json"], ["application/json"];
    Rtf, "rtf", "RTF", Other, ["rtf"], ["application/rtf", "text/rtf"];
    Eml, "eml", "Courriel (eml)", Other, ["eml", "mht", "mhtml"], ["message/rfc822"];
    Script, "script", "Script", Other, ["sh", "py", "bat", "cmd", "ps1", "vbs", "js"], ["text/x-shellscript"];
    Png, "png", "Image PNG", Image, ["png", "apng"], ["image/png"];
    Jpeg, "jpeg", "Image JPEG", Image, ["jpg", "jpeg", "jpe", "jfif"], ["image/jpeg", "image/jpg", "image/pjpeg"];
    Gif, "gif", "Image GIF", Other, ["gif"], ["image/gif"];
    Bmp, "bmp", "Image BMP", Other, ["bmp"], ["image/bmp"];
    Tiff, "tiff", "Image TIFF", Other, ["tif", "tiff"], ["image/tiff"];
    Webp, "webp", "Image WebP", Other, ["webp"], ["image/webp"];
    Heif, "heif", "Image HEIF/AVIF", Other, ["heic", "heif", "avif"], ["image/heic", "image/heif", "image/avif"];
    Jp2, "jp2", "Image JPEG 2000", Other, ["jp2", "jpx"], ["image/jp2"];
    Psd, "psd", "Image Photoshop", Other, ["psd"], ["image/vnd.adobe.photoshop"];
    Mp4, "mp4", "Vidéo MP4", Video, ["mp4", "m4v"], ["video/mp4", "video/x-m4v"];
    Mov, "mov", "Vidéo QuickTime (mov)", Video, ["mov", "qt"], ["video/quicktime"];
    Avi, "avi", "Vidéo AVI", Video, ["avi"], ["video/x-msvideo", "video/avi", "video/msvideo", "video/vnd.avi"];
    Flv, "flv", "Vidéo Flash (flv)", Video, ["flv"], ["video/x-flv", "video/flv"];
    F4v, "f4v", "Vidéo Flash MP4 (f4v)", Video, ["f4v"], ["video/x-f4v", "video/mp4", "video/f4v"];
    M4a, "m4a", "Audio MP4 (m4a)", Video, ["m4a", "f4a"], ["audio/mp4", "audio/x-m4a"];
    ThreeGp, "3gp", "Vidéo 3GPP", Video, ["3gp", "3g2"], ["video/3gpp"];
    Mkv, "mkv", "Vidéo Matroska/WebM", Other, ["mkv", "webm"], ["video/x-matroska", "video/webm"];
    Asf, "wmv", "Vidéo Windows Media", Other, ["wmv", "asf", "wma"], ["video/x-ms-wmv", "video/x-ms-asf"];
    Mpeg, "mpeg", "Vidéo MPEG", Other, ["mpg", "mpeg", "ts", "vob"], ["video/mpeg", "video/mp2t"];
    Swf, "swf", "Animation Flash (swf)", Other, ["swf"], ["application/x-shockwave-flash"];
    Audio, "audio", "Audio", Other, ["mp3", "wav", "ogg", "flac", "aac", "mid"], ["audio/mpeg", "audio/wav", "audio/ogg", "audio/flac"];
    Zip, "zip", "Archive ZIP", Zip, ["zip"], ["application/zip", "application/x-zip-compressed", "application/x-zip"];
    Jar, "jar", "Archive Java ou Android", Other, ["jar", "war", "apk"], ["application/java-archive"];
    Epub, "epub", "Livre EPUB", Other, ["epub"], ["application/epub+zip"];
    Rar, "rar", "Archive RAR", Other, ["rar"], ["application/vnd.rar", "application/x-rar-compressed"];
    SevenZip, "7z", "Archive 7-Zip", Other, ["7z"], ["application/x-7z-compressed"];
    Tar, "tar", "Archive TAR", Other, ["tar"], ["application/x-tar"];
    Gzip, "gzip", "Archive GZIP", Other, ["gz", "tgz"], ["application/gzip"];
    Bzip2, "bzip2", "Archive BZIP2", Other, ["bz2"], ["application/x-bzip2"];
    Xz, "xz", "Archive XZ", Other, ["xz"], ["application/x-xz"];
    Zstd, "zstd", "Archive Zstandard", Other, ["zst"], ["application/zstd"];
    Cab, "cab", "Archive CAB", Other, ["cab"], ["application/vnd.ms-cab-compressed"];
    Iso, "iso", "Image disque ISO 9660", Other, ["iso"], ["application/x-iso9660-image"];
    Exe, "exe", "Programme Windows", Other, ["exe", "dll", "scr", "sys", "com"], ["application/vnd.microsoft.portable-executable"];
    Elf, "elf", "Programme Linux", Other, ["so", "elf"], ["application/x-elf"];
    MachO, "macho", "Programme macOS", Other, ["dylib"], ["application/x-mach-binary"];
    JavaClass, "class", "Programme Java compilé", Other, ["class"], ["application/java-vm"];
    Lnk, "lnk", "Raccourci Windows", Other, ["lnk"], ["application/x-ms-shortcut"];
    Sqlite, "sqlite", "Base SQLite", Other, ["sqlite", "db"], ["application/vnd.sqlite3"];
    PostScript, "ps", "PostScript", Other, ["ps", "eps"], ["application/postscript"];
    Dicom, "dicom", "DICOM", Other, ["dcm"], ["application/dicom"];
}

impl Format {
    /// The format with this stable code.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|f| f.code() == code)
    }

    /// Formats whose names end in `extension` (any case, no dot).
    pub fn from_extension(extension: &str) -> impl Iterator<Item = Self> {
        let extension = extension.to_ascii_lowercase();
        Self::ALL.iter().copied().filter(move |f| f.extensions().iter().any(|e| *e == extension))
    }

    /// Whether it is a program or starts one.
    pub const fn is_executable(self) -> bool {
        matches!(self, Self::Exe | Self::Elf | Self::MachO | Self::JavaClass | Self::Lnk | Self::Msi | Self::Script | Self::Jar | Self::Swf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_round_trip() {
        for format in Format::ALL {
            assert_eq!(Format::from_code(format.code()), Some(*format));
            let json = serde_json::to_string(format).unwrap();
            assert_eq!(json, format!("\"{}\"", format.code()));
        }
    }

    #[test]
    fn extensions_are_lower_case_and_every_format_has_one() {
        for format in Format::ALL {
            assert!(!format.extensions().is_empty(), "{format:?}");
            assert!(format.extensions().iter().all(|e| e.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())));
        }
    }
}
