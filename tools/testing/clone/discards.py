# SPDX-License-Identifier: GPL-2.0

"""Cases 69-76: discards, passed down or not."""

import fcntl
import hashlib
import os
import random
import struct
import subprocess
import tempfile

from errno import EIO

from clone.rig import IDLE
from clone.rig import REGIONS
from clone.rig import Rig
from clone.rig import SECTORS
from clone.rig import fails
from clone.rig import holds
from clone.rig import old
from clone.rig import source
from clone.rig import user
from clone.suite import case
from lib.runner import equal

_FITRIM = 0xC0185879


def _passed(rig):
    """Discards that reached the destination since the last call: requests and sectors."""
    found = rig.dest.counts
    rig.dest.forget()
    return found.discards, found.discard_sectors


@case(69, "a discard hydrates the whole regions in it")
def _():
    rig = Rig()
    clone = rig.create()
    with clone.open() as file:
        rig.forget()
        file.discard(640, 8)
        equal((clone.hydrated, _passed(rig)), (1, (1, 8)))
        file.discard(648, 4)
        equal((clone.hydrated, _passed(rig)), (1, (0, 0)))
        file.discard(660, 32)
        equal((clone.hydrated, _passed(rig)), (4, (1, 24)))
    holds(clone, 656, source(656, 8))
    holds(clone, 688, source(688, 8))


@case(70, "a discard across regions of both states")
def _():
    rig = Rig()
    clone = rig.create()
    with clone.open() as file:
        file.write(480, user(480, 24))
        rig.forget()
        file.discard(480, 32)
        equal((clone.hydrated, _passed(rig)), (4, (1, 32)))
        file.discard(480, 4)
        equal((clone.hydrated, _passed(rig)), (4, (0, 0)))


@case(71, "discarding the whole device completes it; the event comes with the commit")
def _():
    rig = Rig()
    clone = rig.create()
    with clone.open() as file:
        rig.meta.hold(writes=True)
        rig.forget()
        file.discard(0, SECTORS)
        equal((clone.hydrated, _passed(rig)), (REGIONS, (1, SECTORS)))
        equal(clone.event, 0)
        rig.meta.restore()
        clone.status()
        equal(clone.event, 1)


@case(72, "no_discard_passdown")
def _():
    rig = Rig()
    clone = rig.create("8 2 no_hydration no_discard_passdown")
    equal(clone.queue("discard_granularity"), "4096")
    rig.forget()
    with clone.open() as file:
        file.discard(32, 32)
    equal((clone.hydrated, _passed(rig)), (4, (0, 0)))
    holds(clone, 24, source(24, 8) + old(32, 32) + source(64, 8))


@case(73, "a destination that cannot discard")
def _():
    rig = Rig()
    rig.dest.set_queue("discard_max_bytes", 0)
    clone = rig.create()
    rig.log.require("discard unsupported: Disabling discard passdown.")
    equal(clone.state().features, ("no_hydration", "no_discard_passdown"))
    equal(clone.table(), [rig.table()])
    with clone.open() as file:
        file.discard(32, 32)
    equal(clone.state().hydrated, 4)
    holds(clone, 32, old(32, 32))


@case(74, "a destination whose discards are smaller than a region")
def _():
    rig = Rig(fill=False)
    rig.dest.set_queue("discard_max_bytes", 262144)
    clone = rig.create(IDLE)
    equal(clone.state().features, ("no_hydration",))
    clone.remove()
    rig.blank()
    clone = rig.create("1024 1 no_hydration")
    equal(clone.state().features, ("no_hydration", "no_discard_passdown"))
    rig.log.require("max discard sectors smaller than a region")


@case(75, "a discard that the destination fails")
def _():
    rig = Rig()
    clone = rig.create()
    with clone.open() as file:
        rig.dest.fail()
        fails(EIO, file.discard, 640, 16)
        rig.dest.restore()
        equal(clone.state().hydrated, 2)
        holds(clone, 640, old(640, 16))


def _sums(folder):
    return {name: hashlib.sha256(open(os.path.join(folder, name), "rb").read()).hexdigest()
            for name in sorted(os.listdir(folder)) if name.startswith("file")}


def _mounted(device, readonly, call):
    """Call with a mount point of the device's file system."""
    with tempfile.TemporaryDirectory() as folder:
        options = "ro,noload" if readonly else "rw"
        subprocess.run(["mount", "-t", "ext4", "-o", options, device, folder], check=True)
        try:
            return call(folder)
        finally:
            subprocess.run(["umount", folder], check=True)


@case(76, "ext4 trimmed through the clone, then hydrated")
def _():
    rig = Rig()
    # The source of this case has a file system of its own, behind the pattern of the others.
    rig.src.offset = SECTORS
    rig.src.restore()
    subprocess.run(["mkfs.ext4", "-q", "-F", "-E", "nodiscard", rig.src.path], check=True)
    chance = random.Random(76)

    def fill(folder):
        for at in range(12):
            with open(f"{folder}/file{at}", "wb") as file:
                file.write(chance.randbytes(chance.randrange(1 << 20)))
        for at in range(0, 12, 3):
            os.remove(f"{folder}/file{at}")
        return _sums(folder)

    def trim(folder):
        handle = os.open(folder, os.O_RDONLY)
        fcntl.ioctl(handle, _FITRIM, struct.pack("<QQQ", 0, (1 << 64) - 1, 0))
        os.close(handle)
        with open(f"{folder}/file-new", "wb") as file:
            file.write(b"new" * 5000)
        return _sums(folder)

    before = _mounted(rig.src.path, False, fill)
    clone = rig.create("8 1 no_hydration 4 hydration_threshold 64 hydration_batch_size 16")
    after = _mounted(clone.path, False, trim)
    equal({name: after[name] for name in before}, before)
    trimmed = clone.state().hydrated
    print(f"# {trimmed} regions after the trim")
    assert REGIONS // 4 < trimmed < REGIONS
    clone.hydrate()
    clone.remove()
    equal(_mounted(rig.dest.path, True, _sums), after)
    with rig.src.open() as file:
        file.discard(0, SECTORS)
