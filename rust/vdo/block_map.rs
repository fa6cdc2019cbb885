// SPDX-License-Identifier: GPL-2.0

//! The map from logical to physical blocks.
