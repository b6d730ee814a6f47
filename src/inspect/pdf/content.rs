//! What a page draws: its text in drawing order, its pictures, and whether anything is visible at all
//! (ISO 32000-2 §8, §9).
//!
//! Goals: words come out whole (spaces are inferred from positions, as many producers write none); forms
//! used on every page are read once; nothing is drawn, so the cost is that of reading the operators.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::rc::Rc;

use unicode_normalization::UnicodeNormalization as _;

use super::file::File;
use super::filters::Outcome;
use super::font::Font;
use super::lexer::{Instruction, Lexer, Token, is_space};
use super::object::{Dict, Object, Stream};
use crate::inspect::budget::{Budget, Exceeded};

/// Units of work of a glyph shown, or of a token of a content stream.
const STEP: u64 = 150;
/// Units of work of a glyph, whose place and text are computed.
const GLYPH: u64 = 400;
/// Units of work of a byte of content, each time it is read: one token may be megabytes long.
const LEXED_BYTE: u64 = 20;
/// How often one page may draw the same content stream. Producers repeat tiny ones (`q`, `Q`) around each thing they add;
/// past this the same marks fall on the same place again and show nothing new.
const MAX_REPEATS: u32 = 256;
/// Forms inside forms, at most.
const MAX_FORM_DEPTH: u32 = 10;
/// Operands kept for one operator; the longest real operator takes 6, `scn` up to 33.
const MAX_OPERANDS: usize = 64;
/// Saved graphics states kept.
const MAX_SAVED: usize = 256;
/// Bytes of text kept of one page.
const MAX_PAGE_TEXT: usize = 4 * 1024 * 1024;
/// Bytes of text kept of all forms, and of content streams that several pages share.
const MAX_KEPT: usize = 32 * 1024 * 1024;
/// Codes mapped by all fonts that are kept (an entry takes some 100 bytes).
const MAX_MAPPINGS: usize = 500_000;
/// A gap of this share of the font size is a space between words (a space is 0.25–0.33 wide, kerning
/// stays below 0.1).
const WORD_GAP: f64 = 0.17;
/// Moving back by this share of the font size draws onto the glyph before: TeX's accents.
const OVERPRINT: f64 = 0.15;
/// Moving away from the baseline by this share of the font size starts a new line.
const LINE_STEP: f64 = 0.45;

/// What was drawn.
#[derive(Debug, Clone, Default)]
pub struct Drawn {
    /// Text in drawing order; spaces and line ends inferred.
    pub text: String,
    /// Glyphs shown other than spaces.
    pub glyphs: u64,
    /// Of these, glyphs that map to no character.
    pub unmapped: u64,
    /// Pictures.
    pub images: u64,
    /// Lines and surfaces painted in another colour than white.
    pub paints: u64,
}

impl Drawn {
    fn add(&mut self, other: &Self) {
        self.line_end();
        self.push(&other.text);
        self.line_end();
        self.glyphs += other.glyphs;
        self.unmapped += other.unmapped;
        self.images += other.images;
        self.paints += other.paints;
    }
    fn push(&mut self, text: &str) {
        if self.text.len() < MAX_PAGE_TEXT {
            self.text.push_str(text);
        }
    }
    /// Joins an accent and the letter it is drawn on: `´` then `e`, or `c` then `¸`.
    fn overprint(&mut self, text: &str) {
        let mut letters = text.chars();
        let (Some(last), Some(next)) = (self.text.chars().next_back(), letters.next()) else { return self.push(text) };
        let (base, mark) = match (combining(last), combining(next)) {
            (Some(mark), None) if next.is_alphabetic() => (next, mark),
            (None, Some(mark)) if last.is_alphabetic() => (last, mark),
            _ => return self.push(text),
        };
        self.text.pop();
        let base = match base {
            'ı' => 'i',
            'ȷ' => 'j',
            other => other,
        };
        self.text.extend([base, mark].into_iter().nfc());
        self.push(letters.as_str());
    }
    fn space(&mut self) {
        if self.text.chars().next_back().is_some_and(|c| !c.is_whitespace()) {
            self.push(" ");
        }
    }
    fn line_end(&mut self) {
        if self.text.chars().next_back().is_some_and(|c| c != '\n') {
            self.push("\n");
        }
    }
}

