//! The entropy-coded data of a JPEG scan (ITU-T T.81, annexes F and G): decoded to the last bit, kept as
//! little as progressive refinement needs: one DC value and one bit per coefficient and block.

use crate::inspect::{Budget, Exceeded};

/// Bits that one table look-up decodes; longer codes are walked.
const FAST_BITS: u32 = 9;
/// Units of a scan (blocks or MCUs) between two counts of the work done.
const UNITS_PER_COUNT: u64 = 1 << 13;
/// Units of work of a block. One of a sequential scan decodes up to 64 coefficients; one of a progressive scan mostly few.
const SEQUENTIAL_BLOCK: u64 = 200;
const PROGRESSIVE_BLOCK: u64 = 80;
/// Units of work of a byte of entropy-coded data.
const CODED_BYTE: u64 = 30;

/// A Huffman table (annex C).
#[derive(Debug)]
pub(super) struct HuffmanTable {
    /// For the next [`FAST_BITS`] bits: code length (0 = longer) and symbol.
    fast: Vec<(u8, u8)>,
    /// Largest code of each length, −1 when there is none; index = length.
    last: [i32; 17],
    /// What to add to a code of each length for its index in `symbols`.
    delta: [i32; 17],
    symbols: Vec<u8>,
}

impl HuffmanTable {
    /// Builds the table from the number of codes of each length and the symbols in code order; `None` when
    /// the codes do not fit in their lengths.
    pub fn new(counts: &[u8; 16], symbols: &[u8]) -> Option<Self> {
        let total: usize = counts.iter().map(|c| usize::from(*c)).sum();
        if total > 256 || total > symbols.len() {
            return None;
        }
        let mut table = Self { fast: vec![(0, 0); 1 << FAST_BITS], last: [-1; 17], delta: [0; 17], symbols: symbols[..total].to_vec() };
        let (mut code, mut index) = (0u32, 0usize);
        for (length, count) in (1u32..).zip(counts.iter().map(|c| u32::from(*c))) {
            if code + count > 1 << length {
                return None;
            }
            if count > 0 {
                table.delta[length as usize] = index as i32 - code as i32;
                table.last[length as usize] = (code + count) as i32 - 1;
                if length <= FAST_BITS {
                    let spread = FAST_BITS - length;
                    for k in 0..count {
                        let first = ((code + k) << spread) as usize;
                        let entry = (length as u8, symbols[index + k as usize]);
                        table.fast.get_mut(first..first + (1 << spread))?.fill(entry);
                    }
                }
                code += count;
                index += count as usize;
            }
            code <<= 1;
        }
        Some(table)
    }
}

/// One colour component of a frame.
#[derive(Debug)]
pub(super) struct Component {
    /// Identifier.
    pub id: u8,
    /// Quantization table.
    pub table: u8,
    h: u32,
    v: u32,
    /// Blocks across and down when the component is alone in a scan (A.2.2).
    across: u32,
    down: u32,
    /// Blocks across, whole MCUs: the stride of what follows.
    stride: u32,
    dc: Vec<i16>,
    /// Progressive: which coefficients of each block are not zero yet.
    nonzero: Vec<u64>,
    /// Low bit of each coefficient that scans have reached; −1 = not coded yet.
    reached: [i8; 64],
}

impl Component {
    /// Quantized DC coefficient of the block at column `x`, row `y`.
    pub fn dc_at(&self, x: u32, y: u32) -> i16 {
        self.dc.get(self.index(x, y)).copied().unwrap_or(0)
    }

    fn index(&self, x: u32, y: u32) -> usize {
        y as usize * self.stride as usize + x as usize
    }
}

/// A frame: its size and components.
#[derive(Debug)]
pub(super) struct Frame {
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// Spectral selection and successive approximation.
    pub progressive: bool,
    /// In frame order.
    pub components: Vec<Component>,
    h_max: u32,
    v_max: u32,
}

