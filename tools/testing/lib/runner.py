# SPDX-License-Identifier: GPL-2.0

"""Runs numbered cases: each starts clean, is cleaned up after, and gives one line of output.

A case is a function under `@case(number, title)`. Where the two implementations are meant to differ
the case says so in words (`differs=`), and picks the values with `expect(c=..., rust=...)`.
"""

import argparse
import os
import sys
import threading
import time
import traceback

from contextlib import contextmanager
from dataclasses import dataclass
from typing import Callable

from lib import devices

IMPL = os.environ.get("DMOX_IMPL", "c")
_CASE_LIMIT_SECONDS = 240

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
    run: Callable
    compared: bool = False

    @property
    def name(self):
        """A number may have a long part of its own."""
        return f"{self.number}{' (long)' if self.long else ''}"


def case(number, title, differs=None, long=False, noise=None):
    """Register a case. `differs`: what ours does instead; `long`: runs only with --long or
    DMOX_MODE=long; `noise`: what C is known to leave in the kernel's log, a regular expression."""
    def register(function):
        one = Case(number, title, differs, long, noise, function)
        assert (number, long) not in _cases, f"case {one.name} twice"
        _cases[number, long] = one
        return function
    return register


def expect(*, c, rust):
    """The value that the implementation under test must show."""
    assert _running.differs, "this case says nothing of a difference"
    _running.compared = True
    return c if IMPL == "c" else rust


def equal(found, wanted, what=""):
    assert found == wanted, f"{what + ': ' if what else ''}{found!r}, not {wanted!r}"


def _selected(words):
    """Cases by numbers and ranges: 3 10-20."""
    numbers = {number for number, _ in _cases} if not words else set()
    for word in words:
        first, _, last = word.partition("-")
        numbers |= set(range(int(first), int(last or first) + 1))
    return [one for key, one in sorted(_cases.items()) if key[0] in numbers]


def _hang(name):
    """The main thread will not come back: say where it stands, show the kernel's stacks, end."""
    frame = sys._current_frames()[threading.main_thread().ident]
    print(f"FAIL {name}: hangs", flush=True)
    traceback.print_stack(frame, file=sys.stdout)
    with open("/proc/sysrq-trigger", "w") as trigger:
        trigger.write("w")
    print("0 passed, 1 failed: stopped by a hang", flush=True)
    # A thread that the kernel does not let go keeps the process: the machine has to go.
    time.sleep(2)
    with open("/proc/sysrq-trigger", "w") as trigger:
        trigger.write("o")
    os._exit(2)


@contextmanager
def watchdog(name, seconds):
    """End the whole run if the body takes longer."""
    timer = threading.Timer(seconds, _hang, [name])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _run(one):
    """None if it passed, else the reason."""
    global _running
    _running = one
    reason = None
    with watchdog(f"{one.name} {one.title}", _CASE_LIMIT_SECONDS * (5 if one.long else 1)):
        try:
            one.run()
            assert one.compared or not one.differs, \
                "no difference was judged, though it speaks of one"
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            traceback.print_exc(file=sys.stdout)
        try:
            devices.remove_all()
        except Exception as error:
            reason = f"{reason or ''} (and cannot clean up: {error})"
    return reason


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
    parser = argparse.ArgumentParser()
    parser.add_argument("cases", nargs="*", help="numbers or ranges, 3 10-20; without: all")
    parser.add_argument("--long", action="store_true", help="also the cases that take minutes")
    parser.add_argument("--list", action="store_true", help="print numbers and titles only")
    parser.add_argument("--noise", action="store_true", help="print the log lines to ignore on C")
    parser.add_argument("--differences", action="store_true",
                        help="print what the cases say about ours and C, as a table")
    options = parser.parse_args()
    long = options.long or os.environ.get("DMOX_MODE") == "long"
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
    passed, failed, left = [], [], []
    for one in cases:
        if one.long and not long:
            left.append(one.name)
            continue
        start = time.monotonic()
        reason = _run(one)
        took = f"({time.monotonic() - start:.1f} s)"
        if reason is None:
            passed.append(one.name)
            print(f"ok {one.name} {one.title} {took}", flush=True)
        else:
            failed.append(one.name)
            print(f"FAIL {one.name} {one.title}: {reason} {took}", flush=True)
    for number, why in untested:
        if not options.cases or str(number) in options.cases:
            print(f"# case {number} is not run here: {why}")
    if left:
        print(f"# left for --long: {', '.join(left)}")
    print(f"{len(passed)} passed, {len(failed)} failed", flush=True)
    if failed:
        print(f"failed: {', '.join(failed)}", flush=True)
    return 1 if failed else 0
