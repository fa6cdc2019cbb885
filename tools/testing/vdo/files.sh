#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# File systems on a volume whose machine loses its power again and again.
#
#     tools/testing/vdo/files.sh [ROUNDS [SEED [IMPLS [TYPES]]]]

set -euo pipefail
cd "$(dirname "$0")/../../.."
default=3
[ "${DMOX_MODE:-test}" = test ] || default=15
rounds=${1:-$default}
seed=${2:-$RANDOM}
impls=${3:-rust}
types=${4:-ext4 xfs}
echo "files: rounds $rounds, seed $seed, $impls, $types"

vm=rust
[[ ,$impls, == *,rust,* ]] || vm=c
for type in $types; do
	store=build/files-vdo-$type-$seed
	rm -rf "$store"
	mkdir -p "$store/share"
	while :; do
		status=0
		scripts/vm --quiet --impl $vm --mem 2G --share "$store/share" --load "$type" \
			--cut-on "cut the power now" --timeout "${TIMEOUT:-1200}" \
			--env PYTHONPATH=tools/testing --disk "data=$store/data,size=8G" \
			-- python3 -B -m vdo.files --type "$type" --seed "$seed" --rounds "$rounds" \
			--impls "$impls" || status=$?
		[ "$status" = 137 ] || break
	done
	if [ "$status" != 0 ]; then
		echo "0 passed, 1 failed: status $status, seed $seed; the disk is in $store"
		exit "$status"
	fi
	rm -rf "$store"
done
