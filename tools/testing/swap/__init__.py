# SPDX-License-Identifier: GPL-2.0

"""Swap on the targets, in a machine whose memory does not suffice: see __main__.py."""
