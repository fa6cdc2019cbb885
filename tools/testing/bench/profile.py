# SPDX-License-Identifier: GPL-2.0

"""Where the time goes: samples the program counters of all CPUs while a row is measured.

The samples come from the kernel's own clock event, since an emulated CPU has no counters. What runs
with interrupts off is put down to where they are switched on again.
"""

import bisect
import collections
import ctypes
import mmap
import os
import re
import struct

from contextlib import contextmanager

_SYS_PERF_EVENT_OPEN = 298
_ENABLE, _DISABLE = 0x2400, 0x2401
# On one CPU, whose clock counts instructions; and on several, by the clock on the wall.
_COUNTED_PERIOD_NS, _TIMED_PERIOD_NS = 20_000, 500_000
_DATA_PAGES = 1024
_SAMPLE = 9
_SHOWN = 25


def _open(cpu, period):
    """A clock event on a CPU, for whoever runs there."""
    # struct perf_event_attr: software, its size, CPU clock, period, sample the address, disabled.
    attributes = struct.pack("<IIQQQQQ", 1, 112, 0, period, 1, 0, 1).ljust(112, b"\0")
    file = ctypes.CDLL(None, use_errno=True).syscall(_SYS_PERF_EVENT_OPEN, attributes, -1, cpu, -1, 0)
    if file < 0:
        raise OSError(ctypes.get_errno(), "perf_event_open")
    return file


def _addresses(ring):
    """The sampled addresses, oldest first."""
    head, _, offset, size = struct.unpack_from("<4Q", ring, 1024)
    data = ring[offset:offset + min(head, size)]
    at = 0
    while at + 8 <= len(data):
        kind, _, length = struct.unpack_from("<IHH", data, at)
        if kind == _SAMPLE:
            yield struct.unpack_from("<Q", data, at + 8)[0]
        at += max(length, 8)


def _short(symbol):
    """The names in a mangled Rust symbol."""
    if not symbol.startswith("_R"):
        return symbol
    names, at = [], 2
    # A name has its length before it, and before that perhaps what tells crates of a name apart.
    while found := re.compile(r"(?:s[0-9A-Za-z]*_)?(\d+)_?").search(symbol, at):
        length = int(found[1])
        name = symbol[found.end():found.end() + length]
        at = found.end()
        if re.fullmatch(r"[A-Za-z_]\w*", name) and len(name) == length > 1:
            names.append(name)
            at += length
    return "::".join(names[:6])


class _Symbols:
    def __init__(self):
        found = []
        with open("/proc/kallsyms") as file:
            for line in file:
                address, kind, name = line.split()[:3]
                if kind in "tTwW":
                    found.append((int(address, 16), name))
        found.sort()
        self._starts = [address for address, _ in found]
        self._names = [name for _, name in found]

    def name(self, address):
        if address < 1 << 63:
            return "(the tool itself)"
        return _short(self._names[max(bisect.bisect_right(self._starts, address) - 1, 0)])


class _Sampler:
    """The clock event of one CPU, and what it has seen."""

    def __init__(self, cpu, period):
        self._file = _open(cpu, period)
        self._ring = mmap.mmap(self._file, (1 + _DATA_PAGES) * mmap.PAGESIZE)

    def switch(self, request):
        ctypes.CDLL(None).ioctl(self._file, request, 0)

    def counts(self, symbols):
        """How often each symbol was seen; the sampler is used up."""
        counts = collections.Counter(map(symbols.name, _addresses(self._ring)))
        self._ring.close()
        os.close(self._file)
        return counts


@contextmanager
def profiled(say):
    """Samples what runs inside, and says where it was."""
    cpus = os.cpu_count()
    period = _COUNTED_PERIOD_NS if cpus == 1 else _TIMED_PERIOD_NS
    samplers = [_Sampler(cpu, period) for cpu in range(cpus)]
    symbols = _Symbols()
    for sampler in samplers:
        sampler.switch(_ENABLE)
    try:
        yield
    finally:
        for sampler in samplers:
            sampler.switch(_DISABLE)
        counts = sum((sampler.counts(symbols) for sampler in samplers), collections.Counter())
    total = sum(counts.values()) or 1
    for name, count in counts.most_common(_SHOWN):
        say(f"#   {count * 100 / total:5.1f} %  {name}")
