# SPDX-License-Identifier: GPL-2.0

"""What a line of the result is, and the passes that lines belong to."""

from dataclasses import dataclass
from typing import Callable

# One CPU, a clock that counts instructions: a nanosecond is one instruction.
COUNTED = "counted"
# Two CPUs, the clock on the wall: medians of interleaved runs.
TIMED = "timed"
# User Mode Linux, load from inside the kernel, CPU time of the host: medians of interleaved runs.
NATIVE = "native"
# The clock on the wall over storage that takes its time: medians of interleaved runs.
LATENCY = "latency"

PASSES = (NATIVE, COUNTED, TIMED, LATENCY)

# The bare device, and a linear mapping of it: what device-mapper itself costs.
BARE, LINEAR, C, RUST = "bare", "linear", "c", "rust"

_NAMES = {BARE: "bare", LINEAR: "linear", C: "C", RUST: "ours"}


def above(values, subject, base):
    """What a subject costs more than the base, or None."""
    if values.get(subject) is None or values.get(base) is None:
        return None
    return values[subject] - values[base]


@dataclass
class Goal:
    """`over` divided by `under` is to be at least, or at most, so much; with `above_bare` what they
    cost above the bare device."""

    over: str
    under: str
    at_least: float | None = None
    at_most: float | None = None
    above_bare: bool = False

    def text(self):
        sign, value = (">=", self.at_least) if self.at_most is None else ("<=", self.at_most)
        where = " above bare" * self.above_bare
        return f"{_NAMES[self.over]}/{_NAMES[self.under]} {sign} {value:g}{where}"

    def met(self, values):
        """None if there are no figures."""
        over, under = values.get(self.over), values.get(self.under)
        if self.above_bare:
            over, under = above(values, self.over, BARE), above(values, self.under, BARE)
        if over is None or under is None or under <= 0:
            return None
        ratio = over / under
        return ratio >= self.at_least if self.at_most is None else ratio <= self.at_most


def above_bare(at_most):
    """The usual goal: so much of what C costs above the bare device."""
    return Goal(RUST, C, at_most=at_most, above_bare=True)


@dataclass
class Row:
    """One line: `measure(bench, subject)` gives the figure for the bare device, linear, C or Rust.

    In all passes but the counted one each subject is measured `runs` times, in turns, and the median
    counts.
    """

    key: str
    title: str
    unit: str
    measure: Callable
    run_in: str = COUNTED
    subjects: tuple = (BARE, C, RUST)
    table: str = ""
    goal: Goal | None = None
    runs: int = 5
    more_is_better: bool = False
