# SPDX-License-Identifier: GPL-2.0

"""N: what the suites of dmtest-python and lvm2 do with deduplication."""

from errno import ENOSPC

from lib.blockio import Background
from lib.runner import equal
from vdo.data import ZERO
from vdo.data import uniques
from vdo.recovery import Recovering
from vdo.rig import LARGE
from vdo.rig import MEDIUM
from vdo.rig import ONE_SLAB
from vdo.rig import RAM0
from vdo.rig import Volume
from vdo.rig import dmox
from vdo.rig import fails
from vdo.rig import volume
from vdo.suite import Session
from vdo.suite import case

_COUNT = 4096           # blocks of a set of data
_REQUEST = 64
_A, _B, _C = (at << 20 for at in range(1, 4))
_ONLINE_SECONDS = 30    # as long as lvm2's scripts wait


def _write(v, lbn, key, count=_COUNT):
    """A set of data."""
    for at in range(0, count, _REQUEST):
        v.write(lbn + at, uniques(key + at, min(_REQUEST, count - at)))
    v.flush()


def _holds(v, lbn, key, count=_COUNT):
    for at in range(0, count, _REQUEST):
        v.holds(lbn + at, uniques(key + at, min(_REQUEST, count - at)))


def _adds(v, do, **wanted):
    """What is done adds this to the counters, whatever else it adds."""
    before = v.counters()
    do()
    after = v.counters()
    equal({name: after[name] - before[name] for name in wanted}, wanted)


def _stored(v, lbn, key):
    _adds(v, lambda: _write(v, lbn, key), data=_COUNT, lbu=_COUNT, valid=0, stale=0, match=0)


def _found(v, lbn, key, lbu=_COUNT):
    """Nothing is written, and each block's advice is right."""
    _adds(v, lambda: _write(v, lbn, key), data=0, lbu=lbu, out_w=0, valid=_COUNT, stale=0, match=0)


def _sound(v):
    v.remove(5)
    dmox("check", "--deep", "--quiet", RAM0)


offset = Session("N1", lambda: [volume(MEDIUM)])


@offset.row("N1", "the same data elsewhere", needs="index")
def _(box):
    v = box[0]
    _stored(v, 0, _A)
    _found(v, 10000, _A)
    _holds(v, 0, _A)
    _holds(v, 10000, _A)


@offset.row("N1b", "and again after a restart", needs="index")
def _(box):
    v = box[0] = box[0].again()
    _found(v, 20003, _A)
    for lbn in (0, 10000, 20003):
        _holds(v, lbn, _A)


@offset.row("N1c", "the first copies go, what they shared stays and is found", needs="index")
def _(box):
    v = box[0]

    def discard():
        for lbn in (0, 10000):
            v.discard(lbn, _COUNT)

    _adds(v, discard, data=0, lbu=-2 * _COUNT)
    v = box[0] = v.again()
    _found(v, 30000, _A)
    v.holds(0, ZERO * 16)
    _holds(v, 20003, _A)
    _holds(v, 30000, _A)
    _sound(v)


overwritten = Session("N2", lambda: volume(MEDIUM))


@overwritten.row("N2", "data over the same data", needs="index")
def _(v):
    _stored(v, 0, _A)
    _found(v, 0, _A, lbu=0)
    _holds(v, 0, _A)


@overwritten.row("N2b", "other data over it, whose old blocks are free then", needs="index")
def _(v):
    _adds(v, lambda: _write(v, 0, _B), data=0, lbu=0, valid=0, stale=0, out_w=_COUNT)
    _holds(v, 0, _B)


@overwritten.row("N2c", "data that is on the volume over other data", needs="index")
def _(v):
    _write(v, 10000, _C)
    _adds(v, lambda: _write(v, 10000, _B), data=-_COUNT, lbu=0, valid=_COUNT, stale=0, out_w=0)
    _holds(v, 0, _B)
    _holds(v, 10000, _B)


@overwritten.row("N2d", "one of two that share is overwritten", needs="index")
def _(v):
    _adds(v, lambda: _write(v, 0, _C + _COUNT), data=_COUNT, lbu=0, valid=0, out_w=_COUNT)
    _holds(v, 0, _C + _COUNT)
    _holds(v, 10000, _B)
    _sound(v)


