#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# One volume, served in turns by the C target and ours; between turns it is removed cleanly or the
# machine's power is cut. Boots as often as it takes.
#
#     tools/testing/clone/takeover.sh [ROUNDS [SEED [IMPLS [SHARE OF CUTS]]]]

set -euo pipefail
cd "$(dirname "$0")/../../.."
. tools/testing/lib/turns.sh
rounds=${1:-$(default 5 25)}
seed=${2:-$RANDOM}
impls=${3:-c,rust}
cut=${4:-0.5}
echo "takeover: rounds $rounds, seed $seed, $impls, cuts $cut"

store=build/takeover-$seed
take_turns clone.takeover --disk "meta=$store/meta,size=16M" --disk "dest=$store/dest,size=64M" \
	--disk "src=$store/src,size=64M" -- --cut "$cut"
