# SPDX-License-Identifier: GPL-2.0

"""A folder of the host's, for what must outlive the machine."""

import os


class Store:
    """Named values, each replaced as a whole, and files that grow."""

    def __init__(self, folder):
        self._folder = folder

    def _path(self, name):
        return os.path.join(self._folder, name)

    def get(self, name, default=None):
        if not os.path.exists(self._path(name)):
            return default
        with open(self._path(name), "rb") as file:
            return file.read()

    def put(self, name, data):
        with open(self._path(name) + ".new", "wb") as file:
            file.write(data)
        os.rename(self._path(name) + ".new", self._path(name))

    def drop(self, name):
        if os.path.exists(self._path(name)):
            os.remove(self._path(name))

    def appender(self, name):
        """A function that appends a line at once."""
        handle = os.open(self._path(name), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        return lambda line: os.write(handle, line.encode())
