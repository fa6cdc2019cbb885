# SPDX-License-Identifier: GPL-2.0

"""Direct I/O on block devices, and data that says where it belongs."""

import array
import mmap
import os
import stat
import struct
import threading

from lib.ioctl import ioctl

SECTOR = 512
_BLKROSET = 0x125D
_BLKDISCARD = 0x1277
_BLKSECDISCARD = 0x127D
_BLKZEROOUT = 0x127F
_CHUNK = 2048


def pattern(tag, sector, count):
    """`count` sectors of data: each starts with its own number, the rest is the tag."""
    words = array.array("Q", [tag]) * (count * (SECTOR // 8))
    words[::SECTOR // 8] = array.array("Q", range(sector, sector + count))
    return words.tobytes()


def aligned(data):
    """The same bytes where direct I/O can take them as they are."""
    buffer = mmap.mmap(-1, len(data))
    buffer[:] = data
    return memoryview(buffer)


def describe(data):
    """What a sector seems to hold, for messages."""
    number, tag = struct.unpack_from("<QQ", data)
    return f"tag {tag:#x} number {number}"


class BlockFile:
    """A block device opened for direct I/O. Offsets and lengths are in sectors."""

    def __init__(self, path, dsync=False, readonly=False):
        mode = os.O_RDONLY if readonly else os.O_RDWR
        self.fd = os.open(path, mode | os.O_DIRECT | os.O_CLOEXEC | (os.O_DSYNC if dsync else 0))
        # Without a node, an open with O_CREAT or a shell redirection would make a plain file.
        if not stat.S_ISBLK(os.fstat(self.fd).st_mode):
            raise RuntimeError(f"{path} is no block device")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        os.close(self.fd)

    @property
    def sectors(self):
        return os.lseek(self.fd, 0, os.SEEK_END) // SECTOR

    def read(self, sector, count):
        """One read request; longer ones are cut into requests of 1 MiB."""
        if count <= _CHUNK:
            return self._read(sector, count)
        return b"".join(self._read(at, min(_CHUNK, sector + count - at))
                        for at in range(sector, sector + count, _CHUNK))

    def _read(self, sector, count):
        with mmap.mmap(-1, max(count * SECTOR, 1)) as buffer:
            with memoryview(buffer) as view:
                done = os.preadv(self.fd, [view], sector * SECTOR)
            if done != count * SECTOR:
                raise OSError(5, f"short read: {done} of {count * SECTOR}")
            return buffer[:]

    def write(self, sector, data):
        """One write request; longer ones are cut into requests of 1 MiB. A memoryview is taken to
        be aligned."""
        for at in range(0, len(data), _CHUNK * SECTOR):
            self._write(sector + at // SECTOR, data[at:at + _CHUNK * SECTOR])

    def _write(self, sector, data):
        view = data if isinstance(data, memoryview) else aligned(data)
        done = os.pwritev(self.fd, [view], sector * SECTOR)
        if done != len(data):
            raise OSError(5, f"short write: {done} of {len(data)}")

    def flush(self):
        os.fsync(self.fd)

    def discard(self, sector, count):
        self._range(_BLKDISCARD, sector, count)

    def secure_discard(self, sector, count):
        self._range(_BLKSECDISCARD, sector, count)

    def zero(self, sector, count):
        self._range(_BLKZEROOUT, sector, count)

    def _range(self, request, sector, count):
        argument = bytearray(struct.pack("<QQ", sector * SECTOR, count * SECTOR))
        ioctl(self.fd, request, argument)

    def set_readonly(self, value):
        ioctl(self.fd, _BLKROSET, bytearray(struct.pack("<i", value)))


class Background:
    """A call in a thread of its own."""

    def __init__(self, call, *arguments):
        self._outcome = None
        self._error = None
        self._thread = threading.Thread(target=self._run, args=(call, arguments), daemon=True)
        self._thread.start()

    def _run(self, call, arguments):
        try:
            self._outcome = call(*arguments)
        except BaseException as error:
            self._error = error

    def ended(self, within=0.0):
        self._thread.join(within)
        return not self._thread.is_alive()

    def result(self, within=90.0):
        """Wait for the end; what the call raised is raised here."""
        if not self.ended(within):
            raise AssertionError(f"still not finished after {within} s")
        if self._error is not None:
            raise self._error
        return self._outcome
