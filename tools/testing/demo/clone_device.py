# SPDX-License-Identifier: GPL-2.0

"""The clone, through the commands that a user would type."""

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


class Clone:
    """A clone device. Its event is awaited from the start, so that it cannot be missed."""

    def __init__(self, name, table):
        self.name = name
        self.path = f"/dev/mapper/{name}"
        command("dmsetup", "create", name, "--notable")
        event = int(command("dmsetup", "info", "-c", "--noheadings", "-o", "events", name))
        self._wait = subprocess.Popen(["dmsetup", "wait", name, str(event)],
                                      stdout=subprocess.DEVNULL)
        command("dmsetup", "load", name, "--table", table)
        command("dmsetup", "resume", name)
        is_block_device(self.path)

    def has_raised_event(self):
        status = self._wait.poll()
        assert status in (None, 0), f"dmsetup wait ended with status {status}"
        return status == 0

    def progress(self):
        """Hydrated regions, and all."""
        words = command("dmsetup", "status", "--noflush", self.name).split()
        assert words[2] == "clone" and words[-1] == "rw", f"status: {' '.join(words)}"
        hydrated, regions = words[6].split("/")
        return int(hydrated), int(regions)

    def replace(self, table):
        command("dmsetup", "suspend", self.name)
        command("dmsetup", "load", self.name, "--table", table)
        command("dmsetup", "resume", self.name)
        assert command("dmsetup", "table", self.name).split()[2] == table.split()[2]

    def remove(self):
        command("dmsetup", "remove", self.name)
