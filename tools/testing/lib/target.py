# SPDX-License-Identifier: GPL-2.0

"""Which implementation of a target is loaded; they can be exchanged in one boot."""

import os
import subprocess

_IN_TREE = "/lib/modules/{}/kernel/drivers/md/{}.ko"
_NEEDS = {"clone": "dm-persistent-data", "vdo": "dm-bufio"}
_FILES = {"clone": "dm-clone", "vdo": "dm-vdo/dm-vdo"}


def use(impl, name="clone"):
    """Make `impl` (c or rust) the one; no device may use the other."""
    if os.path.exists(f"/sys/module/dm_{name}"):
        subprocess.run(["rmmod", f"dm_{name}"], check=True)
    if impl == "c":
        subprocess.run(["modprobe", _NEEDS[name]], check=True)
        path = _IN_TREE.format(os.uname().release, _FILES[name])
        subprocess.run(["insmod", path], check=True)
    else:
        subprocess.run(["modprobe", f"dm-{name}"], check=True)
