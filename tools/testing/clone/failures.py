# SPDX-License-Identifier: GPL-2.0

"""Cases 77-86: errors of each of the three devices, and what the clone still does."""

import time

from errno import EIO
from errno import ENOTBLK

from clone.rig import FAIL
from clone.rig import REGIONS
from clone.rig import Rig
from clone.rig import SECTORS
from clone.rig import commit
from clone.rig import fails
from clone.rig import holds
from clone.rig import same
from clone.rig import source
from clone.rig import user
from clone.suite import case
from clone.suite import expect
from lib.blockio import Background
from lib.devices import Loop
from lib.devices import remove_all
from lib.devices import until
from lib.runner import equal

_COMMIT_FAILED = "Metadata operation `dm_clone_metadata_commit' failed: error = -5"
_READ_ONLY = "Switching to read-only mode"


def _switched(rig, clone):
    """It must have gone read-only, said so, and raised one event."""
    equal((clone.mode, clone.event), ("ro", 1))
    start = f"clone: {clone.number}: "
    rig.log.require(start + _COMMIT_FAILED,
                    *expect(c=[start + "Aborting current metadata transaction"], rust=[]),
                    start + _READ_ONLY,
                    *expect(c=[start + "Reloading on-disk bitmap"], rust=[]))


def _write7(file):
    file.write(56, user(56, 8))


def _reads7(clone):
    """What region 7, written and then not committed, reads like."""
    holds(clone, 48, source(48, 8) + expect(c=source(56, 8), rust=user(56, 8)) + source(64, 8))


@case(77, "metadata that cannot be written: read-only, found by fsync",
      differs="`ro`, event 1, fsync EIO, and region 7 reads the **new** data")
def _():
    rig = Rig()
    clone = rig.create()
    with clone.open() as file:
        rig.meta.fail_writes()
        _write7(file)
        fails(EIO, file.flush)
    _switched(rig, clone)
    _reads7(clone)
    with rig.dest.open() as dest:
        same(dest.read(56, 8), user(56, 8))


@case(78, "what works in read-only mode, and how it is left",
      differs="reads, and writes to regions set in memory, work; after suspend, load, resume: "
              "`rw`, the bits of memory are kept and committed")
def _():
    rig = Rig()
    clone = rig.create()
    with clone.open() as file:
        file.write(800, user(800, 16))
        file.flush()
        rig.meta.fail_writes()
        _write7(file)
        fails(EIO, file.flush)
        _reads7(clone)
        same(file.read(0, 8), source(0, 8))
        same(file.read(800, 8), user(800, 8))
        file.write(800, user(800, 8, 1))
        same(file.read(800, 8), user(800, 8, 1))
        if expect(c=False, rust=True):
            file.write(58, user(58, 1, 1))
            same(file.read(56, 8), user(56, 2) + user(58, 1, 1) + user(59, 5))
            file.write(58, user(58, 1))
        for sector, count in ((80, 8), (161, 1)):
            fails(EIO, file.write, sector, user(sector, count))
            same(file.read(sector, count), source(sector, count))
        _refuses_stable_writes(clone, file)
        _discards_in_readonly_mode(rig, clone, file)
        clone.message("enable_hydration")
        before = clone.state().hydrated
        time.sleep(1.5)
        state = clone.state()
        equal((state.hydrated, state.features, state.mode), (before, (), "ro"))
        rig.meta.restore()
        _refuses_stable_writes(clone, file)
        clone.suspend()
        clone.resume()
        equal(clone.mode, "ro")
        clone.message("disable_hydration")
        clone.suspend()
        clone.load(rig.table())
        clone.resume()
        equal(clone.mode, "rw")
        _reads7(clone)
        file.flush()
        equal(rig.on_disk().bits >> 7 & 1, expect(c=0, rust=1))
        _write7(file)
        file.flush()
    holds(clone, 56, user(56, 8))


def _refuses_stable_writes(clone, file):
    fails(EIO, file.flush)
    with clone.open(dsync=True) as synchronous:
        fails(EIO, synchronous.write, 800, user(800, 8, 1))
        fails(EIO, synchronous.write, 80, user(80, 8))


def _discards_in_readonly_mode(rig, clone, file):
    before = clone.state().hydrated
    rig.forget()
    file.discard(1600, 16)
    equal(rig.dest.counts.discards, 0)
    file.discard(800, 24)
    equal(rig.dest.counts.discards, 0)
    file.discard(808, 8)
    equal(rig.dest.counts.discard_sectors, 8)
    equal(clone.state().hydrated, before)
    same(file.read(1600, 8), source(1600, 8))


@case(79, "metadata that cannot be written: found by the tick, and by status",
      differs="`ro`, event 1, fsync EIO, and region 7 reads the **new** data")
def _():
    for find in (lambda clone: until(lambda: clone.mode == "ro", "the tick"),
                 lambda clone: equal(clone.state().mode, "ro")):
        rig = Rig(fill=False)
        clone = rig.create()
        with clone.open() as file:
            rig.meta.fail_writes()
            _write7(file)
            find(clone)
            _switched(rig, clone)
            _reads7(clone)
            fails(EIO, file.flush)
        remove_all()


