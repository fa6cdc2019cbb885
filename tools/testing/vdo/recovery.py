# SPDX-License-Identifier: GPL-2.0

"""Q2, Q3, R, Z4, Z5, H14: recovery after a crash, held where a test wants to look.

A slab is scrubbed after its reference counts are read; these reads are held to keep a volume
recovering.
"""

import random

from errno import EIO

from lib.blockio import Background
from lib.devices import until
from lib.kmsg import Log
from lib.runner import equal
from vdo.data import ZERO
from vdo.data import unique
from vdo.data import uniques
from vdo.rig import DATA0
from vdo.rig import JOURNAL0
from vdo.rig import LARGE
from vdo.rig import RAM0
from vdo.rig import SMALL
from vdo.rig import SUSPENDED
from vdo.rig import Below
from vdo.rig import Volume
from vdo.rig import damage
from vdo.rig import fails
from vdo.rig import logging
from vdo.rig import on_disk
from vdo.rig import put
from vdo.rig import said
from vdo.rig import state_word
from vdo.rig import volume
from vdo.suite import Session
from vdo.suite import case
from vdo.suite import expect

_SLAB = 8192
_COUNTS = 7966          # where a slab's reference counts are
_MIB = 256              # blocks
_USED = 48 * _MIB       # makes two slabs
_TOUCHED = 1000         # from here on, and 7000 further on, blocks are written again


def _fields(v, *names):
    found = v.stats()
    return [found[name] for name in names]


def _sizes(v):
    v.counters()
    return _fields(v, "dataBlocksUsed", "overheadBlocksUsed", "logicalBlocksUsed")


class Recovering:
    """A volume with two slabs of data, crashed, that is started with some counts out of reach."""

    def __init__(self, line=LARGE.but(length=16777216)):
        self.b = Below(line, fill=0)
        for lbn in range(0, _USED, 256):
            self.b.v.write(lbn, uniques(lbn, 256))
        # Counts that were never saved are not read.
        self.b.v.suspend()
        self.b.v.resume()
        self._touched = 0
        self._touch()
        self.sizes = _sizes(self.b.v)
        equal(self.sizes[0], _USED)

    def _touch(self):
        """A block of either slab is freed, so that both have something to recover."""
        for lbn in (_TOUCHED, _TOUCHED + 7000):
            self.v.write(lbn + self._touched, unique((1 << 21) + lbn + self._touched))
        self._touched += 1
        self.v.flush()

    @property
    def v(self):
        return self.b.v

    def hold(self, *slabs):
        """Reads of the counts of these wait."""
        self.b.pieces("delay", *((DATA0 + slab * _SLAB + _COUNTS,
                                  DATA0 + slab * _SLAB + _COUNTS + 2) for slab in slabs))

    def crash(self, *slabs):
        """And start again; it stays in recovery until these slabs' counts can be read."""
        self._touch()
        self.b.v.crash()
        self.start(*slabs)

    def start(self, *slabs):
        self.hold(*slabs)
        self.b.v = self.v.start(ready=False)
        state = self.v.status_now()
        equal((state.mode, state.recovery), ("recovering", "recovering"))

    def release(self):
        self.b.layer.restore()
        self.v.becomes("mode", "normal")

    def sample(self, first=0, count=_USED):
        """Some of what was written is there."""
        chance = random.Random(1)
        for _ in range(64):
            lbn = first + chance.randrange(count)
            if not any(at <= lbn < at + 100 for at in (_TOUCHED, _TOUCHED + 7000)):
                self.v.holds(lbn, unique(lbn))


session = Session("Q3", Recovering)


@session.row("Q3", "used while it recovers")
def _(s):
    s.log = Log()
    s.crash(0, 1)
    v = s.v
    said(s.log, "Device was dirty, rebuilding reference counts", "Entering recovery mode")
    equal(_fields(v, "inRecoveryMode", "completeRecoveries"), [1, 1])
    assert v.stats()["recoveryPercentage"] < 100
    v.holds(100, unique(100))
    v.write(5, unique(1 << 20))
    v.holds(5, unique(1 << 20))
    v.flush()
    used = v.status_now().used
    if expect(c=True, rust=False):
        assert used >= sum(s.sizes[:2]), "C counts what is not scrubbed as used"
    else:
        assert used <= v.status_now().total


