# SPDX-License-Identifier: GPL-2.0

"""What the suites in the VM share: devices, direct I/O, kernel log, metadata, the runner."""