@case(80, "a dead source, and its return")
def _():
    rig = Rig()
    rig.src.fail()
    clone = rig.create("8 0 4 hydration_threshold 64 hydration_batch_size 16", 16384)
    rig.log.require(f"clone: {clone.number}: hydration failed")
    with clone.open() as file:
        fails(EIO, file.write, 801, user(801, 1))
        fails(EIO, file.read, 1600, 8)
        file.write(1600, user(1600, 8))
        same(file.read(1600, 8), user(1600, 8))
    equal((clone.mode, clone.state().hydrated), ("rw", 1))
    assert len([line for line in rig.log.lines() if "hydration failed" in line]) < 200
    rig.src.restore()
    clone.finish()
    holds(clone, 0, source(0, 1600) + user(1600, 8) + source(1608, 16384 - 1608))


@case(81, "metadata that can be neither written nor read",
      differs="`ro` instead of `Fail`: reads and writes to hydrated regions work, fsync EIO, "
              "event 1")
def _():
    rig = Rig()
    clone = rig.create()
    with clone.open() as file:
        rig.meta.fail()
        _write7(file)
        fails(EIO, file.flush)
        until(lambda: clone.event == 1, "the event")
        if expect(c=True, rust=False):
            equal(clone.state(), FAIL)
            fails(EIO, file.read, 0, 8)
            fails(EIO, file.write, 0, user(0, 8))
            fails(EIO, file.discard, 0, 8)
            rig.log.require("Failed to abort metadata transaction", "Switching to fail mode")
        else:
            equal(clone.state().mode, "ro")
            _reads7(clone)
            same(file.read(0, 8), source(0, 8))
            file.write(58, user(58, 1, 1))
            same(file.read(56, 8), user(56, 2) + user(58, 1, 1) + user(59, 5))
            fails(EIO, file.write, 0, user(0, 8))
        fails(EIO, file.flush)
        for text in ("enable_hydration", "hydration_threshold 5", "disable_hydration"):
            clone.message(text)
        clone.suspend()
        clone.resume()
        equal(clone.mode, expect(c=FAIL, rust="ro"))
        equal(clone.table(), [rig.table()])
    clone.remove()


@case(82, "one bad block of the source in a batch",
      differs="C's count is a bound: only the region with the bad block stays unhydrated, 16383")
def _():
    rig = Rig()
    rig.src.fail_part(8 * 100, 8)
    clone = rig.create("8 0 4 hydration_threshold 64 hydration_batch_size 64")
    wanted = expect(c=REGIONS - 64, rust=REGIONS - 1)
    clone.reach(wanted)
    time.sleep(1)
    equal((clone.hydrated, clone.mode), (wanted, "rw"))
    with clone.open() as file:
        fails(EIO, file.read, 800, 8)
        file.write(800, user(800, 8))
    clone.finish()
    holds(clone, 792, source(792, 8) + user(800, 8) + source(808, 8))


@case(83, "a destination that fails writes")
def _():
    rig = Rig()
    clone = rig.create()
    with clone.open() as file:
        file.write(80, user(80, 8))
        file.flush()
        rig.dest.fail_writes()
        for sector, count in ((80, 8), (161, 1), (240, 8)):
            fails(EIO, file.write, sector, user(sector, count, 1))
        same(file.read(80, 8), user(80, 8))
        same(file.read(160, 8), source(160, 8))
        file.flush()
        state = clone.state()
        equal((state.hydrated, state.mode), (1, "rw"))
        rig.dest.restore()
        file.write(161, user(161, 1))
        same(file.read(160, 8), source(160, 1) + user(161, 1) + source(162, 6))


@case(84, "a destination that fails the flush of a commit")
def _():
    with Loop(SECTORS) as loop:
        rig = Rig(dest_disk=loop.path, fill=False)
        clone = rig.create()
        with clone.open() as file:
            file.write(80, user(80, 8))
            rig.dest.fail_writes()
            fails(EIO, file.flush)
        equal((clone.mode, clone.event), ("ro", 1))
        rig.log.require("Metadata operation `flush destination device' failed: error = -5",
                        _READ_ONLY)
        remove_all()


@case(85, "metadata fails while a write waits for its copy",
      differs="C's times and counts are upper bounds")
def _():
    rig = Rig()
    clone = rig.create()
    rig.src.hold(reads=True)
    with clone.open() as file:
        partial = Background(file.write, 161, user(161, 1))
        until(lambda: rig.src.held.reads == 1, "the copy")
        rig.meta.fail_writes()
        _write7(file)
        fails(EIO, file.flush)
        state = clone.state()
        equal(state.mode, "ro")
        assert expect(c=1, rust=0) <= state.hydrating <= 1, state
        rig.src.restore()
        fails(EIO, partial.result)
        same(file.read(160, 8), source(160, 8))
        until(lambda: clone.state().hydrating == 0, "the end of the copy")


@case(86, "formatting metadata whose writes fail")
def _():
    rig = Rig(fill=False)
    rig.meta.fail_writes()
    # C may also meet a block that it could not write and reads back as it was.
    rig.refuse((EIO, ENOTBLK))
    rig.meta.restore()
    with rig.meta.open() as meta:
        equal(meta.read(0, 8), bytes(4096))
    commit(rig.create())
