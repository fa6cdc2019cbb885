# SPDX-License-Identifier: GPL-2.0

"""Which implementation of the clone target is loaded; they can be exchanged in one boot."""

import os
import subprocess

_IN_TREE = "/lib/modules/{}/kernel/drivers/md/dm-clone.ko"


def use(impl):
    """Make `impl` (c or rust) the one; no device may use the other."""
    if os.path.exists("/sys/module/dm_clone"):
        subprocess.run(["rmmod", "dm_clone"], check=True)
    if impl == "c":
        subprocess.run(["modprobe", "dm-persistent-data"], check=True)
        subprocess.run(["insmod", _IN_TREE.format(os.uname().release)], check=True)
    else:
        subprocess.run(["modprobe", "dm-clone"], check=True)
