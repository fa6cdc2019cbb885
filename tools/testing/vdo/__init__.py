# SPDX-License-Identifier: GPL-2.0

"""The acceptance list of the vdo target, run against the in-tree module and ours."""
