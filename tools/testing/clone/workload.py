# SPDX-License-Identifier: GPL-2.0

"""Random requests on a clone, and a model of what each sector may hold afterwards.

Each sector that is written carries a tag of its own write. The model follows a journal: what a
write's completion and a flush's completion promise. After a crash a sector may hold what was durable
or any later write; without one it holds the last write. Discarded sectors are not judged.
"""

import array
import random
import threading
import time

from contextlib import contextmanager

from clone.rig import SOURCE_TAG
from lib import journal
from lib.blockio import pattern
from lib.devices import until
from lib.turns import Stoppable

WILD = 0
_WORDS = 64
_ZONE = 2048
_CHUNK = 8192


class Model(journal.Model):
    """What the sectors of a volume may hold, by tag."""

    def __init__(self, tags):
        super().__init__()
        self.base = tags
        self.latest = array.array("Q", tags)
        self.committed = 0

    @classmethod
    def fresh(cls, sectors):
        """A volume that shows its source."""
        return cls(array.array("Q", [SOURCE_TAG]) * sectors)

    def _write(self, number, start, count, tag):
        self._writes[number] = start, count, tag
        self.latest[start:start + count] = array.array("Q", [tag]) * count

    def _flushed(self, number, hydrated):
        for _, (start, count, tag) in self._covered(number):
            self.base[start:start + count] = array.array("Q", [tag]) * count
        self.committed = max(self.committed, hydrated)

    def allowed(self):
        """Sector to the tags it may hold, for those that may hold another than the base's."""
        also = {}
        for start, count, tag in self._writes.values():
            for sector in range(start, start + count):
                also.setdefault(sector, set()).add(tag)
        return also

    def check(self, file, crashed):
        """Compare the whole volume; what is found becomes the new base."""
        also = self.allowed() if crashed else {}
        wanted = self.base if crashed else self.latest
        self.latest = array.array("Q", wanted)
        for at in range(0, len(wanted), _CHUNK):
            count = min(_CHUNK, len(wanted) - at)
            words = array.array("Q", file.read(at, count))
            tags = words[1::_WORDS]
            whole = words[33::_WORDS] == tags and words[63::_WORDS] == tags
            if whole and tags == wanted[at:at + count] \
                    and words[::_WORDS] == array.array("Q", range(at, at + count)):
                continue
            for sector in range(at, at + count):
                self._judge(sector, words[(sector - at) * _WORDS:(sector - at + 1) * _WORDS],
                            {wanted[sector]} | also.get(sector, set()))
        self.base = array.array("Q", self.latest)
        self._forget()

    def _judge(self, sector, words, allowed):
        if WILD in allowed:
            self.latest[sector] = WILD
            return
        found = words[1]
        assert found in allowed, f"sector {sector} holds {found:#x} (number {words[0]}), " \
            f"not one of {[hex(tag) for tag in allowed]}"
        assert words[0] == sector and set(words[1:]) == {found}, f"sector {sector} is torn"
        self.latest[sector] = found


class Workload(Stoppable):
    """Threads that write, discard, flush and read; each has zones of its own."""

    THREADS = 3

    def __init__(self, clone, events, seed, region_size, may_discard):
        super().__init__()
        self._clone = clone
        self._journal = events
        self._seed = seed
        self._region_size = region_size
        self._may_discard = may_discard
        self._sectors = len(events.model.latest)
        self.done = 0

    def run(self, turn, thread):
        """Requests until the stop; `turn` makes the tags of this run its own."""
        chance = random.Random(f"{self._seed} {turn} {thread}")
        serial = 0
        with self._clone.open() as file:
            while not self._over.is_set():
                zone = chance.randrange(thread, -(-self._sectors // _ZONE), self.THREADS)
                start = zone * _ZONE + chance.randrange(_ZONE)
                end = min((zone + 1) * _ZONE, self._sectors)
                count = min(chance.choice((1, 3, 8, 8, 16, 40, 128)), end - start)
                if count <= 0:
                    continue
                kind = chance.randrange(20)
                serial += 1
                if kind < 12:
                    if kind < 6:
                        start -= start % 8
                    self._write(file, start, count, (turn << 32 | thread << 24 | serial) << 8 | 1)
                elif kind < 14:
                    self._discard(file, start, count)
                elif kind < 16:
                    self._flush(file)
                else:
                    self._read(file, start, count)
                self.done += 1

    def _write(self, file, start, count, tag):
        number = self._journal.start("write", start, count, tag)
        file.write(start, pattern(tag, start, count))
        self._journal.end("written", number)

    def _discard(self, file, start, count):
        size = self._region_size
        first, last = -(-start // size) * size, (start + count) // size * size
        if start + count == self._sectors:
            # Ours counts a short last region as whole.
            last = self._sectors
        with self._may_discard() as allowed:
            if not allowed:
                return
            if last <= first:
                file.discard(start, count)
                return
            number = self._journal.start("write", first, last - first, WILD)
            file.discard(start, count)
            self._journal.end("written", number)

    def _flush(self, file):
        hydrated = self._clone.hydrated
        number = self._journal.start("flush")
        file.flush()
        self._journal.end("flushed", number, hydrated)

    def _read(self, file, start, count):
        latest = self._journal.model.latest
        words = array.array("Q", file.read(start, count))
        for at in range(count):
            tag = latest[start + at]
            found = words[at * _WORDS], words[at * _WORDS + 1], words[at * _WORDS + 63]
            assert tag == WILD or found == (start + at, tag, tag), \
                f"sector {start + at} reads {found[1]:#x} (number {found[0]}), not {tag:#x}"


class Administrator(Stoppable):
    """What an administrator does meanwhile: copies on and off, status, suspend, reload."""

    def __init__(self, clone, table, chance, impl):
        """`table()` gives the table for a reload."""
        super().__init__()
        self._clone = clone
        self._table = table
        self._chance = chance
        self._impl = impl
        self._copying = threading.Lock()

    @contextmanager
    def may_discard(self):
        """C must not discard while a copy may run: it would lose later writes."""
        if self._impl != "c":
            yield True
            return
        free = self._copying.acquire(blocking=False)
        try:
            yield free
        finally:
            if free:
                self._copying.release()

    def run(self):
        clone = self._clone
        while not self._over.wait(self._chance.random() * 0.2):
            kind = self._chance.randrange(6)
            if kind < 3:
                self._copy()
            elif kind == 3:
                clone.status()
            else:
                clone.suspend()
                if kind == 5:
                    clone.load(self._table())
                clone.resume()

    def _copy(self):
        with self._copying:
            self._clone.message("enable_hydration")
            time.sleep(self._chance.random() * 0.02)
            self._clone.message("disable_hydration")
            until(lambda: not self._clone.state(noflush=True).hydrating, "the end of the copies")