@session.row("Q3a", "a load of a larger logical size, and of a larger physical one")
def _(s):
    line = s.v.line
    s.v.load(str(line.but(length=18874368)))
    s.v.clear()
    with logging("Device vdo_prepare_to_grow_physical failed", "1484"):
        fails(EIO, s.v.load, str(line.but(physical=1835008)))
    s.v.clear()


@session.row("Q3b", "suspended and resumed while it recovers")
def _(s):
    v = s.v
    one = Background(v.suspend)
    while not one.ended(0.2):
        # The slab in hand is finished, others stay.
        s.b.layer.step()
    one.result()
    state = v.status_now()
    if state.mode == "recovering":
        equal((state.recovery, state.index), ("recovering", SUSPENDED))
        equal(state_word(), 5)
    v.resume()
    s.release()
    said(s.log, "Exiting recovery mode")
    equal(_sizes(v), s.sizes)
    s.v.holds(5, unique(1 << 20))
    s.v.write(5, unique(5))
    s.sample()


@session.row("Q3c", "removed while it recovers, and started again")
def _(s):
    s.v.suspend()
    s.v.resume()
    s.crash(0, 1)
    recoveries = s.v.stats()["completeRecoveries"]
    one = Background(s.v.remove, 5)
    while not one.ended(0.2):
        s.b.layer.step()
    one.result()
    s.b.layer.restore()
    if state_word() == 5:
        with logging("Entering recovery mode", never=("Device was dirty",)):
            s.b.v = s.v.start()
    else:
        s.b.v = s.v.start()
    s.v.becomes("mode", "normal")
    equal(s.v.stats()["completeRecoveries"], recoveries)
    equal(_sizes(s.v), s.sizes)
    s.sample()


def _crash_again(s):
    """Write after the recovery, flush, crash once more; the blocks that are there then."""
    v = s.v
    v.write(640000, uniques(640000, 256))
    v.write(640256, uniques(640256, 256))
    v.flush()
    v.crash()
    log = Log()
    s.b.v = s.v.start(ready=False)
    s.b.v.becomes("mode", "normal")
    found = sum(s.b.v.read(640000 + at) == unique(640000 + at) for at in range(0, 512, 4))
    return found, log


@case("R1", "suspended and resumed while it recovers, then used, then a crash", Recovering)
def _(s):
    s.crash(0, 1)
    v = s.v
    one = Background(v.suspend)
    while not one.ended(1):
        s.b.layer.step()
    one.result()
    middle = v.status_now().mode
    equal(middle, "recovering")
    v.resume()
    state = state_word()
    s.release()
    if expect(c=True, rust=False):
        equal((state, state_word()), (5, 5))
        found, log = _crash_again(s)
        log.forbid("Device was dirty")
        assert found < 128, "nothing was lost"
        return
    equal(state, 0)
    found, log = _crash_again(s)
    said(log, "Device was dirty")
    equal((found, s.v.stats()["completeRecoveries"]), (128, 2))
    s.sample()
    s.v.write(700000, uniques(700000, 256))
    s.v.flush()
    equal(s.v.status_now().mode, "normal")


@case("R2", "crashed, recovered, crashed; and with a restart in between", Recovering)
def _(s):
    s.crash(0, 1)
    s.release()
    found, log = _crash_again(s)
    said(log, "Device was dirty")
    equal((found, s.v.stats()["completeRecoveries"]), (128, 2))
    s.b.v = s.v.again()
    s.v.discard(640000, 1)
    s.v.write(640001, uniques(640001, 255))
    found, log = _crash_again(s)
    equal((found, s.v.stats()["completeRecoveries"]), (128, 3))
    s.sample()


@case("R3", "a crash while it recovers", Recovering)
def _(s):
    for turn in range(3):
        s.crash(0, 1)
        s.v.write(650000 + turn, unique(650000 + turn))
        s.v.flush()
        # What is held would keep the suspend of a crash waiting.
        one = Background(s.v.crash)
        while not one.ended(0.2):
            s.b.layer.step()
        one.result()
        s.b.layer.restore()
        s.b.v = Volume(s.v.line)
        s.v.becomes("mode", "normal")
        for at in range(turn + 1):
            s.v.holds(650000 + at, unique(650000 + at))
    equal(_sizes(s.v)[0], s.sizes[0] + 3)
    s.sample()


