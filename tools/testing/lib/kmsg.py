# SPDX-License-Identifier: GPL-2.0

"""The kernel log, from a moment on."""

import os
import time


class Log:
    """Reads what the kernel logs from its creation on."""

    def __init__(self):
        self._fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.lseek(self._fd, 0, os.SEEK_END)
        self._seen = []

    def close(self):
        os.close(self._fd)

    def lines(self):
        """All message texts so far, oldest first."""
        while True:
            try:
                record = os.read(self._fd, 8192)
            except BlockingIOError:
                return list(self._seen)
            except BrokenPipeError:
                self._seen.append("(messages were lost)")
                continue
            head, _, text = record.decode(errors="replace").partition(";")
            # Lines that start with a blank are properties of the record, not its text.
            self._seen.append(text.split("\n", 1)[0])

    def has(self, text):
        return any(text in line for line in self.lines())

    def require(self, *texts):
        """Every text is in the log, in this order; console output may lag a little."""
        limit = time.monotonic() + 5
        while True:
            rest = iter(self.lines())
            missing = [text for text in texts if not any(text in line for line in rest)]
            if not missing:
                return
            if time.monotonic() > limit:
                raise AssertionError(f"not in the log: {missing[0]!r}; log: {self._seen[-12:]}")
            time.sleep(0.05)

    def forbid(self, text):
        assert not self.has(text), f"in the log: {text!r}"
