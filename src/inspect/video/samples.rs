//! The sample tables of a track (ISO/IEC 14496-12, 8.6–8.7) laid over the bytes of the file: are all the
//! samples that the index names really there, and are they what they should be?

use super::nal::Units;
use super::number::{be32, be64};
use crate::inspect::{Budget, Exceeded};

/// One sample in this many may be without a size or a duration.
const TOLERATED_SHARE: u64 = 100;
/// Chunks between two counts of the work done.
const CHUNKS_PER_COUNT: usize = 256;
/// Units of work of a chunk, and of a sample.
const CHUNK: u64 = 50;
const SAMPLE: u64 = 20;
/// Work is counted once this much has gathered.
const WORTH_COUNTING: u64 = 100_000;

/// Units of work of a sample of `bytes` whose chain of units is followed: at most one step for every few bytes.
pub(super) fn following(bytes: u32) -> u64 {
    SAMPLE + u64::from(bytes) / 2
}

/// The tables of one track, as bodies of their boxes after version and flags.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tables<'a> {
    /// Durations: (count, delta)*.
    pub stts: &'a [u8],
    /// Samples per chunk: (first chunk, samples, description)*.
    pub stsc: &'a [u8],
    /// Entries of the sample description, of which each run of chunks names one, from 1. Only for pictures: players decode
    /// sound by the first entry whatever the runs name.
    pub descriptions: Option<u32>,
    /// Sizes.
    pub sizes: Sizes<'a>,
    /// Chunk offsets, and whether they are 64-bit.
    pub offsets: &'a [u8],
    pub wide_offsets: bool,
}

/// How sample sizes are stored.
#[derive(Debug, Clone, Copy, Default)]
pub(super) enum Sizes<'a> {
    /// No size box.
    #[default]
    Missing,
    /// `count` samples of one size.
    Same { size: u32, count: u32 },
    /// One 32-bit number each.
    Each(&'a [u8]),
    /// One number of 4, 8 or 16 bits each (`stz2`).
    Compact { bits: usize, table: &'a [u8], count: u32 },
}

impl<'a> Sizes<'a> {
    /// From the body of `stsz` after version and flags.
    pub fn from_stsz(body: &'a [u8]) -> Option<Self> {
        let (size, count) = (be32(body, 0)?, be32(body, 4)?);
        if size != 0 {
            return Some(Self::Same { size, count });
        }
        Some(Self::Each(body.get(8..8usize.checked_add((count as usize).checked_mul(4)?)?)?))
    }

    /// From the body of `stz2` after version and flags.
    pub fn from_stz2(body: &'a [u8]) -> Option<Self> {
        let (bits, count) = (usize::from(*body.get(3)?), be32(body, 4)?);
        if !matches!(bits, 4 | 8 | 16) {
            return None;
        }
        let bytes = (count as usize).checked_mul(bits)?.div_ceil(8);
        Some(Self::Compact { bits, table: body.get(8..8usize.checked_add(bytes)?)?, count })
    }

    /// Samples stated.
    pub fn count(self) -> u64 {
        match self {
            Self::Missing => 0,
            Self::Same { count, .. } | Self::Compact { count, .. } => u64::from(count),
            Self::Each(table) => table.len() as u64 / 4,
        }
    }

    fn get(self, index: usize) -> Option<u32> {
        match self {
            Self::Missing => None,
            Self::Same { size, count } => (index < count as usize).then_some(size),
            Self::Each(table) => be32(table, index.checked_mul(4)?),
            Self::Compact { bits: 16, table, .. } => Some(u32::from(super::number::be16(table, index.checked_mul(2)?)?)),
            Self::Compact { bits: 8, table, .. } => table.get(index).map(|b| u32::from(*b)),
            Self::Compact { table, .. } => table.get(index / 2).map(|b| u32::from(if index.is_multiple_of(2) { b >> 4 } else { b & 15 })),
        }
    }
}

/// What laying the tables over the file showed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Laid {
    /// Samples that chunks hold.
    pub samples: u64,
    /// Chunks, and samples that the runs of chunks promise; more than there are sizes for, where tables disagree.
    pub chunks: u64,
    pub room: u64,
    /// Samples that end after the end of the file.
    pub outside: u64,
    /// How many bytes the file lacks for the farthest of them.
    pub missing: u64,
    /// Samples before the first that is outside.
    pub before_outside: u64,
    /// Samples that stand in no media-data box.
    pub astray: u64,
    /// Chunks that start inside the one before them.
    pub overlapping: u64,
    /// Samples whose chain of units was followed, and how many of them are broken.
    pub followed: u64,
    pub broken: u64,
    /// Samples before the first that is broken.
    pub before_broken: u64,
}

