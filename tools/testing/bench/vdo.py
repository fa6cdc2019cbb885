# SPDX-License-Identifier: GPL-2.0

"""The rows of the vdo target, without deduplication and compression on either side but for one of memory.

The storage is a ramdisk of 8 GiB of which only what is written takes memory. The part that data
goes to is written before anything is measured; it is what the rows of the bare device use as well.
"""

import os
import re
import subprocess
import time

from contextlib import contextmanager

from bench import load
from bench.module import Module
from bench.row import BARE
from bench.row import C
from bench.row import Goal
from bench.row import LINEAR
from bench.row import RUST
from bench.row import Row
from bench.row import TIMED
from bench.row import above_bare
from lib import devices
from lib.blockio import BlockFile
from lib.dm import Device

MIB = 1 << 20
STORAGE, RANDOM = devices.ramdisk(0), devices.ramdisk(1)
MODULE = Module("dm-vdo")

BLOCKS = (8 << 30) // 4096
LOGICAL = (4 << 30) // 512
# With the smallest index: geometry block, index, super block, roots.
FIRST_DATA = 679189

_FOUR_KIB = "instructions per 4 KiB"
_REQUEST = "instructions per request"


def line(storage=STORAGE, blocks=BLOCKS, sector_size=4096, cache=32768, sectors=LOGICAL, more="",
         deduplication="off", compression="off"):
    """The table line of a volume."""
    return (f"0 {sectors} vdo V4 {storage} {blocks} {sector_size} {cache} 16380 "
            f"deduplication {deduplication} compression {compression} {more}")


def blank():
    with BlockFile(STORAGE) as disk:
        disk.write(0, bytes(4096))


class Volume(Device):
    """A volume on the ramdisk, new unless it is one that was there."""

    def __init__(self, new=True, **options):
        if new:
            blank()
        super().__init__("vdo", line(**options))

    def stats(self):
        """The statistics, by name: groups by `group.name`."""
        return dict(_fields(self.message("stats")))

    def waits_for(self, state):
        """Wait until the index is in a state."""
        while state not in self.status()[0].split():
            time.sleep(0.05)

    def settle(self):
        """Wait until nothing is under way."""
        before = None
        while before != (before := self.message("stats").split("memoryUsage")[0]):
            time.sleep(0.05)


def _fields(text):
    groups = []
    for name, value in re.findall(r"(\w+) : (\{|[^,{}]+)|\}", text):
        if value == "{":
            groups.append(name)
        elif name:
            yield ".".join((*groups, name)), value.strip()
        elif groups:
            groups.pop()


def _span(bench):
    """Bytes that are written: what all rows share, in memory."""
    return min(bench.span, 256 * MIB)


@contextmanager
def fresh(**options):
    volume = Volume(**options)
    try:
        yield volume
    finally:
        volume.remove()


@contextmanager
def filled(bench, **options):
    """A volume with data."""
    with fresh(**options) as volume:
        load.dd_copy(RANDOM, volume.path, _span(bench))
        volume.settle()
        yield volume


@contextmanager
def area(size):
    """The part of the ramdisk that data goes to, as a linear mapping."""
    area = Device("linear", f"0 {size // 512} linear {STORAGE} {FIRST_DATA * 8}")
    try:
        yield area.path
    finally:
        area.remove()


def _on(volume, work, **options):
    """`work` gets a path, and the byte at which it is to begin."""
    def measure(bench, subject):
        if subject == BARE:
            return work(bench, STORAGE, FIRST_DATA * 4096)
        if subject == LINEAR:
            with area(_span(bench)) as path:
                return work(bench, path, 0)
        with volume(bench, **options) as target:
            return work(bench, target.path, 0)
    return measure


def _new(bench, **options):
    return fresh(**options)


