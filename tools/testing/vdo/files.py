# SPDX-License-Identifier: GPL-2.0

"""python3 -m vdo.files: a file system on a volume, under load when the power is cut.

Every boot finds the volume of the one before: it must start, the file system must be clean after its
own replay, and every file that was said to be stored must be there as it was. Then the load starts
again: files made, renamed and removed by several threads, and fio that verifies what it wrote. The
host's part is files.sh.
"""

import argparse
import hashlib
import json
import os
import random
import subprocess

from lib import devices
from lib import target
from lib.blockio import Background
from lib.devices import until
from lib.store import Store
from lib.turns import Stoppable
from lib.turns import cut_power
from vdo.rig import MEDIUM
from vdo.rig import Volume
from vdo.rig import blank
from vdo.rig import tool
from vdo.suite import HAS

_DISK = os.path.realpath("/dev/disk/data")
_MOUNT = "/tmp/files"
_CHECK = {"ext4": ("e2fsck", "-fn"), "xfs": ("xfs_repair", "-n")}


def _content(key, size):
    """Bytes of a file; parts of it repeat, parts compress."""
    chance = random.Random(key)
    pieces = [random.Random(chance.randrange(40)).randbytes(4096), bytes(4096),
              chance.randbytes(300) * 13, chance.randbytes(4096)]
    return b"".join(chance.choice(pieces) for _ in range(size // 4096 + 1))[:size]


class Files(Stoppable):
    """Threads that make, rename and remove files; what is stored is written down."""

    def __init__(self, store, folder, turn):
        super().__init__()
        self._put = store.appender("files")
        self._folder = folder
        self._turn = turn
        self.done = 0

    def _note(self, *words):
        self._put(json.dumps(words) + "\n")

    def run(self, thread):
        chance = random.Random(f"{self._turn} {thread}")
        folder = os.path.join(self._folder, f"{self._turn}-{thread}")
        os.makedirs(folder)
        self._sync(self._folder)
        names = []
        serial = 0
        while not self._over.is_set():
            serial += 1
            path = os.path.join(folder, f"file{serial}")
            if names and chance.random() < 0.3:
                old = names.pop(chance.randrange(len(names)))
                self._note("gone", old)
                if chance.random() < 0.5:
                    os.remove(old)
                else:
                    os.rename(old, path + "-moved")
            else:
                key = f"{self._turn} {thread} {serial}"
                data = _content(key, chance.randrange(1, 200000))
                with open(path, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                self._sync(folder)
                self._note("stored", path, len(data), hashlib.md5(data).hexdigest())
                names.append(path)
            self.done += 1
            if len(names) > 60:
                for old in names[:40]:
                    self._note("gone", old)
                    os.remove(old)
                del names[:40]

    @staticmethod
    def _sync(folder):
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(fd)
        os.close(fd)


def _verify(store):
    """All that was stored and not taken away is there."""
    stored = {}
    for line in store.get("files", b"").decode().splitlines(keepends=True):
        if not line.endswith("\n"):
            continue
        kind, path, *rest = json.loads(line)
        if kind == "stored":
            stored[path] = rest
        else:
            stored.pop(path, None)
    for path, (size, digest) in stored.items():
        with open(path, "rb") as file:
            data = file.read()
        assert len(data) == size and hashlib.md5(data).hexdigest() == digest, f"{path} differs"
    return len(stored)


def _fio(folder, turn):
    """Random writes that fio itself reads back and compares."""
    subprocess.run(
        ["fio", "--name=verified", f"--directory={folder}", f"--filename=fio{turn % 2}",
         "--rw=randwrite", "--bsrange=4k-64k", "--size=24m", "--ioengine=libaio", "--iodepth=16",
         "--direct=1", "--eta=never", "--verify=crc32c", "--do_verify=1", "--verify_fatal=1", "--fsync=32",
         f"--randseed={turn}", "--output=/dev/null"], check=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--type", required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--impls", default="rust")
    options = parser.parse_args()
    devices.modprobe("dm-mod")
    store = Store("/share")
    turn = int(store.get("next", b"0"))
    chance = random.Random(f"{options.seed} {turn}")
    impls = options.impls.split(",")
    target.use(impls[turn % len(impls)], "vdo")
    if not turn:
        blank(_DISK)
    on = "on" if "packer" in HAS else "off"
    v = Volume(MEDIUM.but(device=_DISK, options=f"slabSize 8192 compression {on}"))
    state = v.status_now()
    print(f"# round {turn}: {impls[turn % len(impls)]}, {options.type}, {state.mode}", flush=True)
    assert state.mode != "read-only", state
    os.makedirs(_MOUNT, exist_ok=True)
    if turn:
        # Mounting replays the file system's own journal; then it must be without fault.
        tool("mount", "-t", options.type, v.path, _MOUNT)
        print(f"# {_verify(store)} files as they were", flush=True)
        tool("umount", _MOUNT)
        tool(*_CHECK[options.type], v.path)
    else:
        tool(f"mkfs.{options.type}", "-q", v.path)
    if turn == options.rounds:
        v.becomes("mode", "normal", 120)
        v.remove(10)
        tool("vdoaudit", "--summary", _DISK)
        print(f"{options.rounds} passed, 0 failed")
        return
    tool("mount", "-t", options.type, "-o", "discard", v.path, _MOUNT)
    store.put("next", str(turn + 1).encode())
    files = Files(store, _MOUNT, turn)
    wanted = chance.randrange(60, 300)
    workers = [Background(files.run, thread) for thread in range(3)]
    workers.append(Background(_fio, _MOUNT, turn))
    until(lambda: files.done >= wanted or any(one.ended() for one in workers[:3]),
          "the load", 300)
    if any(one.ended() for one in workers[:3]):
        for one in workers:
            one.result()
    if workers[3].ended():
        workers[3].result()
    cut_power()


if __name__ == "__main__":
    main()
