# SPDX-License-Identifier: GPL-2.0

"""Disks of all kinds. Each is made when it is wanted and gone when its case ends."""

import contextlib
import functools
import glob
import os
import subprocess

from lib import devices
from lib import dm
from lib.devices import Loop
from lib.devices import modprobe
from lib.devices import until

# What a vdo volume of one slab needs, and some more for a clone.
MIB = 2900
SECTORS = MIB * 2048

_NULL = "/sys/kernel/config/nullb/nulldisk"


@contextlib.contextmanager
def _module(name, *options):
    """A module with these parameters, while it is needed."""
    modprobe(name, *options)
    try:
        yield
    finally:
        # What scans for partitions may still have it open.
        until(lambda: subprocess.run(["modprobe", "-r", name], check=False).returncode == 0,
              f"{name} unloaded", 30)


@contextlib.contextmanager
def _scsi(*options):
    """A SCSI disk in memory."""
    modprobe("sd_mod")
    before = set(glob.glob("/sys/block/sd*"))
    with _module("scsi_debug", f"dev_size_mb={MIB}", "delay=0", *options):
        (disk,) = until(lambda: set(glob.glob("/sys/block/sd*")) - before, "a SCSI disk")
        path = f"/dev/{os.path.basename(disk)}"
        until(lambda: os.path.exists(path), path)
        yield path


@contextlib.contextmanager
def _null(**settings):
    """A null block device that remembers what is written."""
    with _module("null_blk", "nr_devices=0"):
        if not os.path.ismount("/sys/kernel/config"):
            subprocess.run(["mount", "-t", "configfs", "configfs", "/sys/kernel/config"],
                           check=True)
        os.mkdir(_NULL)
        settings = {"memory_backed": 1, "size": MIB, "discard": 1, **settings, "power": 1}
        try:
            for name, value in settings.items():
                with open(f"{_NULL}/{name}", "w") as file:
                    file.write(str(value))
            path = f"/dev/{os.path.basename(_NULL)}"
            until(lambda: os.path.exists(path), path)
            yield path
        finally:
            os.rmdir(_NULL)


@contextlib.contextmanager
def _loop(block_size):
    with Loop(SECTORS, block_size) as loop:
        yield loop.path


@contextlib.contextmanager
def _zram():
    with _module("zram"):
        with open("/sys/block/zram0/disksize", "w") as file:
            file.write(f"{MIB}M")
        yield "/dev/zram0"


@contextlib.contextmanager
def _ram(index=0):
    path = devices.ramdisk(index)
    subprocess.run(["blkdiscard", "--force", path], check=True)
    yield path


@contextlib.contextmanager
def _mapped(name, table):
    device = dm.Device(name, table)
    try:
        yield device.path
    finally:
        device.remove(30)


@contextlib.contextmanager
def _crypt():
    key = "8" * 128
    with _ram(0) as below, _mapped("crypt", f"0 {SECTORS} crypt aes-xts-plain64 {key} 0 {below} 0 "
                                   "1 allow_discards") as path:
        yield path


@contextlib.contextmanager
def _crypt_4k():
    key = "8" * 128
    with _ram(0) as below, _mapped("crypt", f"0 {SECTORS} crypt aes-xts-plain64 {key} 0 {below} 0 "
                                   "1 sector_size:4096") as path:
        yield path


@contextlib.contextmanager
def _thin():
    with _ram(0) as data, _ram(1) as meta:
        with _mapped("meta", f"0 32768 linear {meta} 0") as meta:
            with contextlib.ExitStack() as stack:
                pool = dm.Device("pool", f"0 {SECTORS} thin-pool {meta} {data} 128 0")
                stack.callback(pool.remove, 30)
                pool.message("create_thin 0")
                yield stack.enter_context(_mapped("thin", f"0 {SECTORS} thin {pool.path} 0"))


@contextlib.contextmanager
def _raid(table):
    with _ram(0) as one, _ram(1) as two, _ram(2) as three:
        with _mapped("raid", table.format(one=one, two=two, three=three)) as path:
            yield path


