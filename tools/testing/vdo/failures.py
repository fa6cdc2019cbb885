# SPDX-License-Identifier: GPL-2.0

"""I: storage that fails, damaged metadata, read-only mode."""

from errno import EINVAL
from errno import EIO

from lib.blockio import Background
from lib.devices import Loop
from lib.devices import until
from lib.runner import equal
from vdo.blocks import CONFIG
from vdo.data import ZERO
from vdo.data import compressible
from vdo.data import unique
from vdo.data import uniques
from vdo.rig import DATA0
from vdo.rig import JOURNAL0
from vdo.rig import RAM0
from vdo.rig import SECTORS
from vdo.rig import SMALL
from vdo.rig import SUSPENDED
from vdo.rig import Below
from vdo.rig import Volume
from vdo.rig import damage
from vdo.rig import fails
from vdo.rig import logging
from vdo.rig import refused
from vdo.rig import tool
from vdo.rig import volume
from vdo.stats import NEW
from vdo.stats import STALE
from vdo.suite import DEDUPE
from vdo.suite import IMPL
from vdo.suite import Session
from vdo.suite import case
from vdo.suite import expect
from vdo.suite import outcome

_READ_ONLY = "Unrecoverable error, entering read-only mode"
_EIGHT = uniques(0, 8)


def _read_only(v):
    v.becomes("mode", "read-only")


def _all_fails(b):
    """Everything below fails; a write then ends in read-only mode."""
    b.layer.fail()
    b.v.write(100, unique(100))
    _read_only(b.v)


dead = Session("I1", Below)


@dead.row("I1", "all storage fails under a write")
def _(b):
    v = b.v
    lines = (f"{_READ_ONLY}: Input/output error (-5)", "super block save failed")
    if IMPL == "c":
        lines += ("Preparing to enter read-only mode: data_vio for LBN 100",)
    before = v.stats()["errors.readOnlyErrorCount"]
    with logging(*lines):
        _all_fails(b)
    # Nothing is looked up any more, and ours says so.
    v.shows("read-only - online offline 750910 2097152" if expect(c=True, rust=False) else
            f"read-only - closed offline {v.status_now().used} 2097152")
    for call, *arguments in ((v.read, 0), (v.write, 101, unique(101)), (v.write, 101, ZERO),
                             (v.discard, 1)):
        fails(EIO, call, *arguments)
    equal(v.stats()["errors.readOnlyErrorCount"] - before, 3)


@dead.row("I1b", "and works again, which a volume does not forgive")
def _(b):
    b.layer.restore()
    b.v.holds(0, uniques(0, 1))
    b.v.holds(5000, ZERO)
    fails(EIO, b.v.write, 102, unique(102))
    _read_only(b.v)


@dead.row("I2", "a read-only volume is suspended and resumed")
def _(b):
    v = b.v
    v.suspend()
    equal(v.status_now().index, SUSPENDED)
    v.resume()
    v.holds(0, unique(0))
    fails(EIO, v.write, 0, unique(1))
    if expect(c=True, rust=False):
        equal(v.status_now().index, "suspended")
    else:
        assert v.status_now().index in ("closed", "offline", "online", "error", "opening")


@dead.row("I3", "a read-only volume is to grow")
def _(b):
    v = b.v
    old, grown = v.table()[0], str(v.line.but(length=4194304))
    if expect(c=True, rust=False):
        v.load(grown)
        with logging("Can't grow logical size of a read-only VDO",
                     "grow logical operation failed, result = 1479", "Commit of modifications"):
            fails(EIO, v.resume)
        assert v.suspended
        return
    try:
        v.load(grown)
    except OSError as error:
        assert error.errno in (EIO, EINVAL)
    else:
        fails((EIO, EINVAL), v.resume)
        v.load(old)
    v.resume()
    equal(v.table(), [old])
    v.holds(0, unique(0))


@dead.row("I3b", "and to shrink")
def _(b):
    with logging("Removing physical storage from a VDO is not supported"):
        length = int(b.v.table()[0].split()[1])
        fails(EINVAL, b.v.load, str(b.v.line.but(physical=1048576, length=length)))


@case("I4", "a volume whose last state could not be written recovers", Below)
def _(b):
    # The state is written by a task of its own, which may come late.
    with logging("super block save failed"):
        _all_fails(b)
    b.layer.restore()
    b.v.remove(5)
    with logging("Replaying 12 recovery entries into block map"):
        b.v = b.v.start()
    b.v.becomes("mode", "normal")
    b.v.holds(0, _EIGHT)
    assert b.v.read(100) in (ZERO, unique(100))
    b.v.write(200, unique(200))
    b.v.holds(200, unique(200))


