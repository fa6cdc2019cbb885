# SPDX-License-Identifier: GPL-2.0

"""python3 -m bench.report FOLDER: the figures of all passes as Markdown, and as one JSON file."""

import json
import os
import sys

from bench.__main__ import TARGETS
from bench.row import BARE
from bench.row import C
from bench.row import LINEAR
from bench.row import PASSES
from bench.row import RUST
from bench.row import above

_HEAD = ("", "unit", "bare device", "linear", "C", "ours", "ours : C", "above bare", "above linear",
         "goal")


def number(value):
    if value is None:
        return "-"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def figure(values, subject):
    """The median, and from where to where the runs went."""
    runs = values.get(f"{subject}_runs")
    if not runs or len(runs) < 2:
        return number(values.get(subject))
    return f"{number(values[subject])} ({number(min(runs))}-{number(max(runs))})"


def ratio(over, under):
    if over is None or under is None or under <= 0:
        return "-"
    if over < 0:
        return "< 0"
    found = over / under
    return f"{found:.2f}" if 0.1 <= found < 100 else f"{found:.3g}"


def line(row, values):
    """The words of a line."""
    goal = "-"
    if row.goal:
        met = row.goal.met(values)
        goal = row.goal.text() + {True: ": met", False: ": MISSED", None: ""}[met]
    # A rate above another says nothing.
    above_base = ["-" if row.more_is_better else ratio(above(values, RUST, base),
                                                       above(values, C, base))
                  for base in (BARE, LINEAR)]
    return (row.title, row.unit, *(figure(values, s) for s in (BARE, LINEAR, C, RUST)),
            ratio(values.get(RUST), values.get(C)), *above_base, goal)


def markdown(rows, values):
    tables = {}
    for row in rows:
        if row.key in values:
            tables.setdefault(row.table, []).append(line(row, values[row.key]))
    for title, lines in tables.items():
        yield f"\n### {title}\n"
        yield "| " + " | ".join(_HEAD) + " |"
        yield "| --- | --- |" + " ---: |" * 7 + " --- |"
        for words in lines:
            yield "| " + " | ".join(words) + " |"


def main(folder):
    passes = {}
    for run_in in PASSES:
        path = os.path.join(folder, f"{run_in}.json")
        if os.path.exists(path):
            with open(path) as file:
                passes[run_in] = json.load(file)
    values = {row["key"]: row for one in passes.values() for row in one["rows"]}
    rows = [row for target in TARGETS for row in target.ROWS]
    for run_in, one in passes.items():
        print(f"{run_in}: commit {one['commit']}, kernel {one['kernel']}, {one['span'] >> 20} MiB, "
              f"start-up with {one['wide_regions']} regions{', quick' if one['quick'] else ''}")
    print("\n".join(markdown(rows, values)))
    with open(os.path.join(folder, "result.json"), "w") as file:
        json.dump(passes, file, indent=1)
    missed = [row.key for row in rows
              if row.goal and row.goal.met(values.get(row.key, {})) is False]
    print(f"\nresult: {folder}/result.json" + (f"; missed: {', '.join(missed)}" if missed else ""))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
