# SPDX-License-Identifier: GPL-2.0

"""Clone metadata, read and damaged by hand: layouts, checksums, reference counts.

Written from the format's description, sharing nothing with the code under test.
"""

import struct

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

BLOCK = 4096
SECTORS = BLOCK // 512
MAGIC = 0x8AF27F64

# Kind of a block: salt of its checksum, and where it keeps its own number.
SALT = {"superblock": 257649492, "node": 121107, "array": 595846735, "index": 160478,
        "bitmap": 240779}
_OWN_NUMBER = {"superblock": 8, "node": 8, "array": 16, "index": 8, "bitmap": 8}

_PER_BITMAP = (BLOCK - 16) * 4
_PER_ARRAY = (BLOCK - 24) // 8
_DEPTH_MAX = 16


class Damaged(Exception):
    """The metadata breaks a rule of the format."""


def _table():
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return tuple(table)


_CRC = _table()


def checksum(kind, block):
    crc = 0xFFFFFFFF
    table = _CRC
    for byte in block[4:]:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ SALT[kind]


def seal(kind, block):
    """The block with a right checksum."""
    return struct.pack("<I", checksum(kind, block)) + bytes(block[4:])


@lru_cache(8192)
def _sound(kind, number, block):
    if len(block) != BLOCK:
        raise Damaged(f"{kind} {number} lies outside the device")
    if struct.unpack_from("<Q", block, _OWN_NUMBER[kind])[0] != number:
        raise Damaged(f"{kind} {number} has another number")
    if struct.unpack_from("<I", block)[0] != checksum(kind, block):
        raise Damaged(f"{kind} {number} has a wrong checksum")


@dataclass
class Superblock:
    """Block 0. `root` is where the bitset's tree begins."""

    flags: int
    uuid: bytes
    version: int
    blocks: int
    allocated: int
    index: int
    overflow: int
    region_size: int
    target_size: int
    root: int

    @property
    def regions(self):
        return -(-self.target_size // self.region_size)


def superblock(block):
    _sound("superblock", 0, block)
    flags, = struct.unpack_from("<I", block, 4)
    uuid = block[16:32]
    magic, version, *space = struct.unpack_from("<QI4Q", block, 32)
    if magic != MAGIC or version != 1:
        raise Damaged(f"superblock with magic {magic:#x}, version {version}")
    return Superblock(flags, uuid, version, *space, *struct.unpack_from("<3Q", block, 172))


@dataclass
class Metadata:
    """A whole consistent image: the superblock, the bits as one number, each live block's kind."""

    superblock: Superblock
    bits: int
    kinds: dict

    @property
    def hydrated(self):
        return self.bits.bit_count()


class _Walk:
    """Follows every pointer once, and counts them."""

    def __init__(self, fetch):
        self._fetch = fetch
        self.kinds = {0: "superblock"}
        self.counts = Counter({0: 1})

    def block(self, kind, number):
        data = self._fetch(number)
        _sound(kind, number, data)
        if self.kinds.setdefault(number, kind) != kind:
            raise Damaged(f"block {number} has two uses")
        self.counts[number] += 1
        return data

    def tree(self, root, value_size):
        """(key, value) of all leaves, in order; without recursion."""
        pairs = []
        todo = [(root, 0)]
        while todo:
            number, depth = todo.pop()
            node = self.block("node", number)
            flags, = struct.unpack_from("<I", node, 4)
            used, room, size = struct.unpack_from("<3I", node, 16)
            leaf = flags == 2
            wanted = value_size if leaf else 8
            if flags not in (1, 2) or size != wanted or depth > _DEPTH_MAX \
                    or room != (BLOCK - 32) // (8 + size) // 3 * 3 or used > room:
                raise Damaged(f"node {number}: flags {flags}, {used} of {room}, size {size}")
            keys = struct.unpack_from(f"<{used}Q", node, 32)
            if any(left >= right for left, right in zip(keys, keys[1:])):
                raise Damaged(f"node {number}: keys out of order")
            form = "<Q" if wanted == 8 else "<I"
            values = [struct.unpack_from(form, node, 32 + 8 * room + at * size)[0]
                      for at in range(used)]
            if leaf:
                pairs.extend(zip(keys, values))
            else:
                todo.extend((child, depth + 1) for child in reversed(values))
        return pairs

    def bitset(self, root, bits):
        """All bits as one number."""
        words = b""
        for key, number in self.tree(root, 8):
            block = self.block("array", number)
            room, used, size = struct.unpack_from("<3I", block, 4)
            if (room, size) != (_PER_ARRAY, 8) or used > room or key * room * 8 != len(words):
                raise Damaged(f"array block {number}: key {key}, {used} of {room}, size {size}")
            words += block[24:24 + used * 8]
        if len(words) != -(-bits // 64) * 8:
            raise Damaged(f"bitset of {len(words)} bytes for {bits} bits")
        return int.from_bytes(words, "little") & (1 << bits) - 1

    def space_map(self, super_):
        """Counts of all blocks from the bitmaps, compared with the pointers that were followed."""
        index = self.block("index", super_.index)
        bitmaps = -(-super_.blocks // _PER_BITMAP)
        if any(index[16 + 16 * bitmaps:]):
            raise Damaged("index entries behind the end")
        found = {}
        for at in range(bitmaps):
            number, free, first = struct.unpack_from("<QII", index, 16 + 16 * at)
            used = _counts(self.block("bitmap", number)[16:])
            if free != _PER_BITMAP - len(used):
                raise Damaged(f"bitmap {at}: {free} free, found {_PER_BITMAP - len(used)}")
            if any(entry not in used for entry in range(first)):
                raise Damaged(f"bitmap {at}: a free block before {first}")
            found.update((at * _PER_BITMAP + entry, count) for entry, count in used.items())
        if overflow := self.tree(super_.overflow, 4):
            raise Damaged(f"overflow tree with {overflow}")
        if max(found) >= super_.blocks or len(found) != super_.allocated:
            raise Damaged(f"{len(found)} blocks in use up to {max(found)}, not {super_.allocated}")
        if found != self.counts:
            wrong = {block: (found.get(block, 0), self.counts[block])
                     for block in found.keys() | self.counts.keys()
                     if found.get(block, 0) != self.counts[block]}
            raise Damaged(f"reference counts (stored, found): {wrong}")


@lru_cache(1024)
def _counts(codes):
    """Entry number to count, for entries that are in use; the two bits of a code are swapped."""
    used = {}
    for at, byte in enumerate(codes):
        if byte:
            for part in range(4):
                code = byte >> 2 * part & 3
                if code:
                    used[at * 4 + part] = (code & 1) << 1 | code >> 1
    return used


def check(fetch):
    """Everything reachable from block 0; `fetch(number)` gives a block. Raises Damaged."""
    super_ = superblock(fetch(0))
    walk = _Walk(fetch)
    bits = walk.bitset(super_.root, super_.regions)
    walk.space_map(super_)
    return Metadata(super_, bits, walk.kinds)


def check_device(file):
    """The same for an open device."""
    end = file.sectors // SECTORS

    def fetch(number):
        return file.read(number * SECTORS, SECTORS) if number < end else b""

    return check(fetch)


def patch(file, kind, number, offset, form, *values, sealed=True):
    """Overwrite fields of one block of an open device; the checksum is put right unless told."""
    block = bytearray(file.read(number * SECTORS, SECTORS))
    struct.pack_into(form, block, offset, *values)
    file.write(number * SECTORS, seal(kind, block) if sealed else bytes(block))
