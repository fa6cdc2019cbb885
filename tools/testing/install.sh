#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# What scripts/install does on machines of all kinds: each is a folder with the files by which it
# shows; the build is one that only leaves a note. And by which compiler scripts/build has kernels of
# all kinds built: each is a folder, too, and make only says what it was asked for.

set -euo pipefail
top=$(realpath "$(dirname "$0")/../..")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0 failed=0
release=7.3.4+test-amd64

# A machine with a stock kernel that has Rust, and a clone whose build is done at once.
fresh() {
	rm -rf "${work:?}"/*
	clone=$work/clone machine=$work/machine
	mkdir -p "$clone/scripts" "$machine"/{boot,proc,sys/module} "$machine/lib/modules/$release"
	cp "$top"/scripts/{install,lib.sh,packages.*} "$clone/scripts/"
	cat >"$clone/scripts/build" <<-EOF
		#!/bin/sh
		echo "built for \${KERNEL:-\$KDIR}"
		mkdir -p $clone/build/modules/$release
		for name in clone vdo; do echo \$name >$clone/build/modules/$release/dm-\$name.ko; done
	EOF
	cat >"$clone/scripts/setup" <<-EOF
		#!/bin/sh
		echo "the archive offers no kernel \$1"; exit 1
	EOF
	chmod +x "$clone"/scripts/{build,setup}
	printf 'CONFIG_RUST=y\nCONFIG_MODULE_SIG=y\n' >"$machine/boot/config-$release"
	touch "$machine/lib/modules/$release"/modules.{order,builtin}
}

# install STATUS WORDS...: how it ends.
install() {
	local wanted=$1 status=0
	shift
	output=$(env -u KERNEL -u KDIR DMOX_CACHE="$work/cache" DMOX_MACHINE_ROOT="$machine" \
		DMOX_RUNNING="$release" "$clone/scripts/install" "$@" 2>&1) || status=$?
	[ "$status" = "$wanted" ] || { echo "status $status, not $wanted: $output"; return 1; }
}

# kernel LINES...: a kernel of this configuration, and a machine without compilers.
kernel() {
	mkdir -p "$work"/{bin,kernel/rust,kernel/scripts,kernel/include/config}
	touch "$work"/kernel/{rust/libkernel.rmeta,scripts/target.json}
	echo "$release" >"$work/kernel/include/config/kernel.release"
	printf '%s\n' "$@" >"$work/kernel/.config"
	local tool
	for tool in cat cksum cut dirname flock grep mkdir nproc realpath rm sed sh tee uname; do
		ln -s "$(command -v $tool)" "$work/bin/"
	done
	# shellcheck disable=SC2016 # the program expands it
	program make 'for word; do case $word in MO=*) >"${word#MO=}/modules.order" ;; esac; done; echo "make $*"'
	cp "$top/scripts/build" "$clone/scripts/"
}

# program NAME [LINE]: the machine has it, and this is what it does.
program() {
	printf '#!/bin/sh\n%s\n' "${2:-:}" >"$work/bin/$1"
	chmod +x "$work/bin/$1"
}

# builds STATUS: how the build of that kernel ends.
builds() {
	local status=0
	output=$(env -i PATH="$work/bin" HOME="$work" KDIR="$work/kernel" "$clone/scripts/build" 2>&1) ||
		status=$?
	[ "$status" = "$1" ] || { echo "status $status, not $1: $output"; return 1; }
}

says() { [[ $output == *"$1"* ]] || { echo "does not say '$1': $output"; return 1; }; }
untouched() { [ ! -e "$machine/lib/modules/$release/updates" ] && [ ! -e "$clone/build" ]; }
installed() { [ -e "$machine/lib/modules/$release/updates/dmox/dm-vdo.ko" ]; }

case_plain() { install 0 && says "built for $release" && installed; }
case_twice() {
	install 0 && touch "$machine/lib/modules/$release/updates/dmox/dm-passthrough.ko" && install 0 &&
		installed && [ ! -e "$machine/lib/modules/$release/updates/dmox/dm-passthrough.ko" ]
}
case_remove() { install 0 && install 0 --remove && [ ! -e "$machine/lib/modules/$release/updates" ]; }
case_remove_names_others() {
	mkdir -p "$machine/lib/modules/6.1/updates/dmox"
	install 0 --remove && says "still there: $machine/lib/modules/6.1/updates/dmox"
}
case_no_rust() {
	echo CONFIG_SMP=y >"$machine/boot/config-$release"
	install 1 && says "without Rust" && untouched
}
case_lockdown() {
	mkdir -p "$machine/sys/kernel/security"
	echo 'none [integrity] confidentiality' >"$machine/sys/kernel/security/lockdown"
	install 1 && says "signed modules only" && says "mokutil" && untouched
}
case_secure_boot() {
	mkdir -p "$machine/sys/firmware/efi/efivars"
	printf '\6\0\0\0\1' >"$machine/sys/firmware/efi/efivars/SecureBoot-1"
	install 1 && says "signed modules only" && untouched
}
case_secure_boot_off() {
	mkdir -p "$machine/sys/firmware/efi/efivars"
	printf '\6\0\0\0\0' >"$machine/sys/firmware/efi/efivars/SecureBoot-1"
	install 0 && installed
}
case_signed() {
	mkdir -p "$machine/sys/module/module/parameters" "$machine/var/lib/dkms" \
		"$machine/lib/modules/$release/build/scripts"
	echo Y >"$machine/sys/module/module/parameters/sig_enforce"
	touch "$machine"/var/lib/dkms/mok.{key,pub}
	# shellcheck disable=SC2016 # it is for the tool
	printf '#!/bin/sh\necho "$@" >>"$4"\n' >"$machine/lib/modules/$release/build/scripts/sign-file"
	chmod +x "$machine/lib/modules/$release/build/scripts/sign-file"
	install 0 && installed && grep -q "^sha256 .*mok.key .*mok.pub" \
		"$machine/lib/modules/$release/updates/dmox/dm-vdo.ko"
}
case_no_sign_file() {
	case_lockdown && mkdir -p "$machine/var/lib/dkms" && touch "$machine"/var/lib/dkms/mok.{key,pub} &&
		install 1 && says "sign-file" && ! installed
}
case_built_in() {
	echo kernel/drivers/md/dm-clone.ko >"$machine/lib/modules/$release/modules.builtin"
	install 1 && says "dm-clone is built into" && untouched
}
case_loaded() {
	mkdir "$machine/sys/module/dm_vdo"
	install 0 && installed && says "dm-vdo is loaded and stays"
}
case_initramfs() {
	mkdir "$work/bin" && printf '#!/bin/sh\necho usr/lib/modules/x/dm-vdo.ko.xz\n' >"$work/bin/lsinitramfs"
	chmod +x "$work/bin/lsinitramfs" && touch "$machine/boot/initrd.img-$release"
	PATH=$work/bin:$PATH install 0 && installed && says "update-initramfs -u -k $release" &&
		PATH=$work/bin:$PATH install 0 --remove && says "update-initramfs -u -k $release"
}
case_no_tree() { rm -r "$machine/lib/modules/$release" && install 1 && says "is $release installed"; }
case_by_gcc() {
	kernel 'CONFIG_CC_VERSION_TEXT="x86_64-linux-gnu-gcc-14 (Debian 14.2.0-19) 14.2.0"'
	builds 0 && says " CC=x86_64-linux-gnu-gcc-14 "
}
case_by_clang() {
	kernel 'CONFIG_CC_VERSION_TEXT="Debian clang version 99.0.1 (1)"' CONFIG_CC_IS_CLANG=y \
		CONFIG_CLANG_VERSION=990001
	builds 1 && says "$release was compiled by clang 99, which is not here" &&
		[ "$(wc -l <<<"$output")" = 1 ] || return
	program clang && builds 0 && says " LLVM=1 " || return
	program clang-99 && builds 0 && says " LLVM=-99 " && [[ $output != *" CC="* ]]
}
case_by_another_rustc() {
	kernel 'CONFIG_CC_VERSION_TEXT="gcc 14"' 'CONFIG_RUSTC_VERSION_TEXT="rustc 1.85.0"'
	program rustc 'echo rustc 1.86.0'
	builds 1 && says "is by rustc 1.85.0; the compiler here is rustc 1.86.0"
}
case_blank_in_path() {
	kernel 'CONFIG_CC_VERSION_TEXT="gcc 14"'
	mv "$clone" "$work/a clone" && clone="$work/a clone"
	builds 1 && says "a folder with a blank in its name"
}

for name in $(compgen -A function case_); do
	fresh
	if reason=$("$name" 2>&1); then
		echo "ok ${name#case_}"
		passed=$((passed + 1))
	else
		echo "FAIL ${name#case_}: $reason"
		failed=$((failed + 1))
	fi
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
