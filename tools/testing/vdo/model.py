# SPDX-License-Identifier: GPL-2.0

"""Random requests on a volume, and a model of what each block may hold afterwards.

The model follows a journal: a line before a request goes out, another after it came back. After a
crash a block may hold what was durable or any later version; without one it holds the last one.
"""

import random

from lib import journal
from lib.turns import Stoppable
from vdo.data import BLOCK
from vdo.data import ZERO
from vdo.data import compressible
from vdo.data import name
from vdo.data import unique

_ZONE = 64                              # blocks that a thread has to itself
_ZONES = 48
_STRIDE = 1511                          # so zones are in many pages of the map
BLOCKS = _ZONES * _ZONE
LAST = (_ZONES - 1) * _STRIDE + _ZONE   # the volume must be larger

# What a block holds: 0 for zeroes, else a key and how much of it compresses.
_KINDS = {"unique": 0, "packed": 1}


def lbn_of(index):
    return index // _ZONE * _STRIDE + index % _ZONE


def content(code):
    if not code:
        return ZERO
    key, kind = code >> 1, code & 1
    return compressible(key, 700) if kind else unique(key)


class Model(journal.Model):
    """What the blocks of a volume may hold, by code."""

    def __init__(self, base=None):
        super().__init__()
        self.base = list(base or [0] * BLOCKS)
        self.latest = list(self.base)

    def _write(self, number, index, *codes):
        self._writes[number] = [index, codes]
        self.latest[index:index + len(codes)] = codes

    def _stored(self, number):
        """It was a write with FUA."""
        index, codes = self._writes.pop(number)
        self._settle(number, index, codes)

    def _flushed(self, number):
        for write, (index, codes) in self._covered(number):
            self._settle(write, index, codes)

    def _settle(self, number, index, codes):
        """A write is durable, and all older versions are gone; unless one that is newer is durable."""
        for at, code in enumerate(codes, index):
            if code is not None:
                self.base[at] = code
                self._outdate(number, at)

    def _outdate(self, number, index):
        """Versions of a block that are older than a durable one are gone."""
        for older, write in self._writes.items():
            if older < number and write[0] <= index < write[0] + len(write[1]):
                at = index - write[0]
                write[1] = write[1][:at] + (None,) + write[1][at + 1:]

    def check(self, file, crashed):
        """Compare every block; what is found becomes the new base."""
        allowed = [{code} for code in (self.base if crashed else self.latest)]
        if crashed:
            for index, codes in self._writes.values():
                for at, code in enumerate(codes):
                    if code is not None:
                        allowed[index + at].add(code)
        for first in range(0, BLOCKS, _ZONE):
            data = file.read(lbn_of(first) * 8, _ZONE * 8)
            for at in range(_ZONE):
                block = data[at * BLOCK:(at + 1) * BLOCK]
                self.latest[first + at] = _judge(first + at, block, allowed[first + at])
        self.base = list(self.latest)
        self._forget()


def _judge(index, block, allowed):
    """Which of the versions it is."""
    for code in allowed:
        if block == content(code):
            return code
    raise AssertionError(f"LBN {lbn_of(index)} holds {name(block)}, not one of "
                         f"{[name(content(code)) for code in allowed]}")


class Workload(Stoppable):
    """Threads that write, discard, flush and read; each has zones of its own."""

    THREADS = 4

    def __init__(self, open_file, events, seed):
        super().__init__()
        self._open = open_file
        self._journal = events
        self._seed = seed
        self.done = 0

    def run(self, turn, thread):
        """Requests until the stop; `turn` makes the keys of this run its own."""
        chance = random.Random(f"{self._seed} {turn} {thread}")
        fresh = (turn * self.THREADS + thread + 1) << 20
        with self._open() as file, self._open(dsync=True) as durable:
            while not self._over.is_set():
                zone = chance.randrange(thread, _ZONES, self.THREADS)
                at = chance.randrange(_ZONE)
                index = zone * _ZONE + at
                count = min(chance.choice((1, 1, 2, 8, 32)), _ZONE - at)
                what = chance.random()
                if what < 0.15:
                    self._read(file, index, count)
                elif what < 0.25:
                    self._flush(file)
                elif what < 0.35:
                    self._write(index, [0] * count,
                                lambda: file.discard(lbn_of(index) * 8, count * 8))
                else:
                    codes = self._codes(chance, count, fresh)
                    fresh += count
                    data = b"".join(map(content, codes))
                    fua = chance.random() < 0.1
                    self._write(index, codes, lambda: (durable if fua else file).write(
                        lbn_of(index) * 8, data), fua)
                self.done += 1

    @staticmethod
    def _codes(chance, count, fresh):
        what = chance.random()
        if what < 0.1:
            return [0] * count
        if what < 0.35:     # data that was there before, or is in other places now
            return [chance.randrange(1, 60) << 1 | chance.randrange(2) for _ in range(count)]
        kind = _KINDS["packed" if what < 0.6 else "unique"]
        return [(fresh + at) << 1 | kind for at in range(count)]

    def _write(self, index, codes, call, fua=False):
        number = self._journal.start("write", index, *codes)
        call()
        self._journal.end("stored" if fua else "written", number)

    def _flush(self, file):
        number = self._journal.start("flush")
        file.flush()
        self._journal.end("flushed", number)

    def _read(self, file, index, count):
        data = file.read(lbn_of(index) * 8, count * 8)
        for at in range(count):
            _judge(index + at, data[at * BLOCK:(at + 1) * BLOCK],
                   {self._journal.model.latest[index + at]})
