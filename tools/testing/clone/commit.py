# SPDX-License-Identifier: GPL-2.0

"""Cases 49-57: what a commit writes, when, and in which order."""

import random
import time

from clone.rig import META
from clone.rig import Rig
from clone.rig import SECTORS
from clone.rig import SPARE_DISK
from clone.rig import holds
from clone.rig import same
from clone.rig import source
from clone.rig import user
from clone.suite import case
from clone.suite import expect
from lib import pdata
from lib.blockio import Background
from lib.devices import Loop
from lib.devices import remove_all
from lib.devices import until
from lib.runner import equal
from lib.writelog import LogWrites


def words(entries):
    """A write log in short: runs of data and metadata writes, superblocks, flushes. Metadata lies
    before the destination in the log's device."""
    found = []
    for entry in entries:
        if entry.mark:
            word = entry.mark
        elif entry.flush and not entry.sectors:
            word = "flush"
        elif entry.sector >= META:
            word = "fua" if entry.fua else "discard" if entry.discard else "data"
        else:
            word = "meta" if entry.sector else "super"
        if word not in ("data", "meta") or found[-1:] != [word]:
            found.append(word)
    return found


_COMMIT = ["meta", "flush", "super", "flush"]


@case(49, "a commit by the tick: four blocks, flush, superblock, flush; then silence")
def _():
    rig = Rig()
    log = rig.use["meta"] = LogWrites("log", rig.meta.path, META, SPARE_DISK)
    clone = rig.create()
    log.mark("start")
    with clone.open() as file:
        file.write(24, user(24, 8))
    until(lambda: rig.on_disk().bits == 1 << 3, "the commit")
    rig.forget()
    time.sleep(3)
    equal(rig.meta.counts.writes, 0)
    entries = log.entries()
    start = [entry.mark for entry in entries].index("start")
    equal(words(entries[start:]), ["start"] + _COMMIT)
    blocks = [entry for entry in entries[start:] if entry.sectors and not entry.mark]
    equal(sum(entry.sectors for entry in blocks), 5 * 8)


def recorded(rig, clone, *calls):
    """The words of the log for each call; what a tick may add in between is not expected."""
    for at, call in enumerate(calls):
        rig.both.mark(f"call{at}")
        call()
    rig.both.mark("after")
    found = words(rig.both.entries())
    cuts = [found.index(f"call{at}") for at in range(len(calls))] + [found.index("after")]
    return [found[first + 1:last] for first, last in zip(cuts, cuts[1:])]


def untimed(attempt):
    """Run it again if a timed commit came in between: only the orders without one are judged."""
    for _ in range(10):
        try:
            return attempt()
        except AssertionError as error:
            last = error
            remove_all()
    raise last


@case(50, "fsync: destination's flush, commit, and nothing but a flush the next time")
def _():
    def attempt():
        rig = Rig(logged=True, fill=False)
        clone = rig.create()
        with clone.open() as file:
            first, second = recorded(rig, clone,
                                     lambda: (file.write(80, user(80, 8)), file.flush()),
                                     file.flush)
        equal(first, ["data", "flush"] + _COMMIT)
        equal(second, ["flush"])
    untimed(attempt)


@case(51, "status commits, status without flush does not")
def _():
    rig = Rig(fill=False)
    clone = rig.create()
    with clone.open() as file:
        rig.meta.hold(writes=True)
        file.write(80, user(80, 8))
        # It returns while metadata cannot be written.
        equal(clone.state(noflush=True).hydrated, 1)
        rig.meta.restore()
        clone.status()
        equal(rig.on_disk().bits, 1 << 10)
        rig.forget()
        clone.status()
        equal(rig.meta.counts.writes, 0)


@case(52, "synchronous writes")
def _():
    def attempt():
        rig = Rig(logged=True, fill=False)
        clone = rig.create()
        with clone.open(dsync=True) as file:
            whole, partial, again = recorded(rig, clone,
                                             lambda: file.write(80, user(80, 8)),
                                             lambda: file.write(161, user(161, 2)),
                                             lambda: file.write(80, user(80, 8, 1)))
            same(file.read(160, 8), source(160, 1) + user(161, 2) + source(163, 5))
        equal(rig.on_disk().bits, 1 << 10 | 1 << 20)
        # The file's own fsync comes last each time.
        equal(whole, ["fua", "flush"] + _COMMIT + ["flush"])
        equal(partial, ["data", "flush"] + _COMMIT + ["fua", "flush"])
        equal(again, ["fua", "flush"])
    untimed(attempt)


@case(53, "suspend commits, also without flush; status of a suspended device does not")
def _():
    rig = Rig(fill=False)
    clone = rig.create()
    for region, noflush in ((10, False), (20, True)):
        with clone.open() as file:
            file.write(region * 8, user(region * 8, 8))
        clone.suspend(noflush)
        assert rig.on_disk().bits >> region & 1
        rig.forget()
        clone.status()
        equal(rig.meta.counts.writes, 0)
        clone.resume()


