//! Tiny films that players really play: one picture in uncompressed H.264 macroblocks (I_PCM), then frames that
//! repeat it (P_Skip), in MP4, MOV, F4V and FLV; Motion JPEG in AVI.

use super::picture::Canvas;

/// Width of films, pixels; a multiple of 16.
pub const WIDTH: usize = 320;
/// Height of films, pixels; a multiple of 16.
pub const HEIGHT: usize = 192;

/// An encoded film, one frame a second.
pub struct Film {
    sps: Vec<u8>,
    pps: Vec<u8>,
    frames: Vec<Vec<u8>>,
}

#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    used: u32,
}

impl Bits {
    fn put(&mut self, value: u32, bits: u32) {
        if bits == 8 && self.used.is_multiple_of(8) {
            self.bytes.push(value as u8);
            self.used += 8;
            return;
        }
        for bit in (0..bits).rev() {
            if self.used.is_multiple_of(8) {
                self.bytes.push(0);
            }
            *self.bytes.last_mut().expect("pushed above") |= ((value >> bit & 1) as u8) << (7 - self.used % 8);
            self.used += 1;
        }
    }
    /// Exp-Golomb, unsigned (ITU-T H.264 §9.1).
    fn ue(&mut self, value: u32) {
        let bits = 32 - (value + 1).leading_zeros();
        self.put(0, bits - 1);
        self.put(value + 1, bits);
    }
    fn align(&mut self) {
        self.used = self.used.next_multiple_of(8);
    }
    /// `rbsp_trailing_bits`, then emulation prevention (§7.4.1.1).
    fn nal(mut self, header: u8) -> Vec<u8> {
        self.put(1, 1);
        let mut nal = vec![header];
        let mut zeros = 0;
        for byte in self.bytes {
            if zeros >= 2 && byte <= 3 {
                nal.push(3);
                zeros = 0;
            }
            zeros = if byte == 0 { zeros + 1 } else { 0 };
            nal.push(byte);
        }
        nal
    }
}

impl Film {
    /// A film of `seconds` frames that shows `canvas` at half size.
    pub fn new(canvas: &Canvas, seconds: u32) -> Self {
        let (columns, rows) = (WIDTH / 16, HEIGHT / 16);
        let mut sps = Bits::default();
        for byte in [66, 0xC0, 30] {
            sps.put(byte, 8); // baseline, level 3
        }
        for value in [0, 0, 2, 1] {
            sps.ue(value); // id, frame numbers of 4 bits, picture order = decoding order, one reference
        }
        sps.put(0, 1);
        sps.ue(columns as u32 - 1);
        sps.ue(rows as u32 - 1);
        sps.put(0b1100, 4); // frames only, direct 8×8, no crop, no VUI
        let mut pps = Bits::default();
        pps.ue(0);
        pps.ue(0);
        pps.put(0, 2);
        for value in [0, 0, 0] {
            pps.ue(value);
        }
        pps.put(0, 3);
        for value in [0, 0, 0] {
            pps.ue(value);
        }
        pps.put(0b100, 3); // deblocking control present

        let mut key = Bits::default();
        for value in [0, 7, 0] {
            key.ue(value); // first macroblock, I slice, parameter set
        }
        key.put(0, 4);
        key.ue(0);
        key.put(0, 2);
        key.ue(0);
        key.ue(1); // no deblocking
        for row in 0..rows {
            for column in 0..columns {
                key.ue(25); // I_PCM
                key.align();
                for y in 0..16 {
                    for x in 0..16 {
                        key.put(u32::from(canvas.luma((column * 16 + x) * 2, (row * 16 + y) * 2)), 8);
                    }
                }
                for _ in 0..128 {
                    key.put(128, 8);
                }
            }
        }
        let mut frames = vec![key.nal(0x65)];
        for frame in 1..seconds {
            let mut skip = Bits::default();
            for value in [0, 5, 0] {
                skip.ue(value);
            }
            skip.put(frame % 16, 4);
            skip.put(0, 3); // references as they are, no marking
            skip.ue(0);
            skip.ue(1);
            skip.ue((columns * rows) as u32);
            frames.push(skip.nal(0x41));
        }
        Self { sps: sps.nal(0x67), pps: pps.nal(0x68), frames }
    }

