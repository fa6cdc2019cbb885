# SPDX-License-Identifier: GPL-2.0

"""python3 -m vdo.differential [--seed N] [--rounds N]: the same operations on C and on ours, without
deduplication and compression: the same answers, the same data, the same space.

Each implementation in turn gets a new volume and the same random operations, one after the other, and
now and then an administrator's: suspend, restart, crash after a flush, growth. After each round what
it shows is noted; the notes must be the same.
"""

import argparse
import hashlib
import random
import sys

from lib import devices
from lib import target
from lib.runner import watchdog
from vdo.data import BLOCK
from vdo.data import ZERO
from vdo.data import uniques
from vdo.rig import ONE_SLAB
from vdo.rig import SECTORS
from vdo.rig import SMALL
from vdo.rig import Volume
from vdo.rig import blank

_BLOCKS = 6000          # are used, in pieces that are far apart
_PIECE = 500
_STRIDE = 2111
# A volume with room, one that shows small sectors, one that gets full.
_LINES = (SMALL, SECTORS, ONE_SLAB)
_SPACE = ("data", "ovh", "lbu", "nospc", "roerr")
_LIMIT_SECONDS = 900


def _lbn(index):
    return index // _PIECE * _STRIDE + index % _PIECE


class Player:
    """One implementation's volume, and the notes of what it shows."""

    def __init__(self, line, seed):
        line = line.adding("deduplication off maxDiscard 64")
        blank(line.device)
        self.v = Volume(line)
        self.notes = []
        self._chance = random.Random(seed)
        self._key = 1
        self._grain = 512 if line.size == 512 else BLOCK

    def _try(self, call, *arguments, **named):
        """0, or the errno; the same on both."""
        try:
            call(*arguments, **named)
        except OSError as error:
            return error.errno
        return 0

    def _data(self, count):
        """Blocks that are nowhere else: C shares equal ones that are on their way together."""
        self._key += count
        return uniques(self._key - count, count)

    def request(self):
        """One request of a user."""
        chance = self._chance
        index = chance.randrange(_BLOCKS)
        count = min(chance.choice((1, 1, 4, 16, 64)), _PIECE - index % _PIECE)
        lbn, what = _lbn(index), chance.randrange(20)
        if what < 9:
            code = self._try(self.v.write, lbn, self._data(count), fua=what == 0)
        elif what < 11:
            code = self._try(self.v.write, lbn, ZERO * count)
        elif what < 15:
            code = self._try(self.v.file().discard, lbn * 8, count * 8)
        elif what == 15:
            code = self._try(self.v.flush)
        elif what == 16:
            code = self._try(self.v.file().zero, lbn * 8, count * 8)
        else:
            code = self._part(lbn, what == 17)
        self.notes.append((what, lbn, count, code))

    def _part(self, lbn, discard):
        """Not whole blocks, where the volume allows it."""
        start = lbn * BLOCK + self._chance.randrange(BLOCK // self._grain) * self._grain
        length = self._chance.randrange(1, 2 * BLOCK // self._grain + 1) * self._grain
        data = self._data(length // BLOCK + 1)[:length]
        if discard:
            return self._try(self.v.file().discard, start // 512, length // 512)
        return self._try(self.v.file().write, start // 512, data)

    def administer(self):
        """What an administrator does."""
        v, what = self.v, self._chance.randrange(6)
        if what < 2:
            v.suspend(noflush=what == 1)
            v.resume()
        elif what == 2:
            self.v = v.again()
        elif what == 3:
            v.flush()
            self.v = v.crashed()
        elif what == 4:
            self._grow(length=v.line.length + 812 * 64)
        elif v.line.physical < 1500000:
            self._grow(physical=v.line.physical + 32832 + 8192)
        self.v.becomes("mode", "normal", 120)
        self.notes.append(("administrator", what))

    def _grow(self, **sizes):
        line = self.v.line.but(**sizes)
        self.v.load(str(line))
        self.v.resume()
        self.v.line = line

    def look(self):
        """Note all that can be seen."""
        v = self.v
        # What waits for company in the journal is not at rest.
        v.flush()
        counters = v.counters()
        state = v.status_now()
        self.notes.append([counters[name] for name in _SPACE])
        self.notes.append((state.mode, state.recovery, state.used, state.total))
        for first in range(0, _BLOCKS, _PIECE):
            data = v.file().read(_lbn(first) * 8, _PIECE * 8)
            self.notes.append((_lbn(first), hashlib.sha256(data).hexdigest()[:16]))


def _play(impl, line, seed, rounds):
    """The notes of one implementation."""
    target.use(impl, "vdo")
    player = Player(line, seed)
    for _ in range(rounds):
        for _ in range(60):
            player.request()
        player.look()
        player.administer()
        player.look()
    player.v.remove(5)
    return player.notes


def _compare(line, seed, rounds):
    """None, or what was different first."""
    with watchdog(f"seed {seed}", _LIMIT_SECONDS):
        notes = [_play(impl, line, seed, rounds) for impl in ("c", "rust")]
    for at, (c, ours) in enumerate(zip(*notes)):
        if c != ours:
            return f"C {c}, ours {ours}, after {notes[0][max(at - 3, 0):at]}"
    return None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=12)
    options = parser.parse_args()
    devices.modprobe("-a", "dm-mod")
    devices.modprobe("brd", "rd_nr=2", f"rd_size={8 << 20}")
    passed = failed = 0
    for at, line in enumerate(_LINES):
        difference = _compare(line, options.seed + at, options.rounds)
        words = f"{line}: {options.rounds} rounds, seed {options.seed + at}"
        print(f"FAIL {words}: {difference}" if difference else f"ok {words}", flush=True)
        passed, failed = passed + (not difference), failed + bool(difference)
        devices.remove_all()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
