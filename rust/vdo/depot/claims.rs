// SPDX-License-Identifier: GPL-2.0

//! Claims on the blocks of a slab: references that somebody is going to journal.
//!
//! The first claim on a free block is its provisional count; it has no place here. Of all others
//! there is a number for each block, in a small table with open addressing. Beside it stands whether
//! the data of a block with a provisional count is on the storage: then others may look at it.

use kernel::alloc::flags::GFP_NOWAIT;
use kernel::prelude::*;

/// Places of a table at first. All numbers of them are powers of two.
const PLACES: usize = 16;

/// What is known of blocks that somebody is going to refer to.
#[derive(Default)]
pub(super) struct Claims {
    /// At most half of them are in use.
    places: KVec<Place>,
    used: usize,
}

#[derive(Clone, Copy, Default)]
struct Place {
    sbn: u32,
    claims: u8,
    is_stored: bool,
}

impl Place {
    fn is_used(&self) -> bool {
        self.claims > 0 || self.is_stored
    }
}

impl Claims {
    /// Returns true if nothing is known of any block.
    #[inline(always)]
    pub(super) fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Returns how many there are of a block.
    pub(super) fn get(&self, sbn: u32) -> u8 {
        match self.find(sbn) {
            Ok(at) => self.places.get(at).map_or(0, |place| place.claims),
            Err(_) => 0,
        }
    }

    /// Adds claims of a block; the caller knows that there are not too many.
    ///
    /// # Errors
    ///
    /// `ENOMEM`: it is not waited for.
    pub(super) fn add(&mut self, sbn: u32, more: u8) -> Result {
        let place = self.place(sbn)?;
        place.claims = place.claims.saturating_add(more);
        Ok(())
    }

    /// Returns the place of a block, a fresh one if there is none: it must come into use.
    fn place(&mut self, sbn: u32) -> Result<&mut Place> {
        if self.find(sbn).is_err() {
            if self.used >= self.places.len() / 2 {
                self.grow()?;
            }
            self.used += 1;
        }
        let (Ok(at) | Err(at)) = self.find(sbn);
        let place = self.places.get_mut(at).ok_or(ENOMEM)?;
        place.sbn = sbn;
        Ok(place)
    }

    /// The data of a block is on the storage.
    ///
    /// # Errors
    ///
    /// `ENOMEM`: it is not waited for.
    pub(super) fn set_stored(&mut self, sbn: u32) -> Result {
        self.place(sbn)?.is_stored = true;
        Ok(())
    }

    /// Returns whether it is known that the data of a block is on the storage.
    pub(super) fn is_stored(&self, sbn: u32) -> bool {
        let place = self.find(sbn).ok().and_then(|at| self.places.get(at));
        place.is_some_and(|place| place.is_stored)
    }

    /// The count of a block is not provisional any more: that its data is there goes without saying.
    pub(super) fn forget_stored(&mut self, sbn: u32) {
        if let Ok(at) = self.find(sbn) {
            if let Some(place) = self.places.get_mut(at) {
                place.is_stored = false;
                if !place.is_used() {
                    self.remove(at);
                }
            }
        }
    }

    /// Takes a claim of a block away. Returns false if there is none.
    pub(super) fn take(&mut self, sbn: u32) -> bool {
        let Ok(at) = self.find(sbn) else {
            return false;
        };
        let Some(place) = self.places.get_mut(at).filter(|place| place.claims > 0) else {
            return false;
        };
        place.claims -= 1;
        if !place.is_used() {
            self.remove(at);
        }
        true
    }

    /// Returns the place of a block, or the free one where it would be; that is of no use while the
    /// table has no places.
    fn find(&self, sbn: u32) -> Result<usize, usize> {
        let mut at = self.home(sbn);
        loop {
            match self.places.get(at) {
                Some(place) if place.is_used() && place.sbn == sbn => return Ok(at),
                Some(place) if place.is_used() => at = self.next(at),
                _ => return Err(at),
            }
        }
    }

    fn home(&self, sbn: u32) -> usize {
        // Neighbours are far from each other.
        let mixed = sbn.wrapping_mul(0x9e37_79b1);
        (mixed >> 8) as usize & self.places.len().saturating_sub(1)
    }

    fn next(&self, at: usize) -> usize {
        at.wrapping_add(1) & self.places.len().saturating_sub(1)
    }

    fn insert(&mut self, own: Place) {
        if let Err(at) = self.find(own.sbn) {
            if let Some(place) = self.places.get_mut(at) {
                *place = own;
                self.used += 1;
            }
        }
    }

    /// Empties a place, and moves those behind it that would not be found any more.
    fn remove(&mut self, mut hole: usize) {
        self.used = self.used.saturating_sub(1);
        let mut at = self.next(hole);
        while let Some(place) = self.places.get(at).copied() {
            if !place.is_used() {
                break;
            }
            let mask = self.places.len().saturating_sub(1);
            let distance = |from: usize, to: usize| to.wrapping_sub(from) & mask;
            let home = self.home(place.sbn);
            if distance(home, at) >= distance(hole, at) {
                if let Some(own) = self.places.get_mut(hole) {
                    *own = place;
                }
                hole = at;
            }
            at = self.next(at);
        }
        if let Some(own) = self.places.get_mut(hole) {
            *own = Place::default();
        }
    }

    fn grow(&mut self) -> Result {
        let places = self.places.len().saturating_mul(2).max(PLACES);
        let places = KVec::from_elem(Place::default(), places, GFP_NOWAIT)?;
        let old = core::mem::replace(&mut self.places, places);
        self.used = 0;
        for place in old.iter().filter(|place| place.is_used()) {
            self.insert(*place);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
