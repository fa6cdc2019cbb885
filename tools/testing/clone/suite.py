# SPDX-License-Identifier: GPL-2.0

"""Runs the numbered cases of the acceptance list: each starts clean, and is cleaned up after.

A case is a function under `@case(number, title)`. Where the two implementations are meant to differ
the case says so in words (`differs=`), and picks the values with `expect(c=..., rust=...)`.
"""

import time

from dataclasses import dataclass
from typing import Callable

from lib import devices
from lib import machine
from lib import runner
from lib.runner import IMPL

_cases = {}
_running = None


@dataclass
class Case:
    """One numbered case."""

    number: int
    title: str
    differs: str | None
    long: bool
    noise: str | None
    needs: str | None
    run: Callable
    compared: bool = False

    @property
    def name(self):
        """A number may have a long part of its own."""
        return f"{self.number}{' (long)' if self.long else ''}"

    def left_out(self, long):
        """Why it does not run, if it does not."""
        missing = set((self.needs or "").split()) - machine.HAS
        if missing:
            return f"needs {' '.join(sorted(missing))}"
        return "for --long" if self.long and not long else None


def case(number, title, differs=None, long=False, noise=None, needs=None):
    """Register a case. `differs`: what ours does instead; `long`: runs only with --long or
    DMOX_MODE=long; `noise`: what C is known to leave in the kernel's log, a regular expression;
    `needs`: words of lib.machine."""
    def register(function):
        one = Case(number, title, differs, long, noise, needs, function)
        assert (number, long) not in _cases, f"case {one.name} twice"
        _cases[number, long] = one
        return function
    return register


def expect(*, c, rust):
    """The value that the implementation under test must show."""
    assert _running.differs, "this case says nothing of a difference"
    _running.compared = True
    return c if IMPL == "c" else rust


def _selected(words):
    """Cases by numbers and ranges: 3 10-20."""
    numbers = {number for number, _ in _cases} if not words else set()
    for word in words:
        first, _, last = word.partition("-")
        numbers |= set(range(int(first), int(last or first) + 1))
    return [one for key, one in sorted(_cases.items()) if key[0] in numbers]


def _judged(one):
    one.run()
    assert one.compared or not one.differs, "no difference was judged, though it speaks of one"


def _run(one):
    """None if it passed, else the reason."""
    global _running
    _running = one
    limit = runner.LIMIT_SECONDS * (5 if one.long else 1)
    reason = runner.attempt(f"{one.name} {one.title}", _judged, one, seconds=limit)
    dirty = runner.attempt(f"clean-up of {one.name}", devices.remove_all)
    return f"{reason or ''} (and cannot clean up: {dirty})" if dirty else reason


def _print_differences(cases):
    print("""# Where the clone target differs from mainline's

Made by `python3 -m clone --differences` from the cases that test it (`tools/testing/clone`), which
run against both implementations: a case below passes on what is said here and on nothing else,
every other case gives the same result on both.

| Case | What it does | Ours |
|---|---|---|""")
    for one in cases:
        if one.differs:
            print(f"| {one.number} | {one.title} | {one.differs} |")


def main(untested=()):
    """The command line, see --help. Returns the exit status."""
    options = runner.options("numbers or ranges, 3 10-20")
    cases = _selected(options.cases)
    if options.differences:
        _print_differences(cases)
        return 0
    if options.noise:
        print("|".join(one.noise for one in cases if one.noise))
        return 0
    if options.list:
        for one in cases:
            print(one.name, one.title)
        return 0

    print(f"# implementation: {IMPL}", flush=True)
    devices.prepare()
    tally = runner.Tally()
    for one in cases:
        if why := one.left_out(options.long):
            tally.skip(one, why)
            continue
        start = time.monotonic()
        tally.note(one, _run(one), time.monotonic() - start)
    for number, why in untested:
        if not options.cases or str(number) in options.cases:
            print(f"# case {number} is not run here: {why}")
    return tally.end()
