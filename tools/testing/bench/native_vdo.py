# SPDX-License-Identifier: GPL-2.0

"""The rows of the vdo target in the native pass; what they stand on is as in vdo.py."""

from contextlib import contextmanager

from bench import inside
from bench import vdo
from bench.row import BARE
from bench.row import C
from bench.row import Goal
from bench.row import LINEAR
from bench.row import NATIVE
from bench.row import RUST
from bench.row import Row
from bench.row import above_bare
from lib import devices
from lib.blockio import BlockFile
from lib.dm import Device

MIB = 1 << 20
MODULE = vdo.MODULE
# 4 TiB of which only what is written takes memory.
LARGE = devices.ramdisk(2)
LARGE_BLOCKS = (4 << 40) // 4096
LARGE_LOGICAL = (4 << 40) // 512

_FOUR_KIB = "µs of CPU per 4 KiB"
_REQUEST = "µs of CPU per request"
_SECONDS = "s of CPU"


def _span(bench):
    return bench.span // 2


@contextmanager
def filled(bench, **options):
    """A volume with data, which is read back once."""
    with vdo.fresh(**options) as volume:
        inside.sequential(volume.path, "write", _span(bench), flush=True)
        volume.settle()
        inside.check(volume.path, _span(bench))
        yield volume


def _new(bench, **options):
    return vdo.fresh(**options)


def _on(volume, work, **options):
    """`work` gets a path, and the byte at which it is to begin."""
    def measure(bench, subject):
        if subject == BARE:
            return work(bench, vdo.STORAGE, vdo.FIRST_DATA * 4096)
        if subject == LINEAR:
            with vdo.area(_span(bench)) as path:
                return work(bench, path, 0)
        with volume(bench, **options) as target:
            return work(bench, target.path, 0)
    return measure


def _sequential(kind, **more):
    def work(bench, path, at):
        took = inside.sequential(path, kind, _span(bench), offset=at, flush=kind == "write", **more)
        return took.micros / 256
    return work


def _random(kind, depth, share=1, **more):
    def work(bench, path, at):
        took = inside.at_random(path, kind, _span(bench), bench.requests // share, depth=depth,
                                offset=at, seed=2, flush=kind == "write", **more)
        return took.micros
    return work


def _flushed(jobs):
    """Random writes with a flush behind each, of several at a time."""
    def work(bench, path, at):
        took = inside.at_random(path, "write", _span(bench) // jobs, bench.flushes, depth=1,
                                jobs=jobs, offset=at, sync=True)
        return took.micros
    return work


