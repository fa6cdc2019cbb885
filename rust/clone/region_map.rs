// SPDX-License-Identifier: GPL-2.0

//! Which regions are hydrated: one bit a region, tested in `map()` without a lock.
//!
//! # Protocol
//!
//! A bit is set after the destination holds the region's data, with release order, and never goes
//! back while the volume lives. A reader that sees a bit (acquire) may send I/O to the destination.
//!
//! What awaits a commit is one *dirty* mark per bitmap block, the unit in which the bitmap goes to
//! disk, and *changed* if a block was marked since the last commit began. A setter sets bits, counts
//! them and marks their block in one step, under a lock that whoever asks whether something has
//! changed takes as well: a bit that somebody has seen, and sent a write to the destination for, is
//! announced before the flush that follows the write asks. The committer clears *changed*, then
//! takes a dirty mark, then copies the block's words. So a region's bit is either in the copy, or its
//! block is dirty again. Loom explores this (`tools/loom`).

use crate::geometry::RegionRange;
use crate::geometry::Regions;
use core::mem::take;
use kernel::prelude::*;
use runtime::sync::AtomicU64;
use runtime::sync::Lock;
use runtime::sync::RcuBox;

/// Regions in a word.
const WORD_REGIONS: u64 = u64::BITS as u64;

/// Words in a bitmap block: what one block of the on-disk bitset holds.
pub const BLOCK_WORDS: u64 = 509;

/// Regions in a bitmap block.
pub const BLOCK_REGIONS: u64 = BLOCK_WORDS * WORD_REGIONS;

/// The hydration state of every region of a volume.
pub struct RegionMap {
    regions: Regions,
    /// Taken away once every bit is set for good.
    words: RcuBox<Words>,
    hydrated: AtomicU64,
    marks: Lock<Marks>,
}

type Words = KVVec<AtomicU64>;

/// What awaits a commit.
struct Marks {
    /// One bit a bitmap block.
    dirty: KVVec<u64>,
    changed: bool,
}

/// A run of neighbouring regions in the same state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Whether the regions are hydrated.
    pub hydrated: bool,
    /// The first region behind the run.
    pub end: u64,
}

impl RegionMap {
    /// Allocates the map of `regions` regions, none of them hydrated, nothing to commit.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new(regions: Regions) -> Result<Self> {
        let words = regions.div_ceil(WORD_REGIONS);
        let blocks = words.div_ceil(BLOCK_WORDS);
        Ok(Self {
            regions,
            words: RcuBox::new(KBox::new(filled(words, || AtomicU64::new(0))?, GFP_KERNEL)?),
            hydrated: AtomicU64::new(0),
            marks: Lock::new(Marks {
                dirty: filled(blocks.div_ceil(WORD_REGIONS), || 0)?,
                changed: false,
            }),
        })
    }

    /// Returns the number of regions.
    pub fn regions(&self) -> Regions {
        self.regions
    }

    /// Returns the number of hydrated regions, committed or not.
    pub fn hydrated(&self) -> Regions {
        self.hydrated.load_relaxed()
    }

    /// Returns true if every region is hydrated.
    pub fn is_complete(&self) -> bool {
        self.hydrated() == self.regions
    }

    /// Returns true if every region was hydrated and [`shrink`](Self::shrink) has been here, that is
    /// for good.
    #[inline]
    pub fn is_shrunk(&self) -> bool {
        self.words.is_taken()
    }

    /// Returns true if region `region` is hydrated.
    pub fn is_hydrated(&self, region: u64) -> bool {
        self.run(&(region..region.saturating_add(1))).hydrated
    }

    /// Returns true if every region of `range` is hydrated.
    pub fn is_range_hydrated(&self, range: &RegionRange) -> bool {
        let run = self.run(range);
        run.hydrated && run.end == range.end
    }

    /// Returns the state of the first region of `range`, and how far within the range it holds.
    /// An empty range is hydrated.
    pub fn run(&self, range: &RegionRange) -> Run {
        self.words.read(|words| match words {
            Some(words) if !range.is_empty() => run_in(words, range),
            _ => Run {
                hydrated: true,
                end: range.end,
            },
        })
    }

    /// Returns the first region of `range` that is not hydrated.
    pub fn first_unhydrated(&self, range: &RegionRange) -> Option<u64> {
        let run = self.run(range);
        let start = if run.hydrated { run.end } else { range.start };
        (start < range.end).then_some(start)
    }

    /// Marks `range` as hydrated: the destination holds its data.
    pub fn set_hydrated(&self, range: &RegionRange) {
        let end = range.end.min(self.regions);
        let mut start = range.start;
        while start < end {
            // Block by block: the lock is not held for longer, however large the range is.
            let block = start / BLOCK_REGIONS;
            let next = ((block + 1) * BLOCK_REGIONS).min(end);
            self.words.read(|words| {
                if let Some(words) = words {
                    self.marks.with(|marks| {
                        let added = set_in(words, &(start..next));
                        if added > 0 {
                            self.hydrated.fetch_add(added);
                            marks.mark(block, block);
                        }
                    });
                }
            });
            start = next;
        }
    }

    /// Marks every bitmap block as awaiting a commit: what is on disk is in doubt.
    pub fn set_all_dirty(&self) {
        let last = self.blocks() - 1;
        self.marks.with(|marks| marks.mark(0, last));
    }

    /// Returns true if something was set since the last [`take_changed`](Self::take_changed).
    pub fn is_changed(&self) -> bool {
        self.marks.with(|marks| marks.changed)
    }

    /// A commit starts: what is set from now on is for the next one, if this one misses it.
    pub fn take_changed(&self) -> bool {
        self.marks.with(|marks| take(&mut marks.changed))
    }

    /// Takes the dirty mark of the first dirty block that is not before `from`.
    pub fn take_dirty_block(&self, from: u64) -> Option<u64> {
        self.marks.with(|marks| marks.take_from(from))
    }

    /// Returns the number of bitmap blocks.
    pub fn blocks(&self) -> u64 {
        self.regions.div_ceil(BLOCK_REGIONS)
    }

    /// Copies the words from `first` on into `words`, as they go to disk.
    pub fn copy_words(&self, first: u64, words: &mut [u64]) {
        self.words.read(|own| {
            for (index, word) in (first..).zip(words) {
                *word = match own {
                    Some(own) => word_in(own, index),
                    None => self.existing(index),
                };
            }
        });
    }

    /// Takes over `words` of the bitset on disk, from word `first` on, while a volume is opened.
    /// Bits behind the last region mean nothing and are dropped.
    pub fn load_words(&self, first: u64, words: &[u64]) {
        let (mut added, mut removed) = (0, 0);
        self.words.read(|own| {
            let slots = own.and_then(|own| own.get(first as usize..));
            for (index, (slot, word)) in (first..).zip(slots.into_iter().flatten().zip(words)) {
                let bits = word & self.existing(index);
                let old = slot.load_relaxed();
                // Most words are zero, in memory and on disk.
                if bits != old {
                    slot.store_relaxed(bits);
                    added += u64::from(bits.count_ones());
                    removed += u64::from(old.count_ones());
                }
            }
        });
        self.hydrated.fetch_add(added);
        self.hydrated.fetch_sub(removed);
    }

    /// Every region is hydrated: gives the memory of the bits back. Waits for readers to be done.
    pub fn shrink(&self) {
        if self.is_complete() {
            drop(self.words.take());
        }
    }

    /// Returns the bits of word `index` that stand for a region.
    fn existing(&self, index: u64) -> u64 {
        let first = index.saturating_mul(WORD_REGIONS);
        mask(0, self.regions.saturating_sub(first).min(WORD_REGIONS))
    }
}

