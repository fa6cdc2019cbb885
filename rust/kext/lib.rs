// SPDX-License-Identifier: GPL-2.0

//! What the `kernel` crate lacks, named as it would be there.