@case("H14", "no space but in slabs that wait for their recovery",
      lambda: Recovering(SMALL.but(physical=720213 + 2 * _SLAB, length=16777216)))
def _(s):
    s.v.discard(0, 256)
    s.crash(0, 1)
    at = [300000]

    def fill():
        """More than the third slab has room for."""
        while at[0] < 300000 + 8200:
            s.v.write(at[0], uniques(at[0], 16))
            at[0] += 16

    one = Background(fill)
    seen = -1
    while seen != at[0] and not one.ended():
        seen = at[0]
        one.ended(1.0)
    assert not one.ended(), "there was more room than expected"
    equal(s.v.status_now().mode, "recovering")
    s.b.layer.restore()
    one.result()
    s.v.becomes("mode", "normal")
    for lbn in range(300000, at[0], 100):
        s.v.holds(lbn, unique(lbn))


def _scatter(v, chance, count, wrote):
    for _ in range(count):
        lbn = chance.randrange(9961472)
        wrote[lbn] = lbn
        v.write(lbn, unique(lbn))


def _q2(count):
    v = volume(LARGE.but(length=83886080))
    chance, wrote = random.Random(2), {}
    _scatter(v, chance, count, wrote)
    v.suspend()
    v.resume()
    _scatter(v, chance, count, wrote)
    v.flush()
    before = _sizes(v)
    equal((before[0], before[2]), (len(wrote), len(wrote)))
    with logging("Exiting recovery mode"):
        v = v.crashed()
        v.becomes("mode", "normal")
    equal(_sizes(v), before)
    equal(_fields(v, "completeRecoveries"), [1])
    for lbn in wrote:
        v.holds(lbn, unique(lbn))


@case("Q2", "scattered writes over many pages of the map, a crash")
def _():
    _q2(400)


@case("Q2x", "the same with thousands of pages", long=True)
def _():
    _q2(8000)


def _crashed():
    v = volume(SMALL)
    v.write_each(0, map(unique, range(16)))
    v.flush()
    v.crash()
    return v


@case("Z4", "a bit of a journal entry is damaged, then recovery", _crashed)
def _(v):
    # Entry 10 is that of LBN 6: four pages of the map come first.
    damage(RAM0, JOURNAL0 + 1, 512 + 3 + 16 * 10 + 7, 1)
    v = v.start(ready=False)
    state = v.status_now()
    if expect(c=True, rust=False):
        v.becomes("mode", "normal")
        v.holds(6, unique(5))
        equal(v.counters()["data"], 15)
    elif state.mode != "read-only":
        v.becomes("mode", "normal")
        assert v.read(6) in (unique(5), unique(7), unique(6), ZERO)


@case("Z5", "a header in the journal is damaged, then recovery", _crashed)
def _(v):
    block = bytearray(on_disk(RAM0, JOURNAL0 + 1))
    block[16:40] = bytes(24)
    put(RAM0, JOURNAL0 + 1, bytes(block))
    if expect(c=True, rust=False):
        with logging("Replaying 0 recovery entries"):
            v = v.start()
        equal(v.status_now().mode, "normal")
        v.holds(0, ZERO * 16)
        return
    v = v.start(ready=False)
    until(lambda: v.status_now().mode in ("normal", "read-only"), "the recovery's end", 30)


@case("G1", "a crash without a flush: each block is new or as before")
def _():
    v = volume(SMALL.adding("compression on"))
    v.write(0, uniques(0, 64))
    v.write(64, uniques(0, 32))
    v.write(200, ZERO * 4)
    v.flush()
    v.write(1000, uniques(1000, 64))
    with logging("recovery entries into block map", "journal entries into slab journals",
                 "Rebuild complete"):
        v = v.crashed()
        v.becomes("mode", "normal")
    v.holds(0, uniques(0, 64) + uniques(0, 32))
    v.holds(200, ZERO * 4)
    lost = sum(v.read(1000 + at) == ZERO for at in range(64))
    for at in range(64):
        assert v.read(1000 + at) in (ZERO, unique(1000 + at)), at
    equal(_fields(v, "completeRecoveries"), [1])
    equal(_sizes(v)[2], 164 - lost)
    v.write(300, uniques(0, 8))
    sizes = _sizes(v)
    with logging(never=("Device was dirty",)):
        v = v.again()
    equal(_sizes(v), sizes)
