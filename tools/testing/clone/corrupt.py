# SPDX-License-Identifier: GPL-2.0

"""python3 -m clone.corrupt [--count N] [--seed N]: damaged metadata, most of it with good checksums.

An image is damaged by one seed, loaded and used. It must be refused with an error of the format, or
serve: requests succeed or fail with EIO, and what was written reads back. What the kernel's log says
is judged outside.
"""

import argparse
import lzma
import os
import random
import struct
import sys

from errno import EILSEQ
from errno import EINVAL
from errno import EIO
from errno import ENODATA
from errno import ENOSPC
from errno import ENOTBLK

from clone.lifecycle import IMAGES
from clone.rig import Clone
from clone.rig import Rig
from clone.rig import user
from lib import pdata
from lib.devices import prepare
from lib.devices import remove_all
from lib.runner import watchdog

_REFUSALS = {EILSEQ, ENOTBLK, EINVAL, EIO, ENODATA, ENOSPC}
_NAMES = ["fresh-r8", "partial-r8-odd", "complete-r8", "discards-r16", "partial-r2048",
          "twolevel-r8", "wrapped-r8", "torn-r8", "crash-r8"]
_LARGEST = 72000000

# Where the fields of each kind of block are: offset and form.
_FIELDS = {
    "superblock": [(4, "I"), (8, "Q"), (32, "Q"), (40, "I"), (44, "Q"), (52, "Q"), (60, "Q"),
                   (68, "Q"), (172, "Q"), (180, "Q"), (188, "Q")],
    "node": [(4, "I"), (8, "Q"), (16, "I"), (20, "I"), (24, "I"), (32, "Q"), (40, "Q"),
             (2048, "Q"), (2056, "Q")],
    "array": [(4, "I"), (8, "I"), (12, "I"), (16, "Q"), (24, "Q")],
    "index": [(8, "Q"), (16, "Q"), (24, "I"), (28, "I"), (32, "Q")],
    "bitmap": [(8, "Q"), (16, "Q"), (24, "Q"), (2000, "Q")],
}


