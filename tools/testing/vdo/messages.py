# SPDX-License-Identifier: GPL-2.0

"""C: messages, module parameters, and what the log says."""

import os
import re
import subprocess
import time

from errno import EINVAL

from lib import dm
from lib.devices import until
from lib.kmsg import Log
from lib.runner import equal
from vdo.blocks import CONFIG
from vdo.data import compressible
from vdo.rig import SMALL
from vdo.rig import SUSPENDED
from vdo.rig import Volume
from vdo.rig import blank
from vdo.rig import fails
from vdo.rig import logging
from vdo.rig import said
from vdo.rig import small
from vdo.rig import tool
from vdo.rig import volume
from vdo.stats import parse
from vdo.suite import DEDUPE
from vdo.suite import Session
from vdo.suite import case
from vdo.suite import expect

_LEVEL = "/sys/module/dm_vdo/parameters/log_level"

session = Session("C", lambda: [small()])


def _unknown(v, *messages):
    for text in messages:
        word = text.split()[0]
        with logging(f"unrecognized dmsetup message '{word}' received"):
            fails(EINVAL, v.message, text)


@session.row("C1", "compression on and off")
def _(box):
    v = box[0]
    for _ in range(2):
        with logging("compression is enabled"):
            v.message("compression on")
        equal(v.status_now().compression, "online")
    with logging("compression is disabled"):
        v.message("COMPRESSION OFF")
    equal(v.status_now().compression, "offline")


@session.row("C1b", "compression with other words")
def _(box):
    v = box[0]
    with logging("invalid argument 'maybe' to dmsetup compression message"):
        fails(EINVAL, v.message, "compression maybe")
    _unknown(v, "compression", "compression on off")


@case("CA1", "how hard blocks are compressed", lambda: volume(SMALL.adding("compression on")),
      needs="packer")
def _(v):
    if not expect(c=False, rust=True):
        _unknown(v, "compression-acceleration 4")
        return

    def dumps(words):
        with logging(f"compression: {words}"):
            v.message("dump")

    data = b"".join(compressible(key) for key in range(56))

    def took(lbn):
        before = v.counters()
        v.write(lbn, data)
        v.flush()
        v.holds(lbn, data)
        return v.counters()["frag"] - before["frag"]

    dumps("on, acceleration 1")
    with logging("compression acceleration is 4"):
        v.message("compression-acceleration 4")
    # Neither an error nor a resume changes it, nor does `compression`.
    for word in ("0", "4097", "much", "-1"):
        with logging(f"invalid argument '{word}' to dmsetup compression-acceleration message: not a "
                     "number from 1 to 4096"):
            fails(EINVAL, v.message, f"compression-acceleration {word}")
    _unknown(v, "compression-acceleration", "compression-acceleration 1 2", "compression on 2")
    dumps("on, acceleration 4")
    v.message("compression off")
    dumps("off, acceleration 4")
    v.message("compression on")
    v.suspend()
    v.resume()
    v.becomes("index", "online")
    dumps("on, acceleration 4")
    equal(v.table(), [str(v.line)])
    # It reaches the compressor.
    assert took(0) > 0
    v.message("compression-acceleration 4096")
    v.message("index-close")
    v.becomes("index", "closed")
    equal(took(1000), 0)
    v.message("compression-acceleration 1")
    assert took(2000) > 0
    # It is not of the volume.
    v = v.again()
    dumps("on, acceleration 1")


@session.row("C2", "unknown messages")
def _(box):
    _unknown(box[0], "bogus", "bogus a b c", "stats x", "config x", "index-close x", "index-foo",
             "dump-on-shutdown x")


@session.row("C2b", "the case of names does not matter")
def _(box):
    v = box[0]
    equal(list(parse(v.message("STATS"))), list(parse(v.message("stats"))))
    equal(v.message("Config"), CONFIG)


@session.row("C3", "index-disable and index-enable", needs="index")
def _(box):
    v = box[0]
    for word, state in (("index-disable", "offline"), ("index-enable", "online")):
        with logging(f"Setting UDS index target state to {state}"):
            v.message(word)
            v.becomes("index", state)


@session.row("C3b", "index-close, and enabled again", needs="index")
def _(box):
    v = box[0]
    with logging("Setting UDS index target state to closed", "beginning save", "finished save"):
        v.message("index-close")
        v.becomes("index", "closed")
    with logging("loading or rebuilding index", "loaded index from chapter 0 through chapter 0"):
        v.message("index-enable")
        v.becomes("index", "online")


@session.row("C3c", "index-create", needs="index")
def _(box):
    v = box[0]
    v.message("index-close")
    v.becomes("index", "closed")
    for _ in range(2):
        with logging("creating index"):
            v.message("index-create")
            until(lambda: v.status_now().index == "online", "online", 60)
            # Created while online: first it closes.
            time.sleep(0.2)
            v.becomes("index", "online")
        equal(v.stats()["index.entriesIndexed"], 0)


