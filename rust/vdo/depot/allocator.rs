// SPDX-License-Identifier: GPL-2.0

//! Which slab blocks are allocated from next.
//!
//! One slab is open. When it has no free block left (behind those that were taken), it is closed,
//! and the usable slab with the highest priority is opened. A priority is about the logarithm of
//! the number of free blocks, so that slabs with much room come first; a slab that was never used
//! comes behind those that are mostly empty, for it costs memory. Within a priority, who has
//! waited longest is first.

use crate::error::Result;
use crate::format::SlabConfig;
use crate::format::SlabNumber;
use kernel::prelude::KVVec;
use kernel::prelude::GFP_KERNEL;

/// Priorities: of the logarithm of a 23 bit number, and two more.
const PRIORITIES: usize = 26;

const NONE: u32 = u32::MAX;

/// Which slab blocks are allocated from next.
pub(super) struct Allocator {
    slabs: KVVec<Place>,
    lines: [Line; PRIORITIES],
    open: Option<SlabNumber>,
    unused_priority: u8,
    /// Free blocks of all slabs, as [`Place::free`].
    free: i64,
    /// How many slabs were opened for the first time since they exist, or were used at the start.
    pub(super) opened: u64,
    /// How often a used slab was opened.
    pub(super) reopened: u64,
}

/// What is known of a slab.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// Below 0 for a moment, if what was freed was taken again before it was told of here.
    free: i32,
    previous: u32,
    next: u32,
    priority: u8,
    is_unused: bool,
    /// It can be opened.
    is_usable: bool,
}

/// The slabs of a priority.
#[derive(Clone, Copy)]
struct Line {
    first: u32,
    last: u32,
}

/// The slab that blocks are to be allocated from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Open {
    pub(super) slab: SlabNumber,
    /// None of its blocks is free, nor any of another usable slab.
    pub(super) is_full: bool,
    /// It has just been opened, and this one was never used and is likely to be opened next.
    pub(super) next: Option<SlabNumber>,
}

impl Allocator {
    /// An allocator without slabs.
    pub(super) fn new(slab: &SlabConfig) -> Self {
        let unused = slab.data_blocks - slab.data_blocks / 4;
        Self {
            slabs: KVVec::new(),
            lines: [Line {
                first: NONE,
                last: NONE,
            }; PRIORITIES],
            open: None,
            unused_priority: 1 + unused.checked_ilog2().unwrap_or(0) as u8,
            free: 0,
            opened: 0,
            reopened: 0,
        }
    }

    /// Returns places for so many slabs, for [`Self::grow`].
    pub(super) fn places(slabs: u32) -> Result<KVVec<Place>> {
        let place = Place {
            free: 0,
            previous: NONE,
            next: NONE,
            priority: 0,
            is_unused: false,
            is_usable: false,
        };
        Ok(KVVec::from_elem(place, slabs as usize, GFP_KERNEL)?)
    }

    /// Changes over to more places; the new ones have no free block and are not usable yet.
    pub(super) fn grow(&mut self, places: &mut KVVec<Place>) {
        for (to, from) in places.iter_mut().zip(&self.slabs) {
            *to = *from;
        }
        core::mem::swap(&mut self.slabs, places);
    }

    /// Returns the number of free blocks; an estimate for slabs that are not usable yet.
    pub(super) fn free(&self) -> u64 {
        self.free.max(0) as u64
    }

    /// Returns the number of free blocks of a slab.
    pub(super) fn free_of(&self, slab: SlabNumber) -> Option<u32> {
        u32::try_from(self.place(slab)?.free).ok()
    }

    /// Sets how many blocks of a slab are free.
    pub(super) fn set_free(&mut self, slab: SlabNumber, free: u32) {
        let known = self.place(slab).map_or(0, |place| place.free);
        self.adjust(slab, i64::from(free) - i64::from(known));
    }

    /// More or less blocks of a slab are free.
    pub(super) fn adjust(&mut self, slab: SlabNumber, freed: i64) {
        let Some(place) = self.slabs.get_mut(slab as usize) else {
            return;
        };
        // A slab has fewer than 2^23 blocks.
        place.free = place.free.saturating_add(freed as i32);
        self.free = self.free.saturating_add(freed);
        if place.is_usable && self.open != Some(slab) {
            let priority = self.priority(slab);
            if self
                .place(slab)
                .is_some_and(|place| place.priority != priority)
            {
                self.remove(slab);
                self.append(slab, priority);
            }
        }
    }

