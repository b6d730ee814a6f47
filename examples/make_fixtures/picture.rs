//! Pictures that look like screen copies: a window, a menu, a table, and the proof's id in large letters, so
//! that no two are the same.

use super::pack::zlib;

/// Width of a screen copy, pixels.
pub const WIDTH: usize = 640;
/// Height of a screen copy, pixels.
pub const HEIGHT: usize = 400;

/// The usual 5×7 dot-matrix letters from space to `_`, five columns each, lowest bit on top.
#[rustfmt::skip]
const FONT: [[u8; 5]; 64] = [
    [0x00,0x00,0x00,0x00,0x00],[0x00,0x00,0x5F,0x00,0x00],[0x00,0x07,0x00,0x07,0x00],[0x14,0x7F,0x14,0x7F,0x14],
    [0x24,0x2A,0x7F,0x2A,0x12],[0x23,0x13,0x08,0x64,0x62],[0x36,0x49,0x56,0x20,0x50],[0x00,0x08,0x07,0x03,0x00],
    [0x00,0x1C,0x22,0x41,0x00],[0x00,0x41,0x22,0x1C,0x00],[0x2A,0x1C,0x7F,0x1C,0x2A],[0x08,0x08,0x3E,0x08,0x08],
    [0x00,0x40,0x30,0x00,0x00],[0x08,0x08,0x08,0x08,0x08],[0x00,0x00,0x60,0x60,0x00],[0x20,0x10,0x08,0x04,0x02],
    [0x3E,0x51,0x49,0x45,0x3E],[0x00,0x42,0x7F,0x40,0x00],[0x72,0x49,0x49,0x49,0x46],[0x21,0x41,0x49,0x4D,0x33],
    [0x18,0x14,0x12,0x7F,0x10],[0x27,0x45,0x45,0x45,0x39],[0x3C,0x4A,0x49,0x49,0x31],[0x41,0x21,0x11,0x09,0x07],
    [0x36,0x49,0x49,0x49,0x36],[0x46,0x49,0x49,0x29,0x1E],[0x00,0x00,0x14,0x00,0x00],[0x00,0x40,0x34,0x00,0x00],
    [0x00,0x08,0x14,0x22,0x41],[0x14,0x14,0x14,0x14,0x14],[0x00,0x41,0x22,0x14,0x08],[0x02,0x01,0x59,0x09,0x06],
    [0x3E,0x41,0x5D,0x59,0x4E],[0x7C,0x12,0x11,0x12,0x7C],[0x7F,0x49,0x49,0x49,0x36],[0x3E,0x41,0x41,0x41,0x22],
    [0x7F,0x41,0x41,0x41,0x3E],[0x7F,0x49,0x49,0x49,0x41],[0x7F,0x09,0x09,0x09,0x01],[0x3E,0x41,0x41,0x51,0x73],
    [0x7F,0x08,0x08,0x08,0x7F],[0x00,0x41,0x7F,0x41,0x00],[0x20,0x40,0x41,0x3F,0x01],[0x7F,0x08,0x14,0x22,0x41],
    [0x7F,0x40,0x40,0x40,0x40],[0x7F,0x02,0x1C,0x02,0x7F],[0x7F,0x04,0x08,0x10,0x7F],[0x3E,0x41,0x41,0x41,0x3E],
    [0x7F,0x09,0x09,0x09,0x06],[0x3E,0x41,0x51,0x21,0x5E],[0x7F,0x09,0x19,0x29,0x46],[0x26,0x49,0x49,0x49,0x32],
    [0x03,0x01,0x7F,0x01,0x03],[0x3F,0x40,0x40,0x40,0x3F],[0x1F,0x20,0x40,0x20,0x1F],[0x3F,0x40,0x38,0x40,0x3F],
    [0x63,0x14,0x08,0x14,0x63],[0x03,0x04,0x78,0x04,0x03],[0x61,0x59,0x49,0x4D,0x43],[0x00,0x7F,0x41,0x41,0x41],
    [0x02,0x04,0x08,0x10,0x20],[0x00,0x41,0x41,0x41,0x7F],[0x04,0x02,0x01,0x02,0x04],[0x40,0x40,0x40,0x40,0x40],
];

