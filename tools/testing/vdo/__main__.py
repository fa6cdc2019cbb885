# SPDX-License-Identifier: GPL-2.0

"""python3 -m vdo [--long] [ROWS...], in the VM, as root.

DMOX_IMPL, c or rust, says what is under test; DMOX_VDO_HAS what of it (index, packer).
"""

import sys

from vdo import better
from vdo import blocks
from vdo import compression
from vdo import converted
from vdo import dedupe
from vdo import failures
from vdo import field
from vdo import formatting
from vdo import lvm
from vdo import messages
from vdo import order
from vdo import partial
from vdo import recovery
from vdo import reload
from vdo import programs
from vdo import rig
from vdo import space
from vdo import suite
from vdo import suspend
from vdo import table

if __name__ == "__main__":
    sys.exit(suite.main(rig.prepare))
