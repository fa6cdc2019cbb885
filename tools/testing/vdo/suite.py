# SPDX-License-Identifier: GPL-2.0

"""Runs the rows of the acceptance list: sessions of rows in order, each row one line of output.

A session makes its volume once, its rows use it one after the other; what a row needs that the
implementation under test does not have (an index, a packer) is printed as skipped.
"""

import os
import re
import sys
import time

from dataclasses import dataclass
from typing import Callable

from lib import devices
from lib import machine
from lib import runner
from lib.runner import IMPL
from lib.runner import attempt
from vdo import differences
from vdo import elsewhere

INDEX, PACKER = "index", "packer"
# What the implementation under test is to show.
HAS = set(os.environ.get("DMOX_VDO_HAS", "index,packer").split(","))
DEDUPE = INDEX in HAS

_sessions = []
_running = None


@dataclass
class Row:
    """One row of the list."""

    name: str
    title: str
    needs: str | None
    only: str | None
    long: bool
    run: Callable
    seconds: int = runner.LIMIT_SECONDS

    def left_out(self, long):
        """Why it does not run, if it does not."""
        missing = set((self.needs or "").split()) - HAS - machine.HAS
        if missing:
            return f"needs {' '.join(sorted(missing))}"
        if self.only and self.only != IMPL:
            return f"only {self.only}"
        if self.long and not long:
            return "for --long"
        return None


class Session:
    """Rows that share what `make` returns."""

    def __init__(self, name, make=None):
        self.name = name
        self.make = make
        self.rows = []
        _sessions.append(self)

    def row(self, name, title, needs=None, only=None, long=False, seconds=runner.LIMIT_SECONDS):
        """Register a row. `only`: makes sense for one implementation (a C defect's exact shape);
        `seconds`: what takes longer hangs."""
        def register(function):
            assert all(row.name != name for one in _sessions for row in one.rows), name
            self.rows.append(Row(name, title, needs, only, long, function, seconds))
            return function
        return register


def case(name, title, make=None, **how):
    """A row that has a session of its own."""
    return Session(name, make).row(name, title, **how)


def expect(*, c, rust):
    """The value that the implementation under test must show; the table of differences says why."""
    assert _running.name in differences.TEXT, f"{_running.name} is in no table of differences"
    return c if IMPL == "c" else rust


def _run(session, rows, tally, long):
    global _running
    wanted = []
    for row in rows:
        why = row.left_out(long)
        if why:
            tally.skip(row, why)
        else:
            wanted.append(row)
    if not wanted:
        return
    start = time.monotonic()
    state, broken = [], None
    _running = wanted[0]
    if session.make:
        broken = attempt(f"set-up of {session.name}", lambda: state.append(session.make()))
    for row in wanted:
        _running = row
        reason = broken and f"no set-up: {broken}"
        reason = reason or attempt(row.name, row.run, *state, seconds=row.seconds)
        tally.note(row, reason, time.monotonic() - start)
        start = time.monotonic()
    reason = attempt(f"end of {session.name}", devices.remove_all)
    if reason:
        tally.note(Row(f"{session.name}-end", "clean-up", None, None, False, None), reason, 0)


def _tell_elsewhere():
    """The rest of the list."""
    for name, where in elsewhere.WHERE.items():
        assert all(row.name != name for one in _sessions for row in one.rows), name
        print(f"skip {name} {where}", flush=True)


def _selected(words):
    """Sessions and their rows up to the last one asked for; a word names a row or a session, or
    is a pattern for rows: H, T12, K8.*"""
    for session in _sessions:
        last = len(session.rows) if not words or session.name in words else 0
        for at, row in enumerate(session.rows):
            if any(re.fullmatch(word, row.name) for word in words):
                last = max(last, at + 1)
        if last:
            yield session, session.rows[:last]


def main(prepare, whole=True):
    """The command line, see --help. Returns the exit status. `whole`: this is the acceptance list."""
    options = runner.options("sessions, rows, or patterns of rows")
    if options.differences:
        differences.write(sys.stdout)
        return 0
    if options.noise:
        print(differences.NOISE)
        return 0
    chosen = list(_selected(options.cases))
    if options.list:
        for _, rows in chosen:
            for row in rows:
                print(row.name, row.title, f"({row.needs})" if row.needs else "")
        return 0
    print(f"# implementation: {IMPL}, has: {' '.join(sorted(HAS)) or 'neither index nor packer'}",
          flush=True)
    prepare()
    tally = runner.Tally()
    for session, rows in chosen:
        _run(session, rows, tally, options.long)
    if not options.cases and whole:
        _tell_elsewhere()
    return tally.end()


def outcome(call, *arguments):
    """0, or the errno."""
    try:
        call(*arguments)
    except OSError as error:
        return error.errno
    return 0
