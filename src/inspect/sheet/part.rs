//! One XML part of a package, streamed: bytes are counted in the budget as they inflate, and no single
//! token may grow without bound.

use std::io::{BufReader, Read};

use quick_xml::XmlVersion;
use quick_xml::events::{BytesRef, BytesStart, Event};
use quick_xml::reader::Reader;

use crate::inspect::Exceeded;
use crate::inspect::budget::Budget;

/// A single tag or run of text larger than this is no spreadsheet of this world.
const MAX_TOKEN_BYTES: u64 = 32 * 1024 * 1024;

/// Why a part could not be read to its end.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The budget of the item is spent.
    #[error("the budget of the item is spent")]
    Exceeded(Exceeded),
    /// One token outgrew [`MAX_TOKEN_BYTES`].
    #[error("a single element of more than {MAX_TOKEN_BYTES} bytes")]
    HugeToken,
    /// Damaged stream or malformed XML.
    #[error("{0}")]
    Damaged(String),
}

impl From<Exceeded> for Fault {
    fn from(exceeded: Exceeded) -> Self {
        Self::Exceeded(exceeded)
    }
}

/// A reader that counts what passes through it.
struct Counted<'a> {
    inner: Box<dyn Read + 'a>,
    budget: &'a mut Budget,
    /// Whether bytes come out of a compressed stream and count as inflated.
    inflates: bool,
    since_token: u64,
    stopped: Option<Stop>,
}

/// Units of work of a byte of a part that is read once more.
const PARSED_BYTE: u64 = 5;

#[derive(Clone, Copy)]
enum Stop {
    Budget(Exceeded),
    Token,
}

impl Read for Counted<'_> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(buf)?;
        let counted = if self.inflates { self.budget.inflate(n as u64) } else { self.budget.work(n as u64 * PARSED_BYTE) };
        if let Err(exceeded) = counted {
            self.stopped = Some(Stop::Budget(exceeded));
            return Err(std::io::Error::other("budget spent"));
        }
        self.since_token = self.since_token.saturating_add(n as u64);
        if self.since_token > MAX_TOKEN_BYTES {
            self.stopped = Some(Stop::Token);
            return Err(std::io::Error::other("token too large"));
        }
        Ok(n)
    }
}

/// An XML part being read.
pub struct XmlPart<'a> {
    reader: Reader<BufReader<Counted<'a>>>,
    buf: Vec<u8>,
    depth: u64,
    rooted: bool,
}

impl<'a> XmlPart<'a> {
    /// Reads `inner`; `inflates` says whether its bytes come out of a compressed stream.
    pub fn new(inner: Box<dyn Read + 'a>, budget: &'a mut Budget, inflates: bool) -> Self {
        let counted = Counted { inner, budget, inflates, since_token: 0, stopped: None };
        let mut reader = Reader::from_reader(BufReader::with_capacity(32 * 1024, counted));
        // One shape to handle: `<c/>` comes as a start and an end.
        reader.config_mut().expand_empty_elements = true;
        Self { reader, buf: Vec::with_capacity(1024), depth: 0, rooted: false }
    }

    /// The next event; `Event::Eof` only when every element was closed.
    ///
    /// # Errors
    /// When the budget ends, the stream is damaged, or the XML is malformed or cut.
    pub fn next(&mut self) -> Result<Event<'_>, Fault> {
        self.buf.clear();
        self.reader.get_mut().get_mut().since_token = 0;
        match self.reader.read_event_into(&mut self.buf) {
            Ok(event) => {
                match &event {
                    Event::Start(_) => {
                        self.depth += 1;
                        self.rooted = true;
                    }
                    Event::End(_) => self.depth = self.depth.saturating_sub(1),
                    Event::Eof if self.depth > 0 => return Err(Fault::Damaged("XML cut before its end".to_owned())),
                    Event::Eof if !self.rooted => return Err(Fault::Damaged("no XML element".to_owned())),
                    _ => {}
                }
                Ok(event)
            }
            Err(e) => Err(match self.reader.get_ref().get_ref().stopped {
                Some(Stop::Budget(exceeded)) => Fault::Exceeded(exceeded),
                Some(Stop::Token) => Fault::HugeToken,
                None => Fault::Damaged(format!("{e} (byte {})", self.reader.error_position())),
            }),
        }
    }
}

/// The value of the attribute with this local name, entities resolved.
pub fn attr(e: &BytesStart<'_>, local: &str) -> Option<String> {
    let found = e.attributes().with_checks(false).flatten().find(|a| a.key.local_name().as_ref() == local)?;
    Some(match found.normalized_value(XmlVersion::Implicit1_0) {
        Ok(value) => value.into_owned(),
        Err(_) => found.value.into_owned(),
    })
}

/// The raw values of the `N` attributes with these names, in one pass and without allocating: for cell
/// references and types, which hold no entity.
pub fn raw_attrs<'e, const N: usize>(e: &'e BytesStart<'_>, names: [&str; N]) -> [Option<std::borrow::Cow<'e, str>>; N] {
    let mut values = [const { None }; N];
    for found in e.attributes().with_checks(false).flatten() {
        if let Some(slot) = names.iter().position(|n| *n == found.key.as_ref())
            && let Some(value) = values.get_mut(slot)
        {
            *value = Some(found.value);
        }
    }
    values
}

/// Appends the character that an entity or character reference stands for; unknown entities are left out.
pub fn push_reference(reference: &BytesRef<'_>, text: &mut String) {
    match reference.resolve_char_ref() {
        Ok(Some(c)) => text.push(c),
        _ => match reference.xml10_content().as_ref() {
            "lt" => text.push('<'),
            "gt" => text.push('>'),
            "amp" => text.push('&'),
            "apos" => text.push('\''),
            "quot" => text.push('"'),
            _ => {}
        },
    }
}
