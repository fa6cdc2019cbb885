#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Runs in the VM, with disks meta, dest and src: drives the pass-through target of rust/dm_passthrough
# through everything that the abstractions offer.

set -euo pipefail

passed=0 failed=0
check() {
	local name=$1
	shift
	if "$@"; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAILED: $name"; fi
}

meta=/dev/disk/meta dest=/dev/disk/dest src=/dev/disk/src
sectors=$(blockdev --getsz $dest)
line="0 $sectors passthrough $meta $dest $src"

create() {
	dmsetup create c --table "$line"
	[ -b /dev/mapper/c ] || dmsetup mknodes
	[ -b /dev/mapper/c ]
}

check "modprobe" modprobe dm-passthrough
check "too few arguments are refused" \
	bash -c "! dmsetup create c --table '0 $sectors passthrough $meta $dest' 2>/dev/null"
check "a missing device is refused" \
	bash -c "! dmsetup create c --table '0 $sectors passthrough $meta /dev/nope $src' 2>/dev/null"
check "create" create
check "version" bash -c 'dmsetup targets | grep -q "passthrough *v1.0.0"'
cd /tmp # fio leaves its state behind

fio --name=write --filename=/dev/mapper/c --direct=1 --rw=randwrite --bsrange=4k-256k --size=96M \
	--ioengine=libaio --iodepth=16 --verify=crc32c --do_verify=0 --fsync=32 --minimal >/dev/null
check "fio reads back what it wrote" fio --name=write --filename=/dev/mapper/c --direct=1 \
	--rw=randwrite --bsrange=4k-256k --size=96M --ioengine=libaio --iodepth=16 --verify=crc32c \
	--verify_only --minimal --output=/dev/null
sync
echo 3 >/proc/sys/vm/drop_caches
check "the same data below" cmp -n $((96 << 20)) /dev/mapper/c $dest
head -c 16M /dev/urandom >/tmp/data
dd if=/tmp/data of=/dev/mapper/c bs=1M seek=3 oflag=direct conv=fsync status=none
dd if=$dest of=/tmp/back bs=1M skip=3 count=16 iflag=direct status=none
check "dd with big requests" cmp /tmp/back /tmp/data
dd if=/tmp/data of=/dev/mapper/c bs=4k count=64 oflag=direct,dsync status=none
dd if=$dest of=/tmp/back bs=4k count=64 iflag=direct status=none
check "synchronous writes" cmp -n $((64 * 4096)) /tmp/data /tmp/back
check "writes were served" [ "$(dmsetup status c | awk '{print $5}')" -gt 500 ]
check "discard" blkdiscard -o 5120 -l 65536 /dev/mapper/c
check "the answer of a message" [ "$(dmsetup message c 0 echo foo bar)" = foobar ]
long=$(head -c 40000 /dev/zero | tr '\0' x)
check "an answer longer than the buffer" [ "$(dmsetup message c 0 echo "$long")" = "$long" ]
check "a bad message is refused" bash -c '! dmsetup message c 0 bogus 2>/dev/null'
before=$(dmsetup info -c --noheadings -o events c)
check "an event" dmsetup message c 0 event
check "the event is counted" [ "$(dmsetup info -c --noheadings -o events c)" -eq $((before + 1)) ]

# Suspend, resume and reload with I/O in flight.
fio --name=load --filename=/dev/mapper/c --direct=1 --rw=randrw --bs=4k --size=64M --iodepth=32 \
	--ioengine=libaio --time_based --runtime=5 --minimal >/tmp/fio 2>&1 &
for round in 1 2 3 4 5; do
	sleep 0.5
	check "suspend $round" dmsetup suspend c
	sleep 0.2
	check "resume $round" dmsetup resume c
done
check "load" dmsetup load c --table "$line"
check "switch" bash -c 'dmsetup suspend c && dmsetup resume c'
check "fio saw no error" wait %1
check "remove" dmsetup remove c