class Image:
    """A sound image, to be damaged."""

    def __init__(self, name):
        with lzma.open(f"{IMAGES}/{name}.img.xz") as file:
            self.data = bytearray(file.read())
        found = pdata.check(lambda at: bytes(self.block(at)))
        self.kinds = sorted(found.kinds.items())
        self.superblock = found.superblock
        self.told = []
        self.space_map = False

    def block(self, number):
        return self.data[number * pdata.BLOCK:(number + 1) * pdata.BLOCK]

    def put(self, number, kind, block, sealed):
        block = pdata.seal(kind, block) if sealed else block
        self.data[number * pdata.BLOCK:(number + 1) * pdata.BLOCK] = block
        # A space map that lies may give away blocks in use: what was written need not last.
        self.space_map |= kind in ("superblock", "index", "bitmap") or kind == "node" and sealed

    def damage(self, chance):
        number, kind = chance.choice(self.kinds)
        way = chance.choice((self._field, self._field, self._field, self._bits, self._bits_sealed,
                             self._exchange, self._fill, self._cut))
        way(chance, number, kind)

    def _field(self, chance, number, kind):
        offset, form = chance.choice(_FIELDS[kind])
        blocks = self.superblock.blocks
        value = chance.choice((0, 1, 2, 3, 255, 1 << 31, (1 << 32) - 1, 1 << 32, 1 << 63,
                               (1 << 64) - 1, blocks - 1, blocks, blocks + 1, number,
                               chance.choice(self.kinds)[0], chance.randrange(blocks)))
        value &= (1 << 8 * struct.calcsize("<" + form)) - 1
        block = self.block(number)
        struct.pack_into("<" + form, block, offset, value)
        self.put(number, kind, block, True)
        self.told.append(f"{kind} {number}: {value:#x} at {offset}")

    def _bits(self, chance, number, kind, sealed=False):
        block = self.block(number)
        places = [chance.randrange(pdata.BLOCK * 8) for _ in range(chance.randrange(1, 9))]
        for place in places:
            block[place // 8] ^= 1 << place % 8
        self.put(number, kind, block, sealed)
        self.told.append(f"{kind} {number}: bits {places} turned{', sealed' if sealed else ''}")

    def _bits_sealed(self, chance, number, kind):
        self._bits(chance, number, kind, True)

    def _exchange(self, chance, number, kind):
        """Another block's content, with or without the right number."""
        other, other_kind = chance.choice(self.kinds)
        block = self.block(other)
        if chance.randrange(2):
            struct.pack_into("<Q", block, 16 if other_kind == "array" else 8, number)
        self.put(number, chance.choice((kind, other_kind)), block, True)
        self.told.append(f"{kind} {number}: content of {other_kind} {other}")

    def _fill(self, chance, number, kind):
        """A block of one byte, with a good header or without."""
        byte = chance.choice((0, 0xAA, 0xFF))
        keep = chance.choice((0, 16, 32))
        block = self.block(number)[:keep] + bytearray([byte]) * (pdata.BLOCK - keep)
        self.put(number, kind, block, chance.randrange(2))
        self.told.append(f"{kind} {number}: filled with {byte:#x} from {keep} on")

    def _cut(self, chance, _, __):
        blocks = chance.randrange(len(self.data) // pdata.BLOCK)
        del self.data[max(blocks, 1) * pdata.BLOCK:]
        self.space_map = True
        self.told.append(f"cut to {max(blocks, 1)} blocks")


def _geometry(image, chance):
    """Region size and length for the table: the image's own, or what it now claims."""
    size, length = image.superblock.region_size, image.superblock.target_size
    if chance.randrange(2):
        claimed_size, claimed = struct.unpack_from("<2Q", image.data, 172)
        if 0 < claimed <= _LARGEST and 8 <= claimed_size <= 2097152 \
                and not claimed_size & claimed_size - 1:
            size, length = claimed_size, claimed
    return size, length


def _attempt(call, *arguments):
    """True if it succeeded, False if it failed as it may."""
    try:
        call(*arguments)
        return True
    except OSError as error:
        assert error.errno == EIO, f"{call.__name__} failed with errno {error.errno}"
        return False


def _open(table):
    try:
        return Clone("clone", table)
    except OSError as error:
        assert error.errno in _REFUSALS, f"refused with errno {error.errno}"
        return None


def _use(clone, size, length, chance):
    """Requests of each kind; returns the sectors that must hold user data after a reopen."""
    written = []
    with clone.open() as file:
        for turn in range(6):
            start = chance.randrange(length)
            if turn % 2:
                start -= start % size
            count = min(length - start, chance.choice((1, 8, size, 3 * size)), 2048)
            _attempt(file.read, start, count)
            if _attempt(file.write, start, user(start, count, turn)):
                written = [(at, many, tag) for at, many, tag in written
                           if at + many <= start or start + count <= at]
                written.append((start, count, turn))
                found = file.read(start, count)
                assert found == user(start, count, turn), f"sector {start} does not read back"
        start = chance.randrange(length) // size * size
        if not any(at < start + size and start < at + many for at, many, _ in written):
            _attempt(file.discard, start, min(size, length - start))
        stable = _attempt(file.flush)
        clone.status()
        clone.message("hydration_threshold 16")
        clone.message("enable_hydration")
        for start, count, turn in written:
            assert file.read(start, count) == user(start, count, turn), f"sector {start} changed"
        clone.message("disable_hydration")
        stable = _attempt(file.flush) and stable
    return written if stable else []


def _try(seed, rig):
    """One damaged image; returns what was done to it, and what came of it."""
    chance = random.Random(seed)
    name = chance.choice(_NAMES)
    image = Image(name)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        if len(image.data) > pdata.BLOCK * max(number for number, _ in image.kinds):
            image.damage(chance)
    told = f"{name}, {'; '.join(image.told)}"
    try:
        rig.meta.resize(len(image.data) // 512)
        with rig.meta.open() as meta:
            meta.write(0, bytes(image.data))
        size, length = _geometry(image, chance)
        table = rig.table(f"{size} 1 no_hydration", length)
        clone = _open(table)
        if not clone:
            return told, "refused"
        kept = _use(clone, size, length, chance)
        clone.remove()
        clone = _open(table)
        if clone:
            if not image.space_map:
                with clone.open() as file:
                    for start, count, turn in kept:
                        assert file.read(start, count) == user(start, count, turn), \
                            f"sector {start} was lost"
            clone.status()
            clone.remove()
        return told, "served"
    except (AssertionError, OSError) as error:
        raise AssertionError(f"{told}: {type(error).__name__} {error}") from error


def main():
    parser = argparse.ArgumentParser()
    long = os.environ.get("DMOX_MODE") == "long"
    parser.add_argument("--count", type=int, default=300 if long else 50)
    parser.add_argument("--seed", type=int, default=None, help="of the first image")
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    first = random.SystemRandom().randrange(1 << 32) if options.seed is None else options.seed
    print(f"# corrupted images: {options.count} from seed {first} on", flush=True)
    prepare()
    outcomes = {"refused": 0, "served": 0}
    failed = 0
    for seed in range(first, first + options.count):
        with watchdog(f"seed {seed}", 120):
            rig = Rig(dest=_LARGEST, src=_LARGEST, fill=False)
            try:
                told, outcome = _try(seed, rig)
                outcomes[outcome] += 1
                if options.verbose:
                    print(f"# {seed}: {outcome}: {told}", flush=True)
            except AssertionError as error:
                failed += 1
                print(f"FAIL seed {seed}: {error}", flush=True)
            remove_all()
    print(f"# {outcomes['refused']} refused, {outcomes['served']} served")
    print(f"{sum(outcomes.values())} passed, {failed} failed", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
