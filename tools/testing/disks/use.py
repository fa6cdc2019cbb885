# SPDX-License-Identifier: GPL-2.0

"""What is done with a target on a disk: made, used, suspended, reloaded, crashed, started again."""

import contextlib
import os
import re
import subprocess
import tempfile

from disks import kinds
from disks import limits
from lib import dm
from lib.blockio import BlockFile
from lib.blockio import pattern
from lib.devices import partitions
from lib.devices import ramdisk
from lib.devices import until
from lib.kmsg import Log

META_DISK = ramdisk(3)

# The parts of a disk that a clone takes.
_CLONE = 65536
_SOURCE_AT = 131072


def _blank(path, sectors=8):
    with BlockFile(path) as file:
        file.write(0, bytes(sectors * 512))


class User:
    """Reads, writes and compares, in requests that the device allows; `holds` is what was
    written. What was discarded reads as zeroes, unless the device makes something else of it."""

    def __init__(self, device, discards_are_zeroes=True):
        self.device = device
        self.discards_are_zeroes = discards_are_zeroes
        self.step = int(device.queue("logical_block_size")) // 512
        self.holds = {}

    def write(self, sector, count, tag):
        data = pattern(tag, sector, count)
        with BlockFile(self.device.path) as file:
            file.write(sector, data)
            file.flush()
        for at in range(count):
            self.holds[sector + at] = data[at * 512:(at + 1) * 512]

    def clear(self, sector, count, how):
        """Discard or write zeroes."""
        with BlockFile(self.device.path) as file:
            getattr(file, how)(sector, count)
            file.flush()
        for at in range(sector, sector + count):
            if how == "zero" or self.discards_are_zeroes:
                self.holds[at] = bytes(512)
            else:
                self.holds.pop(at, None)

    def check(self):
        """All in long reads, and some of it in the shortest ones that there can be."""
        first, last = min(self.holds), max(self.holds)
        with BlockFile(self.device.path, readonly=True) as file:
            data = file.read(first, (last - first) // self.step * self.step + self.step)
            for sector, wanted in self.holds.items():
                at = (sector - first) * 512
                assert data[at:at + 512] == wanted, f"sector {sector} in a long read"
            for sector in sorted(self.holds)[::101]:
                start = sector // self.step * self.step
                at = (sector - start) * 512
                found = file.read(start, self.step)[at:at + 512]
                assert found == self.holds[sector], f"sector {sector} in a short read"

    def work(self):
        """Requests of all sizes and places that the device allows."""
        self.write(0, 2048, 1)
        self.write(2048, 24, 2)
        self.write(4096 - 8, 16, 3)
        for at in range(1, 9):
            self.write(6144 + 32 * at + at // self.step * self.step, 3 * self.step, 3 + at)
        if int(self.device.queue("discard_max_bytes")):
            self.clear(64, 128, "discard")
        self.clear(512, 64, "zero")
        self.check()


def table_vdo(path, size, sectors=1 << 18):
    """A volume of one slab."""
    return (f"0 {sectors} vdo V4 {path} {kinds.SECTORS // 8} {size} 4096 16380 slabSize 8192 "
            "maxDiscard 256 deduplication off")


def vdo(path, size):
    """A volume with logical blocks of `size` bytes. Returns its limits."""
    _blank(path)
    table = table_vdo(path, size)
    with contextlib.ExitStack() as stack:
        stack.callback(_remove_all)
        device = dm.Device("v", table)
        found = limits.of(device)
        user = User(device)
        user.work()
        device.suspend()
        device.resume()
        user.check()
        device.load(table)
        device.resume()
        user.check()
        # A crash.
        device.suspend(noflush=True)
        device.remove(30)
        user.device = dm.Device("v", table)
        until(lambda: " normal " in user.device.status(noflush=True)[0], "the recovery's end")
        user.check()
        user.write(40960, 16, 99)
        user.device.remove(30)
        user.device = dm.Device("v", table)
        user.check()
        user.device.remove(30)
    return found


def clone(path, _):
    """A clone whose source and destination are parts of the disk. Returns its limits."""
    _blank(META_DISK, 64)
    with contextlib.ExitStack() as stack:
        stack.callback(_remove_all)
        source = dm.Device("src", f"0 {_CLONE} linear {path} {_SOURCE_AT}")
        dest = dm.Device("dest", f"0 {_CLONE} linear {path} 0")
        original = User(source)
        original.write(0, 2048, 50)
        original.write(8192, 2048, 50)
        table = f"0 {_CLONE} clone {META_DISK} {dest.path} {source.path} 64 1 no_hydration"
        device = dm.Device("c", table)
        found = limits.of(device)
        user = User(device)
        user.holds = dict(original.holds)
        user.check()
        user.write(0, 64, 51)
        user.write(130 // user.step * user.step, 2 * user.step, 52)
        user.check()
        device.suspend()
        device.resume()
        device.load(table)
        device.resume()
        user.check()
        if int(device.queue("discard_max_bytes")):
            with BlockFile(device.path) as file:
                file.discard(8192, 1024)
            user.holds = {at: data for at, data in user.holds.items()
                          if not 8192 <= at < 9216}
        device.message("enable_hydration")

        def complete():
            done, regions = device.status()[0].split()[6].split("/")
            return done == regions
        until(complete, "hydration's end", 120, lambda: device.status(noflush=True))
        user.check()
        device.remove(30)
        user.device = dest
        user.check()
    return found


def _remove_all():
    for device in reversed(list(dm.Device.live)):
        if device.name in ("v", "c", "src", "dest"):
            with contextlib.suppress(OSError):
                device.remove(30)


def _run(*command):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}"


def file_systems(path, size):
    """ext4, XFS and swap on a volume; what was written is there after a restart."""
    _blank(path)
    table = table_vdo(path, size, 1 << 20)
    with contextlib.ExitStack() as stack:
        stack.callback(_remove_all)
        for make in (("mkfs.ext4", "-q"), ("mkfs.xfs", "-q", "-f")):
            device = dm.Device("v", table)
            _run(*make, device.path)
            with tempfile.TemporaryDirectory() as folder:
                _run("mount", device.path, folder)
                with open(f"{folder}/file", "wb") as file:
                    file.write(pattern(7, 0, 20000))
                    os.fsync(file.fileno())
                _run("fstrim", folder)
                _run("umount", folder)
                device.remove(30)
                device = dm.Device("v", table)
                _run("mount", device.path, folder)
                with open(f"{folder}/file", "rb") as file:
                    assert file.read() == pattern(7, 0, 20000), "a file is not what it was"
                _run("umount", folder)
            device.remove(30)
        device = dm.Device("v", table)
        _run("mkswap", device.path)
        _run("swapon", device.path)
        _run("swapoff", device.path)
        device.remove(30)


# A request that nobody polls for comes back when the driver misses it, half a minute later.
_MISSED = re.compile("timeout|timed out")


def _poll(device, how, offset, *more):
    """Requests of 64 KiB that nobody but fio looks for."""
    _run("fio", "--name=polled", f"--filename={device.path}", "--ioengine=io_uring", "--hipri=1",
         "--direct=1", f"--rw={how}", "--bs=64k", "--iodepth=4", "--size=7m", "--thread",
         f"--offset={int(offset * 1024)}k", "--output=/dev/null", *more)


@contextlib.contextmanager
def _polled(path):
    """What is below must be able to poll, and to miss nothing."""
    with open(f"/sys/block/{os.path.basename(path)}/queue/io_poll") as file:
        if file.read().strip() != "1":
            raise RuntimeError(f"{path} has no queues to poll")
    with contextlib.closing(Log()) as log:
        yield
        missed = [line for line in log.lines() if _MISSED.search(line)]
        assert not missed, f"requests that nobody polled: {missed}"


def _sectors(path):
    with BlockFile(path) as file:
        return file.sectors


@contextlib.contextmanager
def _below(path, stacked):
    """The disk, or a device of device-mapper's over it."""
    yield dm.Device("dest", f"0 {_sectors(path)} linear {path} 0").path if stacked else path


def polled_vdo(path, size, stacked=False):
    """A volume of which a read is of many parts, and fio polls for all of them."""
    _blank(path)
    with contextlib.ExitStack() as stack:
        stack.callback(_remove_all)
        stack.enter_context(_polled(path))
        below = stack.enter_context(_below(path, stacked))
        device = dm.Device("v", table_vdo(below, size))
        found = limits.of(device)
        user = User(device)
        # Two files' blocks in turns: the next block of one lies far from this one's place.
        for first in (0, 8):
            for sector in range(first, 16384, 16):
                user.write(sector, 8, 7)
        _poll(device, "randread", 0, "--loops=2")
        _poll(device, "randwrite", 16, "--verify=crc32c")
        # Device-mapper cuts these in two.
        user.write(65536, 16384, 8)
        _poll(device, "read", 32.5, "--bs=1m", "--loops=2")
        user.check()
        device.remove(30)
    return found


def polled_clone(path, _, stacked=False):
    """A clone of which every second region is there, and fio polls for reads and writes of both."""
    _blank(META_DISK, 64)
    with contextlib.ExitStack() as stack:
        stack.callback(_remove_all)
        stack.enter_context(_polled(path))
        dest, source = stack.enter_context(
            partitions(path, (0, 2 * _SOURCE_AT), (2 * _SOURCE_AT, _SOURCE_AT)))
        # null_blk must not have to make room for what is written while it is polled.
        with BlockFile(dest) as file:
            file.write(0, pattern(9, 0, 49152))
        dest = stack.enter_context(_below(dest, stacked))
        device = dm.Device("c", f"0 {_CLONE} clone {META_DISK} {dest} {source} 32 1 no_hydration")
        found = limits.of(device)
        user = User(device)
        for sector in range(0, 16384, 64):
            user.write(sector, 32, 51)
        _poll(device, "randread", 0, "--loops=2")
        _poll(device, "randwrite", 16, "--verify=crc32c")
        user.check()
        device.remove(30)
    return found


def polled_vdo_stacked(path, size):
    """The same over a device of device-mapper's."""
    return polled_vdo(path, size, True)


def polled_clone_stacked(path, size):
    """The same over a device of device-mapper's."""
    return polled_clone(path, size, True)
