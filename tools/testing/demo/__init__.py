# SPDX-License-Identifier: GPL-2.0

"""The targets at work: what a user would do with them, and the proof that it went well."""
