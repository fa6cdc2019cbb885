# SPDX-License-Identifier: GPL-2.0

"""A thin volume is filled, trimmed, loses power, and recovers.

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
CUT = "the power is cut"


class Volume:
    """The volume, through the commands that a user would type."""

    def __init__(self):
        blocks = int(command("blockdev", "--getsz", DISK)) // 8
        sectors = LOGICAL_GIB << 21
        # A new volume is formatted; slabs of 32 MiB, as the disk is small.
        command("dmsetup", "create", "vdo", "--table",
                f"0 {sectors} vdo V4 {DISK} {blocks} 4096 32768 16380 maxDiscard 32768 "
                "deduplication off slabSize 8192")
        is_block_device(PATH)

    def mode(self):
        return command("dmsetup", "status", "vdo").split()[4]

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


def note(files):
    """What is on the volume for good, for the boot to come."""
    with open(NOTES, "w") as file:
        json.dump(files.checksums(), file)
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
    command("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1,lazy_journal_init=1", PATH)
    mount(PATH, MOUNT, "-o", "noinit_itable")
    empty = volume.used()
    screen.at(f"mkfs.ext4: takes {empty:.0f} MiB")
    files = Files(MOUNT)
    files.copy_real_ones(["/usr/lib/python3.13", "/usr/share", "/usr/sbin", "/usr/bin"])
    command("sync")
    full = volume.used()
    screen.at(f"{files.count} files, {files.bytes // MIB} MiB: {full:.0f} MiB used")
    assert full >= empty + files.bytes / MIB, "data takes room"
    with open(f"{MOUNT}/zeroes", "wb") as file:
        file.write(bytes(32 * MIB))
    command("sync")
    zeroes = volume.used()
    screen.at(f"32 MiB of zeroes: {zeroes:.0f} MiB used")
    assert zeroes < full + 4, "zeroes take no room"
    files.remove_half()
    command("sync")
    command("fstrim", MOUNT)
    trimmed = volume.used()
    screen.at(f"half of the files deleted, fstrim: {trimmed:.0f} MiB used")
    assert trimmed < full - files.removed_bytes / MIB / 2, "a trim gives room back"
    for _ in range(20):
        files.write_new(256 << 10)
    command("sync")
    note(files)
    screen.at("20 new files, flushed")
    with open(f"{MOUNT}/unfinished", "wb") as file:
        for _ in range(8):
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
        files.expect(json.load(file))
    checked = files.check_all()
    screen.at(f"{checked} files compared with their checksums: all right")
    command("umount", MOUNT)
    while volume.mode() == "recovering":
        time.sleep(0.2)
    assert volume.mode() == "normal", volume.mode()
    command("e2fsck", "-f", "-n", PATH)
    end = screen.at("e2fsck: clean; the volume has recovered")
    volume.remove()
    screen.line("")
    screen.line(f"recovered and proved after {end:.1f} s")
