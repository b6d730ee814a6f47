//! Brightness of a picture, gathered row by row so that no picture is ever held in memory.

/// Cells of the difference hash: 9 × 8 averages give 8 × 8 comparisons.
const CELLS_ACROSS: u32 = 9;
const CELLS_DOWN: u32 = 8;

/// Gathers luma samples of a picture.
#[derive(Debug)]
pub(super) struct Luma {
    width: u32,
    height: u32,
    /// Hash column of every x, computed once.
    columns: Vec<u8>,
    cells: [(u64, u64); (CELLS_ACROSS * CELLS_DOWN) as usize],
    count: u64,
    sum: u64,
    squares: u64,
}

/// What the brightness of a picture says of it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct LumaStats {
    /// Standard deviation, 0–127.5.
    pub deviation: f32,
    /// 64-bit difference hash, hex; absent for pictures smaller than its cells.
    pub hash: Option<String>,
}

impl Luma {
    /// For a picture of `width` × `height` samples. The caller bounds `width`.
    pub fn new(width: u32, height: u32) -> Self {
        let columns = (0..u64::from(width)).map(|x| (x * u64::from(CELLS_ACROSS) / u64::from(width.max(1))) as u8).collect();
        Self { width, height, columns, cells: [(0, 0); (CELLS_ACROSS * CELLS_DOWN) as usize], count: 0, sum: 0, squares: 0 }
    }

    /// Adds samples of row `y`: the first at column `x0`, then every `step` columns.
    ///
    /// This is the innermost loop of every picture: it counts by hand because an iterator costs several times as much where
    /// nothing is optimised, and what a picture costs there must stay within the limit of work too.
    pub fn add_row(&mut self, y: u32, x0: u32, step: u32, samples: &[u8]) {
        let row = (u64::from(y) * u64::from(CELLS_DOWN) / u64::from(self.height.max(1))).min(u64::from(CELLS_DOWN) - 1) as usize;
        let cells = &mut self.cells[row * CELLS_ACROSS as usize..(row + 1) * CELLS_ACROSS as usize];
        let columns = self.columns.get(x0 as usize..).unwrap_or_default();
        let step = step.max(1) as usize;
        let count = samples.len().min(columns.len().div_ceil(step));
        let mut at = 0;
        while at < count {
            // One run of samples that fall into the same cell. A row has fewer than 2³² samples, so its sums fit.
            let column = columns[at * step];
            let (first, mut sum, mut squares) = (at, 0u64, 0u64);
            while at < count && columns[at * step] == column {
                let luma = samples[at] as u64;
                sum += luma;
                squares += luma * luma;
                at += 1;
            }
            let cell = &mut cells[column as usize];
            cell.0 += sum;
            cell.1 += (at - first) as u64;
            self.sum += sum;
            self.squares += squares;
        }
        self.count += count as u64;
    }

    /// The figures, once every row was added; `None` when there was none.
    pub fn finish(&self) -> Option<LumaStats> {
        if self.count == 0 {
            return None;
        }
        let n = self.count as f64;
        let mean = self.sum as f64 / n;
        let variance = (self.squares as f64 / n - mean * mean).max(0.0);
        // Two decimals are all that is meaningful, and keep the facts stable.
        let deviation = ((variance.sqrt() * 100.0).round() / 100.0) as f32;
        let hash = (self.width >= CELLS_ACROSS && self.height >= CELLS_DOWN).then(|| format!("{:016x}", self.difference_hash()));
        Some(LumaStats { deviation, hash })
    }

    /// One bit per pair of neighbours in a row: set where brightness rises to the right. Cells are
    /// compared by cross-multiplication: exact, whatever the machine.
    fn difference_hash(&self) -> u64 {
        let mut hash = 0u64;
        for row in self.cells.chunks_exact(CELLS_ACROSS as usize) {
            for pair in row.windows(2) {
                let ((left, left_n), (right, right_n)) = (pair[0], pair[1]);
                let rises = u128::from(left) * u128::from(right_n) < u128::from(right) * u128::from(left_n);
                hash = hash << 1 | u64::from(rises);
            }
        }
        hash
    }
}

/// BT.601 luma of an RGB colour.
pub(super) fn luma_of(r: u8, g: u8, b: u8) -> u8 {
    ((77 * r as u32 + 150 * g as u32 + 29 * b as u32) >> 8) as u8
}

/// `luma` seen over white paper through `alpha`.
pub(super) fn over_white(luma: u8, alpha: u8) -> u8 {
    let (luma, alpha) = (luma as u32, alpha as u32);
    ((luma * alpha + 255 * (255 - alpha) + 127) / 255) as u8
}

/// What is seen of a luma of this opacity on a black ground.
pub(super) fn over_black(luma: u8, alpha: u8) -> u8 {
    over_white(255 - luma, alpha) ^ 0xFF
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(width: u32, height: u32, pixel: impl Fn(u32, u32) -> u8) -> LumaStats {
        let mut luma = Luma::new(width, height);
        for y in 0..height {
            luma.add_row(y, 0, 1, &(0..width).map(|x| pixel(x, y)).collect::<Vec<_>>());
        }
        luma.finish().unwrap()
    }

    #[test]
    fn a_flat_picture_deviates_by_nothing() {
        assert_eq!(of(100, 80, |_, _| 200).deviation, 0.0);
    }

    #[test]
    fn half_black_half_white_deviates_most() {
        assert_eq!(of(100, 80, |x, _| if x < 50 { 0 } else { 255 }).deviation, 127.5);
    }

    #[test]
    fn the_hash_follows_the_picture_not_its_size() {
        let gradient = of(90, 80, |x, _| (x * 2) as u8);
        assert_eq!(gradient.hash.as_deref(), Some("ffffffffffffffff"));
        assert_eq!(of(900, 800, |x, _| (x / 5) as u8).hash, gradient.hash);
        assert_eq!(of(90, 80, |x, _| 200 - (x * 2) as u8).hash.as_deref(), Some("0000000000000000"));
        assert_eq!(of(5, 5, |_, _| 0).hash, None);
    }

    #[test]
    fn transparent_pixels_are_white() {
        assert_eq!(over_white(0, 0), 255);
        assert_eq!(over_white(10, 255), 10);
    }
}