/// The combining mark of an accent that stands by itself.
const fn combining(c: char) -> Option<char> {
    Some(match c {
        '`' | '\u{2CB}' => '\u{300}',
        '´' | '\u{2CA}' => '\u{301}',
        '^' | 'ˆ' => '\u{302}',
        '~' | '˜' => '\u{303}',
        '¨' => '\u{308}',
        '˚' => '\u{30A}',
        'ˇ' => '\u{30C}',
        '¸' => '\u{327}',
        _ => return None,
    })
}

/// `text` with typographic ligatures (U+FB00–FB06) spelt out, as people search for it.
pub fn without_ligatures(text: &str) -> Cow<'_, str> {
    if !text.contains(|c| matches!(c, '\u{FB00}'..='\u{FB06}')) {
        return Cow::Borrowed(text);
    }
    let spell = |c: char| match c {
        '\u{FB00}'..='\u{FB06}' => std::iter::once(c).nfkc().collect(),
        other => String::from(other),
    };
    Cow::Owned(text.chars().map(spell).collect())
}

/// Reads pages one after the other; fonts and forms are kept between them.
#[derive(Debug, Default)]
pub struct Reader {
    fonts: BTreeMap<u32, Rc<Font>>,
    forms: BTreeMap<u32, Rc<Drawn>>,
    streams: BTreeMap<u32, Rc<Vec<u8>>>,
    kept: usize,
    mappings: usize,
}

/// A transformation `[a b c d e f]`.
#[derive(Debug, Clone, Copy)]
struct Matrix([f64; 6]);

impl Matrix {
    const ONE: Self = Self([1.0, 0.0, 0.0, 1.0, 0.0, 0.0]);
    /// First `self`, then `other`.
    fn then(self, other: Self) -> Self {
        let ([a, b, c, d, e, f], [p, q, r, s, t, u]) = (self.0, other.0);
        Self([a * p + b * r, a * q + b * s, c * p + d * r, c * q + d * s, e * p + f * r + t, e * q + f * s + u])
    }
    fn moved(self, x: f64, y: f64) -> Self {
        Self([1.0, 0.0, 0.0, 1.0, x, y]).then(self)
    }
    fn of(operands: &[Object]) -> Option<Self> {
        let mut m = [0.0; 6];
        for (place, operand) in m.iter_mut().zip(operands.get(..6)?) {
            *place = operand.number()?;
        }
        Some(Self(m))
    }
}

/// The graphics state that text and visibility depend on.
#[derive(Debug, Clone)]
struct State {
    ctm: Matrix,
    font: Option<Rc<Font>>,
    size: f64,
    char_space: f64,
    word_space: f64,
    scale: f64,
    leading: f64,
    rise: f64,
    white_fill: bool,
    white_stroke: bool,
}

impl State {
    fn new() -> Self {
        Self {
            ctm: Matrix::ONE,
            font: None,
            size: 1.0,
            char_space: 0.0,
            word_space: 0.0,
            scale: 1.0,
            leading: 0.0,
            rise: 0.0,
            white_fill: false,
            white_stroke: false,
        }
    }
}

/// Where the last glyph ended and which way its line ran.
#[derive(Debug, Clone, Copy)]
struct Pen {
    x: f64,
    y: f64,
}

/// One run over one content stream (or the streams of one page).
struct Run {
    state: State,
    saved: Vec<State>,
    text: Matrix,
    line: Matrix,
    pen: Option<Pen>,
    operands: Vec<Object>,
    out: Drawn,
    depth: u32,
    steps: u32,
}

impl Run {
    fn new(depth: u32) -> Self {
        Self {
            state: State::new(),
            saved: Vec::new(),
            text: Matrix::ONE,
            line: Matrix::ONE,
            pen: None,
            operands: Vec::new(),
            out: Drawn::default(),
            depth,
            steps: 0,
        }
    }

    fn number(&self, i: usize) -> f64 {
        self.operands.get(i).and_then(Object::number).unwrap_or(0.0)
    }

    fn next_line(&mut self, x: f64, y: f64) {
        self.line = self.line.moved(x, y);
        self.text = self.line;
    }