/// Colours of the drawn application.
const PALETTE: [[u8; 3]; 8] =
    [[255, 255, 255], [33, 37, 41], [0, 92, 158], [233, 238, 243], [206, 214, 222], [24, 128, 84], [179, 72, 0], [120, 130, 140]];
const WHITE: u8 = 0;
const INK: u8 = 1;
const BLUE: u8 = 2;
const PALE: u8 = 3;
const LINE: u8 = 4;
const GREEN: u8 = 5;
const ORANGE: u8 = 6;
const GREY: u8 = 7;

/// A picture in palette colours.
pub struct Canvas {
    /// Pixels by row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    pixels: Vec<u8>,
}

impl Canvas {
    /// A white picture.
    pub fn new(width: usize, height: usize) -> Self {
        Self { width, height, pixels: vec![WHITE; width * height] }
    }

    fn fill(&mut self, x: usize, y: usize, width: usize, height: usize, colour: u8) {
        for row in y..(y + height).min(self.height) {
            let (from, to) = (row * self.width + x.min(self.width), row * self.width + (x + width).min(self.width));
            self.pixels[from..to].fill(colour);
        }
    }

    fn text(&mut self, x: usize, y: usize, scale: usize, colour: u8, text: &str) {
        for (n, c) in plain(text).bytes().enumerate() {
            let glyph = FONT[usize::from(c.to_ascii_uppercase()).saturating_sub(32).min(63)];
            for (column, bits) in glyph.iter().enumerate() {
                for row in 0..7 {
                    if bits >> row & 1 == 1 {
                        self.fill(x + (n * 6 + column) * scale, y + row * scale, scale, scale, colour);
                    }
                }
            }
        }
    }

    /// The picture as PNG (8-bit palette).
    pub fn png(&self) -> Vec<u8> {
        let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
        let mut chunk = |kind: &[u8; 4], data: &[u8]| {
            file.extend((data.len() as u32).to_be_bytes());
            let start = file.len();
            file.extend(kind);
            file.extend(data);
            let crc = crc32fast::hash(&file[start..]);
            file.extend(crc.to_be_bytes());
        };
        let mut header = Vec::new();
        header.extend((self.width as u32).to_be_bytes());
        header.extend((self.height as u32).to_be_bytes());
        header.extend([8, 3, 0, 0, 0]);
        chunk(b"IHDR", &header);
        chunk(b"PLTE", &PALETTE.concat());
        let mut rows = Vec::with_capacity(self.pixels.len() + self.height);
        for row in self.pixels.chunks(self.width) {
            rows.push(0);
            rows.extend_from_slice(row);
        }
        chunk(b"IDAT", &zlib(&rows));
        chunk(b"IEND", &[]);
        file
    }

    /// The picture as JPEG.
    pub fn jpeg(&self, quality: u8) -> Vec<u8> {
        let rgb: Vec<u8> = self.pixels.iter().flat_map(|p| PALETTE[usize::from(*p)]).collect();
        let mut file = Vec::new();
        image::codecs::jpeg::JpegEncoder::new_with_quality(&mut file, quality)
            .encode(&rgb, self.width as u32, self.height as u32, image::ExtendedColorType::Rgb8)
            .expect("a small picture in memory");
        file
    }

    /// Luma of a pixel, for video.
    pub fn luma(&self, x: usize, y: usize) -> u8 {
        let [r, g, b] = PALETTE[usize::from(self.pixels[y.min(self.height - 1) * self.width + x.min(self.width - 1)])].map(u32::from);
        (16 + (66 * r + 129 * g + 25 * b) / 256) as u8
    }
}