impl Frame {
    /// A frame of `components` (identifier, sampling across, sampling down, quantization table); the
    /// caller has checked sizes (not 0) and sampling factors (1–4).
    pub fn new(width: u32, height: u32, progressive: bool, components: &[(u8, u8, u8, u8)]) -> Self {
        let h_max = components.iter().map(|c| u32::from(c.1)).max().unwrap_or(1).max(1);
        let v_max = components.iter().map(|c| u32::from(c.2)).max().unwrap_or(1).max(1);
        let (mcus_across, mcus_down) = (width.div_ceil(8 * h_max), height.div_ceil(8 * v_max));
        let components = components
            .iter()
            .map(|&(id, h, v, table)| {
                let (h, v) = (u32::from(h), u32::from(v));
                let stride = mcus_across * h;
                let blocks = stride as usize * (mcus_down * v) as usize;
                Component {
                    id,
                    table,
                    h,
                    v,
                    across: (width * h).div_ceil(h_max).div_ceil(8),
                    down: (height * v).div_ceil(v_max).div_ceil(8),
                    stride,
                    dc: vec![0; blocks],
                    nonzero: if progressive { vec![0; blocks] } else { Vec::new() },
                    reached: [-1; 64],
                }
            })
            .collect();
        Self { width, height, progressive, components, h_max, v_max }
    }

    /// Column of `component`'s block under column `x` of 8 × 8 pixels.
    pub fn scaled_x(&self, component: &Component, x: u32) -> u32 {
        (x * component.h / self.h_max).min(component.across.saturating_sub(1))
    }

    /// Row likewise.
    pub fn scaled_y(&self, component: &Component, y: u32) -> u32 {
        (y * component.v / self.v_max).min(component.down.saturating_sub(1))
    }

    /// Whether every component has its DC coefficients: there is a picture, however coarse.
    pub fn is_started(&self) -> bool {
        self.components.iter().all(|c| c.reached[0] >= 0)
    }

    /// Whether every coefficient was coded down to its last bit.
    pub fn is_complete(&self) -> bool {
        self.components.iter().all(|c| c.reached.iter().all(|low| *low == 0))
    }

    /// Roughly how much of a picture is there: coefficients that some scan coded, in percent.
    pub fn percent_of_scans(&self) -> u64 {
        let all = self.components.len() as u64 * 64;
        let coded = self.components.iter().flat_map(|c| c.reached).filter(|low| *low == 0).count() as u64;
        coded * 100 / all.max(1)
    }

    /// Blocks whose mean no picture can have: beyond twice the range of 8-bit samples (A.3.3).
    pub fn impossible_blocks(&self, quantization: &[Option<u16>; 4]) -> u64 {
        let beyond = |c: &Component| {
            let step = i32::from(quantization.get(usize::from(c.table)).copied().flatten().unwrap_or(1));
            // A step rounds by half of itself.
            c.dc.iter().filter(|dc| (i32::from(**dc) * step).abs() > 2 * 1024 + step).count() as u64
        };
        self.components.iter().map(beyond).sum()
    }
}

/// A component's part in a scan.
#[derive(Debug)]
pub(super) struct ScanComponent {
    /// Index in the frame.
    pub index: usize,
    /// DC table.
    pub dc: usize,
    /// AC table.
    pub ac: usize,
}

/// A scan header.
#[derive(Debug)]
pub(super) struct Scan {
    /// In scan order.
    pub components: Vec<ScanComponent>,
    /// First coefficient.
    pub start: u8,
    /// Last coefficient.
    pub end: u8,
    /// Bits known before.
    pub high: u8,
    /// Bits still unknown after.
    pub low: u8,
}

/// How a scan went.
#[derive(Debug)]
pub(super) struct Progress {
    /// Bytes of entropy-coded data, up to the marker that follows.
    pub used: usize,
    /// Bytes among them that belong to no block (padding of `0x00` and `0xFF` not counted), plus one when
    /// the last block lacks bits.
    pub left_over: u64,
}

