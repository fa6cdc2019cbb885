// SPDX-License-Identifier: GPL-2.0

use super::*;
use std::string::String;

/// What mainline answers for a new volume, but for the memory.
const NEW_VOLUME: &str = "\
    { version : 36, dataBlocksUsed : 0, overheadBlocksUsed : 750898, logicalBlocksUsed : 0, \
    physicalBlocks : 2097152, logicalBlocks : 262144, blockMapCacheSize : 134217728, blockSize \
    : 4096, completeRecoveries : 0, readOnlyRecoveries : 0, mode : normal, inRecoveryMode : 0, \
    recoveryPercentage : 100, packer : { compressedFragmentsWritten : 0, \
    compressedBlocksWritten : 0, compressedFragmentsInPacker : 0, }, allocator : { slabCount : \
    169, slabsOpened : 0, slabsReopened : 0, }, journal : { diskFull : 0, \
    slabJournalCommitsRequested : 0, entries : { started : 0, written : 0, committed : 0, }, \
    blocks : { started : 0, written : 0, committed : 0, }, }, slabJournal : { diskFullCount : \
    0, flushCount : 0, blockedCount : 0, blocksWritten : 0, tailBusyCount : 0, }, slabSummary \
    : { blocksWritten : 0, }, refCounts : { blocksWritten : 0, }, blockMap : { dirtyPages : 0, \
    cleanPages : 0, freePages : 32768, failedPages : 0, incomingPages : 0, outgoingPages : 0, \
    cachePressure : 0, readCount : 0, writeCount : 0, failedReads : 0, failedWrites : 0, \
    reclaimed : 0, readOutgoing : 0, foundInCache : 0, discardRequired : 0, waitForPage : 0, \
    fetchRequired : 0, pagesLoaded : 0, pagesSaved : 0, flushCount : 0, }, hashLock : { \
    dedupeAdviceValid : 0, dedupeAdviceStale : 0, concurrentDataMatches : 0, \
    concurrentHashCollisions : 0, currDedupeQueries : 0, }, errors : { invalidAdvicePBNCount : \
    0, noSpaceErrorCount : 0, readOnlyErrorCount : 0, }, instance : 0, currentVIOsInProgress : \
    0, maxVIOs : 0, dedupeAdviceTimeouts : 0, flushOut : 0, logicalBlockSize : 4096, biosIn : \
    { read : 0, write : 0, emptyFlush : 0, discard : 0, flush : 0, fua : 0, }, biosInPartial : \
    { read : 0, write : 0, emptyFlush : 0, discard : 0, flush : 0, fua : 0, }, biosOut : { \
    read : 0, write : 0, emptyFlush : 0, discard : 0, flush : 0, fua : 0, }, biosMeta : { read \
    : 0, write : 0, emptyFlush : 0, discard : 0, flush : 0, fua : 0, }, biosJournal : { read : \
    0, write : 0, emptyFlush : 0, discard : 0, flush : 0, fua : 0, }, biosPageCache : { read : \
    0, write : 0, emptyFlush : 0, discard : 0, flush : 0, fua : 0, }, biosOutCompleted : { \
    read : 0, write : 0, emptyFlush : 0, discard : 0, flush : 0, fua : 0, }, biosMetaCompleted \
    : { read : 0, write : 0, emptyFlush : 0, discard : 0, flush : 0, fua : 0, }, \
    biosJournalCompleted : { read : 0, write : 0, emptyFlush : 0, discard : 0, flush : 0, fua \
    : 0, }, biosPageCacheCompleted : { read : 0, write : 0, emptyFlush : 0, discard : 0, flush \
    : 0, fua : 0, }, biosAcknowledged : { read : 0, write : 0, emptyFlush : 0, discard : 0, \
    flush : 0, fua : 0, }, biosAcknowledgedPartial : { read : 0, write : 0, emptyFlush : 0, \
    discard : 0, flush : 0, fua : 0, }, biosInProgress : { read : 0, write : 0, emptyFlush : \
    0, discard : 0, flush : 0, fua : 0, }, memoryUsage : { bytesUsed : 0, peakBytesUsed : 0, \
    }, index : { entriesIndexed : 0, postsFound : 0, postsNotFound : 0, queriesFound : 0, \
    queriesNotFound : 0, updatesFound : 0, updatesNotFound : 0, entriesDiscarded : 0, }, }";

fn text(statistics: &Statistics) -> String {
    let mut text = String::new();
    statistics.write(&mut text).unwrap();
    text
}

fn new_volume() -> Statistics {
    let mut statistics = Statistics {
        overhead_blocks_used: 750898,
        physical_blocks: 2097152,
        logical_blocks: 262144,
        block_map_cache_size: 134217728,
        block_size: 4096,
        recovery_percentage: 100,
        logical_block_size: 4096,
        ..Statistics::default()
    };
    statistics.allocator.slab_count = 169;
    statistics.block_map.free_pages = 32768;
    statistics
}

#[test]
fn as_mainline_answers_for_a_new_volume() {
    assert_eq!(text(&new_volume()), NEW_VOLUME);
}

#[test]
fn values_stand_behind_their_names() {
    let mut statistics = new_volume();
    statistics.mode = Mode::ReadOnly;
    statistics.in_recovery_mode = true;
    statistics.bios_in.fua = 7;
    statistics.journal.entries.committed = 8;
    statistics.index.entries_discarded = 9;
    let text = text(&statistics);
    for expected in [
        "mode : read-only, inRecoveryMode : 1, ",
        "biosIn : { read : 0, write : 0, emptyFlush : 0, discard : 0, flush : 0, fua : 7, }, ",
        "entries : { started : 0, written : 0, committed : 8, }, ",
        "entriesDiscarded : 9, }, }",
    ] {
        assert!(text.contains(expected), "{expected}");
    }
}
