# SPDX-License-Identifier: GPL-2.0

"""What was asked of a volume and what came back, written down so that a crash can be judged.

A line is `KIND NUMBER WORDS`; words are numbers. Requests are `write` and `flush`, what came back is
`written` and `flushed`. Users have kinds of their own beside these.
"""

import threading


class Model:
    """Follows a journal. Whoever derives from it says what a write does, and what is durable."""

    def __init__(self):
        self._writes = {}       # that are not known to be durable, by number
        self._returned = set()
        self._flushes = {}

    def replay(self, lines):
        """Follow a journal; a last line that was cut off does not count."""
        for line in lines:
            if line.endswith("\n"):
                kind, *words = line.split()
                getattr(self, f"_{kind}")(*map(int, words))

    def _written(self, number):
        self._returned.add(number)

    def _flush(self, number):
        self._flushes[number] = sorted(self._returned & self._writes.keys())

    def _covered(self, flush):
        """The writes that this flush made durable, oldest first; they are known to be now."""
        for number in self._flushes.pop(flush):
            if number in self._writes:
                yield number, self._writes.pop(number)

    def _forget(self):
        self._writes.clear()
        self._returned.clear()
        self._flushes.clear()


class Journal:
    """The lines, in an order that is true: one before a request goes out, another after it came
    back. Each is where it survives before the call returns."""

    def __init__(self, model, put):
        self.model = model
        self._put = put
        self._lock = threading.Lock()
        self._next = 0

    def start(self, kind, *words):
        """A request goes out. Gives its number; numbers grow in the order of the lines."""
        with self._lock:
            self._next += 1
            self._add(kind, self._next, *words)
            return self._next

    def end(self, kind, number, *words):
        """It came back."""
        with self._lock:
            self._add(kind, number, *words)

    def _add(self, *words):
        line = " ".join(map(str, words)) + "\n"
        self._put(line)
        self.model.replay([line])
