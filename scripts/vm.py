#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Boots a kernel of the cache and runs a command in it, as root, with the clone at /src.

The machine is one of QEMU's, with DMOX_MACHINE=uml (scripts/uml) User Mode Linux. The command's
output is passed on as it comes, its exit status returned. The kernel's log goes to a file and is
searched: an oops, a warning, a hung task, a lock or leak report fails a run that the command itself
calls good. A machine that never reached init is started again where that is known to happen; one
that did is never repeated.

Exit status: the command's; 70 the kernel's log shows a fault; 124 timed out; 125 could not be run;
137 the power was cut, as asked (--cut-on, --cut-after, or SIGUSR1 to this process).
"""

import argparse
import fcntl
import os
import re
import resource
import selectors
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import qemu
import uml

FAULT, TIMEOUT, NOT_RUN, CUT = 70, 124, 125, 137
BOOT_SECONDS = 240
PIPE_BYTES = 1 << 20

MACHINES = {"qemu": qemu, "uml": uml}
STOCK = "-amd64"  # a stock kernel's release ends so; twins of it have more

# What a kernel says when something is wrong with it, or with one of its modules.
FAULTS = re.compile(
    r"Oops|BUG:|kernel BUG|WARNING:|panic|general protection|unable to handle"
    r"|blocked for more than|soft lockup|hard LOCKUP|rcu: INFO:|self-detected stall"
    r"|possible circular locking|possible recursive locking|inconsistent lock state"
    r"|suspicious RCU usage|held lock freed|lock held when returning|bad unlock balance"
    r"|sleeping function called from invalid context|scheduling while atomic"
    r"|new suspected memory leaks|unreferenced object|Objects remaining in|Slab cache still has objects"
    r"|still has .* buffers|leaked buffer|refcount_t:|ODEBUG:|list_(add|del) corruption"
    r"|KASAN|UBSAN|Bad page|page allocation failure|invoked oom-killer|mempool.*(corrupt|mismatch)"
)
# Tainting is no fault: out-of-tree modules do it, and so do unsigned ones.
HARMLESS = re.compile(
    r"Command line:|panic=|module verification failed|taints kernel|Unknown kernel command line"
)


def arguments():
    top = Path(__file__).resolve().parent.parent
    p = argparse.ArgumentParser(
        prog="scripts/vm", usage="scripts/vm|uml [OPTION...] -- COMMAND...", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--impl", choices=("rust", "c", "none"), default="rust",
                   help="what modprobe dm-clone (dm-vdo) takes: ours (default) or the in-tree one; "
                   "none: hides both")
    p.add_argument("--kernel", metavar="REL", help="another kernel than the newest: 7.2, a release")
    p.add_argument("--debug", action="store_true", help="the debug kernel")
    p.add_argument("--smp", type=int, help="CPUs (2; User Mode Linux: 1)")
    p.add_argument("--mem", default="1G", help="memory (1G)")
    p.add_argument("--disk", action="append", default=[], metavar="NAME=SIZE|PATH[,OPTION...]",
                   help="a disk, /dev/disk/NAME in the guest: an empty scratch one of SIZE, or a "
                   "file that stays; options: size=SIZE (make the file if it is missing), ro, "
                   "cache=writeback|none|..., block=4096, nvme, plain (no discards), bps=, iops= (limits)")
    p.add_argument("--share", metavar="DIR", help="a folder, read-write at /share")
    p.add_argument("--env", action="append", default=[], metavar="NAME=VALUE")
    p.add_argument("--append", default="", help="more for the kernel's command line")
    p.add_argument("--load", action="append", default=[], metavar="MODULE",
                   help="modprobe this before the command")
    p.add_argument("--accel", default="tcg,thread=multi", help="QEMU's accelerator (%(default)s)")
    p.add_argument("--icount", action="store_true",
                   help="one CPU and a clock that counts instructions: repeatable figures")
    p.add_argument("--plain", action="store_true",
                   help="no checks of the kernel's that cost time, for measurements")
    p.add_argument("--timeout", type=float, default=600, metavar="SECONDS", help="(600)")
    p.add_argument("--cut-on", metavar="TEXT", help="cut the power when the output has this text")
    p.add_argument("--cut-after", type=float, metavar="SECONDS", help="... so long after init")
    p.add_argument("--allow", action="append", default=[], metavar="REGEX",
                   help="lines of the kernel's log that are no fault in this run")
    p.add_argument("--log", metavar="FILE", help="keep the kernel's log here "
                   "(default: build/log/vm-<n>.log)")
    p.add_argument("--quiet", action="store_true", help="say nothing of our own unless it failed")
    p.add_argument("--image", type=Path, required=True, help=argparse.SUPPRESS)
    p.add_argument("--kernels", type=Path, required=True, help=argparse.SUPPRESS)
    p.add_argument("--top", type=Path, default=top, help=argparse.SUPPRESS)
    p.add_argument("command", nargs=argparse.REMAINDER)
    args = p.parse_args()
    if args.command[:1] == ["--"]:
        del args.command[0]
    if not args.command:
        p.error("no command")
    args.machine = MACHINES.get(os.environ.get("DMOX_MACHINE") or "qemu")
    if not args.machine:
        p.error(f"DMOX_MACHINE is none of {', '.join(MACHINES)}")
    if args.share:
        args.share = Path(args.share).absolute()
    if why := args.machine.refuse(args):
        fail(f"{args.machine.__name__}: {why}")
    return args


def fail(text):
    print(f"vm: {text}", file=sys.stderr, flush=True)
    sys.exit(NOT_RUN)


def pick_kernel(args):
    """The folder of the kernel that was asked for, named after its release; scripts/setup made it."""
    wanted = args.kernel or os.environ.get("KERNEL")
    if not wanted:
        name = os.readlink(args.kernels / "newest")
    elif (args.kernels / wanted).is_dir():
        name = wanted
    else:
        names = [d.name for d in args.kernels.iterdir() if d.is_dir()
                 and re.match(re.escape(wanted) + r"[.+]", d.name) and d.name.endswith(STOCK)]
        name = max(names, default=wanted, key=lambda name: [int(n) for n in re.findall(r"\d+", name)])
    if name.endswith(STOCK):
        name += args.machine.DEBUG if args.debug else args.machine.KERNEL
    if not (args.kernels / name / "vmlinuz").exists():
        fail(f"kernel {name} is not there yet; run scripts/setup or scripts/make-kernel")
    return args.kernels / name


def initramfs(args, folder, work):
    """Our init, the in-tree modules and, under updates/, ours; modprobe prefers those."""
    release = folder.name
    tree = work / "initramfs"
    modules = tree / "lib/modules" / release
    session = tree / "session"
    for path in (tree / "bin", session):
        path.mkdir(parents=True)
    shutil.copy("/bin/busybox", tree / "bin/busybox")
    shutil.copytree(folder / "modules", modules)
    guest = args.top / "scripts/guest"
    shutil.copy(guest / "init", tree / "init")
    shutil.copy(guest / "session", session / "session")

    ours = args.top / "build/modules" / release
    if args.impl == "rust":
        if not list(ours.glob("*.ko")):
            fail(f"no modules in {ours}; build them with KERNEL={release} scripts/build")
        shutil.copytree(ours, modules / "updates")
    elif args.impl == "none":
        for module in ("dm-clone.ko", "dm-vdo/dm-vdo.ko"):
            (modules / "kernel/drivers/md" / module).unlink(missing_ok=True)

    env = [f"DMOX_IMPL={args.impl}", f"DMOX_MODE={os.environ.get('DMOX_MODE', 'test')}",
           f"DMOX_SRC={args.top}", f"DMOX_SHARE={args.share or ''}", *args.env]
    (session / "environment").write_text("".join(
        f"export {name}={shlex.quote(value)}\n" for name, value in (e.split("=", 1) for e in env)))
    load = f"modprobe -a {shlex.join(args.load)} || exit 125\n" if args.load else ""
    command = shlex.join(args.command) if len(args.command) > 1 else args.command[0]
    (session / "command").write_text(load + command + "\n")

    subprocess.run(["depmod", "-b", tree, release], check=True)
    archive = work / "initramfs.cpio"
    with archive.open("wb") as out:
        find = subprocess.Popen(["find", ".", "-print0"], cwd=tree, stdout=subprocess.PIPE)
        subprocess.run(["cpio", "-o", "-0", "-H", "newc", "--quiet"], cwd=tree, check=True,
                       stdin=find.stdout, stdout=out)
        find.wait()
    shutil.rmtree(tree)
    return archive


def make_file(path, size):
    with open(path, "wb") as file:
        number, unit = re.fullmatch(r"(\d+)([KMGT]?)i?B?", size, re.I).groups()
        file.truncate(int(number) << (10 * " KMGT".index(unit.upper() or " ")))


@dataclass
class Disk:
    """A disk of the guest's: /dev/disk/`name` there, the file `path` here."""

    name: str
    path: Path
    options: dict


