# SPDX-License-Identifier: GPL-2.0

"""F: tables loaded for a volume that runs: growth, changed words, other storage."""

from errno import EINVAL
from errno import EIO

from lib.blockio import Background
from lib.blockio import BlockFile
from lib.devices import Layer
from lib.devices import until
from lib.runner import equal
from vdo.data import unique
from vdo.data import uniques
from vdo.rig import GIB
from vdo.rig import MEDIUM
from vdo.rig import ONE_SLAB
from vdo.rig import RAM0
from vdo.rig import RAM1
from vdo.rig import SUPER
from vdo.rig import Volume
from vdo.rig import blank
from vdo.rig import disks
from vdo.rig import fails
from vdo.rig import logging
from vdo.rig import on_disk
from vdo.rig import put
from vdo.rig import refused
from vdo.rig import volume
from vdo.suite import DEDUPE
from vdo.suite import Session
from vdo.suite import case
from vdo.suite import expect

_GROW = "Device vdo_prepare_to_grow_physical failed"


class State:
    """The volume and the line in force."""

    def __init__(self):
        disks(12)
        self.v = volume(MEDIUM)
        self.line = MEDIUM
        self.v.write_each(0, map(unique, range(8)))

    def load(self, **changes):
        """Load without resume; returns the line."""
        line = self.line.but(**changes)
        with logging("preparing to modify device"):
            self.v.load(str(line))
        return line

    def refused(self, *texts, code=EINVAL, **changes):
        """The load fails, the live table stays."""
        before = self.v.table()
        with logging(*texts):
            fails(code, self.v.load, str(self.line.but(**changes)))
        equal(self.v.table(), before)
        equal(self.v.table(inactive=True), [])

    def apply(self, *texts, **changes):
        """Load and resume."""
        with logging(*texts):
            self.line = self.load(**changes)
            self.v.resume()
        self.v.line = self.line
        equal(self.v.table(), [str(self.line)])

    def slabs(self):
        return self.v.stats()["allocator.slabCount"]


session = Session("F", State)


@session.row("F1", "the logical size grows")
def _(s):
    s.apply("Preparing to resize logical to 524288", "Done preparing to resize logical",
            "Resizing logical to 524288", "Logical blocks now 524288", length=4194304)
    with BlockFile(s.v.path, readonly=True) as file:
        equal(file.sectors * 512, 2147483648)
    s.v.holds(0, uniques(0, 8))
    s.v.write(400000, unique(400000))
    s.v.holds(400000, unique(400000))


@session.row("F2", "refused: a smaller logical size")
def _(s):
    s.refused("Can't shrink VDO logical size", length=2097152)


@session.row("F3", "the physical size grows")
def _(s):
    s.apply("Preparing to resize physical to 1310720", "Done preparing to resize physical",
            "Physical block count was 1048576, now 1310720", physical=1310720)
    equal(s.slabs(), 73)
    s.v.holds(0, uniques(0, 8))


@session.row("F4", "growth by too little, and by just enough")
def _(s):
    for more in (1, 8192, 32831):
        s.refused(_GROW, "1476", code=EIO, physical=1310720 + more)
    for more in (32832, 32833):
        s.load(physical=1310720 + more)
    s.apply("Physical block count was 1310720, now 1351680", physical=1310720 + 40960)
    equal((s.slabs(), s.v.stats()["physicalBlocks"]), (78, 1351680))


@session.row("F5", "refused: a smaller physical size")
def _(s):
    s.refused("Removing physical storage from a VDO is not supported", physical=1310720)


@session.row("F6", "refused: what only a restart may change")
def _(s):
    def options(words):
        return {"options": f"{s.line.options} {words}"}

    for what, changes in (("Logical block size", {"size": 512}),
                          ("Block map cache size", {"cache": 40000}),
                          ("Block map maximum age", {"era": 100}),
                          ("Thread configuration", options("cpu 2")),
                          ("Thread configuration", options("hash 1 logical 1 physical 1")),
                          ("Thread configuration", options("bio 2")),
                          ("Thread configuration", options("bioRotationInterval 32"))):
        s.refused(f"{what} cannot change", **changes)


@session.row("F7", "changed options are in force after the resume")
def _(s):
    options = s.line.options
    s.apply(options=f"{options} maxDiscard 4 compression on deduplication off")
    s.v.becomes("index", "closed")
    equal(s.v.status_now().compression, "online")
    first = int(s.v.queue("discard_max_bytes"))
    words = "maxDiscard 1 compression off slabSize 16384"
    s.apply(options=f"{options} {words}{' deduplication on' if DEDUPE else ''}")
    s.v.becomes("index", "online")
    equal(s.v.status_now().compression, "offline")
    equal((first, int(s.v.queue("discard_max_bytes"))),
          expect(c=(4096, 16384), rust=(16384, 4096)))
    # C's limit catches up with the next load.
    s.apply(options=options)
    equal(s.v.queue("discard_max_bytes"), "4096")


