#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# File systems on a volume whose machine loses its power again and again.
#
#     tools/testing/vdo/files.sh [ROUNDS [SEED [IMPLS [TYPES]]]]

set -euo pipefail
cd "$(dirname "$0")/../../.."
. tools/testing/lib/turns.sh
rounds=${1:-$(default 3 15)}
seed=${2:-$RANDOM}
impls=${3:-rust}
types=${4:-ext4 xfs}
echo "files: rounds $rounds, seed $seed, $impls, $types"

for type in $types; do
	store=build/files-vdo-$type-$seed
	take_turns vdo.files --mem 2G --load "$type" --timeout "${TIMEOUT:-1200}" \
		--disk "data=$store/data,size=8G" -- --type "$type"
done
