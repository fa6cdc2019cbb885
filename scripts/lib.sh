# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Shared by the shell scripts: where things lie, and how to speak.

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
cache=${DMOX_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/dmox}

# A changed list of packages is another root: old and new live side by side.
list_id() { cksum <"$top/scripts/packages.$1" | cut -d' ' -f1; }
list() { sed 's/#.*//; /^[[:space:]]*$/d' "$top/scripts/packages.$1"; }

# shellcheck disable=SC2034 # used by those who source this file
{
	root=$cache/root-$(list_id root)
	guest=$cache/guest-$(list_id guest).img
	kernels=$cache/kernels-$(list_id modules)
}

say() { printf '%s\n' "$*"; }
die() {
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit 1
}

# kernel_release [WANTED]: the release of a prepared kernel that WANTED names: the beginning of a
# release (7.2, 7.2.12), or nothing for the newest that the archive had when we looked. A twin of a
# stock kernel (make-kernel) has to be named in full.
kernel_release() {
	local wanted=${1:-} found
	if [ -z "$wanted" ]; then
		found=$(readlink "$kernels/newest") || return 1
	elif [ -d "$kernels/$wanted" ]; then
		found=$wanted
	else
		found=$(find "$kernels" -maxdepth 1 -name "${wanted}[.+]*-amd64" \
			-printf '%f\n' 2>/dev/null | sort -V | tail -n 1)
	fi
	[ -n "$found" ] && [ -d "$kernels/$found" ] && say "$found"
}

# machine_kernel [WANTED]: the same for the machine that DMOX_MACHINE names; what is missing is made.
machine_kernel() {
	local release
	"$top/scripts/setup" "${1:-}" >&2 || return
	release=$(kernel_release "${1:-}") || return 1
	if [ "${DMOX_MACHINE:-}" = uml ] && [[ $release == *-amd64 ]]; then
		"$top/scripts/make-kernel" uml "$release" >&2 || return
		release+=-uml
	fi
	say "$release"
}

# Set-up: one at a time in a cache; what takes long is seen to be alive.
lock_cache() {
	mkdir -p "$cache/log" "$kernels"
	exec 9>"$cache/lock"
	flock --nonblock 9 || { say "set-up: another one is at work in $cache, waiting"; flock 9; }
}

start_ticker() {
	(while sleep 20; do say "set-up: ... $SECONDS s"; done) 9>&- &
	# shellcheck disable=SC2064 # the ticker of now
	trap "kill $! 2>/dev/null" EXIT
}

# step NAME COMMAND...: says when it starts and ends; on failure gives the reason in one line.
step() {
	local name=$1 log=$cache/log/$1.log start=$SECONDS pid
	shift
	say "set-up: $name ..."
	"$@" >"$log" 2>&1 &
	pid=$!
	if wait "$pid"; then
		say "set-up: $name: done after $((SECONDS - start)) s"
	else
		say "set-up: $name: failed: $(grep -m 1 -E '^E: |^FAILED' "$log" ||
			grep -m 1 -E '^Err|error:' "$log" || tail -n 1 "$log")"
		say "set-up: the whole log: $log"
		return 1
	fi
}