@session.row("F9", "a growth that another load takes back")
def _(s):
    s.load(length=8388608)
    with logging("resumed", never=("Resizing",)):
        s.v.load(str(s.line))
        s.v.resume()
    equal(s.v.stats()["logicalBlocks"], 524288)


@session.row("F10", "a growth that is cleared")
def _(s):
    s.load(length=8388608)
    s.v.clear()
    with logging("resumed", never=("Resizing",)):
        s.v.suspend()
        s.v.resume()
    equal(s.v.stats()["logicalBlocks"], 524288)


@session.row("F11", "grown while suspended")
def _(s):
    s.v.suspend()
    s.apply("Logical blocks now 1048576", length=8388608)


@session.row("F12", "grown while suspended without flush")
def _(s):
    s.v.suspend(noflush=True)
    s.apply("Logical blocks now 1310720", length=10485760)


@session.row("F13", "refused: logical sizes that no volume has")
def _(s):
    for length, text in ((10485764, "Logical size must be a multiple of 4096"),
                         (8796093022216, "Logical size exceeds the maximum")):
        with logging(text, never=("parsing failed",)):
            fails(EINVAL, s.v.load, str(s.line.but(length=length)))


@session.row("F14", "the identical line")
def _(s):
    s.apply()


@session.row("F15", "other sizes at a start")
def _(s):
    s.v.remove(5)
    refused(s.line.but(length=4194304), EIO, "1473")
    refused(s.line.but(physical=1048576), EIO, "1473")
    with logging("VDO commencing normal operation", never=("Device was dirty",)):
        s.v = s.v.start(s.line)
    s.v.holds(0, uniques(0, 8))
    s.v.holds(400000, unique(400000))


@session.row("F16", "grown by a start")
def _(s):
    s.line = s.line.but(length=12582912)
    with logging("Growing logical size: a logical size of 1572864 blocks was specified, "
                 "but that differs from the 1310720 blocks configured in the vdo super block"):
        s.v = s.v.again(s.line)
    with logging(never=("Growing logical size",)):
        s.v = s.v.again(s.line)
    equal(s.v.stats()["logicalBlocks"], 1572864)


@session.row("F17", "refused: another physical size at a start")
def _(s):
    s.v.remove(5)
    refused(s.line.but(physical=1875968), EIO, "1473")
    s.v = s.v.start(s.line)


@session.row("F18", "the same storage under another name")
def _(s):
    s.apply(f"Updating backing device of {s.v.number} from {RAM0} to 1:0", device="1:0")
    equal(s.v.status_now().device, RAM0)
    s.apply(device=RAM0)


@session.row("F19", "an empty disk as new storage, not resumed")
def _(s):
    blank(RAM1)
    line = str(s.line.but(device=RAM1))
    if expect(c=True, rust=False):
        s.v.load(line)
    else:
        try:
            s.v.load(line)
        except OSError as error:
            equal(error.errno, EINVAL)
    s.v.clear()
    s.v.holds(0, uniques(0, 8))


@session.row("F20", "refused: more slabs than there may be")
def _(s):
    s.refused(f"{_GROW} (specified physical size too big based on formatted slab size)", "1482",
              code=EIO, physical=67908864)


@session.row("F21", "a renamed volume is still that volume")
def _(s):
    s.v.rename("w")
    s.apply()
    s.v.rename("v")


@session.row("F22", "replaced by another target, and started again")
def _(s):
    with logging("stopped"):
        s.v.load(f"0 {s.line.length} error")
        s.v.resume()
    s.v.remove(5)
    with logging("VDO commencing normal operation", never=("Device was dirty",)):
        s.v = s.v.start(s.line)
    s.v.holds(0, uniques(0, 8))


@session.row("F24", "the status of a table that is not in force, beside writes; a crash")
def _(s):
    # It would make the volume larger. To be asked for its status changes nothing and saves nothing.
    s.load(length=s.line.length + 4194304)
    wanted = s.line.length // 8
    for at in range(500000, 500008):
        s.v.write(at, unique(at))
        loaded, live = (s.v.status(inactive=inactive)[0].split()[2:5] for inactive in (True, False))
        equal(loaded, live)
        s.v.flush()
    equal(s.v.stats()["logicalBlocks"], wanted)
    s.v.clear()
    s.v.write(500008, unique(500008))
    s.v.flush()
    with logging("Device was dirty"):
        s.v = s.v.crashed(s.line)
    s.v.holds(500000, uniques(500000, 9))
    equal(s.v.stats()["logicalBlocks"], wanted)


