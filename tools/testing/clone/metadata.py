# SPDX-License-Identifier: GPL-2.0

"""Cases 26-39: formatting, opening, and metadata that was tampered with."""

from errno import EILSEQ
from errno import EINVAL
from errno import EIO
from errno import ENODATA
from errno import ENOSPC
from errno import ENOTBLK

from clone.rig import IDLE
from clone.rig import META
from clone.rig import REGIONS
from clone.rig import Rig
from clone.rig import SECTORS
from clone.rig import SPARE_DISK
from clone.rig import commit
from clone.rig import fails
from clone.rig import user
from clone.suite import case
from clone.suite import expect
from lib import pdata
from lib.runner import equal
from lib.writelog import LogWrites

_LOAD = "Failed to load metadata"


def write_region(clone, region):
    with clone.open() as file:
        file.write(region * 8, user(region * 8, 8))


@case(26, "a format writes blocks 1 to 5, flushes, writes block 0, flushes")
def _():
    rig = Rig(fill=False)
    log = rig.use["meta"] = LogWrites("log", rig.meta.path, META, SPARE_DISK)
    equal(rig.create().status()[0],
          f"0 {SECTORS} clone 8 6/4096 8 0/{REGIONS} 0 1 no_hydration"
          " 4 hydration_threshold 1 hydration_batch_size 1 rw")
    steps = [set()]
    for entry in log.entries():
        if entry.flush:
            steps.append(set())
        else:
            first = entry.sector // 8
            steps[-1] |= set(range(first, first + entry.sectors // 8))
    equal(steps, [{1, 2, 3, 4, 5}, {0}, set()])


@case(27, "metadata devices of 1 to 12 blocks",
      differs="META of 3 to 9 blocks → err ENOSPC \"Failed to load metadata\", nothing written; "
              "from 10 on as C",
      # Out of space in the middle of an array, C's library loses a buffer.
      noise=r"dm-bufio\.c|leaked buffer|mm/sl[au]b|kmem_cache_destroy dm_bufio_buffer")
def _():
    rig = Rig(fill=False)
    for blocks in range(1, 13):
        rig.blank()
        rig.meta.resize(blocks * 8)
        rig.meta.forget()
        if blocks < expect(c=6, rust=10):
            rig.refuse(EINVAL if blocks < 3 else ENOSPC, _LOAD)
            if expect(c=False, rust=True):
                equal(rig.meta.counts.writes, 0)
            continue
        clone = rig.create()
        write_region(clone, 7)
        if blocks < 10:
            fails(EIO, commit, clone)
            state = clone.state()
            equal((state.mode, state.hydrated), ("ro", 0), f"{blocks} blocks")
        else:
            commit(clone)
            write_region(clone, 9)
            commit(clone)
            equal(rig.on_disk().bits, 1 << 7 | 1 << 9)
        clone.remove()


@case(28, "a metadata device of odd length, and one that is larger than can be used")
def _():
    rig = Rig(meta=101, fill=False)
    clone = rig.create()
    state = clone.state()
    equal((state.used, state.blocks), (6, 12))
    clone.remove()
    rig.blank()
    rig.meta.resize(17 << 21)
    state = rig.create().state()
    equal((state.used, state.blocks), (260, 4161600))
    rig.log.require("is larger than 33292800 sectors: excess space will not be used.")


@case(29, "a metadata device that grew, and one that shrank",
      differs="shrunk: as C, but what was acknowledged stays hydrated in memory, 12 regions")
def _():
    rig = Rig(meta=800, fill=False)
    rig.create().remove()
    rig.meta.resize(1600)
    clone = rig.create()
    equal((clone.state().used, clone.state().blocks), (6, 100))
    clone.remove()
    rig.meta.resize(400)
    clone = rig.create()
    equal((clone.state().used, clone.state().blocks), (6, 100))
    for region in range(11):
        write_region(clone, region)
        commit(clone)
    write_region(clone, 11)
    fails(EIO, commit, clone)
    state = clone.state()
    equal((state.mode, state.hydrated), ("ro", expect(c=11, rust=12)))


@case(30, "block 0 decides between format and open")
def _():
    rig = Rig(fill=False)
    for content, code in ((b"\xff" * 4096, ENOTBLK), (bytes(4095) + b"\1", EILSEQ)):
        with rig.meta.open() as meta:
            meta.write(0, content)
        rig.refuse(code, _LOAD)
    rig.blank()
    clone = rig.create()
    for region in range(20):
        write_region(clone, region)
    clone.remove()
    with rig.meta.open() as meta:
        meta.write(0, bytes(4096))
    equal(rig.create().state().hydrated, 0)


def _formatted():
    """A rig whose metadata was made and left."""
    rig = Rig(fill=False)
    rig.create().remove()
    return rig


@case(31, "superblock: number, magic, checksum, version")
def _():
    rig = _formatted()
    with rig.meta.open() as meta:
        good = meta.read(0, 8)
        for offset, form, value, sealed, code, text in (
                (8, "<Q", 1, True, ENOTBLK, "blocknr 1, expected 0"),
                (32, "<Q", 5, True, EILSEQ, "magic 5, expected 2331148132"),
                (0, "<I", 0x1234, False, EILSEQ, "expected 4660"),
                (40, "<I", 0, True, EINVAL, "version 0 found"),
                (40, "<I", 2, True, EINVAL, "version 2 found")):
            pdata.patch(meta, "superblock", 0, offset, form, value, sealed=sealed)
            rig.refuse(code, text, _LOAD)
            meta.write(0, good)


@case(32, "another region size or length than the metadata's")
def _():
    rig = _formatted()
    text = "Region and/or target size don't match the ones in metadata"
    rig.refuse(EINVAL, text, _LOAD, rest="16 1 no_hydration")
    for length in (SECTORS - 8, SECTORS - 1):
        rig.refuse(EINVAL, text, _LOAD, length=length)


@case(33, "flags and uuid are accepted and zeroed by the next commit")
def _():
    rig = _formatted()
    with rig.meta.open() as meta:
        pdata.patch(meta, "superblock", 0, 4, "<I", 1)
        pdata.patch(meta, "superblock", 0, 16, "<16s", b"0123456789abcdef")
    clone = rig.create()
    write_region(clone, 0)
    commit(clone)
    found = rig.on_disk().superblock
    equal((found.flags, found.uuid), (0, bytes(16)))


@case(34, "block counts that cannot be", differs="nr_blocks beyond the device → err EINVAL")
def _():
    rig = _formatted()
    with rig.meta.open() as meta:
        good = meta.read(0, 8)
        pdata.patch(meta, "superblock", 0, 44, "<Q", 99999999)
        if expect(c=True, rust=False):
            clone = rig.create()
            equal((clone.state().used, clone.state().blocks), (6, 99999999))
            write_region(clone, 3)
            commit(clone)
            clone.remove()
            rig.blank()
        else:
            rig.refuse(EINVAL, _LOAD)
        meta.write(0, good)
    if expect(c=True, rust=False):
        rig = _again(rig)
    with rig.meta.open() as meta:
        pdata.patch(meta, "superblock", 0, 52, "<Q", 4095)
    equal((rig.create().state().used, 4095), (4095, 4095))


def _again(rig):
    """Format once more."""
    rig.blank()
    rig.create().remove()
    return rig


@case(35, "index block, bitset root and array block that break the rules")
def _():
    rig = _formatted()
    super_ = rig.on_disk().superblock
    with rig.meta.open() as meta:
        image = meta.read(0, 64)
        array = int.from_bytes(meta.read(super_.root * 8, 8)[2048:2056], "little")
        for kind, number, offset, value, sealed, code in (
                ("index", super_.index, 0, 1, False, EILSEQ),
                ("index", super_.index, 8, 77, True, ENOTBLK),
                ("node", super_.root, 0, 1, False, EILSEQ),
                ("node", super_.root, 4, 4, True, EILSEQ),
                ("node", super_.root, 16, 253, True, EILSEQ),
                ("node", super_.root, 20, 300, True, EILSEQ),
                ("superblock", 0, 188, 5000, True, EIO),
                ("array", array, 0, 1, False, EILSEQ),
                ("array", array, 4, 508, True, EILSEQ),
                ("array", array, 8, 100, True, ENODATA)):
            pdata.patch(meta, kind, number, offset, "<I", value, sealed=sealed)
            try:
                rig.refuse(code, _LOAD)
            except AssertionError as error:
                raise AssertionError(f"{kind} {number}, {value} at {offset}: {error}") from error
            meta.write(0, image)
    equal(rig.create().state().hydrated, 0)


@case(36, "a damaged overflow tree is never read")
def _():
    rig = _formatted()
    with rig.meta.open() as meta:
        pdata.patch(meta, "node", rig.on_disk().superblock.overflow, 0, "<I", 1, sealed=False)
    clone = rig.create()
    write_region(clone, 5)
    commit(clone)
    equal((clone.state().hydrated, clone.mode), (1, "rw"))


@case(37, "a damaged bitmap block shows at the first commit")
def _():
    rig = _formatted()
    with rig.meta.open() as meta:
        index = meta.read(rig.on_disk().superblock.index * 8, 8)
        bitmap = int.from_bytes(index[16:24], "little")
        pdata.patch(meta, "bitmap", bitmap, 0, "<I", 1, sealed=False)
    clone = rig.create()
    write_region(clone, 5)
    fails(EIO, commit, clone)
    equal(clone.mode, "ro")
    rig.log.require("failed: error = -84")


@case(38, "bits behind the last region are ignored")
def _():
    rig = Rig(fill=False)
    clone = rig.create(IDLE, 800)
    write_region(clone, 0)
    clone.remove()
    with rig.meta.open() as meta:
        found = rig.on_disk()
        array, = [number for number, kind in found.kinds.items() if kind == "array"]
        pdata.patch(meta, "array", array, 32, "<Q", (1 << 64) - 1)
    state = rig.create(IDLE, 800).state()
    equal((state.hydrated, state.regions), (37, 100))


@case(39, "metadata that cannot be read")
def _():
    rig = Rig(fill=False)
    rig.meta.fail()
    rig.refuse(EIO, _LOAD)