@contextlib.contextmanager
def _md(level, count):
    """An array of the md driver."""
    with contextlib.ExitStack() as stack:
        disks = [stack.enter_context(_ram(index)) for index in range(count)]
        parts = [stack.enter_context(_mapped(f"part{index}", f"0 {SECTORS + 65536} linear {disk} 0"))
                 for index, disk in enumerate(disks)]
        subprocess.run(["mdadm", "--create", "/dev/md0", "--run", "--force", "--metadata=1.2",
                        "--assume-clean", f"--level={level}", f"--raid-devices={count}", *parts],
                       check=True, stdin=subprocess.DEVNULL, capture_output=True)
        try:
            yield "/dev/md0"
        finally:
            until(lambda: subprocess.run(["mdadm", "--stop", "/dev/md0"], check=False,
                                         capture_output=True).returncode == 0, "md stopped", 30)


def find(name):
    """The disk of this name that the machine was booted with, or None."""
    if name.startswith("nvme"):
        # User Mode Linux has no such driver, and no such disk.
        subprocess.run(["modprobe", "--quiet", "nvme"], check=False)
    for serial in glob.glob("/sys/block/vd*/serial") + glob.glob("/sys/block/nvme*/device/serial"):
        with open(serial) as file:
            if file.read().strip() == name:
                return f"/dev/{serial.split('/')[3]}"
    return None


@contextlib.contextmanager
def _given(name):
    yield find(name)


_RAID1 = f"0 {SECTORS} raid raid1 3 0 region_size 1024 2 - {{one}} - {{two}}"
_RAID5 = f"0 {SECTORS} raid raid5_ls 3 128 region_size 2048 3 - {{one}} - {{two}} - {{three}}"
_STRIPED = f"0 {SECTORS} striped 2 128 {{one}} 0 {{two}} 0"

KINDS = {
    "ram": _ram,
    "scsi": _scsi,
    "scsi-512e": lambda: _scsi("sector_size=512", "physblk_exp=3"),
    "scsi-4kn": lambda: _scsi("sector_size=4096", "lbpu=1"),
    "scsi-lbprz": lambda: _scsi("lbpu=1", "lbpws=1", "lbprz=1"),
    "scsi-lbprz-ws10": lambda: _scsi("lbpws10=1", "lbprz=1"),
    "scsi-4kn-lbprz": lambda: _scsi("sector_size=4096", "lbpu=1", "lbpws=1", "lbprz=1"),
    "scsi-odd-granularity": lambda: _scsi("lbpu=1", "unmap_granularity=24", "unmap_alignment=7"),
    "scsi-small-transfers": lambda: _scsi("lbpu=1", "opt_xferlen_exp=3", "max_queue=2"),
    "null-512": lambda: _null(blocksize=512),
    "null-4k": lambda: _null(blocksize=4096),
    "null-small-transfers": lambda: _null(blocksize=512, max_sectors=24),
    "null-no-discard": lambda: _null(discard=0),
    "null-polled": lambda: _null(poll_queues=1),
    "null-virt-boundary": lambda: _null(virt_boundary=1),
    "loop-512": lambda: _loop(512),
    "loop-4k": lambda: _loop(4096),
    "zram": _zram,
    "dm-crypt": _crypt,
    "dm-crypt-4k": _crypt_4k,
    "dm-thin": _thin,
    "dm-raid1": lambda: _raid(_RAID1),
    "dm-raid5": lambda: _raid(_RAID5),
    "dm-stripe": lambda: _raid(_STRIPED),
    "md-raid1": lambda: _md(1, 2),
    "md-raid5": lambda: _md(5, 3),
    "md-raid0": lambda: _md(0, 2),
}

# Disks that the machine has to have been booted with, see the script `run`.
GIVEN = ("virtio", "virtio-4k", "virtio-plain", "nvme", "nvme-4k")
KINDS.update({name: functools.partial(_given, name) for name in GIVEN})


def lacks(kind):
    """Whether the machine has no such disk."""
    return kind in GIVEN and find(kind) is None
