# SPDX-License-Identifier: GPL-2.0

"""E, BUG: requests that are less than a block, and discards that cover several."""

import os

from errno import EINVAL
from errno import EIO

from lib.blockio import Background
from lib.devices import Layer
from lib.runner import equal
from vdo.blocks import limits
from vdo.data import BLOCK
from vdo.data import ZERO
from vdo.data import compressible
from vdo.data import same
from vdo.data import unique
from vdo.data import uniques
from vdo.rig import SECTORS
from vdo.rig import SMALL
from vdo.rig import Volume
from vdo.rig import fails
from vdo.rig import logging
from vdo.rig import sectors
from vdo.rig import small
from vdo.rig import volume
from vdo.stats import DUPLICATE
from vdo.stats import NEW
from vdo.stats import times
from vdo.suite import IMPL
from vdo.suite import Session
from vdo.suite import case
from vdo.suite import expect

_B = unique(1)
_RMW = {"je": 1, "out_r": 1, "out_w": 1, "ent": 1, "miss": 1}

session = Session("E", lambda: [sectors()])


@session.row("E1", "limits of a volume with sectors of 512 bytes")
def _(box):
    limits(box[0], 512, 4096)


@session.row("E2", "a sector into an unmapped block")
def _(box):
    v = box[0]
    with v.delta(NEW, ovh=4, je=4):
        v.write_at(512, _B[:512])
    v.holds(0, bytes(512) + _B[:512] + bytes(3072))


@session.row("E3", "another sector of that block")
def _(box):
    v = box[0]
    with v.delta(_RMW):
        v.write_at(0, _B[512:1024])
    v.holds(0, _B[512:1024] + _B[:512] + bytes(3072))


@session.row("E4", "a sector read")
def _(box):
    v = box[0]
    with v.delta(out_r=1):
        same(v.read_at(512, 512), _B[:512])


@session.row("E5", "a sector, then zeroes over it")
def _(box):
    v = box[0]
    with v.delta(NEW):
        v.write_at(10 * BLOCK, _B[:512])
    with v.delta(data=-1, je=1, out_r=1):
        v.write_at(10 * BLOCK, bytes(512))
    v.holds(10, ZERO)


@session.row("E6", "4096 bytes across two blocks")
def _(box):
    v = box[0]
    with v.delta(times(2, NEW)):
        v.write_at(20 * BLOCK + 512, _B)
    v.holds(20, bytes(512) + _B + bytes(3584))


@session.row("E7", "8192 bytes across three blocks")
def _(box):
    v = box[0]
    with v.delta(times(3, NEW)):
        v.write_at(30 * BLOCK + 2048, uniques(50, 2))
    v.holds(30, bytes(2048) + uniques(50, 2) + bytes(2048))


@session.row("E8", "a whole block")
def _(box):
    v = box[0]
    with v.delta(NEW):
        v.write(40, unique(40))


@session.row("E9", "discard of one of its sectors")
def _(box):
    v = box[0]
    with v.delta(_RMW, in_d=1, inP_d=1):
        v.discard_at(40 * BLOCK + 512, 512)
    v.holds(40, unique(40)[:512] + bytes(512) + unique(40)[1024:])


@session.row("E10", "discard of a sector of an unmapped block")
def _(box):
    v = box[0]
    with v.delta(lbu=1, je=1, in_d=1, inP_d=1):
        v.discard_at(50 * BLOCK, 512)


@session.row("E11", "the same where the map has no page")
def _(box):
    v = box[0]
    with v.delta(in_d=1, inP_d=1):
        v.discard_at(100000 * BLOCK, 512)


@session.row("E12", "discard of two halves and an unmapped block between")
def _(box):
    v = box[0]
    with v.delta(lbu=1, je=expect(c=3, rust=2), in_d=3, inP_d=2, out_r=1, out_w=1, ent=1, miss=1,
                 pages=IMPL == "c"):
        v.discard_at(40 * BLOCK + 2048, 8192)
    v.holds(40, unique(40)[:512] + bytes(512) + unique(40)[1024:2048] + bytes(2048))


@session.row("E13", "discard of the rest")
def _(box):
    v = box[0]
    with v.delta(data=-1, lbu=-1, je=1, in_d=1):
        v.discard(40)


@session.row("E14", "a sector with FUA, of content that was there once")
def _(box):
    v = box[0]
    with v.delta(DUPLICATE, data=1, off=NEW):
        v.write_at(60 * BLOCK + 512, _B[:512], fua=True)


@session.row("E20", "the same volume with blocks of 4096 bytes")
def _(box):
    before = box[0].read(0, 64)
    box[0] = box[0].again(SECTORS.but(size=4096))
    equal(box[0].queue("logical_block_size"), "4096")
    box[0].holds(0, before)


@case("E21", "a read of 512 bytes where a block has 4096", small)
def _(v):
    with v.delta():
        fails(EINVAL, os.preadv, v.file().fd, [bytearray(512)], 0)


@case("E22", "a discard of 512 bytes where a block has 4096", small)
def _(v):
    with v.delta():
        fails(EINVAL, v.discard_at, 512, 512)


eight = Session("E30-E33", lambda: volume(SMALL.adding("maxDiscard 8")))


@eight.row("E30", "the limit with maxDiscard 8")
def _(v):
    equal(v.queue("discard_max_bytes"), "32768")
    equal(v.queue("discard_max_hw_bytes"), "32768")


