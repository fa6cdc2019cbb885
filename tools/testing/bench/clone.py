# SPDX-License-Identifier: GPL-2.0

"""The rows of the clone target.

Metadata, destination and source are ramdisks, written before anything is measured, so that every
page is there. A complete clone is made by discarding all of it without passing that down; an
unhydrated one has blank metadata and `no_hydration`.
"""

import statistics
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
from lib import devices
from lib.blockio import BlockFile
from lib.dm import Device

MIB = 1 << 20
META, DEST, SOURCE, WIDE_META = map(devices.ramdisk, range(4))
SLOW = "/dev/disk/slow"
MODULE = Module("dm-clone")

_FOUR_KIB = "instructions per 4 KiB"
_REQUEST = "instructions per request"


def blank(path):
    with BlockFile(path) as disk:
        disk.write(0, bytes(4096))


class Clone(Device):
    """A clone over the ramdisks."""

    def __init__(self, length, rest, meta=META, dest=DEST, source=SOURCE, resumed=True):
        self.length = length
        self.line = f"0 {length} clone {meta} {dest} {source} {rest}"
        super().__init__("clone", self.line if resumed else None)

    def hydrated(self, noflush=True):
        """Hydrated regions, and all."""
        words = self.status(noflush)[0].split()
        assert words[2] == "clone" and words[-1] == "rw", words
        return tuple(map(int, words[6].split("/")))

    @property
    def hydrating(self):
        return int(self.status(noflush=True)[0].split()[7])