    /// Lets a slab be opened, which was not usable so far.
    pub(super) fn add(&mut self, slab: SlabNumber, is_unused: bool) {
        let Some(place) = self.slabs.get_mut(slab as usize) else {
            return;
        };
        if place.is_usable {
            return;
        }
        place.is_usable = true;
        place.is_unused = is_unused;
        self.append(slab, self.priority(slab));
    }

    /// Returns the open slab, or opens one; `None` if no slab is usable.
    pub(super) fn open(&mut self) -> Option<Open> {
        if let Some(slab) = self.open {
            return Some(Open {
                slab,
                is_full: false,
                next: None,
            });
        }
        let slab = self.first()?;
        self.remove(slab);
        self.open = Some(slab);
        let place = self.slabs.get_mut(slab as usize)?;
        let is_full = place.free <= 0;
        if core::mem::take(&mut place.is_unused) {
            self.opened += 1;
        } else {
            self.reopened += 1;
        }
        let next = self.first();
        let is_unused = |slab: &u32| self.place(*slab).is_some_and(|place| place.is_unused);
        Some(Open {
            slab,
            is_full,
            next: next.filter(is_unused),
        })
    }

    /// Closes a slab if it is the open one: nothing more was found in it.
    pub(super) fn close(&mut self, slab: SlabNumber) {
        if self.open == Some(slab) {
            self.open = None;
            self.append(slab, self.priority(slab));
        }
    }

    /// Closes a slab if it is the open one, and opens all others before it.
    pub(super) fn set_aside(&mut self, slab: SlabNumber) {
        if self.open == Some(slab) {
            self.open = None;
            self.append(slab, 1);
        }
    }

    /// Closes a slab if it is the open one, as one that was never opened, and opens all others
    /// before it.
    pub(super) fn postpone(&mut self, slab: SlabNumber) {
        if self.open == Some(slab) {
            self.opened = self.opened.saturating_sub(1);
            if let Some(place) = self.slabs.get_mut(slab as usize) {
                place.is_unused = true;
            }
            self.set_aside(slab);
        }
    }

    /// Returns whether a usable slab has a free block.
    pub(super) fn has_free(&self) -> bool {
        let open = self.open.and_then(|slab| self.place(slab));
        open.is_some_and(|place| place.free > 0)
            || self.lines.iter().skip(1).any(|line| line.first != NONE)
    }

    fn place(&self, slab: SlabNumber) -> Option<&Place> {
        self.slabs.get(slab as usize)
    }

    fn priority(&self, slab: SlabNumber) -> u8 {
        let Some(place) = self.place(slab) else {
            return 0;
        };
        if place.is_unused {
            return self.unused_priority;
        }
        let Some(log) = place.free.checked_ilog2() else {
            return 0;
        };
        let priority = 1 + log as u8;
        priority + u8::from(priority >= self.unused_priority)
    }

    /// Returns the first slab of the highest priority.
    fn first(&self) -> Option<SlabNumber> {
        let lines = self.lines.iter().rev();
        lines.map(|line| line.first).find(|first| *first != NONE)
    }

    fn append(&mut self, slab: SlabNumber, priority: u8) {
        let Some(line) = self.lines.get_mut(usize::from(priority)) else {
            return;
        };
        let previous = core::mem::replace(&mut line.last, slab);
        if previous == NONE {
            line.first = slab;
        } else if let Some(place) = self.slabs.get_mut(previous as usize) {
            place.next = slab;
        }
        if let Some(place) = self.slabs.get_mut(slab as usize) {
            place.priority = priority;
            place.previous = previous;
            place.next = NONE;
        }
    }

    fn remove(&mut self, slab: SlabNumber) {
        let Some(Place {
            previous,
            next,
            priority,
            ..
        }) = self.place(slab).copied()
        else {
            return;
        };
        let Some(line) = self.lines.get_mut(usize::from(priority)) else {
            return;
        };
        if previous == NONE {
            line.first = next;
        } else if let Some(place) = self.slabs.get_mut(previous as usize) {
            place.next = next;
        }
        if next == NONE {
            line.last = previous;
        } else if let Some(place) = self.slabs.get_mut(next as usize) {
            place.previous = previous;
        }
    }
}

#[cfg(test)]
mod tests;
