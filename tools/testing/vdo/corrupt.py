# SPDX-License-Identifier: GPL-2.0

"""python3 -m vdo.corrupt [--trials N] [--seed N]: damaged volumes end in errors, not in a hang.

Each trial takes a volume that was stopped, or crashed, damages one of its structures, starts it and
uses it. Everything may fail, nothing may hang or crash the kernel; what the kernel logs is judged by
the VM. Data is not judged: the format has no checksums on it.
"""

import argparse
import os
import random
import struct
import sys
import zlib

from dataclasses import dataclass

from lib.blockio import BlockFile
from lib.devices import remove_all
from lib.runner import IMPL
from lib.runner import watchdog
from vdo.data import BLOCK
from vdo.data import ZERO
from vdo.data import compressible
from vdo.data import unique
from vdo.data import uniques
from vdo.rig import DATA0
from vdo.rig import ONE_SLAB
from vdo.rig import RAM0
from vdo.rig import SUPER
from vdo.rig import Volume
from vdo.rig import prepare
from vdo.rig import volume
from vdo.suite import PACKER
from vdo.suite import HAS

_END = ONE_SLAB.physical
_SUMMARY = _END - 64
_JOURNAL = _SUMMARY - 32768
_KEPT = _JOURNAL + 64           # no trial needs more of the journal than this
_PAGES = range(0, 12)           # blocks at the slab's start that pages of the map take


@dataclass
class Image:
    """What is on the disk of a volume."""

    name: str
    head: bytes
    body: bytes
    tail: bytes

    @classmethod
    def take(cls, name, journal=64):
        """With so many blocks of the journal."""
        with BlockFile(RAM0, readonly=True) as file:
            return cls(name, file.read(0, 8), file.read(SUPER * 8, (_JOURNAL + journal - SUPER) * 8),
                       file.read(_SUMMARY * 8, 64 * 8))

    def put(self):
        with BlockFile(RAM0) as file:
            file.discard(_JOURNAL * 8, (_END - _JOURNAL) * 8)
            file.write(0, self.head)
            file.write(SUPER * 8, self.body)
            file.write(_SUMMARY * 8, self.tail)

    def block(self, at):
        if at == 0:
            return self.head
        if at < _KEPT:
            return self.body[(at - SUPER) * BLOCK:(at - SUPER + 1) * BLOCK]
        return self.tail[(at - _SUMMARY) * BLOCK:(at - _SUMMARY + 1) * BLOCK]

    def used(self, blocks):
        return [at for at in blocks if self.block(at) != ZERO] or [blocks[0]]


def _load(v, first):
    """A bit of everything."""
    v.write(first, uniques(first, 64))
    v.write(first + 900, uniques(first, 16))
    v.write(first + 2000, ZERO * 8)
    v.write(first + 3000, b"".join(compressible(first + at, 500) for at in range(16)))
    v.discard(first + 10, 4)
    v.write(first, unique(first + 5000))
    v.flush()


def _images():
    line = ONE_SLAB.adding("compression on maxDiscard 8" if PACKER in HAS else "maxDiscard 8")
    v = volume(line)
    for turn in range(6):
        _load(v, 100 * turn)
    v = v.again()
    _load(v, 5000)
    v.remove(5)
    stopped = Image.take("stopped")
    v = v.start()
    for turn in range(10):
        _load(v, 7000 + 100 * turn)
    v.crash()
    return line, [stopped, Image.take("crashed")]


def _structures():
    """Names, and the blocks where one is."""
    slab = DATA0 + 7966
    return {"geometry": [0], "super block": [SUPER], "roots": list(range(SUPER + 1, DATA0)),
            "pages": [DATA0 + at for at in _PAGES], "counts": [slab, slab + 1],
            "slab journal": list(range(slab + 2, slab + 226)),
            "journal": list(range(_JOURNAL, _KEPT)), "summary": list(range(_SUMMARY, _END))}


def _checksummed(data, at):
    """The same with a right checksum at `at`, so that what is before is believed."""
    # As the kernel's crc32() has it, which does not invert the start.
    value = zlib.crc32(data[:at], 0xFFFFFFFF)
    return data[:at] + struct.pack("<I", value) + data[at + 4:]


