//! Plain text from the small HTML that the agency's tools put into spreadsheet cells.
//!
//! Cells hold fragments such as `<p class="mb-1">Étape 1 : d&eacute;montrer…<br/>…</p>`. What matters to a reader
//! is kept: paragraphs, line breaks and list items become lines (the steps of a scenario are its « points de
//! contrôle »); everything else is dropped. This is no sanitiser: whoever shows the text escapes it.

/// Names of U+00A0–U+00FF in order (HTML 4.01, « Latin-1 entities »).
const LATIN_1: [&str; 96] = [
    "nbsp", "iexcl", "cent", "pound", "curren", "yen", "brvbar", "sect", "uml", "copy", "ordf", "laquo", "not", "shy", "reg", "macr",
    "deg", "plusmn", "sup2", "sup3", "acute", "micro", "para", "middot", "cedil", "sup1", "ordm", "raquo", "frac14", "frac12", "frac34",
    "iquest", "Agrave", "Aacute", "Acirc", "Atilde", "Auml", "Aring", "AElig", "Ccedil", "Egrave", "Eacute", "Ecirc", "Euml", "Igrave",
    "Iacute", "Icirc", "Iuml", "ETH", "Ntilde", "Ograve", "Oacute", "Ocirc", "Otilde", "Ouml", "times", "Oslash", "Ugrave", "Uacute",
    "Ucirc", "Uuml", "Yacute", "THORN", "szlig", "agrave", "aacute", "acirc", "atilde", "auml", "aring", "aelig", "ccedil", "egrave",
    "eacute", "ecirc", "euml", "igrave", "iacute", "icirc", "iuml", "eth", "ntilde", "ograve", "oacute", "ocirc", "otilde", "ouml",
    "divide", "oslash", "ugrave", "uacute", "ucirc", "uuml", "yacute", "thorn", "yuml",
];

/// The others that office tools and editors write.
const OTHERS: &[(&str, char)] = &[
    ("amp", '&'),
    ("lt", '<'),
    ("gt", '>'),
    ("quot", '"'),
    ("apos", '\''),
    ("OElig", 'Œ'),
    ("oelig", 'œ'),
    ("Yuml", 'Ÿ'),
    ("euro", '€'),
    ("hellip", '…'),
    ("bull", '•'),
    ("ndash", '–'),
    ("mdash", '—'),
    ("lsquo", '‘'),
    ("rsquo", '’'),
    ("sbquo", '‚'),
    ("ldquo", '“'),
    ("rdquo", '”'),
    ("bdquo", '„'),
    ("lsaquo", '‹'),
    ("rsaquo", '›'),
    ("trade", '™'),
    ("permil", '‰'),
    ("larr", '←'),
    ("uarr", '↑'),
    ("rarr", '→'),
    ("darr", '↓'),
    ("harr", '↔'),
    ("rArr", '⇒'),
    ("le", '≤'),
    ("ge", '≥'),
    ("ne", '≠'),
    ("minus", '−'),
    ("ensp", ' '),
    ("emsp", ' '),
    ("thinsp", ' '),
    ("zwnj", '\u{200C}'),
    ("zwj", '\u{200D}'),
];

/// The text of a cell: entities decoded, tags turned into lines or dropped, runs of white space made one space,
/// empty lines and surrounding space removed. A cell without block tags keeps its own line breaks.
pub fn to_text(cell: &str) -> String {
    let tokens = tokens(cell);
    let is_html = tokens.iter().any(|t| matches!(t, Token::Tag { name, .. } if is_block(name)));
    let mut lines = Lines::default();
    let mut skipping: Option<String> = None;
    // One counter for each open list: `Some(n)` numbers its items.
    let mut lists: Vec<Option<u32>> = Vec::new();
    for token in tokens {
        match token {
            Token::Tag { name, closing } if skipping.is_some() => {
                if closing && skipping.as_deref() == Some(name.as_str()) {
                    skipping = None;
                }
            }
            Token::Text(_) if skipping.is_some() => {}
            Token::Tag { name, closing } => match name.as_str() {
                "script" | "style" if !closing => skipping = Some(name),
                "ul" | "ol" => {
                    lines.end();
                    if closing {
                        lists.pop();
                    } else {
                        lists.push((name == "ol").then_some(0));
                    }
                }
                "li" => {
                    lines.end();
                    if !closing {
                        let marker = match lists.last_mut() {
                            Some(Some(n)) => {
                                *n += 1;
                                format!("{n}. ")
                            }
                            _ => "- ".to_owned(),
                        };
                        lines.start_item(marker);
                    }
                }
                // A cell separates words, not lines.
                "td" | "th" => lines.push(" "),
                name if is_block(name) => lines.end(),
                _ => {}
            },
            Token::Text(text) => {
                let decoded = decode_entities(text);
                if is_html {
                    lines.push(&decoded);
                } else {
                    for (n, line) in decoded.split(['\n', '\r']).enumerate() {
                        if n > 0 {
                            lines.end();
                        }
                        lines.push(line);
                    }
                }
            }
        }
    }
    lines.end();
    lines.done.join("\n")
}

#[derive(Default)]
struct Lines {
    done: Vec<String>,
    current: String,
    /// « - » or « 3. », waiting for the item's first word.
    marker: String,
}

impl Lines {
    fn push(&mut self, text: &str) {
        self.current.push_str(text);
    }

    fn start_item(&mut self, marker: String) {
        self.marker = marker;
    }

