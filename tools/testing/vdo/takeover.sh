#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# One volume, served in turns by the C target and ours; between turns it is removed cleanly or the
# machine's power is cut. Boots as often as it takes; after each boot, what is on the disk is checked.
#
#     tools/testing/vdo/takeover.sh [ROUNDS [SEED [IMPLS [SHARE OF CUTS]]]]

set -euo pipefail
cd "$(dirname "$0")/../../.."
. tools/testing/lib/turns.sh
rounds=${1:-$(default 6 40)}
seed=${2:-$RANDOM}
impls=${3:-c,rust}
cut=${4:-0.5}
echo "takeover: rounds $rounds, seed $seed, $impls, cuts $cut"

store=build/takeover-vdo-$seed
after_boot() {
	scripts/in-root cargo run --quiet --manifest-path tools/Cargo.toml -p dmox -- \
		vdo check --deep "$store/data" >"$store/check" 2>&1 && return
	cat "$store/check"
	return 1
}
take_turns vdo.takeover --mem 2G --timeout "${TIMEOUT:-1800}" \
	--disk "data=$store/data,size=8G" -- --cut "$cut"
