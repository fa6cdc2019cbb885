// SPDX-License-Identifier: GPL-2.0

//! Many tasks, one cache.
