# SPDX-License-Identifier: GPL-2.0

"""Y1, Z1, Z7, X: when requests are acknowledged, in which order, how many at once.

"Now" is what completes while storage holds every write; what does not is let go a round at a time,
and the rounds are counted.
"""

import os
import subprocess
import time

from errno import ENOSPC
from errno import EINVAL

from lib.blockio import Background
from lib.devices import until
from lib.runner import equal
from vdo.data import BLOCK
from vdo.data import ZERO
from vdo.data import key_of
from vdo.data import name
from vdo.data import unique
from vdo.data import uniques
from vdo.rig import JOURNAL0
from vdo.rig import SMALL
from vdo.rig import Below
from vdo.rig import fails
from vdo.rig import logging
from vdo.rig import small
from vdo.rig import tool
from vdo.rig import volume
from vdo.suite import DEDUPE
from vdo.suite import Session
from vdo.suite import case
from vdo.suite import expect


def _make():
    b = Below(SMALL.adding("maxDiscard 8"), fill=64)
    b.v.counters()
    return b


class Held:
    """Around a test of order: every write below waits."""

    def __init__(self, b):
        self._b = b

    def __enter__(self):
        self._b.v.counters()
        self._b.layer.hold(writes=True, flushes=True)
        return self

    def __exit__(self, *_):
        self._b.layer.restore()
        self._b.v.counters()

    def now(self, call, *arguments, **named):
        """Completes while storage holds."""
        one = Background(lambda: call(*arguments, **named))
        assert one.ended(10), "waits for storage"
        return one.result()

    def rounds(self, most, call, *arguments, **named):
        """Needs storage, and no more than so many of its writes one after the other; how many."""
        one = Background(lambda: call(*arguments, **named))
        count = 0
        while not one.ended(0.02):
            until(lambda: self._b.layer.held.writes or one.ended(), "a write below", 20)
            # What else comes at the same time.
            time.sleep(0.05)
            assert not one.ended() or count, "did not wait for storage"
            if not one.ended():
                self._b.layer.step()
                count += 1
        one.result()
        assert 1 <= count <= most, f"{count} rounds, not 1..{most}"
        return count


session = Session("Y1", _make)


@session.row("Y1a", "a write is acknowledged before it is stored")
def _(b):
    with Held(b) as held:
        held.now(b.v.write, 100, unique(100))
        held.now(b.v.read, 100)
        equal(b.v.file().read(800, 8), unique(100))


@session.row("Y1b", "a second write of the same block, and a read of it")
def _(b):
    with Held(b):
        b.v.write(100, unique(200))
        one = Background(b.v.write, 100, unique(201))
    one.result()
    b.v.holds(100, unique(201))


@session.row("Y1d", "unique data, a duplicate, zeroes, a discard: acknowledged at once")
def _(b):
    with Held(b) as held:
        held.now(b.v.write, 101, unique(101))
        held.now(b.v.write, 102, unique(3))
        held.now(b.v.write, 103, ZERO)
        held.now(b.v.discard, 5)
    b.v.holds(101, unique(101) + unique(3) + ZERO)
    b.v.holds(5, ZERO)


@session.row("Y1e", "a discard of eight blocks")
def _(b):
    with Held(b):
        one = Background(b.v.discard, 8, 8)
        time.sleep(0.1)
        b.layer.hold()
        one.result()
    b.v.holds(8, ZERO * 8)


@session.row("Y1f", "a flush waits for what was written, and for nothing else")
def _(b):
    with Held(b) as held:
        held.now(b.v.write, 105, unique(105))
        held.rounds(3, b.v.flush)
        held.now(b.v.flush)
    b.v.holds(105, unique(105))


@session.row("Y1g", "writes with FUA wait for storage")
def _(b):
    with Held(b) as held:
        held.rounds(2, b.v.write, 110, unique(110), fua=True)
        held.rounds(1 if DEDUPE else 2, b.v.write, 111, unique(110), fua=True)
        held.rounds(1, b.v.write, 112, ZERO, fua=True)
    b.v.holds(110, unique(110) * 2 + ZERO)


@session.row("Y1h", "sixteen blocks in one write, then a flush")
def _(b):
    with Held(b) as held:
        held.now(b.v.write, 120, uniques(120, 16))
        held.rounds(3, b.v.flush)
    b.v.holds(120, uniques(120, 16))


@session.row("Y1i", "a flush covers a write of another thread that was acknowledged before")
def _(b):
    for turn in range(20):
        with Held(b) as held:
            held.now(b.v.write, 130 + turn, unique(130 + turn))
            flush = Background(b.v.flush)
            time.sleep(0.02)
            assert not flush.ended(), "a flush that waited for nothing"
        flush.result()


@case("Z1", "eight flushes at the same time", small)
def _(v):
    v.file()
    with v.delta():
        flushes = [Background(v.flush) for _ in range(8)]
        for one in flushes:
            one.result()


@case("Z7", "a write and a flush, two hundred times", lambda: Below(fill=0))
def _(b):
    v = b.v
    before = v.stats()
    with v.delta(data=200, lbu=200, je=204, ovh=4, out_w=200, ent=200, miss=200,
                 free=("jb",)) as seen:
        for lbn in range(200):
            v.write(lbn, unique(lbn))
            v.flush()
    meta = v.stats()["biosMeta.write"] - before["biosMeta.write"]
    equal(seen["fo"], 200)
    assert 1 <= seen["jb"] <= 204, f"{seen['jb']} journal writes"
    if expect(c=True, rust=False):
        with b.layer.open(readonly=True) as file:
            assert not any(file.read((JOURNAL0 + 2) * 8, 8)), "more than one journal block"
    assert meta <= 450, f"{meta} metadata writes"


