# SPDX-License-Identifier: GPL-2.0

"""A volume under load in several boots: implementations take turns, the power fails between them.

The power is cut by the host, which waits for a line of ours.
"""

import argparse
import random
import threading
import time

from lib.blockio import Background
from lib.devices import until

CUT = "cut the power now"


def cut_power():
    print(CUT, flush=True)
    time.sleep(60)
    raise AssertionError("the power was not cut")


class Workers:
    """A load and an administrator at work. A load has `run(turn, thread)`, `stop`, `done` and
    `THREADS`, an administrator `run` and `stop`."""

    def __init__(self, load, admin, turn=0):
        self._load = load
        self._admin = admin
        self._all = [Background(load.run, turn, thread) for thread in range(load.THREADS)]
        self._all.append(Background(admin.run))

    def _has_failed(self):
        return any(worker.ended() for worker in self._all)

    def work(self, requests):
        """Wait for so many requests. Gives whether all are still at work."""
        until(lambda: self._load.done >= requests or self._has_failed(), "the requests' end", 300)
        return not self._has_failed()

    def stop(self):
        """The end of all of it; what went wrong is raised here."""
        self._load.stop()
        self._admin.stop()
        for worker in self._all:
            worker.result()


class Stoppable:
    """What goes on until it is told to end."""

    def __init__(self):
        self._over = threading.Event()

    def stop(self):
        self._over.set()


def options(*more):
    """The words of the command line; `more` are further options, as for argparse."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--impls", default="c,rust", help="who takes turns")
    parser.add_argument("--cut", type=float, default=0.5, help="share of rounds that end in a cut")
    for name, words in more:
        parser.add_argument(name, **words)
    return parser.parse_args()


def take_turns(chosen, store, turn_of):
    """Rounds until the last, from the one that is next. `turn_of(number, impl)` is one turn: it is
    opened, which says that the next number is next, and serves requests."""
    number = int(store.get("next", b"0"))
    impls = chosen.impls.split(",")
    while True:
        chance = random.Random(f"{chosen.seed} {number} plan")
        turn = turn_of(number, impls[number % len(impls)])
        turn.open()
        if number == chosen.rounds:
            turn.end()
            break
        turn.serve(chance.randrange(300, turn.REQUESTS), chance.random() < chosen.cut)
        number += 1
    print(f"{chosen.rounds} passed, 0 failed")
