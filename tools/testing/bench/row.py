# SPDX-License-Identifier: GPL-2.0

"""What a line of the result is, and the passes that lines belong to."""

from dataclasses import dataclass
from typing import Callable

# One CPU, a clock that counts instructions: a nanosecond is one instruction.
COUNTED = "counted"
# Two CPUs, the clock on the wall: medians of interleaved runs.
TIMED = "timed"

RAW, LINEAR, C, RUST = "raw", "linear", "c", "rust"


@dataclass
class Goal:
    """`over` divided by `under` is to be at least, or at most, so much; with `above` what they cost
    above the raw device."""

    over: str
    under: str
    at_least: float | None = None
    at_most: float | None = None
    above: bool = False

    def text(self):
        sign, value = (">=", self.at_least) if self.at_most is None else ("<=", self.at_most)
        return f"{self.over}/{self.under} {sign} {value:g}{' above raw' * self.above}"

    def met(self, values):
        """None if there are no figures."""
        over, under = values.get(self.over), values.get(self.under)
        if over is None or under is None or (self.above and values.get(RAW) is None):
            return None
        base = values[RAW] if self.above else 0
        if under <= base:
            return None
        ratio = (over - base) / (under - base)
        return ratio >= self.at_least if self.at_most is None else ratio <= self.at_most


@dataclass
class Row:
    """One line: `measure(bench, subject)` gives the figure for the bare device, linear, C or Rust.

    In the timed pass each subject is measured `runs` times, in turns, and the median counts.
    """

    key: str
    title: str
    unit: str
    measure: Callable
    run_in: str = COUNTED
    subjects: tuple = (RAW, C, RUST)
    table: str = ""
    goal: Goal | None = None
    runs: int = 5
    more_is_better: bool = False
