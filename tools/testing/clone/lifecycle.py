# SPDX-License-Identifier: GPL-2.0

"""Cases 87-100: suspend, resume, reload, images made elsewhere, sizes, limits."""

import lzma
import os
import re

from errno import EINVAL
from errno import EOPNOTSUPP

from clone.rig import IDLE
from clone.rig import Rig
from clone.rig import SECTORS
from clone.rig import commit
from clone.rig import fails
from clone.rig import holds
from clone.rig import source
from clone.rig import user
from clone.suite import case
from clone.suite import expect
from lib import dm
from lib.blockio import Background
from lib.devices import Layer
from lib.devices import remove_all
from lib.devices import until
from lib.runner import equal

IMAGES = os.path.join(os.path.dirname(__file__), "../vectors/persistent-data")


@case(87, "suspend and remove wait for the running copy")
def _():
    for action in ("suspend", "remove"):
        rig = Rig(fill=False)
        rig.src.hold(reads=True)
        clone = rig.create("8 0 2 hydration_threshold 1")
        until(lambda: rig.src.held.reads == 1, "the copy")
        doing = Background(getattr(clone, action))
        assert not doing.ended(1), f"{action} did not wait"
        rig.src.restore()
        doing.result()
        assert rig.on_disk().bits & 1
        remove_all()


@case(88, "messages to a suspended device")
def _():
    rig = Rig(fill=False)
    clone = rig.create()
    clone.suspend()
    clone.message("hydration_threshold 64")
    clone.message("enable_hydration")
    state = clone.state()
    equal((state.hydrated, state.features, state.threshold), (0, (), 64))
    clone.resume()
    clone.finish()


@case(89, "a reload with other parameters")
def _():
    rig = Rig()
    clone = rig.create()
    with clone.open() as file:
        file.write(80, user(80, 16))
    rest = "8 0 4 hydration_threshold 7 hydration_batch_size 3"
    rig.src.hold(reads=True)
    clone.suspend()
    clone.load(rig.table(rest))
    clone.resume()
    state = clone.state()
    equal((state.threshold, state.batch, state.features, state.hydrated), (7, 3, (), 2))
    equal(clone.table(), [rig.table(rest)])
    clone.message("disable_hydration")
    rig.src.restore()
    holds(clone, 72, source(72, 8) + user(80, 16))


@case(90, "a reload that does not fit the metadata")
def _():
    rig = Rig(dest=SECTORS + 8, src=SECTORS + 8)
    clone = rig.create()
    with clone.open() as file:
        file.write(80, user(80, 8))
    clone.suspend()
    fails(EINVAL, clone.load, rig.table(length=SECTORS + 8))
    fails(EINVAL, clone.load, rig.table("16 1 no_hydration"))
    clone.resume()
    equal((clone.state().hydrated, clone.mode), (1, "rw"))
    commit(clone)
    holds(clone, 80, user(80, 8))


@case(91, "a reload that is cleared")
def _():
    rig = Rig()
    clone = rig.create()
    clone.suspend()
    clone.load(rig.table("8 0"))
    clone.clear()
    clone.resume()
    with clone.open() as file:
        file.write(80, user(80, 8))
        file.flush()
    equal((clone.state().hydrated, clone.mode), (1, "rw"))
    equal(clone.table(), [rig.table()])
    holds(clone, 72, source(72, 8) + user(80, 8))


@case(92, "a reload of a live device: load, write, fsync, resume",
      differs="the new data, also after remove and create")
def _():
    rig = Rig()
    clone = rig.create()
    with clone.open() as file:
        file.write(800, user(800, 8))
        file.flush()
        clone.load(rig.table())
        file.write(16, user(16, 8))
        file.flush()
        clone.resume()
        wanted = expect(c=source(16, 8), rust=user(16, 8))
        holds(clone, 16, wanted)
        # The new table's first commit makes C's loss permanent.
        file.write(1600, user(1600, 8))
        file.flush()
    for _ in range(2):
        holds(clone, 16, wanted)
        holds(clone, 800, user(800, 8))
        equal(clone.state().hydrated, expect(c=2, rust=3))
        clone.remove()
        clone = rig.create()


@case(93, "a finished clone replaced by a linear device")
def _():
    rig = Rig()
    clone = rig.create("8 0 4 hydration_threshold 256 hydration_batch_size 64")
    with clone.open() as file:
        file.write(1001, user(1001, 30))
    clone.finish()
    clone.suspend()
    clone.load(f"0 {SECTORS} linear {rig.dest.number} 0")
    clone.resume()
    holds(clone, 0, source(0, 1001) + user(1001, 30) + source(1031, SECTORS - 1031))


