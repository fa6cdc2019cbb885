# SPDX-License-Identifier: GPL-2.0

"""The rows of the vdo target over storage that takes its time: a delay target on a ramdisk.

Figures are rates by the clock, of as much as fits into a second, with the flush behind it. A volume is
*fresh*, with data in the order of its addresses, or *aged*: written in full, overwritten at random and
half discarded, so that what is free lies in pieces of a block or a few, and neighbours lie anywhere.
That is done before the delay comes, and anew for each figure: what is measured ages a volume, too.

The delay target counts in the kernel's ticks, 10 ms in User Mode Linux: that is what 2 ms mean there.
"""

import subprocess
import time

from contextlib import contextmanager

from bench import inside
from bench import vdo
from bench.row import BARE
from bench.row import C
from bench.row import Goal
from bench.row import LATENCY
from bench.row import RUST
from bench.row import Row
from lib import devices
from lib.blockio import BlockFile
from lib.dm import Device

MIB = 1 << 20
MODULE = vdo.MODULE
STORAGE = devices.ramdisk(0)
# 4 TiB of which only what is written takes memory.
LARGE = devices.ramdisk(1)
LARGE_BLOCKS = (4 << 40) // 4096
# The half that stays.
SPAN = 96 * MIB
# So much room that a second's writes find it as it was, or little, so that all of it has been in use.
_SLABS = {"fresh": 32, "aged": 7}
_SLAB_BITS = 13
_LOGICAL = (1 << 30) // 512
_TIME_MS = 1000


def _format(path):
    """With small slabs, of which the kernel makes none by itself."""
    subprocess.run(["vdoformat", "--force", "--uds-memory-size=0.25", f"--slab-bits={_SLAB_BITS}",
                    f"--logical-size={_LOGICAL * 512}B", path], check=True, capture_output=True)


def _blocks(age):
    """Geometry block, index, super block, roots; slabs; recovery journal and summary."""
    return vdo.FIRST_DATA + (_SLABS[age] << _SLAB_BITS) + 32768 + 64


class _Storage(Device):
    """A ramdisk; `answer_after` says how long reads and writes take."""

    def __init__(self, blocks, path=STORAGE):
        self._sectors = blocks * 8
        self._path = path
        super().__init__("storage", self._linear())

    def _linear(self):
        return f"0 {self._sectors} linear {self._path} 0"

    def answer_after(self, ms):
        self.swap(f"0 {self._sectors} delay {self._path} 0 {ms}" if ms else self._linear())


def _age(path):
    """See above."""
    inside.sequential(path, "write", 2 * SPAN, flush=True)
    inside.at_random(path, "write", 2 * SPAN, 2 * SPAN // 4096, depth=32, refill=True, flush=True)
    with BlockFile(path) as file:
        file.discard(SPAN // 512, SPAN // 512)
        file.flush()


@contextmanager
def _volume(age, ms):
    storage = _Storage(_blocks(age))
    _format(storage.path)
    volume = Device("vdo", vdo.line(storage=storage.path, blocks=_blocks(age), sectors=_LOGICAL,
                                    more="maxDiscard 256"))
    try:
        if age == "aged":
            _age(volume.path)
        else:
            inside.sequential(volume.path, "write", SPAN, flush=True)
        storage.answer_after(ms)
        yield volume.path, 0
    finally:
        storage.answer_after(0)
        volume.remove()
        storage.remove()


@contextmanager
def _bare(age, ms):
    storage = _Storage(_blocks(age))
    try:
        storage.answer_after(ms)
        yield storage.path, vdo.FIRST_DATA * 4096
    finally:
        storage.answer_after(0)
        storage.remove()


def _rate(kind, depth, block=4096, **more):
    """MiB or thousands a second."""
    def work(bench, path, at):
        jobs = more.get("jobs", 1)
        took = inside.order(path, kind, offset=at, span=SPAN // jobs, block=block, depth=depth,
                            count=1 << 40, ms=_TIME_MS >> bench.quick, flush=kind == "write",
                            seed=3, **more)
        return took.rate if block == MIB else took.rate / 1000
    return work


def _on(age, ms, work):
    def measure(bench, subject):
        with _bare(age, ms) if subject == BARE else _volume(age, ms) as (path, at):
            return work(bench, path, at)
    return measure


def _start(ms, crashed):
    """Seconds until a volume of 4 TiB is there that was written all over, after a stop or a crash."""
    def measure(bench, subject):
        storage = _Storage(LARGE_BLOCKS, LARGE)
        volume = Device("vdo", None)
        try:
            with BlockFile(storage.path) as disk:
                disk.write(0, bytes(4096))
            line = vdo.line(storage=storage.path, blocks=LARGE_BLOCKS, sectors=LARGE_BLOCKS * 8)
            volume.load(line)
            volume.resume()
            inside.at_random(volume.path, "write", LARGE_BLOCKS * 4096, 16384 >> bench.quick,
                             flush=True)
            if crashed:
                volume.suspend(noflush=True)
            volume.remove()
            storage.answer_after(ms)
            volume = Device("vdo", None)
            start = time.monotonic()
            volume.load(line)
            volume.resume()
            return time.monotonic() - start
        finally:
            storage.answer_after(0)
            volume.remove()
            storage.remove()
    return measure


_WORK = [(f"rand{kind}-4k.d{depth}", f"4 KiB random {kind}s, depth {depth}", "1000/s",
          _rate(kind, depth, random=True)) for kind in ("write", "read") for depth in (1, 64, 256)]
_WORK += [(f"{kind}-1m", f"1 MiB {kind}s, depth 4", "MiB/s", _rate(kind, 4, MIB))
          for kind in ("write", "read")]
_WORK += [("fsync-8", "4 KiB random write and flush, 8 jobs", "1000/s",
           _rate("write", 1, random=True, jobs=8, sync=True))]


# Not slower, but for what scatters.
_AS_FAST = 0.97


def _rows():
    for ms in (2, 20):
        for age in ("fresh", "aged"):
            for key, title, unit, work in _WORK:
                twice = key == "randwrite-4k.d256"
                yield Row(f"latency.vdo.{ms}ms.{age}.{key}", title, unit,
                          _on(age, ms, work), LATENCY, runs=3, more_is_better=True,
                          table=f"vdo over storage of {ms} ms, {age}",
                          goal=Goal(RUST, C, at_least=2 if twice else _AS_FAST))
        for name, how in (("clean", "stopped"), ("crashed", "crashed")):
            yield Row(f"latency.vdo.{ms}ms.start-4t.{name}",
                      f"storage of {ms} ms, a volume of 4 TiB that was {how}", "s",
                      _start(ms, name == "crashed"), LATENCY, (C, RUST), "vdo: starts over slow storage",
                      Goal(RUST, C, at_most=1 / _AS_FAST), runs=3)


ROWS = list(_rows())


def prepare(bench):
    """Ramdisks; the first with all the pages that data goes to."""
    devices.modprobe("-a", "dm-mod", "dm-delay")
    devices.modprobe("-r", "brd")
    devices.modprobe("brd", "rd_nr=2", f"rd_size={LARGE_BLOCKS * 4}")
    inside.prepare()
    inside.sequential(STORAGE, "write", _SLABS["fresh"] << _SLAB_BITS << 12,
                      offset=vdo.FIRST_DATA * 4096)