    fn show(&mut self, bytes: &[u8], budget: &Budget) -> Result<(), Exceeded> {
        let Some(font) = self.state.font.clone() else {
            // No font: nothing is drawn by viewers; the bytes still say that text was meant.
            self.out.glyphs += bytes.len() as u64;
            self.out.unmapped += bytes.len() as u64;
            return Ok(());
        };
        let mut rest = bytes;
        while !rest.is_empty() {
            self.steps = self.steps.wrapping_add(1);
            if self.steps.is_multiple_of(512) {
                budget.work(512 * GLYPH)?;
            }
            let (glyph, len) = font.next_glyph(rest);
            let computed = if glyph.text.is_none() { font.computed(rest, len) } else { None };
            let text = glyph.text.or(computed.as_deref());
            let overprints = self.gap();
            match text {
                Some(text) => {
                    self.out.glyphs += u64::from(text.chars().any(|c| !c.is_whitespace() && !c.is_control()));
                    if overprints { self.out.overprint(text) } else { self.out.push(text) }
                }
                None if glyph.word_space => self.out.push(" "),
                None => {
                    self.out.glyphs += 1;
                    self.out.unmapped += 1;
                }
            }
            let mut advance = glyph.width / 1000.0 * self.state.size + self.state.char_space;
            if glyph.word_space {
                advance += self.state.word_space;
            }
            self.text = self.text.moved(advance * self.state.scale, 0.0);
            let [.., x, y] = self.text.then(self.state.ctm).0;
            self.pen = Some(Pen { x, y });
            rest = rest.get(len..).unwrap_or_default();
        }
        Ok(())
    }

    /// Infers a space or a line end from where the next glyph stands; returns whether it stands on the last one.
    fn gap(&mut self) -> bool {
        let [a, b, c, d, x, y] = self.text.then(self.state.ctm).0;
        let Some(pen) = self.pen else { return false };
        let along = (a * a + b * b).sqrt();
        let height = (c * c + d * d).sqrt() * self.state.size.abs();
        if !(along > 0.0 && height > 0.0 && height.is_finite()) {
            return false;
        }
        let (dx, dy) = (x - pen.x, y - pen.y);
        let forward = (dx * a + dy * b) / along;
        let sideways = (dx * b - dy * a) / along;
        if sideways.abs() > LINE_STEP * height {
            // A superscript moves a little and comes back; a line moves by its height or more.
            if sideways.abs() > 0.7 * height || forward < -height { self.out.line_end() } else { self.out.space() }
        } else if forward > WORD_GAP * height || forward < -1.5 * height {
            self.out.space();
        } else {
            return forward < -OVERPRINT * height;
        }
        false
    }
}

impl Reader {
    /// Reads the content of one page.
    ///
    /// # Errors
    /// [`Exceeded`] when the budget ends; what was read before is in `partial`.
    pub fn page(
        &mut self,
        file: &mut File,
        page: &Dict,
        resources: &Dict,
        partial: &mut Drawn,
        budget: &mut Budget,
    ) -> Result<(), Exceeded> {
        let contents = file.entry(page, "Contents", budget)?;
        let one = [page.get("Contents").clone()];
        let streams = if contents.stream().is_some() { &one[..] } else { contents.items() };
        let mut run = Run::new(0);
        let mut outcome = Ok(());
        let mut drawn: BTreeMap<u32, u32> = BTreeMap::new();
        for reference in streams {
            budget.tick()?;
            if let Some(num) = reference.reference() {
                let times = drawn.entry(num).or_default();
                *times = times.saturating_add(1);
                if *times > MAX_REPEATS {
                    continue;
                }
            }
            let stream = file.resolve(reference, budget)?;
            let Some(stream) = stream.stream() else {
                if reference.reference().is_some() && *stream != Object::Null {
                    file.harm.repaired("/Contents");
                }
                continue;
            };
            outcome = self.content(file, stream, budget).and_then(|bytes| self.run(file, &bytes, resources, &mut run, budget));
            if outcome.is_err() {
                break;
            }
        }
        *partial = run.out;
        outcome
    }

    /// Reads the appearance of an annotation, or any form.
    ///
    /// # Errors
    /// [`Exceeded`] when the budget ends.
    pub fn appearance(&mut self, file: &mut File, form: &Stream, budget: &mut Budget) -> Result<Rc<Drawn>, Exceeded> {
        self.form(file, form, &Dict::default(), 1, budget)
    }

    /// Decoded content; kept where it is small, as producers share streams between pages.
    fn content(&mut self, file: &mut File, stream: &Stream, budget: &mut Budget) -> Result<Rc<Vec<u8>>, Exceeded> {
        if let Some(bytes) = self.streams.get(&stream.num) {
            return Ok(Rc::clone(bytes));
        }
        let decoded = file.decode_strictly(stream, budget)?;
        let bytes = if decoded.outcome == Outcome::Opaque { Cow::Borrowed(&[][..]) } else { decoded.bytes };
        let bytes = Rc::new(bytes.into_owned());
        if self.kept + bytes.len() < MAX_KEPT {
            self.kept += bytes.len();
            self.streams.insert(stream.num, Rc::clone(&bytes));
        }
        Ok(bytes)
    }

