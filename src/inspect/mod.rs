//! From bytes to facts, inside the sandboxed child: one file per format family.
//!
//! Goals:
//! 1. An inspector describes; it never judges. It knows formats and nothing of pipelines, names, networks
//!    or disks: it gets the bytes and a [`Context`], and returns [`Facts`].
//! 2. One budget is counted over the whole recursion of one item: bytes really inflated, members, depth,
//!    work in counted units, so that the same bytes always end at the same place. Running out is a signal of the file (`bomb-…`), not an error of ours.
//! 3. A malformed file is described as far as it can be read. Inspectors return signals such as
//!    `pdf-corrupt`, they do not fail. A panic costs the child process, never the parent.

pub mod budget;
pub mod image;
mod media;
pub mod odf;
pub mod office;
pub mod ole;
pub mod ooxml;
pub mod pdf;
pub mod preview;
pub mod sheet;
pub mod text;
pub mod trailing;
pub mod video;
pub mod xml;
pub mod zip;
pub mod zip_index;
mod zip_methods;
mod zip_names;

pub use budget::{Budget, Exceeded, Limits};

use crate::identify;
use crate::model::facts::{Facts, TextChunk};
use crate::model::format::{Family, Format};
use crate::model::{Place, Signal};

/// What one inspection carries through its recursion.
#[derive(Debug)]
pub struct Context {
    /// Shared over the whole recursion.
    pub budget: Budget,
    /// Nesting of archives: 0 for the item itself.
    pub depth: u32,
}

impl Context {
    /// A fresh context for one item.
    pub fn new(limits: Limits) -> Self {
        Self { budget: Budget::new(limits), depth: 0 }
    }

    /// Adds `text` found at `place` to the facts, whitespace folded, within the budget of text.
    pub fn add_text(&mut self, facts: &mut Facts, place: Place, text: &str) {
        let folded = fold_whitespace(text);
        if folded.is_empty() {
            return;
        }
        let room = self.budget.take_text(folded.chars().count());
        if room == 0 {
            facts.text_truncated = true;
            return;
        }
        let kept: String = folded.chars().take(room).collect();
        facts.text_truncated |= kept.len() < folded.len();
        facts.text.push(TextChunk { place, text: kept });
    }
}

/// Describes `bytes`: what it is, then what its family's inspector sees in it.
pub fn inspect(bytes: &[u8], ctx: &mut Context) -> Facts {
    let mut facts = Facts::of_size(bytes.len() as u64);
    if bytes.is_empty() {
        facts.push(Signal::new("file-empty"));
        return facts;
    }
    identify::identify(bytes, &mut facts);
    let Some(format) = facts.format else { return facts };
    match format.family() {
        Family::Pdf => pdf::inspect(bytes, ctx, &mut facts),
        Family::Ooxml => ooxml::inspect(bytes, ctx, &mut facts),
        Family::Odf => odf::inspect(bytes, ctx, &mut facts),
        Family::Ole => ole::inspect(bytes, ctx, &mut facts),
        Family::Image => image::inspect(bytes, ctx, &mut facts),
        Family::Video => video::inspect(bytes, ctx, &mut facts),
        Family::Text => text::inspect(bytes, ctx, &mut facts),
        Family::Zip => zip::inspect(bytes, ctx, &mut facts),
        // Readable as text, and text where they are named so.
        Family::Other if matches!(format, Format::Script | Format::PostScript | Format::Html | Format::Eml) => {
            text::inspect(bytes, ctx, &mut facts);
        }
        Family::Other => {}
    }
    facts
}

/// Runs a third-party parser whose bounds checks are its panics; a panic becomes `None`, of which the caller makes what it says of
/// a damaged file. Nothing of the parser is used again.
fn contained<T>(parse: impl FnOnce() -> T) -> Option<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(parse)).ok()
}

#[cfg(test)]
mod work_tests;

/// The bytes of `text` with its percent-encoding undone (RFC 3986 §2.1). What is no escape stays.
pub(crate) fn percent_decode(text: &str) -> Vec<u8> {
    let (mut decoded, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let Some((byte, after)) = rest.split_first() {
        let pair = after.first_chunk::<2>().filter(|_| *byte == b'%').and_then(|pair| std::str::from_utf8(pair).ok());
        let code = pair.and_then(|pair| u8::from_str_radix(pair, 16).ok());
        decoded.push(code.unwrap_or(*byte));
        rest = if code.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    decoded
}

/// Runs of whitespace (and control characters) become one space; ends are trimmed.
pub fn fold_whitespace(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty()) {
        if !folded.is_empty() {
            folded.push(' ');
        }
        folded.push_str(word);
    }
    folded
}
