# SPDX-License-Identifier: GPL-2.0

"""python3 -m demo clone | vdo-before | vdo-after: a part of the demo, in the VM.

Any surprise is an exception, and a non-zero status.
"""

import random
import subprocess
import sys

from demo import clone
from demo import vdo
from demo.screen import Screen

_PARTS = {"clone": clone.run, "vdo-before": vdo.before, "vdo-after": vdo.after}


def main():
    random.seed(1)
    try:
        _PARTS[sys.argv[1]](Screen())
    except (AssertionError, OSError, subprocess.CalledProcessError) as error:
        print(f"\nDEMO FAILED: {error}\n{getattr(error, 'stderr', None) or ''}", flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
