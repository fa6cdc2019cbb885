# SPDX-License-Identifier: GPL-2.0

"""A: the table line, what it accepts and how it refuses."""

import os

from errno import EINVAL
from errno import EIO
from errno import ENOMEM

from lib import dm
from lib.blockio import BlockFile
from lib.devices import Layer
from lib.runner import equal
from vdo.data import BLOCK
from vdo.data import same
from vdo.data import unique
from vdo.rig import Below
from vdo.rig import DEFAULT
from vdo.rig import RAM0
from vdo.rig import RAM1
from vdo.rig import SMALL
from vdo.rig import Volume
from vdo.rig import blank
from vdo.rig import disks
from vdo.rig import is_blank
from vdo.rig import logging
from vdo.rig import on_disk
from vdo.rig import put
from vdo.rig import refused
from vdo.rig import state_word
from vdo.rig import tool
from vdo.rig import volume
from vdo.suite import DEDUPE
from vdo.suite import IMPL
from vdo.suite import Session
from vdo.suite import case
from vdo.suite import expect
from vdo.suite import outcome

_P = f"{RAM0} 2097152 4096 32768"
_OLD = "4096 disabled 0 32768 16380 on auto vdopool ."
_V0 = f"{RAM0} {_OLD}"
_V1 = f"V1 {RAM0} 2097152 {_OLD}"
_V4 = f"V4 {_P} 16380"
_MISMATCH = ("Detected version mismatch between kernel module and tools kernel: 4, tool: {}",
             "Please consider upgrading management tools to match kernel.")

_COUNT = "Incorrect number of arguments for version"
_VERSION = "Unknown version number detected"
_OPTION = "Invalid optional argument configuration"
_LOAD = "Cannot load metadata from device"
_PHYSICAL = "Invalid physical block count"
_SIZE = "Invalid logical block size"
_CACHE = "Invalid block map page cache size"
_ERA = "Invalid block map maximum age"


def _line(words, length=2097152):
    return f"0 {length} vdo {words}".rstrip()


def _off(words):
    """Without an index the table says so where it can."""
    optional = words.startswith(("V2", "V3", "V4", "V04"))
    return words if DEDUPE or not optional or "deduplication" in words else \
        f"{words} deduplication off"


session = Session("A", disks)


def _accepted(words, *texts, used=1049284, threads=8, warns=None, check=None, never=(),
              status=None, length=2097152):
    """Create, look, remove."""
    line = _line(_off(words), length)
    lines = [text.format(warns) for text in _MISMATCH] if warns is not None else []
    if warns is None:
        never = (*never, "version mismatch")
    if threads:
        lines.append(f"total threads: {threads}")
    with logging(*lines, *texts, never=never):
        v = Volume(line)
        try:
            equal(v.table(), [line])
            shown = v.status(noflush=True)[0].split(" ", 4)[4]
            index = shown.split()[2]
            # Of the old lines none can say that there is to be no index.
            allowed = ("closed", "opening", "online" if DEDUPE else "error")
            known = index if index in allowed else " or ".join(allowed)
            equal(shown, status or f"normal - {known} offline {used} 2097152")
            if check:
                check(v)
        finally:
            v.remove(5)


def _ok(name, words, *texts, **how):
    session.row(name, f"accepted: {words}")(lambda _: _accepted(words, *texts, **how))


def _bad(name, words, *texts, code=EINVAL, title=None, length=2097152):
    def run(_):
        for one in (words if isinstance(words, tuple) else (words,)):
            refused(_line(one, length), code, *texts)
    first = words if isinstance(words, str) else " | ".join(words)
    session.row(name, f"refused: {title or first}")(run)


def _options(name, *options):
    """Optional words that are refused, each with the line that the log has beside."""
    def run(_):
        for words, text in options:
            refused(_line(f"{_V4} {words}"), EINVAL, _OPTION,
                    *([text] if text else []), "parsing failed")
    title = " | ".join(words for words, _ in options)
    session.row(name, f"refused: {title}")(run)


def _queue(limit, value):
    return lambda v: equal(v.queue(limit), str(value))


def _config(v):
    wanted = " slabSize : 524288, index :  { memorySize : 0.25, isSparse : 0, }, }"
    assert v.message("config").endswith(wanted), v.message("config")


