//! Tokens and objects from bytes (ISO 32000-2 §7.2, §7.3).
//!
//! Goals: never panic, never recurse deeper than [`MAX_NESTING`], never build more than [`MAX_NODES`] values
//! for one object whatever the file says, and tell apart "written oddly, yet readable" ([`Lexer::odd`])
//! from "unreadable".

use super::object::{Dict, Object};

/// Arrays and dictionaries inside one another, at most. Real files stay below 20.
const MAX_NESTING: u32 = 100;
/// Values in one indirect object, at most: 500,000 values take some 20 MB.
const MAX_NODES: u32 = 500_000;

/// One token.
#[derive(Debug, Clone, PartialEq)]
pub enum Token<'a> {
    /// Integer.
    Int(i64),
    /// Real.
    Real(f64),
    /// String, literal or hexadecimal, unescaped.
    Str(Vec<u8>),
    /// Name, `#xx` decoded.
    Name(Vec<u8>),
    /// `[`
    ArrayOpen,
    /// `]`
    ArrayClose,
    /// `<<`
    DictOpen,
    /// `>>`
    DictClose,
    /// Anything else: `obj`, `true`, an operator, or rubbish.
    Word(&'a [u8]),
    /// No more bytes.
    End,
}

/// What stands next in a content stream.
#[derive(Debug, Clone, PartialEq)]
pub enum Instruction<'a> {
    /// An operand.
    Operand(Object),
    /// An operator.
    Operator(&'a [u8]),
    /// No more bytes.
    End,
}

/// An object that cannot be read: nested too deep, too many values, or no object at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unreadable;

/// Reads tokens from `data`, starting at `pos`.
#[derive(Debug, Clone)]
pub struct Lexer<'a> {
    data: &'a [u8],
    /// Offset of the next byte.
    pub pos: usize,
    /// Something was written against the grammar and was read around.
    pub odd: bool,
}

/// White space (§7.2.3, table 1).
pub const fn is_space(byte: u8) -> bool {
    matches!(byte, 0 | 9 | 10 | 12 | 13 | 32)
}

const fn is_delimiter(byte: u8) -> bool {
    matches!(byte, b'(' | b')' | b'<' | b'>' | b'[' | b']' | b'{' | b'}' | b'/' | b'%')
}

const fn is_regular(byte: u8) -> bool {
    !is_space(byte) && !is_delimiter(byte)
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|d| u8::try_from(d).ok())
}

impl<'a> Lexer<'a> {
    /// A lexer over `data` from offset `pos`.
    pub const fn new(data: &'a [u8], pos: usize) -> Self {
        Self { data, pos, odd: false }
    }

    /// The next byte, without taking it.
    pub fn peek(&self) -> Option<u8> {
        self.data.get(self.pos).copied()
    }

