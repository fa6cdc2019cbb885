# SPDX-License-Identifier: GPL-2.0

"""T: reads, writes, discards and flushes of whole blocks on one volume, in order."""

import os

from errno import EINVAL

from lib.runner import equal
from vdo.data import BLOCK
from vdo.data import ZERO
from vdo.data import unique
from vdo.data import uniques
from vdo.rig import RAM0
from vdo.rig import SMALL
from vdo.rig import SUSPENDED
from vdo.rig import Volume
from vdo.rig import blank
from vdo.rig import fails
from vdo.rig import logging
from vdo.rig import on_disk
from vdo.rig import tool
from vdo.stats import DUPLICATE
from vdo.stats import NEW
from vdo.stats import OVERWRITE
from vdo.stats import parse
from vdo.stats import times
from vdo.suite import DEDUPE
from vdo.suite import IMPL
from vdo.suite import Session
from vdo.suite import expect

_SIX = "{ read : 0, write : 0, emptyFlush : 0, discard : 0, flush : 0, fua : 0, }"
_BIOS = ("biosIn", "biosInPartial", "biosOut", "biosMeta", "biosJournal", "biosPageCache",
         "biosOutCompleted", "biosMetaCompleted", "biosJournalCompleted", "biosPageCacheCompleted",
         "biosAcknowledged", "biosAcknowledgedPartial", "biosInProgress")
_STATS = (
    "{ version : 36, dataBlocksUsed : 0, overheadBlocksUsed : 750898, logicalBlocksUsed : 0, "
    "physicalBlocks : 2097152, logicalBlocks : 262144, blockMapCacheSize : 134217728, "
    "blockSize : 4096, completeRecoveries : 0, readOnlyRecoveries : 0, mode : normal, "
    "inRecoveryMode : 0, recoveryPercentage : 100, "
    "packer : { compressedFragmentsWritten : 0, compressedBlocksWritten : 0, "
    "compressedFragmentsInPacker : 0, }, "
    "allocator : { slabCount : 169, slabsOpened : 0, slabsReopened : 0, }, "
    "journal : { diskFull : 0, slabJournalCommitsRequested : 0, "
    "entries : { started : 0, written : 0, committed : 0, }, "
    "blocks : { started : 0, written : 0, committed : 0, }, }, "
    "slabJournal : { diskFullCount : 0, flushCount : 0, blockedCount : 0, blocksWritten : 0, "
    "tailBusyCount : 0, }, slabSummary : { blocksWritten : 0, }, refCounts : { blocksWritten : 0, "
    "}, blockMap : { dirtyPages : 0, cleanPages : 0, freePages : 32768, failedPages : 0, "
    "incomingPages : 0, outgoingPages : 0, cachePressure : 0, readCount : 0, writeCount : 0, "
    "failedReads : 0, failedWrites : 0, reclaimed : 0, readOutgoing : 0, foundInCache : 0, "
    "discardRequired : 0, waitForPage : 0, fetchRequired : 0, pagesLoaded : 0, pagesSaved : 0, "
    "flushCount : 0, }, hashLock : { dedupeAdviceValid : 0, dedupeAdviceStale : 0, "
    "concurrentDataMatches : 0, concurrentHashCollisions : 0, currDedupeQueries : 0, }, "
    "errors : { invalidAdvicePBNCount : 0, noSpaceErrorCount : 0, readOnlyErrorCount : 0, }, "
    "instance : 0, currentVIOsInProgress : 0, maxVIOs : 0, dedupeAdviceTimeouts : 0, "
    "flushOut : 0, logicalBlockSize : 4096, " + ", ".join(f"{name} : {_SIX}" for name in _BIOS) +
    ", memoryUsage : { bytesUsed : 0, peakBytesUsed : 0, }, index : { entriesIndexed : 0, "
    "postsFound : 0, postsNotFound : 0, queriesFound : 0, queriesNotFound : 0, updatesFound : 0, "
    "updatesNotFound : 0, entriesDiscarded : 0, }, }")
# These may differ at the first look: they depend on what else there was, or on the storage.
_FREE = ("instance", "memoryUsage", "biosMeta", "slabSummary", "refCounts", "maxVIOs")

CONFIG = ("{ version : 1, physicalSize : 8589934592, logicalSize : 1073741824, slabSize : 8192, "
          "index :  { memorySize : 0.25, isSparse : 0, }, }")