_EXTREME = (0, 1, 0xFF, 0x7FFF, 0xFFFF, 0xFFFFFFFF, (1 << 48) - 1, 1 << 48, (1 << 64) - 1)


def damaged(data, chance):
    """One way to be wrong."""
    how = chance.randrange(6)
    used = len(data.rstrip(b"\0")) or 64
    block = bytearray(data)
    if how == 0:
        for _ in range(chance.choice((1, 1, 3, 20))):
            block[chance.randrange(used)] ^= 1 << chance.randrange(8)
    elif how == 1:
        block[:] = bytes(BLOCK)
    elif how == 2:
        block[:] = chance.randbytes(BLOCK)
    elif how == 3:
        at = chance.randrange(8) * 512
        block[at:at + 512] = chance.randbytes(512)
    else:
        size = chance.choice((1, 2, 4, 8))
        at = chance.randrange(max(used - size, 1))
        value = chance.choice(_EXTREME) & ((1 << 8 * size) - 1)
        block[at:at + size] = value.to_bytes(size, "little")
    return bytes(block)


def _hit(image, name, blocks, chance):
    """Damage one block of it, on the disk."""
    at = chance.choice(image.used(blocks))
    data = damaged(image.block(at), chance)
    if chance.randrange(4):
        # Damage behind a right checksum is what only the content can tell.
        if name == "super block":
            data = _checksummed(data, 434)
        elif name == "geometry":
            size = len(data.rstrip(b"\0"))
            data = _checksummed(data, max(size - 4, 0))
    with BlockFile(RAM0) as file:
        file.write(at * 8, data)
        if not chance.randrange(6):
            # And a second block of it holds another one's content.
            other = chance.choice(blocks)
            file.write(other * 8, image.block(chance.choice(blocks)))
    return at


def _try(call, *arguments):
    try:
        call(*arguments)
    except OSError:
        pass


def _use(v):
    """All kinds of requests, whatever becomes of them."""
    for lbn in range(0, 9000, 50):
        _try(v.read, lbn, 4)
    for lbn in (0, 3, 905, 3001, 5000, 7005, 7913):
        _try(v.write, lbn, unique(20000 + lbn))
        _try(v.discard, lbn + 1, 2)
    _try(v.write, 7500, uniques(30000, 64))
    _try(v.flush)
    v.status()
    v.message("stats")


def _trial(line):
    """How it went: refused, or the modes that it went through."""
    try:
        v = Volume(line)
    except OSError:
        return "refused"
    modes = [v.status_now().mode]
    _use(v)
    _try(v.suspend)
    _try(v.resume)
    _use(v)
    modes.append(v.status_now().mode)
    v.remove(20)
    try:
        v = Volume(line)
    except OSError:
        return " ".join(modes + ["refused"])
    _use(v)
    v.remove(20)
    return " ".join(modes)


def options():
    """Seed and number of trials, by the command line."""
    parser = argparse.ArgumentParser()
    long = os.environ.get("DMOX_MODE") == "long"
    parser.add_argument("--trials", type=int, default=300 if long else 50)
    parser.add_argument("--seed", type=int, default=None)
    chosen = parser.parse_args()
    seed = random.SystemRandom().randrange(1 << 32) if chosen.seed is None else chosen.seed
    return seed, chosen.trials


def main():
    seed, trials = options()
    print(f"# damaged volumes: {trials}, seed {seed}, {IMPL}", flush=True)
    prepare()
    with watchdog("making the volumes", 120):
        line, images = _images()
    structures = _structures()
    failed, ways = 0, {}
    for number in range(trials):
        chance = random.Random(f"{seed} {number}")
        name = list(structures)[number % len(structures)]
        image = chance.choice(images)
        image.put()
        at = _hit(image, name, structures[name], chance)
        what = f"trial {number}, seed {seed}: {image.name}, {name}, block {at}"
        try:
            with watchdog(what, 120):
                way = _trial(line)
        except Exception as error:
            failed += 1
            print(f"FAIL {what}: {error}", flush=True)
        else:
            key = f"{name}: {way}"
            ways[key] = ways.get(key, 0) + 1
        remove_all()
    for key in sorted(ways):
        print(f"# {ways[key]:3} {key}")
    print(f"{trials - failed} passed, {failed} failed", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
