# SPDX-License-Identifier: GPL-2.0

"""Workloads from inside the kernel, by the module of kernel/dmox_load.c; no tool, no system calls.

In User Mode Linux `cpu` is the time that the kernel has used of the host's CPUs. What else the host
does adds nothing to it, beside what it takes out of the caches.
"""

from dataclasses import dataclass

from lib.blockio import BlockFile
from lib.devices import modprobe

MIB = 1 << 20
_FOLDER = "/sys/kernel/debug/dmox-load"


@dataclass
class Took:
    """Requests that were made, and seconds."""

    requests: int
    cpu: float
    wall: float

    @property
    def micros(self):
        """Microseconds of CPU a request."""
        return self.cpu * 1e6 / self.requests

    @property
    def rate(self):
        """Requests a second, by the clock."""
        return self.requests / self.wall


def prepare():
    """Load the module."""
    modprobe("dmox-load")


def cpu():
    """Seconds of CPU that the kernel has used so far."""
    with open(f"{_FOLDER}/cpu") as file:
        return int(file.read()) / 1e9


def order(path, kind, **words):
    """Have an order carried out, see the module; complains about requests that failed."""
    BlockFile(path).close()
    words = {name: int(value) for name, value in words.items()}
    text = " ".join([f"device={path} op={kind}", *(f"{n}={v}" for n, v in words.items())])
    with open(f"{_FOLDER}/order", "w") as file:
        file.write(text)
    with open(f"{_FOLDER}/order") as file:
        found = dict(word.split("=") for word in file.read().split())
    assert found["errors"] == "0", f"{text}: {found['errors']} requests failed"
    return Took(int(found["requests"]), int(found["cpu"]) / 1e9, int(found["wall"]) / 1e9)


def sequential(path, kind, span, block=MIB, depth=4, **more):
    """All of the span, once."""
    return order(path, kind, span=span, block=block, depth=depth, count=span // block, **more)


def at_random(path, kind, span, count, block=4096, depth=64, **more):
    """Blocks anywhere in the span."""
    return order(path, kind, span=span, block=block, depth=depth, count=count, random=True, **more)


def check(path, span, block=MIB, **more):
    """That a span holds what a write of it with the same seed has left."""
    order(path, "read", span=span, block=block, depth=4, count=span // block, check=True, **more)
