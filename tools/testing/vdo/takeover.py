# SPDX-License-Identifier: GPL-2.0

"""python3 -m vdo.takeover: one volume, handed from one implementation to another and back.

In each round one of them serves random requests, is suspended, reloaded and grown; then it is removed
cleanly or the power is cut, and the next one finds the volume. After a clean end the packaged tools
must find nothing. What a round needs to know of those before it is in /share. The host's part is
takeover.sh.
"""

import json
import os
import random

from lib import devices
from lib import target
from lib import turns
from lib.journal import Journal
from lib.store import Store
from vdo.model import BLOCKS
from vdo.model import LAST
from vdo.model import Model
from vdo.model import Workload
from vdo.rig import SMALL
from vdo.rig import Volume
from vdo.rig import blank
from vdo.rig import tool

_DISK = os.path.realpath("/dev/disk/data")
_TOOLS = (("vdoaudit", "--summary"), ("vdolistmetadata",),
          ("vdodumpblockmap",))


class Plan:
    """The table lines of a volume, which grows now and then."""

    def __init__(self, store, chance, has):
        self._store = store
        self._chance = chance
        self._has = has
        self.sizes = json.loads(store.get("sizes", b"[720213, 1048576]"))
        assert LAST * 8 < self.sizes[1]

    def line(self, physical=None):
        """Any options; sizes as they are on disk."""
        chance = self._chance
        zones = chance.choice(("", "hash 1 logical 2 physical 1", "hash 2 logical 1 physical 2"))
        if self.sizes[0] < 750000:
            zones = zones.replace("physical 2", "physical 1")
        words = ["slabSize 8192", zones, f"maxDiscard {chance.choice((1, 8, 64))}",
                 f"deduplication {chance.choice(('on', 'off')) if 'index' in self._has else 'off'}",
                 f"compression {chance.choice(('on', 'off')) if 'packer' in self._has else 'off'}"]
        return SMALL.but(device=_DISK, physical=physical or self.sizes[0], length=self.sizes[1],
                         cache=chance.choice((8192, 32768)), era=chance.choice((16380, 100, 1)),
                         options=" ".join(filter(None, words)))

    def growing(self):
        """Larger sizes, written down before they are tried."""
        larger = list(self.sizes)
        which = self._chance.randrange(2)
        larger[which] += (41024 if which == 0 else 812 * 8 * 8)
        self._store.put("growing", json.dumps(larger).encode())
        return larger

    def grown(self, sizes):
        self.sizes = sizes
        self._store.put("sizes", json.dumps(sizes).encode())
        self._store.drop("growing")

    def either(self):
        """The sizes that may be on disk: a growth may have been cut off."""
        growing = self._store.get("growing")
        return [self.sizes] + ([json.loads(growing)] if growing else [])


class Administrator(turns.Stoppable):
    """What an administrator does meanwhile: status, messages, suspend, reload, growth."""

    def __init__(self, volume, plan, chance):
        super().__init__()
        self._volume = volume
        self._plan = plan
        self._chance = chance

    def run(self):
        v = self._volume
        while not self._over.wait(self._chance.random() * 0.4):
            kind = self._chance.randrange(8)
            if kind < 2:
                v.status()
                v.message("stats")
            elif kind < 5:
                v.suspend(noflush=kind == 3)
                v.resume()
            elif kind < 7:
                v.load(v.table()[0])
                v.resume()
            elif v.status_now().mode == "normal" and self._plan.sizes[0] < 1800000:
                self._grow(v)

    def _grow(self, v):
        sizes = self._plan.growing()
        words = v.table()[0].split()
        words[1], words[5] = str(sizes[1]), str(sizes[0])
        v.load(" ".join(words))
        v.resume()
        self._plan.grown(sizes)


class Round:
    """One implementation's turn."""

    REQUESTS = 1200

    def __init__(self, store, seed, number, impl, has):
        self._store = store
        self._seed = seed
        self._number = number
        self._impl = impl
        self._chance = random.Random(f"{seed} {number}")
        self._plan = Plan(store, self._chance, has)

    def _start(self):
        line = self._plan.line()
        for sizes in self._plan.either():
            try:
                volume = Volume(line.but(physical=sizes[0], length=max(
                    sizes[1], self._plan.sizes[1])))
            except OSError as error:
                problem = error
            else:
                self._plan.grown([sizes[0], volume.line.length])
                return volume
        raise problem

    def open(self):
        """Start it, and judge what the round before left."""
        target.use(self._impl, "vdo")
        journal = self._store.get("journal", b"").decode().splitlines(keepends=True)
        clean = self._store.get("clean") is not None or not journal
        v = self.volume = self._start()
        state = v.status_now()
        print(f"# round {self._number}: {self._impl}, {state.mode}, "
              f"{'clean' if clean else 'crashed'}, {len(journal)} lines, {v.line}", flush=True)
        assert state.mode != "read-only", state
        if clean:
            assert state.mode == "normal" or self._store.get("recovering"), state
        self.model = Model(json.loads(self._store.get("codes", json.dumps([0] * BLOCKS))))
        self.model.replay(journal)
        with v.open() as file:
            self.model.check(file, not clean)
        # Recovery goes on meanwhile, sometimes.
        if self._chance.randrange(2):
            v.becomes("mode", "normal", 120)
        self._store.put("codes", json.dumps(self.model.base).encode())
        self._store.drop("journal")
        self._store.drop("clean")
        self._store.put("next", str(self._number + 1).encode())

    def serve(self, requests, cut):
        """Random requests; at the end the power goes, or the volume is removed cleanly."""
        v = self.volume
        journal = Journal(self.model, self._store.appender("journal"))
        admin = Administrator(v, self._plan, self._chance)
        load = Workload(v.open, journal, self._seed)
        workers = turns.Workers(load, admin, self._number)
        if workers.work(requests) and cut:
            turns.cut_power()
        workers.stop()
        self.end()
        self._store.put("clean", b"")

    def end(self):
        """A clean end; what is on the disk then is without fault."""
        v = self.volume
        state = v.status_now()
        assert state.mode != "read-only", state
        v.becomes("mode", "normal", 120)
        v.remove(10)
        for name, *words in _TOOLS:
            tool(name, *words, _DISK)


def main():
    options = turns.options(("--has", {"default": "index,packer",
                                       "help": "what C uses of what ours lacks"}))
    devices.modprobe("dm-mod")
    store = Store("/share")
    if store.get("codes") is None:
        blank(_DISK)
        store.put("codes", json.dumps([0] * BLOCKS).encode())

    def turn_of(number, impl):
        has = options.has if impl == "c" else os.environ.get("DMOX_VDO_HAS", "")
        return Round(store, options.seed, number, impl, has)

    turns.take_turns(options, store, turn_of)


if __name__ == "__main__":
    main()
