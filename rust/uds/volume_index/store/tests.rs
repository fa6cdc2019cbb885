// SPDX-License-Identifier: GPL-2.0

use super::*;
use proptest::prelude::*;
use std::vec::Vec;

/// Owners with bytes of their own, in slots of the size that they need.
struct Owners {
    store: Store,
    slots: Vec<Slot>,
    bytes: Vec<Vec<u8>>,
}

impl Owners {
    fn new() -> Self {
        Self {
            store: Store::new(1 << 20).unwrap(),
            slots: [Slot::NONE; 100].to_vec(),
            bytes: [(); 100].map(|()| Vec::new()).to_vec(),
        }
    }

    fn allocate(&mut self, owner: usize, bytes: usize) -> Slot {
        loop {
            match self.store.allocate(bytes, owner as u32) {
                Ok(slot) => return slot,
                Err(Shortage::Chunk) => {
                    let chunk = Chunk::new(GFP_KERNEL).unwrap();
                    assert!(self.store.give(chunk).is_none());
                }
                Err(Shortage::Limit) => panic!("there is room for a mebibyte"),
            }
        }
    }

    fn set(&mut self, owner: usize, bytes: usize, fill: u8) {
        let old = self.slots[owner];
        self.bytes[owner] = [fill].repeat(bytes);
        self.slots[owner] = Slot::NONE;
        if old != Slot::NONE {
            if let Some(moved) = self.store.free(old) {
                self.slots[moved as usize] = old;
            }
        }
        if bytes > 0 {
            let slot = self.allocate(owner, bytes);
            assert!(self.store.fits(slot, bytes));
            self.slots[owner] = slot;
            self.store.bytes_mut(slot)[..bytes].fill(fill);
        }
    }

    fn check(&self) {
        for (owner, (slot, bytes)) in self.slots.iter().zip(&self.bytes).enumerate() {
            if !bytes.is_empty() {
                assert_eq!(&self.store.bytes(*slot)[..bytes.len()], bytes);
                assert_eq!(self.store.owner(*slot), owner as u32);
                assert!(self.store.bytes(*slot).len() >= self.store.capacity(*slot) + 8);
            }
        }
    }
}

proptest! {
    #[test]
    fn slots_keep_what_is_put_into_them(
        changes in prop::collection::vec((0..100usize, 0..2000usize, any::<u8>()), 1..600),
    ) {
        let mut owners = Owners::new();
        for (owner, bytes, fill) in changes {
            owners.set(owner, bytes, fill);
            owners.check();
        }
        for owner in 0..100 {
            owners.set(owner, 0, 0);
        }
        prop_assert_eq!(owners.store.chunks, 0);
    }
}

#[test]
fn little_is_lost() {
    for bytes in [600, 700, 764, 800, 1000] {
        let lost = slot_size(class_for(bytes)) - bytes;
        assert!(lost <= 60, "{bytes} bytes lose {lost}");
    }
}

#[test]
fn what_has_no_room_is_told_so() {
    let mut store = Store::new(0).unwrap();
    assert_eq!(store.allocate(100, 0), Err(Shortage::Chunk));
    let mut result = Ok(Slot::NONE);
    for owner in 0..1000 {
        let _ = store.give(Chunk::new(GFP_KERNEL).unwrap());
        result = store.allocate(8000, owner);
        if result.is_err() {
            break;
        }
    }
    assert_eq!(result, Err(Shortage::Limit));
}
