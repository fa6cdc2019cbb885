# SPDX-License-Identifier: GPL-2.0

"""What the demo shows: lines with the time they happened, and one bar that moves."""

import os
import time

_BAR = 20
_WIDTH = 80


class Screen:
    """On a terminal the bar is drawn in place; elsewhere a line is printed every quarter."""

    def __init__(self):
        self._terminal = os.environ.get("DMOX_TERMINAL") == "1"
        self._start = None
        self._open = False
        self._next = 0.0

    def title(self, text):
        self._print(f"{text}\n")

    def line(self, text):
        self._print(f"  {text}" if text else "")

    def start_clock(self):
        self._start = time.monotonic()

    def at(self, text):
        """A line with the time; returns the time."""
        passed = time.monotonic() - self._start
        self._print(f"  {passed:5.1f} s  {text}")
        return passed

    def progress(self, share, text):
        filled = int(share * _BAR)
        bar = f"[{'#' * filled}{'.' * (_BAR - filled)}] {int(share * 100):3} %  {text}"
        passed = time.monotonic() - self._start
        if self._terminal:
            print(f"\r  {passed:5.1f} s  {bar}"[:_WIDTH], end="", flush=True)
            self._open = True
        elif share >= self._next:
            self._next = min(1.0, (int(share * 4) + 1) / 4) if share < 1 else 2.0
            print(f"  {passed:5.1f} s  {bar}", flush=True)

    def _print(self, text):
        if self._open:
            print(flush=True)
            self._open = False
        print(text, flush=True)
