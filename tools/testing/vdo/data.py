# SPDX-License-Identifier: GPL-2.0

"""Test data in blocks of 4096 bytes that can be told apart, compressible or not."""

import functools
import random
import struct

BLOCK = 4096
ZERO = bytes(BLOCK)
_NOISE = bytes(random.Random("noise").randbytes(BLOCK))
_FILL = b"\x41"
_SPREAD = 0x9E3779B97F4A7C15
_INVERSE = pow(_SPREAD, -1, 1 << 64)


@functools.lru_cache(4096)
def unique(key):
    """A block that does not compress; every sector of it belongs to `key` alone."""
    block = bytearray(_NOISE)
    for sector in range(8):
        word = (key * 8 + sector + 1) * _SPREAD % (1 << 64)
        struct.pack_into("<Q", block, sector * 512, word)
    return bytes(block)


def uniques(first, count):
    """`count` different blocks in one piece."""
    return b"".join(unique(key) for key in range(first, first + count))


def compressible(key, noise=1024):
    """A block of which only the first bytes do not compress."""
    return unique(key)[:noise] + _FILL * (BLOCK - noise)


def blocks(data):
    """The same, cut."""
    return [data[at:at + BLOCK] for at in range(0, len(data), BLOCK)]


def key_of(block):
    """The key of a unique block, or nothing."""
    word = struct.unpack_from("<Q", block)[0] * _INVERSE % (1 << 64)
    key = (word - 1) // 8
    return key if word % 8 == 1 and block == unique(key) else None


def name(block):
    """What a block seems to be, for messages."""
    if block == ZERO:
        return "zeroes"
    key = key_of(block)
    return f"unique({key})" if key is not None else f"bytes {block[:8].hex()}..."


def same(found, wanted, what="data"):
    """Compare contents and say where they part."""
    if found == wanted:
        return
    assert len(found) == len(wanted), f"{what}: {len(found)} bytes, not {len(wanted)}"
    pairs = zip(blocks(found), blocks(wanted))
    wrong = [at for at, (one, other) in enumerate(pairs) if one != other]
    at = wrong[0] * BLOCK
    raise AssertionError(f"{what}: {len(wrong)} blocks wrong, the {wrong[0]}. holds "
                         f"{name(found[at:at + BLOCK])}, not {name(wanted[at:at + BLOCK])}")
