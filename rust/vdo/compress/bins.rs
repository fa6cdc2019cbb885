// SPDX-License-Identifier: GPL-2.0

//! The compressed blocks of a batch, and which of them a fragment goes to.
//!
//! A fragment goes where it leaves the least room, of a few blocks that are open; if there is no room for
//! it, the fullest of these is closed and another one opened.

use crate::format::compressed::Builder;
use crate::format::Page;
use crate::format::Pbn;
use kernel::prelude::*;

/// Compressed blocks that are open at once.
const OPEN: usize = 16;

/// Closed with less room than this: hardly a fragment is so small.
const LEAST_ROOM: usize = 24;

/// The compressed blocks of a batch, by number.
pub struct Bins {
    all: KVec<Bin>,
    /// The numbers of those that are open.
    open: KVec<usize>,
    most: usize,
}

/// A compressed block.
struct Bin {
    block: Builder,
    /// Where it is to be stored, once that is known.
    place: Option<Pbn>,
    /// Fragments in it that can be referred to there.
    claims: u8,
    /// Fragments that were taken out again.
    taken: u8,
}

impl Bins {
    /// Returns how many compressed blocks `blocks` blocks may need: with less than two fragments it
    /// is none.
    pub const fn needed(blocks: usize) -> usize {
        let needed = blocks / 2 + OPEN;
        if needed < blocks {
            needed
        } else {
            blocks
        }
    }

    /// For so many compressed blocks.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new(most: usize) -> Result<Self> {
        Ok(Self {
            all: KVec::with_capacity(most, GFP_KERNEL)?,
            open: KVec::with_capacity(OPEN, GFP_KERNEL)?,
            most,
        })
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.all.clear();
        self.open.clear();
    }

    /// Returns how many compressed blocks there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Returns true if there is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Puts a fragment into one of the compressed blocks, of which `page` returns the page. Returns
    /// its number, and the slot in it; `None` if there is no room.
    pub fn add<'p>(
        &mut self,
        fragment: &[u8],
        page: impl FnOnce(usize) -> Option<&'p mut Page>,
    ) -> Option<(usize, u8)> {
        let best = self.best(fragment.len());
        let number = best.unwrap_or(self.all.len());
        if number >= self.most {
            return None;
        }
        let page = page(number)?;
        if best.is_none() {
            self.open(Bin {
                block: Builder::new(page),
                place: None,
                claims: 0,
                taken: 0,
            });
        }
        let bin = self.all.get_mut(number)?;
        let slot = bin.block.add(page, fragment)?;
        if bin.block.room() < LEAST_ROOM {
            self.close(number);
        }
        Some((number, slot))
    }

    /// Returns the open one that a fragment of this size leaves the least room in.
    fn best(&self, size: usize) -> Option<usize> {
        let room = |number: usize| self.all.get(number).map_or(0, |bin| bin.block.room());
        let open = self.open.iter().copied();
        let fitting = open.filter(|&number| room(number) >= size);
        fitting.min_by_key(|&number| room(number))
    }

    /// Opens another one. If there are too many, the fullest is closed.
    fn open(&mut self, bin: Bin) {
        if self.open.len() == OPEN {
            if let Some(fullest) = self.best(0) {
                self.close(fullest);
            }
        }
        // There is room for both.
        let _ = self.open.push_within_capacity(self.all.len());
        let _ = self.all.push_within_capacity(bin);
    }

    fn close(&mut self, number: usize) {
        if let Some(at) = self.open.iter().position(|&own| own == number) {
            let last = self.open.len().saturating_sub(1);
            self.open.swap(at, last);
            self.open.pop();
        }
    }

    /// Returns how many fragments a compressed block has that were not taken out again.
    pub fn fragments(&self, number: usize) -> u8 {
        let fragments = |bin: &Bin| bin.block.fragments().saturating_sub(bin.taken);
        self.all.get(number).map_or(0, fragments)
    }

    /// Returns how many bytes a compressed block has room for.
    pub fn room(&self, number: usize) -> usize {
        self.all.get(number).map_or(0, |bin| bin.block.room())
    }

    /// One of the fragments of a compressed block is somewhere else now.
    pub fn take(&mut self, number: usize) {
        if let Some(bin) = self.all.get_mut(number) {
            bin.taken = bin.taken.saturating_add(1);
        }
    }

    /// A compressed block is stored at `place`, and `claims` of its fragments can be referred to.
    pub fn place(&mut self, number: usize, place: Pbn, claims: u8) {
        if let Some(bin) = self.all.get_mut(number) {
            bin.place = Some(place);
            bin.claims = claims;
        }
    }

    /// Returns where a compressed block is to be stored, for one of its fragments to be referred to.
    pub fn refer(&mut self, number: usize) -> Option<Pbn> {
        let bin = self.all.get_mut(number)?;
        bin.claims = bin.claims.checked_sub(1)?;
        bin.place
    }

    /// Returns the places of those that are stored.
    pub fn places(&self) -> impl Iterator<Item = Pbn> + '_ {
        self.all.iter().filter_map(|bin| bin.place)
    }
}

#[cfg(test)]
mod tests;