def disk(text, work):
    name, _, rest = text.partition("=")
    what, *options = rest.split(",")
    options = dict(o.partition("=")[::2] for o in options)
    if re.fullmatch(r"\d+[KMGT]?i?B?", what, re.I):
        path = work / f"disk-{name}"
        make_file(path, what)
    else:
        path = Path(what)
        if not path.exists():
            if "size" not in options:
                fail(f"disk {name}: no file {path}")
            make_file(path, options["size"])
    return Disk(name, path.absolute(), options)


class Run:
    """One boot: passes the output on, watches time and markers, can cut the power."""

    def __init__(self, args, command, log):
        self.args, self.command, self.log = args, command, log
        self.cut = self.timed_out = False
        self.seen = self.said = b""

    def reached_init(self):
        return b"dmox: reached init" in self.log.read_bytes()

    def kill(self):
        """The machine, with all processes that it has."""
        try:
            os.killpg(self.machine.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def cut_power(self, *_):
        self.cut = True
        self.kill()

    def passed_on(self, data):
        # The virtual terminal ends lines with CR LF.
        sys.stdout.buffer.write(data.replace(b"\r\n", b"\n"))
        sys.stdout.flush()
        if self.args.cut_on:
            self.seen = (self.seen + data)[-65536:]
            if self.args.cut_on.encode() in self.seen and not self.cut:
                self.cut_power()

    def logged(self, data):
        with self.log.open("ab") as log:
            log.write(data)
        self.said = (self.said + data)[-65536:]
        if self.args.machine.LAST_WORDS in self.said:
            self.kill()

    def boot(self):
        self.log.write_bytes(b"")
        logs = self.args.machine.LAST_WORDS
        self.machine = subprocess.Popen(
            self.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if logs else None, start_new_session=True)
        signal.signal(signal.SIGUSR1, self.cut_power)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda n, _: (self.kill(), sys.exit(128 + n)))
        start, init = time.monotonic(), None
        with selectors.DefaultSelector() as streams:
            for stream, sink in ((self.machine.stdout, self.passed_on),
                                 *([(self.machine.stderr, self.logged)] if logs else [])):
                fcntl.fcntl(stream, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
                streams.register(stream, selectors.EVENT_READ, sink)
            while streams.get_map():
                if os.waitid(os.P_PID, self.machine.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                    self.kill()  # whoever it left
                for key, _ in streams.select(0.1):
                    if data := os.read(key.fd, PIPE_BYTES):
                        key.data(data)
                    else:
                        streams.unregister(key.fileobj)
                now = time.monotonic()
                if init is None and self.reached_init():
                    init = now
                if init is None and now - start > BOOT_SECONDS:
                    self.kill()
                if init and self.args.cut_after is not None and now - init >= self.args.cut_after:
                    self.cut_power()
                if init and now - start > self.args.timeout:
                    self.timed_out = True
                    self.kill()
        self.machine.wait()
        return init is not None or self.reached_init()


def faults(log, allowed):
    allowed = [re.compile(text) for text in allowed]
    return [line for line in log.splitlines() if FAULTS.search(line) and not HARMLESS.search(line)
            and not any(a.search(line) for a in allowed)]


def log_path(args):
    if args.log:
        return Path(args.log).absolute()
    folder = args.top / "build/log"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"vm-{time.strftime('%H%M%S')}-{os.getpid()}.log"


def main():
    args = arguments()
    folder = pick_kernel(args)
    kept = log_path(args)

    def say(text):
        print(f"vm: {text}", file=sys.stderr, flush=True)

    scratch = args.kernels.parent / "tmp"
    scratch.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="dmox-vm-", dir=scratch) as work:
        work = Path(work)
        log = work / "kernel.log"
        archive = initramfs(args, folder, work)
        disks = [disk(text, work) for text in args.disk]
        run = Run(args, args.machine.command(args, folder, archive, disks, work), log)
        start = time.monotonic()
        for attempt in range(args.machine.BOOTS_MAX):
            if run.boot() or run.cut:
                break
            say(f"never reached init (boot {attempt + 1}); again")
            shutil.copy(log, f"{kept}.boot{attempt + 1}")
        else:
            fail(f"{folder.name} does not reach init; see {kept}.boot*")
        text = log.read_text(errors="replace")
        shutil.copy(log, kept)

    ended = re.findall(r"dmox: exit (\d+)", text)
    found = faults(text, args.allow)
    for line in found[:20]:
        say(f"kernel: {line}")
    if run.cut:
        status = CUT
    elif run.timed_out:
        say(f"timed out after {args.timeout:.0f} s")
        status = TIMEOUT
    elif ended:
        status = int(ended[-1])
    else:
        say("the VM ended by itself")
        status = FAULT
    if found and status in (0, CUT):
        status = FAULT
    if status not in (0, CUT) or not args.quiet:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        say(f"status {status} after {time.monotonic() - start:.0f} s, "
            f"{used.ru_utime + used.ru_stime:.0f} s of CPU; log {kept}")
    sys.exit(status)


if __name__ == "__main__":
    main()