impl Tables<'_> {
    /// Sum of the durations, in the track's units.
    pub fn duration(&self) -> u64 {
        self.stts.chunks_exact(8).fold(0u64, |sum, e| {
            let (count, delta) = (be32(e, 0).unwrap_or(0), be32(e, 4).unwrap_or(0));
            sum.saturating_add(u64::from(count).saturating_mul(u64::from(delta)))
        })
    }

    /// The table that loses samples, where one does: players do not show what no table leads to. A sample in a hundred may
    /// be lost: recorders that are interrupted leave their last tables a little apart.
    pub fn lost(&self, laid: &Laid) -> Option<&'static str> {
        let stated = self.sizes.count();
        let tolerated = stated / TOLERATED_SHARE + 1;
        let more = stated.saturating_add(tolerated);
        let undescribed = |run: &[u8]| self.descriptions.is_some_and(|entries| be32(run, 8).is_some_and(|entry| entry > entries));
        if self.stsc.chunks_exact(12).any(undescribed) {
            // Samples that no entry says how to decode are passed over.
            Some("stsc")
        } else if laid.overlapping * 2 > laid.chunks {
            // The same bytes again and again in the place of those that should be there.
            Some("stco")
        } else if laid.samples.saturating_add(tolerated) < stated || (laid.room > more && self.timed() > more) {
            // Sizes without chunks, or chunks and durations of samples that have no size.
            Some("stsz")
        } else {
            None
        }
    }

    /// The table that contradicts the others where no sample is lost, which players mend as they read: runs of chunks start
    /// with the first chunk and go up (14496-12, 8.7.4.3), chunks do not overlap, every sample has a duration.
    pub fn contradiction(&self, laid: &Laid) -> Option<&'static str> {
        let mut before = 0;
        for run in self.stsc.chunks_exact(12) {
            let first = be32(run, 0).unwrap_or(0);
            if first <= before || (before == 0 && first != 1) {
                return Some("stsc");
            }
            before = first;
        }
        let stated = self.sizes.count();
        if laid.overlapping > 0 {
            Some("stco")
        } else if self.timed().abs_diff(stated) > stated / TOLERATED_SHARE + 1 {
            Some("stts")
        } else {
            None
        }
    }

    /// Samples that have a duration.
    fn timed(&self) -> u64 {
        self.stts.chunks_exact(8).fold(0u64, |sum, e| sum.saturating_add(u64::from(be32(e, 0).unwrap_or(0))))
    }

    fn chunk_offset(&self, chunk: usize) -> Option<u64> {
        if self.wide_offsets { be64(self.offsets, chunk.checked_mul(8)?) } else { be32(self.offsets, chunk.checked_mul(4)?).map(u64::from) }
    }

    /// Lays every sample over `file`, whose media-data boxes are `media` (start, end). With `units`, the
    /// chain inside every sample is followed too.
    ///
    /// # Errors
    /// When the work is used up.
    pub fn lay(&self, file: &[u8], media: &[(u64, u64)], units: Option<Units>, budget: &Budget) -> Result<Laid, Exceeded> {
        let mut laid = Laid::default();
        let size = file.len() as u64;
        let chunks = self.offsets.len() / if self.wide_offsets { 8 } else { 4 };
        let total = self.sizes.count();
        let mut runs = self.stsc.chunks_exact(12).peekable();
        let mut per_chunk = 0u64;
        let mut uncounted = 0u64;
        let mut previous = (0u64, 0u64);
        for chunk in 0..chunks {
            if chunk.is_multiple_of(CHUNKS_PER_COUNT) {
                budget.work(CHUNKS_PER_COUNT as u64 * CHUNK)?;
            }
            while let Some(run) = runs.next_if(|r| be32(r, 0).is_some_and(|first| first as usize <= chunk + 1)) {
                per_chunk = u64::from(be32(run, 4).unwrap_or(0));
            }
            let Some(start) = self.chunk_offset(chunk) else { break };
            laid.chunks += 1;
            laid.room = laid.room.saturating_add(per_chunk);
            let here = per_chunk.min(total.saturating_sub(laid.samples));
            if here == 0 {
                continue;
            }
            laid.overlapping += u64::from(previous.0 < start && start < previous.1);
            // Media-data boxes follow one another: the last that starts before the chunk must hold it.
            let holder = media.partition_point(|(from, _)| *from <= start).checked_sub(1).and_then(|i| media.get(i));
            if !media.is_empty() && holder.is_none_or(|(_, to)| start >= *to) {
                laid.astray += here;
            }
            if let Sizes::Same { size: each, .. } = self.sizes {
                laid.same_sized(start, here, u64::from(each), size);
                previous = (start, start.saturating_add(here.saturating_mul(u64::from(each))));
                continue;
            }
            let mut at = start;
            for _ in 0..here {
                let Some(bytes) = usize::try_from(laid.samples).ok().and_then(|i| self.sizes.get(i)) else { break };
                // Chunks may overlap as the file likes, so that what is followed is not bounded by the file's size.
                uncounted += if units.is_some() { following(bytes) } else { SAMPLE };
                if uncounted > WORTH_COUNTING {
                    budget.work(std::mem::take(&mut uncounted))?;
                }
                let end = at.saturating_add(u64::from(bytes));
                if end > size {
                    if laid.outside == 0 {
                        laid.before_outside = laid.samples;
                    }
                    laid.outside += 1;
                    laid.missing = laid.missing.max(end - size);
                } else if let Some(units) = units.filter(|_| bytes > 0) {
                    laid.followed += 1;
                    let sample = file.get(at as usize..end as usize).unwrap_or_default();
                    if !units.chain_holds(sample) {
                        if laid.broken == 0 {
                            laid.before_broken = laid.samples;
                        }
                        laid.broken += 1;
                    }
                }
                laid.samples += 1;
                at = end;
            }
            previous = (start, at);
        }
        budget.work(uncounted)?;
        Ok(laid)
    }
}

