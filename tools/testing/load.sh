#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# In the VM: the module loads into the stock kernel and leaves again, twice, and takes the place of
# the in-tree one.

passed=0 failed=0
check() {
	local title=$1
	shift
	if "$@" >/dev/null; then
		echo "ok $title"
		passed=$((passed + 1))
	else
		echo "FAIL $title"
		failed=$((failed + 1))
	fi
}

is_ours() { [[ $(modinfo -n "$1") == */updates/* ]]; }

modules=(dm-clone dm-vdo)
for module in "${modules[@]}"; do
	check "modprobe prefers our $module" is_ours "$module"
	for round in first second; do
		check "$module loads, $round time" modprobe "$module"
		check "$module unloads, $round time" rmmod "$module"
	done
done
echo "$passed passed, $failed failed"
[ $failed = 0 ]
