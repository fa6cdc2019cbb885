# SPDX-License-Identifier: GPL-2.0

"""ioctl(2) that lets other threads run while it waits.

Python's own fcntl.ioctl() keeps the interpreter locked for large arguments; a suspend that waits
for I/O of another thread would then wait for ever.
"""

import ctypes
import os

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ioctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p]


def ioctl(fd, request, argument=None):
    """Call with a writable buffer, a plain number or nothing; failure raises OSError."""
    if argument is None or isinstance(argument, int):
        pointer = argument
    else:
        pointer = (ctypes.c_char * len(argument)).from_buffer(argument)
    result = _libc.ioctl(fd, request, pointer)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