def _copy_in(bench, path, at):
    return load.dd_copy(RANDOM, path, _span(bench), at=at) / (_span(bench) // 4096)


def _zero(bench, path, at):
    return load.dd_write(path, _span(bench), at=at) / 256


def _read(bench, path, at):
    return load.dd_read(path, _span(bench), at=at) / 256


def _random_read(bench, path, at):
    return load.fio(path, _span(bench), bench.requests, "randread", at=at, more=["--norandommap"])


def _random_write(depth, refill):
    """What one request costs depends on how many come with it: fio hands over all of a depth at once
    unless it has to fill their buffers."""
    more = ["--norandommap", *["--refill_buffers"] * refill]
    requests = {64: 1, 8: 2, 1: 4}[depth]
    def work(bench, path, at):
        return load.fio(path, _span(bench), bench.requests // requests, "randwrite", depth=depth,
                        at=at, more=more)
    return work


def _partial_write(bench, path, at):
    return load.fio(path, _span(bench), bench.requests // 8, "randwrite", block=512, depth=16, at=at,
                    more=["--norandommap"])


def _discard(bench, subject):
    """What was written, with the maxDiscard that suits each best."""
    with filled(bench, more=best_discard(subject)) as volume:
        return _timed_discard(volume, _span(bench), _span(bench))


def _small_discards(bench, subject):
    """The same in many discards."""
    with filled(bench, more=best_discard(subject)) as volume:
        return _timed_discard(volume, _span(bench), MIB)


def _large_discard(bench, subject):
    """128 MiB in one bio."""
    size = min(_span(bench), 128 * MIB)
    with filled(bench, more="maxDiscard 32768") as volume:
        return _timed_discard(volume, size, size)


def best_discard(subject):
    """The option with which an implementation discards fastest."""
    return "maxDiscard 32768" if subject == RUST else "maxDiscard 1"


def _timed_discard(volume, size, step):
    with BlockFile(volume.path) as file:
        start = time.monotonic_ns()
        for at in range(0, size // 512, step // 512):
            file.discard(at, step // 512)
        took = time.monotonic_ns() - start
    return took / (size // 4096)


def _file_system(bench, subject):
    """mkfs with discards, files, rm, fstrim; in 10^9 instructions."""
    with fresh(more="maxDiscard 32768" if subject == RUST else "") as volume:
        start = time.monotonic_ns()
        subprocess.run(["mkfs.ext4", "-q", "-E", "lazy_itable_init=0", volume.path], check=True)
        os.makedirs("/tmp/mnt", exist_ok=True)
        subprocess.run(["mount", volume.path, "/tmp/mnt"], check=True)
        try:
            subprocess.run(["dd", f"if={RANDOM}", "of=/tmp/mnt/file", "bs=1M", "count=64",
                            "conv=fsync"], check=True, capture_output=True)
            os.unlink("/tmp/mnt/file")
            subprocess.run(["fstrim", "/tmp/mnt"], check=True)
        finally:
            subprocess.run(["umount", "/tmp/mnt"], check=True)
        return (time.monotonic_ns() - start) / 1e9


@contextmanager
def slow_to_flush():
    """The ramdisk with flushes that take a millisecond."""
    sectors = BLOCKS * 8
    delay = Device("slow", f"0 {sectors} delay {STORAGE} 0 0 {STORAGE} 0 0 {STORAGE} 0 1")
    try:
        yield delay
    finally:
        delay.remove()


def _flushed_writes(value):
    """4 KiB writes with fsync, one at a time, over a storage whose flushes take a millisecond."""
    def measure(bench, subject):
        with slow_to_flush() as slow, fresh(storage=slow.path) as volume:
            before = volume.stats()
            took = load.fio(volume.path, _span(bench), bench.flushes, "randwrite", depth=1,
                            more=["--fsync=1"])
            volume.settle()
            after = volume.stats()
        def grown(*names):
            return sum(int(after[name]) - int(before[name]) for name in names)
        return {
            "instructions": took,
            # C counts the flushes that it passes on for users in a field of their own.
            "flushes": (grown("biosMeta.flush") + (grown("flushOut") if subject == C else
                        grown("biosOut.flush"))) / bench.flushes,
            "writes": grown("biosMeta.write", "biosOut.write") / bench.flushes,
        }[value]
    return measure


def _start(volume):
    """Seconds until the device is there."""
    start = time.monotonic_ns()
    volume.create()
    return (time.monotonic_ns() - start) / 1e9


def _free():
    """MiB that are free, once what was freed has arrived."""
    before = None
    while before != (before := _free_now()):
        time.sleep(0.2)
    return before / 1024


def _free_now():
    with open("/proc/sys/vm/drop_caches", "w") as file:
        file.write("3")
    # What a CPU keeps for itself counts as used in /proc/meminfo.
    with open("/proc/zoneinfo") as file:
        counts = re.findall(r"(?:nr_free_pages|count:) +(\d+)", file.read())
    return sum(map(int, counts)) * 4


class _Stopped(Device):
    """A volume that is there, and not in use."""

    def __init__(self):
        super().__init__("vdo", None)

    def create(self):
        self.load(line())
        self.resume()


def _clean_start(bench, subject):
    with filled(bench):
        pass
    return _start_again()


def _recovery(bench, subject):
    """After a crash with all that was written in the journal."""
    with fresh() as volume:
        load.fio(volume.path, LOGICAL * 512, bench.requests, "randwrite", more=["--norandommap"])
        volume.suspend(noflush=True)
    return _start_again()


def _start_again():
    volume = _Stopped()
    try:
        return _start(volume)
    finally:
        volume.remove()


def _memory(cache, fill=None, **options):
    """MiB that a volume takes, after its start or when `fill` has used it: what comes back when it
    is removed."""
    def measure(bench, subject):
        # The first time the ramdisk itself grows.
        for _ in range(2):
            with fresh(cache=cache, **options) as volume:
                if fill:
                    fill(volume)
                    volume.settle()
                used = _free()
            used = _free() - used
        return used
    return measure


_CACHE = 4096
_LEAVES = _CACHE + 64


def _fill_cache(volume):
    """A block in each leaf page, and more of those than the cache holds."""
    with BlockFile(volume.path) as disk:
        for page in range(_LEAVES):
            disk.write(page * 812 * 8, bytes(range(256)) * 16)


def _await_index(volume):
    volume.waits_for("online")


def _two_writers(bench, path, at):
    """Thousand requests a second, two jobs."""
    half = _span(bench) // 2
    return 1e6 / load.fio(path, half, bench.requests // 8, "randwrite", jobs=2, depth=32, at=at,
                          more=["--norandommap", f"--offset_increment={half}"])


_DATA = "Data"
_LIFE = "Start, memory, flushes"
_SCALING = "Two CPUs"


# In the counted pass, what mappings cost by themselves is shown, too.
_ALL = (BARE, LINEAR, C, RUST)


def _rows():
    def data(key, title, unit, volume, work, at_most=None, **options):
        return Row(f"vdo.{key}", title, unit, _on(volume, work, **options), subjects=_ALL,
                   table=_DATA, goal=above_bare(at_most) if at_most else None)
    yield data("write-1m", "1 MiB writes of new data", _FOUR_KIB, _new, _copy_in, 0.12)
    yield data("overwrite-1m", "1 MiB writes over data", _FOUR_KIB, filled, _copy_in, 0.12)
    yield data("zero-1m", "1 MiB writes of zeroes", _FOUR_KIB, _new, _zero, 0.1)
    yield data("read-1m", "1 MiB reads", _FOUR_KIB, filled, _read, 0.25)
    yield data("randread-4k", "4 KiB random reads, depth 64", _REQUEST, filled, _random_read, 0.25)
    for depth, refill, at_most in ((64, False, 0.25), (64, True, 0.3), (8, False, 0.3),
                                   (8, True, 0.3), (1, False, 0.3)):
        yield data("randwrite-4k" + f".d{depth}" * (depth != 64) + ".refill" * refill,
                   f"4 KiB random writes, depth {depth}" + ", buffers filled anew" * refill,
                   _REQUEST, filled, _random_write(depth, refill), at_most)
    yield data("partial", "512 byte random writes, depth 16", _REQUEST, filled, _partial_write,
               sector_size=512)
    yield Row("vdo.discard", "discard of all data, each with its best maxDiscard", _FOUR_KIB,
              _discard, subjects=(C, RUST), table=_DATA, goal=Goal(RUST, C, at_most=0.03))
    yield Row("vdo.discard-1m", "the same in discards of 1 MiB", _FOUR_KIB, _small_discards,
              subjects=(C, RUST), table=_DATA, goal=Goal(RUST, C, at_most=0.06))
    yield Row("vdo.discard-128m", "discard of 128 MiB in one bio", _FOUR_KIB, _large_discard,
              subjects=(C, RUST), table=_DATA, goal=Goal(C, RUST, at_least=50))
    yield Row("vdo.mkfs-fstrim", "mkfs.ext4, a file of 64 MiB, rm, fstrim", "10^9 instructions",
              _file_system, subjects=(C, RUST), table=_DATA)

    for value, title in (("instructions", "4 KiB write and fsync, flushes of 1 ms"),
                         ("flushes", "flushes of the storage for each"),
                         ("writes", "writes to the storage for each")):
        yield Row(f"vdo.fsync.{value}", title, value if value != "instructions" else _REQUEST,
                  _flushed_writes(value), subjects=(C, RUST), table=_LIFE,
                  goal=Goal(RUST, C, at_most=0.5) if value == "flushes" else None)
    yield Row("vdo.start.clean", "start of a volume that was stopped", "10^9 instructions",
              _clean_start, subjects=(C, RUST), table=_LIFE, goal=Goal(RUST, C, at_most=1))
    yield Row("vdo.start.crashed", "start of a volume that crashed", "10^9 instructions",
              _recovery, subjects=(C, RUST), table=_LIFE, goal=Goal(RUST, C, at_most=1))
    yield Row("vdo.memory.start", "memory of a new volume, page cache of 128 MiB", "MiB",
              _memory(32768), subjects=(C, RUST), table=_LIFE, goal=Goal(RUST, C, at_most=0.4))
    yield Row("vdo.memory.index", "the same with deduplication and compression, index of 0.25 GiB",
              "MiB", _memory(32768, _await_index, deduplication="on", compression="on"),
              subjects=(C, RUST), table=_LIFE, goal=Goal(RUST, C, at_most=0.4))
    yield Row("vdo.memory.small", "without both, with a page cache of 16 MiB", "MiB", _memory(4096),
              subjects=(C, RUST), table=_LIFE)
    yield Row("vdo.memory.full", "and when that page cache is full", "MiB",
              _memory(_CACHE, _fill_cache, sectors=_LEAVES * 812 * 8), subjects=(C, RUST),
              table=_LIFE)

    yield Row("vdo.randwrite-2", "4 KiB random writes, two jobs, depth 32 each", "1000/s",
              _on(filled, _two_writers), TIMED, table=_SCALING, more_is_better=True,
              subjects=_ALL,
              goal=Goal(RUST, C, at_least=2.2))


ROWS = list(_rows())


def prepare(bench):
    """Ramdisks with all the pages that data goes to, and data that is like no other."""
    devices.modprobe("-a", "dm-mod", "dm-delay", "ext4")
    # Another target may have had smaller ones.
    devices.modprobe("-r", "brd")
    devices.modprobe("brd", "rd_nr=4", f"rd_size={(BLOCKS * 4096) >> 10}")
    with open("/dev/urandom", "rb") as source, BlockFile(RANDOM) as disk:
        for at in range(0, _span(bench), MIB):
            disk.write(at // 512, source.read(MIB))
    with area(2 * _span(bench)) as path:
        load.dd_write(path, 2 * _span(bench))
