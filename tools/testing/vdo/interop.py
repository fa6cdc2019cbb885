# SPDX-License-Identifier: GPL-2.0

"""MODULE=vdo.interop tools/testing/vdo/run rust: what one implementation's index knows, the other finds.

C and ours take turns on one volume. What one of them has written, the next one writes again in other
places, and all of it must be found: nothing is stored, and each block's advice was right. That says
more than that a save can be loaded, or chapters read.
"""

import sys

from lib import target
from lib.runner import equal
from vdo import rig
from vdo import suite
from vdo.data import uniques
from vdo.rig import GIB
from vdo.rig import RAM0
from vdo.rig import SMALL
from vdo.rig import disks
from vdo.rig import dmox
from vdo.rig import logging
from vdo.rig import volume
from vdo.suite import case

_CHAPTER = 65536                # names in a chapter of the smallest index
_REQUEST = 256                  # blocks
_SECONDS = 1800                 # a chapter takes minutes where the machine is emulated

_DENSE = SMALL.but(length=1 << 24)
_SPARSE_GIB = 24
_SPARSE = SMALL.but(length=1 << 24, physical=_SPARSE_GIB * GIB).adding("indexSparse on")

_LOADED, _REBUILT = "loaded index from chapter", "Replaying volume from chapter"


class Shared:
    """A volume that several implementations serve in turns."""

    def __init__(self, impl, line):
        target.use(impl, "vdo")
        self._impl = impl
        self._next = 0          # the first block that was not written yet
        self.v = volume(line)

    def write(self, first, count):
        """Write these data where nothing is yet; returns how many blocks were stored, and how many
        were found by advice that was right."""
        before = self.v.counters()
        start = self._next
        for at in range(0, count, _REQUEST):
            some = min(_REQUEST, count - at)
            self.v.write(start + at, uniques(first + at, some))
        self.v.flush()
        self._next += count
        after = self.v.counters()
        for at in (start, start + count // 2, start + count - 1):
            self.v.holds(at, uniques(first + at - start, 1))
        equal(after["stale"] - before["stale"], 0, "advice that was wrong")
        return after["data"] - before["data"], after["valid"] - before["valid"]

    def stores(self, first, count):
        """Write data that is nowhere yet."""
        equal(self.write(first, count), (count, 0), f"{self._impl}: stored, found")

    def finds(self, first, count, at_least=None):
        """Write data that is there; all of it, or most, is found."""
        stored, found = self.write(first, count)
        equal(stored + found, count, f"{self._impl}: stored and found")
        least = count if at_least is None else at_least
        assert found >= least, f"{self._impl}: {found} of {count} found, not {least}"
        print(f"# {self._impl}: {found} of {count} found", flush=True)

    def _restart(self, impl, known, end):
        with logging(*known, never={_LOADED, _REBUILT} - set(known)):
            end()
            target.use(impl, "vdo")
            self._impl = impl
            self.v = self.v.start()
            self.v.becomes("mode", "normal")

    def stop(self, impl):
        """A clean end; another one goes on, and has as many names."""
        names = self.v.counters()["ent"]
        self._restart(impl, [_LOADED], lambda: self.v.remove(5))
        equal(self.v.counters()["ent"], names, "names")

    def crash(self, impl, known):
        """An end without a save."""
        self._restart(impl, [known], self.v.crash)


def _pairs(name, title, line, prepare=None, **how):
    """A row for each direction."""
    def register(test):
        for first, second in (("c", "rust"), ("rust", "c")):
            def make(first=first):
                if prepare:
                    prepare()
                return Shared(first, line)

            def run(shared, first=first, second=second):
                test(shared, first, second)
                shared.v.remove(5)
                print(f"# {dmox('check', '--deep', '--quiet', RAM0) or 'sound'}", flush=True)

            case(f"{name}-{first}", f"{title}: {first}, {second}", make, seconds=_SECONDS, **how)(run)
        return test
    return register


def _stopped(shared, first, second, count):
    shared.stores(0, count)
    shared.stop(second)
    shared.finds(0, count)
    shared.stores(count, 1000)
    shared.stop(first)
    shared.finds(0, count + 1000)


def _crashed(shared, first, second, chapters):
    """What was in the open chapter is lost, as it is at home."""
    count = chapters * _CHAPTER + 5000
    shared.stores(0, count)
    shared.crash(second, _REBUILT)
    # A zone that is full closes the chapter of all.
    shared.finds(0, count, chapters * _CHAPTER * 98 // 100)
    shared.stop(first)
    shared.finds(0, count)
    shared.stores(count, 1000)
    shared.crash(second, _REBUILT)
    shared.finds(0, chapters * _CHAPTER // 2)


@_pairs("IN1", "a save without chapters", _DENSE)
def _(shared, first, second):
    _stopped(shared, first, second, 3000)


@_pairs("IN2", "a save after a suspend, then a crash", _DENSE)
def _(shared, first, second):
    shared.stores(0, 1000)
    shared.v.suspend()
    shared.v.resume()
    shared.v.becomes("index", "online")
    shared.finds(0, 1000)
    shared.stores(1000, 500)
    shared.crash(second, _LOADED)
    shared.finds(0, 1000)
    shared.stores(2000, 1000)
    shared.v.suspend()
    shared.v.resume()
    shared.v.becomes("index", "online")
    shared.crash(first, _LOADED)
    shared.finds(0, 1000)
    shared.finds(2000, 1000)


@_pairs("IN3", "a save with a chapter", _DENSE, long=True)
def _(shared, first, second):
    _stopped(shared, first, second, _CHAPTER + 3000)


@_pairs("IN4", "chapters after a crash", _DENSE, long=True)
def _(shared, first, second):
    _crashed(shared, first, second, 1)


@_pairs("IN5", "a save that was closed, and made void by a chapter", _DENSE, long=True)
def _(shared, first, second):
    shared.stores(0, 10000)
    shared.stop(second)
    shared.stores(10000, _CHAPTER)
    shared.crash(first, _REBUILT)
    shared.finds(0, _CHAPTER, _CHAPTER * 98 // 100)
    shared.stop(second)
    shared.finds(0, _CHAPTER)


@_pairs("IN6", "many turns", _DENSE, long=True)
def _(shared, first, second):
    for turn in range(6):
        shared.stores(20000 * turn, 20000)
        shared.stop((second, first)[turn % 2])
        shared.finds(0, 20000 * (turn + 1))


def _large():
    disks(_SPARSE_GIB)


@_pairs("IN7", "a sparse index: a save without chapters", _SPARSE, _large)
def _(shared, first, second):
    _stopped(shared, first, second, 3000)


@_pairs("IN8", "a sparse index: a save with chapters", _SPARSE, _large, long=True)
def _(shared, first, second):
    _stopped(shared, first, second, 2 * _CHAPTER + 3000)


@_pairs("IN9", "a sparse index: chapters after a crash", _SPARSE, _large, long=True)
def _(shared, first, second):
    _crashed(shared, first, second, 2)


if __name__ == "__main__":
    sys.exit(suite.main(rig.prepare, whole=False))
