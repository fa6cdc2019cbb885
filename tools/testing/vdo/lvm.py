# SPDX-License-Identifier: GPL-2.0

"""L: sessions of LVM and vdostats, as people use them."""

import os
import re
import subprocess

from lib.devices import until
from lib.runner import equal
from vdo.rig import RAM0
from vdo.rig import disks
from vdo.suite import DEDUPE
from vdo.suite import Session
from vdo.suite import expect

_CONFIG = ("devices/use_devicesfile=0 devices/obtain_device_list_from_udev=0 "
           'devices/external_device_info_source="none" activation/udev_sync=0 '
           "activation/udev_rules=0 activation/monitoring=0 "
           "activation/verify_udev_operations=0 global/use_lvmpolld=0 global/notify_dbus=0")
_POOL = "vg-vpool-vpool"
_PLAIN = [] if DEDUPE else ["--deduplication", "n"]


def _run(*command, code=0):
    """A command's output; it must end like this."""
    environment = dict(os.environ, DM_DISABLE_UDEV="1", LVM_SUPPRESS_FD_WARNINGS="1")
    done = subprocess.run(command, env=environment, text=True, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    equal(done.returncode, code, f"{' '.join(command)}: {done.stdout}")
    return done.stdout


def lvm(command, *arguments, code=0):
    return _run(command, "--config", _CONFIG, *arguments, code=code)


def _status(name=_POOL):
    return _run("dmsetup", "status", name).split()


def _table(name=_POOL):
    return _run("dmsetup", "table", name).strip()


def _index(wanted):
    wanted = wanted if DEDUPE else "closed"
    until(lambda: _status()[6] == wanted, f"index {wanted}", 60, lambda: str(_status()))


def _make():
    """A volume group of 24 GiB without devices from before."""
    _run("modprobe", "dm-snapshot")
    disks(24)
    lvm("pvcreate", "-y", RAM0)
    lvm("vgcreate", "vg", RAM0)
    return None


session = Session("L", _make)


def _deduplication(word="on"):
    return word if DEDUPE else "off"


@session.row("L1", "segment types")
def _(_):
    found = _run("lvm", "segtypes").split()
    assert "vdo" in found and "vdo-pool" in found


@session.row("L0", "no module to be had")
def _(_):
    program, kept, asked = "/usr/sbin/modprobe", "/usr/sbin/modprobe.kept", "/tmp/asked"
    _run("rmmod", "dm_vdo")
    os.rename(program, kept)
    try:
        with open(program, "w") as file:
            file.write(f"#!/bin/sh\necho $* >>{asked}\nexit 1\n")
        os.chmod(program, 0o755)
        output = lvm("lvcreate", "--type", "vdo", "-n", "vdo0", "-L", "8G", "-V", "20G",
                     "vg/vpool", "--yes", code=3)
        assert "vdo: Required device-mapper target(s) not detected in your kernel." in output
        with open(asked) as file:
            equal(file.read().splitlines().count("dm-vdo"), 1)
    finally:
        os.rename(kept, program)
    # The next row's lvcreate loads it by itself.


@session.row("L3b", "a pool that is too small, and one that is not")
def _(_):
    output = lvm("lvcreate", "--type", "vdo", "-n", "vdo0", "-L", "4G", "-V", "20G", "vg/vpool",
                 "--yes", code=5)
    assert "5063921664" in output, output
    lvm("lvcreate", "--type", "vdo", "-n", "vdo0", "-L", "6G", "-V", "20G", "vg/vpool", "--yes",
        *_PLAIN)
    lvm("lvremove", "-y", "vg")


@session.row("L3", "a pool and a volume")
def _(_):
    lvm("lvcreate", "--type", "vdo", "-n", "vdo0", "-L", "8G", "-V", "20G", "vg/vpool", "--yes",
        *_PLAIN)
    equal(_table("vg-vdo0").split()[:3], ["0", "41943040", "linear"])
    assert re.fullmatch(
        r"0 41945088 vdo V4 /dev/dm-\d+ 2097152 4096 32768 16380 deduplication "
        rf"{_deduplication()} compression on maxDiscard 1 ack 1 bio 4 bioRotationInterval 64 "
        r"cpu 2 hash 1 logical 1 physical 1", _table()), _table()
    _index("online")
    state = _status()
    equal(state[:3] + state[4:6] + state[7:],
          ["0", "41945088", "vdo", "normal", "-", "online", "1049284", "2097152"])


@session.row("L4", "lvs")
def _(_):
    lines = lvm("lvs", "-a", "vg", "-o", "name,segtype,lv_size,data_percent,lv_attr,pool_lv",
                "--noheadings")
    assert re.search(r"vdo0 +vdo +20\.00g +0\.00 +vwi-a-v---", lines), lines
    assert re.search(r"vpool +vdo-pool +8\.00g +50\.03 +dwi-------", lines), lines
    assert re.search(r"\[vpool_vdata\] .*Dwi-ao----", lines), lines


@session.row("L4b", "lvs of the pool")
def _(_):
    words = lvm("lvs", "-o", "vdo_operating_mode,vdo_index_state,vdo_compression_state,"
                "vdo_used_size,vdo_saving_percent", "--noheadings", "vg/vpool").split()
    equal(words, ["normal", "online" if DEDUPE else "closed", "online", "4.00g", "100.00"])


@session.row("L5", "vdostats")
def _(_):
    line = [one for one in _run("vdostats").splitlines() if one.startswith(_POOL)][0]
    equal(line.split(), [_POOL, "8388608", "4197136", "4191472", "50%", "0%"])
    output = _run("vdostats", "vg-nosuch", code=1)
    assert "Not a valid running VDO device" in output, output


@session.row("L6", "compression off, deduplication off, both on")
def _(_):
    lvm("lvchange", "--compression", "n", "vg/vpool")
    assert " compression off " in _table()
    equal(_status()[7], "offline")
    if not DEDUPE:
        lvm("lvchange", "--compression", "y", "vg/vpool")
        return
    lvm("lvchange", "--deduplication", "n", "vg/vpool")
    assert "deduplication off" in _table()
    _index("closed")
    lvm("lvchange", "--compression", "y", "--deduplication", "y", "vg/vpool")
    _index("online")
    equal(_status()[7], "online")


@session.row("L7", "a file system")
def _(_):
    _run("mkfs.ext4", "-q", "-E", "nodiscard", "/dev/mapper/vg-vdo0")
    used = float(lvm("lvs", "-o", "data_percent", "--noheadings", "vg/vpool"))
    assert 50.03 <= used < 50.5, used


@session.row("L8", "a larger volume")
def _(_):
    lvm("lvextend", "-L", "+5G", "vg/vdo0")
    equal((_status()[1], _table("vg-vdo0").split()[1]), ("52430848", "52428800"))


@session.row("L9", "a larger pool")
def _(_):
    lvm("lvextend", "-L", "+4G", "vg/vpool")
    equal((_status()[-1], _table("vg-vpool_vdata").split()[1]), ("3145728", "25165824"))


@session.row("L10", "a smaller pool is refused, a smaller volume too")
def _(_):
    before = _table()
    lvm("lvreduce", "-y", "-L", "4G", "vg/vpool", code=5)
    lvm("lvreduce", "-y", "-f", "-L", "10G", "vg/vdo0", code=5)
    equal(_table(), before)


@session.row("L11", "a snapshot")
def _(_):
    before = _table()
    lvm("lvcreate", "-y", "-s", "-n", "snap", "-L", "100M", "vg/vdo0")
    lvm("lvremove", "-y", "vg/snap")
    equal(_table(), before)
    _run("e2fsck", "-fn", "/dev/mapper/vg-vdo0")


@session.row("L12", "a second volume in the pool is refused")
def _(_):
    lvm("lvcreate", "-y", "-n", "vdo1", "-V", "2G", "--type", "vdo", "vg/vpool", code=3)


@session.row("L13", "deactivated and activated")
def _(_):
    lvm("vgchange", "-an", "vg")
    lvm("vgchange", "-ay", "vg")
    _index("online")
    _run("e2fsck", "-fn", "/dev/mapper/vg-vdo0")


@session.row("L14", "other settings")
def _(_):
    lvm("vgchange", "-an", "vg")
    lvm("lvchange", "-y", "--vdosettings",
        "ack_threads=2 bio_threads=2 hash_zone_threads=1 logical_threads=2 physical_threads=1 "
        "max_discard=8 block_map_cache_size_mb=256", "vg/vpool")
    lvm("vgchange", "-ay", "vg")
    assert _table().endswith(
        f"4096 65536 16380 deduplication {_deduplication()} compression on maxDiscard 8 ack 2 "
        "bio 2 bioRotationInterval 64 cpu 2 hash 1 logical 2 physical 1"), _table()


@session.row("L15", "a plain volume becomes a pool")
def _(_):
    lvm("lvremove", "-y", "vg/vpool")
    lvm("lvcreate", "-y", "-n", "raw", "-L", "8G", "vg")
    lvm("lvconvert", "-y", "--type", "vdo-pool", "-n", "v2", "-V", "10G", "vg/raw",
        *_PLAIN)


@session.row("L16", "renamed, made read-only, removed")
def _(_):
    lvm("lvrename", "vg/v2", "vg/v3")
    lvm("lvchange", "-pr", "vg/v3")
    lvm("lvremove", "-y", "vg/v3")
    assert "vg-" not in _run("dmsetup", "ls")


@session.row("L17", "the index's states, as lvs shows them", needs="index")
def _(_):
    lvm("lvcreate", "--type", "vdo", "-n", "vdo0", "-L", "8G", "-V", "20G", "vg/vpool", "--yes")
    _index("online")
    for message, state in (("index-disable", "offline"), ("index-close", "closed")):
        _run("dmsetup", "message", _POOL, "0", message)
        _index(state)
        words = lvm("lvs", "-o", "vdo_index_state", "--noheadings", "vg/vpool").split()
        equal(words, [state])


@session.row("L17b", "the same while suspended")
def _(_):
    if not DEDUPE:
        lvm("lvcreate", "--type", "vdo", "-n", "vdo0", "-L", "8G", "-V", "20G", "vg/vpool",
            "--yes", "--deduplication", "n")
    _run("dmsetup", "suspend", _POOL)
    try:
        output = lvm("lvs", "-o", "vdo_index_state,vdo_operating_mode", "vg/vpool")
        if expect(c=True, rust=False):
            assert "couldn't parse 'index state'" in output, output
    finally:
        _run("dmsetup", "resume", _POOL)


@session.row("L18", "everything goes")
def _(_):
    lvm("vgremove", "-ff", "-y", "vg")
    assert "vg-" not in _run("dmsetup", "ls")
    until(lambda: not os.path.exists("/dev/mapper/vg-vdo0"), "no node", 5)
