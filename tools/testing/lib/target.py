# SPDX-License-Identifier: GPL-2.0

"""Which implementation of a target is loaded; they can be exchanged in one boot."""

import os
import subprocess

_IN_TREE = "/lib/modules/{}/kernel/drivers/md/{}.ko"
_FILES = {"clone": "dm-clone", "vdo": "dm-vdo/dm-vdo"}


def use(impl, name="clone"):
    """Make `impl` (c or rust) the one; no device may use the other."""
    if os.path.exists(f"/sys/module/dm_{name}"):
        subprocess.run(["rmmod", f"dm_{name}"], check=True)
    if impl == "c":
        path = _IN_TREE.format(os.uname().release, _FILES[name])
        needs = subprocess.run(["modinfo", "-F", "depends", path], check=True,
                               capture_output=True, text=True).stdout.strip()
        subprocess.run(["modprobe", "-a", *needs.split(",")], check=True)
        subprocess.run(["insmod", path], check=True)
    else:
        subprocess.run(["modprobe", f"dm-{name}"], check=True)
