// SPDX-License-Identifier: GPL-2.0

//! The recovery journal: every change of a mapping, in order.
