# SPDX-License-Identifier: GPL-2.0

"""B: formatting by the kernel, and what it finds on a disk."""

import re

from errno import EINVAL
from errno import EIO
from errno import ENOSPC

from lib.blockio import BlockFile
from lib.devices import Layer
from lib.runner import equal
from vdo.blocks import CONFIG
from vdo.data import BLOCK
from vdo.rig import DATA0
from vdo.rig import DEFAULT
from vdo.rig import GIB
from vdo.rig import JOURNAL0
from vdo.rig import MEDIUM
from vdo.rig import RAM0
from vdo.rig import RAM1
from vdo.rig import SECTORS
from vdo.rig import SMALL
from vdo.rig import SUPER
from vdo.rig import SUSPENDED
from vdo.rig import Volume
from vdo.rig import blank
from vdo.rig import damage
from vdo.rig import disks
from vdo.rig import fails
from vdo.rig import is_blank
from vdo.rig import on_disk
from vdo.rig import put
from vdo.rig import refused
from vdo.rig import logging
from vdo.rig import small
from vdo.rig import tool
from vdo.rig import volume
from vdo.suite import DEDUPE
from vdo.suite import case
from vdo.suite import expect

_SPACE = "Could not allocate enough space for VDO during format"
_PARSE = "Could not parse geometry block"
_LOAD = "Cannot load metadata from device"
_NONE = "Not enough space to make a VDO"

# indexMemory, indexSparse, the smallest physical size with slabs of 32 MiB.
_MINIMA = (("0.25", "off", 2949992448), ("0.5", "off", 5765058560), ("0.50", "off", 5765058560),
           ("0.75", "off", 8580116480), ("1", "off", 11361619968), ("2", "off", 22680842240),
           ("1024", "off", 12176004419584), ("0.25", "on", 24016228352), ("1", "on", 96230322176))


@case("B1", "too small, for each size of index", blank)
def _(_):
    tiny = DEFAULT.but(physical=100000)

    def too_small(line, size):
        refused(line, ENOSPC, _SPACE, f"Minimum required size for VDO volume: {size} bytes")
        assert is_blank(), "no longer blank"

    too_small(tiny, 5063921664)
    too_small(tiny.adding("slabSize 8192"), 2949992448)
    too_small(tiny.adding("slabSize 8388608"), 37276176384)
    for memory, sparse, size in _MINIMA:
        options = f"slabSize 8192 indexMemory {memory} indexSparse {sparse}"
        too_small(tiny.adding(options), size)


@case("B1b", "ten blocks", blank)
def _(_):
    refused(DEFAULT.but(physical=10), ENOSPC, _SPACE, _NONE,
            "Minimum required size for VDO volume: 5063921664 bytes")


@case("B2", "around the smallest size", blank)
def _(_):
    refused(SMALL.but(physical=720211), ENOSPC, _SPACE)
    refused(SMALL.but(physical=720212), ENOSPC, _SPACE, never=(_NONE,))
    v = volume(SMALL.but(physical=720213))
    v.shows("normal - online offline 712247 720213")


@case("B3", "the load formats, not the resume", blank)
def _(_):
    v = Volume(SMALL, start=False)
    v.load(str(SMALL))
    assert on_disk(RAM0, 0).startswith(b"dmvdo001")
    equal((v.status(), v.table()), ([], []))
    equal(v.status(inactive=True),
          [f"0 2097152 vdo {RAM0} normal - {SUSPENDED} offline 750898 2097152"])
    equal(v.table(inactive=True), [str(SMALL)])
    fails(EINVAL, v.message, "stats")


def _changed(probes):
    with BlockFile(RAM0, readonly=True) as file:
        return {at for at in probes if file.read(at * 8, 8) != b"\xA5" * BLOCK}


@case("B4", "what formatting, starting and stopping write")
def _():
    probes = set(range(1, 70)) | set(range(128, 2097152, 2048)) | set(range(679100, 679300, 5))
    probes |= set(range(2097152 - 33000, 2097152, 64)) | {2097150, 2097151}
    with BlockFile(RAM0) as file:
        for at in probes:
            file.write(at * 8, b"\xA5" * BLOCK)
    blank()
    v = Volume(SMALL, start=False)
    v.load(str(SMALL))
    formatted = {1} | set(range(SUPER, DATA0)) | set(range(JOURNAL0, JOURNAL0 + 32768))
    equal(sorted(_changed(probes) ^ probes & formatted), [], "written by the load")
    v.resume()
    v.ready()
    started = formatted | set(range(JOURNAL0 + 32768, 2097152)) | ({2} if DEDUPE else set())
    equal(sorted(_changed(probes) ^ probes & started), [], "written by the start")
    v.remove(5)
    index = set(range(SUPER)) if DEDUPE else set()
    equal(sorted(_changed(probes) - started - index), [], "written by the stop")


