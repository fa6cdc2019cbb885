# SPDX-License-Identifier: GPL-2.0

"""What runs the cases of a list: a limit on time, one line of output each, and the sum.

What a case is, its list says; here it has a `name` and a `title`.
"""

import argparse
import os
import sys
import threading
import time
import traceback

from contextlib import contextmanager

IMPL = os.environ.get("DMOX_IMPL", "c")
LIMIT_SECONDS = 240


def equal(found, wanted, what=""):
    assert found == wanted, f"{what + ': ' if what else ''}{found!r}, not {wanted!r}"


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


def attempt(name, call, *arguments, seconds=LIMIT_SECONDS):
    """None if it went well, else the reason."""
    try:
        with watchdog(name, seconds):
            call(*arguments)
    except Exception as error:
        traceback.print_exc(file=sys.stdout)
        return f"{type(error).__name__}: {error}"
    return None


class Tally:
    """The lines of output and their sum."""

    def __init__(self):
        self.passed, self.failed, self.skipped = [], [], []

    def note(self, one, reason, seconds):
        took = f"({seconds:.1f} s)"
        if reason is None:
            self.passed.append(one.name)
            print(f"ok {one.name} {one.title} {took}", flush=True)
        else:
            self.failed.append(one.name)
            print(f"FAIL {one.name} {one.title}: {reason} {took}", flush=True)

    def skip(self, one, why):
        self.skipped.append(one.name)
        print(f"skip {one.name} {one.title}: {why}", flush=True)

    def end(self):
        print(f"# {len(self.skipped)} skipped: {' '.join(self.skipped) or '-'}")
        print(f"{len(self.passed)} passed, {len(self.failed)} failed", flush=True)
        if self.failed:
            print(f"failed: {', '.join(self.failed)}", flush=True)
        return 1 if self.failed else 0


def options(which):
    """The words of the command line. `which` says how cases are named."""
    parser = argparse.ArgumentParser()
    parser.add_argument("cases", nargs="*", help=f"{which}; without: all")
    parser.add_argument("--long", action="store_true", help="also the cases that take minutes",
                        default=os.environ.get("DMOX_MODE") == "long")
    parser.add_argument("--list", action="store_true", help="print names and titles only")
    parser.add_argument("--noise", action="store_true", help="print the log lines to ignore on C")
    parser.add_argument("--differences", action="store_true",
                        help="print where ours differs from C, as a table")
    return parser.parse_args()