    /// The bytes that are left.
    pub fn rest(&self) -> &'a [u8] {
        self.data.get(self.pos..).unwrap_or_default()
    }

    /// Skips white space and comments.
    pub fn skip_space(&mut self) {
        while let Some(byte) = self.peek() {
            if is_space(byte) {
                self.pos += 1;
            } else if byte == b'%' {
                let rest = self.rest();
                self.pos += memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
            } else {
                break;
            }
        }
    }

    /// Takes the next token.
    pub fn token(&mut self) -> Token<'a> {
        self.skip_space();
        let Some(byte) = self.peek() else { return Token::End };
        match byte {
            b'[' => self.one(Token::ArrayOpen),
            b']' => self.one(Token::ArrayClose),
            b'/' => self.name(),
            b'(' => self.literal_string(),
            b'<' if self.data.get(self.pos + 1) == Some(&b'<') => {
                self.pos += 2;
                Token::DictOpen
            }
            b'>' if self.data.get(self.pos + 1) == Some(&b'>') => {
                self.pos += 2;
                Token::DictClose
            }
            b'<' => self.hex_string(),
            b')' | b'>' | b'{' | b'}' => {
                let word = &self.data[self.pos..=self.pos];
                self.one(Token::Word(word))
            }
            _ => self.word_or_number(),
        }
    }

    fn one(&mut self, token: Token<'a>) -> Token<'a> {
        self.pos += 1;
        token
    }

    fn regular_run(&mut self) -> &'a [u8] {
        let rest = self.rest();
        let len = rest.iter().position(|b| !is_regular(*b)).unwrap_or(rest.len());
        self.pos += len;
        &rest[..len]
    }

    fn name(&mut self) -> Token<'a> {
        self.pos += 1;
        let raw = self.regular_run();
        if !raw.contains(&b'#') {
            return Token::Name(raw.to_vec());
        }
        let mut name = Vec::with_capacity(raw.len());
        let mut i = 0;
        while let Some(byte) = raw.get(i) {
            let pair = (raw.get(i + 1).copied().and_then(hex_digit), raw.get(i + 2).copied().and_then(hex_digit));
            if let (b'#', (Some(high), Some(low))) = (byte, pair) {
                name.push(high << 4 | low);
                i += 3;
            } else {
                name.push(*byte);
                i += 1;
            }
        }
        Token::Name(name)
    }

    fn literal_string(&mut self) -> Token<'a> {
        self.pos += 1;
        let mut string = Vec::new();
        let mut open = 1u32;
        loop {
            let Some(byte) = self.peek() else {
                self.odd = true;
                return Token::Str(string);
            };
            self.pos += 1;
            match byte {
                b'(' => {
                    open += 1;
                    string.push(byte);
                }
                b')' => {
                    open -= 1;
                    if open == 0 {
                        return Token::Str(string);
                    }
                    string.push(byte);
                }
                b'\\' => self.escape(&mut string),
                b'\r' => {
                    if self.peek() == Some(b'\n') {
                        self.pos += 1;
                    }
                    string.push(b'\n');
                }
                _ => string.push(byte),
            }
        }
    }

    fn escape(&mut self, string: &mut Vec<u8>) {
        let Some(byte) = self.peek() else { return };
        self.pos += 1;
        match byte {
            b'n' => string.push(b'\n'),
            b'r' => string.push(b'\r'),
            b't' => string.push(b'\t'),
            b'b' => string.push(8),
            b'f' => string.push(12),
            b'\r' => {
                if self.peek() == Some(b'\n') {
                    self.pos += 1;
                }
            }
            b'\n' => {}
            b'0'..=b'7' => {
                let mut code = u32::from(byte - b'0');
                for _ in 0..2 {
                    let Some(digit @ b'0'..=b'7') = self.peek() else { break };
                    code = code * 8 + u32::from(digit - b'0');
                    self.pos += 1;
                }
                // High-order overflow is ignored (§7.3.4.2).
                string.push((code & 0xFF) as u8);
            }
            other => string.push(other),
        }
    }

    fn hex_string(&mut self) -> Token<'a> {
        self.pos += 1;
        let mut string = Vec::new();
        let mut high: Option<u8> = None;
        loop {
            let Some(byte) = self.peek() else {
                self.odd = true;
                break;
            };
            self.pos += 1;
            if byte == b'>' {
                break;
            }
            match (hex_digit(byte), high) {
                (Some(digit), None) => high = Some(digit),
                (Some(digit), Some(first)) => {
                    string.push(first << 4 | digit);
                    high = None;
                }
                (None, _) if is_space(byte) => {}
                (None, _) => self.odd = true,
            }
        }
        if let Some(first) = high {
            string.push(first << 4);
        }
        Token::Str(string)
    }

    fn word_or_number(&mut self) -> Token<'a> {
        let run = self.regular_run();
        number(run).unwrap_or(Token::Word(run))
    }

    /// Reads one object. `12 0 R` is one object; a stream's dictionary is read without its data.
    ///
    /// # Errors
    /// [`Unreadable`] when nothing sensible stands here.
    pub fn object(&mut self) -> Result<Object, Unreadable> {
        let mut nodes = 0;
        let token = self.token();
        self.value(token, 0, &mut nodes)
    }

    fn value(&mut self, token: Token<'a>, depth: u32, nodes: &mut u32) -> Result<Object, Unreadable> {
        *nodes += 1;
        if depth > MAX_NESTING || *nodes > MAX_NODES {
            return Err(Unreadable);
        }
        Ok(match token {
            Token::Int(n) => self.reference_or(n),
            Token::Real(r) => Object::Real(r),
            Token::Str(s) => Object::Str(s),
            Token::Name(n) => Object::Name(n),
            Token::ArrayOpen => Object::Array(self.array(depth, nodes)?),
            Token::DictOpen => Object::Dict(self.dictionary(depth, nodes)?),
            Token::Word(b"true") => Object::Bool(true),
            Token::Word(b"false") => Object::Bool(false),
            Token::Word(b"null") => Object::Null,
            Token::Word(_) | Token::ArrayClose | Token::DictClose | Token::End => return Err(Unreadable),
        })
    }

    fn reference_or(&mut self, first: i64) -> Object {
        // Only two digits-only tokens and an `R` make a reference; anything else is read again.
        let (Ok(num), after_first) = (u32::try_from(first), self.pos) else { return Object::Int(first) };
        if let Token::Int(0..=65_535) = self.token()
            && self.token() == Token::Word(b"R")
        {
            return Object::Ref(num);
        }
        self.pos = after_first;
        Object::Int(first)
    }

    fn array(&mut self, depth: u32, nodes: &mut u32) -> Result<Vec<Object>, Unreadable> {
        let mut items = Vec::new();
        loop {
            let before = self.pos;
            match self.token() {
                Token::ArrayClose => return Ok(items),
                Token::End => {
                    self.odd = true;
                    return Ok(items);
                }
                Token::DictClose => {
                    // The array was never closed: leave `>>` to whoever opened it.
                    self.odd = true;
                    self.pos = before;
                    return Ok(items);
                }
                Token::Word(word) if !matches!(word, b"true" | b"false" | b"null") => {
                    self.odd = true;
                    if ends_object(word) {
                        self.pos = before;
                        return Ok(items);
                    }
                    *nodes += 1;
                    if *nodes > MAX_NODES {
                        return Err(Unreadable);
                    }
                }
                token => items.push(self.value(token, depth + 1, nodes)?),
            }
        }
    }

    fn dictionary(&mut self, depth: u32, nodes: &mut u32) -> Result<Dict, Unreadable> {
        let mut entries = Vec::new();
        loop {
            let before = self.pos;
            match self.token() {
                Token::DictClose => return Ok(Dict(entries)),
                Token::End => {
                    self.odd = true;
                    return Ok(Dict(entries));
                }
                Token::Name(key) => {
                    let before_value = self.pos;
                    match self.token() {
                        Token::DictClose => {
                            // A key without a value is a key that is absent (§7.3.7), yet against the grammar.
                            self.odd = true;
                            return Ok(Dict(entries));
                        }
                        Token::Word(word) if !matches!(word, b"true" | b"false" | b"null") => {
                            self.odd = true;
                            if ends_object(word) {
                                self.pos = before_value;
                                return Ok(Dict(entries));
                            }
                        }
                        Token::ArrayClose | Token::End => self.odd = true,
                        token => {
                            let value = self.value(token, depth + 1, nodes)?;
                            entries.push((key, value));
                        }
                    }
                }
                Token::Word(word) if ends_object(word) => {
                    self.odd = true;
                    self.pos = before;
                    return Ok(Dict(entries));
                }
                _ => {
                    self.odd = true;
                    *nodes += 1;
                    if *nodes > MAX_NODES {
                        return Err(Unreadable);
                    }
                }
            }
        }
    }

    /// Takes the next operand or operator of a content stream (§7.8.2).
    pub fn instruction(&mut self) -> Instruction<'a> {
        loop {
            match self.token() {
                Token::End => return Instruction::End,
                Token::Word(b"true") => return Instruction::Operand(Object::Bool(true)),
                Token::Word(b"false") => return Instruction::Operand(Object::Bool(false)),
                Token::Word(b"null") => return Instruction::Operand(Object::Null),
                Token::Word(word) => return Instruction::Operator(word),
                // References do not occur in content streams: `1 0 R` would be an operator.
                Token::Int(n) => return Instruction::Operand(Object::Int(n)),
                Token::ArrayClose | Token::DictClose => self.odd = true,
                token => match self.value(token, 0, &mut 0) {
                    Ok(object) => return Instruction::Operand(object),
                    Err(Unreadable) => self.odd = true,
                },
            }
        }
    }
}

