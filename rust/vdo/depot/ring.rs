// SPDX-License-Identifier: GPL-2.0

//! A first-in-first-out line of fixed capacity.

use crate::error::Result;
use kernel::alloc::Flags;
use kernel::prelude::KVVec;
use kernel::prelude::GFP_KERNEL;

/// A first-in-first-out line of fixed capacity.
pub(super) struct Ring<T> {
    slots: KVVec<Option<T>>,
    start: usize,
    len: usize,
}

impl<T> Ring<T> {
    /// Creates an empty one for `capacity` things.
    pub(super) fn new(capacity: usize) -> Result<Self> {
        Self::with_flags(capacity, GFP_KERNEL)
    }

    /// As [`new`](Self::new), in a way that may not wait, or may.
    pub(super) fn with_flags(capacity: usize, flags: Flags) -> Result<Self> {
        let mut slots = KVVec::with_capacity(capacity, flags)?;
        for _ in 0..capacity {
            slots.push(None, flags)?;
        }
        Ok(Self {
            slots,
            start: 0,
            len: 0,
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_full(&self) -> bool {
        self.len == self.capacity()
    }

    fn capacity(&self) -> usize {
        self.slots.len()
    }

    fn slot(&self, index: usize) -> usize {
        let slot = self.start + index;
        if slot < self.capacity() {
            slot
        } else {
            slot - self.capacity()
        }
    }

    /// Adds at the end; gives the thing back if there is no room.
    pub(super) fn push(&mut self, thing: T) -> Result<(), T> {
        if self.is_full() {
            return Err(thing);
        }
        let slot = self.slot(self.len);
        match self.slots.get_mut(slot) {
            Some(slot) => *slot = Some(thing),
            None => return Err(thing),
        }
        self.len += 1;
        Ok(())
    }

    /// Takes the first.
    pub(super) fn pop(&mut self) -> Option<T> {
        if self.len == 0 {
            return None;
        }
        let thing = self.slots.get_mut(self.start)?.take();
        self.start = self.slot(1);
        self.len -= 1;
        thing
    }

    /// Returns the first.
    pub(super) fn first(&self) -> Option<&T> {
        self.get(0)
    }

    /// Returns the one with so many before it.
    pub(super) fn get(&self, index: usize) -> Option<&T> {
        if index >= self.len {
            return None;
        }
        self.slots.get(self.slot(index))?.as_ref()
    }

    /// As [`Self::get`], to change it.
    pub(super) fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        if index >= self.len {
            return None;
        }
        let slot = self.slot(index);
        self.slots.get_mut(slot)?.as_mut()
    }

    /// Moves all things of `other` behind those that are here, as far as there is room.
    pub(super) fn append(&mut self, other: &mut Self) {
        while self.len < self.capacity() {
            let Some(thing) = other.pop() else { return };
            if self.push(thing).is_err() {
                return;
            }
        }
    }
}
