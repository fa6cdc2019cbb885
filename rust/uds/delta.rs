// SPDX-License-Identifier: GPL-2.0

//! Delta lists: sorted numbers with a payload each, coded by their differences.