impl Marks {
    fn mark(&mut self, first: u64, last: u64) {
        let mut block = first;
        while block <= last {
            let next = next_word(block).min(last + 1);
            if let Some(word) = self.dirty.get_mut((block / WORD_REGIONS) as usize) {
                *word |= mask(block % WORD_REGIONS, next - block);
            }
            block = next;
        }
        self.changed = true;
    }

    fn take_from(&mut self, from: u64) -> Option<u64> {
        let first = (from / WORD_REGIONS) as usize;
        let mut ignored = mask(0, from % WORD_REGIONS);
        for (index, word) in self.dirty.iter_mut().enumerate().skip(first) {
            let ahead = *word & !ignored;
            ignored = 0;
            if ahead != 0 {
                let bit = u64::from(ahead.trailing_zeros());
                *word &= !(1 << bit);
                return Some(index as u64 * WORD_REGIONS + bit);
            }
        }
        None
    }
}

fn word_in(words: &Words, index: u64) -> u64 {
    // A region behind the end does not exist; nothing may be done for it.
    words.get(index as usize).map_or(0, AtomicU64::load_acquire)
}

/// A region may be hydrated at any moment. Each word is read once: the run has a region at least.
fn run_in(words: &Words, range: &RegionRange) -> Run {
    let mut at = range.start;
    let mut word = word_in(words, at / WORD_REGIONS);
    let hydrated = (word >> (at % WORD_REGIONS)) & 1 == 1;
    loop {
        // A bit of `differs` is set where the state is another one.
        let differs = if hydrated { !word } else { word } >> (at % WORD_REGIONS);
        if differs != 0 {
            at += u64::from(differs.trailing_zeros());
            break;
        }
        at = next_word(at);
        if at >= range.end {
            break;
        }
        word = word_in(words, at / WORD_REGIONS);
    }
    Run {
        hydrated,
        end: at.min(range.end),
    }
}

/// Sets the bits of `range` and returns how many of them were clear.
fn set_in(words: &Words, range: &RegionRange) -> u64 {
    let mut at = range.start;
    let mut added = 0;
    while at < range.end {
        let next = next_word(at).min(range.end);
        let bits = mask(at % WORD_REGIONS, next - at);
        if let Some(word) = words.get((at / WORD_REGIONS) as usize) {
            added += u64::from((bits & !word.fetch_or(bits)).count_ones());
        }
        at = next;
    }
    added
}

fn filled<T>(count: u64, mut value: impl FnMut() -> T) -> Result<KVVec<T>> {
    let count = usize::try_from(count).map_err(|_| ENOMEM)?;
    let mut words = KVVec::with_capacity(count, GFP_KERNEL)?;
    for _ in 0..count {
        words.push_within_capacity(value()).map_err(|_| ENOMEM)?;
    }
    Ok(words)
}

/// Returns the first number behind the word that `at` lies in.
fn next_word(at: u64) -> u64 {
    (at / WORD_REGIONS + 1) * WORD_REGIONS
}

/// Returns `count` set bits, 0 to 64, from bit `first` on.
fn mask(first: u64, count: u64) -> u64 {
    match count {
        0 => 0,
        64.. => u64::MAX,
        _ => ((1 << count) - 1) << first,
    }
}

#[cfg(test)]
mod tests;
