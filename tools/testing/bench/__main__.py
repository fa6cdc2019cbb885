# SPDX-License-Identifier: GPL-2.0

"""python3 -m bench PASS [OPTION...], in the machine that scripts/bench boots.

Measures the rows of one pass, and leaves the figures as JSON in /share/<pass>.json.
"""

import argparse
import json
import os
import platform
import re
import statistics
import sys

from contextlib import nullcontext

from bench import clone
from bench import latency
from bench import native_clone
from bench import native_vdo
from bench import sharing
from bench import vdo
from bench.profile import profiled
from bench.row import BARE
from bench.row import C
from bench.row import COUNTED
from bench.row import LINEAR
from bench.row import NATIVE
from bench.row import PASSES
from bench.row import RUST
from bench.row import TIMED

# A module each: MODULE, ROWS, prepare(bench).
TARGETS = [native_clone, native_vdo, clone, vdo, sharing, latency]


class Bench:
    """How much is done, and by whom."""

    def __init__(self, run_in, quick, profile, runs, implementations):
        self.runs = runs
        self.implementations = implementations
        self.profile = profile
        full = (1 << 30) if run_in in (TIMED, NATIVE) else (256 << 20)
        self.span = full >> 2 if quick else full
        self.requests = 16384 if quick else 131072
        self.flushes = 512 if quick else 4096
        self.wide_regions = 1 << (22 if quick else 28)
        self.quick = quick

    def has(self, implementation):
        return implementation in self.implementations


def say(text):
    print(text, flush=True)


def measure(bench, target, row, subject):
    if subject in (C, RUST):
        target.MODULE.use(subject)
    with profiled(say) if bench.profile else nullcontext():
        value = row.measure(bench, subject)
    say(f"# {row.key} {subject}: {value:.6g} {row.unit}")
    return value


def counted(bench, target, rows, values):
    """Subject by subject: figures repeat, so that the order does not matter."""
    for subject in (BARE, LINEAR, *bench.implementations):
        for row in rows:
            if subject in row.subjects:
                values[row.key][subject] = measure(bench, target, row, subject)


def in_turns(bench, target, rows, values):
    """Row by row, the subjects in turns, so that what else the machine does meets them all."""
    for row in rows:
        subjects = [s for s in row.subjects if s in (BARE, LINEAR, *bench.implementations)]
        runs = {subject: [] for subject in subjects}
        for _ in range(bench.runs or row.runs):
            for subject in subjects:
                runs[subject].append(measure(bench, target, row, subject))
        for subject in subjects:
            values[row.key][subject] = statistics.median(runs[subject])
            values[row.key][f"{subject}_runs"] = runs[subject]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("run_in", choices=PASSES)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--profile", action="store_true", help="also say where the time goes")
    parser.add_argument("--rows", default="", help="only rows whose key matches")
    parser.add_argument("--runs", type=int, help="other than the usual number of runs")
    options = parser.parse_args()
    both = os.environ["DMOX_IMPL"] == "rust"
    bench = Bench(options.run_in, options.quick, options.profile, options.runs,
                  (C, RUST) if both else (C,))
    results = []
    for target in TARGETS:
        rows = [row for row in target.ROWS
                if row.run_in == options.run_in and re.search(options.rows, row.key)]
        if not rows:
            continue
        target.prepare(bench)
        values = {row.key: {} for row in rows}
        (counted if options.run_in == COUNTED else in_turns)(bench, target, rows, values)
        target.MODULE.unload()
        results += [{"key": row.key, "unit": row.unit, **values[row.key]} for row in rows]
    with open(f"/share/{options.run_in}.json", "w") as file:
        json.dump({"kernel": platform.release(), "commit": os.environ.get("DMOX_COMMIT", ""),
                   "quick": options.quick, "span": bench.span,
                   "wide_regions": bench.wide_regions, "rows": results}, file, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