    fn form(&mut self, file: &mut File, form: &Stream, outer: &Dict, depth: u32, budget: &mut Budget) -> Result<Rc<Drawn>, Exceeded> {
        if let Some(drawn) = self.forms.get(&form.num) {
            return Ok(Rc::clone(drawn));
        }
        // Stands in for itself while it is read: a form that draws itself draws nothing more.
        self.forms.insert(form.num, Rc::default());
        let resources = file.entry(&form.dict, "Resources", budget)?;
        let resources = resources.dict().unwrap_or(outer);
        let bytes = file.decode_strictly(form, budget)?;
        let mut run = Run::new(depth);
        if bytes.outcome != Outcome::Opaque {
            self.run(file, &bytes.bytes, resources, &mut run, budget)?;
        }
        let mut drawn = run.out;
        if self.kept + drawn.text.len() > MAX_KEPT {
            drawn.text = String::new();
        }
        self.kept += drawn.text.len();
        let drawn = Rc::new(drawn);
        self.forms.insert(form.num, Rc::clone(&drawn));
        Ok(drawn)
    }

    fn run(&mut self, file: &mut File, bytes: &[u8], resources: &Dict, run: &mut Run, budget: &mut Budget) -> Result<(), Exceeded> {
        budget.work(bytes.len() as u64 * LEXED_BYTE)?;
        let mut lexer = Lexer::new(bytes, 0);
        loop {
            run.steps = run.steps.wrapping_add(1);
            if run.steps.is_multiple_of(512) {
                budget.work(512 * STEP)?;
            }
            match lexer.instruction() {
                Instruction::End => return Ok(()),
                Instruction::Operand(operand) => {
                    if run.operands.len() < MAX_OPERANDS {
                        run.operands.push(operand);
                    }
                }
                Instruction::Operator(b"BI") => {
                    let start = lexer.pos;
                    inline_image(&mut lexer);
                    budget.work(lexer.pos.saturating_sub(start) as u64 * LEXED_BYTE)?;
                    run.out.images += 1;
                    run.operands.clear();
                }
                Instruction::Operator(operator) => {
                    self.operator(file, operator, resources, run, budget)?;
                    run.operands.clear();
                }
            }
        }
    }

    fn operator(&mut self, file: &mut File, operator: &[u8], resources: &Dict, run: &mut Run, budget: &mut Budget) -> Result<(), Exceeded> {
        match operator {
            b"q" if run.saved.len() < MAX_SAVED => run.saved.push(run.state.clone()),
            b"Q" => {
                if let Some(state) = run.saved.pop() {
                    run.state = state;
                }
            }
            b"cm" => {
                if let Some(matrix) = Matrix::of(&run.operands) {
                    run.state.ctm = matrix.then(run.state.ctm);
                }
            }
            b"BT" => (run.text, run.line) = (Matrix::ONE, Matrix::ONE),
            b"Tf" => {
                run.state.size = run.number(1);
                run.state.font = match run.operands.first().and_then(Object::name) {
                    Some(name) => self.font(file, resources, name, budget)?,
                    None => None,
                };
            }
            b"Tc" => run.state.char_space = run.number(0),
            b"Tw" => run.state.word_space = run.number(0),
            b"Tz" => run.state.scale = run.number(0) / 100.0,
            b"TL" => run.state.leading = run.number(0),
            b"Ts" => run.state.rise = run.number(0),
            b"Td" => run.next_line(run.number(0), run.number(1)),
            b"TD" => {
                run.state.leading = -run.number(1);
                run.next_line(run.number(0), run.number(1));
            }
            b"Tm" => {
                if let Some(matrix) = Matrix::of(&run.operands) {
                    (run.text, run.line) = (matrix, matrix);
                }
            }
            b"T*" => run.next_line(0.0, -run.state.leading),
            b"Tj" => show_operand(run, 0, budget)?,
            b"'" => {
                run.next_line(0.0, -run.state.leading);
                show_operand(run, 0, budget)?;
            }
            b"\"" => {
                run.state.word_space = run.number(0);
                run.state.char_space = run.number(1);
                run.next_line(0.0, -run.state.leading);
                show_operand(run, 2, budget)?;
            }
            b"TJ" => {
                let Some(Object::Array(items)) = run.operands.pop() else { return Ok(()) };
                for item in &items {
                    match item {
                        Object::Str(bytes) => run.show(bytes, budget)?,
                        other => {
                            let back = other.number().unwrap_or(0.0) / 1000.0 * run.state.size * run.state.scale;
                            run.text = run.text.moved(-back, 0.0);
                        }
                    }
                }
            }
            b"g" | b"rg" | b"k" | b"sc" | b"scn" => run.state.white_fill = is_white(&run.operands),
            b"G" | b"RG" | b"K" | b"SC" | b"SCN" => run.state.white_stroke = is_white(&run.operands),
            b"cs" => run.state.white_fill = false,
            b"CS" => run.state.white_stroke = false,
            b"f" | b"F" | b"f*" => run.out.paints += u64::from(!run.state.white_fill),
            b"S" | b"s" => run.out.paints += u64::from(!run.state.white_stroke),
            b"B" | b"B*" | b"b" | b"b*" => run.out.paints += u64::from(!(run.state.white_fill && run.state.white_stroke)),
            b"sh" => run.out.paints += 1,
            b"Do" => self.draw(file, resources, run, budget)?,
            _ => {}
        }
        Ok(())
    }

