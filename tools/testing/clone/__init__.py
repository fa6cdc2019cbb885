# SPDX-License-Identifier: GPL-2.0

"""The acceptance list of the clone target, run against either implementation."""