@case(54, "remove commits")
def _():
    rig = Rig(fill=False)
    clone = rig.create()
    with clone.open() as file:
        file.write(16, user(16, 8))
    clone.remove()
    clone = rig.create()
    equal(clone.state().hydrated, 1)
    holds(clone, 8, source(8, 8) + user(16, 8))


_BUSY = 32768


def _busy(seed):
    """Random writes, discards, flushes and hydration on a logged rig; returns the entries."""
    chance = random.Random(seed)
    rig = Rig(logged=True)
    clone = rig.create("8 1 no_hydration", _BUSY)
    with clone.open() as file:
        for turn in range(60):
            for _ in range(chance.randrange(1, 12)):
                sector = chance.randrange(_BUSY - 64)
                kind = chance.randrange(6)
                if kind == 0:
                    sector -= sector % 8
                    file.discard(sector, 8 * chance.randrange(1, 8))
                elif kind < 4:
                    sector -= sector % 8
                    file.write(sector, user(sector, 8 * chance.randrange(1, 8), turn))
                else:
                    file.write(sector, user(sector, chance.randrange(1, 20), turn))
            if turn == 30:
                clone.message("enable_hydration")
            if turn == 34:
                clone.message("disable_hydration")
            if chance.randrange(3):
                file.flush()
            else:
                clone.status()
    clone.remove()
    return rig.both.entries()


class Replay:
    """Metadata rebuilt from a log, block by block."""

    def __init__(self):
        self.blocks = {}

    def write(self, entry):
        """Yields after each block: a request of several may be cut anywhere between them."""
        for at in range(0, entry.sectors, 8):
            self.blocks[(entry.sector + at) // 8] = entry.data[at * 512:(at + 8) * 512]
            yield

    def check(self):
        return pdata.check(lambda number: self.blocks.get(number, bytes(pdata.BLOCK)))


@case(55, "every prefix of the metadata's write log is consistent")
def _():
    replay = Replay()
    prefixes = supers = 0
    flushed = True
    for entry in _busy(55):
        if entry.flush and not entry.sectors:
            flushed = True
        elif entry.sector < META:
            if entry.sector == 0:
                assert flushed, "a superblock without a flush before it"
                supers += 1
            flushed = False
            for _ in replay.write(entry):
                if supers:
                    replay.check()
                    prefixes += 1
    print(f"# {prefixes} prefixes, {supers} superblocks")
    assert supers > 30 and prefixes > 4 * supers


@case(56, "data is flushed before the metadata that says it is there")
def _():
    replay = Replay()
    covered = {}
    flushes = flushes_before_meta = supers = judged = 0
    bits = 0
    in_commit = False
    for entry in _busy(56):
        if entry.flush and not entry.sectors:
            flushes += 1
        elif entry.sector >= META:
            first = -(-(entry.sector - META) // 8)
            for region in range(first, (entry.sector - META + entry.sectors) // 8):
                covered.setdefault(region, flushes)
        elif entry.sector:
            if not in_commit:
                flushes_before_meta = flushes
                in_commit = True
            for _ in replay.write(entry):
                pass
        else:
            for _ in replay.write(entry):
                pass
            now = replay.check().bits
            for region in _ones(now & ~bits):
                assert region in covered, f"region {region} is marked without data"
                assert covered[region] < flushes_before_meta, f"region {region}: data not flushed"
                judged += 1
            bits = now
            in_commit = False
            supers += 1
    print(f"# {judged} regions in {supers} commits")
    assert judged > 500


def _ones(bits):
    """The numbers of the bits that are set."""
    while bits:
        low = bits & -bits
        yield low.bit_length() - 1
        bits ^= low


@case(57, "what a slow flush of the destination delays",
      differs="C's result is an upper bound: a partial write of an unhydrated region need not wait")
def _():
    with Loop(SECTORS) as loop:
        rig = Rig(dest_disk=loop.path)
        clone = rig.create()
        with clone.open() as file:
            file.write(0, user(0, 8))
            rig.dest.hold(flushes=True)
            flusher = Background(file.flush)
            until(lambda: rig.dest.held.flushes == 1, "the destination's flush")
            same(file.read(80, 8), source(80, 8))
            file.write(160, user(160, 8))
            file.write(0, user(0, 8, 1))
            partial = Background(file.write, 241, user(241, 1))
            if expect(c=True, rust=False):
                assert not partial.ended(1), "C is known to wait"
            assert not flusher.ended()
            rig.dest.restore()
            partial.result()
            flusher.result()
            same(file.read(240, 8), source(240, 1) + user(241, 1) + source(242, 6))
        remove_all()
