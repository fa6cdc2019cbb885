# SPDX-License-Identifier: GPL-2.0

"""Device-mapper through its ioctls: one system call an operation, no process started.

Device nodes are the kernel's own (devtmpfs): /dev/dm-N.
"""

import os
import struct
import time

from dataclasses import dataclass

from lib.ioctl import ioctl

READONLY = 1 << 0
SUSPENDED = 1 << 1
STATUS_TABLE = 1 << 4
ACTIVE = 1 << 5
INACTIVE = 1 << 6
BUFFER_FULL = 1 << 8
SKIP_LOCKFS = 1 << 10
NOFLUSH = 1 << 11
QUERY_INACTIVE = 1 << 12
DATA_OUT = 1 << 16

_CREATE, _REMOVE, _RENAME, _SUSPEND, _INFO, _LOAD, _CLEAR, _STATUS, _MESSAGE = \
    3, 4, 5, 6, 7, 9, 10, 12, 14

# Version, sizes and counts, flags, event, device, name, uuid.
_HEADER = struct.Struct("<3I2IIiIIIQ128s129s7x")
_SPEC = struct.Struct("<QQiI16s")
_VERSION = (4, 0, 0)

_control = None


@dataclass
class Answer:
    """What the kernel put into the header, and the data behind it."""

    targets: int
    opened: int
    flags: int
    event: int
    number: int
    data: bytes


def _request(command):
    return 3 << 30 | _HEADER.size << 16 | 0xFD << 8 | command


def _call(command, name, payload=b"", flags=0, count=0, room=16384):
    global _control
    if _control is None:
        _control = os.open("/dev/mapper/control", os.O_RDWR | os.O_CLOEXEC)
    size = _HEADER.size + len(payload) + room
    argument = bytearray(size)
    _HEADER.pack_into(argument, 0, *_VERSION, size, _HEADER.size, count, 0, flags, 0, 0, 0,
                      name.encode(), b"")
    argument[_HEADER.size:_HEADER.size + len(payload)] = payload
    ioctl(_control, _request(command), argument)
    head = _HEADER.unpack_from(argument)
    if head[7] & BUFFER_FULL:
        return _call(command, name, payload, flags, count, room * 8)
    return Answer(head[5], head[6], head[7], head[8], head[10], bytes(argument[head[4]:head[3]]))


def _pack(table):
    """The kernel's form of a table given as dmsetup writes it, a target a line."""
    packed = b""
    lines = table.splitlines()
    for line in lines:
        start, length, target, *rest = line.split(" ", 3)
        text = (rest[0] if rest else "").encode() + b"\0"
        text += bytes(-len(text) % 8)
        packed += _SPEC.pack(int(start), int(length), 0, _SPEC.size + len(text), target.encode())
        packed += text
    return packed, len(lines)


def _unpack(answer):
    lines = []
    at = 0
    for _ in range(answer.targets):
        start, length, _, following, target = _SPEC.unpack_from(answer.data, at)
        text = answer.data[at + _SPEC.size:].split(b"\0", 1)[0]
        line = f"{start} {length} {target.rstrip(bytes(1)).decode()} {text.decode()}"
        lines.append(line.rstrip())
        at = following
    return lines


class Device:
    """One mapped device. `live` holds all that exist, in the order in which they were made."""

    live = []

    def __init__(self, name, table=None, readonly=False):
        """Create it; with a table also load and resume, and leave nothing if that fails."""
        self.name = name
        answer = _call(_CREATE, name)
        # A number as the kernel encodes it: minor in the low byte and from bit 20 on.
        self.minor = answer.number & 0xFF | answer.number >> 12 & 0xFFF00
        self.major = answer.number >> 8 & 0xFFF
        Device.live.append(self)
        if table is not None:
            try:
                self.load(table, readonly)
                self.resume()
            except OSError:
                self.remove()
                raise

    @property
    def path(self):
        return f"/dev/dm-{self.minor}"

    @property
    def number(self):
        return f"{self.major}:{self.minor}"

    def load(self, table, readonly=False):
        payload, count = _pack(table)
        _call(_LOAD, self.name, payload, READONLY if readonly else 0, count)

    def clear(self):
        _call(_CLEAR, self.name)

    def rename(self, name):
        _call(_RENAME, self.name, name.encode() + b"\0")
        self.name = name

    def resume(self, noflush=False):
        _call(_SUSPEND, self.name, flags=NOFLUSH | SKIP_LOCKFS if noflush else 0)

    def suspend(self, noflush=False):
        _call(_SUSPEND, self.name, flags=SUSPENDED | (NOFLUSH | SKIP_LOCKFS if noflush else 0))

    def remove(self, patience_seconds=0):
        """Remove it; somebody else's close may lag behind, hence the patience."""
        limit = time.monotonic() + patience_seconds
        while True:
            try:
                _call(_REMOVE, self.name)
                break
            except OSError:
                if time.monotonic() > limit:
                    raise
                time.sleep(0.1)
        Device.live.remove(self)

    def swap(self, table):
        """Another table under the users' feet; what the old one holds back is let go."""
        self.load(table)
        self.resume(noflush=True)

    def info(self):
        return _call(_INFO, self.name)

    @property
    def suspended(self):
        return bool(self.info().flags & SUSPENDED)

    @property
    def event(self):
        return self.info().event

    def status(self, noflush=False, inactive=False):
        """A line for each target, as `dmsetup status` prints them."""
        flags = (NOFLUSH if noflush else 0) | (QUERY_INACTIVE if inactive else 0)
        return _unpack(_call(_STATUS, self.name, flags=flags))

    def table(self, inactive=False):
        flags = STATUS_TABLE | NOFLUSH | (QUERY_INACTIVE if inactive else 0)
        return _unpack(_call(_STATUS, self.name, flags=flags))

    def message(self, text, sector=0, room=16384):
        """Returns the target's answer, mostly empty; `room` is for an answer at the first try."""
        payload = struct.pack("<Q", sector) + text.encode() + b"\0"
        answer = _call(_MESSAGE, self.name, payload, room=room)
        return answer.data.split(b"\0", 1)[0].decode() if answer.flags & DATA_OUT else ""

    def queue(self, limit):
        """A queue limit from sysfs, as text."""
        with open(f"/sys/dev/block/{self.number}/queue/{limit}") as file:
            return file.read().strip()

    def set_queue(self, limit, value):
        with open(f"/sys/dev/block/{self.number}/queue/{limit}", "w") as file:
            file.write(str(value))
