// SPDX-License-Identifier: GPL-2.0

//! Formatting, as `kernel::fmt`, whose `Display` is a trait of its own in the kernel.

pub use core::fmt::*;
