# SPDX-License-Identifier: GPL-2.0

"""python3 load_faults.py LENGTH TYPE ARGUMENT...

Loads a table again and again on a debug kernel, and has the first, the second, ... memory
allocation of the load fail, until a load does not need that many; of many, only some. Each failed
load must say so and leave nothing behind; what it leaks, kmemleak tells.
"""

import errno
import fcntl
import os
import struct
import sys

HEADER = struct.Struct("=3I 2I Ii 3I Q 128s 129s 7x")
TARGET = struct.Struct("=QQiI16s")
CREATE, REMOVE, LOAD, CLEAR = 3, 4, 9, 12
NAME = b"faults"
# Let also allocations fail that may sleep, and do not fill the log with it.
OPTIONS = {"ignore-gfp-wait": "N", "ignore-gfp-highmem": "N", "verbose": "0"}
# So many allocations are tried one by one, more only in steps.
ONE_BY_ONE = 128
FAILURES = (errno.ENOMEM, errno.EIO, errno.EINVAL, errno.ENXIO)


def call(control, number, targets=0, data=b""):
    """Calls one of device-mapper's ioctls for the device NAME."""
    size = HEADER.size + len(data)
    header = HEADER.pack(4, 0, 0, size, HEADER.size, targets, 0, 0, 0, 0, 0, NAME, b"")
    command = 3 << 30 | HEADER.size << 16 | 0xFD << 8 | number
    fcntl.ioctl(control, command, bytearray(header + data))


def load_with_fault(control, table, nth):
    """Returns the errno of the load, or None, and whether the fault was used."""
    path = "/proc/thread-self/fail-nth"
    setter = os.open(path, os.O_WRONLY)
    getter = os.open(path, os.O_RDONLY)
    error = None
    os.write(setter, b"%d" % nth)
    try:
        call(control, LOAD, 1, table)
    except OSError as failure:
        error = failure.errno
    left = os.read(getter, 16)
    os.write(setter, b"0")
    os.close(getter)
    os.close(setter)
    return error, int(left.rstrip(b"\0\n") or 0) == 0


def main(length, kind, *arguments):
    """Prints a line for each failure that was not as it should be, and a sum."""
    for injector in ("failslab", "fail_page_alloc"):
        for option, value in OPTIONS.items():
            path = f"/sys/kernel/debug/{injector}/{option}"
            if os.path.exists(path):
                with open(path, "w", encoding="ascii") as file:
                    file.write(value)
    words = " ".join(arguments).encode() + b"\0"
    words += bytes(-len(words) % 8)
    table = TARGET.pack(0, int(length), 0, TARGET.size + len(words), kind.encode()) + words
    loads = failed = survived = 0
    nth = 1
    with open("/dev/mapper/control", "r+b", buffering=0) as control:
        call(control, CREATE)
        try:
            used = True
            while used:
                error, used = load_with_fault(control, table, nth)
                loads += 1
                if error is None:
                    survived += used
                    call(control, CLEAR)
                elif not used or error not in FAILURES:
                    failed += 1
                    print(f"FAILED: allocation {nth}: {errno.errorcode.get(error, error)}")
                nth += 1 + max(0, nth - ONE_BY_ONE) // 16
        finally:
            call(control, REMOVE)
    print(f"{loads - failed} loads as they should be ({survived} did without), {failed} not")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
