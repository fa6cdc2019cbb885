// SPDX-License-Identifier: GPL-2.0

//! The answer to the message `stats`.
//!
//! Names and order are those of mainline's 36th revision; tools read the fields by name.

use crate::admin::status::Mode;
use core::fmt::Result;
use core::fmt::Write;

/// A value of the answer, or a group of them.
trait Value {
    fn write(&self, out: &mut dyn Write) -> Result;
}

macro_rules! plain {
    ($($type:ty)*) => {
        $(
            impl Value for $type {
                fn write(&self, out: &mut dyn Write) -> Result {
                    write!(out, "{self}")
                }
            }
        )*
    };
}

plain!(u32 u64);

impl Value for bool {
    fn write(&self, out: &mut dyn Write) -> Result {
        u32::from(*self).write(out)
    }
}

impl Value for Mode {
    fn write(&self, out: &mut dyn Write) -> Result {
        out.write_str(self.name())
    }
}

/// The revision of the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Version;

impl Value for Version {
    fn write(&self, out: &mut dyn Write) -> Result {
        out.write_str("36")
    }
}

/// Writes one field, with what follows it also behind the last one of a group.
fn write_field(out: &mut dyn Write, name: &str, value: &dyn Value) -> Result {
    out.write_str(name)?;
    out.write_str(" : ")?;
    value.write(out)?;
    out.write_str(", ")
}

/// Defines a group: a struct, and how it is written, field by field.
macro_rules! group {
    (
        $(#[$doc:meta])*
        $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty = $text:ident,)* }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name {
            $(
                $(#[$field_doc])*
                pub $field: $type,
            )*
        }

        impl Value for $name {
            fn write(&self, out: &mut dyn Write) -> Result {
                out.write_str("{ ")?;
                $(write_field(out, stringify!($text), &self.$field)?;)*
                out.write_str("}")
            }
        }
    };
}

group! {
    /// Compressed blocks.
    Packer {
        /// Fragments in the compressed blocks that were written.
        compressed_fragments_written: u64 = compressedFragmentsWritten,
        /// Compressed blocks that were written.
        compressed_blocks_written: u64 = compressedBlocksWritten,
        /// Fragments that wait for others, now.
        compressed_fragments_in_packer: u64 = compressedFragmentsInPacker,
    }
}

group! {
    /// Allocation.
    Allocator {
        /// Slabs in use.
        slab_count: u64 = slabCount,
        /// Slabs that were ever allocated from.
        slabs_opened: u64 = slabsOpened,
        /// How often allocation went on in a slab that had been used before.
        slabs_reopened: u64 = slabsReopened,
    }
}

group! {
    /// Entries of the recovery journal: one for each change of a mapping.
    JournalEntries {
        /// Entries that were given a place.
        started: u64 = started,
        /// Entries that were sent to the storage.
        written: u64 = written,
        /// Entries on stable storage.
        committed: u64 = committed,
    }
}

group! {
    /// Block writes of the recovery journal.
    JournalBlocks {
        /// Writes whose first entry is there.
        started: u64 = started,
        /// Writes that were sent to the storage.
        written: u64 = written,
        /// Writes that are on stable storage.
        committed: u64 = committed,
    }
}

group! {
    /// The recovery journal.
    Journal {
        /// How often it had no free block for an entry.
        disk_full: u64 = diskFull,
        /// How often slab journals were asked to hurry, for room.
        slab_journal_commits_requested: u64 = slabJournalCommitsRequested,
        /// Its entries.
        entries: JournalEntries = entries,
        /// Its blocks.
        blocks: JournalBlocks = blocks,
    }
}

group! {
    /// The slab journals.
    SlabJournal {
        /// How often the next block was still needed.
        disk_full_count: u64 = diskFullCount,
        /// Blocks begun above the threshold at which reference counts get written.
        flush_count: u64 = flushCount,
        /// Entries that had to wait for reference counts to be written.
        blocked_count: u64 = blockedCount,
        /// Blocks written.
        blocks_written: u64 = blocksWritten,
        /// How often an entry had to wait for the write of the block before.
        tail_busy_count: u64 = tailBusyCount,
    }
}