rebuilt = Session("I6", Below)


@rebuilt.row("I6", "vdoforcerebuild refuses a normal volume")
def _(b):
    b.v.remove(5)
    output = tool("vdoforcerebuild", b.layer.path, code=None)
    b.v = b.v.start()
    assert "not in read-only mode" in output or "normal VDO" in output, output
    equal(b.v.status_now().mode, "normal")


@rebuilt.row("I7", "a volume that vdoreadonly marked")
def _(b):
    b.v.remove(5)
    tool("vdoreadonly", b.layer.path)
    with logging(never=("Device was dirty", "Entering recovery mode")):
        b.v = b.v.start(ready=False)
    used = b.v.status_now().used
    assert used == 750898 if expect(c=True, rust=False) else used in (750898, 750902, 750910)
    b.v.shows(f"read-only - closed offline {used} 2097152")


@rebuilt.row("I8", "and that vdoforcerebuild frees")
def _(b):
    b.v.remove(5)
    tool("vdoforcerebuild", b.layer.path)
    with logging("Rebuilding reference counts to clear read-only mode", "Saving rebuilt state",
                 "Read-only rebuild complete", "VDO commencing normal operation"):
        b.v = b.v.start()
    b.v.shows("normal - online offline 750910 2097152")
    b.v.holds(0, _EIGHT)


@case("I9", "a data read fails", Below)
def _(b):
    b.layer.fail()
    with logging("Completing read vio for LBN 0 with error after read_data_vio"):
        fails(EIO, b.v.read, 0)
    b.layer.restore()
    equal(b.v.status_now().mode, "normal")
    b.v.holds(0, unique(0))


@case("I11", "a read of the map fails", Below)
def _(b):
    b.v = b.v.again()
    b.layer.fail()
    with logging("Completing read vio of type 4 for physical block 679129 with error"):
        fails(EIO, b.v.read, 0)
        if expect(c=True, rust=False):
            _read_only(b.v)
    b.layer.restore()
    b.v.holds(0, unique(0))
    equal(b.v.status_now().mode, expect(c="read-only", rust="normal"))


@case("I12", "a flush over failing storage without a write cache", Below)
def _(b):
    b.layer.fail()
    b.v.flush()
    b.flaky()
    b.v.flush()
    equal(b.v.status_now().mode, "normal")


@case("I12b", "a flush over failing storage with a write cache")
def _():
    with Loop(8 << 21) as disk:
        b = Below(disk=disk.path)
        b.flaky()
        fails(EIO, b.v.flush)
        equal(b.v.status_now().mode, "normal")
        b.layer.restore()
        b.v.flush()
        b.v.remove(5)
        b.layer.remove(5)


@case("I13", "a journal write fails", Below)
def _(b):
    b.layer.fail()
    with logging("cannot write recovery journal block 1: Input/output error (-5)"):
        b.v.discard(0)
        _read_only(b.v)


@case("I14", "a suspend fails to save", Below)
def _(b):
    b.layer.fail()
    Background(b.v.suspend).result()
    equal((b.v.status_now().mode, b.v.status_now().index), ("read-only", SUSPENDED))
    b.layer.restore()
    b.v.resume()
    b.v.holds(0, unique(0))


@case("I15", "a start fails at the first block", Below)
def _(b):
    b.v.remove(5)
    b.layer.fail()
    refused(b.v.line, EIO, "Could not load geometry block", "-5")


lost = Session("I20", Below)


@lost.row("I20", "a data write fails after it was acknowledged")
def _(b):
    v = b.v
    b.fail_blocks((DATA0 + 12, DATA0 + 40))
    v.write(100, unique(100))
    first = outcome(v.flush)
    found = v.read(100)
    second = outcome(v.flush)
    v.holds(0, _EIGHT)
    if expect(c=True, rust=False):
        equal((first, second, found), (0, 0, ZERO))
        equal(v.status_now().mode, "read-only")
    elif found == unique(100):
        equal((first, v.status_now().mode), (0, "normal"))
    else:
        equal((first, second), (EIO, EIO))