@case("X1", "a read after each of a hundred writes of a block", small)
def _(v):
    for key in range(100):
        v.write(0, unique(key))
        v.holds(0, unique(key))


@case("X2", "more requests than the pool has", lambda: Below(SMALL.adding("maxDiscard 256"), fill=0))
def _(b):
    v = b.v
    b.layer.hold(writes=True)
    load = Background(
        tool, "fio", "--name=x", f"--filename={v.path}", "--rw=randwrite", "--bs=4k",
        "--direct=1", "--ioengine=libaio", "--iodepth=4096", "--numjobs=2", "--io_size=24m",
        "--size=1g", "--iodepth_batch_submit=4096", "--iodepth_batch_complete_max=4096")
    most = "maxVIOs"
    wanted = expect(c=2048, rust=1)
    until(lambda: v.stats()[most] >= wanted, "requests", 60, lambda: str(v.stats()[most]))
    b.layer.restore()
    load.result()
    v.discard(0, 262144)
    v.flush()
    v.counters()
    assert wanted <= v.stats()[most] <= 2048, v.stats()[most]
    with logging(f"data_vios: 0 of 2048 busy (max {v.stats()[most]}), no waiters",
                 "discard permits: 0 of 1536 busy (max ", ", no waiters"):
        v.message("dump queues")
    v.holds(0, ZERO * 256)


@case("X12", "a discard beside writers that never let the line run dry",
      lambda: volume(SMALL.adding("maxDiscard 256")))
def _(v):
    v.write(0, uniques(0, 256))
    # More than all batches hold, and each write is followed by another at once.
    load = subprocess.Popen(
        ["fio", "--name=x", f"--filename={v.path}", "--rw=randwrite", "--bs=64k", "--offset=16m",
         "--size=256m", "--direct=1", "--ioengine=libaio", "--iodepth=64", "--numjobs=16",
         "--time_based", "--runtime=3600"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: v.stats()["biosIn.write"] > 4096, "a load", 90)
        discard = Background(v.discard, 0, 256)
        assert discard.ended(90), "starves behind the writers"
        discard.result()
        assert load.poll() is None, "the writers are gone"
    finally:
        load.terminate()
        load.wait()
    v.holds(0, ZERO * 256)


@case("X8", "the end of the device", small)
def _(v):
    v.write(262143, unique(1))
    v.holds(262143, unique(1))
    fails((ENOSPC, EINVAL), os.pwritev, v.file().fd, [bytearray(BLOCK)], 262144 * BLOCK)


@case("X9", "16 MiB through the page cache", small)
def _(v):
    data = uniques(0, 4096)
    with open(v.path, "r+b") as file:
        file.seek(BLOCK * 1000)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    with open("/proc/sys/vm/drop_caches", "w") as file:
        file.write("3")
    v.holds(1000, data)
    with open(v.path, "rb") as file:
        file.seek(BLOCK * 1000)
        assert file.read(len(data)) == data


@case("X11", "a file system: files twice, some removed, fstrim", small)
def _(v):
    os.makedirs("/tmp/mnt", exist_ok=True)
    tool("mkfs.ext4", "-q", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0", v.path)
    tool("mount", "-t", "ext4", v.path, "/tmp/mnt")
    try:
        for copy in ("one", "two"):
            os.makedirs(f"/tmp/mnt/{copy}")
            subprocess.run(f"head -c 24M /usr/bin/python3.13 >/tmp/mnt/{copy}/a; "
                           f"cp -r /usr/lib/python3.13/asyncio /usr/lib/python3.13/json "
                           f"/tmp/mnt/{copy}/", shell=True, check=True)
            tool("sync", "-f", "/tmp/mnt")
        full = v.counters()
        if DEDUPE:
            assert full["lbu"] > full["data"] * 1.3, full
        tool("rm", "-r", "/tmp/mnt/one")
        tool("sync", "-f", "/tmp/mnt")
        tool("fstrim", "/tmp/mnt")
        # The other copy is whole.
        tool("cmp", "-n", "4096000", "/tmp/mnt/two/a", "/usr/bin/python3.13")
    finally:
        tool("umount", "/tmp/mnt")
    after = v.counters()
    # What the removal itself writes may cost a few blocks.
    assert after["lbu"] < full["lbu"] - 500, (full["lbu"], after["lbu"])
    assert after["data"] < full["data"] + 64, (full["data"], after["data"])
    tool("e2fsck", "-fn", v.path)


@case("U2", "many threads on the same few blocks")
def _():
    v = volume(SMALL)

    def writer(own):
        with v.open() as file:
            for turn in range(60):
                lbn = 1 + (turn * 7 + own) % 24
                file.write(lbn * 8, unique(lbn * 100000 + own * 1000 + turn))
                if turn % 10 == own:
                    file.flush()
                if turn % 13 == own:
                    file.discard(lbn * 8, 8)
                data = file.read(lbn * 8, 8)
                assert data == ZERO or (key_of(data) or 0) // 100000 == lbn, \
                    f"LBN {lbn} holds {name(data)}"

    for one in [Background(writer, own) for own in range(8)]:
        one.result()
    mapped = sum(v.file().read(lbn * 8, 8) != ZERO for lbn in range(1, 25))
    equal(v.counters()["lbu"], mapped)
    v = v.again()
    equal(v.counters()["lbu"], mapped)

