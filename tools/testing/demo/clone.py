# SPDX-License-Identifier: GPL-2.0

"""A disk is cloned while it is in use, and nothing is lost.

A source with a file system of real files, slow and far away, is cloned. The clone is mounted at
once, and read and written while the target copies. At the end the clone is swapped for a plain
`linear` mapping of the destination, and every file is compared with the checksum it ought to have.
"""

import os
import subprocess
import time

from demo.device import command
from demo.device import drop_caches
from demo.device import is_block_device
from demo.device import module
from demo.device import mount
from demo.device import sectors_written
from demo.files import Files

SOURCE, DEST, META = "/dev/disk/source", "/dev/disk/dest", "/dev/disk/meta"
FAR = "/dev/mapper/far"
FAR_MS = 5
MIB = 1 << 20
MOUNT = "/tmp/files"
# Our target finds out by itself how much to have in flight; the in-tree one has to be told.
TUNING = {"c": " 0 4 hydration_threshold 256 hydration_batch_size 256"}


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


def fill_source(files):
    """A file system on the source, then the delay that makes it far away."""
    command("mkfs.ext4", "-q", "-F", "-N", "8192", "-J", "size=4",
            "-E", "lazy_itable_init=0,nodiscard", SOURCE)
    mount(SOURCE, MOUNT)
    files.copy_real_ones(["/usr/lib/python3.13", "/usr/share", "/usr/sbin", "/usr/bin"])
    command("umount", MOUNT)
    drop_caches()
    sectors = int(command("blockdev", "--getsz", SOURCE))
    command("dmsetup", "create", "far", "--table",
            f"0 {sectors} delay {SOURCE} 0 {FAR_MS} {SOURCE} 0 0")
    is_block_device(FAR)
    return sectors


def show_progress(files, clone, screen):
    hydrated, regions = clone.progress()
    screen.progress(hydrated / regions, f"read {files.read}, wrote {files.new}, "
                    f"changed {files.changed} files")
    return hydrated, regions


def use(files, clone, screen):
    """Reads, writes and changes files for as long as the target copies."""
    while not clone.has_raised_event():
        files.read_some(4)
        files.write_new(256 << 10)
        files.change_one()
        show_progress(files, clone, screen)
        time.sleep(0.1)
    hydrated, regions = show_progress(files, clone, screen)
    assert hydrated == regions, f"the event came at {hydrated} of {regions} regions"
    assert files.read and files.new and files.changed, "hydration ended before anybody came"


def run(screen):
    screen.title("A disk is cloned while it is in use")
    command("modprobe", "-a", "dm-clone", "dm-delay")
    files = Files(MOUNT)
    sectors = fill_source(files)
    screen.line(module("dm-clone"))
    screen.line(f"source:      a slow disk far away ({FAR_MS} ms a read, 32 MB/s) of "
                f"{sectors * 512 // MIB} MiB,")
    screen.line(f"             ext4 with {files.count} files, {files.bytes // MIB} MiB; "
                "their checksums are known")
    screen.line("destination: a fast disk, empty")
    screen.line("")
    source_written = sectors_written(SOURCE)

    screen.start_clock()
    table = f"0 {sectors} clone {META} {DEST} {FAR} 8{TUNING.get(os.environ['DMOX_IMPL'], '')}"
    screen.at(f"dmsetup create clone --table '0 {sectors} clone META DEST SOURCE 8'")
    clone = Clone("clone", table)
    mount(clone.path, MOUNT)
    hydrated, regions = clone.progress()
    usable = screen.at(f"mounted and in use, with {hydrated * 100 // regions} % copied")
    found = files.listed()
    assert found == files.count, f"{found} files instead of {files.count}"
    use(files, clone, screen)
    copied = screen.at("event: hydration has ended, the source is no longer needed")
    clone.replace(f"0 {sectors} linear {DEST} 0")
    screen.at("dmsetup suspend, load, resume: now linear; the files stayed mounted")
    drop_caches()
    checked = files.check_all()
    screen.at(f"{checked} files compared with their checksums: all right")
    command("umount", MOUNT)
    clone.remove()
    command("dmsetup", "remove", "far")
    command("e2fsck", "-f", "-n", DEST)
    assert sectors_written(SOURCE) == source_written, "the source was written to"
    end = screen.at("e2fsck on the destination alone: clean; the source was never written")
    screen.line("")
    screen.line(f"usable after {usable:.1f} s, copied after {copied:.1f} s, proved after {end:.1f} s")