def _fill(v, lbn, key):
    """Data that is nowhere, until nothing is left; returns how many blocks were taken. (Of a request
    that fails, some may be written: the last ones go one by one.)"""
    count = 0
    for size in (16, 1):
        while True:
            try:
                v.write(lbn + count, uniques(key + count, size))
            except OSError as error:
                equal(error.errno, ENOSPC)
                break
            count += size
    v.flush()
    return count


@case("N3", "full, then less, then full again", lambda: volume(ONE_SLAB), needs="index")
def _(v):
    count = _fill(v, 0, _A)
    assert count > 7000, count
    equal(v.status_now().used, v.status_now().total)
    _holds(v, 0, _A, count)
    # What is there already needs no room.
    v.write(100, uniques(_A, 16))
    v.flush()
    v = v.again()
    _holds(v, 0, _A, 100)
    v.holds(100, uniques(_A, 16))
    _holds(v, 116, _A + 116, count - 116)
    # The sixteen blocks that nobody uses any more take others.
    used = v.counters()["data"]
    v.discard(1000, 512)
    equal(v.counters()["data"], used - 512)
    _write(v, 1000, _B, 512)
    equal(_fill(v, count, _C), 16)
    equal((v.status_now().mode, v.status_now().used), ("normal", v.status_now().total))
    v = v.crashed()
    v.becomes("mode", "normal")
    _holds(v, 1000, _B, 512)
    _holds(v, 1512, _A + 1512, count - 1512)
    _holds(v, count, _C, 16)
    fails(ENOSPC, v.write, count + 16, uniques(_C + 16, 1))
    _sound(v)


@case("N4", "a crash while it recovers, of data that is shared",
      lambda: Recovering(LARGE.but(length=16777216)), needs="index")
def _(s):
    copies = 200000
    s.v.write(copies, uniques(2000, 256))
    s.v.flush()
    s.crash(0, 1)
    # Written while it recovers: what is known, what is new, and over what is shared.
    v = s.v
    v.write(copies + 1000, uniques(_A, 256))
    v.write(copies, uniques(_A, 16))
    v.write(2100, uniques(_B, 16))
    v.flush()
    # What is held would keep the suspend of a crash waiting.
    one = Background(v.crash)
    while not one.ended(0.2):
        s.b.layer.step()
    one.result()
    s.b.layer.restore()
    v = s.b.v = Volume(v.line).ready()
    v.becomes("mode", "normal")

    def holds():
        v.holds(copies, uniques(_A, 16) + uniques(2016, 240))
        v.holds(copies + 1000, uniques(_A, 256))
        v.holds(2000, uniques(2000, 100) + uniques(_B, 16) + uniques(2116, 140))

    holds()
    s.sample(0, 2000)
    # What is read for a comparison can be shared again.
    v.write(copies + 2000, uniques(_A, 256))
    v.flush()
    v = s.b.v = v.crashed()
    v.becomes("mode", "normal")
    holds()
    v.holds(copies + 2000, uniques(_A, 256))
    v.remove(5)
    dmox("check", "--deep", "--quiet", s.b.layer.path)


online = Session("N5", lambda: [volume(MEDIUM)])


def _online(v):
    v.becomes("index", "online", _ONLINE_SECONDS)


@online.row("N5", "online within 30 s: switched on by message", needs="index")
def _(box):
    v = box[0]
    _write(v, 0, _A)
    for off, state in (("index-disable", "offline"), ("index-close", "closed")):
        v.message(off)
        v.becomes("index", state)
        v.message("index-enable")
        _online(v)
    _found(v, 10000, _A)


@online.row("N5b", "by a table", needs="index")
def _(box):
    v = box[0]
    plain = str(v.line.adding("deduplication off"))
    for table, wanted in ((plain, "closed"), (str(v.line), "online")):
        v.load(table)
        v.resume()
        v.becomes("index", wanted, _ONLINE_SECONDS)
    _found(v, 20000, _A)


@online.row("N5c", "after a restart, and after a crash", needs="index")
def _(box):
    v = box[0]
    v.remove(5)
    v = Volume(v.line, leaves=v.leaves)
    _online(v)
    _found(v, 30000, _A)
    v.crash()
    v = Volume(v.line, leaves=v.leaves)
    _online(v)
    v.becomes("mode", "normal")
    _holds(v, 30000, _A)
    _sound(v)
