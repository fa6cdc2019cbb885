# SPDX-License-Identifier: GPL-2.0

"""python3 -m vdo.corrupt_index [--trials N] [--seed N]: a damaged index loses names, never data.

Each trial takes a volume that was stopped, or crashed, damages its index, starts the volume and uses
it: all data reads as it was written, before and after, and what is written again is right wherever
the index says it is. The index ends in use, made anew or not, or in state `error`, and says why.
"""

import random
import struct
import sys

from dataclasses import dataclass

from lib.blockio import BlockFile
from lib.devices import remove_all
from lib.devices import until
from lib.kmsg import Log
from lib.runner import IMPL
from lib.runner import watchdog
from vdo.corrupt import Image
from vdo.corrupt import damaged
from vdo.corrupt import options
from vdo.data import BLOCK
from vdo.data import unique
from vdo.data import uniques
from vdo.rig import ONE_SLAB
from vdo.rig import RAM0
from vdo.rig import SUPER
from vdo.rig import Volume
from vdo.rig import prepare
from vdo.rig import volume

# The smallest index: 64 pages of 1024 records, behind 6 that index them.
_CHAPTER = 65536
_CHAPTERS = 11                  # the first chapter
_INDEX_PAGES, _RECORD_PAGES = 6 * 8, 64 * 8
_SAVES = (573451, 626289)
_MAP, _LISTS, _OPEN = 1, 4, 52325       # in a save
_LISTS_KEPT = 700               # blocks; there are few names
_OPEN_KEPT = 24
_JOURNAL = 4096                 # blocks of vdo's journal

_KEPT = {
    "super block": range(1, 2),
    "configuration": range(2, 3),
    "index pages": range(_CHAPTERS, _CHAPTERS + _INDEX_PAGES),
    "records": range(_CHAPTERS + _INDEX_PAGES, _CHAPTERS + _INDEX_PAGES + _RECORD_PAGES),
} | {
    f"{name} {slot}": range(start + at, start + at + count)
    for slot, start in enumerate(_SAVES)
    for name, at, count in (("header", 0, 1), ("page map", _MAP, 3),
                            ("volume index", _LISTS, _LISTS_KEPT),
                            ("open chapter", _OPEN, _OPEN_KEPT))
}
_NAMES = sorted({name.rstrip(" 01") for name in _KEPT})
_WAYS = ("damaged", "damaged", "zeroes", "noise", "torn", "older", "moved", "signed")

_OLD, _NEW, _OVER = 0, 6000, 3000       # where data are that stay, and those that come and go
_COUNT = 1500
_OLD_DATA, _NEW_DATA = uniques(_OLD, _COUNT), uniques(_NEW, _COUNT)


def _murmur(seed, data):
    """MurmurHash3 of whole blocks of 16 bytes, x64, 128 bits."""
    mask = (1 << 64) - 1
    one, two = 0x87C37B91114253D5, 0x4CF5AD432745937F

    def turned(value, bits):
        return (value << bits | value >> (64 - bits)) & mask

    def mixed(value):
        for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
            value = (value ^ value >> 33) * factor & mask
        return value ^ value >> 33

    low = high = seed
    for first, second in struct.iter_unpack("<QQ", data):
        low ^= turned(first * one & mask, 31) * two & mask
        low = (turned(low, 27) + high) * 5 + 0x52DCE729 & mask
        high ^= turned(second * two & mask, 33) * one & mask
        high = (turned(high, 31) + low) * 5 + 0x38495AB5 & mask
    low ^= len(data)
    high ^= len(data)
    low = low + high & mask
    high = high + low & mask
    low, high = mixed(low), mixed(high)
    low = low + high & mask
    return struct.pack("<QQ", low, high + low & mask)


def _nonce(start, data):
    """What the index proves its parts by."""
    start &= (1 << 64) - 1
    return _murmur((start ^ start >> 27) & 0xFFFFFFFF, data)[4:12]


def _primary(block):
    return _nonce(0xA1B1E0FC, block[224:256])


@dataclass
class Index:
    """What is on the disk of a volume, and of its index."""

    image: Image
    parts: dict

    @classmethod
    def take(cls, name):
        with BlockFile(RAM0, readonly=True) as file:
            parts = {part: file.read(blocks[0] * 8, len(blocks) * 8)
                     for part, blocks in _KEPT.items()}
        return cls(Image.take(name, _JOURNAL), parts)

    def put(self):
        self.image.put()
        with BlockFile(RAM0) as file:
            file.discard(8, (SUPER - 1) * 8)
            for part, blocks in _KEPT.items():
                file.write(blocks[0] * 8, self.parts[part])

    def signed(self, slot):
        """The header of a save with another time or another state, under a right nonce."""
        first = self.parts["super block"]
        start = int.from_bytes(_primary(first), "little") + 1
        volume_nonce = _nonce(start, struct.pack("<QQ", 3, 0))
        block = bytearray(self.parts[f"header {slot}"])
        at = 24 + 24 * int.from_bytes(block[20:22], "little")
        if at + 64 > BLOCK:
            return bytes(block)
        stamp = struct.pack("<QQIIQ", *struct.unpack_from("<Q", block, at), 0, 1, 0, _SAVES[slot])
        block[at + 8:at + 16] = _nonce(int.from_bytes(volume_nonce, "little") + 1, stamp)
        return bytes(block)


