// SPDX-License-Identifier: GPL-2.0

//! The memory of lists: slots of a few dozen sizes, cut out of chunks.
//!
//! All slots of a chunk have one size. The slots of a size are a stack: a new one is put on its end,
//! and when one is given back, the last one moves to its place. So there are no holes, and what is
//! lost is the rest of a slot, and the rest of the last chunk of each size. Each slot names its
//! owner, who has to be told where it went.
//!
//! Nothing here allocates: who uses the store gives it chunks ([`Store::give`]), and is told when one
//! is missing.

use crate::delta::MAX_LIST_BITS;
use kernel::alloc::Flags;
use kernel::prelude::*;

/// Bytes of a chunk.
const CHUNK_SIZE: usize = 16_384;

/// Bytes of a chunk that are cut into slots: there is something to read behind the last slot.
const USABLE: usize = CHUNK_SIZE - 8;

/// Bytes of a slot that name its owner; its last ones.
const OWNER_SIZE: usize = 4;

/// Slots up to this size are multiples of [`SMALL_STEP`]. The larger ones are what is left when a
/// chunk is divided by a number.
const SMALL: usize = 400;
const SMALL_STEP: usize = 16;
const SMALL_CLASSES: usize = SMALL / SMALL_STEP;
const CLASSES: usize = SMALL_CLASSES + USABLE / SMALL;

/// Places are multiples of this.
const UNIT: usize = 8;
const UNIT_BITS: u32 = (CHUNK_SIZE / UNIT).ilog2();

/// How many chunks there may be at most: what is left of the bits of a place.
const MAX_CHUNKS: usize = (1 << (u32::BITS - UNIT_BITS)) - 1;

/// Chunks that are kept when they are empty.
const SPARE: usize = 2;

const NONE: u32 = u32::MAX;

/// Where a slot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot(u32);

impl Slot {
    /// No slot.
    pub(super) const NONE: Self = Self(NONE);

    fn new(chunk: u32, offset: usize) -> Self {
        Self((chunk << UNIT_BITS) | (offset / UNIT) as u32)
    }

    const fn chunk(self) -> usize {
        (self.0 >> UNIT_BITS) as usize
    }

    const fn offset(self) -> usize {
        (self.0 as usize & ((1 << UNIT_BITS) - 1)) * UNIT
    }
}

/// Why there is no slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shortage {
    /// A chunk is missing.
    Chunk,
    /// There are as many as there may be.
    Limit,
}

/// Memory for slots.
pub(super) struct Chunk(KVec<u8>);

impl Chunk {
    pub(super) fn new(flags: Flags) -> Result<Self> {
        Ok(Self(KVec::from_elem(0, CHUNK_SIZE, flags)?))
    }
}

/// A chunk that is in use, or a number for one.
struct Piece {
    data: KVec<u8>,
    class: u8,
    /// The chunk of the class before this one, or the next number that is not in use.
    link: u32,
}

/// The slots of one size.
#[derive(Clone, Copy)]
struct Class {
    /// The last chunk.
    last: u32,
    /// Slots in use there.
    used: u16,
}

/// Returns the class of slots for so many bytes.
const fn class_for(bytes: usize) -> usize {
    let need = bytes + OWNER_SIZE;
    if need <= SMALL {
        return need.div_ceil(SMALL_STEP) - 1;
    }
    match USABLE / need {
        0 => SMALL_CLASSES,
        slots if slot_size(SMALL_CLASSES + slots - 1) < need && slots > 1 => {
            SMALL_CLASSES + slots - 2
        }
        slots => SMALL_CLASSES + slots - 1,
    }
}

/// Returns the bytes of a slot of a class.
const fn slot_size(class: usize) -> usize {
    if class < SMALL_CLASSES {
        return (class + 1) * SMALL_STEP;
    }
    USABLE / (class - SMALL_CLASSES + 1) / UNIT * UNIT
}

/// Returns the bytes of a slot of a class that its owner may use.
const fn capacity(class: usize) -> usize {
    slot_size(class) - OWNER_SIZE
}

