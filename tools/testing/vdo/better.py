# SPDX-License-Identifier: GPL-2.0

"""W: weaknesses of C that ours does not have, where no row of the list shows them already.

A row is named after the weakness. Documentation/vdo-better.md says which rows show the others.
"""

import time
import zlib

from errno import EIO

from lib.blockio import Background
from lib.devices import Loop
from lib.devices import until
from lib.dm import Device
from lib.runner import equal
from vdo.data import ZERO
from vdo.data import unique
from vdo.data import uniques
from vdo.rig import DATA0
from vdo.rig import JOURNAL0
from vdo.rig import LARGE
from vdo.rig import ONE_SLAB
from vdo.rig import RAM0
from vdo.rig import SMALL
from vdo.rig import SUPER
from vdo.rig import Below
from vdo.rig import Volume
from vdo.rig import fails
from vdo.rig import logging
from vdo.rig import on_disk
from vdo.rig import put
from vdo.rig import refused
from vdo.rig import small
from vdo.rig import tool
from vdo.rig import volume
from vdo.order import Held
from vdo.suite import IMPL
from vdo.suite import case
from vdo.suite import expect
from vdo.suite import outcome

_EIGHT = uniques(0, 8)
_START = 265            # where a super block has the start of the journal
_CHECKSUM = 434


def _read_only_start(b):
    """The volume starts read-only; what was written last is in its journal only."""
    b.v.crash()
    tool("vdoreadonly", b.layer.path)


@case("WS2", "the journal of a volume that starts read-only cannot be read", Below)
def _(b):
    _read_only_start(b)
    b.fail_blocks((JOURNAL0, JOURNAL0 + 10))
    b.v = b.v.start(ready=False)
    equal(b.v.status_now().mode, "read-only")
    if expect(c=True, rust=False):
        b.v.holds(0, ZERO * 8)
        return
    # What is on the storage is older than what was flushed.
    fails(EIO, b.v.read, 0)
    fails(EIO, b.v.read, 5000)
    b.layer.restore()
    fails(EIO, b.v.read, 0)
    b.v.remove(5)
    b.v = b.v.start(ready=False)
    b.v.holds(0, _EIGHT)


@case("WS2b", "other parts of that journal cannot be read", Below)
def _(b):
    _read_only_start(b)
    b.fail_blocks((JOURNAL0 + 1000, JOURNAL0 + 1010))
    b.v = b.v.start(ready=False)
    equal(b.v.status_now().mode, "read-only")
    b.v.holds(0, expect(c=ZERO * 8, rust=_EIGHT))


@case("WF6", "a page of the map cannot be read in a forced rebuild", Below)
def _(b):
    b.v.remove(5)
    tool("vdoreadonly", b.layer.path)
    tool("vdoforcerebuild", b.layer.path)
    b.fail_blocks((DATA0 + 3, DATA0 + 4))
    if expect(c=True, rust=False):
        b.v = b.v.start()
        b.v.holds(0, ZERO * 8)
        return
    with logging(f"for physical block {DATA0 + 3} with error", "Rebuild aborted"):
        fails(EIO, b.v.start)
    b.layer.restore()
    with logging("Read-only rebuild complete"):
        b.v = b.v.start()
    equal(b.v.status_now().mode, "normal")
    b.v.holds(0, _EIGHT)


@case("WR2", "the journal cannot be read for a while when a volume is to recover", Below)
def _(b):
    b.v.crash()
    b.fail_blocks((JOURNAL0, JOURNAL0 + 10))
    if expect(c=True, rust=False):
        b.v = b.v.start(ready=False)
        equal(b.v.status_now().mode, "normal")
        b.layer.restore()
        b.v.holds(0, ZERO * 8)
        return
    with logging("Recovery aborted, the next start tries it again"):
        fails(EIO, b.v.start)
    b.layer.restore()
    b.v = b.v.start()
    b.v.becomes("mode", "normal")
    b.v.holds(0, _EIGHT)


@case("WS10", "one block of storage cannot be written", Below)
def _(b):
    v = b.v
    b.fail_blocks((DATA0 + 12, DATA0 + 13))
    v.write(100, unique(100))
    flushed = outcome(v.flush)
    if expect(c=True, rust=False):
        equal((flushed, v.status_now().mode), (0, "read-only"))
        v.holds(100, ZERO)
        return
    equal((flushed, v.status_now().mode), (0, "normal"))
    v.holds(100, unique(100))
    v.write(200, uniques(200, 64))
    v.flush()
    b.layer.restore()
    b.v = v = v.crashed()
    v.becomes("mode", "normal")
    v.holds(100, unique(100))
    v.holds(200, uniques(200, 64))


