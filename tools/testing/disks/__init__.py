# SPDX-License-Identifier: GPL-2.0

"""Both targets on disks of all kinds, mainline's and ours in one boot: see __main__.py."""
