// SPDX-License-Identifier: GPL-2.0

//! A volume in use: its parts, and what they need of each other.
//!
//! The engine is made when a table is loaded; its tasks ([`Engine::run_worker`] and the others) run
//! from then on until [`Engine::stop`]. They do nothing before [`start`](Engine::start).
//!
//! # What waits for what
//!
//! A worker waits for blocks (in ascending order), then for pages and tree pages, then for places in
//! the journal. Nobody whom it waits for there waits for a worker: the journal's writer waits for
//! the storage, its applier for slab journals and reference counts to be written, the writer of
//! pages for the journal's writer. All of them have their memory from the start.

use crate::batch::Batch;
use crate::block_map::BlockMap;
use crate::block_map::Pinned;
use crate::counters::Counters;
use crate::depot::Depot;
use crate::error::Error;
use crate::error::Result;
use crate::flush::SharedFlush;
use crate::format::block_map;
use crate::format::tree;
use crate::format::DepotLayout;
use crate::format::JournalPoint;
use crate::format::Lbn;
use crate::format::Mapping;
use crate::format::Pbn;
use crate::format::RecoveryEntry;
use crate::format::Sequence;
use crate::health::Health;
use crate::inbox::Inbox;
use crate::inbox::Work;
use crate::journal::Apply;
use crate::journal::Holds;
use crate::journal::Journal;
use crate::locks::LbnLocks;
use crate::read::Fragments;
use crate::storage::Purpose;
use crate::storage::Storage;
use crate::super_block::SuperBlockStore;
use crate::unsettled::Unsettled;
use crate::world::World;
use crate::write::BioOf;
use kernel::prelude::*;
use runtime::disk::Buffer;
use runtime::disk::Disk;
use runtime::pool::Pool;
use runtime::sync::Arc;
use runtime::sync::AtomicU32;

/// Sizes of an engine that are not those of its volume.
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    /// Workers; the first [`WORKERS_WITHOUT_DISCARDS`](crate::inbox::WORKERS_WITHOUT_DISCARDS)
    /// serve no discards.
    pub workers: usize,
    /// Blocks in a batch; a bio with data must fit.
    pub batch_blocks: usize,
    /// Reads of compressed blocks at once.
    pub fragment_reads: usize,
    /// Journal blocks in memory.
    pub journal_memory_blocks: u64,
    /// Journal blocks in one write.
    pub journal_io_blocks: u64,
    /// How long journal entries wait for company.
    pub commit_delay_ms: u64,
    /// Leaf pages in memory.
    pub cache_pages: usize,
    /// A leaf page is written when its oldest change is so many journal blocks old.
    pub maximum_age: u64,
}

/// The data of a write, for readers.
pub(crate) type ViewOf<W> = <<<W as World>::Disk as Disk>::Buffer as Buffer>::View;

/// A volume in use.
pub struct Engine<W: World> {
    pub(crate) world: Arc<W>,
    pub(crate) storage: Arc<Storage<W::Disk>>,
    pub(crate) health: Arc<Health>,
    pub(crate) super_block: SuperBlockStore<W::Disk>,
    pub(crate) journal: Arc<Journal<W>>,
    pub(crate) depot: Arc<Depot<W>>,
    pub(crate) map: Arc<BlockMap<W>>,
    pub(crate) locks: LbnLocks<ViewOf<W>>,
    pub(crate) inbox: Inbox<W::Bios>,
    pub(crate) unsettled: Unsettled,
    pub(crate) flushing: SharedFlush,
    /// Lends its I/O resources to flushes of the storage.
    pub(crate) carrier: Pool<<W::Disk as Disk>::Buffer>,
    pub(crate) fragments: Pool<Fragments<<W::Disk as Disk>::Buffer>>,
    pub(crate) layout: Layout,
    pub(crate) counters: Counters,
    /// Not 0 once a write that was acknowledged is lost.
    pub(crate) lost: AtomicU32,
    tuning: Tuning,
}

/// Where data blocks are; slabs are added while the volume is suspended.
pub(crate) struct Layout {
    depot: DepotLayout,
    slabs: AtomicU32,
}

