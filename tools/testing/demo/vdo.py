# SPDX-License-Identifier: GPL-2.0

"""A thin volume is filled, stores the same files once, is trimmed, loses power, and recovers.

`before` formats a volume that is larger than its disk, puts a file system with real files on it and
ends in the middle of a write, when the power is cut; what was flushed by then is noted in /share.
`after` starts the volume again, in another boot, and looks for all of it.
"""

import json
import os
import re
import time

from demo.device import command
from demo.device import is_block_device
from demo.device import module
from demo.device import mount
from demo.files import Files

DISK = "/dev/disk/storage"
MOUNT = "/tmp/files"
PATH = "/dev/mapper/vdo"
NOTES = "/share/files.json"
MIB = 1 << 20
LOGICAL_GIB = 20
UNFINISHED_MIB = 8
CUT = "the power is cut"


class Volume:
    """The volume, through the commands that a user would type."""

    def __init__(self):
        blocks = int(command("blockdev", "--getsz", DISK)) // 8
        sectors = LOGICAL_GIB << 21
        # A new volume is formatted; slabs of 32 MiB, as the disk is small.
        command("dmsetup", "create", "vdo", "--table",
                f"0 {sectors} vdo V4 {DISK} {blocks} 4096 32768 16380 maxDiscard 32768 "
                "slabSize 8192")
        is_block_device(PATH)

    @staticmethod
    def _status(word):
        return command("dmsetup", "status", "vdo").split()[word]

    def mode(self):
        return self._status(4)

    def wait_for_index(self):
        """What is written before it is there is not found again."""
        while self._status(6) != "online":
            assert self._status(6) == "opening", self._status(6)
            time.sleep(0.1)

    def used(self):
        """MiB that hold data, when nothing is under way."""
        before = None
        while True:
            stats = command("dmsetup", "message", "vdo", "0", "stats")
            used = int(re.search(r"dataBlocksUsed : (\d+)", stats).group(1))
            if used == before:
                return used * 4096 / MIB
            before = used
            time.sleep(0.2)

    def remove(self):
        command("dmsetup", "remove", "vdo")


def note(files, used):
    """What is on the volume for good, for the boot to come."""
    with open(NOTES, "w") as file:
        json.dump([files.checksums(), used], file)
        file.flush()
        os.fsync(file.fileno())


def before(screen):
    screen.title("A thin volume loses power")
    command("modprobe", "dm-vdo")
    screen.line(module("dm-vdo"))
    size = int(command("blockdev", "--getsz", DISK)) * 512
    screen.line(f"volume:      {LOGICAL_GIB} GiB on a disk of {size >> 30} GiB")
    screen.line("")
    screen.start_clock()
    volume = Volume()
    screen.at("dmsetup create vdo: formatted, and there")
    volume.wait_for_index()
    command("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1,lazy_journal_init=1", PATH)
    mount(PATH, MOUNT, "-o", "noinit_itable")
    empty = volume.used()
    screen.at(f"mkfs.ext4: takes {empty:.0f} MiB")
    files = Files(MOUNT)
    files.copy_real_ones(["/usr/lib/python3.13", "/usr/share", "/usr/sbin", "/usr/bin"])
    command("sync")
    full = volume.used()
    screen.at(f"{files.count} files, {files.bytes // MIB} MiB: {full:.0f} MiB used")
    assert full >= empty + files.bytes / MIB / 2, "data takes room"
    files.copy_all("again")
    command("sync")
    twice = volume.used()
    screen.at(f"the same files again, in another folder: {twice:.0f} MiB used")
    assert twice < full + files.bytes / MIB / 8, "what is there already takes no room"
    with open(f"{MOUNT}/zeroes", "wb") as file:
        file.write(bytes(32 * MIB))
    command("sync")
    zeroes = volume.used()
    screen.at(f"32 MiB of zeroes: {zeroes:.0f} MiB used")
    assert zeroes < twice + 4, "zeroes take no room"
    files.remove_half()
    command("sync")
    command("fstrim", MOUNT)
    trimmed = volume.used()
    screen.at(f"half of the files deleted, fstrim: {trimmed:.0f} MiB used")
    assert trimmed < twice - files.removed_bytes / MIB / 2, "a trim gives room back"
    for _ in range(20):
        files.write_new(256 << 10)
    command("sync")
    note(files, volume.used())
    screen.at("20 new files, flushed")
    with open(f"{MOUNT}/unfinished", "wb") as file:
        for _ in range(UNFINISHED_MIB):
            file.write(os.urandom(MIB))
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        screen.at(f"in the middle of a write {CUT}")
        time.sleep(60)


def after(screen):
    command("modprobe", "dm-vdo")
    screen.start_clock()
    volume = Volume()
    screen.at(f"the machine boots again; dmsetup create vdo: {volume.mode()}")
    mount(PATH, MOUNT)
    files = Files(MOUNT)
    with open(NOTES) as file:
        checksums, used = json.load(file)
    files.expect(checksums)
    checked = files.check_all()
    screen.at(f"{checked} files compared with their checksums: all right")
    command("umount", MOUNT)
    now = volume.used()
    screen.at(f"both copies take the room of one still: {now:.0f} MiB used")
    assert now < used + UNFINISHED_MIB + 4, f"{used} MiB were used before"
    while volume.mode() == "recovering":
        time.sleep(0.2)
    assert volume.mode() == "normal", volume.mode()
    command("e2fsck", "-f", "-n", PATH)
    end = screen.at("e2fsck: clean; the volume has recovered")
    volume.remove()
    screen.line("")
    screen.line(f"recovered and proved after {end:.1f} s")
