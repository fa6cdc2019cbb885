# SPDX-License-Identifier: GPL-2.0

"""K, Y2: deduplication."""

import time

from errno import ENOSPC

from lib.devices import until
from lib.runner import equal
from vdo.data import compressible
from vdo.data import unique
from vdo.data import uniques
from vdo.rig import MEDIUM
from vdo.rig import ONE_SLAB
from vdo.rig import SUPER
from vdo.rig import Below
from vdo.rig import volume
from vdo.stats import DUPLICATE
from vdo.stats import NEW
from vdo.stats import STALE
from vdo.suite import Session
from vdo.suite import case
from vdo.suite import expect

_A, _B, _C, _D, _X = map(unique, range(100001, 100006))
_TIMED = {"valid", "match", "hit", "out_r"}


def _shared(v, count, lbu, do, **listed):
    """What is done stores nothing for `count` requests; how it was found depends on timing."""
    with v.delta(lbu=lbu, free=_TIMED, **listed) as seen:
        do()
    equal(seen["valid"] + seen["match"], count, "valid + match")
    equal((seen["hit"], seen["out_r"]), (seen["valid"], seen["valid"]), "hit, out_r")


session = Session("K1", lambda: [volume(MEDIUM)])


@session.row("K1a", "254 copies of a block", needs="index")
def _(box):
    v = box[0]
    _shared(v, 253, 254, lambda: v.write_each(0, [_A] * 254), data=1, ovh=4, je=258, out_w=1,
            ent=1, miss=1)


@session.row("K1b", "one more than a block's count can be", needs="index")
def _(box):
    v = box[0]
    with v.delta(dict(STALE, out_r=0)):
        v.write(254, _A)


@session.row("K1c", "600 copies", needs="index")
def _(box):
    v = box[0]
    with v.delta(data=1, lbu=345, je=345, out_w=1, upd=1, free=_TIMED | {"stale"}) as seen:
        v.write_each(255, [_A] * 345)
    assert 344 <= seen["valid"] + seen["match"] <= 345, seen
    v.holds(0, _A * 600)


@session.row("K1d", "ten discarded, three written", needs="index")
def _(box):
    v = box[0]

    def do():
        for lbn in range(10):
            v.discard(lbn)
        v.write_each(700, [_A] * 3)

    _shared(v, 3, -7, do, je=13, in_d=10)


@session.row("K2", "sixteen copies in one request", needs="index")
def _(box):
    v = box[0]
    with v.delta(data=1, ovh=4, lbu=16, je=20, out_w=1, ent=1, miss=1,
                 free={"match", "hit", "valid", "out_r"}) as seen:
        v.write(1000, _B * 16)
    # Who comes when the first is done asks the index.
    equal(seen["match"] + seen["valid"], 15)
    v.holds(1000, _B * 16)


@session.row("K3", "three hundred copies in one request", needs="index")
def _(box):
    v = box[0]
    with v.delta(data=2, ovh=4, lbu=300, je=304, out_w=2, ent=1, miss=1,
                 free={"match", "hit", "valid", "upd", "stale", "out_r"}) as seen:
        if expect(c=True, rust=False):
            v.write(2000, _C * 300)
        else:
            # It would come as several bios. None of these is cut where device-mapper cuts.
            for lbn in range(2000, 2300, 12):
                v.write(lbn, _C * 12)
                v.flush()
    assert 290 < seen["match"] + seen["valid"] < 300, seen
    v.holds(2000, _C * 300)


@session.row("K4", "a freed block is found again", needs="index")
def _(box):
    v = box[0]
    v.write(5000, _D)
    v.discard(5000)
    with v.delta(DUPLICATE, data=1):
        v.write(5001, _D)
    v.holds(5001, _D)


@case("K5", "a freed block that holds something else by now", lambda: [volume(ONE_SLAB)],
      needs="index")
