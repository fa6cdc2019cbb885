// SPDX-License-Identifier: GPL-2.0

//! Bios of our own for parts of the same memory, all in flight at once.

use super::Operation;
use super::OwnIo;
use super::Status;
use crate::block::BlockDevice;
use crate::pages::Piece;
use kernel::alloc::Flags;
use kernel::bindings;
use kernel::prelude::*;
use kernel::types::Opaque;

/// Bios without memory for their data. None is in flight when the group is dropped.
pub struct BioGroup {
    bios: KVVec<Opaque<bindings::bio>>,
    /// The segments of all of them.
    vecs: KVVec<Opaque<bindings::bio_vec>>,
}

// SAFETY: A bio belongs to no thread.
unsafe impl Send for BioGroup {}

impl BioGroup {
    /// Creates `bios` bios, with `segments` segments in all, by an allocation with these flags.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new(bios: usize, segments: usize, flags: Flags) -> Result<Self> {
        let mut this = Self {
            bios: KVVec::with_capacity(bios, flags)?,
            vecs: KVVec::with_capacity(segments, flags)?,
        };
        for _ in 0..bios {
            this.bios.push(Opaque::uninit(), flags)?;
        }
        for _ in 0..segments {
            this.vecs.push(Opaque::uninit(), flags)?;
        }
        Ok(this)
    }

    /// Returns the number of bios.
    pub fn bios(&self) -> usize {
        self.bios.len()
    }

    fn raw(&self, bio: usize) -> Result<*mut bindings::bio> {
        Ok(self.bios.get(bio).ok_or(EINVAL)?.get())
    }

    /// Submits bio `bio`: `operation` on `sectors` sectors from `sector` of `device`, from or into
    /// `pieces`, from their page `page` on. `end_io` is called when it is done, with `private`.
    ///
    /// It takes segments from number `segment` on. Returns the number behind the last.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the pieces are too small, or too many; nothing was submitted then, and there is
    /// nothing to [finish](Self::finish).
    ///
    /// # Safety
    ///
    /// The bio is not in flight, nor is one that took segments from `segment` on. The pieces and
    /// the group stay as they are until `end_io` was called, and the device stays open. `end_io`
    /// may be called with `private`.
    #[expect(clippy::too_many_arguments, reason = "what a bio has to know")]
    pub unsafe fn submit(
        &self,
        (bio, segment): (usize, usize),
        device: &BlockDevice,
        operation: Operation,
        (sector, sectors): (u64, u32),
        (pieces, page): (&[Piece], usize),
        end_io: unsafe extern "C" fn(*mut bindings::bio),
        private: *mut c_void,
    ) -> Result<usize> {
        let raw = self.raw(bio)?;
        let vecs = self.vecs.get(segment..).unwrap_or_default();
        let first = vecs.first().ok_or(EINVAL)?;
        let max = u16::try_from(vecs.len()).unwrap_or(u16::MAX);
        let io = OwnIo {
            device,
            operation,
            sector,
            sectors,
            pieces,
            page,
        };
        // SAFETY: The bio and the segments are ours, by the contract. Both are on the heap, and stay
        // there as long as the group does.
        unsafe { io.prepare(raw, first.get(), max) }?;
        // SAFETY: The bio is initialised, and ours until it is submitted; the rest is the contract's.
        unsafe {
            let end = segment.saturating_add((*raw).bi_vcnt.into());
            (*raw).bi_end_io = Some(end_io);
            (*raw).bi_private = private;
            bindings::submit_bio(raw);
            Ok(end)
        }
    }

    /// Gives up what the block layer attached to bio `bio`, and returns how it was completed.
    ///
    /// # Safety
    ///
    /// The bio was submitted, and has completed.
    pub unsafe fn finish(&self, bio: usize) -> Result {
        let raw = self.raw(bio)?;
        // SAFETY: By the contract the bio is initialised and ours again.
        unsafe {
            let status = Status((*raw).bi_status);
            bindings::bio_uninit(raw);
            status.to_result()
        }
    }
}