_LIMITS = {"physical_block_size": 4096, "minimum_io_size": 4096, "optimal_io_size": 4096,
           "discard_granularity": 4096, "fua": 1, "write_cache": "write back",
           "chunk_sectors": 0, "zoned": "none", "dax": 0}


def limits(volume, size, max_discard):
    """The queue limits are those of 6.1."""
    wanted = dict(_LIMITS, logical_block_size=size, discard_max_bytes=max_discard,
                  discard_max_hw_bytes=max_discard)
    for limit, value in wanted.items():
        equal(volume.queue(limit), str(value), limit)
    zeroes = int(volume.queue("write_zeroes_max_bytes"))
    if expect(c=True, rust=False):
        equal(zeroes, 0, "write_zeroes_max_bytes")
    else:
        assert zeroes % BLOCK == 0, f"write_zeroes_max_bytes {zeroes}"


def _names(text):
    """All words of the statistics without their values."""
    return list(parse(text))


def _make():
    blank()
    return [Volume(SMALL)]


session = Session("T", _make)


@session.row("T1", "a new volume: status, statistics, configuration, limits")
def _(box):
    v = box[0]
    v.shows("normal - opening offline 750898 2097152")
    v.ready()
    v.shows("normal - online offline 750898 2097152")
    text = v.message("stats")
    equal(_names(text), _names(_STATS))
    wanted = parse(_STATS)
    for name, value in parse(text).items():
        if not name.startswith(_FREE):
            equal(value, wanted[name], name)
    # Its form, to the blank: values apart, the text is this one.
    strip = str.maketrans("", "", "0123456789")
    equal(text.translate(strip), _STATS.translate(strip))
    equal(v.message("config"), CONFIG)
    equal(v.table(), [str(SMALL)])
    equal(v.event, 0)
    assert "(1, 0)" in tool("dmsetup", "deps", v.name)
    limits(v, 4096, 4096)
    if IMPL == "c":
        names = tool("ps", "-e", "-o", "comm")
        for name in ("reqQ", "ackQ", "cpuQ", "bioQ0", "bioQ3", "dedupeQ"):
            assert f":{name}\n" in names, f"no thread {name}"


@session.row("T2", "eight new blocks")
def _(box):
    v = box[0]
    before = v.stats()
    with v.delta(times(8, NEW), ovh=4, je=4):
        v.write_each(0, map(unique, range(8)))
    after = v.stats()
    for name, more in (("allocator.slabsOpened", 1), ("blockMap.dirtyPages", 1),
                       ("blockMap.pagesLoaded", expect(c=1, rust=0))):
        equal(after[name] - before[name], more, name)
    v.shows("normal - online offline 750910 2097152")


@session.row("T3", "the same data elsewhere")
def _(box):
    v = box[0]
    with v.delta(times(8, DUPLICATE), off=times(8, NEW)):
        v.write_each(100, map(unique, range(8)))


@session.row("T4", "four blocks of zeroes")
def _(box):
    v = box[0]
    with v.delta(lbu=4, je=4):
        v.write_each(200, [ZERO] * 4)


@session.row("T5", "reads of data, zeroes and nothing")
def _(box):
    v = box[0]
    with v.delta(out_r=8):
        v.holds(0, uniques(0, 8))
        v.holds(200, ZERO * 4)
        v.holds(300, ZERO * 4)


@session.row("T6", "a read where the map has no page")
def _(box):
    v = box[0]
    before = v.stats()
    with v.delta():
        v.holds(200000, ZERO)
    assert v.stats()["biosMeta.read"] - before["biosMeta.read"] <= 1


@session.row("T7", "the same data again in the same place")
def _(box):
    v = box[0]
    with v.delta(je=1, out_r=1, valid=1, hit=1, off=OVERWRITE):
        v.write(0, unique(0))


@session.row("T8", "other data over shared data")
def _(box):
    v = box[0]
    with v.delta(OVERWRITE, data=1, off=OVERWRITE):
        v.write(0, unique(1000))


@session.row("T9", "over the last reference of a block")
def _(box):
    v = box[0]
    with v.delta(OVERWRITE):
        v.write(100, unique(1001))


