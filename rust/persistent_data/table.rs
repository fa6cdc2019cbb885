// SPDX-License-Identifier: GPL-2.0

//! Values found by block number, in slots that a clock's hand passes over.
//!
//! A hash table with chains. Slots come in chunks that never move, so a table can grow while it is
//! in use: who adds a chunk allocates it before, and need not hold up anybody meanwhile.

use kernel::alloc::AllocError;
use kernel::alloc::Flags;
use kernel::prelude::KVVec;
use kernel::prelude::KVec;
use kernel::prelude::GFP_KERNEL;

/// No slot.
pub(crate) const NONE: u32 = u32::MAX;

/// Slots in a chunk; the last chunk may have fewer.
pub(crate) const CHUNK: usize = 32;

const CHUNK_SHIFT: u32 = CHUNK.trailing_zeros();

/// A place for a value; vacant without one.
struct Slot<T> {
    block: u64,
    value: Option<T>,
    /// The next slot of the same bucket, or the next vacant one.
    chain: u32,
}

/// Memory for some slots.
pub(crate) struct Chunk<T>(KVec<Slot<T>>);

impl<T> Chunk<T> {
    /// Allocates `slots` slots, at most [`CHUNK`].
    pub(crate) fn new(slots: usize, flags: Flags) -> Result<Self, AllocError> {
        let mut chunk = KVec::with_capacity(slots.min(CHUNK), flags)?;
        for _ in 0..slots.min(CHUNK) {
            let slot = Slot {
                block: 0,
                value: None,
                chain: NONE,
            };
            chunk.push(slot, flags)?;
        }
        Ok(Self(chunk))
    }
}

/// The chunks of a table; see [`Table::add`].
pub(crate) type Chunks<T> = KVVec<Chunk<T>>;

/// Values found by block number.
pub(crate) struct Table<T> {
    chunks: Chunks<T>,
    /// The number of slots.
    slots: u32,
    /// The first slot of each bucket; a power of two of them.
    buckets: KVVec<u32>,
    /// The first vacant slot.
    vacant: u32,
    /// How many are vacant.
    vacancies: u32,
    hand: u32,
}

impl<T> Table<T> {
    /// Creates a table without slots, made for `expected` values.
    pub(crate) fn new(expected: usize) -> Result<Self, AllocError> {
        Ok(Self {
            chunks: KVVec::with_capacity(expected.div_ceil(CHUNK), GFP_KERNEL)?,
            slots: 0,
            buckets: KVVec::from_elem(NONE, expected.max(1).next_power_of_two(), GFP_KERNEL)?,
            vacant: NONE,
            vacancies: 0,
            hand: 0,
        })
    }

    /// Creates a table of `count` slots.
    pub(crate) fn with_slots(count: usize) -> Result<Self, AllocError> {
        let mut table = Self::new(count)?;
        let mut left = count;
        while left > 0 {
            let chunk = Chunk::new(left, GFP_KERNEL)?;
            left = left.saturating_sub(CHUNK);
            // There is room for all of them.
            table.add(chunk, None).map_err(|_| AllocError)?;
        }
        Ok(table)
    }

    /// Returns how many chunks a list must have room for before the next can be added, or `None`
    /// if the list in use will do.
    pub(crate) fn wants_list(&self) -> Option<usize> {
        let full = self.chunks.len() == self.chunks.capacity();
        full.then(|| 2 * self.chunks.len().max(4))
    }

    /// Adds the slots of `chunk`; `list` replaces the list of chunks if it has more room. Returns
    /// what is to be freed, or the chunk if there is no room for it.
    pub(crate) fn add(
        &mut self,
        chunk: Chunk<T>,
        list: Option<Chunks<T>>,
    ) -> Result<Option<Chunks<T>>, Chunk<T>> {
        let mut old = list;
        if let Some(list) = &mut old {
            if list.capacity() > self.chunks.len() && list.is_empty() {
                core::mem::swap(list, &mut self.chunks);
                move_all(list, &mut self.chunks);
            }
        }
        let count = chunk.0.len() as u32;
        // Only the last chunk may be short, or slots could not be found by shifting.
        let whole = self.slots & (CHUNK as u32 - 1) == 0;
        if !whole || self.slots.checked_add(count).is_none_or(|end| end == NONE) {
            return Err(chunk);
        }
        let first = self.slots;
        self.chunks
            .push_within_capacity(chunk)
            .map_err(|error| error.0)?;
        self.slots += count;
        self.vacancies += count;
        for at in (first..self.slots).rev() {
            let vacant = self.vacant;
            if let Some(slot) = self.slot_mut(at) {
                slot.chain = vacant;
                self.vacant = at;
            }
        }
        Ok(old)
    }

    /// Returns true if a value can be inserted.
    pub(crate) fn has_room(&self) -> bool {
        self.vacancies > 0
    }