    fn end(&mut self) {
        let line = std::mem::take(&mut self.current);
        let words: Vec<&str> =
            line.split(|c: char| c.is_whitespace()).map(|w| w.trim_matches(is_invisible)).filter(|w| !w.is_empty()).collect();
        // `<li><p>text</p></li>`: the marker waits until there is text.
        if !words.is_empty() {
            self.done.push(format!("{}{}", std::mem::take(&mut self.marker), words.join(" ")));
        }
    }
}

fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200B}'..='\u{200D}' | '\u{2060}' | '\u{FEFF}') || c.is_control()
}

fn is_block(name: &str) -> bool {
    matches!(
        name,
        "p" | "br"
            | "div"
            | "li"
            | "ul"
            | "ol"
            | "tr"
            | "table"
            | "tbody"
            | "thead"
            | "h1"
            | "h2"
            | "h3"
            | "h4"
            | "h5"
            | "h6"
            | "hr"
            | "blockquote"
            | "pre"
            | "section"
            | "dl"
            | "dt"
            | "dd"
    )
}

enum Token<'t> {
    Text(&'t str),
    Tag { name: String, closing: bool },
}

/// `<` opens a tag only before a letter, `/` and a letter, or `!`: « taille < 10 Mo » is text.
fn tokens(cell: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut rest = cell;
    let mut text_start = cell;
    while let Some(open) = rest.find('<') {
        let after = &rest[open + 1..];
        let (closing, name_start) = match after.strip_prefix('/') {
            Some(after) => (true, after),
            None => (false, after),
        };
        let is_comment = after.starts_with("!--");
        let is_tag = is_comment || after.starts_with('!') || name_start.starts_with(|c: char| c.is_ascii_alphabetic());
        let end = if is_comment { after.find("-->").map(|at| at + 2) } else { after.find('>') };
        let (true, Some(end)) = (is_tag, end) else {
            rest = after;
            continue;
        };
        let text_length = text_start.len() - rest.len() + open;
        if text_length > 0 {
            tokens.push(Token::Text(&text_start[..text_length]));
        }
        let name: String = name_start.chars().take_while(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
        if !is_comment && !name.is_empty() {
            tokens.push(Token::Tag { name, closing });
        }
        rest = &after[end + 1..];
        text_start = rest;
    }
    if !text_start.is_empty() {
        tokens.push(Token::Text(text_start));
    }
    tokens
}

/// `&eacute;`, `&#233;`, `&#xE9;`; what is no entity stays as it is.
fn decode_entities(text: &str) -> String {
    let mut decoded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        decoded.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        // The longest name is seven characters; ten leaves room for numbers.
        let entity = after.char_indices().take(11).find(|(_, c)| *c == ';').and_then(|(end, _)| Some((entity(&after[..end])?, end)));
        match entity {
            Some((c, end)) => {
                decoded.push(c);
                rest = &after[end + 1..];
            }
            None => {
                decoded.push('&');
                rest = after;
            }
        }
    }
    decoded.push_str(rest);
    decoded
}

fn entity(name: &str) -> Option<char> {
    if let Some(number) = name.strip_prefix('#') {
        let code = match number.strip_prefix(['x', 'X']) {
            Some(hex) => u32::from_str_radix(hex, 16).ok()?,
            None => number.parse().ok()?,
        };
        return char::from_u32(code).filter(|c| !c.is_control() || c.is_whitespace());
    }
    let latin_1 = LATIN_1.iter().position(|known| *known == name).and_then(|at| char::from_u32(0xA0 + at as u32));
    latin_1.or_else(|| OTHERS.iter().find(|(known, _)| *known == name).map(|(_, c)| *c))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paragraphs_breaks_and_lists_become_lines() {
        let cell = "<p class=\"mb-1\">&Eacute;tape&nbsp;1 : d&eacute;montrer\n  l&rsquo;appel</p><p></p><ul><li>un<br/>suite</li><li><p>deux</p></li></ul>\
                    <ol><li>a</li><li>b</li></ol>fin";
        assert_eq!(to_text(cell), "Étape 1 : démontrer l’appel\n- un\nsuite\n- deux\n1. a\n2. b\nfin");
    }

    #[test]
    fn a_plain_cell_keeps_its_lines_and_its_signs() {
        assert_eq!(to_text("Étape 1 : ouvrir\r\n\r\nÉtape 2 : taille < 10 Mo & > 0"), "Étape 1 : ouvrir\nÉtape 2 : taille < 10 Mo & > 0");
        assert_eq!(to_text("a <b>gras</b>\nb"), "a gras\nb");
    }

    #[test]
    fn entities_of_every_notation_are_decoded_once() {
        assert_eq!(to_text("&#233;&#xE9;&eacute; &amp;lt; &yuml; &inconnu; &laquo;x&raquo; R&D;"), "ééé &lt; ÿ &inconnu; «x» R&D;");
    }

    #[test]
    fn scripts_styles_and_comments_are_dropped() {
        assert_eq!(to_text("a<style>p{color:red}</style>b<!-- <p>x --><script>1<2</script>c"), "abc");
    }

    proptest! {
        #[test]
        fn arbitrary_cells_never_panic(cell in "(<|>|&|;|/|!--|-->|p|li|ol|#x|\\PC|\n){0,60}") {
            let text = to_text(&cell);
            prop_assert!(text.lines().all(|line| !line.trim().is_empty()));
        }
    }
}
