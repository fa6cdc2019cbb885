# SPDX-License-Identifier: GPL-2.0

"""Random requests on a volume, and a model of what each block may hold afterwards.

The model follows a journal: a line before a request goes out, another after it came back. After a
crash a block may hold what was durable or any later version; without one it holds the last one.
"""

import random
import threading

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


class Model:
    """What the blocks of a volume may hold, by code."""

    def __init__(self, base=None):
        self.base = list(base or [0] * BLOCKS)
        self.latest = list(self.base)
        self._writes = {}
        self._flushes = {}

    def replay(self, lines):
        """Follow a journal; a last line that was cut off does not count."""
        for line in lines:
            if line.endswith("\n"):
                kind, *words = line.split()
                getattr(self, f"_{kind}")(*map(int, words))

    def _write(self, number, index, *codes):
        self._writes[number] = [index, codes, False]
        self.latest[index:index + len(codes)] = codes

    def _written(self, number):
        self._writes[number][2] = True

    def _settle(self, number):
        if write := self._writes.pop(number, None):
            self.base[write[0]:write[0] + len(write[1])] = write[1]

    def _stored(self, number):
        """It was a write with FUA: it is durable, and all older versions are gone."""
        index, codes, _ = self._writes[number]
        for older in [key for key in sorted(self._writes) if key < number]:
            first, versions, _ = self._writes[older]
            for at in range(max(first, index), min(first + len(versions), index + len(codes))):
                versions = versions[:at - first] + (None,) + versions[at - first + 1:]
            self._writes[older][1] = versions
        self._settle(number)

    def _flush(self, number):
        self._flushes[number] = [key for key, write in self._writes.items() if write[2]]

    def _flushed(self, number):
        for key in sorted(self._flushes.pop(number)):
            if write := self._writes.pop(key, None):
                for at, code in enumerate(write[1]):
                    if code is not None:
                        self.base[write[0] + at] = code
                        self._outdate(key, write[0] + at)

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
            for index, codes, _ in self._writes.values():
                for at, code in enumerate(codes):
                    if code is not None:
                        allowed[index + at].add(code)
        for first in range(0, BLOCKS, _ZONE):
            data = file.read(lbn_of(first) * 8, _ZONE * 8)
            for at in range(_ZONE):
                block = data[at * BLOCK:(at + 1) * BLOCK]
                self.latest[first + at] = _judge(first + at, block, allowed[first + at])
        self.base = list(self.latest)
        self._writes.clear()
        self._flushes.clear()


def _judge(index, block, allowed):
    """Which of the versions it is."""
    for code in allowed:
        if block == content(code):
            return code
    raise AssertionError(f"LBN {lbn_of(index)} holds {name(block)}, not one of "
                         f"{[name(content(code)) for code in allowed]}")


class Journal:
    """Where the events go, in an order that is true, before the call returns."""

    def __init__(self, model, put):
        self.model = model
        self._put = put
        self._lock = threading.Lock()
        self._next = 0

    def number(self):
        with self._lock:
            self._next += 1
            return self._next

    def add(self, *words):
        line = " ".join(map(str, words)) + "\n"
        with self._lock:
            self._put(line)
            self.model.replay([line])

    def start(self, index, codes):
        """A number that grows in the order of the lines."""
        with self._lock:
            self._next += 1
            line = f"write {self._next} {index} {' '.join(map(str, codes))}\n"
            self._put(line)
            self.model.replay([line])
            return self._next


class Workload:
    """Threads that write, discard, flush and read; each has zones of its own."""

    THREADS = 4

    def __init__(self, open_file, journal, seed):
        self._open = open_file
        self._journal = journal
        self._seed = seed
        self._stop = threading.Event()
        self.done = 0

    def stop(self):
        self._stop.set()

    def run(self, turn, thread):
        """Requests until the stop; `turn` makes the keys of this run its own."""
        chance = random.Random(f"{self._seed} {turn} {thread}")
        fresh = (turn * self.THREADS + thread + 1) << 20
        with self._open() as file, self._open(dsync=True) as durable:
            while not self._stop.is_set():
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
        number = self._journal.start(index, codes)
        call()
        self._journal.add("stored" if fua else "written", number)

    def _flush(self, file):
        number = self._journal.number()
        self._journal.add("flush", number)
        file.flush()
        self._journal.add("flushed", number)

    def _read(self, file, index, count):
        data = file.read(lbn_of(index) * 8, count * 8)
        for at in range(count):
            _judge(index + at, data[at * BLOCK:(at + 1) * BLOCK],
                   {self._journal.model.latest[index + at]})
