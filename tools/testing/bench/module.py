# SPDX-License-Identifier: GPL-2.0

"""Two modules of one name in one boot: the in-tree one and ours."""

import os
import platform
import subprocess

from bench.row import C
from bench.row import RUST
from lib.devices import modprobe


class Module:
    """A target's module; `use` makes C's or ours the one that is loaded."""

    def __init__(self, name):
        self.name = name
        self._loaded = None

    def use(self, implementation):
        """Load that implementation, and see to it that it is that one."""
        if implementation == self._loaded:
            return
        self.unload()
        if implementation == C:
            path = self._in_tree()
            needs = subprocess.run(["modinfo", "-F", "depends", path], check=True,
                                   capture_output=True, text=True).stdout.strip()
            if needs:
                modprobe("-a", *needs.split(","))
            subprocess.run(["insmod", path], check=True)
        elif implementation == RUST:
            modprobe(self.name)
        self._loaded = implementation
        # "O" stands for a module from outside of the kernel's tree.
        assert ("O" in self._taint()) == (implementation == RUST), \
            f"{self.name} is not the {implementation} one"

    def unload(self):
        if os.path.exists(self._folder()):
            subprocess.run(["rmmod", self.name], check=True)
        self._loaded = None

    def _in_tree(self):
        top = f"/lib/modules/{platform.release()}/kernel/drivers/md"
        for folder, _, files in os.walk(top):
            if f"{self.name}.ko" in files:
                return f"{folder}/{self.name}.ko"
        raise FileNotFoundError(f"{self.name}.ko below {top}")

    def _folder(self):
        return f"/sys/module/{self.name.replace('-', '_')}"

    def _taint(self):
        with open(f"{self._folder()}/taint") as file:
            return file.read()
