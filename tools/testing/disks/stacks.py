# SPDX-License-Identifier: GPL-2.0

"""Targets above each other: both of ours above and below each other and the kernel's own.

A floor is a function that makes a device of what is below it, a new one or (`again`) what was there
before; a stack is its floors from the bottom up.
"""

import contextlib
import os
import subprocess

from dataclasses import dataclass
from dataclasses import field

from disks import kinds
from disks import limits
from disks.use import User
from disks.use import table_vdo
from lib import dm
from lib.blockio import BlockFile
from lib.devices import ramdisk
from lib.devices import until

_MIB = 2048
_SMALL = 128 * _MIB
_LARGE = kinds.SECTORS
# Ramdisks: the bottom of a stack, what stands beside it, metadata.
_BOTTOM, _BESIDE, _META = 0, 1, 3

_LVM = ("--config", "devices/use_devicesfile=0 devices/obtain_device_list_from_udev=0 "
        'devices/external_device_info_source="none" activation/udev_sync=0 '
        "activation/udev_rules=0 activation/monitoring=0 "
        "activation/verify_udev_operations=0 global/use_lvmpolld=0 global/notify_dbus=0")


def _run(*command):
    environment = dict(os.environ, DM_DISABLE_UDEV="1", LVM_SUPPRESS_FD_WARNINGS="1")
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}"


class Top:
    """Whatever device is on top."""

    def __init__(self, path):
        self.path = os.path.realpath(path)
        number = os.stat(path).st_rdev
        self.number = f"{os.major(number)}:{os.minor(number)}"

    def queue(self, limit):
        with open(f"/sys/dev/block/{self.number}/queue/{limit}") as file:
            return file.read().strip()


@dataclass
class House:
    """A stack while it stands."""

    again: bool
    exits: contextlib.ExitStack
    # Device and table of each floor that is a mapped device.
    floors: list = field(default_factory=list)

    def map(self, name, table):
        device = dm.Device(f"{name}{len(self.floors)}", table)
        self.exits.callback(device.remove, 30)
        self.floors.append((device, table))
        return device.path

    def part(self, path, start, count):
        return self.map("part", f"0 {count} linear {path} {start}")

    def meta(self):
        """Room for metadata of nobody else's."""
        return self.part(ramdisk(_META), 32768 * len(self.floors), 32768)

    def new(self, path, sectors=8):
        """What lies there is no metadata of anybody's, if the stack is new."""
        if not self.again:
            with BlockFile(path) as file:
                file.write(0, bytes(sectors * 512))


def _vdo(house, path):
    house.new(path)
    return house.map("v", table_vdo(path, 4096, _SMALL))


def _vdo_large(house, path):
    """A volume with room for another one."""
    house.new(path)
    blocks = 2 * _LARGE // 8
    return house.map("v", f"0 {_LARGE} vdo V4 {path} {blocks} 4096 4096 16380 slabSize 8192 "
                     "deduplication off")


def _clone(sectors):
    def floor(house, path):
        meta = house.meta()
        house.new(meta, 64)
        source = house.part(ramdisk(_BESIDE), 0, sectors)
        return house.map("c", f"0 {sectors} clone {meta} {path} {source} 64 1 no_hydration")
    return floor


def _clone_of_parts(house, path):
    """Source and destination are both below."""
    meta = house.meta()
    house.new(meta, 64)
    dest = house.part(path, 0, _SMALL // 2)
    source = house.part(path, _SMALL // 2, _SMALL // 2)
    return house.map("c", f"0 {_SMALL // 2} clone {meta} {dest} {source} 64 1 no_hydration")


def _crypt(house, path):
    return house.map("crypt", f"0 {_SMALL} crypt aes-xts-plain64 {'8' * 128} 0 {path} 0 "
                     "1 allow_discards")


def _thin(house, path):
    meta = house.meta()
    house.new(meta)
    table = f"0 {_SMALL} thin-pool {meta} {path} 128 0"
    pool = dm.Device("pool", table)
    house.exits.callback(pool.remove, 30)
    house.floors.append((pool, table))
    if not house.again:
        pool.message("create_thin 0")
    return house.map("thin", f"0 {_SMALL} thin {pool.path} 0")


def _raid1(house, path):
    other = house.part(ramdisk(_BESIDE), 0, _SMALL)
    return house.map("raid", f"0 {_SMALL} raid raid1 3 0 region_size 1024 2 - {path} - {other}")


def _snapshot(house, path):
    store = house.part(ramdisk(_BESIDE), 0, 2 * _SMALL)
    house.new(store)
    return house.map("snap", f"0 {_SMALL} snapshot {path} {store} P 16")


def _md(house, path):
    other = house.part(ramdisk(_BESIDE), 0, _SMALL)
    how = ["--assemble", "/dev/md0", "--run"] if house.again else \
        ["--create", "/dev/md0", "--run", "--force", "--metadata=1.2", "--assume-clean",
         "--level=1", "--raid-devices=2"]
    _run("mdadm", *how, path, other)
    house.exits.callback(
        until, lambda: subprocess.run(["mdadm", "--stop", "/dev/md0"], check=False,
                                      capture_output=True).returncode == 0, "md stopped", 30)
    return "/dev/md0"


def _lvm(house, path):
    if house.again:
        _run("vgchange", *_LVM, "-ay", "above")
    else:
        _run("pvcreate", *_LVM, "-y", "-ff", path)
        _run("vgcreate", *_LVM, "above", path)
        _run("lvcreate", *_LVM, "-y", "-Wn", "-L", "64M", "-n", "lv", "above")
    house.exits.callback(_run, "vgchange", *_LVM, "-an", "above")
    return "/dev/mapper/above-lv"


STACKS = {
    "vdo-over-clone": (_clone(_LARGE), _vdo),
    "vdo-over-vdo": (_vdo_large, _vdo),
    "clone-over-vdo": (_vdo, _clone_of_parts),
    "clone-over-clone": (_clone(_SMALL), _clone_of_parts),
    "crypt-over-vdo": (_vdo, _crypt),
    "thin-over-vdo": (_vdo, _thin),
    "raid1-over-vdo": (_vdo, _raid1),
    "md-over-vdo": (_vdo, _md),
    "snapshot-over-vdo": (_vdo, _snapshot),
    "lvm-over-vdo": (_vdo, _lvm),
    "crypt-over-clone": (_clone(_SMALL), _crypt),
    "thin-over-clone": (_clone(_SMALL), _thin),
}


@contextlib.contextmanager
def _standing(name, again):
    with contextlib.ExitStack() as exits:
        house = House(again, exits)
        path = ramdisk(_BOTTOM)
        for floor in STACKS[name]:
            path = floor(house, path)
        yield house, Top(path)


def use(name):
    """Make a stack, use it, suspend and reload each of its floors under what is above, and make it
    again. Returns the limits on top."""
    for index in (_BOTTOM, _BESIDE, _META):
        _run("blkdiscard", "--force", ramdisk(index))
    with _standing(name, False) as (house, top):
        found = limits.of(top)
        # Only ours are known for it.
        user = User(top, discards_are_zeroes=name.startswith(("vdo", "clone")))
        user.work()
        for device, table in house.floors:
            device.suspend()
            device.resume()
            user.check()
            device.load(table)
            device.resume()
            user.check()
        user.write(16384, 256, 77)
        user.check()
    with _standing(name, True) as (_, top):
        user.device = top
        user.check()
        user.write(20480, 256, 78)
        user.check()
    return found