def _discard(step):
    """What was written, in discards of so many bytes, or one; with its best maxDiscard."""
    def measure(bench, subject):
        with filled(bench, more=vdo.best_discard(subject)) as volume:
            blocks = _span(bench) // 4096
            if step:
                return inside.sequential(volume.path, "discard", _span(bench), step,
                                         depth=1).cpu * 1e6 / blocks
            with BlockFile(volume.path) as file:
                start = inside.cpu()
                file.discard(0, _span(bench) // 512)
                return (inside.cpu() - start) * 1e6 / blocks
    return measure


# Starts.


def _start(line):
    """Load and resume; the volume is removed again."""
    volume = Device("vdo")
    try:
        start = inside.cpu()
        volume.load(line)
        volume.resume()
        return inside.cpu() - start
    finally:
        volume.remove()


def _restart(crashed, storage, blocks, logical):
    """After writes all over the volume, a stop or a crash."""
    def measure(bench, subject):
        line = vdo.line(storage=storage, blocks=blocks, sectors=logical)
        with BlockFile(storage) as disk:
            disk.write(0, bytes(4096))
        volume = Device("vdo", line)
        try:
            inside.at_random(volume.path, "write", logical * 512, bench.requests // 4, flush=True)
            if crashed:
                volume.suspend(noflush=True)
        finally:
            volume.remove()
        return _start(line)
    return measure


_TABLE = "Native: vdo"
_LIFE = "Native: vdo, start and flushes"
_ALL = (BARE, LINEAR, C, RUST)


def _rows():
    def row(key, title, unit, measure, subjects=_ALL, table=_TABLE, **more):
        return Row(f"native.vdo.{key}", title, unit, measure, NATIVE, subjects, table, **more)
    yield row("write-1m", "1 MiB writes of new data, depth 4", _FOUR_KIB,
              _on(_new, _sequential("write")), goal=above_bare(0.12))
    yield row("overwrite-1m", "1 MiB writes over data, depth 4", _FOUR_KIB,
              _on(filled, _sequential("write", seed=2)), goal=above_bare(0.12))
    yield row("zero-1m", "1 MiB writes of zeroes, depth 4", _FOUR_KIB,
              _on(_new, _sequential("write", zero=True)), goal=above_bare(0.1))
    yield row("read-1m", "1 MiB reads, depth 4", _FOUR_KIB, _on(filled, _sequential("read")),
              goal=above_bare(0.25))
    yield row("randread-4k", "4 KiB random reads, depth 64", _REQUEST,
              _on(filled, _random("read", 64)), goal=above_bare(0.25))
    yield row("randwrite-4k.d256", "4 KiB random writes, depth 256", _REQUEST,
              _on(filled, _random("write", 256)), goal=above_bare(0.25))
    for depth, share in ((64, 1), (8, 2), (1, 4)):
        yield row(f"randwrite-4k.d{depth}", f"4 KiB random writes, depth {depth}", _REQUEST,
                  _on(filled, _random("write", depth, share)),
                  goal=above_bare(0.25 if depth == 64 else 0.3))
        if depth > 1:
            yield row(f"randwrite-4k.d{depth}.refill", "the same, buffers filled anew", _REQUEST,
                      _on(filled, _random("write", depth, share, refill=True)),
                      goal=above_bare(0.3))
    yield row("partial", "512 byte random writes, depth 16", _REQUEST,
              _on(filled, _random("write", 16, 4, block=512), sector_size=512))
    yield row("discard", "discard of all data, each with its best maxDiscard", _FOUR_KIB,
              _discard(None), (C, RUST), goal=Goal(RUST, C, at_most=0.03))
    yield row("discard-1m", "the same in discards of 1 MiB", _FOUR_KIB, _discard(MIB), (C, RUST),
              goal=Goal(RUST, C, at_most=0.06))
    yield row("fsync", "4 KiB random write and flush", _REQUEST, _on(filled, _flushed(1)),
              table=_LIFE)
    yield row("fsync-8", "the same, 8 jobs", _REQUEST, _on(filled, _flushed(8)), table=_LIFE)
    for name, how in (("clean", "stopped"), ("crashed", "crashed")):
        yield row(f"start.{name}", f"start of a volume of 8 GiB that was {how}", _SECONDS,
                  _restart(name == "crashed", vdo.STORAGE, vdo.BLOCKS, vdo.LOGICAL), (C, RUST),
                  _LIFE)
        yield row(f"start-4t.{name}", f"start of a volume of 4 TiB that was {how}", _SECONDS,
                  _restart(name == "crashed", LARGE, LARGE_BLOCKS, LARGE_LOGICAL), (C, RUST),
                  _LIFE, runs=3)


ROWS = list(_rows())


def prepare(bench):
    """Ramdisks with all the pages that data goes to, and the module that makes the load."""
    devices.modprobe("-a", "dm-mod", "dm-delay")
    # Another target may have had smaller ones.
    devices.modprobe("-r", "brd")
    devices.modprobe("brd", "rd_nr=3", f"rd_size={(LARGE_BLOCKS * 4096) >> 10}")
    inside.prepare()
    inside.sequential(vdo.STORAGE, "write", 4 * _span(bench), offset=vdo.FIRST_DATA * 4096)