impl Layout {
    pub(crate) fn new(depot: DepotLayout) -> Self {
        Self {
            depot,
            slabs: AtomicU32::new(depot.slab_count),
        }
    }

    pub(crate) fn get(&self) -> DepotLayout {
        DepotLayout {
            slab_count: self.slabs.load_relaxed(),
            ..self.depot
        }
    }

    pub(crate) fn set_slabs(&self, slabs: u32) {
        self.slabs.store_relaxed(slabs);
    }

    pub(crate) fn is_data_block(&self, pbn: Pbn) -> bool {
        self.get().is_data_block(pbn)
    }

    /// Returns a mapping as it counts for the journal: one that makes no sense holds no block.
    pub(crate) fn sound(&self, mapping: Mapping) -> Mapping {
        let sound =
            mapping.is_valid_location() && (mapping.pbn == 0 || self.is_data_block(mapping.pbn));
        if sound {
            mapping
        } else {
            Mapping::UNMAPPED
        }
    }
}

impl<W: World> Engine<W> {
    /// Leaves a bio that changes something for the workers. Never waits.
    pub fn submit(&self, bio: BioOf<W>) {
        self.count_in(&bio);
        self.inbox.push(bio);
    }

    /// Returns the sizes that the volume does not say.
    pub fn tuning(&self) -> &Tuning {
        &self.tuning
    }

    /// Returns what the engine sees of the world.
    pub fn world(&self) -> &W {
        &self.world
    }

    /// A worker: serves bios until the engine stops.
    pub async fn run_worker(engine: Arc<Self>, mut batch: Batch<W>) {
        loop {
            match engine.inbox.next(batch.serves_discards).await {
                Work::Write(bio) => engine.serve_writes(bio, &mut batch).await,
                Work::Discard(bio) => engine.serve_discard(bio, &mut batch).await,
                Work::Stop => return,
            }
        }
    }

    /// Returns the mapping of a block whose leaf page is `leaf`.
    pub(crate) async fn mapping(&self, leaf: Option<Pbn>, lbn: Lbn) -> Result<Mapping> {
        let Some(pbn) = leaf else {
            return Ok(Mapping::UNMAPPED);
        };
        let (_, slot) = tree::leaf(lbn);
        let page = self.pin_leaf(pbn).await?;
        Ok(page.read(|page| block_map::entry(page, slot)))
    }

    /// Reads a whole block into page `page` of `buffer`.
    ///
    /// # Errors
    ///
    /// That of the read; or the block is a fragment that cannot be decompressed.
    pub(crate) async fn read_whole(
        &self,
        mapping: Mapping,
        buffer: &mut Option<<W::Disk as Disk>::Buffer>,
        page: usize,
        scratch: &mut Option<<W::Disk as Disk>::Buffer>,
    ) -> Result {
        let mapping = self.layout.sound(mapping);
        if mapping.pbn == 0 {
            if let Some(page) = buffer.as_mut().and_then(|buffer| buffer.page_mut(page)) {
                page.fill(0);
            }
            return Ok(());
        }
        if let Some(slot) = mapping.state.slot() {
            self.read_block(mapping.pbn, scratch).await?;
            let into = buffer.as_mut().and_then(|buffer| buffer.page_mut(page));
            return self.decompress_fragment(scratch, slot, into);
        }
        let own = buffer.take().ok_or(Error::Errno(EIO))?;
        let (own, result) = self
            .storage
            .read(Purpose::Data, mapping.pbn, 1, own, page)
            .await;
        *buffer = Some(own);
        result
    }
}

impl<W: World> Holds for Engine<W> {
    fn block_map(&self) -> Option<Sequence> {
        self.map.oldest_change()
    }

    fn slab_journals(&self) -> Option<Sequence> {
        self.depot.oldest_hold()
    }

    fn hurry(&self, before: Sequence) {
        self.map.write_before(before);
        self.depot.write_before(before);
    }

    fn block_opened(&self, sequence: Sequence) {
        if let Some(before) = sequence.checked_sub(self.tuning.maximum_age) {
            self.map.write_before(before);
        }
    }
}

impl<W: World> Apply for Engine<W> {
    async fn apply(&self, entries: &[(JournalPoint, RecoveryEntry)]) -> Result {
        self.depot.apply(entries).await
    }
}
