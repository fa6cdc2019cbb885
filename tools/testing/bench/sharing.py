# SPDX-License-Identifier: GPL-2.0

"""The rows of vdo with deduplication, and with compression as well, in the native and the counted pass.

The load comes from inside the kernel in both, and says what the pages hold: see kernel/dmox_load.c.
"Known" data is data that lies elsewhere on the volume since long. Pages compress to so many bytes and a
little, or, of noise only, not at all.
"""

from contextlib import contextmanager

from bench import inside
from bench import vdo
from bench.row import BARE
from bench.row import C
from bench.row import COUNTED
from bench.row import NATIVE
from bench.row import RUST
from bench.row import Row
from bench.row import above_bare
from lib import devices

MODULE = vdo.MODULE

# The first noise of a page is enough to be different.
_UNLIKE = 8
# Four of these share a block.
_COMPRESSIBLE = 900


def _span(bench):
    return bench.span // 4


@contextmanager
def _volume(**options):
    """A new volume whose index is there."""
    with vdo.fresh(deduplication="on", **options) as volume:
        volume.waits_for("online")
        yield volume


def _fill(bench, path, at, **content):
    """Data of seed 1, and behind it of seed 2."""
    for seed in (1, 2):
        inside.sequential(path, "write", _span(bench), offset=at + (seed - 1) * _span(bench),
                          seed=seed, flush=True, **content)


def _measure(work, filled, compression, content):
    """`work` writes to a path from a byte on, or reads; `content` is of what it writes."""
    def measure(bench, subject):
        if subject == BARE:
            return work(bench, vdo.STORAGE, vdo.FIRST_DATA * 4096, content)
        with _volume(compression=compression) as volume:
            if filled:
                _fill(bench, volume.path, 0, **content)
                volume.settle()
            return work(bench, volume.path, 0, content)
    return measure


def _sequential(kind="write", behind=0, **more):
    """1 MiB at a time, `behind` so many spans of data."""
    def work(bench, path, at, content):
        words = _placed(bench, at, more)
        # Of the host, or in thousands of instructions, of which one is a nanosecond.
        took = inside.sequential(path, kind, _span(bench), offset=at + behind * _span(bench),
                                 flush=kind == "write", **content, **words)
        return took.micros / 256
    return work


def _random(kind="write", behind=0, **more):
    """4 KiB at a time."""
    def work(bench, path, at, content):
        words = _placed(bench, at, more)
        took = inside.at_random(path, kind, _span(bench), bench.requests // 2,
                                offset=at + behind * _span(bench), flush=kind == "write",
                                **content, **words)
        return took.micros
    return work


def _placed(bench, at, more):
    """With the place of what is known in bytes."""
    words = {"seed": 3, **more}
    if "like" in words:
        words["like_offset"] = at + (words["like_seed"] - 1) * _span(bench)
    return words


def _known(percent, seed=1):
    return {"like": percent, "like_seed": seed}


_UNIQUE = {"noise": _UNLIKE}
_PACKS = {"noise": _COMPRESSIBLE}
_NOISE = {"refill": 1}

# Key, title, work, is the volume filled, content, goal.
_DEDUPE = (
    ("write-1m", "1 MiB writes of new data", _sequential(), False, _UNIQUE, 0.45),
    ("known-1m", "1 MiB writes of known data", _sequential(behind=2, **_known(100)), True, _UNIQUE,
     0.4),
    ("half-1m", "1 MiB writes, half of it known", _sequential(behind=2, **_known(50)), True,
     _UNIQUE, None),
    ("within-1m", "1 MiB writes, each four pages alike", _sequential(alike=4), False, _UNIQUE, None),
    ("overwrite-1m", "1 MiB writes of known data over other", _sequential(**_known(100, 2)), True,
     _UNIQUE, 0.4),
    ("randwrite-4k", "4 KiB random writes of new data, depth 64", _random(behind=2, anew=1), True,
     _UNIQUE, 0.4),
    ("randknown-4k", "4 KiB random writes of known data, depth 64",
     _random(behind=2, **_known(100)), True, _UNIQUE, None),
    ("read-1m", "1 MiB reads", _sequential("read"), True, _UNIQUE, None),
)
_COMPRESS = (
    ("write-1m", "1 MiB writes of compressible data", _sequential(), False, _PACKS, 0.5),
    ("noise-1m", "1 MiB writes of incompressible data", _sequential(), False, _NOISE, 0.4),
    ("known-1m", "1 MiB writes of known compressible data",
     _sequential(behind=2, **_known(100)), True, _PACKS, None),
    ("randread-4k", "4 KiB random reads of compressed data, depth 64", _random("read"), True,
     _PACKS, 0.6),
    ("randwrite-4k", "4 KiB random writes of compressible data, depth 64", _random(behind=2, anew=1),
     True, _PACKS, 0.45),
    ("randnoise-4k", "4 KiB random writes of incompressible data, depth 64", _random(behind=2, anew=1),
     True, _NOISE, None),
)


def _rows(run_in, prefix, name):
    for group, title, rows, compression in (("dedupe", "deduplication", _DEDUPE, "off"),
                                            ("both", "deduplication and compression", _COMPRESS,
                                             "on")):
        for key, text, work, filled, content, goal in rows:
            unit = "per request" if key.endswith("4k") else "per 4 KiB"
            yield Row(f"{prefix}.{group}.{key}", text,
                      f"{'µs of CPU' if run_in == NATIVE else '1000 instructions'} {unit}",
                      _measure(work, filled, compression, content), run_in, (BARE, C, RUST),
                      f"{name}: vdo, {title}", goal=above_bare(goal) if goal else None, runs=3)


ROWS = [*_rows(NATIVE, "native.vdo", "Native"), *_rows(COUNTED, "vdo", "Counted")]


def prepare(bench):
    """Ramdisks with all the pages that data goes to, and the module that makes the load."""
    devices.modprobe("-a", "dm-mod", "dm-delay")
    # Another target may have had smaller ones.
    devices.modprobe("-r", "brd")
    devices.modprobe("brd", "rd_nr=1", f"rd_size={(vdo.BLOCKS * 4096) >> 10}")
    inside.prepare()
    inside.sequential(vdo.STORAGE, "write", 4 * _span(bench), offset=vdo.FIRST_DATA * 4096)
