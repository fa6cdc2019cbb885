// SPDX-License-Identifier: GPL-2.0

//! Claims on the blocks of a slab: references that somebody is going to journal.
//!
//! The first claim on a free block is its provisional count; it has no place here. Of all others
//! there is a number for each block, in a small table with open addressing.

use kernel::alloc::flags::GFP_NOWAIT;
use kernel::prelude::*;

/// Places of a table at first. All numbers of them are powers of two.
const PLACES: usize = 16;

/// How many claims there are, by block.
#[derive(Default)]
pub(super) struct Claims {
    /// At most half of them are in use.
    places: KVec<Place>,
    used: usize,
}

/// One that is not in use has no claims.
#[derive(Clone, Copy, Default)]
struct Place {
    sbn: u32,
    claims: u8,
}

impl Claims {
    /// Returns true if there are none.
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
        if let Ok(at) = self.find(sbn) {
            if let Some(place) = self.places.get_mut(at) {
                place.claims = place.claims.saturating_add(more);
            }
            return Ok(());
        }
        if self.used >= self.places.len() / 2 {
            self.grow()?;
        }
        self.insert(Place { sbn, claims: more });
        Ok(())
    }

    /// Takes a claim of a block away. Returns false if there is none.
    pub(super) fn take(&mut self, sbn: u32) -> bool {
        let Ok(at) = self.find(sbn) else {
            return false;
        };
        match self.places.get_mut(at) {
            Some(place) if place.claims > 1 => place.claims -= 1,
            _ => self.remove(at),
        }
        true
    }

    /// Returns the place of a block, or the free one where it would be; that is of no use while the
    /// table has no places.
    fn find(&self, sbn: u32) -> Result<usize, usize> {
        let mut at = self.home(sbn);
        loop {
            match self.places.get(at) {
                Some(place) if place.claims > 0 && place.sbn == sbn => return Ok(at),
                Some(place) if place.claims > 0 => at = self.next(at),
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
            if place.claims == 0 {
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
        for place in old.iter().filter(|place| place.claims > 0) {
            self.insert(*place);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
