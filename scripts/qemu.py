# SPDX-License-Identifier: GPL-2.0
"""A PC of QEMU's; see vm.py."""

import ctypes
import mmap
import time

KERNEL = ""  # what the name of its kernels ends with
DEBUG = "-debug"

# With several CPUs, TCG dies early in one boot of twenty.
BOOTS_MAX = 4
# The kernel's log goes to a file by itself.
LAST_WORDS = None


def refuse(args):
    """Why it cannot do what is asked, or None."""
    return None


def _tsc_khz():
    """How fast this machine's time stamp counter is, which is what TCG's guests see of it. A guest
    that measures it itself on a busy machine may be wrong by a factor of forty, and so is its clock
    from then on."""
    with mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC) as page:
        page.write(bytes.fromhex("0f31 48c1e220 4809d0 c3"))  # rdtsc; shl rdx,32; or rax,rdx; ret
        start = ctypes.c_char.from_buffer(page)
        read = ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(start))

        def both():
            # Of some tries the one that was least disturbed.
            tries = []
            for _ in range(20):
                before = time.monotonic_ns()
                ticks = read()
                tries.append((time.monotonic_ns() - before, before, ticks))
            return min(tries)[1:]

        nanoseconds, ticks = both()
        time.sleep(0.1)
        later, more = both()
        del read, start
    return (more - ticks) * 1_000_000 // (later - nanoseconds)


def command(args, folder, archive, disks, work):
    """The words that start it; the kernel's log goes to `work`/kernel.log, the output of the
    command to standard output."""
    append = (f"console=ttyS0 loglevel=7 oops=panic panic=-1 {'' if args.plain else 'mempool_debug '}"
              "sysctl.kernel.hung_task_timeout_secs=60 nokaslr mitigations=off " + args.append)
    if args.accel.startswith("tcg") and not args.icount:
        append += f" tsc_early_khz={_tsc_khz()}"
    words = [
        "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
        # TCG copies a byte at a time where a CPU says that its rep movsb is fast.
        "-machine", "q35", "-cpu", "max,erms=off,fsrm=off",
        "-smp", "1" if args.icount else str(args.smp or 2), "-m", args.mem,
        "-kernel", folder / "vmlinuz", "-initrd", archive, "-append", append,
        "-serial", f"file:{work / 'kernel.log'}",
        "-device", "virtio-rng-pci",
        "-device", "virtio-serial-pci", "-chardev", "stdio,id=out,signal=off",
        "-device", "virtconsole,chardev=out",
        "-drive", f"file={args.image},if=none,id=image,format=raw,readonly=on",
        "-device", "virtio-blk-pci,drive=image,serial=dmox-image",
        "-virtfs", f"local,path={args.top},mount_tag=src,security_model=none,readonly=on",
    ]
    if args.icount:
        words += ["-accel", "tcg", "-icount", "shift=0,sleep=off"]
    else:
        words += ["-accel", args.accel]
    if args.share:
        words += ["-virtfs", f"local,path={args.share},mount_tag=share,security_model=none"]
    for index, disk in enumerate(disks):
        words += _disk(disk, index)
    return words


def _disk(disk, index):
    options = disk.options
    drive = (f"file={disk.path},if=none,id=d{index},format=raw,discard=unmap,detect-zeroes=off"
             f",cache={options.get('cache', 'writeback')}")
    if "ro" in options:
        drive += ",readonly=on"
    for key in ("bps", "iops"):
        if key in options:
            drive += f",throttling.{key}-total={options[key]}"
    device = f"virtio-blk-pci,drive=d{index},serial={disk.name}"
    if "nvme" in options:
        device = f"nvme,drive=d{index},serial={disk.name}"
    elif "plain" in options:
        device += ",discard=off,write-zeroes=off"
    if "block" in options:
        device += f",logical_block_size={options['block']},physical_block_size={options['block']}"
    return ["-drive", drive, "-device", device]
