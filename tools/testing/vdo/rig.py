# SPDX-License-Identifier: GPL-2.0

"""A volume over a ram disk or a layer on one, and what tests ask of it."""

import contextlib
import os
import re
import subprocess
import threading
import time

from dataclasses import dataclass
from dataclasses import replace

from lib import devices
from lib import dm
from lib.blockio import BlockFile
from lib.devices import Layer
from lib.devices import until
from lib.kmsg import Log
from vdo import stats
from vdo.data import BLOCK
from vdo.data import same
from vdo.data import uniques
from vdo.suite import DEDUPE
from vdo.suite import IMPL

GIB = 1 << 18           # in blocks
RAM0, RAM1 = map(devices.ramdisk, range(2))

# Where things are in a volume of 8 GiB with the smallest index.
SUPER = 679128          # the super block; the roots follow
DATA0 = SUPER + 61      # the first data block
JOURNAL0 = 2064320

# The index state of a suspended volume: LVM does not understand C's, ours shows what it is.
SUSPENDED = "suspended" if IMPL == "c" else "closed"

_LEAF = 812
_SETTLE_SECONDS = 10


@dataclass(frozen=True)
class Line:
    """A table line, version 4."""

    options: str = ""
    device: str = RAM0
    physical: int | str = 2097152
    length: int = 2097152
    size: int | str = 4096
    cache: int | str = 32768
    era: int | str = 16380
    exact: bool = False

    def but(self, **changes):
        return replace(self, **changes)

    def adding(self, options):
        return replace(self, options=f"{self.options} {options}".strip())

    def __str__(self):
        words = (f"0 {self.length} vdo V4 {self.device} {self.physical} {self.size} {self.cache} "
                 f"{self.era} {self.options}").strip()
        if not DEDUPE and not self.exact and "deduplication" not in self.options:
            words += " deduplication off"
        return words


SMALL = Line("slabSize 8192")                   # VOL-A: 169 slabs of 32 MiB
SECTORS = SMALL.but(size=512)                   # VOL-512
DEFAULT = Line()                                # VOL-D: 2 slabs of 2 GiB
MEDIUM = SMALL.but(physical=1048576)            # VOL-4: 41 slabs
ONE_SLAB = SMALL.but(physical=720213)           # VOL-S
LARGE = SMALL.but(physical=1572864)             # VOL-6


def disks(gib=8):
    """Two empty ram disks of this size; memory is taken only for what is written."""
    subprocess.run(["modprobe", "-r", "brd"], check=True)
    devices.modprobe("brd", "rd_nr=2", f"rd_size={gib << 20}")


def prepare():
    """Modules and disks; once a boot."""
    devices.modprobe("-a", "dm-mod", "dm-delay", "dm-flakey", "loop", "dm-vdo")
    devices.modprobe("brd", "rd_nr=2", f"rd_size={8 << 20}")


def on_disk(path, block, count=1):
    """Blocks of a disk."""
    with BlockFile(path, readonly=True) as file:
        return file.read(block * 8, count * 8)


def put(path, block, data):
    with BlockFile(path) as file:
        file.write(block * 8, data)


def damage(path, block, offset, mask):
    """Change a byte of a block."""
    data = bytearray(on_disk(path, block))
    data[offset] ^= mask
    put(path, block, bytes(data))


def blank(path=RAM0):
    """What makes a disk a new one."""
    put(path, 0, bytes(BLOCK))


def is_blank(path=RAM0):
    return on_disk(path, 0) == bytes(BLOCK)


def state_word(path=RAM0, block=SUPER):
    """The volume state in the super block."""
    return int.from_bytes(on_disk(path, block)[40:44], "little")


