# SPDX-License-Identifier: GPL-2.0

"""MODULE=vdo.rates tools/testing/vdo/run rust: how much of what is there already is found.

The same generated data goes to C and to ours in one boot. Of both, what is stored is within 1 % of what
was written from what has to be; of ours, it is never more than C stores.
"""

import random
import sys

from lib import target
from lib.runner import equal
from vdo import rig
from vdo import streams
from vdo import suite
from vdo.data import unique
from vdo.rig import RAM0
from vdo.rig import SMALL
from vdo.rig import dmox
from vdo.rig import volume
from vdo.suite import case

_BLOCKS = 12000
_SHORT = 2000
_SHORTEST = 600         # where the machine is emulated
_PERCENTS = (0, 50, 75, 90)
_SHIFTS = (1, 3, 8, 12, 16)     # sectors
_CHAPTER = 65536                # names in a chapter of the smallest index
_LINE = SMALL.but(length=1 << 24)
_SECONDS = 900


def _generated(percent, count, shuffle):
    """Blocks of which so many are there already: all that differ, again and again; or shuffled."""
    differ = count * (100 - percent) // 100
    keys = [at % differ for at in range(count)]
    if shuffle:
        random.Random(percent).shuffle(keys)
    return [unique(key) for key in keys]


class Player:
    """A volume that is served by one implementation after the other."""

    def __init__(self, impl):
        target.use(impl, "vdo")
        self._next = 0
        self._written = []
        self.v = volume(_LINE)

    def write(self, blocks, writers=1):
        """Write them where nothing is yet."""
        streams.write(self.v, self._next, blocks, writers)
        self._written += blocks
        self._next += len(blocks)

    def overwrite(self, blocks, writers=1):
        """Write them over the last ones."""
        first = self._next - len(blocks)
        streams.write(self.v, first, blocks, writers)
        self._written[first:] = blocks

    def used(self):
        return self.v.counters()["data"]

    def restart(self, impl):
        """A clean end; this one goes on."""
        self.v.remove(5)
        self._start(impl)

    def crash(self, impl):
        self.v.crash()
        self._start(impl)

    def save(self):
        """Suspend and resume, which saves the index."""
        self.v.suspend()
        self.v.resume()
        self.v.becomes("index", "online")

    def _start(self, impl):
        target.use(impl, "vdo")
        self.v = self.v.start()
        self.v.becomes("mode", "normal")

    def end(self):
        """What is stored, after proof that everything reads as it was written, and of the format."""
        streams.verify(self.v, 0, self._written)
        used, blocks = self.used(), self._written
        self.v.remove(5)
        dmox("check", "--deep", "--quiet", RAM0)
        return used, streams.distinct(blocks), len(blocks)


def _judge(play, turns=(("c", "c"), ("rust", "rust")), lost=0):
    """Play it with each pair of implementations, C's first. So many more may be stored, which a crash
    makes the index forget."""
    limit = None
    for pair in turns:
        used, least, count = play(*pair)
        print(f"# {'-'.join(pair)}: {used} of {count} stored, least {least}", flush=True)
        assert least <= used <= least + count // 100 + lost, \
            f"{pair}: {used} of {count} stored, not {least}"
        assert limit is None or used <= limit, f"{pair}: {used} stored, C {limit}"
        limit = used if limit is None else limit


_BOTH_WAYS = (("c", "c"), ("rust", "rust"), ("c", "rust"), ("rust", "c"))


def _register(name, title, turns=None, lost=0, **how):
    """A row of `play(first, second)`."""
    def register(play):
        def run():
            _judge(play, *([turns] if turns else []), lost=lost)
        case(name, title, seconds=_SECONDS, **how)(run)
        return play
    return register


def _rates(percent):
    """The rows of a share of duplicates."""
    for shuffle in (False, True):
        for writers in (1, 4):
            name = f"RA{percent}{'s' if shuffle else 'o'}{writers}"
            title = (f"{percent} % duplicates, {'shuffled' if shuffle else 'in order'}, "
                     f"{writers} at once, and overwritten")

            @_register(name, title, long=True)
            def _(first, second, shuffle=shuffle, writers=writers):
                player = Player(first)
                blocks = _generated(percent, _BLOCKS, shuffle)
                player.write(blocks, writers)
                before = player.used()
                # Again in place: what is there stays.
                player.overwrite(blocks, writers)
                equal(player.used(), before, "stored after the same again")
                return player.end()

    @_register(f"RB{percent}", f"{percent} % duplicates, shifted by sectors", long=True)
    def _(first, second):
        player = Player(first)
        blocks = _generated(percent, _SHORT, True)
        player.write(blocks)
        for sectors in _SHIFTS:
            # Only a shift by whole blocks leaves blocks that are the same.
            player.write(streams.shifted(blocks, sectors, unique(1 << 30 | sectors)))
        return player.end()

    @_register(f"RC{percent}", f"{percent} % duplicates, across a restart", _BOTH_WAYS, long=True)
    def _(first, second):
        player = Player(first)
        blocks = _generated(percent, _BLOCKS, True)
        player.write(blocks[::2], 4)
        player.restart(second)
        player.write(blocks[1::2], 4)
        player.restart(first)
        player.write(streams.shifted(blocks[:_SHORT], 16, unique(1 << 30)))
        return player.end()

    @_register(f"RD{percent}", f"{percent} % duplicates, across a crash after a save", _BOTH_WAYS,
               long=True)
    def _(first, second):
        player = Player(first)
        blocks = _generated(percent, _BLOCKS, True)
        player.write(blocks[::2], 4)
        player.save()
        player.crash(second)
        player.write(blocks[1::2], 4)
        player.save()
        player.crash(first)
        player.write(blocks[:_SHORT])
        return player.end()


for _percent in _PERCENTS:
    _rates(_percent)


# The open chapter is lost, at home as well as elsewhere; it may have closed some names early.
_TAIL = 3000


@_register("RE", "chapters across a crash", _BOTH_WAYS, lost=_TAIL + _CHAPTER * 2 // 100, long=True)
def _(first, second):
    player = Player(first)
    blocks = [unique(key) for key in range(_CHAPTER + _TAIL)]
    player.write(blocks, 4)
    player.crash(second)
    player.write(blocks, 4)
    return player.end()


@_register("RS", "the short form: half are duplicates, written by four, shifted, after a restart")
def _(first, second):
    player = Player(first)
    blocks = _generated(50, _SHORTEST, True)
    player.write(blocks, 4)
    player.restart(second)
    player.write(streams.shifted(blocks, 12, unique(1 << 30)))
    player.write(streams.shifted(blocks, 8, unique(1 << 31)), 4)
    return player.end()


if __name__ == "__main__":
    sys.exit(suite.main(rig.prepare, whole=False))