@lost.row("I21", "a start in read-only mode, with changes in the journal only")
def _(b):
    if b.v.status_now().mode == "normal":
        # Nothing was lost; the journal's end is another way to get there.
        b.fail_blocks((JOURNAL0, JOURNAL0 + 10))
        b.v.write(101, unique(101))
        _read_only(b.v)
    used = b.v.stats()["logicalBlocksUsed"]
    b.v.remove(5)
    b.layer.restore()
    b.v = b.v.start(ready=False)
    state = b.v.status_now()
    equal((state.mode, state.index), ("read-only", "closed"))
    found = b.v.read(0, 8)
    fails(EIO, b.v.write, 0, unique(9))
    b.v.flush()
    fields = b.v.stats()
    equal(fields["errors.readOnlyErrorCount"], 1)
    if expect(c=True, rust=False):
        equal((used, fields["logicalBlocksUsed"], found), (8, 8, bytes(8 * 4096)))
        equal(fields["dataBlocksUsed"], (1 << 64) - 4)
    else:
        assert found == _EIGHT, "flushed data does not read back"
        assert fields["dataBlocksUsed"] < 1 << 40


@lost.row("I21b", "messages to it")
def _(b):
    b.v.message("compression on")
    equal(b.v.status_now().compression, "online")
    b.v.message("index-enable")
    if DEDUPE:
        equal(b.v.status_now().index, expect(c="opening", rust="closed"))
    equal(b.v.message("config"), CONFIG)


@lost.row("I22", "it is to grow, by a load and by a start")
def _(b):
    v = b.v
    old, grown = str(v.line), v.line.but(length=4194304)
    if expect(c=True, rust=False):
        v.load(str(grown))
        fails(EIO, v.resume)
    else:
        try:
            v.load(str(grown))
            fails((EIO, EINVAL), v.resume)
            v.load(old)
        except OSError as error:
            assert error.errno in (EIO, EINVAL)
        v.resume()
    v.remove(5)
    b.v = Volume(grown)
    equal(b.v.status_now().mode, "read-only")
    equal(b.v.file().sectors, 4194304)
    b.v.remove(5)
    b.old = old


@lost.row("I23", "and is rebuilt, with all that was flushed")
def _(b):
    tool("vdoforcerebuild", b.layer.path)
    line = SMALL.but(device=b.layer.path)
    with logging("recovery entries into block map", "Rebuilding reference counts",
                 "Read-only rebuild complete"):
        b.v = Volume(line).ready()
    v = b.v
    equal(v.status_now().mode, "normal")
    v.holds(0, _EIGHT)
    fields = v.stats()
    equal((fields["completeRecoveries"], fields["readOnlyRecoveries"]), (1, 1))
    used = [fields[name] for name in ("dataBlocksUsed", "logicalBlocksUsed",
                                      "overheadBlocksUsed")]
    more = 1 if v.read(100) == unique(100) else 0
    equal(used, [8 + more, 8 + more, 750902])
    v.write(300, unique(300))
    v.holds(300, unique(300))


@case("I24", "the block to compare with cannot be read", Below, needs="index")
def _(b):
    b.fail_blocks((DATA0, DATA0 + 12))
    with b.v.delta(STALE):
        b.v.write(50, unique(3))
    b.v.holds(50, unique(3))
    equal(b.v.status_now().mode, "normal")


@case("I25", "the journal cannot be written", lambda: Below(fill=1))
def _(b):
    v = b.v
    b.fail_blocks((JOURNAL0, JOURNAL0 + 10))
    with logging("cannot write recovery journal block 1"):
        v.write(1, unique(1))
        flush = outcome(v.flush)
        _read_only(v)
    equal(flush, expect(c=0, rust=EIO))
    v.holds(0, unique(0))
    if IMPL == "c":
        v.holds(1, ZERO)


@case("I26", "a data write with FUA fails", lambda: Below(fill=1))
def _(b):
    v = b.v
    b.fail_blocks((DATA0 + 5, DATA0 + 40))
    if expect(c=True, rust=False):
        with logging("Completing write+fua vio for LBN 5 with error after write_data_vio"):
            fails(EIO, v.write, 5, unique(5), fua=True)
    elif outcome(lambda: v.write(5, unique(5), fua=True)) == 0:
        v.holds(5, unique(5))
    equal(v.status_now().mode, "normal")


def _packed():
    b = Below(SMALL.adding("compression on"), fill=0)
    b.v.write(0, b"".join(compressible(key, 64) for key in range(14)))
    # A flush that came too early would have some of them written as they are.
    b.v.counters()
    b.v.flush()
    return b


