# SPDX-License-Identifier: GPL-2.0

"""python3 bench.py, in a VM whose clock counts instructions: what a target costs above its device.

A row reads: instructions per 4 KiB on the raw ramdisk, through the C target, through ours, and the
ratio of what the two cost above raw.
"""

import mmap
import os
import platform
import subprocess
import time

IN_TREE = f"/lib/modules/{platform.release()}/kernel/drivers/md"
MIB = 1 << 20
SPAN = 64 * MIB
SECTORS = SPAN // 512


def run(*words):
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def per_block(path, write, size):
    """Instructions per 4 KiB of sequential direct I/O in requests of `size`, one at a time."""
    memory = mmap.mmap(-1, size)
    memory.write(b"x" * size)
    file = os.open(path, (os.O_WRONLY if write else os.O_RDONLY) | os.O_DIRECT)
    try:
        start = time.monotonic_ns()
        for offset in range(0, SPAN, size):
            if write:
                os.pwrite(file, memory, offset)
            else:
                os.preadv(file, [memory], offset)
        return (time.monotonic_ns() - start) / (SPAN / 4096)
    finally:
        os.close(file)


ROWS = {
    "write 1 MiB": (True, MIB),
    "write 4 KiB": (True, 4096),
    "read 1 MiB": (False, MIB),
    "read 4 KiB": (False, 4096),
}


def measure(path):
    return {name: per_block(path, *how) for name, how in ROWS.items()}


def clone(impl):
    """A clone that is hydrated to the end: what remains is the way through the target."""
    if impl == "c":
        run("modprobe", "dm-persistent-data")
        run("insmod", f"{IN_TREE}/dm-clone.ko")
    else:
        run("modprobe", "dm-clone")
    try:
        if "clone " not in run("dmsetup", "targets"):
            return None
        run("dd", "if=/dev/zero", "of=/dev/ram0", "bs=4k", "count=1", "oflag=direct")
        run("dmsetup", "create", "bench", "--table", f"0 {SECTORS} clone /dev/ram0 /dev/ram1 /dev/ram2 8")
        while f"{SECTORS // 8}/{SECTORS // 8}" not in run("dmsetup", "status", "bench"):
            time.sleep(0.1)
        try:
            return measure("/dev/mapper/bench")
        finally:
            run("dmsetup", "remove", "bench")
    finally:
        run("rmmod", "dm_clone")


def main():
    run("modprobe", "brd", "rd_nr=3", f"rd_size={SPAN >> 10}")
    measure("/dev/ram1")  # the ramdisk takes its pages
    raw, c, ours = measure("/dev/ram1"), clone("c"), clone("rust")
    print("clone, hydrated; instructions per 4 KiB")
    print(f"{'':14}{'raw':>8}{'C':>8}{'Rust':>8}  above raw, Rust/C")
    for name in ROWS:
        line = f"{name:14}{raw[name]:8.0f}{c[name]:8.0f}"
        if ours is None:
            print(f"{line}{'-':>8}")
        else:
            ratio = (ours[name] - raw[name]) / max(c[name] - raw[name], 1)
            print(f"{line}{ours[name]:8.0f}  {ratio:.2f}")
    if ours is None:
        print("our module registers no clone target yet")


if __name__ == "__main__":
    main()