_ok("A1", _V0, warns=0)
_ok("A2", _V0[:-1] + "ack=1,bio=2,cpu=1,hash=1,logical=1,physical=1",
    "zones: 1 logical, 1 physical, 1 hash; total threads: 10", warns=0, threads=None)
_bad("A3", _V0[:-1] + "ack=1,bio", "Invalid thread-count configuration",
     'thread config string error: expected thread parameter assignment, saw "bio"')
_bad("A4", _V0[:-1] + "ack=x", "Invalid thread-count configuration",
     'thread config string error: integer value needed, found "x"')
_bad("A5", _V0[:-2], _COUNT)
_bad("A6", f"V0 {_V0}", _VERSION)
_ok("A7", _V1, warns=1)
_bad("A8", f"{_V1} extra", _COUNT)
_ok("A9", f"V2 {_P} 16380 on auto vdopool maxDiscard 2 ack 1", warns=2)
_bad("A10", f"V2 {_P} 16380 on auto", _COUNT)
_ok("A11", f"V3 {_P} 16380 auto maxDiscard 2", warns=3)
_bad("A12", f"V3 {_P} 16380", _COUNT)
_ok("A13", _V4)
_ok("A14", f"V4x {_P} 16380")
_ok("A15", f"V04 {_P} 16380")
_bad("A16", f"v4 {_P} 16380", _COUNT)
_bad("A17", f"V {_P} 16380", _COUNT)
_bad("A18", f"V5 {_P} 16380", _VERSION)
_ok("A19", f"V4294967300 {_P} 16380")


@session.row("A20", "the largest logical size, with less memory than its map takes")
def _(_):
    line = _line(_off(_V4), 8796093022208)
    if expect(c=True, rust=False):
        refused(line, ENOMEM, _LOAD, "Could not allocate 6933507840 bytes for new forest pages")
        return
    try:
        Volume(line).remove(5)
    except OSError as error:
        equal(error.errno, ENOMEM)
    blank()


_bad("A21", _V4, "Logical size exceeds the maximum", length=8796093022216)
_bad("A22", _V4, "Logical size must be a multiple of 4096", length=2097156)


@session.row("A23", "refused: a start that is not 0")
def _(_):
    refused(f"8 2097152 vdo {_V4}", EINVAL, "Gap in table")


_bad("A24", f"V4 {RAM0} -5 4096 32768 16380", _PHYSICAL)
_ok("A25", f"V4 {RAM0} +2097152 4096 32768 16380")
_bad("A26", f"V4 {RAM0} 0x200000 4096 32768 16380", _PHYSICAL)
_bad("A27", f"V4 {RAM0} 2097152 04096 32768 16380", _SIZE)
_ok("A28", f"V4 {RAM0} 2097152 512 32768 16380")


@session.row("A29", "a cache of no page")
def _(_):
    line = _line(f"V4 {RAM0} 2097152 4096 0 16380")
    if expect(c=True, rust=False):
        refused(line, EIO, _LOAD, "1028")
    else:
        refused(line, (EINVAL, EIO), never=("Call Trace",))


_ok("A30", f"V4 {RAM0} 2097152 4096 1 16380")
_ok("A31", f"V4 {RAM0} 2097152 4096 128 16380")
_bad("A32", f"V4 {RAM0} 2097152 4096 4294967296 16380", _CACHE)
_ok("A33", f"V4 {_P} 1")
_ok("A34", f"V4 {_P} 22855")
_bad("A35", f"V4 {_P} 22856", _LOAD, "maximum age: 16379 exceeds limit 16378")
_bad("A36", f"V4 {_P} 4294967295", _LOAD, "maximum age: 3077730021 exceeds limit 16378")
_ok("A37", f"{_V4} bogus 7", 'unknown thread parameter type "bogus"')
_options("A38", ("bogus seven", 'integer value needed, found "seven"'))
_options("A39", ("bogus 101", "at most 100 'bogus' threads are allowed"))
_ok("A40", f"{_V4} ack 0", threads=7)
_ok("A41", f"{_V4} ack 100")
_options("A42", ("ack 101", "at most 100 'ack' threads are allowed"))
_ok("A43", f"{_V4} maxDiscard 1048575")
_ok("A44", f"{_V4} maxDiscard 2 maxDiscard 3", check=_queue("discard_max_bytes", 12288))
_ok("A45", f"{_V4} MaxDiscard 2", 'unknown thread parameter type "MaxDiscard"')
_ok("A46", f"{_V4} deduplication off compression on",
    status="normal - closed online 1049284 2097152")
