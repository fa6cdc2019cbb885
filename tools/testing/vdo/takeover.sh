#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# One volume, served in turns by the C target and ours; between turns it is removed cleanly or the
# machine's power is cut. Boots as often as it takes; after each boot, what is on the disk is checked.
#
#     tools/testing/vdo/takeover.sh [ROUNDS [SEED [IMPLS [SHARE OF CUTS]]]]

set -euo pipefail
cd "$(dirname "$0")/../../.."
default=6
[ "${DMOX_MODE:-test}" = test ] || default=40
rounds=${1:-$default}
seed=${2:-$RANDOM}
impls=${3:-c,rust}
cut=${4:-0.5}
echo "takeover: rounds $rounds, seed $seed, $impls, cuts $cut"

vm=rust
[[ ,$impls, == *,rust,* ]] || vm=c
store=build/takeover-vdo-$seed
rm -rf "$store"
mkdir -p "$store/share"
check() {
	scripts/in-root cargo run --quiet --manifest-path tools/Cargo.toml -p dmox -- \
		vdo check --deep "$store/data" >"$store/check" 2>&1 && return
	cat "$store/check"
	status=1
}

while :; do
	status=0
	scripts/vm --quiet --impl $vm --mem 2G --share "$store/share" --cut-on "cut the power now" \
		--timeout "${TIMEOUT:-1800}" --env PYTHONPATH=tools/testing \
		--disk "data=$store/data,size=8G" -- python3 -B -m vdo.takeover --seed "$seed" \
		--rounds "$rounds" --impls "$impls" --cut "$cut" || status=$?
	case $status in 0 | 137) check ;; esac
	[ "$status" = 137 ] || break
done
if [ "$status" = 0 ]; then
	rm -rf "$store"
else
	echo "0 passed, 1 failed: status $status, seed $seed; the disk and the journal are in $store"
fi
exit "$status"