group! {
    /// The slab summary.
    SlabSummary {
        /// Blocks written.
        blocks_written: u64 = blocksWritten,
    }
}

group! {
    /// Reference counts.
    RefCounts {
        /// Blocks written.
        blocks_written: u64 = blocksWritten,
    }
}

group! {
    /// The leaf pages of the block map.
    BlockMap {
        /// Changed pages, now.
        dirty_pages: u32 = dirtyPages,
        /// Unchanged pages, now.
        clean_pages: u32 = cleanPages,
        /// Unused pages of the cache, now.
        free_pages: u32 = freePages,
        /// Pages that could not be read, now.
        failed_pages: u32 = failedPages,
        /// Pages being read.
        incoming_pages: u32 = incomingPages,
        /// Pages being written.
        outgoing_pages: u32 = outgoingPages,
        /// How often no page could be dropped, since there was such need.
        cache_pressure: u32 = cachePressure,
        /// Look-ups of a mapping.
        read_count: u64 = readCount,
        /// Changes of a mapping.
        write_count: u64 = writeCount,
        /// Pages that could not be read.
        failed_reads: u64 = failedReads,
        /// Pages that could not be written.
        failed_writes: u64 = failedWrites,
        /// Requests that were served when the write of the page had ended.
        reclaimed: u64 = reclaimed,
        /// Look-ups in a page that was being written.
        read_outgoing: u64 = readOutgoing,
        /// Requests for a page that was there.
        found_in_cache: u64 = foundInCache,
        /// Requests for a page that had to wait for another one to go.
        discard_required: u64 = discardRequired,
        /// Requests for a page that was on its way.
        wait_for_page: u64 = waitForPage,
        /// Requests for a page that had to be read.
        fetch_required: u64 = fetchRequired,
        /// Pages read.
        pages_loaded: u64 = pagesLoaded,
        /// Page writes begun.
        pages_saved: u64 = pagesSaved,
        /// Flushes of the storage on behalf of page writes.
        flush_count: u64 = flushCount,
    }
}

group! {
    /// Deduplication.
    HashLock {
        /// Advices of the index that were right.
        dedupe_advice_valid: u64 = dedupeAdviceValid,
        /// Advices of the index that were wrong.
        dedupe_advice_stale: u64 = dedupeAdviceStale,
        /// Writes with the same data as another one under way.
        concurrent_data_matches: u64 = concurrentDataMatches,
        /// Writes with the same hash as another one under way, but not its data.
        concurrent_hash_collisions: u64 = concurrentHashCollisions,
        /// Queries to the index under way.
        curr_dedupe_queries: u32 = currDedupeQueries,
    }
}

group! {
    /// Failures.
    Errors {
        /// Advices of the index that make no sense.
        invalid_advice_pbn_count: u64 = invalidAdvicePBNCount,
        /// Blocks of writes that ended for want of space.
        no_space_error_count: u64 = noSpaceErrorCount,
        /// Blocks of writes that ended because of read-only mode.
        read_only_error_count: u64 = readOnlyErrorCount,
    }
}

group! {
    /// Bios of each kind.
    Bios {
        /// Reads.
        read: u64 = read,
        /// Writes.
        write: u64 = write,
        /// Flushes without data.
        empty_flush: u64 = emptyFlush,
        /// Discards.
        discard: u64 = discard,
        /// Flushes, with or without data.
        flush: u64 = flush,
        /// Writes to stable storage.
        fua: u64 = fua,
    }
}

group! {
    /// Memory of all volumes of the module.
    MemoryUsage {
        /// Now.
        bytes_used: u64 = bytesUsed,
        /// At most, since the module was loaded.
        peak_bytes_used: u64 = peakBytesUsed,
    }
}

group! {
    /// The index, while it is open.
    Index {
        /// Its records.
        entries_indexed: u64 = entriesIndexed,
        /// Hits when a block was to be looked up, else entered.
        posts_found: u64 = postsFound,
        /// Misses then.
        posts_not_found: u64 = postsNotFound,
        /// Hits when a block was to be looked up only.
        queries_found: u64 = queriesFound,
        /// Misses then.
        queries_not_found: u64 = queriesNotFound,
        /// Corrections of a record.
        updates_found: u64 = updatesFound,
        /// Corrections of a record that was not there.
        updates_not_found: u64 = updatesNotFound,
        /// Records that made room for newer ones.
        entries_discarded: u64 = entriesDiscarded,
    }
}

