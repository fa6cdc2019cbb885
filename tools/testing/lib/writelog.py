# SPDX-License-Identifier: GPL-2.0

"""Write logs: a log-writes device over storage, and what it recorded, in order."""

import struct

from dataclasses import dataclass

from lib import dm
from lib.blockio import BlockFile

_MAGIC = 0x6A736677736872
_FLUSH, _FUA, _DISCARD, _MARK = 1, 2, 4, 8


@dataclass
class Entry:
    """One recorded request; `data` is empty for flushes and discards."""

    sector: int
    sectors: int
    flags: int
    data: bytes

    @property
    def flush(self):
        return bool(self.flags & _FLUSH)

    @property
    def fua(self):
        return bool(self.flags & _FUA)

    @property
    def discard(self):
        return bool(self.flags & _DISCARD)

    @property
    def mark(self):
        return self.data.rstrip(b"\0").decode() if self.flags & _MARK else None


class LogWrites(dm.Device):
    """A device whose writes are recorded on another one."""

    def __init__(self, name, below, sectors, log):
        self._log = log
        self._read_to = 0
        with BlockFile(log) as file:
            file.zero(0, 8)
        super().__init__(name, f"0 {sectors} log-writes {below} {log}")

    def mark(self, text):
        self.message(f"mark {text}")

    def entries(self):
        """All that was recorded; a mark makes the target write its count of entries."""
        self.mark("end")
        with BlockFile(self._log, readonly=True) as log:
            magic, _, count, unit = struct.unpack_from("<QQQI", log.read(0, 8))
            assert magic == _MAGIC, f"write log with magic {magic:#x}"
            per = unit // 512
            at = per
            found = []
            for _ in range(count):
                sector, sectors, flags, length = struct.unpack_from("<4Q", log.read(at, per))
                at += per
                data = b""
                if flags & _MARK:
                    data = log.read(at - per, per)[32:32 + length]
                elif not flags & _DISCARD and sectors:
                    data = log.read(at, sectors * per)
                    at += sectors * per
                found.append(Entry(sector * per, sectors * per, flags, data))
        # The mark of this very call is no event of the test.
        return found[:-1]
