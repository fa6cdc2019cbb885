// SPDX-License-Identifier: GPL-2.0

//! Bios on their way through a target.

use crate::device::Device;
use core::marker::PhantomData;
use core::ptr::NonNull;
use kernel::bindings;
use kernel::prelude::*;
use kext::bio;
use kext::bio::Bio;
pub use kext::bio::Kind;
use kext::bio::Status;

/// A bio that device-mapper asks a target to map.
///
/// `'a` is the life of the bio, during which the target lives too: what serves the bio may borrow
/// the target for it. It is invariant, so that nobody can pass a shorter life off as it.
///
/// # Invariants
///
/// The bio is valid and ours, was mapped by the target, and has not left `map`. The target is valid
/// for `'a`, and constructed.
pub struct MapBio<'a> {
    raw: NonNull<bindings::bio>,
    target: NonNull<dm_bindings::dm_target>,
    trimmed: bool,
    _life: PhantomData<fn(&'a ()) -> &'a ()>,
}

/// What a bio asks of a target.
#[derive(Clone, Copy, Debug)]
pub struct BioInfo {
    /// The operation.
    pub kind: Kind,
    /// Whether the data must be on stable storage when the bio completes.
    pub is_fua: bool,
    /// The first sector, counted from the start of the target; 0 for a flush.
    pub sector: u64,
    /// The number of sectors; 0 for a flush.
    pub sectors: u32,
}

/// How the memory that device-mapper reserves with a bio is aligned: as its own structure behind it
/// is, which has pointers.
pub const PER_BIO_ALIGN: usize = align_of::<*const c_void>();

/// Memory that device-mapper reserved with a bio.
///
/// # Invariants
///
/// `start` is aligned to [`PER_BIO_ALIGN`] and valid for `size` bytes as long as the bio.
pub struct PerBioData {
    start: NonNull<u8>,
    size: usize,
}

impl PerBioData {
    /// Returns the memory as a place for a `T`, if it is one.
    pub fn place<T>(&self) -> Option<NonNull<T>> {
        let fits = size_of::<T>() <= self.size && align_of::<T>() <= PER_BIO_ALIGN;
        fits.then_some(self.start.cast())
    }
}

impl<'a> MapBio<'a> {
    /// Takes a bio from device-mapper.
    ///
    /// # Safety
    ///
    /// Called from the map callback of `target`, once for the bio. `'a` ends no later than the
    /// bio is completed, and no later than the target is destroyed.
    #[inline]
    pub(crate) unsafe fn from_raw(
        raw: NonNull<bindings::bio>,
        target: NonNull<dm_bindings::dm_target>,
    ) -> Self {
        // INVARIANT: By the contract.
        Self {
            raw,
            target,
            trimmed: false,
            _life: PhantomData,
        }
    }

    #[inline]
    fn bio(&self) -> &Bio {
        // SAFETY: By the type invariant the bio is valid and ours; who changes it borrows `self`.
        unsafe { Bio::from_raw(self.raw) }
    }

    #[inline]
    fn bio_mut(&mut self) -> Pin<&mut Bio> {
        // SAFETY: By the type invariant the bio is valid and ours; other references borrow `self`.
        unsafe { Bio::from_raw_mut(self.raw) }
    }

    #[inline]
    fn begin(&self) -> u64 {
        // SAFETY: By the type invariant the target is valid; `begin` does not change once it is
        // constructed.
        unsafe { (*self.target.as_ptr()).begin }
    }

    /// Clears the mark that device-mapper has set in the original of this clone.
    #[inline]
    pub(crate) fn clear_inherited_mark(&mut self) {
        self.bio_mut().clear_inherited_mark();
    }

    /// Returns what the bio asks for.
    #[inline]
    pub fn kind(&self) -> Kind {
        self.bio().kind()
    }

    /// Returns true if the data must be on stable storage when the bio completes.
    #[inline]
    pub fn is_fua(&self) -> bool {
        self.bio().is_fua()
    }

    /// Returns the first sector, counted from the start of the target; 0 for a flush.
    #[inline]
    pub fn sector(&self) -> u64 {
        // A flush has sector 0, wherever the target begins.
        self.bio().sector().saturating_sub(self.begin())
    }

    /// Returns the number of sectors; 0 for a flush.
    #[inline]
    pub fn sectors(&self) -> u32 {
        self.bio().sectors()
    }