    /// `AVCDecoderConfigurationRecord` (ISO/IEC 14496-15).
    fn configuration(&self) -> Vec<u8> {
        let mut record = vec![1, self.sps[1], self.sps[2], self.sps[3], 0xFF, 0xE1];
        record.extend((self.sps.len() as u16).to_be_bytes());
        record.extend(&self.sps);
        record.push(1);
        record.extend((self.pps.len() as u16).to_be_bytes());
        record.extend(&self.pps);
        record
    }

    fn samples(&self) -> Vec<Vec<u8>> {
        self.frames.iter().map(|nal| [&(nal.len() as u32).to_be_bytes()[..], nal].concat()).collect()
    }

    /// ISO base media: `brands` tells MP4 (`isom`), QuickTime (`qt  `) or F4V (`f4v `).
    pub fn iso(&self, brands: &[&[u8; 4]]) -> Vec<u8> {
        let samples = self.samples();
        let seconds = samples.len() as u32;
        let mut ftyp = brands[0].to_vec();
        ftyp.extend(512u32.to_be_bytes());
        ftyp.extend(brands.iter().flat_map(|b| b.iter()));
        let ftyp = atom(b"ftyp", &ftyp);
        let chunk = |moov_size: usize| (ftyp.len() + moov_size + 8) as u32;
        let moov = self.moov(&samples, seconds, 0);
        let moov = self.moov(&samples, seconds, chunk(moov.len()));
        [ftyp.clone(), moov, atom(b"mdat", &samples.concat())].concat()
    }

    fn moov(&self, samples: &[Vec<u8>], seconds: u32, offset: u32) -> Vec<u8> {
        const MATRIX: [u32; 9] = [0x1_0000, 0, 0, 0, 0x1_0000, 0, 0, 0, 0x4000_0000];
        let duration = seconds * 1000;
        let words = |words: &[u32]| words.iter().flat_map(|w| w.to_be_bytes()).collect::<Vec<u8>>();
        let mvhd =
            [words(&[0, 0, 0, 1000, duration, 0x1_0000]), vec![1, 0], vec![0; 10], words(&MATRIX), vec![0; 24], words(&[2])].concat();
        let tkhd = [words(&[7, 0, 0, 1, 0, duration]), vec![0; 16], words(&MATRIX), words(&[(WIDTH as u32) << 16, (HEIGHT as u32) << 16])]
            .concat();
        let mdhd = [words(&[0, 0, 0, 1000, duration]), vec![0x55, 0xC4, 0, 0]].concat();
        let hdlr = [words(&[0, 0]), b"vide".to_vec(), vec![0; 12], b"VideoHandler\0".to_vec()].concat();
        let mut avc1 = vec![0, 0, 0, 0, 0, 0, 0, 1];
        avc1.extend([0; 16]);
        avc1.extend((WIDTH as u16).to_be_bytes());
        avc1.extend((HEIGHT as u16).to_be_bytes());
        avc1.extend(words(&[0x48_0000, 0x48_0000, 0]));
        avc1.extend([0, 1]);
        avc1.extend([0; 32]);
        avc1.extend([0, 24, 0xFF, 0xFF]);
        avc1.extend(atom(b"avcC", &self.configuration()));
        let sizes: Vec<u32> = samples.iter().map(|s| s.len() as u32).collect();
        let stbl = [
            atom(b"stsd", &[words(&[0, 1]), atom(b"avc1", &avc1)].concat()),
            atom(b"stts", &words(&[0, 1, seconds, 1000])),
            atom(b"stss", &words(&[0, 1, 1])),
            atom(b"stsc", &words(&[0, 1, 1, seconds, 1])),
            atom(b"stsz", &[words(&[0, 0, seconds]), words(&sizes)].concat()),
            atom(b"stco", &words(&[0, 1, offset])),
        ]
        .concat();
        let dinf = atom(b"dinf", &atom(b"dref", &[words(&[0, 1]), atom(b"url ", &words(&[1]))].concat()));
        let minf = [atom(b"vmhd", &words(&[1, 0, 0])), dinf, atom(b"stbl", &stbl)].concat();
        let mdia = [atom(b"mdhd", &mdhd), atom(b"hdlr", &hdlr), atom(b"minf", &minf)].concat();
        let trak = [atom(b"tkhd", &tkhd), atom(b"mdia", &mdia)].concat();
        atom(b"moov", &[atom(b"mvhd", &mvhd), atom(b"trak", &trak)].concat())
    }

