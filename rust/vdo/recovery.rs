// SPDX-License-Identifier: GPL-2.0

//! What happens after a crash.
