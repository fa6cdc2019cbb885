# SPDX-License-Identifier: GPL-2.0

"""python3 -m bench.report FOLDER: the figures of both passes as Markdown, and as one JSON file."""

import json
import os
import sys

from bench.__main__ import TARGETS
from bench.row import C
from bench.row import COUNTED
from bench.row import LINEAR
from bench.row import RAW
from bench.row import RUST
from bench.row import TIMED

_HEAD = ("", "unit", "raw", "linear", "C", "Rust", "gain", "gain above raw", "goal")


def number(value):
    if value is None:
        return "-"
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def ratio(over, under):
    if over is None or under is None:
        return "-"
    # What is lost in the raw device's own cost cannot be divided by.
    if under <= 0:
        return "-"
    return f"{over / under:.2f}" if over < under * 100 else "> 100"


def above(values, subject):
    if values.get(subject) is None or values.get(RAW) is None:
        return None
    return values[subject] - values[RAW]


def line(row, values):
    """The words of a line."""
    goal = "-"
    if row.goal:
        met = row.goal.met(values)
        goal = row.goal.text() + {True: ": met", False: ": MISSED", None: ""}[met]
    c, rust = values.get(C), values.get(RUST)
    above_raw = "-"
    if not row.more_is_better and row.run_in == COUNTED:
        above_raw = ratio(above(values, C), above(values, RUST))
    return (row.title, row.unit, *(number(values.get(s)) for s in (RAW, LINEAR, C, RUST)),
            ratio(rust, c) if row.more_is_better else ratio(c, rust), above_raw, goal)


def markdown(rows, values):
    tables = {}
    for row in rows:
        if row.key in values:
            tables.setdefault(row.table, []).append(line(row, values[row.key]))
    for title, lines in tables.items():
        yield f"\n### {title}\n"
        yield "| " + " | ".join(_HEAD) + " |"
        yield "| --- | --- |" + " ---: |" * 6 + " --- |"
        for words in lines:
            yield "| " + " | ".join(words) + " |"


def main(folder):
    passes = {}
    for run_in in (COUNTED, TIMED):
        path = os.path.join(folder, f"{run_in}.json")
        if os.path.exists(path):
            with open(path) as file:
                passes[run_in] = json.load(file)
    values = {row["key"]: row for one in passes.values() for row in one["rows"]}
    rows = [row for target in TARGETS for row in target.ROWS]
    for run_in, one in passes.items():
        print(f"{run_in}: kernel {one['kernel']}, {one['span'] >> 20} MiB, start-up with "
              f"{one['wide_regions']} regions{', quick' if one['quick'] else ''}")
    print("\n".join(markdown(rows, values)))
    with open(os.path.join(folder, "result.json"), "w") as file:
        json.dump(passes, file, indent=1)
    missed = [row.key for row in rows
              if row.goal and row.goal.met(values.get(row.key, {})) is False]
    print(f"\nresult: {folder}/result.json" + (f"; missed: {', '.join(missed)}" if missed else ""))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