@case("B5", "block 0 with one byte in it", blank)
def _(_):
    block = bytes(BLOCK - 1) + b"\1"
    put(RAM0, 0, block)
    refused(SMALL, EIO, _PARSE, "1487")
    equal(on_disk(RAM0, 0), block)


@case("B6", "block 0 empty, others not", blank)
def _(_):
    put(RAM0, 16, b"\xA5" * BLOCK)
    volume(SMALL).shows("normal - online offline 750898 2097152")


@case("B7", "a damaged geometry block", small)
def _(v):
    v.remove()
    damage(RAM0, 0, 40, 1)
    refused(SMALL, EIO, _PARSE, "1477")


@case("B8", "other formatting words for a formatted volume", small)
def _(v):
    v = v.again(SMALL.but(options="slabSize 16384 indexMemory 1 indexSparse on"))
    equal(v.message("config"), CONFIG)


@case("B9", "a damaged super block", small)
def _(v):
    v.remove()
    damage(RAM0, SUPER, 100, 1)
    refused(SMALL, EIO, _LOAD, "1477")


@case("B10", "an empty super block", small)
def _(v):
    v.remove()
    put(RAM0, SUPER, bytes(BLOCK))
    refused(SMALL, EIO, _LOAD, "1471", "expected 12.0, got 0.0")


@case("B11", "a volume larger than its disk", disks)
def _(_):
    refused(SMALL.but(physical=2359296), EIO, _LOAD, "-5")
    assert is_blank()


@case("B11b", "and what that writes", disks)
def _(_):
    probes = [1, 2, *range(679127, 679190)]
    for at in probes:
        put(RAM0, at, b"\xA5" * BLOCK)
    refused(SMALL.but(physical=2359296), EIO if expect(c=True, rust=False) else (EIO, EINVAL))
    gone = _changed(probes)
    equal(sorted(gone), expect(c=[1, *range(SUPER + 1, DATA0)], rust=[]))


@case("B12", "a volume smaller than its disk", blank)
def _(_):
    v = volume(MEDIUM)
    v.shows("normal - online offline 721970 1048576")
    assert "physicalSize : 4294967296," in v.message("config")
    v.remove()
    # The tool says the same of it.
    found = tool("vdolistmetadata", RAM0)
    for first, last, what in ((1, 679127, "index"), (679128, 679128, "super block"),
                              (679129, 679188, "block map"), (1015744, 1048511, "recovery journal"),
                              (1048512, 1048575, "slab summary")):
        assert re.search(rf"{first} \.\. {last}: .*{what}", found), f"{what}: {found}"


@case("B13", "a volume that vdoformat made")
def _():
    blank(RAM1)
    tool("vdoformat", "--force", "--slab-bits=13", "--logical-size=1G", RAM1)
    line = SMALL.but(device=RAM1)
    with logging(*(["creating index"] if DEDUPE else [])):
        v = Volume(line).ready()
    v.shows("normal - online offline 750898 2097152")
    equal(v.message("config"), CONFIG)
    v.remove()


@case("B14", "vdoformat refuses a disk with a volume")
def _():
    blank(RAM1)
    Volume(SMALL.but(device=RAM1)).remove(5)
    assert 'TYPE="vdo"' in tool("vdoformat", "--slab-bits=13", RAM1, code=1)


@case("B15", "started with one block size, then with another")
def _():
    v = volume(SECTORS)
    v.shows("normal - online offline 750898 2097152")
    v = v.again(SMALL)
    v.shows("normal - online offline 750898 2097152")


@case("B16", "more slabs than there may be", blank)
def _(_):
    refused(SMALL.but(physical=68693600), EIO, "Could not initialize data layout during format",
            "1482")


@case("B17", "formatting that breaks off at its last write", blank)
def _(_):
    layer = Layer("b", RAM0, 8 * GIB * 8)
    layer.swap(f"0 8 flakey {RAM0} 0 0 3600 1 error_writes\n{layer.linear(8)}")
    line = SMALL.but(device=layer.path)
    refused(line, EIO)
    assert is_blank()
    layer.restore()
    volume(line, make_blank=False).shows("normal - online offline 750898 2097152")
