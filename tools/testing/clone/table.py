# SPDX-License-Identifier: GPL-2.0

"""Cases 1-25: the table line, what it accepts and how it refuses."""

import os
import subprocess

from errno import EBUSY
from errno import EINVAL
from errno import ENOENT
from errno import ENOSPC
from errno import EPERM
from errno import EROFS

from clone.rig import Clone
from clone.rig import IDLE
from clone.rig import META
from clone.rig import REGIONS
from clone.rig import Rig
from clone.rig import SECTORS
from clone.rig import commit
from clone.rig import fails
from clone.rig import holds
from clone.rig import old
from clone.rig import parse
from clone.rig import same
from clone.rig import source
from clone.rig import user
from clone.suite import case
from clone.suite import expect
from lib.devices import Layer
from lib.devices import Loop
from lib.devices import remove_all
from lib.devices import until
from lib.machine import HUGE_PAGES
from lib.runner import equal

_REGION = "Invalid region size"
_FEATURES = "Invalid number of feature arguments"
_CORE = "Invalid number of core arguments"


def dmsetup(*arguments):
    """The tool itself; returns (exit status, output)."""
    environment = dict(os.environ, DM_DISABLE_UDEV="1")
    done = subprocess.run(["dmsetup", *arguments], env=environment, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    return done.returncode, done.stdout


@case(1, "0 or 3 arguments")
def _():
    rig = Rig(fill=False)
    devices = f"{rig.meta.number} {rig.dest.number} {rig.src.number}"
    rig.refuse(EINVAL, "Invalid number of arguments", table=f"0 {SECTORS} clone")
    rig.refuse(EINVAL, "Invalid number of arguments", table=f"0 {SECTORS} clone {devices}")
    status, output = dmsetup("create", "refused", "--table", f"0 {SECTORS} clone {devices}")
    assert status != 0 and "Invalid argument" in output, output


@case(2, "a device that does not exist")
def _():
    rig = Rig(fill=False)
    for at, text in enumerate(("metadata", "destination", "source")):
        paths = [rig.meta.path, rig.dest.path, rig.src.path]
        paths[at] = "/dev/missing"
        rig.refuse(ENOENT, f"Error opening {text} device",
                   table=f"0 {SECTORS} clone {' '.join(paths)} {IDLE}")


@case(3, "destination opened exclusively by somebody else")
def _():
    rig = Rig(fill=False)
    holder = os.open(rig.dest.path, os.O_RDWR | os.O_EXCL)
    try:
        rig.refuse(EBUSY, "Error opening destination device")
    finally:
        os.close(holder)


@case(4, "region sizes outside the range")
def _():
    rig = Rig(fill=False)
    for size in (0, 4, 7, 2097153, 4194304):
        rig.refuse(EINVAL, _REGION, rest=f"{size} 1 no_hydration")


@case(5, "region sizes that are no numbers")
def _():
    rig = Rig(fill=False)
    for size in ("abc", "8x", "-8", "+8", "0x8", "99999999999999999999"):
        rig.refuse(EINVAL, _REGION, rest=f"{size} 1 no_hydration")


@case(6, "region sizes that are no powers of two")
def _():
    rig = Rig(fill=False)
    for size in (12, 24):
        rig.refuse(EINVAL, "Region size is not a power of 2", rest=f"{size} 1 no_hydration")


@case(7, "leading zeros; a region size beyond 32 bits",
      differs="`4294967304` → err EINVAL \"Invalid region size\"")
def _():
    rig = Rig(fill=False)
    clone = rig.create("08 1 no_hydration")
    equal(clone.state().region_size, 8)
    assert " 08 1 no_hydration" in clone.table()[0], clone.table()
    clone.remove()
    rig.blank()
    wide = "4294967304 1 no_hydration"
    if expect(c=True, rust=False):
        clone = rig.create(wide)
        equal(clone.state().region_size, 8)
        assert wide in clone.table()[0], clone.table()
    else:
        rig.refuse(EINVAL, _REGION, rest=wide)


@case(8, "one region larger than the device")
def _():
    state = Rig(fill=False).create("2097152 1 no_hydration").state()
    equal((state.hydrated, state.regions), (0, 1))


@case(9, "logical blocks larger than the region", needs=HUGE_PAGES)
def _():
    rig = Rig(fill=False)
    for block in (8192, 16384):
        size = block // 512
        with Loop(SECTORS, block) as loop:
            devices = ((rig.dest.number, loop.path), (loop.path, rig.src.number))
            for pair in devices:
                table = f"0 {SECTORS} clone {rig.meta.number} {' '.join(pair)}"
                rig.refuse(EINVAL, "Region size is not a multiple of device logical block size",
                           table=f"{table} {IDLE}")
                rig.blank()
                clone = Clone("clone", f"{table} {size} 1 no_hydration")
                equal(clone.state().regions, SECTORS // size)
                equal(clone.queue("logical_block_size"), str(block))
                clone.remove()


@case(10, "too many regions, and more than the metadata can hold")
def _():
    huge = 17179869184
    rig = Rig(dest=huge, src=huge, fill=False)
    rig.refuse(EINVAL, "Too many regions. Consider increasing the region size", length=huge + 8)
    rig.refuse(ENOSPC, "Failed to resize on-disk bitset to 2147483648 entries",
               "Failed to load metadata", length=huge)


@case(10, "the largest number of regions", long=True)
def _():
    huge = 17179869184
    rig = Rig(meta=2097152, dest=huge, src=huge, fill=False)
    state = rig.create(length=huge).state()
    equal((state.used, state.blocks, state.hydrated, state.regions),
          (66212, 262144, 0, 2147483648))


@case(11, "feature arguments")
def _():
    rig = Rig(fill=False)
    for words in ("x", "-1", "3", "3 no_hydration no_hydration no_hydration", "1",
                  "2 no_hydration"):
        rig.refuse(EINVAL, _FEATURES, rest=f"8 {words}")
    rig.refuse(EINVAL, "Invalid feature argument", rest="8 1 bogus")
    rig.refuse(EINVAL, _CORE, rest="8 1 no_hydration extra")
    both = ("no_hydration", "no_discard_passdown")
    for words, features in (("0", ()), ("1 NO_HYDRATION", both[:1]),
                            ("2 no_hydration no_hydration", both[:1]),
                            ("2 no_hydration no_discard_passdown", both),
                            ("2 no_discard_passdown no_hydration", both)):
        clone = rig.create(f"8 {words}")
        equal(clone.state().features, features, words)
        clone.remove()


@case(12, "core arguments")
def _():
    rig = Rig(fill=False)
    for words in ("1", "x", "2 hydration_threshold",
                  "6 hydration_threshold 1 hydration_threshold 1 hydration_threshold 1"):
        rig.refuse(EINVAL, _CORE, rest=f"8 0 {words}")
    for words in ("1 hydration_threshold", "3 hydration_threshold 4 hydration_batch_size"):
        rig.refuse(EINVAL, "Number of core arguments must be even", rest=f"8 0 {words}")
    rig.refuse(EINVAL, "Invalid core argument", rest="8 0 2 bogus 4")
    for value in ("x", "-1", "4294967296", "0x10"):
        for key in ("hydration_threshold", "hydration_batch_size"):
            rig.refuse(EINVAL, f"Invalid value for argument `{key}'", rest=f"8 0 2 {key} {value}")
    rig.create("8 0 0").remove()
    for words, threshold in (("2 hydration_threshold 4294967295", 4294967295),
                             ("2 hydration_threshold 0", 0),
                             ("2 hydration_threshold +7", 7),
                             ("2 hydration_threshold 010", 10),
                             ("2 HYDRATION_threshold 5", 5),
                             ("4 hydration_threshold 3 hydration_threshold 9", 9)):
        clone = rig.create(f"8 1 no_hydration {words}")
        equal(clone.state().threshold, threshold, words)
        clone.remove()


@case(13, "surplus arguments")
def _():
    clone = Rig(fill=False).create("8 0 2 hydration_threshold 5 trailing junk")
    equal(clone.state().threshold, 5)
    assert clone.table()[0].endswith(" 8 0 2 hydration_threshold 5 trailing junk"), clone.table()


@case(14, "lengths that are no multiple of the region size")
def _():
    rig = Rig(fill=False)
    equal(rig.create(length=131071).state().regions, REGIONS)
    for length, size in ((1, 8), (1000, 4096)):
        rig = _again(rig)
        clone = rig.create(f"{size} 0", length)
        clone.finish()
        equal(clone.state().regions, 1)
        holds(clone, 0, source(0, length))


def _again(rig):
    """The same layers, with new metadata and no clone."""
    for clone in [device for device in Clone.live if isinstance(device, Clone)]:
        clone.remove()
    rig.blank()
    return rig


@case(15, "devices as major:minor and as paths; the lines that dmsetup prints")
def _():
    rig = Rig(fill=False)
    table = f"0 {SECTORS} clone {rig.meta.path} {rig.dest.path} {rig.src.path} {IDLE}"
    clone = Clone("clone", table)
    equal(clone.table(), [rig.table()])
    clone.remove()
    status, output = dmsetup("create", "tool", "--table", rig.table())
    equal(status, 0, output)
    equal(dmsetup("table", "tool"), (0, rig.table() + "\n"))
    line = (f"0 {SECTORS} clone 8 6/4096 8 0/{REGIONS} 0 1 no_hydration 4 hydration_threshold 1"
            " hydration_batch_size 1 rw\n")
    equal(dmsetup("status", "tool"), (0, line))
    equal(dmsetup("message", "tool", "0", "enable_hydration")[0], 0)
    equal(dmsetup("remove", "--retry", "tool"), (0, ""))


@case(16, "a device that is too short",
      differs="the length is checked before anything is formatted: EINVAL, text \"Destination "
              "device is too small\" or \"Source device is too small\" beside a log line with "
              "both sizes")
def _():
    for short, word in (("src", "Source"), ("dest", "Destination")):
        rig = Rig(fill=False)
        layer = getattr(rig, short)
        layer.resize(65536)
        texts = expect(c=["too small for target: start=0, len=131072, dev_size=65536"],
                       rust=[f"{word} device is too small"])
        rig.refuse(EINVAL, *texts)
        rig.log.require("131072")
        rig.log.require("65536")
        remove_all()


@case(17, "a table shorter than the destination")
def _():
    rig = Rig(src=65536)
    clone = rig.create("8 0 2 hydration_threshold 64", 65536)
    clone.finish()
    equal(clone.state().regions, 8192)
    with rig.dest.open() as dest:
        same(dest.read(0, 65536), source(0, 65536))
        same(dest.read(65536, 65536), old(65536, 65536))


@case(18, "devices set read-only",
      differs="META or DEST set read-only → err EROFS \"Metadata device is read-only\" / "
              "\"Destination device is read-only\"")
def _():
    for role, text in (("meta", "Metadata"), ("dest", "Destination"), ("src", None)):
        rig = Rig()
        with getattr(rig, role).open() as file:
            file.set_readonly(True)
        if text and expect(c=False, rust=True):
            rig.refuse(EROFS, f"{text} device is read-only")
        else:
            clone = rig.create()
            with clone.open() as file:
                file.write(8, user(8, 9))
                file.flush()
                same(file.read(0, 24), source(0, 8) + user(8, 9) + source(17, 7))
            equal(clone.state().hydrated, 2)
            if text:
                rig.log.require("Trying to write to read-only block-device")
            clone.remove()
        remove_all()


@case(19, "a read-only mapping",
      differs="`-r` mapping: existing metadata only (blank META → err EROFS \"Failed to load "
              "metadata\"); no hydration, no commit, META and DEST byte-identical afterwards")
def _():
    rig = Rig()
    if expect(c=False, rust=True):
        rig.refuse(EROFS, "Failed to load metadata", rest="8 0", readonly=True)
        clone = rig.create()
        with clone.open() as file:
            file.write(80, user(80, 8))
        clone.remove()
        with rig.meta.open() as meta, rig.dest.open() as dest:
            before = meta.read(0, META), dest.read(0, SECTORS)
        rig.forget()
        clone = rig.create("8 0", readonly=True)
        holds(clone, 72, source(72, 8) + user(80, 8) + source(88, 8))
        _refuses_writes(clone)
        equal(clone.state().hydrated, 1)
        clone.remove()
        with rig.meta.open() as meta, rig.dest.open() as dest:
            assert (meta.read(0, META), dest.read(0, SECTORS)) == before
        equal((rig.meta.counts.writes, rig.dest.counts.writes), (0, 0))
    else:
        clone = rig.create("8 0 2 hydration_threshold 64", readonly=True)
        clone.finish()
        equal(clone.state().hydrated, REGIONS)
        _refuses_writes(clone)


def _refuses_writes(clone):
    with clone.open() as file:
        fails(EPERM, file.write, 0, user(0, 8))


@case(20, "the right length after a wrong one",
      differs="the right length then works")
def _():
    rig = Rig(fill=False)
    rig.dest.resize(65536)
    rig.refuse(EINVAL)
    if expect(c=True, rust=False):
        rig.refuse(EINVAL, "Region and/or target size don't match the ones in metadata",
                   "Failed to load metadata", length=65536)
    else:
        equal(rig.create(length=65536).state().regions, 8192)


_DISTINCT = "Metadata, destination and source must be different devices"


@case(21, "metadata and destination are one device",
      differs=f"err EINVAL \"{_DISTINCT}\"")
def _():
    rig = Rig()
    table = f"0 {SECTORS} clone {rig.dest.number} {rig.dest.number} {rig.src.number} {IDLE}"
    with rig.dest.open() as dest:
        dest.zero(0, 8)
    if expect(c=True, rust=False):
        state = Clone("clone", table).state()
        equal((state.used, state.blocks, state.hydrated), (7, 16384, 0))
    else:
        rig.refuse(EINVAL, _DISTINCT, table=table)


@case(22, "destination and source are one device",
      differs=f"err EINVAL \"{_DISTINCT}\"")
def _():
    rig = Rig(fill=False)
    table = f"0 {SECTORS} clone {rig.meta.number} {rig.dest.number} {rig.dest.number} {IDLE}"
    if expect(c=True, rust=False):
        equal(Clone("clone", table).state().hydrated, 0)
    else:
        rig.refuse(EINVAL, _DISTINCT, table=table)


@case(23, "two clones on one metadata device",
      differs="err EBUSY \"Metadata device is already in use\" (a reload of the same mapped "
              "device is not that)")
def _():
    rig = Rig(fill=False)
    clone = rig.create()
    if expect(c=True, rust=False):
        rig.create(name="second").remove()
    else:
        rig.refuse(EBUSY, "Metadata device is already in use")
        clone.suspend()
        clone.load(rig.table())
        clone.resume()
        commit(clone)


@case(24, "two clones of one source")
def _():
    rig = Rig(meta=META // 2, dest=SECTORS // 2)
    meta = Layer("meta2", rig.meta.below, META // 2, META // 2)
    dest = Layer("dest2", rig.dest.below, SECTORS // 2, SECTORS // 2)
    half = SECTORS // 2
    rest = "8 0 2 hydration_threshold 64"
    first = rig.create(rest, half)
    second = Clone("second", f"0 {half} clone {meta.number} {dest.number} {rig.src.number} {rest}")
    with second.open() as file:
        file.write(800, user(800, 8))
    for clone in (first, second):
        clone.finish()
    holds(first, 0, source(0, half))
    holds(second, 0, source(0, 800) + user(800, 8) + source(808, half - 808))


@case(25, "a table of two clones and a linear target")
def _():
    rig = Rig(meta=META // 2, dest=65536, src=65536)
    meta = Layer("meta2", rig.meta.below, META // 2, META // 2)
    dest = Layer("dest2", rig.dest.below, 65536, 65536)
    src = Layer("src2", rig.src.below, 65536)
    table = "\n".join((
        rig.table(length=65536),
        f"65536 65536 clone {meta.number} {dest.number} {src.number} 16 1 no_hydration",
        f"131072 1024 linear {rig.src.below} 0"))
    clone = Clone("clone", table)
    lines = clone.status()
    equal(len(lines), 3)
    equal([parse(line).regions for line in lines[:2]], [8192, 4096])
    # The second clone begins at 32 MiB; its own sector 8 is the source's.
    holds(clone, 65536 + 8, source(8, 8))
    with clone.open() as file:
        file.discard(65536 - 32, 64)
    equal([parse(line).hydrated for line in clone.status()[:2]], [4, 2])
    clone.message("hydration_threshold 9", 65536)
    equal([parse(line).threshold for line in clone.status()[:2]], [1, 9])
    clone.message("enable_hydration", 65536)
    until(lambda: parse(clone.status()[1]).hydrated == 4096, "the second clone's hydration")
    equal(parse(clone.status()[0]).hydrated, 4)