group! {
    /// All that the answer tells.
    Statistics {
        /// The revision of the answer.
        version: Version = version,
        /// Blocks with data of users.
        data_blocks_used: u64 = dataBlocksUsed,
        /// Blocks with metadata.
        overhead_blocks_used: u64 = overheadBlocksUsed,
        /// Logical blocks that are mapped, to a block or to zeroes.
        logical_blocks_used: u64 = logicalBlocksUsed,
        /// Blocks of storage.
        physical_blocks: u64 = physicalBlocks,
        /// Blocks that users see.
        logical_blocks: u64 = logicalBlocks,
        /// Bytes of leaf pages that may be in memory.
        block_map_cache_size: u64 = blockMapCacheSize,
        /// Bytes in a block.
        block_size: u64 = blockSize,
        /// Recoveries from a crash in the life of the volume, and rebuilds.
        complete_recoveries: u64 = completeRecoveries,
        /// Rebuilds in the life of the volume.
        read_only_recoveries: u64 = readOnlyRecoveries,
        /// How the volume is.
        mode: Mode = mode,
        /// Whether slabs wait for their reference counts.
        in_recovery_mode: bool = inRecoveryMode,
        /// How many slabs do not.
        recovery_percentage: u32 = recoveryPercentage,
        /// Compressed blocks.
        packer: Packer = packer,
        /// Allocation.
        allocator: Allocator = allocator,
        /// The recovery journal.
        journal: Journal = journal,
        /// The slab journals.
        slab_journal: SlabJournal = slabJournal,
        /// The slab summary.
        slab_summary: SlabSummary = slabSummary,
        /// Reference counts.
        ref_counts: RefCounts = refCounts,
        /// Leaf pages of the block map.
        block_map: BlockMap = blockMap,
        /// Deduplication.
        hash_lock: HashLock = hashLock,
        /// Failures.
        errors: Errors = errors,
        /// The number of the instance in the log.
        instance: u32 = instance,
        /// Blocks under way.
        current_vios_in_progress: u32 = currentVIOsInProgress,
        /// Blocks under way, at most.
        max_vios: u32 = maxVIOs,
        /// Queries to the index that took too long.
        dedupe_advice_timeouts: u64 = dedupeAdviceTimeouts,
        /// Flushes of the storage for users.
        flush_out: u64 = flushOut,
        /// Bytes in a logical block.
        logical_block_size: u64 = logicalBlockSize,
        /// From above, in pieces of a block.
        bios_in: Bios = biosIn,
        /// Of these, those that are less than a block.
        bios_in_partial: Bios = biosInPartial,
        /// To the storage, data of users, in blocks.
        bios_out: Bios = biosOut,
        /// To the storage, all else.
        bios_meta: Bios = biosMeta,
        /// Of these, for the recovery journal.
        bios_journal: Bios = biosJournal,
        /// Of these, for leaf pages.
        bios_page_cache: Bios = biosPageCache,
        /// Back from the storage.
        bios_out_completed: Bios = biosOutCompleted,
        /// Back from the storage.
        bios_meta_completed: Bios = biosMetaCompleted,
        /// Back from the storage.
        bios_journal_completed: Bios = biosJournalCompleted,
        /// Back from the storage.
        bios_page_cache_completed: Bios = biosPageCacheCompleted,
        /// Completed to users.
        bios_acknowledged: Bios = biosAcknowledged,
        /// Of these, those that are less than a block.
        bios_acknowledged_partial: Bios = biosAcknowledgedPartial,
        /// Not completed to users yet.
        bios_in_progress: Bios = biosInProgress,
        /// Memory.
        memory_usage: MemoryUsage = memoryUsage,
        /// The index.
        index: Index = index,
    }
}

impl Statistics {
    /// Writes the answer: one line without its end.
    pub fn write(&self, out: &mut impl Write) -> Result {
        Value::write(self, out)
    }
}

#[cfg(test)]
mod tests;
