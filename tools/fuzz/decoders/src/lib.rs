// SPDX-License-Identifier: GPL-2.0

//! What the fuzz targets do with their input.
//!
//! Each function takes bytes that nobody has looked at, makes them a part of metadata that is
//! otherwise sound (with a good checksum, or nothing would get past that), and does with it what a
//! target does. Whatever comes out may be an error; it must not be a panic, and must not take
//! long.

pub mod metadata;
pub mod uds;
pub mod vdo;
