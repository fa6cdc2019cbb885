// SPDX-License-Identifier: GPL-2.0

//! What is on disk: one file per structure, each a codec that believes nothing it reads.
//!
//! Everything is little-endian and packed, but for the numbers that are cut out of names. Sizes
//! follow from the [`Geometry`] of an index, which is a value, not a set of constants.
//!
//! | File | Structure |
//! |---|---|
//! | [`name`], [`geometry`] | names and records; how large everything is |
//! | [`region`], [`super_block`], [`config`] | where the parts of an index are, and what it is |
//! | [`save`], [`open_chapter`], [`page_map`] | a save: its header, and what is in it beside the volume index |
//! | [`index_page`], [`record_page`] | the pages of a sealed chapter |
//! | [`hash`] | how nonces follow from each other |

pub mod config;
pub mod fault;
pub(crate) mod field;
pub mod geometry;
pub mod hash;
pub mod index_page;
pub mod name;
pub mod open_chapter;
pub mod page_map;
pub mod record_page;
pub mod region;
pub mod save;
pub mod super_block;

pub use fault::Fault;
pub use geometry::Chapter;
pub use geometry::Geometry;
pub use geometry::Memory;
pub use geometry::NO_CHAPTER;
pub use name::Metadata;
pub use name::Name;
pub use name::Record;
pub use name::RECORD_SIZE;

/// A block in memory.
pub type Block = runtime::disk::Page;

/// Bytes in a block.
pub const BLOCK_SIZE: usize = runtime::disk::PAGE_SIZE;

#[cfg(test)]
mod tests;
