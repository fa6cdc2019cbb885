// SPDX-License-Identifier: GPL-2.0

//! The slots of lists: room for what is added, and for what is loaded.

use super::super::guide::Guide;
use super::super::store::Shortage;
use super::super::store::Slot;
use super::Shard;
use crate::delta::edit::align;

impl Shard {
    /// Makes room for a list to get longer.
    pub(in super::super) fn make_room(&mut self, list: u32, bits: usize) -> Result<(), Shortage> {
        let bytes = bits.div_ceil(8);
        let Some(header) = self.header(list).copied() else {
            return Ok(());
        };
        if header.slot != Slot::NONE && self.store.capacity(header.slot) >= bytes {
            return Ok(());
        }
        self.relocate(list, bytes, usize::from(header.bits).div_ceil(8))
    }

    /// Gives a list a slot of the size that it needs. That it stays where it is does no harm.
    pub(super) fn fit(&mut self, list: u32) {
        let Some(header) = self.header(list).copied() else {
            return;
        };
        if header.slot == Slot::NONE {
            return;
        }
        let bytes = usize::from(header.bits).div_ceil(8);
        if bytes == 0 {
            self.give_back(header.slot);
            if let Some(header) = self.header_mut(list) {
                header.slot = Slot::NONE;
                header.guide = Guide::EMPTY;
            }
        } else if !self.store.fits(header.slot, bytes) {
            let _ = self.relocate(list, bytes, bytes);
        }
    }

    /// Moves the first `used` bytes of a list to a slot for `bytes`.
    fn relocate(&mut self, list: u32, bytes: usize, used: usize) -> Result<(), Shortage> {
        let new = self.store.allocate(bytes, list)?;
        let Some(header) = self.header_mut(list) else {
            return Ok(());
        };
        let old = core::mem::replace(&mut header.slot, new);
        if old != Slot::NONE {
            self.store.copy(old, new, used);
            self.give_back(old);
        }
        Ok(())
    }

    fn give_back(&mut self, slot: Slot) {
        if let Some(owner) = self.store.free(slot) {
            if let Some(header) = self.header_mut(owner) {
                header.slot = slot;
            }
        }
    }

    /// A list will get so many bits when it is loaded.
    pub(in super::super) fn expect(&mut self, list: u32, bits: u16) {
        if let Some(header) = self.header_mut(list) {
            header.bits = bits;
        }
    }

    /// Returns the bits of a list that are still to be loaded, if there are any.
    pub(in super::super) fn expected(&self, list: u32) -> Option<u32> {
        let header = self.header(list)?;
        (header.slot == Slot::NONE && header.bits > 0).then_some(header.bits.into())
    }

    /// Some bytes of a list, from `at` on, for which there is room.
    pub(in super::super) fn receive(&mut self, list: u32, at: usize, data: &[u8]) {
        let Some(slot) = self.header(list).map(|header| header.slot) else {
            return;
        };
        let place = self.store.bytes_mut(slot).get_mut(at..at + data.len());
        if let Some(place) = place {
            place.copy_from_slice(data);
        }
    }

    /// All bytes of a list are there; it begins with bit `from` of them.
    pub(in super::super) fn received(&mut self, list: u32, from: usize) {
        let Some(header) = self.header(list).copied() else {
            return;
        };
        let bits = usize::from(header.bits);
        align(self.store.bytes_mut(header.slot), from, bits);
        self.used_bits += bits as u64;
        self.fit(list);
    }
}
