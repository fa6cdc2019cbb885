# SPDX-License-Identifier: GPL-2.0
"""User Mode Linux: the kernel is a process of the host, at the host's speed; see vm.py.

One CPU, pages of 4 KiB only. Memory is a file in /dev/shm, which takes what the guest has touched.
"""

KERNEL = "-uml"  # what the name of its kernels ends with
DEBUG = "-uml-debug"

BOOTS_MAX = 1
# Its processes are killed before it ends itself; if it is preempted in between, it waits for one.
LAST_WORDS = b"reboot: Power down"


def refuse(args):
    """Why it cannot do what is asked, or None."""
    if args.icount or (args.smp or 1) > 1:
        return "one CPU, and the clock of the host"
    for text in args.disk:
        for option in text.split(",")[1:]:
            if option.partition("=")[0] not in ("size", "ro", "cache"):
                return f"disks know no {option}"
    return None


def command(args, folder, archive, disks, work):
    """The words that start it; the kernel's log goes to standard error, the output of the command
    to standard output. It polls what its consoles have: pipes do, files and /dev/null do not."""
    return [
        folder / "vmlinuz", f"mem={args.mem}", "seccomp=auto", f"initrd={archive}",
        f"ubd0rc={args.image},,dmox-image",
        *(f"ubd{index}{'r' if 'ro' in disk.options else ''}={disk.path},,{disk.name}"
          for index, disk in enumerate(disks, 1)),
        "con=null", "con0=fd:2", "console=tty0", "ssl=null", "ssl0=fd:1",
        f"uml_dir={work}", "umid=uml", "noreboot",
        "loglevel=7", "oops=panic", "panic=-1", *([] if args.plain else ["mempool_debug"]),
        "sysctl.kernel.hung_task_timeout_secs=60", *args.append.split(),
    ]