packed = Session("I28", _packed)


@packed.row("I28", "a compressed block cannot be read", needs="packer")
def _(b):
    b.layer.fail()
    fails(EIO, b.v.read, 3)
    b.layer.restore()
    equal(b.v.status_now().mode, "normal")
    b.v.holds(3, compressible(3, 64))


@packed.row("I30", "a compressed block is damaged", needs="packer")
def _(b):
    # All fourteen went into one block, the first after the map's pages that somebody kept.
    block = next(at for at in range(DATA0 + 4, DATA0 + 20) if _is_packed(b, at))
    damage(RAM0, block, 8, 0x55)
    with logging("Compressed block fragment is invalid"):
        fails(EIO, b.v.read, 3)
        fails(EIO, b.v.read, 0)
    equal(b.v.status_now().mode, "normal")


def _is_packed(b, block):
    """The header of a compressed block: version 1.0, sizes that are all small."""
    with b.layer.open(readonly=True) as file:
        data = file.read(block * 8, 8)
    sizes = [int.from_bytes(data[at:at + 2], "little") for at in range(8, 36, 2)]
    return data[:8] == bytes((1, 0, 0, 0, 0, 0, 0, 0)) and all(0 < one < 400 for one in sizes)


@case("I29", "a data block is damaged")
def _():
    v = volume(SMALL)
    v.write(0, unique(0))
    v.flush()
    damage(RAM0, DATA0 + 4, 100, 0xFF)
    found = v.read(0)
    assert found != unique(0) and found[:100] == unique(0)[:100], "another block"
    with v.delta(STALE, off=NEW):
        v.write(1, unique(0))
    v.holds(1, unique(0))


def _stopped():
    v = volume(SMALL)
    v.write_each(0, map(unique, range(8)))
    v.remove(5)
    return v


@case("I31", "a leaf page with a foreign nonce", _stopped)
def _(v):
    damage(RAM0, DATA0 + 3, 8, 1)
    v = v.start()
    if expect(c=True, rust=False):
        v.holds(0, ZERO)
    elif not outcome(v.read, 0):
        v.holds(0, ZERO)
    else:
        # What the map says cannot be trusted any more.
        equal(v.status_now().mode, "read-only")
        return
    equal(v.status_now().mode, "normal")


@case("I31b", "a leaf page with a foreign number", _stopped)
def _(v):
    damage(RAM0, DATA0 + 3, 16, 1)
    v = v.start()
    with logging(f"Expected page {DATA0 + 3} but got page {DATA0 + 3 ^ 1} instead"):
        fails(EIO, v.read, 0)
        _read_only(v)


@case("I32", "a leaf page cannot be written", Below)
def _(b):
    b.fail_blocks((DATA0 + 3, DATA0 + 4))
    Background(b.v.suspend).result()
    equal(b.v.status_now().mode, "read-only")
    b.layer.restore()
    b.v.resume()
    b.v.holds(0, _EIGHT)


@case("I32b", "the slab summary cannot be written", Below)
def _(b):
    b.fail_blocks((JOURNAL0 + 32768, JOURNAL0 + 32768 + 64))
    Background(b.v.suspend).result()
    equal(b.v.status_now().mode, "read-only")
    b.layer.restore()
    b.v.resume()
    b.v.holds(0, _EIGHT)


@case("I32c", "a slab's journal and counts cannot be written", Below)
def _(b):
    # Behind the 7966 data blocks of the first slab.
    b.fail_blocks((DATA0 + 7966, DATA0 + 8192))
    Background(b.v.suspend).result()
    equal(b.v.status_now().mode, "read-only")
    b.layer.restore()
    b.v.resume()
    b.v.holds(0, _EIGHT)


@case("Z3", "the block around a partial write or discard cannot be read",
      lambda: Below(SECTORS, fill=1))
def _(b):
    v = b.v
    b.fail_blocks((DATA0 + 4, DATA0 + 12))
    text = "Completing read-modify-write vio for LBN 0 with error after read_data_vio"
    with logging(text) as log:
        fails(EIO, v.write_at, 512, unique(1)[:512])
        fails(EIO, v.discard_at, 512, 512)
        until(lambda: sum(text in line for line in log.lines()) == 2, "the second line", 5)
    equal(v.status_now().mode, "normal")
