// SPDX-License-Identifier: GPL-2.0

//! LZ4, by the kernel's own routines.

use core::mem::MaybeUninit;
use kernel::prelude::*;

/// Decompresses a raw block; it must fill `to`.
///
/// # Errors
///
/// `EIO` if it does not, or is no such block.
pub fn decompress(from: &[u8], to: &mut [u8]) -> Result {
    let (from_len, to_len) = (c_int::try_from(from.len())?, c_int::try_from(to.len())?);
    // SAFETY: Both pointers are valid for their lengths, and the function checks its input.
    let len = unsafe {
        dm_bindings::LZ4_decompress_safe(
            from.as_ptr().cast(),
            to.as_mut_ptr().cast(),
            from_len,
            to_len,
        )
    };
    if len == to_len {
        Ok(())
    } else {
        Err(EIO)
    }
}

/// Words of the state of a compressor, which contains pointers while it is in use only.
const STATE_WORDS: usize = size_of::<dm_bindings::LZ4_stream_t>().div_ceil(size_of::<u64>());

const _: () = assert!(align_of::<dm_bindings::LZ4_stream_t>() <= align_of::<u64>());

/// The memory that compressing needs.
pub struct Compressor {
    state: KBox<MaybeUninit<[u64; STATE_WORDS]>>,
}

impl Compressor {
    /// Takes the memory.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new() -> Result<Self> {
        let state = KBox::new_uninit(GFP_KERNEL)?;
        Ok(Self { state })
    }

    /// Compresses `from` to a raw block at the front of `to`. Returns its size; `None` if it does
    /// not fit. The higher the `acceleration`, from 1 on, the faster, and the larger what comes out.
    pub fn compress(&mut self, from: &[u8], to: &mut [u8], acceleration: u32) -> Option<usize> {
        let from_len = c_int::try_from(from.len()).ok()?;
        let to_len = c_int::try_from(to.len()).ok()?;
        let acceleration = c_int::try_from(acceleration).ok()?;
        // SAFETY: Both pointers are valid for their lengths, beyond which the function neither reads nor
        // writes. The state is large enough and ours alone; the function initialises it.
        let len = unsafe {
            dm_bindings::LZ4_compress_fast(
                from.as_ptr().cast(),
                to.as_mut_ptr().cast(),
                from_len,
                to_len,
                acceleration,
                self.state.as_mut_ptr().cast(),
            )
        };
        usize::try_from(len).ok().filter(|&len| len > 0)
    }
}