    /// Returns how many values can be inserted.
    pub(crate) fn vacancies(&self) -> u32 {
        self.vacancies
    }

    /// Returns the slot of `block`.
    #[inline]
    pub(crate) fn find(&self, block: u64) -> Option<u32> {
        let mut next = *self.buckets.get(self.bucket(block))?;
        while let Some(slot) = self.slot(next) {
            if slot.block == block {
                return Some(next);
            }
            next = slot.chain;
        }
        None
    }

    /// Returns the value in a slot.
    #[inline]
    pub(crate) fn get(&self, at: u32) -> Option<&T> {
        self.slot(at)?.value.as_ref()
    }

    /// Returns the value in a slot.
    #[inline]
    pub(crate) fn get_mut(&mut self, at: u32) -> Option<&mut T> {
        self.slot_mut(at)?.value.as_mut()
    }

    /// Returns the block whose value is in a slot.
    pub(crate) fn block(&self, at: u32) -> Option<u64> {
        let slot = self.slot(at)?;
        slot.value.is_some().then_some(slot.block)
    }

    /// Inserts the value of a block that has none, or gives it back if there is no room.
    pub(crate) fn insert(&mut self, block: u64, value: T) -> Result<u32, T> {
        let at = self.vacant;
        let bucket = self.bucket(block);
        let head = self.buckets.get(bucket).copied().unwrap_or(NONE);
        let Some(slot) = self.slot_mut(at) else {
            return Err(value);
        };
        slot.block = block;
        slot.value = Some(value);
        self.vacant = core::mem::replace(&mut slot.chain, head);
        self.vacancies -= 1;
        if let Some(head) = self.buckets.get_mut(bucket) {
            *head = at;
        }
        Ok(at)
    }

    /// Takes the value out of a slot, which is then the next that is filled.
    pub(crate) fn remove(&mut self, at: u32) -> Option<T> {
        let vacant = self.vacant;
        let slot = self.slot_mut(at)?;
        let value = slot.value.take()?;
        let after = core::mem::replace(&mut slot.chain, vacant);
        let bucket = self.bucket(slot_block(self.slot(at)));
        self.vacant = at;
        self.vacancies += 1;
        self.unchain(bucket, at, after);
        Some(value)
    }

    /// Takes slot `at` out of the chain of `bucket`, where `after` follows it.
    fn unchain(&mut self, bucket: usize, at: u32, after: u32) {
        let Some(head) = self.buckets.get_mut(bucket) else {
            return;
        };
        if *head == at {
            *head = after;
            return;
        }
        let mut before = *head;
        while let Some(slot) = self.slot_mut(before) {
            if slot.chain == at {
                slot.chain = after;
                return;
            }
            before = slot.chain;
        }
    }

    /// Moves the hand on until it stands at a value that `chosen` accepts; two turns at most.
    pub(crate) fn sweep(&mut self, mut chosen: impl FnMut(&mut T) -> bool) -> Option<u32> {
        for _ in 0..2 * u64::from(self.slots) {
            let at = self.hand;
            self.hand = if at + 1 < self.slots { at + 1 } else { 0 };
            if self.get_mut(at).is_some_and(&mut chosen) {
                return Some(at);
            }
        }
        None
    }

    /// Returns all values with their blocks and slots.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, u64, &T)> {
        let slots = self.chunks.iter().flat_map(|chunk| chunk.0.iter());
        (0..)
            .zip(slots)
            .filter_map(|(at, slot)| Some((at, slot.block, slot.value.as_ref()?)))
    }

    #[inline]
    fn slot(&self, at: u32) -> Option<&Slot<T>> {
        let chunk = self.chunks.get((at >> CHUNK_SHIFT) as usize)?;
        chunk.0.get(at as usize & (CHUNK - 1))
    }

    #[inline]
    fn slot_mut(&mut self, at: u32) -> Option<&mut Slot<T>> {
        let chunk = self.chunks.get_mut((at >> CHUNK_SHIFT) as usize)?;
        chunk.0.get_mut(at as usize & (CHUNK - 1))
    }

    #[inline]
    fn bucket(&self, block: u64) -> usize {
        (mix(block) >> 32) as usize & (self.buckets.len() - 1)
    }
}

/// Mixes a block number: the upper half of the product is good (Fibonacci hashing).
#[inline]
pub(crate) fn mix(block: u64) -> u64 {
    block.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn slot_block<T>(slot: Option<&Slot<T>>) -> u64 {
    slot.map_or(0, |slot| slot.block)
}

/// Moves all chunks, in order, to a list that has room for them.
fn move_all<T>(from: &mut Chunks<T>, to: &mut Chunks<T>) {
    for chunk in from.iter_mut() {
        let chunk = core::mem::replace(chunk, Chunk(KVec::new()));
        drop(to.push_within_capacity(chunk));
    }
}

#[cfg(test)]
mod tests;
