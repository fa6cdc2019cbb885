# SPDX-License-Identifier: GPL-2.0

"""The rows of the clone target in the native pass; what they stand on is as in clone.py."""

import time

from bench import clone
from bench import inside
from bench import load
from bench.row import BARE
from bench.row import C
from bench.row import LINEAR
from bench.row import NATIVE
from bench.row import RUST
from bench.row import Row
from bench.row import above_bare

MODULE = clone.MODULE

_FOUR_KIB = "µs of CPU per 4 KiB"
_REQUEST = "µs of CPU per request"
_SECONDS = "s of CPU"


def _on_complete(region_size, work):
    def measure(bench, subject):
        if subject in (BARE, LINEAR):
            with clone.below(bench, subject) as path:
                return work(bench, path)
        with clone.complete(bench, region_size) as path:
            return work(bench, path)
    return measure


def _on_unhydrated(region_size, work, expected=None, disk=clone.DEST):
    def measure(bench, subject):
        if subject in (BARE, LINEAR):
            with clone.below(bench, subject, disk) as path:
                return work(bench, path)
        with clone.unhydrated(bench, region_size, expected and expected(bench)) as path:
            return work(bench, path)
    return measure


def _sequential(kind):
    def work(bench, path):
        return inside.sequential(path, kind, bench.span, flush=kind == "write").micros / 256
    return work


def _random(kind, depth=64):
    def work(bench, path):
        return inside.at_random(path, kind, bench.span, 2 * bench.requests, depth=depth).micros
    return work


def _partial_writes(bench, path):
    """4 KiB of each region of 64 KiB."""
    took = inside.order(path, "write", span=bench.span, block=4096, stride=16, depth=16,
                        count=bench.span >> 16)
    return took.micros


def _flushed_writes(bench, path):
    return inside.order(path, "write", span=bench.span, block=4096, stride=61, sync=True,
                        count=bench.flushes).micros


def _load(bench, subject):
    """A device of 2^28 regions that C has formatted, if C is there to do so."""
    if subject == C or not bench.has(C):
        clone.blank(clone.WIDE_META)
        clone.start(bench)
    return clone.start(bench, inside.cpu)


def _copied(bench, subject):
    """Copies all at the default settings; the bare devices: with dd."""
    if subject == BARE:
        load.dd_copy(clone.SOURCE, clone.DEST, bench.span)
        return None
    target = clone.Clone(bench.span // 512, "8")
    while (found := target.hydrated()) and found[0] < found[1]:
        time.sleep(0.01)
    return target


def _hydrate(bench, subject):
    clone.blank(clone.META)
    start = inside.cpu()
    target = _copied(bench, subject)
    took = inside.cpu() - start
    if target:
        target.remove()
    return took * 1e6 / (bench.span // 4096)


_TABLE = "Native: clone, regions of 4 KiB"
_ALL = (BARE, LINEAR, C, RUST)


def _rows():
    def row(key, title, unit, measure, subjects=_ALL, **more):
        return Row(f"native.clone.{key}", title, unit, measure, NATIVE, subjects, _TABLE, **more)
    as_good = above_bare(1)
    yield row("read-1m", "complete: 1 MiB reads", _FOUR_KIB, _on_complete(8, _sequential("read")))
    yield row("write-1m", "complete: 1 MiB writes", _FOUR_KIB,
              _on_complete(8, _sequential("write")))
    yield row("randread-4k", "complete: 4 KiB random reads, depth 64", _REQUEST,
              _on_complete(8, _random("read")), goal=as_good, runs=7)
    yield row("randwrite-4k", "complete: 4 KiB random writes, depth 64", _REQUEST,
              _on_complete(8, _random("write")), goal=as_good, runs=7)
    yield row("fresh.read-1m", "not hydrated: 1 MiB reads", _FOUR_KIB,
              _on_unhydrated(8, _sequential("read"), lambda bench: 0, clone.SOURCE))
    yield row("fresh.write-1m", "not hydrated: 1 MiB writes", _FOUR_KIB,
              _on_unhydrated(8, _sequential("write")))
    yield row("fresh.partial-4k", "not hydrated: 4 KiB write to each region of 64 KiB, depth 16",
              _REQUEST, _on_unhydrated(128, _partial_writes))
    yield row("fresh.fsync", "not hydrated: 4 KiB write and flush, all over", _REQUEST,
              _on_unhydrated(8, _flushed_writes, lambda bench: bench.flushes))
    yield row("hydrate", "copy of all at default settings; bare: dd bs=1M", _FOUR_KIB, _hydrate,
              (BARE, C, RUST))
    yield row("start", "load and resume of 2^28 regions", _SECONDS, _load, (C, RUST), runs=3)


ROWS = list(_rows())


def prepare(bench):
    """As for the other passes, and the module that makes the load."""
    clone.prepare(bench)
    inside.prepare()
