# SPDX-License-Identifier: GPL-2.0

"""Write logs: a log-writes device over storage, and what it recorded, in order."""

import struct

from dataclasses import dataclass

from lib import dm
from lib.blockio import BlockFile
from lib.devices import until

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
        self._marks = 0
        self._found = []
        self._at = 0
        with BlockFile(log) as file:
            file.zero(0, 8)
        super().__init__(name, f"0 {sectors} log-writes {below} {log}")

    def mark(self, text):
        self.message(f"mark {text}")

    def entries(self):
        """All that was recorded until now. The log is written behind our back; a mark that comes
        last tells when it is complete."""
        self._marks += 1
        last = f"end{self._marks}"
        self.mark(last)
        with BlockFile(self._log, readonly=True) as log:
            until(lambda: self._follow(log) and self._found[-1].mark == last, "the log's last mark")
        return [entry for entry in self._found if not (entry.mark or "").startswith("end")]

    def _follow(self, log):
        """Read on to what the log says is its end; returns whether there is anything."""
        magic, _, count, unit = struct.unpack_from("<QQQI", log.read(0, 8))
        per = unit // 512
        while magic == _MAGIC and len(self._found) < count:
            self._at = self._at or per
            head = log.read(self._at, per)
            sector, sectors, flags, length = struct.unpack_from("<4Q", head)
            self._at += per
            data = b""
            if flags & _MARK:
                data = head[32:32 + length]
            elif not flags & _DISCARD and sectors:
                data = log.read(self._at, sectors * per)
                self._at += sectors * per
            self._found.append(Entry(sector * per, sectors * per, flags, data))
        return bool(self._found)
