// SPDX-License-Identifier: GPL-2.0

//! What the journal of a volume has that its block map lacks, to be put into pages as they are read:
//! for a volume that is read-only, whose pages cannot be written. Of each slot that was changed
//! there are 16 bytes.

use crate::error::Result;
use crate::error::Status;
use crate::format::block_map;
use crate::format::Mapping;
use crate::format::MappingState;
use crate::format::Operation;
use crate::format::Page;
use crate::format::Pbn;
use crate::format::RecoveryEntry;
use kernel::prelude::*;
use runtime::sort::sort_by_key;

const SLOT_BITS: u32 = 10;
const STATE_BITS: u32 = 4;
const PBN_BITS: u32 = 36;
const ORDER_BITS: u32 = 64 - PBN_BITS - STATE_BITS;

/// A change of a slot.
#[derive(Clone, Copy)]
struct Item {
    /// Page and slot.
    place: u64,
    /// Order of arrival, new PBN, new state.
    change: u64,
}

impl Item {
    fn new(entry: &RecoveryEntry, order: u64) -> Self {
        let new = (entry.new.pbn << STATE_BITS) | u64::from(entry.new.state.bits());
        Self {
            place: (entry.page << SLOT_BITS) | u64::from(entry.slot),
            change: (order << (PBN_BITS + STATE_BITS)) | new,
        }
    }

    fn page(&self) -> Pbn {
        self.place >> SLOT_BITS
    }

    fn slot(&self) -> u16 {
        (self.place & ((1 << SLOT_BITS) - 1)) as u16
    }

    fn mapping(&self) -> Mapping {
        let bits = (self.change & ((1 << STATE_BITS) - 1)) as u8;
        Mapping {
            pbn: (self.change >> STATE_BITS) & ((1 << PBN_BITS) - 1),
            state: MappingState::from_bits(bits).unwrap_or(MappingState::UNMAPPED),
        }
    }
}

/// What the journal has and the block map lacks.
#[derive(Default)]
pub struct Overlay {
    /// By page and slot; one of each.
    changes: KVVec<Item>,
    /// Pages that came to be: what stands on the storage there may be older. Ascending.
    created: KVVec<Pbn>,
}

impl Overlay {
    /// Makes one with room for so many entries of the journal: it is filled by [`add`](Self::add),
    /// and of use after [`sort`](Self::sort).
    ///
    /// # Errors
    ///
    /// `ENOMEM`; or there are more entries than a journal of the format has.
    pub(crate) fn with_capacity(entries: u64) -> Result<Self> {
        if entries >> ORDER_BITS != 0 {
            return Err(Status::NotImplemented.into());
        }
        Ok(Self {
            changes: KVVec::with_capacity(entries as usize, GFP_KERNEL)?,
            created: KVVec::new(),
        })
    }

    /// Takes the next entry of the journal.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, or there are more of them than was said.
    pub(crate) fn add(&mut self, entry: &RecoveryEntry) -> Result {
        let item = Item::new(entry, self.changes.len() as u64);
        let added = self.changes.push_within_capacity(item);
        added.map_err(|_| Status::CorruptJournal)?;
        if entry.operation == Operation::BlockMap {
            self.created.push(entry.new.pbn, GFP_KERNEL)?;
        }
        Ok(())
    }

    /// Sorts the changes, and keeps the last one of each slot.
    pub(crate) fn sort(&mut self) {
        sort_by_key(&mut self.created, |pbn| *pbn);
        sort_by_key(&mut self.changes, |item| (item.place, item.change));
        let mut kept: usize = 0;
        for at in 0..self.changes.len() {
            let Some(item) = self.changes.get(at).copied() else {
                break;
            };
            let before = kept.checked_sub(1).and_then(|at| self.changes.get(at));
            if before.is_none_or(|before| before.place != item.place) {
                kept += 1;
            }
            if let Some(place) = self.changes.get_mut(kept.saturating_sub(1)) {
                *place = item;
            }
        }
        self.changes.truncate(kept);
    }

    /// Returns whether the page came to be in this part of the journal.
    pub fn creates(&self, page: Pbn) -> bool {
        self.created.binary_search(&page).is_ok()
    }

    /// Brings a page up to date.
    pub fn apply(&self, pbn: Pbn, page: &mut Page) {
        let first = self.changes.partition_point(|item| item.page() < pbn);
        let own = self.changes.get(first..).unwrap_or_default();
        for item in own.iter().take_while(|item| item.page() == pbn) {
            block_map::set_entry(page, item.slot(), item.mapping());
        }
    }

    /// Returns the pages that are changed, some of them more than once.
    pub fn pages(&self) -> impl Iterator<Item = Pbn> + '_ {
        // Also something else has a method of this name.
        Iterator::chain(
            self.changes.iter().map(Item::page),
            self.created.iter().copied(),
        )
    }
}