/// Why a scan was not decoded to its end.
#[derive(Debug)]
pub(super) enum DecodeError {
    /// A table that the scan names was never defined.
    NoTable,
    /// The data ends too early: `done` of `total` units are there; `ended` = the file ends with it.
    Short { done: u64, total: u64, ended: bool },
    /// The data makes no sense at unit `done` of `total`.
    Damaged { done: u64, total: u64 },
    /// The budget ended.
    Exceeded(Exceeded),
}

/// Why one block was not decoded.
enum BlockError {
    Short,
    Damaged,
}

type Tables = [Option<Box<HuffmanTable>>; 4];

impl Scan {
    /// Where the entropy-coded data that starts `data` ends: the first marker that is not a restart.
    fn end_of_data(data: &[u8]) -> usize {
        let mut at = 0;
        while let Some(found) = data.get(at..).and_then(|d| memchr::memchr(0xFF, d)) {
            at += found;
            match data.get(at + 1) {
                None => break,
                Some(0x00 | 0xD0..=0xD7) => at += 2,
                Some(0xFF) => at += 1,
                Some(_) => return at,
            }
        }
        data.len()
    }

    /// Decodes the scan's data, at the start of `data`, into `frame`.
    ///
    /// # Errors
    /// See [`DecodeError`].
    pub fn decode(
        &self,
        data: &[u8],
        frame: &mut Frame,
        dc_tables: &Tables,
        ac_tables: &Tables,
        restart_interval: u32,
        budget: &Budget,
    ) -> Result<Progress, DecodeError> {
        let needs_dc = self.start == 0 && self.high == 0;
        let needs_ac = self.end > 0;
        let mut tables = Vec::with_capacity(self.components.len());
        for part in &self.components {
            let dc = dc_tables.get(part.dc).and_then(Option::as_deref);
            let ac = ac_tables.get(part.ac).and_then(Option::as_deref);
            if needs_dc && dc.is_none() || needs_ac && ac.is_none() {
                return Err(DecodeError::NoTable);
            }
            tables.push((dc, ac));
        }
        // Alone, a component is coded block by block; together, in MCUs of their sampling (A.2).
        let (h_max, v_max) = (frame.h_max, frame.v_max);
        let (across, down) = match self.components.as_slice() {
            [alone] => frame.components.get(alone.index).map_or((0, 0), |c| (c.across, c.down)),
            _ => (frame.width.div_ceil(8 * h_max), frame.height.div_ceil(8 * v_max)),
        };
        let interleaved = self.components.len() > 1;
        let total = u64::from(across) * u64::from(down);
        let mut bits = Bits::new(data);
        let mut state = ScanState { dc: [0; 4], zero_blocks: 0 };
        let mut until_restart = restart_interval;
        let mut next_restart = 0u8;
        let mut done = 0u64;
        let mut unflushed = false;
        let per_unit: u64 = self
            .components
            .iter()
            .filter_map(|part| frame.components.get(part.index))
            .map(|c| if interleaved { u64::from(c.h * c.v) } else { 1 })
            .sum();
        let unit = per_unit * if frame.progressive { PROGRESSIVE_BLOCK } else { SEQUENTIAL_BLOCK };
        for y in 0..down {
            for x in 0..across {
                if done.is_multiple_of(UNITS_PER_COUNT) {
                    budget.work((total - done).min(UNITS_PER_COUNT) * unit).map_err(DecodeError::Exceeded)?;
                }
                if restart_interval > 0 && until_restart == 0 {
                    match bits.restart(next_restart) {
                        Ok(()) => {}
                        Err(BlockError::Short) => return Err(DecodeError::Short { done, total, ended: bits.at_end() }),
                        Err(BlockError::Damaged) => return Err(DecodeError::Damaged { done, total }),
                    }
                    next_restart = (next_restart + 1) % 8;
                    until_restart = restart_interval;
                    state = ScanState { dc: [0; 4], zero_blocks: 0 };
                }
                until_restart = until_restart.saturating_sub(1);
                for (slot, (part, (dc, ac))) in self.components.iter().zip(&tables).enumerate() {
                    let Some(component) = frame.components.get_mut(part.index) else { continue };
                    let (h, v) = if interleaved { (component.h, component.v) } else { (1, 1) };
                    for block in 0..h * v {
                        let at = component.index(x * h + block % h, y * v + block / h);
                        let result = if frame.progressive {
                            self.progressive_block(&mut bits, component, at, slot, *dc, *ac, &mut state)
                        } else {
                            sequential_block(&mut bits, component, at, slot, *dc, *ac, &mut state)
                        };
                        match result {
                            Ok(()) => {}
                            // The last block may lack its last bits: some encoders forget to flush them.
                            Err(BlockError::Short) if done + 1 == total && !bits.at_end() => unflushed = true,
                            Err(BlockError::Short) => return Err(DecodeError::Short { done, total, ended: bits.at_end() }),
                            Err(BlockError::Damaged) => return Err(DecodeError::Damaged { done, total }),
                        }
                    }
                }
                done += 1;
            }
        }
        for part in &self.components {
            if let Some(component) = frame.components.get_mut(part.index) {
                let band = component.reached.get_mut(usize::from(self.start)..=usize::from(self.end));
                band.unwrap_or_default().fill(self.low as i8);
            }
        }
        let consumed = bits.consumed();
        let used = Self::end_of_data(data).max(consumed);
        budget.work(used as u64 * CODED_BYTE).map_err(DecodeError::Exceeded)?;
        let surplus = data.get(consumed..used).unwrap_or_default();
        let left_over = surplus.iter().filter(|b| !matches!(b, 0x00 | 0xFF)).count() as u64;
        Ok(Progress { used, left_over: left_over + u64::from(unflushed) })
    }

