# SPDX-License-Identifier: GPL-2.0

"""Cases 107-109: two tables for one device, of which one is active, and tables that are read-only."""

import threading

from errno import EIO

from clone.commit import Replay
from clone.rig import META
from clone.rig import Rig
from clone.rig import SECTORS
from clone.rig import fails
from clone.rig import holds
from clone.rig import same
from clone.rig import source
from clone.rig import user
from clone.suite import case
from clone.suite import expect
from lib.blockio import Background
from lib.devices import Layer
from lib.devices import remove_all
from lib.devices import until
from lib.runner import equal


def _contents(rig):
    with rig.meta.open(readonly=True) as meta, rig.dest.open(readonly=True) as dest:
        return meta.read(0, META), dest.read(0, SECTORS)


def _refuses(clone, top, flushed):
    """Nothing that users of a read-only mapping do is written. They reach it by a device above it,
    which was there before: the block layer warns of their writes, and lets them pass."""
    with top.open() as file, top.open(dsync=True) as stable:
        for sector, count in ((0, 8), (1, 2), (8000, 8), (8001, 2), (16000, 64)):
            fails(EIO, file.write, sector, user(sector, count, 9))
            fails(EIO, stable.write, sector, user(sector, count, 9))
        file.discard(0, 64)
        file.discard(24000, 64)
        if flushed:
            file.flush()
        else:
            fails(EIO, file.flush)
    clone.message("enable_hydration")
    clone.status()
    clone.suspend()
    clone.resume()


@case(107, "a device in use is made read-only, and can be written again",
      differs="while it is read-only nothing is written: writes get EIO")
def _():
    if not expect(c=False, rust=True):
        return
    for complete in (False, True):
        rig = Rig()
        clone = rig.create()
        if complete:
            clone.hydrate()
        top = Layer("top", clone.path, SECTORS)

        def write_until_it_fails():
            with top.open() as file:
                for region in range(SECTORS // 8):
                    try:
                        file.write(region * 8, user(region * 8, 8))
                    except OSError as error:
                        equal(error.errno, EIO)
                        return region
            raise AssertionError("all was written")

        writer = Background(write_until_it_fails)
        until(lambda: top.counts.writes > 10, "some writes")
        clone.load(rig.table("8 0"), readonly=True)
        clone.resume()
        written = writer.result()
        rig.log.require("Trying to write to read-only block-device")
        before = _contents(rig)
        rig.forget()
        _refuses(clone, top, flushed=True)
        # Ticks would be every second.
        threading.Event().wait(2.5)
        equal((rig.meta.counts.writes, rig.dest.counts.writes, rig.dest.counts.discards), (0, 0, 0))
        assert _contents(rig) == before, "the storage has changed"
        wanted = user(0, written * 8) + source(written * 8, SECTORS - written * 8)
        holds(clone, 0, wanted)
        clone.load(rig.table())
        clone.resume()
        with top.open() as file:
            file.write(8001, user(8001, 2))
            file.flush()
            same(file.read(8000, 4), wanted[8000 * 512:8001 * 512] + user(8001, 2)
                 + wanted[8003 * 512:8004 * 512])
        remove_all()


@case(108, "a device whose metadata failed is made read-only, and can be written again",
      differs="it keeps what memory knows, and says that it is not on disk")
def _():
    if not expect(c=False, rust=True):
        return
    rig = Rig()
    clone = rig.create()
    top = Layer("top", clone.path, SECTORS)
    with top.open() as file:
        rig.meta.fail_writes()
        file.write(80, user(80, 8))
        fails(EIO, file.flush)
        rig.meta.restore()
    equal(clone.mode, "ro")
    clone.load(rig.table("8 0"), readonly=True)
    clone.resume()
    before = _contents(rig)
    rig.forget()
    _refuses(clone, top, flushed=False)
    equal(clone.mode, "ro")
    equal((rig.meta.counts.writes, rig.dest.counts.writes), (0, 0))
    assert _contents(rig) == before, "the storage has changed"
    holds(clone, 72, source(72, 8) + user(80, 8))
    clone.load(rig.table())
    clone.resume()
    with top.open() as file:
        file.flush()
    equal((clone.mode, rig.on_disk().bits), ("rw", 1 << 10))


def _bits(replay):
    return replay.check().bits if 0 in replay.blocks else 0


@case(109, "the status of a table that is loaded and not active, beside writes and fsyncs",
      differs="it commits nothing, whatever DEST the table names; what a fsync covered is there "
              "after a power cut")
def _():
    # C opens the metadata twice.
    if not expect(c=False, rust=True):
        return
    rig = Rig(logged=True, fill=False)
    clone = rig.create()
    other = Layer("other", rig.src.below, SECTORS, 2 * SECTORS)
    clone.load(rig.table().replace(f" {rig.dest.number} ", f" {other.number} "))
    other.fail()
    over = threading.Event()

    def ask():
        while not over.is_set():
            clone.status(inactive=True)

    asking = [Background(ask) for _ in range(2)]
    regions = 60
    with clone.open() as file:
        for region in range(regions):
            file.write(region * 8, user(region * 8, 8))
            file.flush()
            rig.both.mark(f"synced{region}")
    over.set()
    for one in asking:
        one.result()
    equal((clone.mode, clone.event), ("rw", 0))
    # After each fsync: only what was flushed is sure to be there.
    replay, unsure = Replay(), []
    seen = 0
    for entry in rig.both.entries():
        if entry.mark and entry.mark.startswith("synced"):
            region = int(entry.mark.removeprefix("synced"))
            assert _bits(replay) >> region & 1, f"region {region} is not on disk after its fsync"
            seen += 1
        elif entry.flush and not entry.sectors:
            for write in unsure:
                list(replay.write(write))
            unsure = []
        elif entry.sectors and entry.sector < META:
            unsure.append(entry)
    equal(seen, regions)
    # A fsync does not end before the metadata is written, whoever asks for a status meanwhile.
    clone.clear()
    clone.load(rig.table())
    rig.meta.hold(writes=True)
    with clone.open() as file:
        file.write(8000, user(8000, 8))
        Background(clone.status, False, True).result()
        flusher = Background(file.flush)
        assert not flusher.ended(2), "a fsync ended before the commit"
        rig.meta.restore()
        flusher.result()
    assert rig.on_disk().bits >> 1000 & 1
    clone.resume()
    holds(clone, 8000, user(8000, 8))
