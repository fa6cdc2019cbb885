// SPDX-License-Identifier: GPL-2.0

//! Some entries of the journal at once, sorted by the page that they change.

use super::Pages;
use crate::block_map::Kind;
use crate::error::Result;
use crate::format::block_map;
use crate::format::recovery_journal::Format;
use crate::format::recovery_journal::Shape;
use crate::format::Mapping;
use crate::format::MappingState;
use crate::format::Operation;
use crate::format::Pbn;
use crate::format::RecoveryEntry;
use crate::recovery::lanes;
use crate::recovery::lanes::LANES;
use kernel::prelude::*;
use runtime::sort::sort_by_key;
use runtime::sync::Lock;

const ORDER_BITS: u32 = 18;
const SLOT_BITS: u32 = 10;
const STATE_BITS: u32 = 4;

/// The most entries of a window: so many have an order of their own.
const MAX_ENTRIES: usize = 1 << ORDER_BITS;

/// An entry in 16 bytes.
#[derive(Clone, Copy)]
struct Item {
    /// Page, slot, and order of arrival: 36, 10 and 18 bits.
    key: u64,
    /// New PBN, new state, and whether the page is a leaf: 36, 4 bits, 1 bit.
    value: u64,
}

impl Item {
    fn new(entry: &RecoveryEntry, order: u64) -> Self {
        let page = (entry.page << SLOT_BITS) | u64::from(entry.slot);
        let new = (entry.new.pbn << STATE_BITS) | u64::from(entry.new.state.bits());
        let is_leaf = entry.operation == Operation::Data;
        Self {
            key: (page << ORDER_BITS) | order,
            value: (new << 1) | u64::from(is_leaf),
        }
    }

    fn page(&self) -> Pbn {
        self.key >> (ORDER_BITS + SLOT_BITS)
    }

    fn slot(&self) -> u16 {
        ((self.key >> ORDER_BITS) & ((1 << SLOT_BITS) - 1)) as u16
    }

    fn kind(&self) -> Kind {
        if self.value & 1 == 1 {
            Kind::Leaf
        } else {
            Kind::Interior
        }
    }

    fn new_mapping(&self) -> Mapping {
        let bits = ((self.value >> 1) & ((1 << STATE_BITS) - 1)) as u8;
        Mapping {
            pbn: self.value >> (1 + STATE_BITS),
            state: MappingState::from_bits(bits).unwrap_or(MappingState::UNMAPPED),
        }
    }
}

/// Some entries of the journal.
pub(in crate::recovery) struct Window {
    items: KVVec<Item>,
}

impl Window {
    /// Allocates room for `capacity` entries, at least a block's and at most [`MAX_ENTRIES`].
    pub(in crate::recovery) fn new(capacity: u64, shape: Shape) -> Result<Self> {
        let block = Format::Old.entries_per_block(shape);
        let block = block.max(shape.entries_per_block());
        let capacity = capacity.clamp(block.into(), MAX_ENTRIES as u64);
        Ok(Self {
            items: KVVec::with_capacity(capacity as usize, GFP_KERNEL)?,
        })
    }

    /// Returns for how many more entries there is room.
    pub(in crate::recovery) fn room(&self) -> usize {
        MAX_ENTRIES.min(self.items.capacity()) - self.items.len()
    }

    /// Adds an entry, for which there is room.
    pub(in crate::recovery) fn push(&mut self, entry: &RecoveryEntry) {
        let item = Item::new(entry, self.items.len() as u64);
        drop(self.items.push_within_capacity(item));
    }

    /// Creates all pages that the entries say are new; before [`apply`](Self::apply).
    ///
    /// A page that came to be in this part of the journal has all its entries here or later. What
    /// stands on the storage there is those, or older than the page.
    pub(in crate::recovery) async fn create(&self, pages: &impl Pages) -> Result {
        for item in self.items.iter() {
            if item.kind() == Kind::Interior {
                pages.create(item.new_mapping().pbn).await?;
            }
        }
        Ok(())
    }

    /// Brings all entries into their pages, and forgets them.
    pub(in crate::recovery) async fn apply(&mut self, pages: &impl Pages) -> Result {
        sort_by_key(&mut self.items, |item| item.key);
        let next = Lock::new(0);
        let items: &[Item] = &self.items;
        let lanes = LANES.min(items.len());
        lanes::run(lanes, || apply_groups(items, &next, pages)).await?;
        self.items.clear();
        Ok(())
    }
}

/// Brings groups of entries into their pages until there is no group left.
async fn apply_groups(items: &[Item], next: &Lock<usize>, pages: &impl Pages) -> Result {
    while let Some((first, group)) = next.with(|next| take_group(items, next)) {
        pages
            .update(first.page(), first.kind(), |page| {
                for item in group {
                    block_map::set_entry(page, item.slot(), item.new_mapping());
                }
            })
            .await?;
    }
    Ok(())
}

/// Takes the next entries that are all for one page.
fn take_group<'i>(items: &'i [Item], next: &mut usize) -> Option<(&'i Item, &'i [Item])> {
    let rest = items.get(*next..)?;
    let first = rest.first()?;
    let len = rest.partition_point(|item| item.page() == first.page());
    *next += len;
    Some((first, rest.get(..len)?))
}
