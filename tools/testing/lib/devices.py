# SPDX-License-Identifier: GPL-2.0

"""What lies under a target in a test: sparse ramdisks, and layers that count, hold back and fail.

Storage is held back by a `delay` target with an endless delay: which requests wait is chosen by
kind, how many wait can be read, and all that wait are let go at one stroke. No test needs a clock.
"""

import contextlib
import ctypes
import os
import struct
import subprocess
import time

from dataclasses import dataclass

from lib import dm
from lib.blockio import BlockFile
from lib.ioctl import ioctl

# Far more than any test uses: a ramdisk takes memory only for what is written.
_RAMDISK_KIB = 10 << 30
RAMDISKS = 4
_ENDLESS_MS = 3_600_000

_LOOP_CTL_GET_FREE = 0x4C82
_LOOP_CONFIGURE = 0x4C0A
_LOOP_CLR_FD = 0x4C01

_BLKPG = 0x1269
_BLKPG_ADD, _BLKPG_DELETE = 1, 2


def until(condition, what, seconds=90.0, instead=str):
    """Wait for a state, not for a time; the limit is only there to end. `instead()` tells what
    there was when it ended."""
    limit = time.monotonic() + seconds
    pause = 0.002
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > limit:
            raise AssertionError(f"never came: {what}; {instead()}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)


def modprobe(*arguments):
    subprocess.run(["modprobe", *arguments], check=True)


def prepare():
    """Modules and ramdisks; once a boot."""
    modprobe("-a", "dm-mod", "dm-delay", "dm-flakey", "dm-log-writes", "loop")
    modprobe("brd", f"rd_nr={RAMDISKS}", f"rd_size={_RAMDISK_KIB}")


def ramdisk(index):
    return f"/dev/ram{index}"


@dataclass
class Counts:
    """Requests and sectors that went through a layer."""

    reads: int
    read_sectors: int
    writes: int
    write_sectors: int
    discards: int
    discard_sectors: int

    def __sub__(self, other):
        return Counts(*(getattr(self, name) - getattr(other, name)
                        for name in Counts.__dataclass_fields__))


@dataclass
class Held:
    """Requests that wait in a layer now."""

    reads: int
    writes: int
    flushes: int


class Layer(dm.Device):
    """A linear device over a part of another, which can be told to hold requests or to fail."""

    def __init__(self, name, below, sectors, offset=0):
        self.below = below
        self.sectors = sectors
        self.offset = offset
        super().__init__(name, self.linear())
        self._base = self._totals()

    def linear(self, start=0, count=None):
        """The table line that passes sectors through."""
        count = self.sectors - start if count is None else count
        return f"{start} {count} linear {self.below} {self.offset + start}"

    def open(self, **how):
        return BlockFile(self.path, **how)

    def resize(self, sectors):
        self.sectors = sectors
        self.restore()

    # Counting.

    def _totals(self):
        with open(f"/sys/dev/block/{self.number}/stat") as file:
            field = [int(word) for word in file.read().split()]
        return Counts(field[0], field[2], field[4], field[6], field[11], field[13])

    @property
    def counts(self):
        return self._totals() - self._base

    def forget(self):
        """Count from here on."""
        self._base = self._totals()

    # Holding back.

    def hold(self, reads=False, writes=False, flushes=False):
        """From now on requests of these kinds wait."""
        parts = " ".join(f"{self.below} {self.offset} {_ENDLESS_MS if held else 0}"
                         for held in (reads, writes, flushes))
        self.swap(f"0 {self.sectors} delay {parts}")

    @property
    def held(self):
        return Held(*map(int, self.status(noflush=True)[0].split()[3:6]))

    def step(self):
        """Let go what waits; what comes from now on waits again."""
        self.suspend(noflush=True)
        self.resume(noflush=True)

    def restore(self):
        """Pass everything through again, also what was held."""
        self.swap(self.linear())

    # Failing.

    def fail_writes(self):
        """Writes, flushes and discards fail, reads do not."""
        self.swap(f"0 {self.sectors} flakey {self.below} {self.offset} 0 3600 1 error_writes")

    def fail(self):
        self.swap(f"0 {self.sectors} error")

    def fail_part(self, start, count):
        """Only some sectors fail."""
        lines = [self.linear(0, start)] if start else []
        lines.append(f"{start} {count} error")
        if start + count < self.sectors:
            lines.append(self.linear(start + count))
        self.swap("\n".join(lines))


def remove_all():
    """After a test, whatever it left: let everything go from the bottom up, remove from the top."""
    for device in list(dm.Device.live):
        if isinstance(device, Layer):
            device.restore()
        elif device.suspended:
            device.clear()
            with contextlib.suppress(OSError):
                device.resume()
    for device in reversed(list(dm.Device.live)):
        device.remove(patience_seconds=30)


@contextlib.contextmanager
def partitions(path, *ranges):
    """Partitions of a disk, of which nothing is written to it; a range is a start and a length in
    sectors."""
    def call(fd, operation, number, start=0, count=0):
        # struct blkpg_partition and struct blkpg_ioctl_arg.
        data = ctypes.create_string_buffer(
            struct.pack("<qqi64s64s4x", start * 512, count * 512, number, b"", b""))
        ioctl(fd, _BLKPG, bytearray(
            struct.pack("<3i4xQ", operation, 0, len(data), ctypes.addressof(data))))

    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        for number, (start, count) in enumerate(ranges, 1):
            call(fd, _BLKPG_ADD, number, start, count)
        base = path + ("p" if path[-1].isdigit() else "")
        yield [f"{base}{number}" for number in range(1, len(ranges) + 1)]
    finally:
        for number in range(1, len(ranges) + 1):
            with contextlib.suppress(OSError):
                call(fd, _BLKPG_DELETE, number)
        os.close(fd)


class Loop:
    """A loop device over memory: unlike a ramdisk it has a write cache and any block size."""

    def __init__(self, sectors, block_size=512):
        backing = os.memfd_create("loop")
        os.ftruncate(backing, sectors * 512)
        control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
        self.path = f"/dev/loop{ioctl(control, _LOOP_CTL_GET_FREE)}"
        os.close(control)
        self._fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        # struct loop_config: the file, the block size, the (empty) old status, reserved words.
        configuration = bytearray(struct.pack("<II232s64s", backing, block_size, b"", b""))
        ioctl(self._fd, _LOOP_CONFIGURE, configuration)
        os.close(backing)

    def close(self):
        ioctl(self._fd, _LOOP_CLR_FD)
        os.close(self._fd)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
