// SPDX-License-Identifier: GPL-2.0

//! Where bios come from that share the data of another.

use super::Bio;
use crate::block::BlockDevice;
use core::marker::PhantomData;
use core::ptr::NonNull;
use kernel::bindings;
use kernel::error::to_result;
use kernel::prelude::*;
use kernel::types::Opaque;

/// A pool of bios, some of which are always there.
///
/// # Invariants
///
/// The C structure is initialised and does not move.
pub struct BioSet(Pin<KBox<Opaque<bindings::bio_set>>>);

// SAFETY: A bio set belongs to no thread.
unsafe impl Send for BioSet {}

// SAFETY: Bio sets do their own locking.
unsafe impl Sync for BioSet {}

/// A bio from a set that shares the data of another.
///
/// # Invariants
///
/// The bio is ours, came from a set that lives for `'s`, and is not submitted.
pub struct BioClone<'s>(NonNull<bindings::bio>, PhantomData<&'s BioSet>);

impl BioSet {
    /// Creates a set that keeps `reserve` bios in reserve.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new(reserve: u32) -> Result<Self> {
        let set = KBox::try_pin_init(
            Opaque::try_ffi_init(|set: *mut bindings::bio_set| {
                // SAFETY: The slot is valid for writes.
                unsafe { set.write_bytes(0, 1) };
                // SAFETY: The slot is valid, zeroed, and the set stays there: it is pinned.
                to_result(unsafe { bindings::bioset_init(set, reserve, 0, 0) })
            }),
            GFP_KERNEL,
        )?;
        // INVARIANT: Initialised just now, and pinned.
        Ok(Self(set))
    }

    /// Takes a bio for a part of `original`: `sectors` sectors, `skip` sectors behind its start,
    /// to be found at `sector` of `device`.
    ///
    /// With `wait` this sleeps until one is available; a caller that has bios of the set which are
    /// not in flight must not wait.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the part is not inside the original; `ENOMEM` if there is no bio now.
    pub fn clone_part(
        &self,
        original: &Bio,
        skip: u32,
        sectors: u32,
        device: &BlockDevice,
        sector: u64,
        wait: bool,
    ) -> Result<BioClone<'_>> {
        if skip.checked_add(sectors).ok_or(EINVAL)? > original.sectors() {
            return Err(EINVAL);
        }
        let gfp = if wait {
            dm_bindings::DMOX_CONST_GFP_NOIO
        } else {
            dm_bindings::DMOX_CONST_GFP_NOWAIT
        };
        // SAFETY: The device is open, the original valid and not changed meanwhile, and by the type
        // invariant the set is initialised. What the clone shares with the original is used only
        // once it is submitted: see `BioClone::submit`.
        let raw = unsafe {
            bindings::bio_alloc_clone(device.as_raw(), original.as_raw(), gfp, self.0.get())
        };
        let raw = NonNull::new(raw).ok_or(ENOMEM)?;
        // It inherits the flags of the original, and nobody polls for it.
        // SAFETY: The clone is valid, and nobody else knows it.
        unsafe { Bio::from_raw_mut(raw) }.clear_polled();
        // SAFETY: The clone is valid, and nobody else knows it. It has the original's size, and the
        // part is inside that.
        unsafe { bindings::bio_trim(raw.as_ptr(), skip.into(), sectors.into()) };
        // SAFETY: The clone is valid, and nobody else knows it.
        unsafe { (*raw.as_ptr()).bi_iter.bi_sector = sector };
        // INVARIANT: It is ours, from this set, and not submitted.
        Ok(BioClone(raw, PhantomData))
    }
}

impl Drop for BioSet {
    fn drop(&mut self) {
        // SAFETY: By the invariant the set is initialised. All bios are back: a `BioClone` borrows
        // the set, and the submitter of one promises that the set stays until it is done. What was
        // forgotten is not used again.
        unsafe { bindings::bioset_exit(self.0.get()) };
    }
}

impl BioClone<'_> {
    /// Submits the bio; `end_io` is called when it is done, and has to call [`free`].
    ///
    /// # Safety
    ///
    /// The original, its data, and the set stay as they are until `end_io` is called, and the
    /// device stays open. `end_io` may be called with this bio, and find `private` in it.
    pub unsafe fn submit(
        self,
        end_io: unsafe extern "C" fn(*mut bindings::bio),
        private: *mut c_void,
    ) {
        let raw = self.0.as_ptr();
        core::mem::forget(self);
        // SAFETY: By the type invariant the bio is ours, and not submitted.
        unsafe {
            (*raw).bi_end_io = Some(end_io);
            (*raw).bi_private = private;
        }
        // SAFETY: By the type invariant the bio is ours, and it is given up with this. By the
        // contract what it needs stays until it was completed.
        unsafe { bindings::submit_bio_noacct(raw) };
    }
}

impl Drop for BioClone<'_> {
    fn drop(&mut self) {
        // SAFETY: By the invariant the bio is ours, and its set is alive; nobody uses it after
        // this.
        unsafe { bindings::bio_put(self.0.as_ptr()) };
    }
}

/// Gives a bio back to its set.
///
/// # Safety
///
/// It came from [`BioSet::clone_part`], was completed, and is not used after this.
pub unsafe fn free(bio: *mut bindings::bio) {
    // SAFETY: By the contract there is one reference left, which is given up with this.
    unsafe { bindings::bio_put(bio) };
}