const fn slots_of_chunk(class: usize) -> usize {
    USABLE / slot_size(class)
}

const _: () = {
    assert!(CLASSES <= u8::MAX as usize);
    let mut bytes = 1;
    while bytes <= MAX_LIST_BITS.div_ceil(8) {
        let class = class_for(bytes);
        assert!(class < CLASSES && capacity(class) >= bytes);
        assert!(slots_of_chunk(class) <= u16::MAX as usize);
        bytes += 1;
    }
};

/// The slots of a shard.
pub(super) struct Store {
    pieces: KVVec<Piece>,
    /// The first number that is not in use.
    unused: u32,
    spare: KVec<Chunk>,
    classes: [Class; CLASSES],
    chunks: usize,
}

impl Store {
    /// Returns a store without chunks, for so many bytes of lists, and what is lost beside them.
    pub(super) fn new(bytes: u64) -> Result<Self> {
        let chunks = usize::try_from(bytes / CHUNK_SIZE as u64).unwrap_or(MAX_CHUNKS);
        let chunks = (chunks + chunks / 8 + CLASSES).min(MAX_CHUNKS);
        Ok(Self {
            pieces: KVVec::with_capacity(chunks, GFP_KERNEL)?,
            unused: NONE,
            spare: KVec::with_capacity(SPARE, GFP_KERNEL)?,
            classes: [Class {
                last: NONE,
                used: 0,
            }; CLASSES],
            chunks: 0,
        })
    }

    /// Returns the bytes that the store takes.
    pub(super) fn memory(&self) -> u64 {
        let chunks = (self.chunks + self.spare.len()) * CHUNK_SIZE;
        let pieces = self.pieces.capacity() * size_of::<Piece>();
        (chunks + pieces) as u64
    }

    /// Gives the store a chunk. If it has enough of them, it is given back.
    pub(super) fn give(&mut self, chunk: Chunk) -> Option<Chunk> {
        if self.spare.len() >= SPARE {
            return Some(chunk);
        }
        self.spare
            .push_within_capacity(chunk)
            .err()
            .map(|error| error.0)
    }

    /// Returns whether an empty chunk is there.
    pub(super) fn has_spare(&self) -> bool {
        !self.spare.is_empty()
    }

    /// Returns a slot for `bytes`, which are at most those of the longest list.
    pub(super) fn allocate(&mut self, bytes: usize, owner: u32) -> Result<Slot, Shortage> {
        let class = class_for(bytes).min(CLASSES - 1);
        let state = self.classes[class];
        if state.last == NONE || usize::from(state.used) >= slots_of_chunk(class) {
            let last = self.take_chunk(class, state.last)?;
            self.classes[class] = Class { last, used: 0 };
        }
        let state = &mut self.classes[class];
        let slot = Slot::new(state.last, usize::from(state.used) * slot_size(class));
        state.used += 1;
        self.set_owner(slot, owner);
        Ok(slot)
    }

    /// Returns the number of a chunk that is now one of `class`.
    fn take_chunk(&mut self, class: usize, link: u32) -> Result<u32, Shortage> {
        let is_full = self.unused == NONE && self.pieces.len() == self.pieces.capacity();
        if is_full || self.pieces.len() >= MAX_CHUNKS {
            return Err(Shortage::Limit);
        }
        let piece = Piece {
            data: self.spare.pop().ok_or(Shortage::Chunk)?.0,
            class: class as u8,
            link,
        };
        self.chunks += 1;
        let number = self.unused;
        if let Some(place) = self.pieces.get_mut(number as usize) {
            self.unused = place.link;
            *place = piece;
            return Ok(number);
        }
        let number = self.pieces.len() as u32;
        match self.pieces.push_within_capacity(piece) {
            Ok(()) => Ok(number),
            Err(_) => Err(Shortage::Limit),
        }
    }

