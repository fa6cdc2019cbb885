# SPDX-License-Identifier: GPL-2.0

"""Cases 101-106, beyond the acceptance list: full metadata, storage that fails now and then or for
good, and many writers of the same regions. Nothing may hang, nothing acknowledged may be lost.
"""

import random
import struct
import threading
import time

from errno import EIO

from clone.rig import IDLE
from clone.rig import Rig
from clone.rig import fails
from clone.rig import holds
from clone.rig import same
from clone.rig import source
from clone.rig import user
from clone.suite import case
from clone.suite import expect
from lib import pdata
from lib.blockio import Background
from lib.runner import equal

_BATCHES = "8 0 4 hydration_threshold 64 hydration_batch_size 16"


@case(101, "a metadata device without a free block: read-only at the first commit",
      differs="as in case 77, region 7 reads the new data")
def _():
    rig = Rig(meta=800)
    rig.create().remove()
    found = rig.on_disk().superblock
    with rig.meta.open() as meta:
        bitmap, = struct.unpack_from("<Q", meta.read(found.index * 8, 8), 16)
        # All hundred entries in use, no overflow: the binary code of 1 is 2.
        pdata.patch(meta, "bitmap", bitmap, 16, "<25s", b"\xaa" * 25)
        pdata.patch(meta, "index", found.index, 24, "<II", 16320 - 100, 100)
        pdata.patch(meta, "superblock", 0, 52, "<Q", 100)
    clone = rig.create()
    equal((clone.state().used, clone.state().blocks), (100, 100))
    with clone.open() as file:
        file.write(56, user(56, 8))
        fails(EIO, file.flush)
        rig.log.require("failed: error = -28", "Switching to read-only mode")
        equal((clone.mode, clone.event), ("ro", 1))
        same(file.read(56, 8), expect(c=source(56, 8), rust=user(56, 8)))
        fails(EIO, file.write, 80, user(80, 8))


class _Uncertain:
    """What single sectors may hold when writes may fail: the last good one or any failed since."""

    def __init__(self, length):
        self.may = [{0} for _ in range(length)]

    def write(self, file, sector, count, version):
        try:
            file.write(sector, user(sector, count, version))
            for at in range(sector, sector + count):
                self.may[at] = {version}
        except OSError as error:
            equal(error.errno, EIO)
            for at in range(sector, sector + count):
                self.may[at].add(version)

    def check(self, file):
        data = file.read(0, len(self.may))
        for at, versions in enumerate(self.may):
            found = data[at * 512:at * 512 + 512]
            wanted = [user(at, 1, version) if version else source(at, 1) for version in versions]
            if found not in wanted:
                same(found, wanted[0], f"sector {at}")


def _under_load(rig, clone, length, shake):
    """Random writes and reads while `shake()` fails and heals storage; then all must be right."""
    over = threading.Event()
    model = _Uncertain(length)

    def shaker():
        while not over.is_set():
            shake()
            time.sleep(0.02)

    shaking = Background(shaker)
    chance = random.Random(length)
    with clone.open() as file:
        for version in range(1, 400):
            sector = chance.randrange(length - 64)
            if version % 3 == 0:
                try:
                    file.read(sector, 16)
                except OSError as error:
                    equal(error.errno, EIO)
            model.write(file, sector, chance.choice((1, 8, 20, 64)), version)
        over.set()
        shaking.result()
        for layer in (rig.dest, rig.src):
            layer.restore()
        equal(clone.state().mode, "rw")
        clone.finish()
        model.check(file)


@case(102, "a source that fails now and then, under load")
def _():
    length = 8192
    rig = Rig()
    clone = rig.create(_BATCHES, length)

    def shake():
        rig.src.fail()
        time.sleep(0.05)
        rig.src.restore()

    _under_load(rig, clone, length, shake)


@case(103, "a destination that fails writes now and then, under load")
def _():
    length = 8192
    rig = Rig()
    clone = rig.create(_BATCHES, length)

    def shake():
        rig.dest.fail_writes()
        time.sleep(0.05)
        rig.dest.restore()

    _under_load(rig, clone, length, shake)


@case(104, "all three devices dead: every request ends, so do suspend and remove")
def _():
    rig = Rig(fill=False)
    clone = rig.create(_BATCHES)
    with clone.open() as file:
        for layer in (rig.src, rig.dest, rig.meta):
            layer.fail()
        for call, arguments in ((file.read, (80000, 64)), (file.write, (80001, user(80001, 1))),
                                (file.write, (90000, user(90000, 64))), (file.discard, (64, 64)),
                                (file.flush, ())):
            try:
                Background(call, *arguments).result()
            except OSError as error:
                equal(error.errno, EIO)
    Background(clone.status).result()
    Background(clone.suspend).result()
    Background(clone.resume).result()
    Background(clone.remove).result()


@case(105, "eight writers of single sectors in the same regions, with hydration")
def _():
    length = 16384
    rig = Rig()
    clone = rig.create("64 1 no_hydration 2 hydration_threshold 4", length)
    turns = 150

    def writer(own):
        chance = random.Random(own)
        last = {}
        with clone.open() as file:
            for version in range(1, turns):
                # Mostly the same few regions, and of each sector one owner.
                area = length if version % 4 == 0 else 512
                sector = chance.randrange(area // 8) * 8 + own
                file.write(sector, user(sector, 1, version))
                last[sector] = version
                again = chance.choice(list(last))
                same(file.read(again, 1), user(again, 1, last[again]), f"sector {again}")
        return last

    writers = [Background(writer, own) for own in range(8)]
    while not all(one.ended() for one in writers):
        clone.message("enable_hydration")
        time.sleep(0.01)
        clone.message("disable_hydration")
        time.sleep(0.05)
    wanted = bytearray(source(0, length))
    for one in writers:
        for sector, version in one.result().items():
            wanted[sector * 512:sector * 512 + 512] = user(sector, 1, version)
    holds(clone, 0, bytes(wanted))
    clone.hydrate()
    holds(clone, 0, bytes(wanted), "after hydration")
    clone.remove()
    holds(rig.create("64 1 no_hydration", length), 0, bytes(wanted), "after remove and create")


@case(106, "created, used and removed many times")
def _():
    rig = Rig(fill=False)
    for turn in range(40):
        clone = rig.create(IDLE)
        assert clone.state().hydrated >= turn
        with clone.open() as file:
            file.write(turn * 8, user(turn * 8, 8))
            file.write(turn * 8 + 65537, user(turn * 8, 1))
        if turn % 2:
            clone.message("enable_hydration")
        clone.remove()