_ok("A47", f"{_V4} hash 1 logical 8 physical 1", threads=19)
_ok("A48", f"V4 {RAM0} 2097152 4096 36864 16380 hash 1 logical 9 physical 1", threads=20)
_bad("A49", f"{_V4} hash 1 logical 1 physical 4", _LOAD,
     "4 physical zones exceeds slab count 2")
_bad("A50", f"{_V4} hash 1 logical 1 physical 3", _LOAD,
     "3 physical zones exceeds slab count 2")
_ok("A51", f"{_V4} slabSize 8192", check=_config)
_ok("A52", f"{_V4} indexMemory 5 indexSparse on", check=_config)


def _by_number(v):
    equal(v.status_now().device, RAM0)


_ok("A53", "V4 1:0 2097152 4096 32768 16380", check=_by_number)


@session.row("A54", "refused: two targets")
def _(_):
    refused(f"{_line(_V4)}\n2097152 8 zero", EINVAL, "target type vdo must appear alone in table")


@session.row("A55", "a read-only table")
def _(_):
    v = Volume(_line(_off(_V4)), readonly=True)
    flags = v.info().flags
    assert flags & dm.READONLY and flags & dm.ACTIVE, hex(flags)
    v.remove(5)


@session.row("A56", "refused: storage that another volume uses")
def _(_):
    v = Volume(_line(_off(_V4)))
    refused(_line(_V4), EINVAL, "Cannot share storage device with already-running VDO",
            f"Existing vdo already uses device {RAM0}")
    v.remove(5)


_RAM1 = _line(f"V4 {RAM1} 2097152 4096 32768 16380")


@session.row("A57", "refused: storage that is mounted")
def _(_):
    tool("mkfs.ext4", "-q", "-F", RAM1, "200M")
    os.makedirs("/tmp/mnt", exist_ok=True)
    tool("mount", "-t", "ext4", RAM1, "/tmp/mnt")
    try:
        refused(_RAM1, EINVAL, "Unable to open storage device",
                f'couldn\'t open device "{RAM1}": error -16')
    finally:
        tool("umount", "/tmp/mnt")


@session.row("A58", "refused: storage with a file system")
def _(_):
    # Its first KiB is left to boot programs; there it differs from a blank disk.
    before = on_disk(RAM1, 0, 64)
    refused(_RAM1, EIO, "Could not parse geometry block",
            "Could not create VDO device. (VDO error 1487, message Could not parse geometry block)")
    assert on_disk(RAM1, 0, 64) == before
    tool("e2fsck", "-fn", RAM1)
    put(RAM1, 0, bytes(BLOCK))


@session.row("A61", "refused: hardly any words")
def _(_):
    blank()
    refused(_line(f"V4 {RAM0}"), EINVAL, _COUNT)
    refused(_line("V4"), EINVAL, _COUNT)
    assert is_blank()


@session.row("A62", "refused: no words")
def _(_):
    refused(_line(""), EINVAL, "Incorrect number of arguments")


_bad("A63", "V4 /dev/nonexist 2097152 4096 32768 16380", "Unable to open storage device",
     'couldn\'t open device "/dev/nonexist": error -2')
_bad("A64", f"V4 {RAM0} xx 4096 32768 16380", _PHYSICAL)
_bad("A65", f"V4 {RAM0} 2097152 1024 32768 16380", _SIZE)
_bad("A66", f"V4 {RAM0} 2097152 4096 abc 16380", _CACHE)
_bad("A67", f"V4 {_P} abc", _ERA)
_bad("A68", f"{_V4} foo",
     "Odd number of optional arguments given but they should be <key> <value> pairs")
_options("A69", ("ack x", 'integer value needed, found "x"'))
_bad("A70", f"{_V4} hash 1",
     "Logical, physical, and hash zones counts must all be zero or all non-zero")
_bad("A71", f"{_V4} hash 1 logical 9 physical 1",
     "Insufficient block map cache for logical zones")
_options("A72", ("hash 1 logical 61 physical 1", "at most 60 'logical' threads are allowed"))
_options("A73", ("hash 1 logical 1 physical 17", "at most 16 'physical' threads are allowed"))
_options("A74", ("hash 101 logical 1 physical 1", "at most 100 'hash' threads are allowed"))
_options("A75", ("cpu 0", "at least one 'cpu' thread required"))
_options("A76", ("bio 0", "at least one 'bio' thread required"))
_options("A77", ("bioRotationInterval 0",
                 "thread config string error:  'bioRotationInterval' of at least 1 is required"))
