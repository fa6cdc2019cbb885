# SPDX-License-Identifier: GPL-2.0

"""H: no physical space left, on a volume of one slab."""

import os

from errno import EIO
from errno import ENOSPC

from lib.runner import equal
from vdo.data import BLOCK
from vdo.data import ZERO
from vdo.data import unique
from vdo.data import uniques
from vdo.rig import ONE_SLAB
from vdo.rig import fails
from vdo.rig import logging
from vdo.rig import volume
from vdo.stats import OVERWRITE
from vdo.suite import DEDUPE
from vdo.suite import Session

_FULL = "normal - online offline 720213 720213"
# Data blocks that fit beside the map's pages.
_CAPACITY = 7926


def _fill(v):
    """Unique 64 KiB writes until one fails; returns where."""
    for lbn in range(0, 9000, 16):
        try:
            v.write(lbn, uniques(lbn, 16))
        except OSError as error:
            equal(error.errno, ENOSPC)
            return lbn
    raise AssertionError("never full")


session = Session("H", lambda: [volume(ONE_SLAB)])


@session.row("H1", "64 KiB writes until nothing is left")
def _(box):
    v = box[0]
    equal(_fill(v), 7920)
    v.holds(7920, uniques(7920, 6) + ZERO * 10)
    now = v.counters()
    equal((now["data"], now["ovh"], now["lbu"], now["nospc"]), (_CAPACITY, 712287, _CAPACITY, 10))
    v.shows(_FULL)


@session.row("H2", "a write where the map has no page")
def _(box):
    v = box[0]
    with v.delta(nospc=1, pages=False):
        fails(ENOSPC, v.write, 9000, unique(9000))
    v.holds(9000, ZERO)


@session.row("H3", "data that is there already")
def _(box):
    v = box[0]
    if DEDUPE:
        hit = {"qhit": 1}
        with v.delta(data=-1, je=1, out_r=1, valid=1, pages=False, **hit):
            v.write(7900, unique(0))
        v.holds(7900, unique(0))
    else:
        with v.delta(nospc=1, pages=False):
            fails(ENOSPC, v.write, 7900, unique(0))


@session.row("H3b", "data that is there already, where the map has no page", needs="index")
def _(box):
    v = box[0]
    hit = {"qhit": 1}
    with v.delta(ovh=1, lbu=1, je=2, out_r=1, valid=1, pages=False, **hit):
        v.write(200000, unique(0))


@session.row("H4", "zeroes free a block, which one overwrite takes")
def _(box):
    v = box[0]
    with v.delta(data=-1, je=1):
        v.write(5, ZERO)
    with v.delta(OVERWRITE):
        v.write(6, unique(9006))
    v.holds(5, ZERO + unique(9006))


@session.row("H6", "reads and flushes go on")
def _(box):
    v = box[0]
    v.holds(100, unique(100))
    v.flush()


@session.row("H11", "writes through the page cache fail in fsync")
def _(box):
    v = box[0]
    fd = os.open(v.path, os.O_RDWR)
    try:
        equal(os.pwrite(fd, uniques(20000, 64), 8000 * BLOCK), 64 * BLOCK)
        fails(EIO, os.fsync, fd)
    finally:
        os.close(fd)
    equal(v.status_now().mode, "normal")


@session.row("H12", "full across suspend and restart, until something is discarded")
def _(box):
    v = box[0]
    # What was left by the row before.
    for lbn in range(8064, 8119):
        try:
            v.write(lbn, unique(30000 + lbn))
        except OSError as error:
            equal(error.errno, ENOSPC)
            break
    v.shows(_FULL)
    v.suspend()
    v.resume()
    v.becomes("index", "online")
    v.shows(_FULL)
    v = box[0] = v.again()
    v.shows(_FULL)
    fails(ENOSPC, v.write, 8110, unique(8110))
    for lbn in range(10):
        v.discard(lbn)
    v.write(8110, unique(8110))
    # Of the ten one was zeroes, and one is shared where data can be.
    v.counters()
    v.shows(f"normal - online offline {720213 - (8 if DEDUPE else 9) + 1} 720213")


@session.row("H13", "more storage")
def _(box):
    v = box[0]
    for lbn in range(10):
        try:
            v.write(lbn, unique(40000 + lbn))
        except OSError as error:
            equal(error.errno, ENOSPC)
    v.counters()
    v.shows(_FULL)
    line = ONE_SLAB.but(physical=761237)
    with logging("Physical block count was 720213, now 761237"):
        v.load(str(line))
        v.resume()
    equal(v.stats()["allocator.slabCount"], 6)
    v.write(9000, unique(9000))
    v = box[0] = v.again(line)
    v.holds(9000, unique(9000))


def _one_by_one():
    v = volume(ONE_SLAB)
    for lbn in range(0, _CAPACITY - 6, 16):
        v.write(lbn, uniques(lbn, 16))
    for lbn in range(_CAPACITY - 6, _CAPACITY):
        v.write(lbn, unique(lbn))
    fails(ENOSPC, v.write, _CAPACITY, unique(_CAPACITY))
    now = v.counters()
    equal((now["data"], now["nospc"]), (_CAPACITY, 1))
    return v


full = Session("H5", _one_by_one)


@full.row("H5", "an overwrite of one block")
def _(v):
    miss = {"qmiss": 1}
    with v.delta(nospc=1, pages=False, off={"nospc": 1}, **miss):
        fails(ENOSPC, v.write, 7, unique(10333))
    v.holds(7, unique(7))


@full.row("H5a", "an overwrite of 64 KiB")
def _(v):
    fails(ENOSPC, v.write, 32, uniques(11000, 16))
    v.holds(32, uniques(32, 16))


@full.row("H5b", "sixteen identical new blocks in one write")
def _(v):
    fails(ENOSPC, v.write, 7940, unique(12000) * 16)
    v.holds(7940, ZERO * 16)


@full.row("H5c", "one free block is enough for single overwrites")
def _(v):
    def used():
        v.counters()
        return v.status_now().used

    v.write(9, unique(3) if DEDUPE else ZERO)
    equal(used(), 720212)
    v.write(10, unique(10555))
    v.write(10, unique(10556))
    equal(used(), 720212)
    v.write(7931, unique(7931))
    equal(used(), 720213)
    fails(ENOSPC, v.write, 7932, unique(7932))
    v.holds(9, (unique(3) if DEDUPE else ZERO) + unique(10556))


@full.row("H7", "a write with FUA")
def _(v):
    fails(ENOSPC, v.write, 8, unique(10008), fua=True)
    v.holds(8, unique(8))


@full.row("H9", "zeroes, discard and read where the map has no page")
def _(v):
    fails(ENOSPC, v.write, 100000, ZERO)
    v.discard(100000)
    v.holds(100000, ZERO)


@full.row("H10", "discards make room")
def _(v):
    with v.delta(data=-4, lbu=-4, je=4, in_d=4):
        v.discard(20, 4)
    for lbn in range(20, 24):
        v.write(lbn, unique(13000 + lbn))
    for lbn in range(24, 26):
        fails(ENOSPC, v.write, lbn, unique(13000 + lbn))
    v.holds(20, uniques(13020, 4) + uniques(24, 2))
