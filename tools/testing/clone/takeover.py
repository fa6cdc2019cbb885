# SPDX-License-Identifier: GPL-2.0

"""python3 -m clone.takeover: one volume, handed from one implementation to another and back.

In each round one of them serves random requests, copies, is suspended and reloaded; then it is
removed cleanly or the power is cut, and the next one finds the volume. Everything that a round needs
to know about those before it is in /share: the number of the next round, the tags of all sectors,
the journal of the last round. The host's part is takeover.sh.
"""

import array
import os
import random

from clone.rig import DEST_TAG
from clone.rig import SOURCE_TAG
from clone.rig import Clone
from clone.workload import Administrator
from clone.workload import Model
from clone.workload import Workload
from lib import target
from lib import turns
from lib.blockio import BlockFile
from lib.blockio import pattern
from lib.journal import Journal
from lib.store import Store

_LENGTH = 131067
_DISKS = [os.path.realpath(f"/dev/disk/{name}") for name in ("meta", "dest", "src")]


def _new_volume(store, fill):
    """Blank metadata; the source has its own numbers."""
    meta, dest, src = _DISKS
    if fill:
        for path, tag in ((src, SOURCE_TAG), (dest, DEST_TAG)):
            with BlockFile(path) as file:
                file.write(0, pattern(tag, 0, file.sectors))
                file.flush()
    with BlockFile(meta) as file:
        file.write(0, bytes(4096))
        file.flush()
    store.put("tags", Model.fresh(_LENGTH).base.tobytes())
    store.drop("journal")


class Round:
    """One implementation's turn."""

    REQUESTS = 900

    def __init__(self, store, seed, number, impl):
        self._store = store
        self._number = number
        self._impl = impl
        self._region_size = int(store.get("region_size", b"8"))
        self._seed = seed
        self._chance = random.Random(f"{seed} {number}")

    def _table(self):
        batch = self._chance.choice((1, 4, 64))
        return (f"0 {_LENGTH} clone {' '.join(_DISKS)} {self._region_size} 1 no_hydration 4"
                f" hydration_threshold {batch * self._chance.choice((1, 4))}"
                f" hydration_batch_size {batch}")

    def open(self):
        """Create it, and judge what the round before left."""
        target.use(self._impl)
        self._clone = Clone("clone", self._table())
        model = Model(array.array("Q", self._store.get("tags")))
        journal = self._store.get("journal", b"").decode().splitlines(keepends=True)
        model.replay(journal)
        crashed = self._store.get("clean") is None
        hydrated = self._clone.hydrated
        print(f"# round {self._number}: {self._impl}, {hydrated} regions hydrated, "
              f"{'crashed' if crashed and journal else 'clean'}, {len(journal)} lines", flush=True)
        assert hydrated >= model.committed, f"{hydrated} regions, {model.committed} were committed"
        with self._clone.open() as file:
            model.check(file, crashed)
        self._model = model
        self._store.put("tags", model.base.tobytes())
        self._store.drop("journal")
        self._store.drop("clean")
        self._store.put("next", str(self._number + 1).encode())
        self._nearly_whole = hydrated * self._region_size > _LENGTH * 0.8

    def serve(self, requests, cut):
        """Random requests; at the end the power goes, or the device is removed cleanly."""
        journal = Journal(self._model, self._store.appender("journal"))
        admin = Administrator(self._clone, self._table, self._chance, self._impl)
        load = Workload(self._clone, journal, self._seed, self._region_size, admin.may_discard)
        workers = turns.Workers(load, admin, self._number)
        if workers.work(requests) and cut:
            turns.cut_power()
        workers.stop()
        self._clone.remove()
        self._store.put("clean", b"")
        if self._nearly_whole:
            size = self._chance.choice((8, 8, 16, 64, 128))
            self._store.put("region_size", str(size).encode())
            _new_volume(self._store, fill=False)

    def end(self):
        """After the last round there is only the comparison."""
        self._clone.remove()


def main():
    options = turns.options()
    store = Store("/share")
    if store.get("tags") is None:
        _new_volume(store, fill=True)
    turns.take_turns(options, store,
                     lambda number, impl: Round(store, options.seed, number, impl))


if __name__ == "__main__":
    main()
