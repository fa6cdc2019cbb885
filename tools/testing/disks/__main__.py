# SPDX-License-Identifier: GPL-2.0

"""python3 -m disks [CASES...], in the VM, as root.

On a disk of each kind both targets are made, used, suspended, reloaded, crashed and started again,
by mainline's module and by ours in the same boot. What mainline's can do ours must, with the same
queue limits, but for those that limits.py names. In mode test only some cases run, if none is named.
"""

import os
import sys
import time
import traceback

from dataclasses import dataclass

from disks import kinds
from disks import limits
from disks import use
from lib import devices
from lib import runner
from lib import target
from lib.kmsg import Log


# What each kind of fault would be seen on.
_QUICK = ("scsi-lbprz.vdo-4096", "scsi-4kn.vdo-512", "scsi-4kn-lbprz.clone", "null-small-transfers.vdo-512",
          "virtio-plain.vdo-4096", "nvme.vdo-4096", "nvme-4k.clone", "dm-thin.vdo-4096",
          "md-raid5.vdo-4096", "zram.clone", "scsi-4kn-lbprz.file_systems-512")


@dataclass
class Case:
    """A target on a disk."""

    kind: str
    target: str
    how: str
    size: int

    @property
    def name(self):
        return f"{self.kind}.{self.how}" + (f"-{self.size}" if self.target == "vdo" else "")

    @property
    def title(self):
        return ""


def _cases():
    for kind in kinds.KINDS:
        yield Case(kind, "vdo", "vdo", 4096)
        yield Case(kind, "vdo", "vdo", 512)
        yield Case(kind, "clone", "clone", 0)
    for kind in ("ram", "scsi-4kn-lbprz", "dm-crypt"):
        for size in (4096, 512):
            yield Case(kind, "vdo", "file_systems", size)


def _try(case, impl, path):
    """What this implementation's limits are, or why it cannot be used; what the log had then."""
    target.use(impl, case.target)
    log = Log()
    try:
        return getattr(use, case.how)(path, case.size), None, []
    except (AssertionError, OSError) as error:
        text = "".join(traceback.format_exception(error)[-2:]).strip()
        return None, text, log.lines()
    finally:
        log.close()


def _judge(case):
    with kinds.KINDS[case.kind]() as path:
        _compare(case, path)


def _compare(case, path):
    c, c_error, _ = _try(case, "c", path)
    ours, error, log = _try(case, "rust", path)
    if error is not None and c_error is None:
        raise AssertionError(f"{error}; log: {log[-8:]}")
    if c_error is not None:
        print(f"# {case.name}: C fails: {c_error.splitlines()[-1]}", flush=True)
    elif c is not None:
        limits.compare(case.target, c, ours)


def main():
    chosen = runner.options("cases")
    devices.modprobe("-a", "dm-mod", "loop")
    devices.modprobe("brd", f"rd_nr={devices.RAMDISKS}", f"rd_size={kinds.MIB * 2048}")
    tally = runner.Tally()
    words = chosen.cases
    if not words and os.environ.get("DMOX_MODE") == "test":
        words = _QUICK
    for case in _cases():
        if words and not any(word in (case.name, case.kind, case.target, case.how) for word in words):
            continue
        if chosen.list:
            print(case.name)
            continue
        start = time.monotonic()
        if kinds.lacks(case.kind):
            tally.skip(case, "the machine was booted without such a disk")
            continue
        reason = runner.attempt(case.name, _judge, case)
        tally.note(case, reason, time.monotonic() - start)
    return tally.end()


if __name__ == "__main__":
    sys.exit(main())
