# SPDX-License-Identifier: GPL-2.0

"""python3 -m swap [CASES...], in a machine of 256 MiB, as root; see the script `run`.

A program takes twice that memory and uses all of it again and again. What does not fit is on the
device of the case. The program must end by itself, and find in every page what it put there.
"""

import contextlib
import subprocess
import sys
import time

from dataclasses import dataclass

from lib import devices
from lib import dm
from lib import runner
from lib.blockio import BlockFile
from lib.devices import until

MEMORY_MIB = 512
ROUNDS = 3
# Only there to end what hangs.
_LIMIT_SECONDS = 3000

_MIB = 2048
_SWAP = 768 * _MIB
_DISK = "/dev/disk/swap"
# The parts of the disk that a clone takes.
_META, _DEST, _SOURCE = 0, 16 * _MIB, 1024 * _MIB


def _sectors():
    with BlockFile(_DISK) as file:
        return file.sectors


@contextlib.contextmanager
def _bare():
    """The test itself: without a target it must pass."""
    yield _DISK


@contextlib.contextmanager
def _vdo():
    """A new volume."""
    with BlockFile(_DISK) as file:
        file.write(0, bytes(4096))
    yield _mapped("v", f"0 {_SWAP} vdo V4 {_DISK} {_sectors() // 8} 4096 4096 16380 "
                  "slabSize 32768 deduplication off").path


@contextlib.contextmanager
def _clone():
    """A clone that hydrates from a slow source.

    So pages are written to regions that it has not got yet, in parts and whole."""
    meta = _mapped("meta", f"0 {_DEST - _META} linear {_DISK} {_META}")
    with BlockFile(meta.path) as file:
        file.write(0, bytes(4096))
    dest = _mapped("dest", f"0 {_SWAP} linear {_DISK} {_DEST}")
    source = _mapped("source", f"0 {_SWAP} delay {_DISK} {_SOURCE} 5")
    device = _mapped("c", f"0 {_SWAP} clone {meta.path} {dest.path} {source.path} 128 0 4 "
                     "hydration_threshold 1 hydration_batch_size 1")
    yield device.path
    print(f"# {device.status(noflush=True)[0]}", flush=True)


def _mapped(name, table):
    return dm.Device(name, table)


CASES = {"bare": _bare, "vdo": _vdo, "clone": _clone}


@dataclass
class Case:
    """Swap on a device."""

    name: str
    title: str


def _run(*command):
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def _memory():
    """What there is, for who wonders why it did not suffice."""
    with open("/proc/meminfo") as file:
        words = dict(line.split(":") for line in file)
    names = ("MemTotal", "MemFree", "Cached", "Shmem", "Slab", "SUnreclaim", "SwapFree")
    return ", ".join(f"{name} {int(words[name].split()[0]) >> 10}" for name in names) + " (MiB)"


def _swap_on(case):
    with contextlib.ExitStack() as stack:
        stack.callback(_remove_all)
        path = stack.enter_context(CASES[case.name]())
        _run("mkswap", path)
        print(f"# before: {_memory()}", flush=True)
        _run("swapon", path)
        stack.callback(_run, "swapoff", path)
        # If somebody has to go it is the program: then the case fails, not the machine.
        hog = subprocess.Popen(
            ["sh", "-c", "echo 1000 >/proc/self/oom_score_adj; exec python3 -B -m swap.hog "
             f"{MEMORY_MIB} {ROUNDS}"])
        status = hog.wait()
        print(f"# after: {_memory()}", flush=True)
        assert status == 0, f"the program ended with {status}"


def _remove_all():
    for device in reversed(list(dm.Device.live)):
        device.remove(30)


def main():
    chosen = runner.options("cases")
    devices.modprobe("-a", "dm-mod", "dm-delay", "dm-clone", "dm-vdo")
    tally = runner.Tally()
    for name, make in CASES.items():
        case = Case(name, make.__doc__.splitlines()[0])
        if chosen.cases and name not in chosen.cases:
            continue
        if chosen.list:
            print(name)
            continue
        start = time.monotonic()
        reason = runner.attempt(name, _swap_on, case, seconds=_LIMIT_SECONDS)
        tally.note(case, reason, time.monotonic() - start)
    return tally.end()


if __name__ == "__main__":
    sys.exit(main())