def tool(*command, code=0):
    """A program of package vdo or another; its output, after checking how it ended."""
    environment = dict(os.environ, DM_DISABLE_UDEV="1")
    done = subprocess.run(command, env=environment, text=True, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    ended = done.returncode if code is not None else None
    assert ended == code, f"{command}: status {done.returncode}, not {code}: {done.stdout}"
    return done.stdout


def dmox(*words, code=0):
    """What `dmox vdo` prints. The program is built by `run`."""
    return tool(os.path.abspath("build/dmox"), "vdo", *words, code=code)


def said(log, *texts):
    """Every text is in the log since then."""
    try:
        until(lambda: all(log.has(text) for text in texts), "log lines", 5)
    except AssertionError:
        missing = [text for text in texts if not log.has(text)]
        raise AssertionError(f"not in the log: {missing}; log: {log.lines()[-16:]}") from None


@contextlib.contextmanager
def logging(*texts, never=()):
    """Around what must log these texts."""
    log = Log()
    try:
        yield log
        said(log, *texts)
        for text in never:
            log.forbid(text)
    finally:
        log.close()


def fails(code, call, *arguments, **named):
    """The call must fail with this errno, or with one of these."""
    codes = code if isinstance(code, tuple) else (code,)
    try:
        call(*arguments, **named)
    except OSError as error:
        assert error.errno in codes, f"errno {error.errno}, not {code}"
    else:
        raise AssertionError(f"{getattr(call, '__name__', call)}{arguments[:1]} succeeded, "
                             f"not errno {code}")


def refused(line, code, *texts, readonly=False, never=()):
    """Creating must fail with this errno, these words in the log, and leave no device."""
    log = Log()
    try:
        volume = Volume(line, name="refused", readonly=readonly)
    except OSError as error:
        codes = code if isinstance(code, tuple) else (code,)
        assert error.errno in codes, f"{line}: errno {error.errno}, not {code}"
        said(log, *texts)
        for text in never:
            log.forbid(text)
    else:
        table = volume.table()
        volume.remove()
        raise AssertionError(f"accepted: {table}")
    finally:
        log.close()


@dataclass
class Status:
    """A status line, taken apart."""

    device: str
    mode: str
    recovery: str
    index: str
    compression: str
    used: int
    total: int


def parse_status(line):
    match = re.fullmatch(r"0 (\d+) vdo (/dev/\S+) (\S+) (\S+) (\S+) (\S+) (\d+) (\d+)", line)
    assert match, f"status line {line!r}"
    _, *words, used, total = match.groups()
    return Status(*words, int(used), int(total))


def _pieces(offset, length):
    """How many blocks a range touches, and how many of them not as a whole."""
    pieces = (offset + length - 1) // BLOCK - offset // BLOCK + 1
    whole = (offset + length) // BLOCK - (offset + BLOCK - 1) // BLOCK
    return pieces, pieces - max(whole, 0)


class Change:
    """Operations of one step: what they must add to the counters without being listed."""

    def __init__(self):
        self.auto = {}

    def add(self, **counts):
        for name, count in counts.items():
            self.auto[name] = self.auto.get(name, 0) + count


class Volume(dm.Device):
    """A vdo device. Blocks are numbered as users see them."""

    def __init__(self, line, name="v", readonly=False, leaves=(), start=True):
        """`start=False`: only the device, without a table."""
        self.line = line
        self._files = {}
        self._opening = threading.Lock()
        self._ops = Change()
        # Leaf pages of the block map that exist, as far as this test made them.
        self.leaves = set(leaves)
        super().__init__(name, str(line) if start else None, readonly)

    # Life.

    def _close(self):
        for file in self._files.values():
            file.close()
        self._files = {}

    def remove(self, patience_seconds=0):
        self._close()
        super().remove(patience_seconds)

    def again(self, line=None, **how):
        """Remove it cleanly and start it again."""
        self.remove(5)
        return self.start(line, **how)

    def crashed(self, line=None, **how):
        """End it without saving anything, and start it again."""
        self.crash()
        return self.start(line, **how)

    def crash(self):
        self.suspend(noflush=True)
        self.remove(5)

    def start(self, line=None, ready=True, **how):
        volume = Volume(line or self.line, self.name, leaves=self.leaves, **how)
        if ready:
            volume.ready()
        return volume

    def ready(self):
        """Wait for the index, if it is to be used, and for the end of a recovery."""
        wanted = "online" if DEDUPE and "deduplication off" not in str(self.line) else "closed"
        until(lambda: self.status_now().index == wanted, f"index {wanted}", 60,
              lambda: self.status())
        return self

    # What it says.

    def status_now(self):
        return parse_status(self.status(noflush=True)[0])

    def shows(self, wanted):
        """The status line from the mode on; where the index opens it may be open already, and
        without an index it is closed."""
        line = self.status(noflush=True)[0]
        found = line.split(" ", 4)[4].split()
        words = wanted.split()
        index = {words[2]}
        if not DEDUPE and words[2] in ("opening", "online", "offline", "closing"):
            index = {"closed"}
        elif words[2] == "opening":
            index.add("online")
        assert found[2] in index and found[:2] + found[3:] == words[:2] + words[3:], \
            f"status {line!r}, not {wanted!r}"

    def becomes(self, field, wanted, seconds=60):
        """Wait for a word of the status line."""
        if field == "index" and not DEDUPE:
            wanted = "closed"
        until(lambda: getattr(self.status_now(), field) == wanted, f"{field} {wanted}", seconds,
              lambda: self.status())

    def stats(self):
        return stats.parse(self.message("stats"))

    def counters(self):
        """The compared counters once nothing is in flight and they rest."""
        limit = time.monotonic() + _SETTLE_SECONDS
        before = None
        while True:
            fields = self.stats()
            now = stats.steady(fields)
            if now == before and (stats.settled(fields) or time.monotonic() > limit):
                return stats.short(fields)
            before = now
            time.sleep(0.02)

    @contextlib.contextmanager
    def delta(self, *listed, off=None, pages=True, free=(), **more):
        """What is done inside adds exactly this to the counters. `off`: the same without an
        index; `free`: counters that the caller judges himself; `pages=False`: do not compare the
        block map's. Yields a dictionary that holds the changes afterwards."""
        wanted = stats.total(*listed, **more)
        if not DEDUPE:
            assert off is not None or not set(wanted) & {"hit", "qhit", "valid", "stale", "match"}
            wanted = wanted if off is None else off
            wanted = {name: count for name, count in wanted.items() if name not in stats.INDEX}
        before = self.counters()
        self._ops = Change()
        seen = {}
        yield seen
        wanted = stats.total(self._ops.auto, wanted)
        skip = set(free) | ({"jb"} if wanted.get("je") else set())
        if not pages:
            skip |= {"mapr", "mapw"}
        limit = time.monotonic() + 3
        while True:
            after = self.counters()
            seen.update({name: after[name] - before[name] for name in after})
            wrong = [f"{name}{seen[name]:+}, not {wanted.get(name, 0):+}" for name in after
                     if name not in skip and seen[name] != wanted.get(name, 0)]
            if not wrong or time.monotonic() > limit:
                break
        assert not wrong, f"counters: {', '.join(wrong)}"
        if "jb" in skip and "jb" not in free:
            assert 1 <= seen["jb"] <= wanted["je"], f"jb{seen['jb']:+} for je{wanted['je']:+}"

    def parked(self, count):
        """Wait until so many fragments wait in the packer for others."""
        def seen():
            return self.stats()["packer.compressedFragmentsInPacker"]
        until(lambda: seen() == count, f"{count} fragments parked", 10, lambda: str(seen()))

    def pack(self, lbn, fragments):
        """Write so many that they fill one compressed block."""
        if IMPL == "c":
            # At once, they would be in several bins.
            self.write_each(lbn, fragments[:-1])
            self.parked(len(fragments) - 1)
            self.write(lbn + len(fragments) - 1, fragments[-1])
            self.parked(0)
        else:
            self.write(lbn, b"".join(fragments))

    # Using it.

    def file(self, dsync=False):
        with self._opening:
            if dsync not in self._files:
                self._files[dsync] = BlockFile(self.path, dsync=dsync)
            return self._files[dsync]

    def open(self, **how):
        """A file of one's own, which nothing counts."""
        return BlockFile(self.path, **how)

    def _pages(self, first, last, fresh):
        """How many of these blocks have a leaf page, after making those that are missing."""
        blocks = range(first, last + 1)
        if fresh:
            self.leaves.update(one // _LEAF for one in blocks)
        return sum(one // _LEAF in self.leaves for one in blocks)

    def _count(self, kind, offset, length, mapped):
        """Every 4 KiB piece of a read or write is a request of its own."""
        pieces, parts = _pieces(offset, length)
        first = offset // BLOCK
        pages = self._pages(first, first + pieces - 1, kind == "w")
        self._ops.add(**{f"in_{kind}": pieces, f"inP_{kind}": parts})
        if mapped:
            self._ops.add(mapr=pages)
            if kind == "w":
                self._ops.add(mapr=parts, mapw=pages)

    def write_at(self, offset, data, fua=False, mapped=True):
        self._count("w", offset, len(data), mapped)
        if fua:
            pieces, parts = _pieces(offset, len(data))
            self._ops.add(fo=1, in_empty=1, in_flush=1, in_fua=pieces, inP_fua=parts)
        self.file(dsync=fua).write(offset // 512, data)

    def write(self, lbn, data, fua=False):
        """One write request."""
        self.write_at(lbn * BLOCK, data, fua)

    def write_each(self, first, blocks):
        """One request after the other."""
        for at, block in enumerate(blocks):
            self.write(first + at, block)

    def read_at(self, offset, length, mapped=True):
        self._count("r", offset, length, mapped)
        return self.file().read(offset // 512, length // 512)

    def read(self, lbn, count=1, mapped=True):
        return self.read_at(lbn * BLOCK, count * BLOCK, mapped)

    def holds(self, lbn, wanted, what=""):
        """It reads like this from there on."""
        same(self.read(lbn, len(wanted) // BLOCK), wanted, what or f"LBN {lbn}")

    def discard(self, lbn, count=1):
        """What it adds to in.d is listed: it depends on the limits."""
        self._ops.add(mapr=self._pages(lbn, lbn + count - 1, False),
                      mapw=self._pages(lbn, lbn + count - 1, False))
        self.file().discard(lbn * 8, count * 8)

    def discard_at(self, offset, length):
        """Not whole blocks; the pages are counted as for writes, but none is made."""
        pieces, parts = _pieces(offset, length)
        first = offset // BLOCK
        pages = self._pages(first, first + pieces - 1, False)
        if pages:
            self._ops.add(mapr=pages + parts, mapw=pages)
        self.file().discard(offset // 512, length // 512)

    def zero(self, lbn, count=1):
        pages = self._pages(lbn, lbn + count - 1, True)
        self._ops.add(in_w=count, mapr=pages, mapw=pages)
        self.file().zero(lbn * 8, count * 8)

    def flush(self):
        self._ops.add(fo=1, in_empty=1, in_flush=1)
        self.file().flush()

    def counted(self, **counts):
        """Operations that this object did not see."""
        self._ops.add(**counts)


def volume(line=SMALL, make_blank=True, **how):
    """A new volume, its index ready."""
    if make_blank:
        blank(line.device)
    return Volume(line, **how).ready()


def small():
    return volume(SMALL)


def sectors():
    return volume(SECTORS)


class Below:
    """A volume over a layer that can be told to fail or to wait."""

    def __init__(self, line=SMALL, disk=RAM0, gib=8, fill=8):
        blank(disk)
        self.layer = Layer("b", disk, gib * GIB * 8)
        self.v = volume(line.but(device=self.layer.path), make_blank=False)
        if fill:
            self.v.write_each(0, [uniques(key, 1) for key in range(fill)])
            self.v.flush()

    def pieces(self, kind, *ranges):
        """Only these blocks fail (`error`), or only reads of them wait (`delay`): pairs of first
        and behind the last, in order."""
        lines, at = [], 0
        for first, end in ranges:
            if first * 8 > at:
                lines.append(self.layer.linear(at, first * 8 - at))
            line = f"{first * 8} {(end - first) * 8} {kind}"
            if kind == "delay":
                line += f" {self.layer.below} {first * 8} 3600000 {self.layer.below} {first * 8} 0"
            lines.append(line)
            at = end * 8
        if at < self.layer.sectors:
            lines.append(self.layer.linear(at))
        self.layer.swap("\n".join(lines))

    def fail_blocks(self, *ranges):
        self.pieces("error", *ranges)

    def flaky(self):
        self.layer.fail_writes()



