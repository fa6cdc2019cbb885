// SPDX-License-Identifier: GPL-2.0

//! What the volume tells of itself.

use crate::admin::message::IndexOrder;
use crate::admin::statistics::Allocator;
use crate::admin::statistics::Bios;
use crate::admin::statistics::RefCounts;
use crate::admin::statistics::SlabJournal;
use crate::admin::statistics::SlabSummary;
use crate::admin::statistics::Statistics;
use crate::admin::status::IndexState;
use crate::admin::status::Mode;
use crate::format::super_block::SuperBlock;
use crate::storage::IoCounts;
use crate::storage::Purpose;
use crate::volume::engine::Engine;
use crate::world::World;

impl<W: World> Engine<W> {
    /// Returns how the volume is.
    pub fn mode(&self) -> Mode {
        if self.health.check().is_err() {
            Mode::ReadOnly
        } else if self.depot.is_recovering() {
            Mode::Recovering
        } else {
            Mode::Normal
        }
    }

    /// Returns how the index is.
    pub fn index_state(&self) -> IndexState {
        self.session.state()
    }

    /// Does what an administrator wants with the index. Returns before it is done.
    pub fn order_index(&self, order: IndexOrder) {
        self.session.order(order);
    }

    /// Says whether equal blocks are to be stored once.
    pub fn set_deduplication(&self, enabled: bool) {
        self.session.order(match enabled {
            true => IndexOrder::Enable,
            false => IndexOrder::Close,
        });
    }

    /// Says whether blocks are to be compressed, and how hard: with this acceleration, from 1 on.
    pub fn set_compression(&self, acceleration: Option<u32>) {
        self.compression.set(acceleration);
        if acceleration.is_none() {
            self.writer.packer.hurry_all();
        }
    }

    /// Returns true in read-only mode.
    pub fn is_read_only(&self) -> bool {
        self.health.is_read_only()
    }

    /// Returns what the super block says.
    pub fn super_block(&self) -> SuperBlock {
        self.super_block.get()
    }

    /// Returns how many blocks of the storage are in use, with all metadata. While slabs wait to be
    /// scrubbed this is what the summary says of them.
    pub fn used_blocks(&self) -> u64 {
        let free = self.depot.statistics().free_blocks;
        self.super_block.get().physical_blocks.saturating_sub(free)
    }

    /// Fills in everything but what only the glue knows.
    pub fn put_statistics(&self, statistics: &mut Statistics) {
        let volume = self.super_block.get();
        let depot = self.depot.statistics();
        let counters = self.journal.counters();
        let tree_pages = counters.block_map_data_blocks;
        statistics.data_blocks_used = depot.used_blocks().saturating_sub(tree_pages);
        statistics.overhead_blocks_used = volume
            .physical_blocks
            .saturating_sub(depot.data_blocks)
            .saturating_add(tree_pages);
        statistics.logical_blocks_used = counters.logical_blocks_used;
        statistics.physical_blocks = volume.physical_blocks;
        statistics.logical_blocks = volume.logical_blocks;
        statistics.block_map_cache_size = self.tuning().cache_pages as u64 * 4096;
        statistics.block_size = 4096;
        statistics.complete_recoveries = volume.complete_recoveries;
        statistics.read_only_recoveries = volume.read_only_recoveries;
        statistics.mode = self.mode();
        statistics.in_recovery_mode = statistics.mode == Mode::Recovering;
        statistics.recovery_percentage = self.depot.recovery_percentage();
        statistics.allocator = Allocator {
            slab_count: depot.slabs.into(),
            slabs_opened: depot.slabs_opened,
            slabs_reopened: depot.slabs_reopened,
        };
        statistics.journal = self.journal.statistics();
        statistics.slab_journal = SlabJournal {
            disk_full_count: depot.journal_disk_full,
            flush_count: depot.journal_flushed,
            blocked_count: depot.journal_blocked,
            blocks_written: depot.journal_blocks_written,
            tail_busy_count: depot.journal_tail_busy,
        };
        statistics.slab_summary = SlabSummary {
            blocks_written: depot.summary_blocks_written,
        };
        statistics.ref_counts = RefCounts {
            blocks_written: depot.reference_blocks_written,
        };
        statistics.block_map = self.map.statistics();
        self.counters.put(statistics);
        self.session.put(statistics);
        let (asked, late) = self.writer.askers.counts();
        statistics.hash_lock.curr_dedupe_queries = asked as u32;
        statistics.dedupe_advice_timeouts = late;
        self.compression.put(statistics);
        statistics.packer.compressed_fragments_in_packer = self.writer.packer.fragments() as u64;
        self.put_io(statistics);
    }

    fn put_io(&self, statistics: &mut Statistics) {
        let of = |purpose| {
            let (submitted, completed) = self.storage.counts(purpose);
            (bios(submitted), bios(completed))
        };
        (statistics.bios_out, statistics.bios_out_completed) = of(Purpose::Data);
        (statistics.bios_journal, statistics.bios_journal_completed) = of(Purpose::Journal);
        (
            statistics.bios_page_cache,
            statistics.bios_page_cache_completed,
        ) = of(Purpose::PageCache);
        // Metadata is all but data.
        let (mut meta, mut meta_completed) = of(Purpose::Metadata);
        for part in [&statistics.bios_journal, &statistics.bios_page_cache] {
            meta = sum(&meta, part);
        }
        for part in [
            &statistics.bios_journal_completed,
            &statistics.bios_page_cache_completed,
        ] {
            meta_completed = sum(&meta_completed, part);
        }
        statistics.bios_meta = meta;
        statistics.bios_meta_completed = meta_completed;
    }
}

fn bios(counts: IoCounts) -> Bios {
    Bios {
        read: counts.read,
        write: counts.write,
        empty_flush: counts.empty_flush,
        discard: 0,
        flush: counts.flush,
        fua: counts.fua,
    }
}

fn sum(a: &Bios, b: &Bios) -> Bios {
    Bios {
        read: a.read.saturating_add(b.read),
        write: a.write.saturating_add(b.write),
        empty_flush: a.empty_flush.saturating_add(b.empty_flush),
        discard: a.discard.saturating_add(b.discard),
        flush: a.flush.saturating_add(b.flush),
        fua: a.fua.saturating_add(b.fua),
    }
}