# A line that only reads a device, and behind it one that writes to it: device-mapper opens the device
# anew, and frees the structure that it gave to the first line.
shared() {
	local twice numbers
	twice=$(printf '%s\n%s' "$line" "$sectors $sectors $1")
	numbers=$(stat -L -c '%Hr:%Lr' $dest $src | xargs)
	dmsetup create c --table "$twice" && dmsetup mknodes
	[ "$(dmsetup table c | head -n 1 | cut -d ' ' -f 5-)" = "$numbers" ] || return 1
	dd if=/tmp/data of=/dev/mapper/c bs=64k count=1 oflag=direct status=none || return 1
	dmsetup remove c || return 1
	! dmesg | grep -E 'not in table devices list|still exists'
}
check "a device opened for more by another line" shared "passthrough $meta $src $dest"
check "a device opened for more by another target" shared "linear $src 0"

# A flush has no position: it has none in a line that begins somewhere else, either.
behind() {
	local result=0
	dmsetup create c --table "$(printf '%s\n%s' "0 2048 linear $src 0" "2048 ${line#0 }")" &&
		dmsetup mknodes
	dd if=/tmp/data of=/dev/mapper/c bs=1M seek=1 count=1 oflag=direct conv=fsync status=none || result=1
	dmsetup remove c && return $result
}
check "a flush of a line behind another" behind

# Errors from below: of a bio sent on, of one that is waited for, of a flush, of I/O of our own.
dmsetup create bad --table "0 $sectors linear $dest 0"
dmsetup create badmeta --table "0 $(blockdev --getsz $meta) linear $meta 0"
dmsetup mknodes
dmsetup create c --table "0 $sectors passthrough /dev/mapper/badmeta /dev/mapper/bad $src"
dmsetup mknodes
swap() {
	dmsetup suspend --noflush --nolockfs "$1"
	dmsetup load "$1" --table "0 $(blockdev --getsz "/dev/mapper/$1") $2"
	dmsetup resume "$1"
}
write_at() {
	dd if=/tmp/data of=/dev/mapper/c bs=4k count=1 seek="$1" oflag=direct status=none 2>/dev/null
}
swap bad error
fails() { ! "$@"; }
check "a failed read" fails dd if=/dev/mapper/c of=/dev/null bs=4k count=1 iflag=direct status=none
check "a failed bio that was sent on" fails write_at 1
check "a failed bio that was waited for" fails write_at 0
swap bad "linear $dest 0"
check "and all is well again" write_at 0
swap badmeta error
check "failed I/O of our own" fails write_at 1
check "a load that cannot read" fails dmsetup create d --table \
	"0 $sectors passthrough /dev/mapper/badmeta /dev/mapper/bad $src"
swap badmeta "flakey $meta 0 0 60 1 error_writes"
check "a failed flush" fails sync /dev/mapper/c
swap badmeta "linear $meta 0"
check "a flush" sync /dev/mapper/c
check "and all is well once more" write_at 1
check "remove after errors" dmsetup remove c
dmsetup remove bad
dmsetup remove badmeta
# A disk that completes its I/O at once: 16 MiB are not read in one go.
modprobe brd rd_nr=1 rd_size=$((sectors / 2))
[ -b /dev/ram0 ] || mknod /dev/ram0 b 1 0
dmsetup create c --table "0 $sectors passthrough /dev/ram0 $dest $src"
check "others are let run" [ "$(dmsetup message c 0 polls)" -ge 8 ]
dmsetup remove c
modprobe -r brd
check "rmmod" rmmod dm_passthrough
for round in 1 2 3; do
	modprobe dm-passthrough
	create
	dd if=/tmp/data of=/dev/mapper/c bs=64k count=32 oflag=direct status=none
	dmsetup remove c
	check "load and unload $round" rmmod dm_passthrough
done
# On a debug kernel: a load in which each allocation in turn fails, and what all of it leaked.
if [ -e /proc/self/fail-nth ]; then
	modprobe dm-passthrough
	# shellcheck disable=SC2086
	set -- $line
	shift
	check "loads without memory" python3 /src/tools/testing/smoke/load_faults.py "$@"
	check "unload after that" rmmod dm_passthrough
fi
leaks=/sys/kernel/debug/kmemleak
if (echo scan >$leaks) 2>/dev/null; then # where it is there, and switched on
	sleep 6 # what is younger than 5 s is not reported
	echo scan >$leaks
	echo scan >$leaks
	cat $leaks
	check "no memory leaks" [ -z "$(cat $leaks)" ]
fi
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
