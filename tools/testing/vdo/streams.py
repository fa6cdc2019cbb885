# SPDX-License-Identifier: GPL-2.0

"""Data that several writers put on a volume at once, and the room that it needs."""

import collections

from concurrent.futures import ThreadPoolExecutor

from vdo.data import BLOCK
from vdo.data import ZERO
from vdo.data import same

REQUEST = 64            # blocks
_COUNT_MAX = 254        # references to one block


def distinct(blocks):
    """How many blocks these need if none is stored twice."""
    counts = collections.Counter(block for block in blocks if block != ZERO)
    return sum(-(-count // _COUNT_MAX) for count in counts.values())


def _requests(blocks, writers, chance, size):
    """What each writer writes: pairs of place and data. Each has a part of its own, in order or, with
    `chance`, at random."""
    share = -(-len(blocks) // writers)
    for first in range(0, len(blocks), share):
        end = min(first + share, len(blocks))
        part = [(at, b"".join(blocks[at:min(at + size, end)]))
                for at in range(first, end, size)]
        if chance:
            chance.shuffle(part)
        yield part


def write(volume, first, blocks, writers=1, chance=None, size=REQUEST):
    """Write the blocks from there on, and flush."""
    def serve(part):
        with volume.open() as file:
            for at, data in part:
                file.write((first + at) * 8, data)

    with ThreadPoolExecutor(writers) as pool:
        list(pool.map(serve, _requests(blocks, writers, chance, size)))
    volume.flush()


def verify(volume, first, blocks):
    """It reads like this from there on."""
    with volume.open() as file:
        for at in range(0, len(blocks), REQUEST):
            wanted = b"".join(blocks[at:at + REQUEST])
            same(file.read((first + at) * 8, len(wanted) // 512), wanted, f"LBN {first + at}")


def shifted(blocks, sectors, filler):
    """The same content, so many sectors later: what is left at its ends is filled up."""
    data = filler[:sectors * 512] + b"".join(blocks)
    data += filler[:-len(data) % BLOCK]
    return [data[at:at + BLOCK] for at in range(0, len(data), BLOCK)]