/// Letters of the font only: accents dropped, everything else `?`.
pub fn plain(text: &str) -> String {
    use unicode_normalization::UnicodeNormalization;
    text.nfkd()
        .filter(|c| !unicode_normalization::char::is_combining_mark(*c))
        .map(|c| match c {
            '’' | '‘' => '\'',
            '«' | '»' | '“' | '”' => '"',
            '–' | '—' => '-',
            c if c.is_ascii_graphic() || c == ' ' => c,
            _ => '?',
        })
        .collect()
}

/// A number that follows from a text (FNV-1a): what varies from one picture to the next.
pub fn seed(text: &str) -> u32 {
    text.bytes().fold(0x811C_9DC5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// A screen copy that shows `id` and `title`.
pub fn screen(id: &str, title: &str) -> Canvas {
    let mut canvas = Canvas::new(WIDTH, HEIGHT);
    let mut state = seed(id);
    let mut next = |below: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize % below
    };
    canvas.fill(0, 0, WIDTH, 28, BLUE);
    canvas.text(10, 8, 2, WHITE, "CABINET DE DEMONSTRATION");
    canvas.text(WIDTH - 130, 11, 1, WHITE, &format!("{:02}/01/2026 {:02}:{:02}:{:02}", 5 + next(20), 8 + next(10), next(60), next(60)));
    canvas.fill(0, 28, 120, HEIGHT - 28, PALE);
    let open = next(7);
    for (n, entry) in ["PATIENTS", "AGENDA", "COURRIERS", "MESSAGERIE", "ORDONNANCES", "RESULTATS", "PARAMETRES"].into_iter().enumerate() {
        if n == open {
            canvas.fill(0, 44 + n * 26, 120, 22, LINE);
        }
        canvas.text(12, 52 + n * 26, 1, INK, entry);
    }
    canvas.text(136, 44, 3, INK, id);
    let words: Vec<String> = title.split_whitespace().map(plain).collect();
    let mut line = String::new();
    let mut y = 76;
    for word in words {
        if line.len() + word.len() > 78 {
            canvas.text(136, y, 1, GREY, &line);
            line.clear();
            y += 11;
        }
        if y > 100 {
            break;
        }
        line = if line.is_empty() { word } else { format!("{line} {word}") };
    }
    if y <= 100 {
        canvas.text(136, y, 1, GREY, &line);
    }
    const NAMES: [&str; 8] = [
        "DUPONT TEST-A",
        "MARTIN TEST-B",
        "PETIT TEST-C",
        "MOREAU TEST-D",
        "LEROY TEST-E",
        "GARNIER TEST-F",
        "ROUX TEST-G",
        "FAURE TEST-H",
    ];
    const STATES: [(&str, u8); 4] = [("VALIDE", GREEN), ("ENVOYE", GREEN), ("EN ATTENTE", ORANGE), ("RECU", GREEN)];
    canvas.fill(136, 120, WIDTH - 156, 18, PALE);
    for (x, header) in [(142, "DATE"), (222, "PATIENT FICTIF"), (372, "ACTION"), (520, "STATUT")] {
        canvas.text(x, 126, 1, INK, header);
    }
    for row in 0..9 {
        let y = 142 + row * 22;
        canvas.fill(136, y + 16, WIDTH - 156, 1, LINE);
        canvas.text(142, y + 4, 1, INK, &format!("{:02}/{:02}/2025", 1 + next(28), 1 + next(12)));
        canvas.text(222, y + 4, 1, INK, NAMES[next(8)]);
        canvas.text(372, y + 4, 1, INK, ["CONSULTATION", "ALIMENTATION", "QUALIFICATION", "ENVOI", "RECEPTION"][next(5)]);
        let (state, colour) = STATES[next(4)];
        canvas.text(520, y + 4, 1, colour, state);
    }
    canvas.fill(136, HEIGHT - 44, 110, 24, GREEN);
    canvas.text(152, HEIGHT - 36, 1, WHITE, "ENREGISTRER");
    canvas.text(270, HEIGHT - 36, 1, GREY, &format!("DONNEES FICTIVES - REF {:08X}", seed(id)));
    canvas
}