    /// Returns operation, position and size at once.
    #[inline]
    pub fn info(&self) -> BioInfo {
        BioInfo {
            kind: self.kind(),
            is_fua: self.is_fua(),
            sector: self.sector(),
            sectors: self.sectors(),
        }
    }

    /// Accepts only the first `sectors` sectors of the bio; device-mapper sends the rest as another
    /// bio.
    ///
    /// Does nothing if `sectors` is 0 or more than the bio has, for a flush, and for a bio that was
    /// trimmed, since device-mapper would not know where the rest begins.
    pub fn accept_partial_bio(&mut self, sectors: u32) {
        let splittable = !self.trimmed && !matches!(self.kind(), Kind::Flush | Kind::Other);
        if splittable && 0 < sectors && sectors < self.sectors() {
            // SAFETY: The bio is in `map`, with the position and the size with which it came. It is
            // not a duplicate: `CtrTarget` asks for one bio of a kind. It is not atomic, nor an
            // operation of zones: the target has no such features. The count is less than the bio
            // has.
            unsafe { dm_bindings::dm_accept_partial_bio(self.raw.as_ptr(), sectors) };
        }
    }

    /// Narrows a discard or the like to `sectors` sectors from `sector`, counted from the start
    /// of the target. What is cut off counts as done. Does nothing for a bio with data, or if the
    /// range is not inside the bio's.
    pub fn trim(&mut self, sector: u64, sectors: u32) {
        self.trimmed = true;
        let sector = sector.wrapping_add(self.begin());
        self.bio_mut().trim(sector, sectors);
    }

    /// Remaps the bio to `sector` of `device`.
    #[inline]
    pub fn remap(mut self, device: &'a Device, sector: u64) -> MapResult<'a> {
        self.bio_mut().set_target_of_clone(device, sector);
        MapResult::new(dm_bindings::DM_MAPIO_REMAPPED)
    }

    /// Completes the bio.
    pub fn end(self, result: Result) -> MapResult<'a> {
        // SAFETY: By the type invariant the bio is valid and ours. `self` is gone after this.
        unsafe { bio::end(self.raw, Status::from_result(result)) };
        MapResult::new(dm_bindings::DM_MAPIO_SUBMITTED)
    }

    /// Returns the bio itself, with its per-bio data.
    ///
    /// The caller submits or completes the bio, now or later, and returns [`MapResult::submitted`];
    /// or it returns [`MapResult::remapped`].
    pub fn into_raw(self) -> (NonNull<bindings::bio>, PerBioData) {
        // SAFETY: By the type invariant the target is valid; the size does not change once it is
        // constructed.
        let size = unsafe { (*self.target.as_ptr()).per_io_data_size } as usize;
        // SAFETY: The bio is one of device-mapper's, and the size what was asked for by the target
        // that maps it.
        let start = unsafe { dm_bindings::dm_per_bio_data(self.raw.as_ptr(), size) };
        // SAFETY: It points into the memory that the bio is a part of.
        let start = unsafe { NonNull::new_unchecked(start.cast()) };
        // INVARIANT: The size is 0 or was set by `CtrTarget::set_per_io_data_size`, to a multiple
        // of the alignment, and device-mapper's own structure begins where the memory ends.
        (self.raw, PerBioData { start, size })
    }
}

/// What `map` has done with a bio, one of `DM_MAPIO_*`: proof that it did something.
pub struct MapResult<'a> {
    code: c_int,
    _life: PhantomData<fn(&'a ()) -> &'a ()>,
}

impl MapResult<'_> {
    #[inline]
    fn new(code: u32) -> Self {
        Self {
            code: code as c_int,
            _life: PhantomData,
        }
    }

    #[inline]
    pub(crate) fn into_raw(self) -> c_int {
        self.code
    }

    /// `DM_MAPIO_SUBMITTED`: a bio of [`MapBio::into_raw`] was or will be submitted or completed.
    ///
    /// # Safety
    ///
    /// It is so, exactly once, and this is returned by the `map` that had the bio.
    pub unsafe fn submitted() -> Self {
        Self::new(dm_bindings::DM_MAPIO_SUBMITTED)
    }

    /// `DM_MAPIO_REMAPPED`: a bio of [`MapBio::into_raw`] points at where device-mapper is to
    /// submit it.
    ///
    /// # Safety
    ///
    /// It is so, nobody else has the bio, and this is returned by the `map` that had it.
    pub unsafe fn remapped() -> Self {
        Self::new(dm_bindings::DM_MAPIO_REMAPPED)
    }
}
