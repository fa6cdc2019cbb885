// SPDX-License-Identifier: GPL-2.0

//! Persistent metadata as the device-mapper keeps it: blocks, B-trees, arrays, bitsets.

#![no_std]
