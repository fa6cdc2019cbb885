# SPDX-License-Identifier: GPL-2.0

"""D: `dmox`, on devices that are in use and on their storage."""

import json

from lib.runner import equal
from vdo import stats
from vdo.data import compressible
from vdo.data import unique
from vdo.data import uniques
from vdo.rig import SMALL
from vdo.rig import Below
from vdo.rig import dmox
from vdo.rig import logging
from vdo.rig import small
from vdo.rig import tool
from vdo.rig import volume
from vdo.suite import case

_EIGHT = uniques(0, 8)


def _flat(value, path=""):
    """Names with dots, as the tests have them."""
    for name, one in value.items():
        if isinstance(one, dict):
            yield from _flat(one, f"{path}{name}.")
        else:
            yield f"{path}{name}", one


@case("D1", "dmox vdo stats of a volume in use", small)
def _(v):
    v.write(0, uniques(0, 8))
    v.flush()
    v.counters()
    said = json.loads(dmox("stats", "--json", "v"))
    equal(list(said), ["v"])
    equal(stats.steady(dict(_flat(said["v"]))), stats.steady(v.stats()))
    # Without a name: all of them, a line each.
    head, line = dmox("stats").splitlines()
    equal(head.split(), ["device", "size", "used", "free", "use", "saving", "shared", "packed",
                         "mode"])
    words = line.split()
    state = v.status_now()
    equal((words[0], words[-1]), ("v", "normal"))
    equal(words[-7], f"{-(-state.used * 100 // state.total)}%")
    assert "dataBlocksUsed" in dmox("stats", "--all", "v")
    # What is no volume is told, and is no success.
    assert "not a running vdo device" in dmox("stats", "b", code=1) \
        or "No such device" in dmox("stats", "b", code=1)


@case("D1b", "what deduplication saves, and what compression",
      lambda: volume(SMALL.adding("compression on")), needs="index packer")
def _(v):
    def saves():
        """Saving, shared and packed."""
        v.counters()
        words = dmox("stats", "v").splitlines()[1].split()
        return words[-6], " ".join(words[-5:-3]), " ".join(words[-3:-1])

    # None of it is known, none compresses.
    v.write(0, uniques(0, 16))
    v.flush()
    equal(saves(), ("0%", "0 B", "0 B"))
    v.write(16, uniques(0, 16))
    v.flush()
    equal(saves(), ("50%", "64.0 KiB", "0 B"))
    # Fourteen in one block: 32 logical blocks in use before, 46 now, in 17 of storage.
    v.pack(100, [compressible(key, 64) for key in range(14)])
    v.flush()
    v.counters()
    equal(saves(), ("63%", "64.0 KiB", "52.0 KiB"))


@case("D2", "dmox vdo force-rebuild", Below)
def _(b):
    path = b.layer.path
    b.v.write(100, unique(100))
    b.v.flush()
    b.v.crash()
    assert "not read-only" in dmox("force-rebuild", path, code=1)
    tool("vdoreadonly", path)
    b.v = b.v.start(ready=False)
    equal(b.v.status_now().mode, "read-only")
    b.v.remove(5)
    dmox("force-rebuild", path)
    assert "due already" in dmox("force-rebuild", path)
    with logging("Rebuilding reference counts to clear read-only mode",
                 "Read-only rebuild complete"):
        b.v = b.v.start()
    equal(b.v.status_now().mode, "normal")
    b.v.holds(0, _EIGHT)
    b.v.holds(100, unique(100))
    equal(b.v.stats()["readOnlyRecoveries"], 1)
    b.v.remove(5)
    dmox("check", "--deep", path)