def _changed(data, chance, fields):
    """One of these fields of eight bytes gets a value that it should not have."""
    block = bytearray(data)
    at = chance.choice(fields)
    value = chance.choice((0, 1, 3, 1024, 1 << 20, 1 << 40, 1 << 56, (1 << 64) - 1))
    block[at:at + 8] = value.to_bytes(8, "little")
    return bytes(block)


def _hit(index, name, how, chance):
    """Damage one part of it, on the disk."""
    slots = [part for part in _KEPT if part.rstrip(" 01") == name]
    part = chance.choice(slots)
    slot = _KEPT[part].start >= _SAVES[1]
    data, at = index.parts[part], 0
    pages = [page for page in range(len(_KEPT[part])) if any(data[page * BLOCK:][:BLOCK])] or [0]
    page = chance.choice(pages)
    block = data[page * BLOCK:(page + 1) * BLOCK]
    if how == "signed" and name == "header":
        # Time, newest, oldest: the state is behind four or more regions.
        start = 24 + 24 * int.from_bytes(block[20:22], "little")
        changed = Index(index.image, index.parts | {
            part: _changed(block, chance, [start, start + 32, start + 40])})
        data, at = changed.signed(int(slot)), 0
    elif how == "signed" and name == "super block":
        block = _changed(block, chance, (224, 280, 288, 56 + 24 * 3, 56 + 24 * 4))
        data, at = block[:256] + _primary(block) + block[264:], 0
    elif how == "zeroes":
        data, at = bytes(BLOCK), page
    elif how == "noise":
        data, at = chance.randbytes(BLOCK), page
    elif how == "torn":
        # What was written last is not there.
        data, at = bytes(len(data) - page * BLOCK), page
    elif how == "older" and len(slots) == 2:
        # A part of the other save.
        data = index.parts[slots[0] if part == slots[1] else slots[1]]
    elif how == "moved" and len(pages) > 1:
        other = chance.choice(pages)
        data, at = data[other * BLOCK:(other + 1) * BLOCK], page
    else:
        data, at = damaged(block, chance), page
    with BlockFile(RAM0) as file:
        file.write((_KEPT[part].start + at) * 8, data)
    return f"{part}, block {at}, {how}"


def _fill():
    """A volume that knows a whole chapter, and a bit."""
    v = volume(ONE_SLAB)
    v.write(_OLD, _OLD_DATA)
    v.suspend()
    v.resume()
    v.becomes("index", "online")
    for first in range(100000, 100000 + _CHAPTER, 512):
        v.write(_OVER, uniques(first, 512))
    v.write(_NEW, _NEW_DATA)
    v.flush()
    return v


def _images():
    v = _fill()
    v.crash()
    crashed = Index.take("crashed")
    v = v.start()
    v.becomes("mode", "normal")
    v.write(_NEW, _NEW_DATA)
    v.remove(5)
    stopped = Index.take("stopped")
    v = v.start()
    v.write(_NEW, _NEW_DATA)
    v.remove(5)
    return [stopped, Index.take("twice"), crashed]


def _holds(v):
    v.holds(_OLD, _OLD_DATA)
    v.holds(_NEW, _NEW_DATA)


def _opened(v, log):
    """Wait until it is known what becomes of the index."""
    def known():
        return v.status_now().index in ("online", "error")

    until(known, "an index", 60, v.status)
    state = v.status_now().index
    assert state == "online" or log.has("Error opening index"), log.lines()[-16:]
    return state


def _use(v, first):
    """Data that is there, in the open chapter, in the sealed one, or was overwritten; and new data."""
    part = slice(0, 200 * BLOCK)
    data = _NEW_DATA[part] + _OLD_DATA[part] + uniques(100000, 50) + uniques(first, 50)
    for at in range(0, 500, 25):
        v.write(2000 + at, data[at * BLOCK:(at + 25) * BLOCK])
    v.flush()
    v.holds(2000, data)
    v.write(_NEW, unique(first + 60))
    v.write(_NEW, unique(_NEW))
    _holds(v)
    assert v.status_now().mode == "normal", v.status()
    return data


def _trial():
    log = Log()
    try:
        v = Volume(ONE_SLAB)
        states = [_opened(v, log)]
        _holds(v)
        data = _use(v, 300000)
        v.suspend()
        v.resume()
        data = _use(v, 310000)
        v.remove(20)
        v = Volume(ONE_SLAB)
        v.becomes("mode", "normal")
        states.append(_opened(v, log))
        v.holds(2000, data)
        _holds(v)
        v.remove(20)
    finally:
        log.close()
    return " ".join(states)


def main():
    seed, trials = options()
    print(f"# damaged indexes: {trials}, seed {seed}, {IMPL}", flush=True)
    prepare()
    with watchdog("making the volumes", 900):
        images = _images()
    failed, ways = 0, {}
    for number in range(trials):
        chance = random.Random(f"{seed} {number}")
        name = _NAMES[number % len(_NAMES)]
        index = chance.choice(images)
        index.put()
        what = f"trial {number}, seed {seed}: {index.image.name}, "
        what += _hit(index, name, chance.choice(_WAYS), chance)
        try:
            with watchdog(what, 240):
                way = _trial()
        except Exception as error:
            failed += 1
            print(f"FAIL {what}: {type(error).__name__}: {error}", flush=True)
        else:
            key = f"{name}: {way}"
            ways[key] = ways.get(key, 0) + 1
        remove_all()
    for key in sorted(ways):
        print(f"# {ways[key]:3} {key}")
    print(f"{trials - failed} passed, {failed} failed", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