    #[allow(clippy::too_many_arguments)] // a block's own state, its tables and the scan's: nothing to group by meaning
    fn progressive_block(
        &self,
        bits: &mut Bits<'_>,
        component: &mut Component,
        at: usize,
        slot: usize,
        dc: Option<&HuffmanTable>,
        ac: Option<&HuffmanTable>,
        state: &mut ScanState,
    ) -> Result<(), BlockError> {
        if self.start == 0 {
            let Some(value) = component.dc.get_mut(at) else { return Err(BlockError::Damaged) };
            if self.high == 0 {
                let dc = dc.ok_or(BlockError::Damaged)?;
                let predicted = state.predict(bits, dc, slot)?;
                *value = predicted.wrapping_shl(u32::from(self.low)) as i16;
            } else if bits.take(1)? == 1 {
                *value |= 1i16.wrapping_shl(u32::from(self.low));
            }
            return Ok(());
        }
        let ac = ac.ok_or(BlockError::Damaged)?;
        let Some(nonzero) = component.nonzero.get_mut(at) else { return Err(BlockError::Damaged) };
        if self.high == 0 { self.first_ac(bits, nonzero, ac, state) } else { self.refine_ac(bits, nonzero, ac, state) }
    }

    /// G.1.2.2: first scan of a band.
    fn first_ac(&self, bits: &mut Bits<'_>, nonzero: &mut u64, ac: &HuffmanTable, state: &mut ScanState) -> Result<(), BlockError> {
        if state.zero_blocks > 0 {
            state.zero_blocks -= 1;
            return Ok(());
        }
        let mut k = u32::from(self.start);
        while k <= u32::from(self.end) {
            let symbol = bits.symbol(ac)?;
            let (run, size) = (u32::from(symbol >> 4), u32::from(symbol & 15));
            if size == 0 {
                if run < 15 {
                    state.zero_blocks = (1 << run) - 1 + bits.take(run)?;
                    return Ok(());
                }
                k += 16;
                continue;
            }
            k += run;
            if k > u32::from(self.end) {
                return Err(BlockError::Damaged);
            }
            bits.take(size)?;
            *nonzero |= 1 << k;
            k += 1;
        }
        Ok(())
    }

