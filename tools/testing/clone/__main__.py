# SPDX-License-Identifier: GPL-2.0

"""python3 -m clone [--long] [NUMBERS...], in the VM, as root, with the target's module loaded.

DMOX_IMPL, c or rust, says what is under test.
"""

import sys

from clone import commit
from clone import discards
from clone import failures
from clone import hydration
from clone import io
from clone import lifecycle
from clone import metadata
from clone import reload
from clone import suite
from clone import table
from clone import trouble

# What the VM cannot show, or another program shows.
UNTESTED = [
    (94, "cuts the power; run from outside, takeover.sh 3 \"\" rust 1"),
]

if __name__ == "__main__":
    sys.exit(suite.main(UNTESTED))