impl Laid {
    /// A chunk of `count` samples of one size, which need not be looked at one by one.
    fn same_sized(&mut self, start: u64, count: u64, each: u64, file: u64) {
        let inside = file.saturating_sub(start).checked_div(each).unwrap_or(count).min(count);
        if inside < count {
            if self.outside == 0 {
                self.before_outside = self.samples + inside;
            }
            self.outside += count - inside;
            let end = start.saturating_add(count.saturating_mul(each));
            self.missing = self.missing.max(end.saturating_sub(file));
        }
        self.samples += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspect::Limits;

    fn words(numbers: &[u32]) -> Vec<u8> {
        numbers.iter().flat_map(|n| n.to_be_bytes()).collect()
    }

    #[test]
    fn samples_past_the_end_are_counted_and_placed() {
        let (offsets, stsc, stsz) = (words(&[10, 40]), words(&[1, 2, 1]), words(&[0, 4, 10, 10, 10, 10]));
        let tables = Tables { offsets: &offsets, stsc: &stsc, sizes: Sizes::from_stsz(&stsz).unwrap(), ..Tables::default() };
        let whole = tables.lay(&[0; 60], &[(8, 60)], None, &Budget::new(Limits::default())).unwrap();
        assert_eq!(whole, Laid { samples: 4, chunks: 2, room: 4, ..Laid::default() });
        let cut = tables.lay(&[0; 45], &[(8, 45)], None, &Budget::new(Limits::default())).unwrap();
        assert_eq!((cut.outside, cut.before_outside, cut.missing), (2, 2, 15));
    }

    #[test]
    fn four_billion_samples_of_one_size_cost_nothing() {
        let (offsets, stsc) = (words(&[10]), words(&[1, u32::MAX, 1]));
        let sizes = Sizes::Same { size: 2, count: u32::MAX };
        let tables = Tables { offsets: &offsets, stsc: &stsc, sizes, ..Tables::default() };
        let laid = tables.lay(&[0; 100], &[], None, &Budget::new(Limits::default())).unwrap();
        assert_eq!((laid.samples, laid.before_outside), (u64::from(u32::MAX), 45));
    }

    #[test]
    fn a_chunk_that_starts_inside_the_one_before_is_counted() {
        let (offsets, stsc, stsz) = (words(&[10, 25, 45]), words(&[1, 2, 1]), words(&[0, 6, 10, 10, 10, 10, 10, 5]));
        let tables = Tables { offsets: &offsets, stsc: &stsc, sizes: Sizes::from_stsz(&stsz).unwrap(), ..Tables::default() };
        let laid = tables.lay(&[0; 60], &[(8, 60)], None, &Budget::new(Limits::default())).unwrap();
        assert_eq!((laid.samples, laid.overlapping), (6, 1));
    }

    #[test]
    fn compact_sizes_are_read() {
        let stz2 = [0, 0, 0, 4, 0, 0, 0, 3, 0x12, 0x30];
        let sizes = Sizes::from_stz2(&stz2).unwrap();
        assert_eq!((0..4).map(|i| sizes.get(i)).collect::<Vec<_>>(), [Some(1), Some(2), Some(3), Some(0)]);
        assert_eq!(sizes.count(), 3);
    }
}