    /// G.1.2.3: refinement of a band; every coefficient already known takes one correction bit.
    fn refine_ac(&self, bits: &mut Bits<'_>, nonzero: &mut u64, ac: &HuffmanTable, state: &mut ScanState) -> Result<(), BlockError> {
        let end = u32::from(self.end);
        let mut k = u32::from(self.start);
        if state.zero_blocks == 0 {
            while k <= end {
                let symbol = bits.symbol(ac)?;
                let (mut run, size) = (u32::from(symbol >> 4), symbol & 15);
                match size {
                    0 if run < 15 => {
                        state.zero_blocks = (1 << run) + bits.take(run)?;
                        break;
                    }
                    0 => {}
                    1 => {
                        bits.take(1)?;
                    }
                    _ => return Err(BlockError::Damaged),
                }
                // Passes `run` coefficients that are still zero, then stands on the one to set.
                while k <= end {
                    if *nonzero >> k & 1 == 1 {
                        bits.take(1)?;
                    } else if run == 0 {
                        break;
                    } else {
                        run -= 1;
                    }
                    k += 1;
                }
                if size == 1 {
                    if k > end {
                        return Err(BlockError::Damaged);
                    }
                    *nonzero |= 1 << k;
                }
                k += 1;
            }
        }
        if state.zero_blocks > 0 {
            let band = if k > end { 0 } else { (u64::MAX >> (63 - end)) & (u64::MAX << k) };
            let mut corrections = (*nonzero & band).count_ones();
            while corrections > 0 {
                let some = corrections.min(16);
                bits.take(some)?;
                corrections -= some;
            }
            state.zero_blocks -= 1;
        }
        Ok(())
    }
}

/// What blocks of a scan hand on to the next.
struct ScanState {
    dc: [i32; 4],
    /// Blocks to come with nothing new in this band (EOBRUN).
    zero_blocks: u32,
}

impl ScanState {
    /// Reads a DC difference (F.2.2.1) and returns the new prediction.
    fn predict(&mut self, bits: &mut Bits<'_>, table: &HuffmanTable, slot: usize) -> Result<i32, BlockError> {
        let size = u32::from(bits.symbol(table)?);
        let difference = extend(bits.take(size)?, size);
        let Some(dc) = self.dc.get_mut(slot) else { return Err(BlockError::Damaged) };
        // 8-bit pictures need 12 bits; anything past 16 is damage whatever the quantization.
        *dc += difference;
        if i16::try_from(*dc).is_err() {
            return Err(BlockError::Damaged);
        }
        Ok(*dc)
    }
}

/// Sign extension of table F.1: a leading 0 bit means negative.
fn extend(value: u32, size: u32) -> i32 {
    let value = value as i32;
    if size > 0 && value < 1 << (size - 1) { value - (1 << size) + 1 } else { value }
}

/// F.2.2: one block of a sequential scan.
fn sequential_block(
    bits: &mut Bits<'_>,
    component: &mut Component,
    at: usize,
    slot: usize,
    dc: Option<&HuffmanTable>,
    ac: Option<&HuffmanTable>,
    state: &mut ScanState,
) -> Result<(), BlockError> {
    let (dc, ac) = (dc.ok_or(BlockError::Damaged)?, ac.ok_or(BlockError::Damaged)?);
    let predicted = state.predict(bits, dc, slot)?;
    let Some(value) = component.dc.get_mut(at) else { return Err(BlockError::Damaged) };
    *value = predicted as i16;
    let mut k = 1u32;
    while k <= 63 {
        let symbol = bits.symbol(ac)?;
        let (run, size) = (u32::from(symbol >> 4), u32::from(symbol & 15));
        if size == 0 {
            if run < 15 {
                break; // end of block
            }
            k += 16;
            continue;
        }
        k += run;
        if k > 63 {
            return Err(BlockError::Damaged);
        }
        bits.take(size)?;
        k += 1;
    }
    Ok(())
}

/// Bits of entropy-coded data: stuffed zeros removed, stopped by any marker (F.2.2.5).
struct Bits<'a> {
    data: &'a [u8],
    /// Next byte to load.
    at: usize,
    /// Loaded bits, the next one highest.
    loaded: u64,
    count: u32,
}