@case("WJ", "a super block whose journal starts at 2^48", small, only="rust")
def _(v):
    """C's kernel oopses."""
    v.remove(5)
    before = on_disk(RAM0, SUPER)
    data = before[:_START] + (1 << 48).to_bytes(8, "little") + before[_START + 8:]
    checksum = zlib.crc32(data[:_CHECKSUM], 0xFFFFFFFF).to_bytes(4, "little")
    put(RAM0, SUPER, data[:_CHECKSUM] + checksum + data[_CHECKSUM + 4:])
    refused(v.line, EIO, "Cannot load metadata from device", "1489", never=("Call Trace",))
    put(RAM0, SUPER, before)
    Volume(v.line).ready().remove(5)


# Events.

def _raised(v, before, what):
    until(lambda: v.event > before, f"the event: {what}", 10)
    return v.event


@case("WA8", "an event when the volume becomes read-only", Below)
def _(b):
    before = b.v.event
    b.layer.fail()
    b.v.write(100, unique(100))
    b.v.becomes("mode", "read-only")
    if expect(c=True, rust=False):
        time.sleep(2)
        equal(b.v.event, before)
    else:
        _raised(b.v, before, "read-only")


@case("WA8b", "an event when a recovery ends", lambda: volume(LARGE))
def _(v):
    v.write(0, uniques(0, 8))
    v.flush()
    v = v.crashed()
    v.becomes("mode", "normal")
    if expect(c=True, rust=False):
        time.sleep(2)
        equal(v.event, 0)
        return
    _raised(v, 0, "the end of a recovery")
    # A start after an orderly stop is none.
    v = v.again()
    time.sleep(2)
    equal(v.event, 0)


_DATA = 7966            # data blocks of the one slab
_EMPTY = 712247         # blocks in use before the first write


def _fill(v, at, percentage):
    """Write from `at` on until so much is in use; returns where it stopped."""
    def used():
        return (v.status_now().used - _EMPTY) * 100

    while used() < percentage * _DATA:
        count = 16 if used() + 6000 < percentage * _DATA else 1
        if count == 1:
            v.flush()
        v.write(at, uniques(at, count))
        at += count
    return at


@case("WA8c", "events when used space rises through 80, 85, 90, 95 and 100 %",
      lambda: volume(ONE_SLAB))
def _(v):
    at = _fill(v, 0, 79)
    time.sleep(2.2)
    equal(v.event, 0)
    for seen, percentage in enumerate((80, 85, 90, 95, 100)):
        at = _fill(v, at, percentage)
        if expect(c=False, rust=True):
            equal(_raised(v, seen, f"{percentage} %"), seen + 1)
    time.sleep(2.2)
    equal(v.event, expect(c=0, rust=5))
    # Less is no event; more again is one.
    for lbn in range(700):
        v.discard(lbn)
    v.flush()
    time.sleep(2.2)
    equal(v.event, expect(c=0, rust=5))
    _fill(v, 0, 95)
    if expect(c=False, rust=True):
        equal(_raised(v, 5, "95 % again"), 6)


# Speed, as far as it can be counted.

# What is metadata has the journal and the pages of the map in it.
_BIOS = ("biosOut", "biosMeta")


def _flushes(v):
    """How often the storage was flushed."""
    fields = v.stats()
    count = sum(fields[f"{name}.flush"] for name in _BIOS)
    # C counts here what it passes on, ours what it has served.
    return count + (fields["flushOut"] if IMPL == "c" else 0)


@case("WV1", "a write of 1 MiB is not 256 writes below", lambda: Below(fill=1))
def _(b):
    b.v.counters()
    b.layer.forget()
    b.v.write(256, uniques(256, 256))
    b.v.flush()
    b.v.counters()
    writes = b.layer.counts.writes
    if expect(c=True, rust=False):
        assert writes >= 256, writes
    else:
        assert writes <= 16, writes
    b.v.holds(256, uniques(256, 256))


@case("WV3", "a second write of a block waits for the data of the first only", Below)
def _(b):
    b.v.write(100, unique(99))
    with Held(b) as held:
        held.now(b.v.write, 100, unique(100))
        rounds = held.rounds(2, b.v.write, 100, unique(101))
        assert 1 <= rounds <= expect(c=2, rust=1), rounds
    b.v.holds(100, unique(101))


@case("WV4", "a flush after a write flushes the storage once", lambda: Below(fill=1))
def _(b):
    v = b.v
    with Held(b) as held:
        before = _flushes(v)
        for lbn in range(20):
            v.write(lbn, unique(100 + lbn))
            # While the data waits, nobody but this flush has the journal written.
            held.rounds(3, v.flush)
        count = _flushes(v) - before
    if expect(c=True, rust=False):
        assert count >= 40, count
    else:
        assert count <= 22, count
    v.holds(0, uniques(100, 20))


@case("WV5", "a discard of 256 blocks in one request", lambda: volume(SMALL.adding("maxDiscard 256")))
def _(v):
    v.write(0, uniques(0, 256))
    before = v.counters()
    v.discard(0, 256)
    after = v.counters()
    equal(after["je"] - before["je"], 256)
    blocks = after["jb"] - before["jb"]
    if expect(c=True, rust=False):
        assert blocks > 64, blocks
    else:
        assert blocks <= 8, blocks
    v.holds(0, ZERO * 256)


