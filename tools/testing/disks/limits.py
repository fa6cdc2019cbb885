# SPDX-License-Identifier: GPL-2.0

"""What a device says that it can do, and where ours may say something else than mainline's."""

import os

# What is a setting or a state, not a property of the table.
_NOT_LIMITS = {"iostats", "iostats_passthrough", "nomerges", "rq_affinity", "scheduler",
               "nr_requests", "read_ahead_kb", "io_timeout", "wbt_lat_usec", "io_poll_delay",
               "async_depth"}

# Zeroes take no room here, so writing them is offered where the storage offers it.
_VDO = {"write_zeroes_max_bytes", "write_zeroes_unmap_max_hw_bytes", "write_zeroes_unmap_max_bytes",
        # C leaves the storage's own; discards end in the volume.
        "discard_alignment"}


def of(device):
    """All limits of a mapped device."""
    folder = f"/sys/dev/block/{device.number}"
    found = {}
    for name in sorted(os.listdir(f"{folder}/queue")):
        path = f"{folder}/queue/{name}"
        if name not in _NOT_LIMITS and os.path.isfile(path):
            try:
                with open(path) as file:
                    found[name] = file.read().strip()
            except OSError:
                found[name] = "-"
    for name in ("alignment_offset", "discard_alignment"):
        with open(f"{folder}/{name}") as file:
            found[name] = file.read().strip()
    return found


def compare(targets, c, rust):
    """Both implementations' limits on the same disk."""
    allowed = _VDO if "vdo" in targets else set()
    wrong = {name: (c.get(name), rust.get(name)) for name in c.keys() | rust.keys()
             if name not in allowed and c.get(name) != rust.get(name)}
    assert not wrong, f"limits (C, ours): {wrong}"
