# SPDX-License-Identifier: GPL-2.0

"""python3 -m clone.powerloss [--trials N] [--seed N]: power losses that take unflushed writes along.

A clone serves random requests; one log has all writes of its metadata and destination in order, with
the requests' journal between them as marks. From the log storage is rebuilt as a power loss may leave
it: all up to a flush, of the writes after it any part. Each time the clone is opened on that and
compared with what its flushes promised.
"""

import argparse
import copy
import os
import random
import sys

from clone.rig import DEST_TAG
from clone.rig import META
from clone.rig import SPARE_DISK
from clone.rig import Clone
from clone.rig import Rig
from clone.workload import Administrator
from clone.workload import Model
from clone.workload import Workload
from lib.blockio import BlockFile
from lib.blockio import pattern
from lib.devices import Layer
from lib.devices import prepare
from lib.devices import remove_all
from lib.journal import Journal
from lib.runner import IMPL
from lib.runner import watchdog
from lib.turns import Workers

_LENGTH = 32763
# Where storage is rebuilt: far behind the log on the log's own disk.
_STAGE = 1 << 32


def _record(seed, requests):
    """Serve requests; returns the log's entries, the journal's lines among them as marks."""
    rig = Rig(logged=True)
    table = rig.table("8 1 no_hydration 4 hydration_threshold 16 hydration_batch_size 4", _LENGTH)
    clone = Clone("clone", table)
    journal = Journal(Model.fresh(_LENGTH),
                      lambda line: rig.both.mark(line.strip().replace(" ", "-")))
    admin = Administrator(clone, lambda: table, random.Random(seed), IMPL)
    load = Workload(clone, journal, seed, 8, admin.may_discard)
    workers = Workers(load, admin)
    workers.work(requests)
    workers.stop()
    clone.remove()
    entries = rig.both.entries()
    remove_all()
    return entries


class Stage:
    """Storage rebuilt from a log; what is unsure is written for a trial and taken back."""

    def __init__(self):
        self.file = BlockFile(SPARE_DISK)
        self.file.discard(_STAGE, META)
        self.file.write(_STAGE + META, pattern(DEST_TAG, 0, _LENGTH + 5))
        self._before = []

    def apply(self, entry):
        if entry.discard:
            self.file.discard(_STAGE + entry.sector, entry.sectors)
        elif entry.sectors:
            self.file.write(_STAGE + entry.sector, entry.data)

    def apply_part(self, entry, chance):
        """Any part of it, or without `chance` all: blocks of metadata, sectors of data."""
        unit = 8 if entry.sector < META else 1
        data = bytes(entry.sectors * 512) if entry.discard else entry.data
        for at in range(0, entry.sectors, unit):
            if not chance or chance.randrange(2):
                sector = _STAGE + entry.sector + at
                self._before.append((sector, self.file.read(sector, unit)))
                self.file.write(sector, data[at * 512:(at + unit) * 512])

    def take_back(self):
        while self._before:
            self.file.write(*self._before.pop())


def _epochs(entries):
    """Runs of entries that end with a flush."""
    epoch = []
    for entry in entries:
        epoch.append(entry)
        if entry.flush:
            yield epoch
            epoch = []


def _try(stage, model, epoch, chance):
    """Power fails just before the epoch's flush is done."""
    for entry in epoch:
        if not entry.mark and not entry.flush:
            stage.apply_part(entry, None if entry.fua else chance)
    rig = Rig(fill=False)
    meta = rig.use["meta"] = Layer("stage-meta", SPARE_DISK, META, _STAGE)
    dest = rig.use["dest"] = Layer("stage-dest", SPARE_DISK, _LENGTH, _STAGE + META)
    with meta.open(readonly=True) as file:
        formatted = any(file.read(0, 8))
    if formatted:
        clone = Clone("clone", rig.table(length=_LENGTH))
        trial = copy.deepcopy(model)
        assert clone.hydrated >= trial.committed, "fewer regions than were committed"
        with clone.open(readonly=True) as file:
            trial.check(file, crashed=True)
    assert dest
    remove_all()
    stage.take_back()


def main():
    parser = argparse.ArgumentParser()
    long = os.environ.get("DMOX_MODE") == "long"
    parser.add_argument("--trials", type=int, default=200 if long else 25)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(1 << 32) if options.seed is None else options.seed
    print(f"# power losses: {options.trials}, seed {seed}, {IMPL}", flush=True)
    chance = random.Random(f"{seed} trials")
    prepare()
    with watchdog("recording", 300):
        epochs = list(_epochs(_record(seed, options.requests)))
    chosen = set(chance.sample(range(len(epochs)), min(options.trials, len(epochs))))
    print(f"# {len(epochs)} flushes, {sum(map(len, epochs))} entries", flush=True)
    stage = Stage()
    model = Model.fresh(_LENGTH)
    failed = 0
    for at, epoch in enumerate(epochs):
        # What the marks say holds before the flush at the epoch's end.
        model.replay([entry.mark.replace("-", " ") + "\n" for entry in epoch if entry.mark])
        if at in chosen:
            with watchdog(f"trial at flush {at}", 120):
                try:
                    _try(stage, model, epoch, chance)
                except (AssertionError, OSError) as error:
                    failed += 1
                    print(f"FAIL at flush {at}, seed {seed}: {error}", flush=True)
                    remove_all()
                    stage.take_back()
        for entry in epoch:
            if not entry.mark and (not entry.flush or entry.sectors):
                stage.apply(entry)
    print(f"{len(chosen) - failed} passed, {failed} failed", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
