# SPDX-License-Identifier: GPL-2.0

"""The files of the demo, and what each of them has to hold."""

import hashlib
import os
import random

_BYTES_MAX = 48 << 20
# Few enough files to compare them all in seconds.
_FILE_BYTES = range(16 << 10, 4 << 20)


def _checksum(data):
    return hashlib.sha256(data).digest()


class Files:
    """Files below one folder, by name, with their checksums."""

    def __init__(self, folder):
        self._folder = folder
        self._checksums = {}
        self._unread = []
        self.bytes = self.removed_bytes = 0
        self.read = self.new = self.changed = 0

    @property
    def count(self):
        return len(self._checksums)

    def _path(self, name):
        return os.path.join(self._folder, name)

    def copy_real_ones(self, folders):
        """Copies regular files until there are enough of them."""
        for top in folders:
            for folder, _, names in os.walk(top):
                for name in sorted(names):
                    path = os.path.join(folder, name)
                    if self.bytes < _BYTES_MAX and not os.path.islink(path) \
                            and os.path.getsize(path) in _FILE_BYTES:
                        self._copy(path)
        assert self.count > 100, f"only {self.count} files found"
        self._unread = list(self._checksums)
        random.shuffle(self._unread)

    def _copy(self, path):
        with open(path, "rb") as file:
            data = file.read()
        self._put(path.lstrip("/"), data)
        self.bytes += len(data)

    def _put(self, name, data):
        os.makedirs(os.path.dirname(self._path(name)), exist_ok=True)
        with open(self._path(name), "wb") as file:
            file.write(data)
        self._checksums[name] = _checksum(data)

    def copy_all(self, folder):
        """A second copy of every file."""
        for name in list(self._checksums):
            self._put(os.path.join(folder, name), self._check(name))

    def listed(self):
        """How many there are to be seen."""
        return sum(len(names) for folder, _, names in os.walk(self._folder)
                   if not folder.endswith("lost+found"))

    def _check(self, name):
        """The content, found right."""
        with open(self._path(name), "rb") as file:
            data = file.read()
        assert _checksum(data) == self._checksums[name], f"checksum of {name} is wrong"
        return data

    def read_some(self, count):
        """Reads files that nobody has read yet, and compares them."""
        for name in self._unread[:count]:
            self._check(name)
            self.read += 1
        del self._unread[:count]

    def write_new(self, size):
        name = f"new-{self.new}"
        self._write(name, "wb", 0, data := os.urandom(size))
        self._checksums[name] = _checksum(data)
        self.new += 1

    def remove_half(self):
        """Deletes every other file, with all copies; they are counted once."""
        copies = {}
        for name, checksum in self._checksums.items():
            copies.setdefault(checksum, []).append(name)
        for names in list(copies.values())[::2]:
            self.removed_bytes += os.path.getsize(self._path(names[0]))
            for name in names:
                os.unlink(self._path(name))
                del self._checksums[name]

    def checksums(self):
        """The checksums by name, as text."""
        return {name: checksum.hex() for name, checksum in self._checksums.items()}

    def expect(self, checksums):
        """Takes over what another run has put there."""
        self._checksums = {name: bytes.fromhex(text) for name, text in checksums.items()}

    def change_one(self):
        """Overwrites the middle of a file in place."""
        name = random.choice(list(self._checksums))
        data = bytearray(self._check(name))
        middle = slice(len(data) // 3, len(data) // 3 + 6000)
        data[middle] = os.urandom(len(data[middle]))
        self._write(name, "r+b", middle.start, data[middle])
        self._checksums[name] = _checksum(data)
        self.changed += 1

    def _write(self, name, mode, offset, data):
        with open(self._path(name), mode) as file:
            file.seek(offset)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def check_all(self):
        """Compares every file; returns how many there are."""
        for name in self._checksums:
            self._check(name)
        return self.count
