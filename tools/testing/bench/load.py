# SPDX-License-Identifier: GPL-2.0

"""Workloads. Each gives nanoseconds a request, as the tool that made the requests reports it.

fio's start costs more than many a workload: nothing is timed from outside. After each workload the
device's own counters must have moved by what was asked for.
"""

import json
import os
import re
import subprocess

from contextlib import contextmanager

from lib.blockio import BlockFile

MIB = 1 << 20


def _sectors_moved(path):
    """Sectors read and written so far."""
    with open(f"/sys/class/block/{os.path.basename(path)}/stat") as file:
        field = [int(word) for word in file.read().split()]
    return field[2] + field[6]


@contextmanager
def _moves(path, count):
    """The device is a block device, and what is done moves `count` bytes through it."""
    BlockFile(path).close()
    before = _sectors_moved(path)
    yield
    moved = (_sectors_moved(path) - before) * 512
    # A ramdisk counts nothing.
    if "/dm-" in path:
        assert count <= moved <= count + count // 16 + MIB, f"{path}: {moved} bytes moved, not {count}"


def _dd(path, size, words):
    with _moves(path, size):
        done = subprocess.run(["dd", *words], check=True, capture_output=True, text=True)
    copied, seconds = re.search(r"(\d+) bytes.* copied, ([\d.e+-]+) s", done.stderr).groups()
    assert int(copied) == size, f"dd: {done.stderr}"
    return float(seconds) * 1e9


def dd_read(path, size, block=MIB, at=0):
    """Sequential direct reads, from byte `at` on."""
    nanoseconds = _dd(path, size, [f"if={path}", "of=/dev/null", f"bs={block}", f"skip={at}",
                                   "iflag=direct,skip_bytes", f"count={size // block}"])
    return nanoseconds / (size // block)


def dd_write(path, size, block=MIB, at=0):
    """Sequential direct writes, from byte `at` on, with one flush at the end."""
    nanoseconds = _dd(path, size, ["if=/dev/zero", f"of={path}", f"bs={block}", f"seek={at}",
                                   "oflag=direct,seek_bytes", "conv=fsync",
                                   f"count={size // block}"])
    return nanoseconds / (size // block)


def dd_copy(source, destination, size, block=MIB, at=0):
    """A copy from one device to byte `at` of another; nanoseconds in all."""
    BlockFile(source, readonly=True).close()
    return _dd(destination, size, [f"if={source}", f"of={destination}", f"bs={block}", f"seek={at}",
                                   "iflag=direct", "oflag=direct,seek_bytes", "conv=fsync",
                                   f"count={size // block}"])


def fio(path, size, requests, how, block=4096, depth=64, jobs=1, at=0, more=()):
    """fio's own rate, as nanoseconds a request."""
    engine = "libaio" if depth > 1 else "psync"
    with _moves(path, requests * block * jobs):
        done = subprocess.run(
            ["fio", "--name=bench", f"--filename={path}", f"--offset={at}", f"--size={size}",
             f"--rw={how}",
             f"--bs={block}", f"--io_size={max(size, requests * block)}",
             f"--number_ios={requests}", f"--iodepth={depth}", "--direct=1",
             f"--ioengine={engine}", "--thread", f"--numjobs={jobs}", "--group_reporting",
             "--randseed=1", "--output-format=json", *more],
            check=True, capture_output=True, text=True)
    job = json.loads(done.stdout[done.stdout.index("{"):])["jobs"][0]
    side = job["read" if "read" in how else "write"]
    assert job["error"] == 0 and side["total_ios"] == requests * jobs, \
        f"fio: error {job['error']}, {side['total_ios']} of {requests * jobs} requests"
    return side["runtime"] * 1e6 / side["total_ios"]
