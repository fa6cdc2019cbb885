# SPDX-License-Identifier: GPL-2.0

"""What the machine below the tests has that another has not; asked of the running kernel."""

import os

# Blocks larger than a page of memory take huge pages.
HUGE_PAGES, CPUS = "huge-pages", "cpus"

HAS = {name for name, there in (
    (HUGE_PAGES, os.path.exists("/sys/kernel/mm/transparent_hugepage")),
    (CPUS, (os.cpu_count() or 1) > 1),
) if there}