_options("A78", ("bioRotationInterval 1025",
                 "'bioRotationInterval' cannot be higher than 1024"))
_options("A79", ("maxDiscard 0", "at least one max discard block required"))
_options("A80", ("maxDiscard 1048576", "at most 1048575 max discard blocks are allowed"))
_options("A81", ("deduplication yes", None))
_options("A82", ("compression ON", None))
_options("A83", ("indexSparse maybe", None))


@session.row("A84", "refused: formatting with indexMemory 0")
def _(_):
    refused(_line(f"{_V4} indexMemory 0"), EINVAL,
            "Could not initialize volume geometry during format")
    assert is_blank(), "no longer blank"


_options("A85", ("indexMemory 1025", "invalid memory size, must not be greater than 1024"))
_options("A86", ("indexMemory 0.3", "invalid memory size, must be a positive integer"))
_SLAB = "invalid slab size, must be a power of two between 8192 and 8388608"
_options("A87", ("slabSize 4096", _SLAB), ("slabSize 12288", _SLAB), ("slabSize 16777216", _SLAB))


@session.row("A88", "refused: era 0, but the device is formatted by then")
def _(_):
    blank()
    refused(_line(f"V4 {_P} 0"), EINVAL, _LOAD, "maximum age must be greater than 0")
    assert on_disk(RAM0, 0).startswith(b"dmvdo001")


_ok("A89", f"V4 {_P} 16381")
_bad("A90", _V4, "Logical size must be a multiple of 4096", length=2097153)
_ok("A91", _V4, "Growing logical size: a logical size of 262145 blocks was specified, "
    "but that differs from the 262144 blocks configured", length=2097160)
_bad("A92", _V4, _LOAD, "A logical size of 262144 blocks was specified, "
     "but that differs from the 262145 blocks", code=EIO, title="a smaller logical size")


@session.row("A93", "refused: another physical size")
def _(_):
    for physical in (2097151, 2097153):
        refused(_line(f"V4 {RAM0} {physical} 4096 32768 16380", 2097160), EIO, _LOAD,
                f"A physical size of {physical} blocks was specified, not the 2097152 blocks")


_options("A94", ("slabSize x", "invalid slab size, must be a postive integer"))


@session.row("Z2", "a read-only table, and what it writes")
def _(_):
    blank()
    Volume(DEFAULT).ready().remove(5)
    before = state_word()
    log_free = expect(c=True, rust=False)
    try:
        v = Volume(DEFAULT, readonly=True)
    except OSError:
        assert not log_free
        equal(state_word(), before)
        return
    if log_free:
        equal((before, state_word()), (2, 0))
        BlockFile(v.path).close()
    else:
        equal(state_word(), before)
    v.remove(5)
    assert IMPL == "c" or state_word() == before


@case("Z2b", "a read-only table in the place of one in use, and back")
def _():
    b = Below()
    v = b.v
    users = Layer("users", v.path, 2048)
    with users.open() as file:
        file.write(0, unique(50))
        v.load(str(v.line), readonly=True)
        v.resume()
        b.layer.forget()
        # Device-mapper lets pass what another device sends.
        equal(outcome(file.write, 8, unique(51)), expect(c=0, rust=EIO))
        outcome(file.flush)
        equal(v.status_now().mode, expect(c="normal", rust="read-only"))
        same(v.read(0), unique(50))
        v.suspend()
        assert expect(c=True, rust=b.layer.counts.writes == 0)
        v.load(str(v.line))
        v.resume()
        equal(v.status_now().mode, "normal")
        file.write(8, unique(52))
        file.flush()
    users.remove()
    b.v = v.crashed()
    same(b.v.read(0, 2), unique(50) + unique(52))


@case("Z2c", "a read-only table after a suspend that saved nothing")
def _():
    v = volume(SMALL)
    v.write(0, unique(50))
    v.suspend(noflush=True)
    v.load(str(v.line), readonly=True)
    equal(outcome(v.resume), expect(c=0, rust=EIO))
    v.load(str(v.line))
    v.resume()
    same(v.read(0), unique(50))
    v.write(0, unique(51))