@eight.row("E31", "32 blocks are discarded by eights")
def _(v):
    v.write(0, uniques(0, 32))
    with v.delta(data=-32, lbu=-32, je=32, in_d=4):
        v.discard(0, 32)
    v.holds(0, ZERO * 32)


@eight.row("E32", "twelve blocks from a third one on")
def _(v):
    v.write(0, uniques(100, 32))
    with v.delta(data=-12, lbu=-12, je=12, in_d=2):
        v.discard(3, 12)
    v.holds(0, uniques(100, 3) + ZERO * 12 + uniques(115, 17))


@eight.row("E33", "a smaller limit set through sysfs")
def _(v):
    v.set_queue("discard_max_bytes", 8192)
    with v.delta(data=-4, lbu=-4, je=4, in_d=2):
        v.discard(20, 4)


halves = Session("E41", lambda: volume(SECTORS.adding("maxDiscard 8")))


@halves.row("E41", "from half a block to the end of the fourth")
def _(v):
    v.write(0, uniques(0, 8))
    with v.delta(_RMW, data=-3, lbu=-3, je=3, in_d=2, inP_d=1):
        v.discard_at(2048, 4 * BLOCK - 2048)
    v.holds(0, unique(0)[:2048] + bytes(2048) + ZERO * 3 + uniques(4, 4))


@halves.row("E42", "half a block, then its other half with the next one")
def _(v):
    with v.delta(data=-2, lbu=-1, je=3, in_d=3, inP_d=2, out_r=2, out_w=1, ent=1, miss=1):
        v.discard_at(4 * BLOCK, 2048)
        v.discard_at(4 * BLOCK + 2048, 2048 + BLOCK)
    v.holds(4, ZERO * 2 + uniques(6, 2))


_H = unique(7000)[:2048]


def _together(v, *writes):
    """Writes from a thread each."""
    for one in [Background(v.write, lbn, block) for lbn, block in writes]:
        one.result()


def _prepared(*more, noise=(1000, 900)):
    """Compressed fragments, one of which is what is left of LBN 20 without its second half."""
    v = volume(SECTORS.adding("maxDiscard 8 compression on"))
    with v.delta(pages=False, frag=3 + len(more), cblk=1, free={
            "data", "ovh", "lbu", "je", "jb", "out_w", "out_r", "upd", "miss", "ent", "fo",
            "inpk"}):
        writes = [(40, _H + bytes(2048)), (41, compressible(1, noise[0])),
                  (42, compressible(2, noise[1])), *more]
        if IMPL == "c":
            _together(v, *writes)
            v.parked(3 + len(more))
        else:
            # In one request, so that none waits for longer than a fragment does.
            assert [lbn for lbn, _ in writes] == list(range(40, 40 + len(writes)))
            v.write(40, b"".join(block for _, block in writes))
        v.flush()
    v.message("compression off")
    _three(v)
    return v


def _three(v):
    v.write(20, _H + unique(7001)[:2048])
    v.write(21, unique(7002))
    v.write(22, unique(7003))


@case("E43", "a discard of a second half and a block, where the first half is a fragment",
      needs="index packer")
def _():
    v = _prepared((43, compressible(3, 200)), noise=(600, 500))
    with v.delta(data=-2, lbu=-1, je=2, in_d=2, inP_d=1, out_r=2, valid=1, hit=1):
        v.discard_at(20 * BLOCK + 2048, 2048 + BLOCK)
    v.holds(20, _H + bytes(2048) + ZERO)
    v.write(21, unique(7010))
    v.holds(21, unique(7010))


bug = Session("BUG1", lambda: [_prepared()])


def _shifted_discard(v):
    """One discard request from the middle of LBN 20 to the middle of 22."""
    lin = Layer("lin", v.path, 2000000, 4)
    with lin.open() as file:
        file.discard(20 * 8, 16)
    lin.remove(5)


def _second_block(v):
    if expect(c=True, rust=False):
        with logging("read from the block map was invalid", "1485"):
            fails(EIO, v.read, 21)
    else:
        v.holds(21, ZERO)


@bug.row("BUG1", "a shifted discard whose first half deduplicates to a fragment",
         needs="index packer")
def _(box):
    v = box[0]
    # The halves that are cut off stay written.
    with v.delta(in_d=1, inP_d=1, je=3, pages=False, free={
            "data", "lbu", "out_r", "out_w", "valid", "hit", "miss", "ent", "inP_d", "upd"}):
        _shifted_discard(v)
    v.holds(20, _H + bytes(2048))
    v.holds(22, bytes(2048) + unique(7003)[2048:])
    _second_block(v)
    v.write(21, unique(7004))
    v.holds(21, unique(7004))


@bug.row("BUG1b", "and a crash with that in the journal", needs="index packer")
def _(box):
    v = box[0]
    _three(v)
    _shifted_discard(v)
    v.flush()
    v.crash()
    if expect(c=True, rust=False):
        with logging("is not within bounds", "Recovery aborted",
                     "Entering read-only mode due to load error"):
            v = Volume(v.line)
        equal(v.status_now().mode, "read-only")
    else:
        v = v.start()
        equal(v.status_now().mode, "normal")
        v.holds(20, _H + bytes(2048) + ZERO)