/// Words that no array or dictionary holds: the object around it ends here whatever is still open.
fn ends_object(word: &[u8]) -> bool {
    matches!(word, b"endobj" | b"stream" | b"endstream" | b"obj" | b"xref" | b"trailer" | b"startxref")
}

/// Numbers as readers accept them: `+1`, `-.5`, `4.`, `--3` (a producer's bug that readers take as -3).
fn number<'a>(run: &[u8]) -> Option<Token<'a>> {
    let mut digits = run;
    let mut negative = false;
    while let [sign @ (b'+' | b'-'), rest @ ..] = digits {
        negative |= *sign == b'-';
        digits = rest;
    }
    if digits.is_empty() || run.len() - digits.len() > 2 {
        return None;
    }
    let (whole, fraction) = match digits.iter().position(|b| *b == b'.') {
        Some(dot) => (&digits[..dot], Some(&digits[dot + 1..])),
        None => (digits, None),
    };
    if whole.is_empty() && fraction.is_none_or(<[u8]>::is_empty) || !whole.iter().all(u8::is_ascii_digit) {
        return None;
    }
    match fraction {
        None => {
            let n = whole.iter().fold(0i64, |n, d| n.saturating_mul(10).saturating_add(i64::from(d - b'0')));
            Some(Token::Int(if negative { -n } else { n }))
        }
        Some(fraction) => {
            // `12.-5` and `1.2.3` occur: what follows the first sound digits is dropped, as readers do.
            let sound = fraction.iter().position(|b| !b.is_ascii_digit()).unwrap_or(fraction.len());
            if sound < fraction.len() && !matches!(fraction[sound], b'-' | b'.') {
                return None;
            }
            let mut r = whole.iter().fold(0f64, |r, d| r * 10.0 + f64::from(d - b'0'));
            let mut unit = 0.1;
            for d in &fraction[..sound] {
                r += f64::from(d - b'0') * unit;
                unit /= 10.0;
            }
            Some(Token::Real(if negative { -r } else { r }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(source: &[u8]) -> Object {
        Lexer::new(source, 0).object().unwrap()
    }

    #[test]
    fn names_hidden_behind_hex_escapes_are_decoded() {
        assert_eq!(read(b"/J#61va#53cript"), Object::Name(b"JavaScript".to_vec()));
        assert_eq!(read(b"/A#zz#4"), Object::Name(b"A#zz#4".to_vec()));
    }

    #[test]
    fn strings_unescape_and_nest() {
        assert_eq!(read(b"(a(b)\\051\\n\\\nc\\7)"), Object::Str(b"a(b))\nc\x07".to_vec()));
        assert_eq!(read(b"<48 65 6C6c6F7>"), Object::Str(b"Hellop".to_vec()));
    }

    #[test]
    fn references_and_numbers_are_told_apart() {
        let expected = vec![Object::Int(1), Object::Int(2), Object::Ref(3), Object::Real(-0.5), Object::Int(-7)];
        assert_eq!(read(b"[1 2 3 0 R -.5 -7]"), Object::Array(expected));
    }

    #[test]
    fn an_unclosed_dictionary_ends_where_its_object_ends() {
        let mut lexer = Lexer::new(b"<< /A 1 /B [ 2 3 endobj", 0);
        let object = lexer.object().unwrap();
        assert!(lexer.odd);
        assert_eq!(object.dict().unwrap().get("A").int(), Some(1));
        assert_eq!(lexer.token(), Token::Word(b"endobj"));
    }

    #[test]
    fn nesting_beyond_the_limit_is_refused_not_followed() {
        let deep = vec![b'['; 1_000_000];
        assert_eq!(Lexer::new(&deep, 0).object(), Err(Unreadable));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut lexer = Lexer::new(&bytes, 0);
            let _ = lexer.object();
            let mut lexer = Lexer::new(&bytes, 0);
            while lexer.instruction() != Instruction::End {}
            prop_assert_eq!(lexer.pos, bytes.len());
        }
    }
}
