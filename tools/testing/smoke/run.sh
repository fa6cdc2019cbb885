#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Builds the test module beside the others and drives it in the VM.

set -euo pipefail
top=$(realpath "$(dirname "$0")/../../..")

DMOX_TEST=1 "$top/scripts/build" >/dev/null
"$top/scripts/vm" --quiet --timeout 900 --disk meta=16M --disk dest=128M --disk src=128M -- \
	tools/testing/smoke/passthrough.sh