@session.row("T10", "discard of shared data")
def _(box):
    v = box[0]
    with v.delta(in_d=1, lbu=-1, je=1, off={"in_d": 1, "lbu": -1, "je": 1, "data": -1}):
        v.discard(1)
    v.holds(1, ZERO)


@session.row("T11", "discard of the last reference")
def _(box):
    v = box[0]
    with v.delta(in_d=1, data=-1, lbu=-1, je=1):
        v.discard(101)


@session.row("T12", "discard of a block of zeroes")
def _(box):
    v = box[0]
    with v.delta(in_d=1, lbu=-1, je=1):
        v.discard(200)


@session.row("T13", "discard of an unmapped block in an existing page")
def _(box):
    v = box[0]
    with v.delta(in_d=1, je=expect(c=1, rust=0), pages=IMPL == "c"):
        v.discard(300)


@session.row("T14", "discard where the map has no page")
def _(box):
    v = box[0]
    with v.delta(in_d=1):
        v.discard(200001)


@session.row("T15", "a flush")
def _(box):
    v = box[0]
    with v.delta():
        v.flush()


@session.row("T16", "sixteen new blocks in one request")
def _(box):
    v = box[0]
    with v.delta(times(16, NEW)):
        v.write(400, uniques(2000, 16))


@session.row("T17", "and read in one")
def _(box):
    v = box[0]
    with v.delta(out_r=16):
        v.holds(400, uniques(2000, 16))


@session.row("T18", "and discarded")
def _(box):
    v = box[0]
    with v.delta(data=-16, lbu=-16, je=16, in_d=16):
        v.discard(400, 16)


@session.row("T19", "zeroed out")
def _(box):
    v = box[0]
    writes = int(v.queue("write_zeroes_max_bytes")) == 0
    with v.delta(lbu=16, je=16, free=() if writes else ("in_w",)):
        v.zero(400, 16)
    v.holds(400, ZERO * 16)


@session.row("T20", "a write with FUA")
def _(box):
    v = box[0]
    with v.delta(NEW):
        v.write(500, unique(3000), fua=True)


@session.row("T21", "a write of a sector, which is less than a block")
def _(box):
    v = box[0]
    with v.delta():
        fails(EINVAL, os.pwritev, v.file().fd, [bytearray(512)], 500 * BLOCK + 512)


@session.row("T22", "suspend and resume")
def _(box):
    v = box[0]
    # The index has something to save; without one nothing is said.
    lines = ("beginning save", "finished save") if DEDUPE else ()
    used = 750911 if DEDUPE else 750917
    before = v.stats()
    with v.delta(fo=1), logging("suspending device", *lines, "suspended", "resuming device",
                                "resumed"):
        v.suspend()
        line = v.status(noflush=True)[0]
        assert line.endswith(f" normal - {SUSPENDED} offline {used} 2097152"), line
        v.resume()
        v.becomes("index", "online")
    after = v.stats()
    equal(after["blockMap.dirtyPages"] - before["blockMap.dirtyPages"], -1)
    equal(after["blockMap.cleanPages"] - before["blockMap.cleanPages"], 1)


@session.row("T23", "suspend without flush, and resume")
def _(box):
    v = box[0]
    with v.delta(fo=1), logging("suspended", "resumed", never=("beginning save",)):
        v.suspend(noflush=True)
        v.resume()


@session.row("T24", "remove")
def _(box):
    v = box[0]
    v.number_before = v.stats()["instance"]
    with logging("suspending device", "suspended", "stopping device", "stopped",
                 never=("beginning save",)):
        v.remove()
    assert on_disk(RAM0, 0).startswith(b"dmvdo001")


@session.row("T25", "and start again")
def _(box):
    loaded = ("loaded index from chapter 0 through chapter 0",) if DEDUPE else ()
    with logging("VDO commencing normal operation", *loaded):
        v = box[0].start()
    fields = v.stats()
    found = [fields[name] for name in ("dataBlocksUsed", "overheadBlocksUsed",
                                       "logicalBlocksUsed", "allocator.slabsOpened")]
    equal(found, [9 if DEDUPE else 15, 750902, 34, 1])
    if hasattr(box[0], "number_before"):
        equal(fields["instance"], box[0].number_before + 1)
    for name in ("biosIn.read", "biosIn.write", "flushOut", "journal.entries.started",
                 "biosOut.write"):
        equal(fields[name], 0, name)
