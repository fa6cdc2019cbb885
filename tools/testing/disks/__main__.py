# SPDX-License-Identifier: GPL-2.0

"""python3 -m disks [CASES...], in the VM, as root.

On a disk of each kind both targets are made, used, suspended, reloaded, crashed and started again,
and above each other and other targets (stacks.py), by mainline's module and by ours in the same
boot. What mainline's can do ours must, with the same queue limits, but for those that limits.py
names. In mode test only some cases run, if none is named.
"""

import os
import sys
import time
import traceback

from dataclasses import dataclass

from disks import kinds
from disks import limits
from disks import stacks
from disks import use
from lib import devices
from lib import runner
from lib import target
from lib.kmsg import Log


# Only there to end what hangs: both implementations, on a busy machine.
_LIMIT_SECONDS = 900

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
    # C's is not tried: the machine would not survive it.
    alone: bool = False

    @property
    def name(self):
        return f"{self.kind}.{self.how}" + (f"-{self.size}" if self.target == "vdo" else "")

    @property
    def title(self):
        return ""

    def judge(self):
        with kinds.KINDS[self.kind]() as path:
            call = getattr(use, self.how)
            if self.alone:
                target.use("rust", self.target)
                call(path, self.size)
            else:
                _compare(self.name, [self.target], call, path, self.size)


@dataclass
class Stack:
    """Targets above each other."""

    name: str
    kind = "stack"
    target = how = None
    title = ""

    def judge(self):
        targets = [name for name in ("clone", "vdo") if name in self.name]
        _compare(self.name, targets, stacks.use, self.name, c_works=True)


def _cases():
    for kind in kinds.KINDS:
        yield Case(kind, "vdo", "vdo", 4096)
        yield Case(kind, "vdo", "vdo", 512)
        yield Case(kind, "clone", "clone", 0)
    for kind in ("ram", "scsi-4kn-lbprz", "dm-crypt"):
        for size in (4096, 512):
            yield Case(kind, "vdo", "file_systems", size)
    for kind in ("nvme", "nvme-4k", "null-polled"):
        yield Case(kind, "vdo", "polled_vdo", 4096)
        # What device-mapper cuts it marks wrongly then: NVMe's driver, and a mapped device below,
        # follow a null pointer.
        fatal = kind != "null-polled"
        yield Case(kind, "clone", "polled_clone", 0, alone=fatal)
        yield Case(kind, "vdo", "polled_vdo_stacked", 4096, alone=True)
        yield Case(kind, "clone", "polled_clone_stacked", 0, alone=True)
    for name in stacks.STACKS:
        yield Stack(name)


def _try(impl, targets, call, *arguments):
    """What this implementation's limits are, or why it cannot be used; what the log had then."""
    for name in targets:
        target.use(impl, name)
    log = Log()
    try:
        return call(*arguments), None, []
    except (AssertionError, OSError) as error:
        text = "".join(traceback.format_exception(error)[-2:]).strip()
        return None, text, log.lines()
    finally:
        log.close()


def _compare(name, targets, call, *arguments, c_works=False):
    """With `c_works` it is no excuse for ours that C fails."""
    c, c_error, _ = _try("c", targets, call, *arguments)
    ours, error, log = _try("rust", targets, call, *arguments)
    assert c_error is None or not c_works, f"C: {c_error}"
    if error is not None and c_error is None:
        raise AssertionError(f"{error}; log: {log[-8:]}")
    if c_error is not None:
        print(f"# {name}: C fails: {c_error.splitlines()[-1]}", flush=True)
    elif c is not None:
        limits.compare(targets, c, ours)


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
        reason = runner.attempt(case.name, case.judge, seconds=_LIMIT_SECONDS)
        tally.note(case, reason, time.monotonic() - start)
    return tally.end()


if __name__ == "__main__":
    sys.exit(main())