_FIELD = re.compile(r"(\w+): (.*)")


def _image(rig, name):
    """Put an image onto the metadata device; returns it and what its text file says."""
    data = lzma.open(f"{IMAGES}/{name}.img.xz").read()
    with open(f"{IMAGES}/{name}.txt") as file:
        fields = dict(match.groups() for line in file if (match := _FIELD.match(line.rstrip())))
    rig.meta.resize(len(data) // 512)
    with rig.meta.open() as meta:
        meta.write(0, data)
    return data, fields


def _opens(name):
    """An image opens with the stated status; opening and removing leaves it as it was."""
    rig = Rig(meta=133120, dest=72000000, src=72000000, fill=False)
    data, fields = _image(rig, name)
    clone = rig.create(f"{fields['region_size_sectors']} 1 no_hydration",
                       int(fields["target_size_sectors"]))
    equal(clone.status()[0].split()[4:7], fields["status"].split()[4:7], name)
    clone.remove()
    with rig.meta.open() as meta:
        assert meta.read(0, len(data) // 512) == data, f"{name} changed"
    remove_all()


@case(95, "an image with an unfinished commit")
def _():
    _opens("torn-r8")


@case(96, "images of another kernel")
def _():
    for name in ("fresh-r8", "partial-r8-odd", "complete-r8", "discards-r16", "partial-r2048",
                 "twolevel-r8", "twobitmaps-r8", "wrapped-r8", "crash-r8"):
        _opens(name)


@case(97, "300 commits on 20 blocks: the space map wraps")
def _():
    length = 560000
    rig = Rig(meta=160, dest=length, src=length, fill=False)
    clone = rig.create(IDLE, length)
    with clone.open() as file:
        for at in range(300):
            file.write(at * 1856, user(at * 1856, 8))
            file.flush()
    equal(clone.state().hydrated, 300)
    equal(rig.on_disk().bits, sum(1 << at * 232 for at in range(300)))


@case(98, "9,000,000 regions: a bitset of two levels")
def _():
    length = 71999997
    rig = Rig(dest=length, src=length, fill=False)
    clone = rig.create("8 2 no_hydration no_discard_passdown", length)
    equal((clone.state().used, clone.state().blocks), (284, 4096))
    with clone.open() as file:
        for region in (0, 8999998, 4111111):
            file.write(region * 8, user(region * 8, 8))
        file.discard(800000, 800000)
    for _ in range(2):
        state = clone.state()
        equal((state.used, state.hydrated, state.regions), (284, 100003, 9000000))
        clone.remove()
        clone = rig.create("8 2 no_hydration no_discard_passdown", length)


@case(99, "queue limits")
def _():
    rig = Rig(fill=False)
    for size, optimal in ((8, 4096), (128, 65536), (2097152, 1 << 30)):
        rig.blank()
        clone = rig.create(f"{size} 1 no_hydration")
        limits = [clone.queue(f"{name}_io_size") for name in ("minimum", "optimal")]
        equal(limits, [str(optimal)] * 2, f"region size {size}")
        equal([clone.queue(name) for name in ("write_zeroes_max_bytes", "write_cache", "fua")],
              ["0", "write back", "1"])
        clone.remove()
    # Two stripes of 512 KiB: optimal I/O of 1 MiB.
    halves = [Layer(f"half{at}", rig.dest.below, SECTORS // 2, at * SECTORS // 2)
              for at in range(2)]
    stripes = " ".join(f"{half.number} 0" for half in halves)
    rig.use["dest"] = dm.Device("stripes", f"0 {SECTORS} striped 2 1024 {stripes}")
    equal(rig.use["dest"].queue("optimal_io_size"), str(1 << 20))
    for size in (8, 16, 512, 2048, 4096, 8192):
        rig.blank()
        clone = rig.create(f"{size} 1 no_hydration")
        wanted = 1 << 20 if size <= 2048 else size * 512
        equal(clone.queue("optimal_io_size"), str(wanted), f"region size {size}")
        clone.remove()


@case(100, "secure discard")
def _():
    clone = Rig(fill=False).create()
    with clone.open() as file:
        fails(EOPNOTSUPP, file.secure_discard, 0, 8)
