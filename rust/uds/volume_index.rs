// SPDX-License-Identifier: GPL-2.0

//! In memory: which chapter a name is in.
