// SPDX-License-Identifier: GPL-2.0

//! How often each data block is referenced, and as what.

use vdo::format::DepotLayout;
use vdo::format::MappingState;
use vdo::format::Pbn;

/// Stored as it is.
const PLAIN: u16 = 1 << 14;

/// A page of the block map; its height is in the lower bits.
const TREE: u16 = 1 << 15;

/// What is known of a data block: a bit for each fragment that is mapped, or one of the above.
#[derive(Clone, Copy, Default)]
pub(crate) struct Uses(u16);

impl Uses {
    pub(crate) fn is_tree_page(self) -> bool {
        self.0 & TREE != 0
    }

    /// Returns the height of a page of the block map.
    pub(crate) fn height(self) -> Option<usize> {
        self.is_tree_page().then_some(usize::from(self.0 & 7))
    }

    pub(crate) fn is_plain(self) -> bool {
        !self.is_tree_page() && self.0 & PLAIN != 0
    }

    /// Returns the slots of all fragments that are mapped.
    pub(crate) fn slots(self) -> impl Iterator<Item = u8> {
        let bits = if self.is_tree_page() { 0 } else { self.0 };
        (0..14).filter(move |slot| (bits >> slot) & 1 == 1)
    }

    pub(crate) fn is_compressed(self) -> bool {
        self.slots().next().is_some()
    }
}

/// The data blocks of a slab.
#[derive(Clone)]
struct SlabUses {
    /// References by leaf entries; saturates.
    counts: Vec<u8>,
    uses: Vec<Uses>,
}

/// All references that the block map makes.
pub(crate) struct References {
    depot: DepotLayout,
    slabs: Vec<Option<SlabUses>>,
}

impl References {
    pub(crate) fn new(depot: DepotLayout) -> Self {
        Self {
            depot,
            slabs: vec![None; depot.slab_count as usize],
        }
    }

    /// Returns whether anything in the slab is in use.
    pub(crate) fn is_used(&self, slab: u32) -> bool {
        self.slabs.get(slab as usize).is_some_and(Option::is_some)
    }

    /// Returns how often leaf entries name a block, and as what.
    pub(crate) fn of(&self, slab: u32, sbn: u32) -> (u8, Uses) {
        match self.slabs.get(slab as usize) {
            Some(Some(slab)) => (slab.counts[sbn as usize], slab.uses[sbn as usize]),
            _ => Default::default(),
        }
    }

    /// Returns the height of a page of the block map.
    pub(crate) fn height(&self, pbn: Pbn) -> Option<usize> {
        let (slab, sbn) = self.depot.slab_of(pbn)?;
        self.of(slab, sbn).1.height()
    }

    /// Notes a page of the block map; false if there is one already.
    pub(crate) fn add_page(&mut self, pbn: Pbn, height: usize) -> bool {
        let Some((_, uses)) = self.place(pbn) else {
            return false;
        };
        let is_new = !uses.is_tree_page();
        if is_new {
            // What leaf entries say of a page is of no interest any more; their number is.
            *uses = Uses(TREE | height as u16);
        }
        is_new
    }

    /// Notes a leaf entry.
    pub(crate) fn add(&mut self, pbn: Pbn, state: MappingState) {
        let Some((count, uses)) = self.place(pbn) else {
            return;
        };
        *count = count.saturating_add(1);
        if !uses.is_tree_page() {
            uses.0 |= match state.slot() {
                Some(slot) => 1 << slot,
                None => PLAIN,
            };
        }
    }

    fn place(&mut self, pbn: Pbn) -> Option<(&mut u8, &mut Uses)> {
        let (slab, sbn) = self.depot.slab_of(pbn)?;
        let size = self.depot.slab.data_blocks as usize;
        let slab = self.slabs.get_mut(slab as usize)?;
        let slab = slab.get_or_insert_with(|| SlabUses {
            counts: vec![0; size],
            uses: vec![Uses::default(); size],
        });
        let (count, uses) = (&mut slab.counts, &mut slab.uses);
        Some((count.get_mut(sbn as usize)?, uses.get_mut(sbn as usize)?))
    }
}