    fn draw(&mut self, file: &mut File, resources: &Dict, run: &mut Run, budget: &mut Budget) -> Result<(), Exceeded> {
        let Some(name) = run.operands.first().and_then(Object::name).map(<[u8]>::to_vec) else { return Ok(()) };
        let objects = file.entry(resources, "XObject", budget)?;
        let object = file.entry(objects.dict_or_empty(), &name, budget)?;
        let Some(stream) = object.stream() else { return Ok(()) };
        if file.entry(&stream.dict, "Subtype", budget)?.is_name("Image") {
            run.out.images += 1;
        } else if run.depth < MAX_FORM_DEPTH {
            let drawn = self.form(file, stream, resources, run.depth + 1, budget)?;
            run.out.add(&drawn);
            run.pen = None;
        }
        Ok(())
    }

    fn font(&mut self, file: &mut File, resources: &Dict, name: &[u8], budget: &mut Budget) -> Result<Option<Rc<Font>>, Exceeded> {
        let fonts = file.entry(resources, "Font", budget)?;
        let reference = fonts.dict_or_empty().get(name).clone();
        let number = reference.reference();
        if let Some(font) = number.and_then(|n| self.fonts.get(&n)) {
            return Ok(Some(Rc::clone(font)));
        }
        let object = file.resolve(&reference, budget)?;
        let Some(dict) = object.dict() else { return Ok(None) };
        let font = Rc::new(Font::read(file, dict, budget)?);
        if let Some(number) = number {
            // Honest documents have some dozens of fonts; past the limit they are read again.
            self.mappings += font.size();
            if self.mappings > MAX_MAPPINGS {
                self.fonts.clear();
                self.mappings = font.size();
            }
            self.fonts.insert(number, Rc::clone(&font));
        }
        Ok(Some(font))
    }
}

fn show_operand(run: &mut Run, i: usize, budget: &Budget) -> Result<(), Exceeded> {
    match run.operands.get(i).cloned() {
        Some(Object::Str(bytes)) => run.show(&bytes, budget),
        _ => Ok(()),
    }
}

/// Whether colour operands are white in grey, RGB or CMYK; patterns and spot colours are not.
fn is_white(operands: &[Object]) -> bool {
    let all = |value: f64| operands.iter().all(|o| o.number().is_some_and(|n| (n - value).abs() < 0.004));
    match operands.len() {
        1 | 3 => all(1.0),
        4 => all(0.0),
        _ => false,
    }
}

/// Skips an inline image: from behind `BI` to behind `EI` (§8.9.7).
fn inline_image(lexer: &mut Lexer) {
    loop {
        match lexer.token() {
            Token::Word(b"ID") => break,
            Token::End => return,
            _ => {}
        }
    }
    // One white space, then data. `EI` may occur in the data: it counts where white space surrounds it and
    // what follows reads like content, not like picture bytes.
    let rest = lexer.rest();
    for at in memchr::memmem::find_iter(rest, b"EI") {
        let before = at.checked_sub(1).and_then(|i| rest.get(i)).is_some_and(|b| is_space(*b));
        let tail = rest.get(at + 2..).unwrap_or_default();
        let tail = &tail[..tail.len().min(16)];
        let after = tail.first().is_none_or(|b| is_space(*b));
        if before && after && tail.iter().all(|b| matches!(b, 9 | 10 | 13 | 32..=126)) {
            lexer.pos += at + 2;
            return;
        }
    }
    lexer.pos += rest.len();
}