@session.row("F8", "a growth beyond the storage")
def _(s):
    grown = s.load(length=14680064, physical=5242880)
    with logging("backing device has 3145728 blocks but VDO physical size is 5242880 blocks"):
        fails(EINVAL, s.v.resume)
    assert s.v.suspended and s.v.table() == [str(grown)]
    if expect(c=True, rust=False):
        fails(EINVAL, s.v.load, str(s.line))
        s.v.remove(5)
    else:
        s.v.load(str(s.line))
        s.v.resume()
        s.v.holds(0, uniques(0, 8))
        s.v.remove(5)
    with logging("VDO commencing normal operation", never=("Device was dirty",)):
        s.v = s.v.start(s.line)
    s.v.holds(0, uniques(0, 8))
    equal(s.v.stats()["logicalBlocks"], 1572864)


@case("F23", "physical growth before the first resume", blank)
def _(_):
    v = Volume(MEDIUM, start=False)
    v.load(str(MEDIUM))
    with logging("VDO physical size may not grow in current state"):
        fails(EINVAL, v.load, str(MEDIUM.but(physical=1310720)))


class Meanwhile:
    """A device without a table in force, and two ways to its storage: what is loaded by the second
    one comes only as far as the first read of the storage."""

    def __init__(self):
        blank(RAM0)
        self.way = Layer("b", RAM0, 8 * GIB * 8)
        self.v = Volume(MEDIUM, start=False)
        self.line = MEDIUM.but(device=self.way.path)

    def load(self):
        self.way.hold(reads=True)
        loading = Background(self.v.load, str(self.line))
        until(lambda: self.way.held.reads, "a read by the load")
        return loading

    def use(self, line):
        """What was loaded in the end is a volume."""
        equal(self.v.table(inactive=True), [str(line)])
        self.v.resume()
        self.v.line = line
        equal(self.v.status_now().device, line.device)
        self.v.write(0, uniques(0, 64))
        self.v.flush()
        self.v = self.v.again()
        self.v.holds(0, uniques(0, 64))


@case("F25", "a table that was never in force is cleared while another one is loaded", Meanwhile,
      only="rust")
def _(s):
    """C looks at no other way to the storage before the resume."""
    s.v.load(str(MEDIUM))
    loading = s.load()
    # Nobody has the first way open any more once it is gone: the volume goes on by the second one.
    clearing = Background(s.v.clear)
    assert clearing.ended(30), "the end of the cleared table waits for the loaded one"
    s.way.restore()
    loading.result()
    s.use(s.line)


@case("F26", "the same two, where the one that is loaded is refused", Meanwhile, only="rust")
def _(s):
    s.v.load(str(MEDIUM))
    loading = s.load()
    s.v.clear()
    # Whatever it would have read, the storage does not hold the volume.
    s.way.swap(f"0 {s.way.sectors} error")
    fails(EINVAL, loading.result)
    equal(s.v.table(inactive=True), [])
    s.v.load(str(MEDIUM))
    s.use(MEDIUM)


def _copy(end=SUPER + 1):
    """What RAM0 has of a volume, but for its index, now on RAM1: as much as tells what it is."""
    put(RAM1, 0, on_disk(RAM0, 0))
    for block in range(SUPER, end, 1024):
        put(RAM1, block, on_disk(RAM0, block, min(1024, end - block)))


@case("F27", "an older copy of the storage in its place", blank, only="rust")
def _(_):
    """C asks the geometry only, and goes on with what the copy has."""
    other = str(ONE_SLAB.but(device=RAM1))
    v = volume(ONE_SLAB)

    def back(first):
        v.load(str(ONE_SLAB))
        v.resume()
        v.write(first, uniques(first, 8))
        v.flush()
        v.holds(0, uniques(0, first + 8))

    v.write(0, uniques(0, 8))
    v.flush()
    # One of the volume in use is no older as long as that goes on, but when it was saved.
    _copy()
    v.load(other)
    with logging("Storage device does not hold this VDO"):
        fails(EINVAL, v.resume)
    back(8)
    # One of the volume at rest is older as soon as that is in use again.
    v.suspend()
    _copy()
    v.resume()
    with logging("Storage device does not hold this VDO"):
        fails(EINVAL, v.load, other)
    back(16)
    # One of what stands still is as good as that.
    v.suspend()
    _copy(ONE_SLAB.physical)
    v.load(other)
    v.resume()
    equal(v.status_now().device, RAM1)
    v.holds(0, uniques(0, 24))


@case("S13", "storage exchanged for an empty disk")
def _():
    v = volume(MEDIUM)
    v.write(0, uniques(0, 64))
    blank(RAM1)
    other = str(MEDIUM.but(device=RAM1))
    if expect(c=True, rust=False):
        v.load(other)
        v.resume()
        equal(v.status_now().device, RAM1)
        v.holds(0, bytes(4096))
        return
    try:
        v.load(other)
        fails(EINVAL, v.resume)
        v.load(str(MEDIUM))
    except OSError as error:
        equal(error.errno, EINVAL)
    v.resume()
    equal(v.table(), [str(MEDIUM)])
    v.holds(0, uniques(0, 64))
