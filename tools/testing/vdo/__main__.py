# SPDX-License-Identifier: GPL-2.0

"""python3 -m vdo [--long] [ROWS...], in the VM, as root.

DMOX_IMPL, c or rust, says what is under test; DMOX_VDO_HAS what of it (index, packer).
"""

import sys

from vdo import blocks
from vdo import formatting
from vdo import messages
from vdo import partial
from vdo import rig
from vdo import suite
from vdo import table

if __name__ == "__main__":
    sys.exit(suite.main(rig.prepare))
