# SPDX-License-Identifier: GPL-2.0

"""python3 -m clone.takeover: one volume, handed from one implementation to another and back.

In each round one of them serves random requests, copies, is suspended and reloaded; then it is
removed cleanly or the power is cut, and the next one finds the volume. Everything that a round needs
to know about those before it is in /share: the number of the next round, the tags of all sectors,
the journal of the last round. The host's part is takeover.sh.
"""

import argparse
import array
import os
import random
import time

from clone.rig import DEST_TAG
from clone.rig import SOURCE_TAG
from clone.rig import Clone
from clone.workload import Administrator
from clone.workload import Journal
from clone.workload import Shadow
from clone.workload import Workload
from lib import target
from lib.blockio import Background
from lib.blockio import BlockFile
from lib.blockio import pattern
from lib.devices import until
from lib.store import Store

_LENGTH = 131067
_DISKS = [os.path.realpath(f"/dev/disk/{name}") for name in ("meta", "dest", "src")]
CUT = "cut the power now"


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
    store.put("tags", Shadow.fresh(_LENGTH).base.tobytes())
    store.drop("journal")


class Round:
    """One implementation's turn."""

    def __init__(self, store, seed, number, impl, region_size):
        self._store = store
        self._number = number
        self._impl = impl
        self._region_size = region_size
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
        shadow = Shadow(array.array("Q", self._store.get("tags")))
        journal = self._store.get("journal", b"").decode().splitlines(keepends=True)
        shadow.replay(journal)
        crashed = self._store.get("clean") is None
        hydrated = self._clone.hydrated
        print(f"# round {self._number}: {self._impl}, {hydrated} regions hydrated, "
              f"{'crashed' if crashed and journal else 'clean'}, {len(journal)} lines", flush=True)
        assert hydrated >= shadow.committed, f"{hydrated} regions, {shadow.committed} were committed"
        with self._clone.open() as file:
            shadow.check(file, crashed)
        self._shadow = shadow
        self._store.put("tags", shadow.base.tobytes())
        self._store.drop("journal")
        self._store.drop("clean")
        self._store.put("next", str(self._number + 1).encode())
        return hydrated

    def serve(self, requests, cut):
        """Random requests; at the end the power goes, or the device is removed cleanly."""
        journal = Journal(self._shadow, self._store.appender("journal"))
        admin = Administrator(self._clone, self._table, self._chance, self._impl)
        load = Workload(self._clone, journal, self._seed, self._region_size, admin.may_discard)
        workers = [Background(load.run, self._number, thread) for thread in range(load.THREADS)]
        workers.append(Background(admin.run))
        until(lambda: load.done >= requests or any(worker.ended() for worker in workers),
              "the requests' end", 300)
        if cut:
            print(CUT, flush=True)
            time.sleep(60)
            raise AssertionError("the power was not cut")
        load.stop()
        admin.stop()
        for worker in workers:
            worker.result()
        self._clone.remove()
        self._store.put("clean", b"")

    def end(self):
        """After the last round there is only the comparison."""
        self._clone.remove()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--impls", default="c,rust", help="who takes turns")
    parser.add_argument("--cut", type=float, default=0.5, help="share of rounds that end in a cut")
    options = parser.parse_args()
    impls = options.impls.split(",")
    store = Store("/share")
    number = int(store.get("next", b"0"))
    if not number and store.get("tags") is None:
        _new_volume(store, fill=True)
    while True:
        chance = random.Random(f"{options.seed} {number} plan")
        size = int(store.get("region_size", b"8"))
        turn = Round(store, options.seed, number, impls[number % len(impls)], size)
        hydrated = turn.open()
        if number == options.rounds:
            turn.end()
            break
        turn.serve(chance.randrange(300, 900), chance.random() < options.cut)
        if hydrated * size > _LENGTH * 0.8:
            store.put("region_size", str(chance.choice((8, 8, 16, 64, 128))).encode())
            _new_volume(store, fill=False)
        number += 1
    print(f"{options.rounds} passed, 0 failed")


if __name__ == "__main__":
    main()
