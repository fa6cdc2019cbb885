// SPDX-License-Identifier: GPL-2.0

//! Tests of the crate as a whole.

mod crash;
mod damage;
mod failures;
mod vectors;