@case("WV7", "new pages of the map are flushed together", lambda: volume(SMALL))
def _(v):
    for page in range(40):
        v.write(812 * page, unique(page))
    before = v.stats()["blockMap.flushCount"]
    v.suspend()
    count = v.stats()["blockMap.flushCount"] - before
    v.resume()
    assert 1 <= count <= 8, count


@case("WV11", "memory after the start", lambda: volume(SMALL.adding("deduplication off")))
def _(v):
    used = v.stats()["memoryUsage.bytesUsed"] / 1e6
    if expect(c=True, rust=False):
        assert used > 150, used
    else:
        assert used < 73, used


@case("WP9", "write-zeroes where the storage has it")
def _():
    with Loop(8 << 21) as disk:
        b = Below(disk=disk.path)
        v = b.v
        offered = int(v.queue("write_zeroes_max_bytes"))
        if expect(c=True, rust=False):
            equal(offered, 0)
        else:
            assert offered > 0
        before = v.counters()
        v.zero(0, 4)
        v.zero(100, 64)
        after = v.counters()
        equal(after["out_w"], before["out_w"])
        equal(after["data"] - before["data"], -4)
        v.holds(0, ZERO * 4 + uniques(4, 4))
        v.flush()
        v = b.v = v.crashed()
        v.becomes("mode", "normal")
        v.holds(0, ZERO * 4 + uniques(4, 4))
        v.holds(100, ZERO * 64)
        v.remove(5)
        b.layer.remove(5)


# Crashes in the middle of what administrators do (row R3 of the list has one in a recovery).

def _cut(b, call, rounds):
    """Do it, and let the storage fail after so many rounds of writes: what is on it then is what a
    crash leaves. Returns whether it had ended before."""
    b.layer.hold(writes=True, flushes=True)
    one = Background(lambda: outcome(call))
    for _ in range(rounds):
        until(lambda: one.ended() or any((b.layer.held.writes, b.layer.held.flushes)),
              "the next writes", 20)
        if one.ended():
            break
        b.layer.step()
    ended = one.ended(0.1)
    b.layer.fail()
    one.result()
    return ended


def _gone(b):
    """The volume goes without a trace, and the storage works again."""
    b.v.remove(5)
    b.layer.restore()


def _is_whole(b, lines):
    """It starts by one of these lines, with all that was flushed."""
    for line in lines:
        code = outcome(lambda: setattr(b, "v", Volume(line)))
        if not code:
            break
        equal(code, EIO)
    equal(code, 0)
    b.v.becomes("mode", "normal")
    b.v.holds(0, _EIGHT)
    b.v.holds(700, uniques(700, 32))


def _in_use():
    b = Below(SMALL.but(physical=1048576))
    b.v.write(700, uniques(700, 32))
    b.v.flush()
    return b


@case("R3b", "a crash during a suspend", _in_use)
def _(b):
    line = b.v.line
    for rounds in range(12):
        b.v.write(2000 * rounds, uniques(rounds, 4))
        ended = _cut(b, b.v.suspend, rounds)
        _gone(b)
        _is_whole(b, [line])
        if ended:
            return


@case("R3c", "a crash during a resume", _in_use)
def _(b):
    line = b.v.line
    for rounds in range(4):
        b.v.suspend()
        _cut(b, b.v.resume, rounds)
        _gone(b)
        _is_whole(b, [line])


def _grown_in_between(b, noflush, all_rounds, **sizes):
    old = b.v.line
    new = old.but(**sizes)
    for rounds in all_rounds:
        b.v.write(3000 + rounds, unique(rounds))
        b.v.suspend(noflush)
        b.v.load(str(new))
        ended = _cut(b, b.v.resume, rounds)
        _gone(b)
        _is_whole(b, [old, new])
        if b.v.line == new:
            # The new sizes may be there before the end.
            return
        assert not ended, "it ended, and the old sizes are there"


@case("R3d", "a crash during the growth of the logical size", _in_use, only="rust")
def _(b):
    """C's kernel has a BUG (vdo_destroy) when a volume is removed whose growth has failed."""
    _grown_in_between(b, False, range(8), length=4194304)


@case("R3e", "a crash during the growth of the physical size", _in_use, only="rust")
def _(b):
    # Most of it is the copy of the journal.
    _grown_in_between(b, True, (0, 2, 100, 129, 130, 131, 132, 134), physical=1310720)


@case("R3f", "a crash during a forced rebuild", _in_use)
def _(b):
    line = b.v.line
    b.v.remove(5)
    tool("vdoreadonly", b.layer.path)
    tool("vdoforcerebuild", b.layer.path)
    for rounds in (0, 1, 2, 3, 5, 8, 40):
        _cut(b, lambda: setattr(b, "v", Volume(line)), rounds)
        if b.v.name in {one.name for one in Device.live}:
            b.v.remove(5)
        b.layer.restore()
    _is_whole(b, [line])
