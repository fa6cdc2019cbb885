// SPDX-License-Identifier: GPL-2.0

//! What is in a compressed block.

use crate::error::Error;
use crate::error::Result;
use crate::error::Status;
use crate::format::compressed;
use crate::format::Page;
use crate::world::World;
use kernel::prelude::*;

/// Decompresses fragment `slot` of the compressed block in `from`.
///
/// # Errors
///
/// `EIO` without one of the pages; `InvalidFragment` if there is none, or none of a block.
pub(crate) fn decompress(
    world: &impl World,
    from: Option<&Page>,
    slot: u8,
    into: Option<&mut Page>,
) -> Result {
    let (Some(block), Some(into)) = (from, into) else {
        return Err(Error::Errno(EIO));
    };
    let fragment = compressed::fragment(block, slot)?;
    let result = world.decompress(fragment, into);
    result.map_err(|_| Status::InvalidFragment.into())
}