    /// Gives a slot back. If another one moved to its place, returns its owner, whose slot this
    /// is now.
    pub(super) fn free(&mut self, slot: Slot) -> Option<u32> {
        let class = usize::from(self.pieces.get(slot.chunk())?.class);
        let size = slot_size(class);
        let state = &mut self.classes[class];
        state.used = state.used.saturating_sub(1);
        let last = Slot::new(state.last, usize::from(state.used) * size);
        let moved = if last == slot {
            None
        } else {
            self.copy(last, slot, size);
            Some(self.owner(slot))
        };
        let state = &mut self.classes[class];
        if state.used == 0 {
            let number = state.last;
            let piece = self.pieces.get_mut(number as usize)?;
            *state = Class {
                last: piece.link,
                used: slots_of_chunk(class) as u16,
            };
            let chunk = Chunk(core::mem::take(&mut piece.data));
            piece.link = self.unused;
            self.unused = number;
            self.chunks -= 1;
            drop(self.give(chunk));
        }
        moved
    }

    /// Copies the first `bytes` of a slot to another.
    pub(super) fn copy(&mut self, from: Slot, to: Slot, bytes: usize) {
        let source = from.offset()..from.offset() + bytes;
        if from.chunk() == to.chunk() {
            let piece = self.pieces.get_mut(to.chunk());
            if let Some(piece) = piece.filter(|piece| source.end <= piece.data.len()) {
                piece.data.copy_within(source, to.offset());
            }
            return;
        }
        let Some(target) = self.pieces.get_mut(to.chunk()) else {
            return;
        };
        let mut data = core::mem::take(&mut target.data);
        let target = data.get_mut(to.offset()..to.offset() + bytes);
        let source = self
            .pieces
            .get(from.chunk())
            .and_then(|piece| piece.data.get(source));
        if let (Some(source), Some(target)) = (source, target) {
            target.copy_from_slice(source);
        }
        if let Some(target) = self.pieces.get_mut(to.chunk()) {
            target.data = data;
        }
    }

    /// Returns whether a slot is of the size that `bytes` get.
    pub(super) fn fits(&self, slot: Slot, bytes: usize) -> bool {
        self.class_of(slot) == Some(class_for(bytes))
    }

    /// Returns how many bytes a slot has for its owner.
    pub(super) fn capacity(&self, slot: Slot) -> usize {
        self.class_of(slot).map_or(0, capacity)
    }

    fn class_of(&self, slot: Slot) -> Option<usize> {
        let piece = self.pieces.get(slot.chunk())?;
        Some(piece.class.into())
    }

    /// Returns the bytes from those of a slot on.
    #[inline]
    pub(super) fn bytes(&self, slot: Slot) -> &[u8] {
        let piece = self.pieces.get(slot.chunk());
        piece
            .and_then(|piece| piece.data.get(slot.offset()..))
            .unwrap_or_default()
    }

    /// Returns the bytes of a slot that its owner may use.
    pub(super) fn bytes_mut(&mut self, slot: Slot) -> &mut [u8] {
        let Some(piece) = self.pieces.get_mut(slot.chunk()) else {
            return &mut [];
        };
        let capacity = capacity(piece.class.into());
        piece
            .data
            .get_mut(slot.offset()..slot.offset() + capacity)
            .unwrap_or_default()
    }

    fn owner(&self, slot: Slot) -> u32 {
        let at = self.capacity(slot);
        let bytes = self.bytes(slot).get(at..).and_then(<[u8]>::first_chunk);
        bytes.map_or(NONE, |bytes| u32::from_le_bytes(*bytes))
    }

    fn set_owner(&mut self, slot: Slot, owner: u32) {
        let Some(piece) = self.pieces.get_mut(slot.chunk()) else {
            return;
        };
        let at = slot.offset() + capacity(piece.class.into());
        let bytes = piece.data.get_mut(at..).unwrap_or_default();
        if let Some(bytes) = bytes.first_chunk_mut() {
            *bytes = owner.to_le_bytes();
        }
    }
}

#[cfg(test)]
mod tests;