    /// Flash video with an AVC track (Adobe Flash Video File Format Specification 10.1, annex E).
    pub fn flv(&self) -> Vec<u8> {
        let mut file = b"FLV\x01\x01\0\0\0\x09\0\0\0\0".to_vec();
        let mut tag = |kind: u8, milliseconds: u32, data: &[u8]| {
            let mut tag = vec![kind];
            tag.extend(&(data.len() as u32).to_be_bytes()[1..]);
            tag.extend(&milliseconds.to_be_bytes()[1..]);
            tag.push((milliseconds >> 24) as u8);
            tag.extend([0; 3]);
            tag.extend(data);
            file.extend(&tag);
            file.extend((tag.len() as u32).to_be_bytes());
        };
        let mut metadata = b"\x02\x00\x0AonMetaData\x08\0\0\0\x04".to_vec();
        for (name, value) in
            [("duration", self.frames.len() as f64), ("width", WIDTH as f64), ("height", HEIGHT as f64), ("videocodecid", 7.0)]
        {
            metadata.extend((name.len() as u16).to_be_bytes());
            metadata.extend(name.as_bytes());
            metadata.push(0);
            metadata.extend(value.to_be_bytes());
        }
        metadata.extend([0, 0, 9]);
        tag(18, 0, &metadata);
        tag(9, 0, &[&[0x17, 0, 0, 0, 0], self.configuration().as_slice()].concat());
        for (n, sample) in self.samples().iter().enumerate() {
            let kind = if n == 0 { 0x17 } else { 0x27 };
            tag(9, n as u32 * 1000, &[&[kind, 1, 0, 0, 0], sample.as_slice()].concat());
        }
        tag(9, (self.frames.len() as u32 - 1) * 1000, &[0x17, 2, 0, 0, 0]);
        file
    }
}

/// A RIFF/AVI file of JPEG pictures, one a second, with its index.
pub fn avi(frame: &[u8], width: u32, height: u32, seconds: u32) -> Vec<u8> {
    let chunk = |kind: &[u8; 4], data: &[u8]| {
        let mut chunk = kind.to_vec();
        chunk.extend((data.len() as u32).to_le_bytes());
        chunk.extend(data);
        if !data.len().is_multiple_of(2) {
            chunk.push(0);
        }
        chunk
    };
    let list = |kind: &[u8; 4], data: &[u8]| chunk(b"LIST", &[kind, data].concat());
    let words = |words: &[u32]| words.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<u8>>();
    let size = frame.len() as u32;
    let avih = words(&[1_000_000, size, 0, 0x10, seconds, 0, 1, size, width, height, 0, 0, 0, 0]);
    let strh = [b"vidsMJPG".to_vec(), words(&[0, 0, 0, 1, 1, 0, seconds, size, u32::MAX, 0, 0, height << 16 | width])].concat();
    let strf = [words(&[40, width, height, 24 << 16 | 1]), b"MJPG".to_vec(), words(&[width * height * 3, 0, 0, 0, 0])].concat();
    let strl = list(b"strl", &[chunk(b"strh", &strh), chunk(b"strf", &strf)].concat());
    let hdrl = list(b"hdrl", &[chunk(b"avih", &avih), strl].concat());
    let one = chunk(b"00dc", frame);
    let movi = list(b"movi", &one.repeat(seconds as usize));
    let index: Vec<u8> = (0..seconds).flat_map(|n| [b"00dc".to_vec(), words(&[0x10, 4 + n * one.len() as u32, size])].concat()).collect();
    chunk(b"RIFF", &[b"AVI ".to_vec(), hdrl, movi, chunk(b"idx1", &index)].concat())
}

fn atom(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    [&(data.len() as u32 + 8).to_be_bytes()[..], kind, data].concat()
}