impl<'a> Bits<'a> {
    fn new(data: &'a [u8]) -> Self {
        Self { data, at: 0, loaded: 0, count: 0 }
    }

    fn load(&mut self) {
        while self.count <= 56 {
            let byte = match self.data.get(self.at) {
                Some(0xFF) => match self.data.get(self.at + 1) {
                    Some(0x00) => {
                        self.at += 1;
                        0xFF
                    }
                    // A fill byte stands before a marker: either way no data follows.
                    _ => return,
                },
                Some(byte) => *byte,
                None => return,
            };
            self.at += 1;
            self.loaded |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
    }

    fn take(&mut self, n: u32) -> Result<u32, BlockError> {
        if n == 0 {
            return Ok(0);
        }
        if self.count < n {
            self.load();
            if self.count < n {
                return Err(BlockError::Short);
            }
        }
        let value = (self.loaded >> (64 - n)) as u32;
        self.loaded <<= n;
        self.count -= n;
        Ok(value)
    }

    fn symbol(&mut self, table: &HuffmanTable) -> Result<u8, BlockError> {
        if self.count < 16 {
            self.load();
        }
        let (length, symbol) = table.fast.get((self.loaded >> (64 - FAST_BITS)) as usize).copied().unwrap_or((0, 0));
        if length > 0 {
            if u32::from(length) > self.count {
                return Err(BlockError::Short);
            }
            self.loaded <<= length;
            self.count -= u32::from(length);
            return Ok(symbol);
        }
        for length in FAST_BITS + 1..=16 {
            let code = (self.loaded >> (64 - length)) as i32;
            if code <= table.last[length as usize] {
                if length > self.count {
                    return Err(BlockError::Short);
                }
                let index = usize::try_from(code + table.delta[length as usize]).map_err(|_| BlockError::Damaged)?;
                self.loaded <<= length;
                self.count -= length;
                return table.symbols.get(index).copied().ok_or(BlockError::Damaged);
            }
        }
        // No code starts like this; near the end of the data that only means that bits are missing.
        Err(if self.count < 16 { BlockError::Short } else { BlockError::Damaged })
    }

    /// Where loading stopped, less the whole bytes that were loaded and not used.
    fn consumed(&self) -> usize {
        // Unused whole bytes go back, each stuffed 0xFF being two; counted from the end of what was read.
        let mut back = self.count / 8;
        let mut at = self.at;
        while back > 0 && at > 0 {
            at -= 1;
            if at > 0 && self.data.get(at) == Some(&0x00) && self.data.get(at - 1) == Some(&0xFF) {
                at -= 1;
            }
            back -= 1;
        }
        at
    }

    fn at_end(&self) -> bool {
        // A lone 0xFF at the end of the file is half of something.
        self.at + 1 >= self.data.len()
    }

    /// Passes the restart marker RST`number`, which must be next but for padding.
    fn restart(&mut self, number: u8) -> Result<(), BlockError> {
        let start = self.consumed();
        let rest = self.data.get(start..).unwrap_or_default();
        let mut at = 0;
        loop {
            let Some(found) = rest.get(at..).and_then(|r| memchr::memchr(0xFF, r)) else {
                self.at = self.data.len();
                return Err(BlockError::Short);
            };
            at += found;
            match rest.get(at + 1) {
                Some(0x00) => at += 2,
                Some(0xFF) => at += 1,
                Some(code) if *code == 0xD0 + number => break,
                Some(0xD0..=0xD7) => return Err(BlockError::Damaged),
                Some(_) => return Err(BlockError::Short),
                None => {
                    self.at = self.data.len();
                    return Err(BlockError::Short);
                }
            }
        }
        // As in a whole scan: a few bytes too many are a lax encoder's, more is data that makes no block.
        if rest.get(..at).unwrap_or_default().iter().filter(|b| !matches!(b, 0x00 | 0xFF)).count() > 2 {
            return Err(BlockError::Damaged);
        }
        self.at = start + at + 2;
        self.loaded = 0;
        self.count = 0;
        Ok(())
    }
}
