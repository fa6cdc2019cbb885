# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Shared by the scripts whose machine loses its power; the other half is turns.py. A script sets
# rounds, seed, impls and store, a folder of the host's, and may define after_boot.
#
# shellcheck disable=SC2154 # set by those who source this file

# default SHORT LONG: what ROUNDS are if nobody says.
default() { if [ "${DMOX_MODE:-}" = long ]; then echo "$2"; else echo "$1"; fi; }

# What runs after each boot of which the end was as it should be; fails if something is wrong.
after_boot() { :; }

# take_turns MODULE WORDS...: boots with the options WORDS and runs the module, again as long as the
# power was cut. WORDS may have a --, and words for the module behind it. The store is kept if
# something is wrong.
take_turns() {
	local module=$1 status impl=rust options=()
	shift
	while [ $# -gt 0 ] && [ "$1" != -- ]; do options+=("$1") && shift; done
	[ $# = 0 ] || shift
	[[ ,$impls, == *,rust,* ]] || impl=c
	rm -rf "$store"
	mkdir -p "$store/share"
	while :; do
		status=0
		scripts/vm --quiet --impl "$impl" --share "$store/share" --cut-on "cut the power now" \
			--env PYTHONPATH=tools/testing "${options[@]}" -- python3 -B -m "$module" \
			--seed "$seed" --rounds "$rounds" --impls "$impls" "$@" || status=$?
		case $status in 0 | 137) after_boot || status=1 ;; esac
		[ "$status" = 137 ] || break
	done
	if [ "$status" = 0 ]; then
		rm -rf "$store"
	else
		echo "0 passed, 1 failed: status $status, seed $seed; disks and journal are in $store"
	fi
	return "$status"
}
