# SPDX-License-Identifier: GPL-2.0

"""Devices and file systems, through the commands that a user would type."""

import os
import stat
import subprocess


def command(*words):
    """Runs a command, gives its output; a failure is an exception."""
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


def is_block_device(path):
    """Without a node a write to the path would make a plain file, and prove nothing."""
    assert stat.S_ISBLK(os.stat(path).st_mode), f"{path} is no block device"


def sectors_written(path):
    """Sectors that a disk was asked to write since it is there."""
    with open(f"/sys/block/{os.path.basename(os.path.realpath(path))}/stat") as file:
        return int(file.read().split()[6])


def mount(device, folder, *options):
    os.makedirs(folder, exist_ok=True)
    command("mount", "-t", "ext4", *options, device, folder)


def drop_caches():
    command("sync")
    with open("/proc/sys/vm/drop_caches", "w") as file:
        file.write("3")


def module(name):
    """Says which module this is."""
    whose = {"rust": "of this project", "c": "that comes with the kernel"}[os.environ["DMOX_IMPL"]]
    return f"module:      {name} {whose}, on Linux {os.uname().release}"