@contextmanager
def complete(bench, region_size):
    """Every region hydrated and committed."""
    blank(META)
    clone = Clone(bench.span // 512, f"{region_size} 2 no_hydration no_discard_passdown")
    try:
        with BlockFile(clone.path) as file:
            file.discard(0, clone.length)
        hydrated, regions = clone.hydrated(noflush=False)
        assert hydrated == regions, f"{hydrated} of {regions} regions are hydrated"
        yield clone.path
    finally:
        clone.remove()


@contextmanager
def unhydrated(bench, region_size, expected=None, features="2 no_hydration no_discard_passdown"):
    """No region hydrated; afterwards `expected` of them are."""
    blank(META)
    clone = Clone(bench.span // 512, f"{region_size} {features}")
    try:
        yield clone.path
        hydrated, regions = clone.hydrated()
        wanted = regions if expected is None else expected
        assert hydrated == wanted, f"{hydrated} of {regions} regions are hydrated, not {wanted}"
    finally:
        clone.remove()


@contextmanager
def below(bench, subject, disk=DEST):
    """The bare ramdisk, or a linear mapping of it."""
    if subject == BARE:
        yield disk
    else:
        linear = Device("linear", f"0 {bench.span // 512} linear {disk} 0")
        try:
            yield linear.path
        finally:
            linear.remove()


def _on_complete(region_size, work):
    def measure(bench, subject):
        if subject in (BARE, LINEAR):
            with below(bench, subject) as path:
                return work(bench, path)
        with complete(bench, region_size) as path:
            return work(bench, path)
    return measure


def _on_unhydrated(region_size, work, expected=None, disk=DEST):
    def measure(bench, subject):
        if subject in (BARE, LINEAR):
            with below(bench, subject, disk) as path:
                return work(bench, path)
        with unhydrated(bench, region_size, expected and expected(bench)) as path:
            return work(bench, path)
    return measure


def _sequential_read(bench, path):
    return load.dd_read(path, bench.span) / 256


def _sequential_write(bench, path):
    return load.dd_write(path, bench.span) / 256


def _region_write(bench, path):
    return load.dd_write(path, bench.span, 64 << 10) / 16


def _random_read(bench, path):
    return load.fio(path, bench.span, bench.requests, "randread", more=["--norandommap"])


def _random_write(bench, path):
    return load.fio(path, bench.span, bench.requests, "randwrite", more=["--norandommap"])


def _partial_write(bench, path):
    return load.fio(path, bench.span, bench.span >> 16, "write:60k", depth=16)


def _flushed_writes(bench, path):
    return load.fio(path, bench.span, bench.flushes, "randwrite", depth=1, more=["--fsync=1"])


def _discard_all(bench, subject):
    """A discard of everything, nothing passed down."""
    with unhydrated(bench, 8) as path, BlockFile(path) as file:
        start = time.monotonic_ns()
        file.discard(0, bench.span // 512)
        return (time.monotonic_ns() - start) / (bench.span // 4096)


# A device that is all metadata: a source and a destination that take no memory.


@contextmanager
def wide(bench):
    sectors = bench.wide_regions * 8
    source, dest = (Device(name, f"0 {sectors} zero") for name in ("wide-source", "wide-dest"))
    clone = Clone(sectors, "8 1 no_hydration", WIDE_META, dest.path, source.path, resumed=False)
    try:
        yield clone
    finally:
        for device in (clone, dest, source):
            device.remove()


def start(bench, clock=time.monotonic):
    """Seconds to load and resume."""
    with wide(bench) as clone:
        begun = clock()
        clone.load(clone.line)
        clone.resume()
        took = clock() - begun
        assert clone.hydrated()[1] == bench.wide_regions
        return took


def _load_wide(bench, subject):
    """On what C has formatted, if C is there to do so."""
    if subject == C or not bench.has(C):
        blank(WIDE_META)
        start(bench)
    return start(bench)


def _format_wide(bench, subject):
    blank(WIDE_META)
    return start(bench)


# Hydration, by the clock on the wall.


def _hydrate(bench, subject):
    """Seconds until all is copied, at the default settings; for the bare devices: with dd."""
    if subject == BARE:
        return load.dd_copy(SOURCE, DEST, bench.span) / 1e9
    blank(META)
    start = time.monotonic_ns()
    clone = Clone(bench.span // 512, "8")
    try:
        while True:
            hydrated, regions = clone.hydrated()
            if hydrated == regions:
                return (time.monotonic_ns() - start) / 1e9
            assert time.monotonic_ns() - start < 300e9, f"{hydrated} of {regions} after 300 s"
            time.sleep(0.01)
    finally:
        clone.remove()


def _hydrate_from_afar(reader):
    """MiB/s at the default settings from a source that answers after 10 ms."""
    def measure(bench, subject):
        blank(META)
        sectors = bench.span // 512
        far = Device("far", f"0 {sectors} delay {SOURCE} 0 10")
        clone = Clone(sectors, "8", source=far.path)
        try:
            start = time.monotonic()
            while (passed := time.monotonic() - start) < 5:
                hydrated, regions = clone.hydrated()
                if hydrated == regions:
                    break
                if reader:
                    with BlockFile(clone.path, readonly=True) as file:
                        file.read(sectors - 8, 8)
                else:
                    time.sleep(0.02)
            return hydrated * 4096 / MIB / passed
        finally:
            clone.remove()
            far.remove()
    return measure


def _slow_reader(bench, subject):
    """Milliseconds a read of 4 KiB takes that no copy has reached yet, on a source of 32 MiB/s;
    bare: on the source itself, while nobody copies."""
    def latency(path):
        times = []
        with BlockFile(path, readonly=True) as file:
            far = file.sectors * 3 // 4
            limit = time.monotonic() + 4
            while time.monotonic() < limit:
                start = time.monotonic_ns()
                file.read(far + len(times) * 8, 8)
                times.append((time.monotonic_ns() - start) / 1e6)
                time.sleep(0.02)
        return statistics.median(times)
    if subject == BARE:
        return latency(SLOW)
    blank(META)
    with BlockFile(SLOW, readonly=True) as file:
        sectors = file.sectors
    clone = Clone(sectors, "8", source=SLOW)
    try:
        time.sleep(0.5)
        return latency(clone.path)
    finally:
        clone.remove()


def _two_readers(bench, path):
    """Thousand requests a second, two jobs."""
    return 1e6 / load.fio(path, bench.span, bench.requests // 4, "randread", jobs=2,
                          more=["--norandommap"])


_WITH_LINEAR = (BARE, LINEAR, C, RUST)
_COMPLETE = "Through a complete clone"
_FRESH = "On a clone that is not hydrated"
_START = "Start-up"
_HYDRATION = "Hydration and scaling, two CPUs"


def _rows():
    for size, name in ((8, "4k"), (128, "64k")):
        title = f"{name[:-1]} KiB regions"
        yield Row(f"clone.complete.{name}.read-1m", f"1 MiB reads, {title}", _FOUR_KIB,
                  _on_complete(size, _sequential_read), subjects=_WITH_LINEAR, table=_COMPLETE,
                  goal=Goal(RUST, BARE, at_most=1.1))
        yield Row(f"clone.complete.{name}.write-1m", f"1 MiB writes, {title}", _FOUR_KIB,
                  _on_complete(size, _sequential_write), subjects=_WITH_LINEAR, table=_COMPLETE)
        yield Row(f"clone.complete.{name}.randread-4k", f"4 KiB random reads, depth 64, {title}",
                  _REQUEST, _on_complete(size, _random_read), subjects=_WITH_LINEAR,
                  table=_COMPLETE)
        yield Row(f"clone.complete.{name}.randwrite-4k", f"4 KiB random writes, depth 64, {title}",
                  _REQUEST, _on_complete(size, _random_write), subjects=_WITH_LINEAR,
                  table=_COMPLETE)
    yield Row("clone.complete.4k.fsync", "4 KiB write and fsync", _REQUEST,
              _on_complete(8, _flushed_writes), subjects=_WITH_LINEAR, table=_COMPLETE)

    yield Row("clone.fresh.4k.read-1m", "1 MiB reads, 4 KiB regions", _FOUR_KIB,
              _on_unhydrated(8, _sequential_read, lambda bench: 0, SOURCE),
              subjects=_WITH_LINEAR, table=_FRESH)
    yield Row("clone.fresh.4k.write-1m", "1 MiB writes of whole 4 KiB regions", _FOUR_KIB,
              _on_unhydrated(8, _sequential_write), table=_FRESH)
    yield Row("clone.fresh.64k.write-64k", "64 KiB writes of whole 64 KiB regions", _FOUR_KIB,
              _on_unhydrated(128, _region_write), table=_FRESH)
    yield Row("clone.fresh.64k.partial-4k", "4 KiB write to each 64 KiB region, depth 16",
              _REQUEST, _on_unhydrated(128, _partial_write), table=_FRESH)
    yield Row("clone.fresh.4k.fsync", "4 KiB write of a whole region and fsync", _REQUEST,
              _on_unhydrated(8, _flushed_writes, lambda bench: bench.flushes), table=_FRESH)
    yield Row("clone.fresh.4k.discard", "discard of everything, 4 KiB regions",
              "instructions per region", _discard_all, subjects=(C, RUST), table=_FRESH)

    yield Row("clone.start.load", "load and resume", "10^9 instructions", _load_wide,
              subjects=(C, RUST), table=_START, goal=Goal(C, RUST, at_least=20))
    yield Row("clone.start.format", "the same with a format", "10^9 instructions", _format_wide,
              subjects=(C, RUST), table=_START)

    yield Row("clone.hydrate.local", "copy all, default settings; bare: dd bs=1M, direct", "s",
              _hydrate, TIMED, table=_HYDRATION, goal=Goal(C, RUST, at_least=4))
    yield Row("clone.hydrate.far", "copy from a source 10 ms away, default settings", "MiB/s",
              _hydrate_from_afar(False), TIMED, subjects=(C, RUST), table=_HYDRATION, runs=3,
              more_is_better=True)
    yield Row("clone.hydrate.far-read", "the same, with one reader of 4 KiB at a time", "MiB/s",
              _hydrate_from_afar(True), TIMED, subjects=(C, RUST), table=_HYDRATION, runs=3,
              more_is_better=True)
    yield Row("clone.hydrate.slow-read", "a read beside it, source of 32 MiB/s; bare: nobody copies",
              "ms", _slow_reader, TIMED, table=_HYDRATION, runs=3)
    yield Row("clone.complete.4k.randread-2", "complete: 4 KiB random reads, two jobs, depth 64",
              "1000/s", _on_complete(8, _two_readers), TIMED, subjects=_WITH_LINEAR,
              table=_HYDRATION, more_is_better=True)


ROWS = list(_rows())


def prepare(bench):
    """Ramdisks with all their pages."""
    devices.modprobe("-a", "dm-mod", "dm-zero", "dm-delay")
    devices.modprobe("brd", "rd_nr=4", f"rd_size={max(bench.span, 1 << 30) >> 10}")
    for disk in (DEST, SOURCE):
        load.dd_write(disk, bench.span)