def _dump(v, message, first="vdo dump triggered via dmsetup message"):
    log = Log()
    v.message(message)
    said(log, "end of")
    lines = [line for line in log.lines() if "vdo" in line or "data_vios" in line or "of" in line]
    assert lines[0].endswith(first), lines[0]
    assert re.search(r"\d+ device requests outstanding \(max \d+\), \d+ bio requests outstanding, "
                     rf"device '{v.number}'", lines[1]), lines[1]
    # The prefix of a line is the core's.
    assert re.search(r"end of .*vdo dump$", lines[-1]), lines[-1]
    log.close()
    return lines


@session.row("C4", "dumps")
def _(box):
    v = box[0]
    for message in ("dump", "dump all", "dump queues", "dump threads", "dump viopool",
                    "dump pools", "dump vdo", "dump default", "dump QUEUESxyz", "DUMP vdo"):
        lines = _dump(v, message)
        if message == "dump all":
            for text in (r"UDS index: state: ", r"struct hash_zone 0: mapSize=\d+",
                         r"data_vios: \d+ of 2048 busy \(max \d+\), no waiters",
                         r"discard permits: \d+ of 1536 busy \(max \d+\), "):
                assert any(re.search(text, line) for line in lines), text


@session.row("C5", "a dump of something unknown")
def _(box):
    v = box[0]
    for words in ("dump bogus", "dump queues bogus"):
        with logging("dump option name 'bogus' unknown", never=("dump triggered",)):
            fails(EINVAL, v.message, words)


@session.row("C6", "dump-on-shutdown")
def _(box):
    v = box[0]
    v.message("dump-on-shutdown")
    log = Log()
    v.remove()
    log.require("stopping device", "dump triggered via device shutdown", "end of", "stopped")
    log.close()
    box[0] = v.start()


@session.row("C7", "a message to the core")
def _(box):
    with logging("Unsupported message sent to DM core: @0"):
        fails(EINVAL, box[0].message, "@0 stats")


@session.row("C8", "messages to a suspended volume")
def _(box):
    v = box[0]
    v.suspend()
    v.message("stats")
    v.message("compression on")
    equal((v.status_now().compression, v.status_now().index), ("online", SUSPENDED))
    v.message("index-close")
    v.message("index-enable")
    equal(v.status_now().index, SUSPENDED)
    v.message("dump")
    v.resume()
    v.becomes("index", "online")
    v.shows(f"normal - online {expect(c='offline', rust='online')} 750898 2097152")


@session.row("C9", "a resume takes the table's values again")
def _(box):
    v = box[0]
    compression = expect(c="offline", rust="online")
    for message in ("compression on", "index-disable", "index-close"):
        v.message(message)
        if message == "index-close":
            v.becomes("index", "closed")
        v.suspend()
        v.resume()
        v.becomes("index", "online")
        v.shows(f"normal - online {compression} 750898 2097152")
    v.message("compression off")


def _level(value=None):
    if value is not None:
        with open(_LEVEL, "w") as file:
            file.write(str(value))
    with open(_LEVEL) as file:
        return file.read().strip()


@session.row("C10", "log_level")
def _(box):
    v = box[0]
    equal(_level(), "6")
    _level(4)
    try:
        with logging("unrecognized dmsetup message", never=("compression is enabled",)):
            fails(EINVAL, v.message, "bogus")
            v.message("compression on")
        equal(_level(99), "99")
        with logging("compression is disabled"):
            v.message("compression off")
        equal(_level(), "6")
    finally:
        _level(6)


@session.row("C14", "statistics in a small buffer")
def _(box):
    v = box[0]
    equal(list(parse(v.message("stats", room=64))), list(parse(v.message("stats"))))


@session.row("C11", "what the module has, and its removal")
def _(box):
    equal(os.listdir("/sys/module/dm_vdo/parameters"), ["log_level"])
    equal(os.stat(_LEVEL).st_mode & 0o777, 0o644)
    assert not os.path.exists("/sys/kernel/debug/vdo")
    assert re.search(r"^vdo +v9\.2\.0$", tool("dmsetup", "targets"), re.M)
    assert subprocess.run(["rmmod", "dm_vdo"], stderr=subprocess.DEVNULL, check=False).returncode
    box[0].remove()
    tool("rmmod", "dm_vdo")
    tool("modprobe", "dm-vdo")


@case("C13", "a message without a table")
def _():
    device = dm.Device("empty")
    fails(EINVAL, device.message, "stats")


@case("X6", "the module stays while a volume exists", small)
def _(_):
    assert subprocess.run(["rmmod", "dm_vdo"], stderr=subprocess.DEVNULL, check=False).returncode


@case("X7", "events are allowed, none is needed", small)
def _(v):
    before = v.event
    v.message("compression on")
    assert v.event >= before


@case("S10", "removed while the index opens")
def _():
    blank()
    Volume(SMALL).remove(5)
    v = Volume(SMALL).ready()
    v.shows("normal - online offline 750898 2097152")
    assert DEDUPE or v.status_now().index == "closed"
