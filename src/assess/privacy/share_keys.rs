//! Share keys of Gazelle links (`privacyKey`, `readAccessKey`) wherever a text shows one: vendors paste whole links
//! into documents, spreadsheets and file names, and whoever reads the key can open the report.

/// Ends of the names, after which `key` stands.
const NAMES: [&str; 2] = ["privacy", "readaccess"];
/// What stands between the name and its value: plain, and as URLs and JSON in URLs spell it.
const BETWEEN: [&str; 8] = ["=", ":", " ", "\"", "%3d", "%22", "%20", "&#61;"];

/// `text` with every key replaced by `***`; `None` where there is none.
pub(super) fn masked(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut out = String::new();
    let mut copied = 0;
    for at in memchr::memchr2_iter(b'k', b'K', bytes) {
        let named = NAMES.iter().any(|n| ends_with(&bytes[..at], n.as_bytes())) && starts_with(&bytes[at..], b"key");
        if !named || at < copied {
            continue;
        }
        let mut from = at + 3;
        let mut separated = false;
        while let Some(piece) = BETWEEN.iter().find(|p| starts_with(&bytes[from..], p.as_bytes())) {
            separated |= *piece != " " && *piece != "\"";
            from += piece.len();
        }
        // The value is measured only where one may stand: a name repeated without a separator would otherwise be measured to the
        // end of the text each time, in quadratic time.
        let to = if separated { from + value_length(&bytes[from..]) } else { from };
        if to > from {
            out.push_str(&text[copied..from]);
            out.push_str("***");
            copied = to;
        }
    }
    if copied == 0 {
        return None;
    }
    out.push_str(&text[copied..]);
    Some(out)
}

/// Characters of a key, percent escapes included; not the `&` after it, nor the extension of a name that ends with it.
fn value_length(bytes: &[u8]) -> usize {
    let mut end = 0;
    while let Some(byte) = bytes.get(end) {
        let inside = match byte {
            b'%' => !["%26", "%22", "%20", "%23"].iter().any(|e| starts_with(&bytes[end..], e.as_bytes())),
            b'.' => {
                let rest = &bytes[end + 1..];
                !(rest.is_empty() || rest.len() <= 5 && rest.iter().all(u8::is_ascii_alphanumeric))
            }
            _ => byte.is_ascii_alphanumeric() || b"-_~+/=".contains(byte),
        };
        if !inside {
            break;
        }
        end += 1;
    }
    end
}

fn starts_with(bytes: &[u8], lower: &[u8]) -> bool {
    bytes.get(..lower.len()).is_some_and(|b| b.eq_ignore_ascii_case(lower))
}

fn ends_with(bytes: &[u8], lower: &[u8]) -> bool {
    bytes.len().checked_sub(lower.len()).is_some_and(|n| starts_with(&bytes[n..], lower))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_key_is_masked_however_it_is_written() {
        for (text, shown) in [
            ("voir https://h/r?oid=1.2&privacyKey=AbC123 et la suite", "voir https://h/r?oid=1.2&privacyKey=*** et la suite"),
            ("https://h/r?PRIVACYKEY=a-b_c&x=1", "https://h/r?PRIVACYKEY=***&x=1"),
            ("https%3A%2F%2Fh%3FprivacyKey%3DAbC%26x", "https%3A%2F%2Fh%3FprivacyKey%3D***%26x"),
            ("{\"readAccessKey\": \"AbC\"}", "{\"readAccessKey\": \"***\"}"),
            ("r?oid=1&privacyKey=AbC123.url", "r?oid=1&privacyKey=***.url"),
            ("privacyKey=Ab.C1 é privacyKey=x", "privacyKey=*** é privacyKey=***"),
        ] {
            assert_eq!(masked(text).as_deref(), Some(shown), "{text}");
        }
    }

    #[test]
    fn the_word_alone_is_no_key() {
        for text in ["le paramètre privacyKey du lien", "privacyKey=", "privacyKey=***", "monkey=1", "key", "publicKey=abc"] {
            assert_eq!(masked(text), None, "{text}");
        }
    }

    #[test]
    fn a_name_repeated_without_a_value_is_read_once() {
        // Quadratic, this took minutes.
        assert_eq!(masked(&"privacykey".repeat(200_000)), None);
    }

    proptest! {
        #[test]
        fn masking_twice_is_masking_once(text in "(privacyKey|=|%3D|\"| |\\.|é|a|%|&|\\*){0,24}") {
            if let Some(once) = masked(&text) {
                prop_assert_eq!(masked(&once), None);
            }
        }
    }
}
