// SPDX-License-Identifier: GPL-2.0

//! The core of the clone target: pure logic, no kernel in it.

#![no_std]
