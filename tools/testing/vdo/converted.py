# SPDX-License-Identifier: GPL-2.0

"""CV: volumes of the old manager that were converted for LVM.

LVM's import (`vdoprepareforlvm`) has the device begin some blocks later and says so in the geometry
block, which stands there then. Nothing else moves: block numbers count from where the device began.
"""

import zlib

from errno import EINVAL
from errno import EIO

from lib.devices import Layer
from lib.runner import equal
from vdo.data import BLOCK
from vdo.data import uniques
from vdo.rig import RAM0
from vdo.rig import SMALL
from vdo.rig import SUPER
from vdo.rig import Volume
from vdo.rig import on_disk
from vdo.rig import put
from vdo.rig import refused
from vdo.rig import volume
from vdo.suite import case
from vdo.suite import expect

_TAKEN = 500            # blocks that the device lacks at its start
_BLOCKS = 1572864       # of the volume before
_MORE = 131072
_OLD, _NEW = uniques(0, 64), uniques(1000, 64)


def _patched(data, checksum, **fields):
    """A block with eight-byte fields changed, and its checksum."""
    data = bytearray(data)
    for at, value in fields.items():
        at = int(at.removeprefix("at"))
        data[at:at + 8] = value.to_bytes(8, "little")
    data[checksum:checksum + 4] = zlib.crc32(data[:checksum], 0xFFFFFFFF).to_bytes(4, "little")
    return bytes(data)


class Converted:
    """A volume that was converted; its stated size is `physical`."""

    def __init__(self, physical):
        # The tool makes the index smaller, too; here there is none.
        line = SMALL.but(physical=_BLOCKS).adding("deduplication off")
        v = volume(line)
        v.write(0, _OLD)
        v.flush()
        v.remove(5)
        geometry = _patched(on_disk(RAM0, 0), 97, at56=_TAKEN, at68=_TAKEN + 1)
        put(RAM0, SUPER, _patched(on_disk(RAM0, SUPER), 434, at68=physical))
        put(RAM0, _TAKEN, geometry)
        put(RAM0, 0, bytes(BLOCK))
        self.layer = Layer("s", RAM0, physical * 8, _TAKEN * 8)
        self.line = line.but(device=self.layer.path, physical=physical)

    def use(self):
        """It starts, recovers, and grows."""
        v = Volume(self.line).ready()
        equal(v.status_now().mode, "normal")
        v.holds(0, _OLD)
        v.write(5000, _NEW)
        v.flush()
        v = v.crashed()
        v.becomes("mode", "normal")
        v.holds(0, _OLD)
        v.holds(5000, _NEW)
        larger = self.line.but(physical=self.line.physical + _MORE)
        v.suspend()
        self.layer.resize(larger.physical * 8)
        v.load(str(larger))
        v.resume()
        v.write(9000, _OLD)
        v.flush()
        v = v.again(larger)
        equal(v.status_now().mode, "normal")
        v.holds(0, _OLD)
        v.holds(5000, _NEW)
        v.holds(9000, _OLD)


@case("CV1", "a converted volume, as the tool leaves it: with so much less physical size",
      lambda: Converted(_BLOCKS - _TAKEN))
def _(converted):
    if expect(c=True, rust=False):
        refused(converted.line, (EINVAL, EIO), "Cannot load metadata from device")
    else:
        converted.use()


@case("CV2", "a converted volume whose physical size is as it was", lambda: Converted(_BLOCKS))
def _(converted):
    converted.use()
