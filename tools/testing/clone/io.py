# SPDX-License-Identifier: GPL-2.0

"""Cases 40-48: where reads and writes go, counted on the devices below."""

from clone.rig import REGIONS
from clone.rig import Rig
from clone.rig import SECTORS
from clone.rig import holds
from clone.rig import old
from clone.rig import same
from clone.rig import source
from clone.rig import user
from clone.suite import case
from clone.suite import expect
from lib.blockio import Background
from lib.devices import until
from lib.runner import equal

_MERGED = "neighbours of equal state are one I/O: "


@case(40, "a read of unhydrated regions is served by the source",
      differs=_MERGED + "64 KiB read 1 SRC read")
def _():
    rig = Rig()
    clone = rig.create()
    rig.forget()
    holds(clone, 80, source(80, 8))
    equal((rig.src.counts.reads, rig.dest.counts.reads), (1, 0))
    equal(clone.state().hydrated, 0)
    rig.forget()
    holds(clone, 256, source(256, 128))
    equal((rig.src.counts.reads, rig.src.counts.read_sectors), (expect(c=16, rust=1), 128))


@case(41, "zeroing unhydrated regions overwrites them", differs=_MERGED + "1 or 2 DEST writes")
def _():
    rig = Rig()
    clone = rig.create()
    rig.forget()
    with clone.open() as file:
        file.zero(160, 16)
    found = rig.dest.counts
    equal((rig.src.counts.reads, found.write_sectors), (0, 16))
    assert found.writes in expect(c=(2,), rust=(1, 2)), found
    holds(clone, 152, source(152, 8) + bytes(16 * 512) + source(176, 8))
    equal(clone.state().hydrated, 2)


@case(42, "partial and whole writes of regions",
      differs=_MERGED + "64 KiB aligned write 1 DEST write; a write that straddles two regions "
              "may copy them with 1 read")
def _():
    rig = Rig()
    clone = rig.create()
    with clone.open() as file:
        rig.forget()
        file.write(41, user(41, 1))
        equal((rig.src.counts.reads, rig.src.counts.read_sectors), (1, 8))
        equal(rig.dest.counts.write_sectors, 9)
        same(file.read(32, 24), source(32, 9) + user(41, 1) + source(42, 14))
        equal(clone.hydrated, 1)

        rig.forget()
        file.write(80, user(80, 8))
        equal((rig.src.counts.reads, rig.dest.counts.writes), (0, 1))
        equal(clone.hydrated, 2)

        rig.forget()
        file.write(164, user(164, 8))
        assert rig.src.counts.reads in expect(c=(2,), rust=(1, 2)), rig.src.counts
        equal(rig.src.counts.read_sectors, 16)
        same(file.read(160, 16), source(160, 4) + user(164, 8) + source(172, 4))
        equal(clone.hydrated, 4)

        rig.forget()
        file.write(1024, user(1024, 128))
        equal((rig.src.counts.reads, rig.dest.counts.writes), (0, expect(c=16, rust=1)))
        same(file.read(1024, 128), user(1024, 128))
        equal(clone.hydrated, 20)


@case(43, "writing the whole of a short last region",
      differs="the short last region counts as whole when all of it is written: no SRC read")
def _():
    rig = Rig()
    clone = rig.create(length=131069)
    rig.forget()
    with clone.open() as file:
        file.write(131064, user(131064, 5))
        same(file.read(131064, 5), user(131064, 5))
    equal(rig.src.counts.read_sectors, expect(c=5, rust=0))
    equal(clone.state().hydrated, 1)
    with rig.dest.open() as dest:
        same(dest.read(131064, 8), user(131064, 5) + old(131069, 3))


@case(44, "a read across regions of both states", differs=_MERGED + "2 SRC reads, 1 DEST read")
def _():
    rig = Rig()
    clone = rig.create()
    with clone.open() as file:
        file.write(40, user(40, 8))
        file.write(48, user(48, 8))
        rig.forget()
        same(file.read(32, 32), source(32, 8) + user(40, 16) + source(56, 8))
    equal((rig.src.counts.reads, rig.dest.counts.reads), (2, expect(c=2, rust=1)))


@case(45, "regions of 64 KiB", differs=_MERGED + "1 MiB aligned 1 overwrite")
def _():
    rig = Rig()
    clone = rig.create("128 1 no_hydration")
    with clone.open() as file:
        rig.forget()
        file.write(1288, user(1288, 8))
        equal((rig.src.counts.read_sectors, clone.hydrated), (128, 1))

        rig.forget()
        file.write(64, user(64, 128))
        equal((rig.src.counts.read_sectors, clone.hydrated), (256, 3))
        same(file.read(0, 256), source(0, 64) + user(64, 128) + source(192, 64))

        rig.forget()
        file.write(4096, user(4096, 2048))
        equal((rig.src.counts.reads, rig.dest.counts.writes), (0, expect(c=16, rust=1)))
        equal(clone.hydrated, 19)


@case(46, "discarding all of a device with a short last region",
      differs="the short last region counts as whole when all of it is discarded: 16384/16384")
def _():
    rig = Rig()
    clone = rig.create(length=131069)
    with clone.open() as file:
        file.discard(0, 131069)
    equal(clone.state().hydrated, expect(c=REGIONS - 1, rust=REGIONS))
    clone.hydrate()
    equal(clone.state().hydrated, REGIONS)


@case(47, "32 writers of one region: one copy, all data present")
def _():
    rig = Rig()
    clone = rig.create("64 1 no_hydration")
    rig.src.hold(reads=True)
    rig.forget()
    with clone.open() as file:
        writers = [Background(file.write, 640 + 2 * at, user(640 + 2 * at, 1, at))
                   for at in range(32)]
        until(lambda: clone.in_flight == 32, "32 waiting writes")
        equal(rig.src.held.reads, 1)
        assert not any(writer.ended() for writer in writers)
        rig.src.restore()
        for writer in writers:
            writer.result()
        wanted = b"".join(user(640 + 2 * at, 1, at) + source(641 + 2 * at, 1) for at in range(32))
        same(file.read(640, 64), wanted)
    equal(rig.src.counts.read_sectors, 64)
    equal(clone.state().hydrated, 1)


@case(48, "when all is hydrated, reads come from the destination only")
def _():
    rig = Rig()
    clone = rig.create("8 0 4 hydration_threshold 256 hydration_batch_size 64")
    clone.finish()
    rig.forget()
    holds(clone, 0, source(0, SECTORS))
    equal(rig.src.counts.reads, 0)
    equal(rig.dest.counts.read_sectors, SECTORS)
