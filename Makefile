# SPDX-License-Identifier: GPL-2.0
#
# Front door. All work is done by Kbuild (the modules) and by scripts/; "make help" lists targets.
#
# KERNEL=7.2 takes the newest stock kernel of that series instead of the newest of all,
# KDIR=/path a prepared kernel tree, without any build root.

export KERNEL KDIR CLIPPY V

.PHONY: all modules install uninstall clippy check demo test test-long test-debug test-uml test-kasan bench setup clean help

all: modules

modules:		## build the modules into build/modules/<kernel release>/
	@scripts/build

install:		## build and put the modules under updates/ of the kernel's module tree
	@scripts/install

uninstall:		## take them away again
	@scripts/install --remove

setup:			## make build root, kernel and guest now; the other targets do so when needed
	@scripts/setup $(KERNEL)

demo:			## show the targets at work in a virtual machine
	@scripts/demo

test:			## all that CI runs: host tests, lints, virtual machines
	@scripts/test

test-long:		## the same suites, longer
	@scripts/test --long

test-debug:		## the VM suites on a kernel with lockdep, kmemleak and more
	@scripts/test --debug

test-uml:		## the VM suites in User Mode Linux, at this machine's speed
	@scripts/test --uml

test-kasan:		## the VM suites in User Mode Linux under KASAN
	@scripts/test --kasan

bench:			## compare with the C targets, in CPU time and instructions
	@scripts/bench

clean:			## remove build/
	rm -rf build

help:
	@sed -n 's/^\([a-z-]*\):[[:space:]]*##/make \1\t/p' Makefile | expand -t 20
