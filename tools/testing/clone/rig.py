# SPDX-License-Identifier: GPL-2.0

"""The standard set of a case: metadata, destination and source, each a layer over a ramdisk, and
the clone above them. In the source each sector holds its own number; the destination is filled
with another pattern.
"""

import functools
import re

from dataclasses import dataclass

from lib import devices
from lib import dm
from lib import pdata
from lib.blockio import BlockFile
from lib.blockio import aligned
from lib.blockio import describe
from lib.blockio import pattern
from lib.devices import Layer
from lib.devices import until
from lib.kmsg import Log
from lib.writelog import LogWrites

META = 32768
SECTORS = 131072
REGIONS = SECTORS // 8
IDLE = "8 1 no_hydration"

SOURCE_TAG = 0x50C5
DEST_TAG = 0xDE57
USER_TAG = 0x05E2

_META_DISK, _DEST_DISK, _SOURCE_DISK, SPARE_DISK = map(devices.ramdisk, range(4))
_STATUS = re.compile(
    r"(\d+) (\d+) clone 8 (\d+)/(\d+) (\d+) (\d+)/(\d+) (\d+) ([012])((?: [a-z_]+)*)"
    r" 4 hydration_threshold (\d+) hydration_batch_size (\d+) (rw|ro)")


@functools.cache
def _whole(tag):
    return pattern(tag, 0, SECTORS)


def source(sector, count):
    """What the source holds there."""
    return _whole(SOURCE_TAG)[sector * 512:(sector + count) * 512]


def old(sector, count):
    """What the destination held there at first."""
    return _whole(DEST_TAG)[sector * 512:(sector + count) * 512]


def user(sector, count, version=0):
    """Data for a user's write, told from others by its version."""
    return pattern(USER_TAG + (version << 16), sector, count)


@functools.cache
def _destination():
    return aligned(_whole(DEST_TAG))


@functools.cache
def _fill_source():
    with BlockFile(_SOURCE_DISK) as disk:
        disk.write(0, _whole(SOURCE_TAG))


@dataclass
class State:
    """A status line, taken apart."""

    used: int
    blocks: int
    region_size: int
    hydrated: int
    regions: int
    hydrating: int
    features: tuple
    threshold: int
    batch: int
    mode: str


FAIL = "Fail"


def parse(line):
    """The state, or the word Fail."""
    if line.split(" ", 3)[3] == FAIL:
        return FAIL
    match = _STATUS.fullmatch(line)
    assert match, f"status line {line!r}"
    start, length, used, blocks, size, hydrated, regions, hydrating, count, features, threshold, \
        batch, mode = match.groups()
    names = tuple(features.split())
    assert len(names) == int(count), f"status line {line!r}"
    return State(int(used), int(blocks), int(size), int(hydrated), int(regions), int(hydrating),
                 names, int(threshold), int(batch), mode)


class Clone(dm.Device):
    """A mapped device whose first target is a clone."""

    def state(self, noflush=False):
        return parse(self.status(noflush)[0])

    @property
    def hydrated(self):
        """The count, without causing a commit."""
        return self.state(noflush=True).hydrated

    @property
    def mode(self):
        state = self.state(noflush=True)
        return state if state == FAIL else state.mode

    @property
    def in_flight(self):
        """Requests that users wait for."""
        with open(f"/sys/dev/block/{self.number}/inflight") as file:
            return sum(map(int, file.read().split()))

    def open(self, **how):
        return BlockFile(self.path, **how)

    def hydrate(self, seconds=120.0):
        """Enable it and wait for the end."""
        self.message("enable_hydration")
        self.finish(seconds)

    def reach(self, regions, seconds=120.0):
        """Wait until so many are hydrated."""
        until(lambda: self.hydrated == regions, f"{regions} hydrated", seconds,
              lambda: self.status(noflush=True))

    def finish(self, seconds=120.0):
        """Wait until all are hydrated and no copy runs."""
        def complete():
            state = self.state(noflush=True)
            return state.hydrated == state.regions and not state.hydrating
        until(complete, "hydration's end", seconds, lambda: self.status(noflush=True))


class Rig:
    """The three layers below, fresh. `use` says what the clone's table names."""

    def __init__(self, meta=META, dest=SECTORS, src=SECTORS, dest_disk=_DEST_DISK, fill=True,
                 logged=False):
        """`logged`: metadata and destination are parts of one log-writes device, `both`, so that
        one log has the order of all writes."""
        self.log = Log()
        _fill_source()
        with BlockFile(_META_DISK) as disk:
            disk.discard(0, max(meta, META))
        meta_disk, at = _META_DISK, 0
        if logged:
            self.both = LogWrites("both", dest_disk, meta + dest, SPARE_DISK)
            meta_disk, at = self.both.path, meta
        with BlockFile(dest_disk) as disk:
            if logged:
                disk.discard(0, meta)
            if fill:
                disk.write(at, _destination())
        self.meta = Layer("meta", meta_disk, meta)
        self.dest = Layer("dest", self.both.path if logged else dest_disk, dest, at)
        self.src = Layer("src", _SOURCE_DISK, src)
        self.use = {"meta": self.meta, "dest": self.dest, "src": self.src}

    def blank(self):
        """Metadata as new."""
        with self.meta.open() as meta:
            meta.discard(0, self.meta.sectors)

    def table(self, rest=IDLE, length=SECTORS, start=0):
        devices = " ".join(device.number for device in self.use.values())
        return f"{start} {length} clone {devices} {rest}"

    def create(self, rest=IDLE, length=SECTORS, readonly=False, name="clone"):
        return Clone(name, self.table(rest, length), readonly)

    def on_disk(self):
        """What the metadata device holds now, found consistent."""
        with self.meta.open(readonly=True) as file:
            return pdata.check_device(file)

    def forget(self):
        """Count requests from here on."""
        for layer in (self.meta, self.dest, self.src):
            layer.forget()

    def refuse(self, code, *texts, rest=IDLE, length=SECTORS, table=None, readonly=False):
        """Creating must fail with this errno (or one of these), and these words in the log."""
        codes = code if isinstance(code, tuple) else (code,)
        log = Log()
        try:
            clone = Clone("refused", table or self.table(rest, length), readonly)
        except OSError as error:
            assert error.errno in codes, f"{rest}: errno {error.errno}, not {code}"
            log.require(*texts)
        else:
            raise AssertionError(f"accepted: {clone.table()}")
        finally:
            log.close()


def fails(code, call, *arguments):
    """The call must fail with this errno."""
    try:
        call(*arguments)
    except OSError as error:
        assert error.errno == code, f"errno {error.errno}, not {code}"
    else:
        raise AssertionError(f"{call.__name__}{arguments[:1]} succeeded, not errno {code}")


def same(found, wanted, what="data"):
    """Compare contents and say where they part."""
    if found == wanted:
        return
    assert len(found) == len(wanted), f"{what}: {len(found)} bytes, not {len(wanted)}"
    for at in range(0, len(found), 512):
        if found[at:at + 512] != wanted[at:at + 512]:
            raise AssertionError(f"{what}: sector {at // 512} from the start holds "
                                 f"{describe(found[at:])}, not {describe(wanted[at:])}")


def holds(clone, sector, wanted, what="data"):
    """The device reads like this from `sector` on."""
    with clone.open(readonly=True) as file:
        same(file.read(sector, len(wanted) // 512), wanted, what)


def commit(clone):
    """Flush the device."""
    with clone.open() as file:
        file.flush()
