# SPDX-License-Identifier: GPL-2.0

"""What a target costs, beside the bare device and the C target in the same boot."""
