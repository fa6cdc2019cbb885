#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# One volume, served in turns by the C target and ours; between turns it is removed cleanly or the
# machine's power is cut. Boots as often as it takes.
#
#     tools/testing/clone/takeover.sh [ROUNDS [SEED [IMPLS [SHARE OF CUTS]]]]

set -euo pipefail
cd "$(dirname "$0")/../../.."
default=5
[ "${DMOX_MODE:-test}" = test ] || default=25
rounds=${1:-$default}
seed=${2:-$RANDOM}
impls=${3:-c,rust}
cut=${4:-0.5}
echo "takeover: rounds $rounds, seed $seed, $impls, cuts $cut"

store=build/takeover-$seed
rm -rf "$store"
mkdir -p "$store/share"
while :; do
	status=0
	scripts/vm --quiet --share "$store/share" --cut-on "cut the power now" \
		--env PYTHONPATH=tools/testing --disk "meta=$store/meta,size=16M" \
		--disk "dest=$store/dest,size=64M" --disk "src=$store/src,size=64M" \
		-- python3 -B -m clone.takeover --seed "$seed" --rounds "$rounds" --impls "$impls" \
		--cut "$cut" || status=$?
	[ "$status" = 137 ] || break
done
if [ "$status" = 0 ]; then
	rm -rf "$store"
else
	echo "0 passed, 1 failed: status $status, seed $seed; disks and journal are in $store"
fi
exit "$status"