def _(box):
    v = box[0]
    v.write(0, _X)
    v.discard(0)
    lbn = 16
    try:
        while True:
            v.write(lbn, uniques(lbn, 16))
            lbn += 16
    except OSError as error:
        equal(error.errno, ENOSPC)
    v.discard(16, 64)
    with v.delta(STALE):
        v.write(0, _X)
    v.holds(0, _X)
    with v.delta(DUPLICATE):
        v.write(1, _X)


off = Session("K6", lambda: volume(MEDIUM.adding("deduplication off")))


@off.row("K6", "deduplication off")
def _(v):
    equal(v.status_now().index, "closed")
    with v.delta(data=2, ovh=4, lbu=2, je=6, out_w=2):
        v.write(0, _A)
        v.counters()
        v.write(1, _A)


@off.row("K6b", "and copies in one request")
def _(v):
    if expect(c=True, rust=False):
        # Grouping is no deduplication by the index, and counted all the same. How many meet is a
        # matter of how fast they go.
        with v.delta(lbu=16, je=16, free={"match", "data", "out_w"}) as seen:
            v.write(16, _B * 16)
        equal((seen["data"] + seen["match"], seen["out_w"]), (16, seen["data"]))
    else:
        with v.delta(data=16, lbu=16, je=16, out_w=16):
            v.write(16, _B * 16)
    v.holds(16, _B * 16)


states = Session("K7", lambda: volume(MEDIUM))


@states.row("K7", "a write while the index is disabled", needs="index")
def _(v):
    v.write(0, _A)
    v.message("index-disable")
    v.becomes("index", "offline")
    with v.delta(data=1, lbu=1, je=1, out_w=1):
        v.write(1, _A)


@states.row("K7b", "enabled again", needs="index")
def _(v):
    v.message("index-enable")
    v.becomes("index", "online")
    with v.delta(DUPLICATE):
        v.write(2, _A)


@states.row("K7c", "closed", needs="index")
def _(v):
    v.message("index-close")
    v.becomes("index", "closed")
    with v.delta(data=1, lbu=1, je=1, out_w=1):
        v.write(3, _A)


@states.row("K7d", "a new one", needs="index")
def _(v):
    v.message("index-create")
    v.becomes("index", "online")
    with v.delta(NEW):
        v.write(4, _A)
    v.holds(0, _A * 5)


packed = Session("K9", lambda: volume(MEDIUM.adding("compression on")))


@packed.row("K9", "240 copies of a fragment", needs="index packer")
def _(v):
    v.pack(0, [compressible(900 + at, 64) for at in range(14)])
    _shared(v, 240, 240, lambda: v.write_each(100, [compressible(900, 64)] * 240), je=240)


@packed.row("K9b", "more than a block's count can be", needs="index packer")
def _(v):
    for lbn, key in ((400, 900), (401, 901)):
        stored = expect(c=dict(inpk=1), rust=dict(lbu=1, je=1, out_w=1))
        with v.delta(data=1, stale=1, hit=1, **stored, pages=False, free={"out_r"}):
            v.write(lbn, compressible(key, 64))
    v.flush()
    v.holds(400, compressible(900, 64) + compressible(901, 64))


@case("Y2", "an index that does not answer", lambda: Below(fill=0), needs="index", long=True)
def _(b):
    # So much that the record is in a chapter on the disk.
    v = b.v
    v.write_each(0, map(unique, range(64)))
    for lbn in range(76800, 76800 + 300 * 256, 256):
        v.write(lbn, uniques(lbn, 256))
    b.v = v = v.again()
    block = unique(76805)
    v.holds(76805, block)
    v.counters()
    b.pieces("delay", (1, SUPER))
    before = v.stats()["dedupeAdviceTimeouts"]
    v.write(5, block)
    until(lambda: v.stats()["dedupeAdviceTimeouts"] == before + 1, "the time-out", 20)
    equal(v.stats()["hashLock.currDedupeQueries"], 1)
    v.holds(5, block)
    b.layer.restore()
    time.sleep(0.5)
    equal(v.stats()["hashLock.currDedupeQueries"], 0)
