// SPDX-License-Identifier: GPL-2.0

//! Block I/O requests.

mod data;
mod group;
mod set;

pub use data::DataReader;
pub use data::DataWriter;
pub use group::BioGroup;
pub use set::free;
pub use set::BioClone;
pub use set::BioSet;

use crate::block::BlockDevice;
use core::ptr::NonNull;
use kernel::alloc::Flags;
use kernel::bindings;
use kernel::error::to_result;
use kernel::page::PAGE_SIZE;
use kernel::prelude::*;
use kernel::types::Opaque;

/// Bytes in a sector.
const SECTOR_SHIFT: u32 = 9;

const FUA: u32 = 1 << bindings::req_flag_bits___REQ_FUA;
const PREFLUSH: u32 = 1 << bindings::req_flag_bits___REQ_PREFLUSH;
const SYNC: u32 = 1 << bindings::req_flag_bits___REQ_SYNC;
const IDLE: u32 = 1 << bindings::req_flag_bits___REQ_IDLE;
const META: u32 = 1 << bindings::req_flag_bits___REQ_META;
const PRIO: u32 = 1 << bindings::req_flag_bits___REQ_PRIO;
const POLLED: u32 = 1 << bindings::req_flag_bits___REQ_POLLED;
const DRIVER_MARK: u32 = 1 << bindings::req_flag_bits___REQ_DRV;
const OP_MASK: u32 = (1 << bindings::REQ_OP_BITS) - 1;

/// What a bio asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Data from the device.
    Read,
    /// Data to the device.
    Write,
    /// Completed writes to stable storage; no data, no address.
    Flush,
    /// The sectors' content is of no interest any more.
    Discard,
    /// As discard, but nobody can read the old content ever again.
    SecureErase,
    /// The sectors read as zeroes.
    WriteZeroes,
    /// Anything else.
    Other,
}

/// How an I/O of ours is marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Plain data.
    Data,
    /// Metadata, which others wait for.
    Metadata,
}

/// How a bio of ours is to be set up: operation and flags.
#[derive(Clone, Copy)]
pub struct Operation(u32);

impl Operation {
    /// A read.
    pub const fn read(class: Class) -> Self {
        Self(bindings::req_op_REQ_OP_READ | SYNC | class.flags())
    }

    /// A write; with `stable` it completes when the data is on stable storage.
    ///
    /// Marked as direct writes of applications are, so that the throttling of buffered writeback
    /// does not put the submitter to sleep.
    pub const fn write(class: Class, stable: bool) -> Self {
        let fua = if stable { FUA } else { 0 };
        Self(bindings::req_op_REQ_OP_WRITE | SYNC | IDLE | fua | class.flags())
    }

    /// A write that completes when the data is on stable storage, and before it everything that
    /// was written earlier.
    pub const fn ordered_write(class: Class) -> Self {
        Self(Self::write(class, true).0 | PREFLUSH)
    }

    /// Returns true for a read.
    pub const fn is_read(self) -> bool {
        self.0 & OP_MASK == bindings::req_op_REQ_OP_READ
    }

    /// A flush without data.
    pub const fn flush() -> Self {
        Self(bindings::req_op_REQ_OP_WRITE | PREFLUSH | SYNC | IDLE)
    }
}

impl Class {
    const fn flags(self) -> u32 {
        match self {
            Class::Data => 0,
            Class::Metadata => META | PRIO,
        }
    }
}

/// A status of the block layer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Status(bindings::blk_status_t);

impl Status {
    /// Returns the errno, if it is an error.
    ///
    /// # Errors
    ///
    /// The errno of the status.
    pub fn to_result(self) -> Result {
        // SAFETY: May be called with any status, in any context.
        to_result(unsafe { bindings::blk_status_to_errno(self.0) })
    }

    /// Makes a status.
    pub fn from_result(result: Result) -> Self {
        match result {
            Ok(()) => Self(bindings::BLK_STS_OK as bindings::blk_status_t),
            // SAFETY: May be called with any errno, in any context.
            Err(error) => Self(unsafe { bindings::errno_to_blk_status(error.to_errno()) }),
        }
    }

    /// Makes a status from the number in `raw`.
    pub const fn from_raw(raw: u8) -> Self {
        Self(raw)
    }

    /// Returns the number.
    pub const fn as_raw(self) -> u8 {
        self.0
    }
}

/// A bio that is ours: neither submitted nor completed, and changed by nobody else.
///
/// It embeds the C structure and is used by reference.
#[repr(transparent)]
pub struct Bio(Opaque<bindings::bio>);

// SAFETY: A bio belongs to no thread.
unsafe impl Send for Bio {}

// SAFETY: Through a shared reference a bio is only read.
unsafe impl Sync for Bio {}

impl Bio {
    /// Makes a reference from a C pointer.
    ///
    /// # Safety
    ///
    /// For `'a` the bio is valid, neither submitted nor completed, and nobody changes it.
    #[inline]
    pub unsafe fn from_raw<'a>(raw: NonNull<bindings::bio>) -> &'a Self {
        // SAFETY: By the contract; the types have the same layout.
        unsafe { &*raw.as_ptr().cast() }
    }

    /// Makes a reference from a C pointer, through which the bio may be changed.
    ///
    /// # Safety
    ///
    /// For `'a` the bio is valid, neither submitted nor completed, and nobody else looks at it.
    #[inline]
    pub unsafe fn from_raw_mut<'a>(raw: NonNull<bindings::bio>) -> Pin<&'a mut Self> {
        // SAFETY: By the contract; the types have the same layout. A bio is not moved: who has the
        // reference cannot, and C does not.
        unsafe { Pin::new_unchecked(&mut *raw.as_ptr().cast()) }
    }

    #[inline]
    fn as_raw(&self) -> *mut bindings::bio {
        self.0.get()
    }

    /// Returns the C structure, to be changed.
    #[inline]
    fn raw_mut(self: Pin<&mut Self>) -> &mut bindings::bio {
        // SAFETY: The bio is valid, and by this reference nobody else looks at it. It is not moved
        // here, and not given out.
        unsafe { &mut *self.as_raw() }
    }

    #[inline]
    fn opf(&self) -> u32 {
        // SAFETY: The bio is valid, and nobody changes it while there is a reference.
        unsafe { (*self.as_raw()).bi_opf }
    }

    /// Returns what the bio asks for.
    #[inline]
    pub fn kind(&self) -> Kind {
        match self.opf() & OP_MASK {
            bindings::req_op_REQ_OP_READ => Kind::Read,
            bindings::req_op_REQ_OP_WRITE if self.is_empty_flush() => Kind::Flush,
            bindings::req_op_REQ_OP_WRITE => Kind::Write,
            bindings::req_op_REQ_OP_FLUSH => Kind::Flush,
            bindings::req_op_REQ_OP_DISCARD => Kind::Discard,
            bindings::req_op_REQ_OP_SECURE_ERASE => Kind::SecureErase,
            bindings::req_op_REQ_OP_WRITE_ZEROES => Kind::WriteZeroes,
            _ => Kind::Other,
        }
    }

    #[inline]
    fn is_empty_flush(&self) -> bool {
        self.opf() & PREFLUSH != 0 && self.bytes() == 0
    }

    /// Returns true if the bio wants its data on stable storage before it completes.
    #[inline]
    pub fn is_fua(&self) -> bool {
        self.opf() & FUA != 0
    }

    /// Has the bio completed by an interrupt, also if its submitter polls.
    ///
    /// The submitter of a bio that device-mapper has cloned polls for the one clone that
    /// device-mapper knows, from where `map` has sent it. What is sent from elsewhere, or is a bio
    /// of ours that shares its data, goes to a queue that nobody polls for it, and that has no
    /// interrupt: it would complete when somebody else happens to poll there, or never. A submitter
    /// that polls for a bio without the flag finds it completed.
    pub fn clear_polled(self: Pin<&mut Self>) {
        self.raw_mut().bi_opf &= !POLLED;
    }

    /// Takes away a driver's own mark on the bio that this one was cloned from.
    ///
    /// With it device-mapper says that it has made a list of what is to be polled for a bio, in the
    /// bio's private pointer. If it cuts the bio, clones of the rest inherit the mark without the
    /// list, and the device-mapper of a device below follows a null pointer.
    #[inline]
    pub fn clear_inherited_mark(self: Pin<&mut Self>) {
        if self.opf() & POLLED != 0 {
            self.raw_mut().bi_opf &= !DRIVER_MARK;
        }
    }

    #[inline]
    fn bytes(&self) -> u32 {
        // SAFETY: The bio is valid, and nobody changes it while there is a reference.
        unsafe { (*self.as_raw()).bi_iter.bi_size }
    }

    /// Returns the first sector.
    #[inline]
    pub fn sector(&self) -> u64 {
        // SAFETY: The bio is valid, and nobody changes it while there is a reference.
        unsafe { (*self.as_raw()).bi_iter.bi_sector }
    }

    /// Returns the number of sectors.
    #[inline]
    pub fn sectors(&self) -> u32 {
        self.bytes() >> SECTOR_SHIFT
    }

    /// Points the bio at `sector` of `device`; a flush has no sector.
    #[inline]
    pub fn set_target(self: Pin<&mut Self>, device: &BlockDevice, sector: u64) {
        let raw = self.raw_mut();
        // SAFETY: The bio is valid, and nobody else looks at it; the device is open.
        unsafe { dm_bindings::dmox_bio_set_dev(raw, device.as_raw()) };
        raw.bi_iter.bi_sector = sector;
    }

    /// As [`set_target`](Self::set_target), for a clone that device-mapper is to send there: it
    /// puts the clone down to the control group of the bio that it stands for, just before it does
    /// so, whatever the clone was put down to. Once is enough: it takes longer than all else here.
    #[inline]
    pub fn set_target_of_clone(self: Pin<&mut Self>, device: &BlockDevice, sector: u64) {
        const REMAPPED: u16 = 1 << bindings::BIO_REMAPPED;
        const THROTTLED: u16 = 1 << bindings::BIO_BPS_THROTTLED;
        // What was set of another device is cleared, as `bio_set_dev` does.
        let bio = self.raw_mut();
        bio.bi_flags &= !REMAPPED;
        if bio.bi_bdev != device.as_raw() {
            bio.bi_flags &= !THROTTLED;
        }
        bio.bi_bdev = device.as_raw();
        bio.bi_iter.bi_sector = sector;
    }

    /// Narrows a bio without data to `sectors` sectors from `sector`.
    ///
    /// Does nothing if the bio carries data or the new range is not inside the old one.
    pub fn trim(self: Pin<&mut Self>, sector: u64, sectors: u32) {
        let inside = match sector.checked_sub(self.sector()) {
            Some(skip) => skip.saturating_add(sectors.into()) <= self.sectors().into(),
            None => false,
        };
        let dataless = matches!(
            self.kind(),
            Kind::Discard | Kind::SecureErase | Kind::WriteZeroes
        );
        if !inside || !dataless {
            return;
        }
        // Without data there are no segments to advance over. The size does not overflow, being at
        // most the old one.
        let iter = &mut self.raw_mut().bi_iter;
        iter.bi_sector = sector;
        iter.bi_size = sectors << SECTOR_SHIFT;
    }
}

/// Submits a bio that came from above to the device it points at.
///
/// # Safety
///
/// The bio is valid and ours; from now on it is the block layer's, until its completion function
/// is called.
pub unsafe fn submit_noacct(bio: NonNull<bindings::bio>) {
    // SAFETY: By the contract the bio is valid and ours, and given up with this.
    unsafe { bindings::submit_bio_noacct(bio.as_ptr()) };
}

/// Completes a bio.
///
/// # Safety
///
/// The bio is valid and ours; from now on it is gone.
pub unsafe fn end(bio: NonNull<bindings::bio>, status: Status) {
    // SAFETY: By the contract the bio is valid and ours.
    unsafe { (*bio.as_ptr()).bi_status = status.0 };
    // SAFETY: By the contract the bio is valid and ours, and given up with this.
    unsafe { bindings::bio_endio(bio.as_ptr()) };
}

/// The state of a bio from above before it is sent below, to be restored when it returns.
///
/// The block layer moves a bio's position, sets flags, and counts splits in it.
pub struct BioRecord {
    opf: bindings::blk_opf_t,
    flags: c_ushort,
    iter: bindings::bvec_iter,
    end_io: bindings::bio_end_io_t,
    private: *mut c_void,
}

impl BioRecord {
    /// Records the state of `bio`, then makes `end_io` its completion function.
    ///
    /// # Safety
    ///
    /// The bio is valid and ours. Once it is submitted, `end_io` may be called with it, and find
    /// `private` in it.
    pub unsafe fn hook(
        bio: NonNull<bindings::bio>,
        end_io: unsafe extern "C" fn(*mut bindings::bio),
        private: *mut c_void,
    ) -> Self {
        // SAFETY: By the contract the bio is valid, and nobody else looks at it.
        let raw = unsafe { &mut *bio.as_ptr() };
        let saved = Self {
            opf: raw.bi_opf,
            flags: raw.bi_flags,
            iter: raw.bi_iter,
            end_io: raw.bi_end_io,
            private: raw.bi_private,
        };
        raw.bi_end_io = Some(end_io);
        raw.bi_private = private;
        saved
    }

    /// Restores everything but the status and the device.
    ///
    /// # Safety
    ///
    /// `bio` is the bio of [`BioRecord::hook`], is valid, was completed, and is ours again.
    pub unsafe fn restore(self, bio: NonNull<bindings::bio>) {
        // SAFETY: By the contract the bio is valid, and nobody else looks at it.
        let raw = unsafe { &mut *bio.as_ptr() };
        raw.bi_opf = self.opf;
        raw.bi_flags = self.flags;
        raw.bi_iter = self.iter;
        raw.bi_end_io = self.end_io;
        raw.bi_private = self.private;
        // One completion to come, as after allocation.
        raw.__bi_remaining.counter = 1;
    }
}

/// A bio of our own, without memory for its data.
///
/// # Invariants
///
/// While it is not in flight, nobody but the owner touches it.
pub struct OwnBio {
    bio: Opaque<bindings::bio>,
    vecs: KVec<bindings::bio_vec>,
}

// SAFETY: A bio belongs to no thread.
unsafe impl Send for OwnBio {}

impl OwnBio {
    /// Creates a bio for at most `segments` pieces of memory.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new(segments: usize, flags: Flags) -> Result<Self> {
        let mut vecs = KVec::with_capacity(segments, flags)?;
        for _ in 0..segments {
            vecs.push(bindings::bio_vec::default(), flags)?;
        }
        Ok(Self {
            bio: Opaque::uninit(),
            vecs,
        })
    }

    /// Makes the bio at `this` ready: `operation` on `sectors` sectors from `sector` of `device`,
    /// from or into `pieces`, from their page `page` on.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the pieces are too small or too many; then there is nothing to finish.
    ///
    /// # Safety
    ///
    /// `this` is valid, ours, not in flight, and does not move before it was completed. The
    /// pieces outlive the I/O.
    pub unsafe fn prepare(
        this: NonNull<Self>,
        device: &BlockDevice,
        operation: Operation,
        sector: u64,
        sectors: u32,
        pieces: &[crate::pages::Piece],
        page: usize,
    ) -> Result {
        // SAFETY: By the contract `this` is valid and ours, and the block layer has no use for the
        // table: the bio is not in flight.
        let vecs = unsafe { &mut (*this.as_ptr()).vecs };
        let max = u16::try_from(vecs.len())?;
        let io = OwnIo {
            device,
            operation,
            sector,
            sectors,
            pieces,
            page,
        };
        // SAFETY: The bio and the table are ours and stay where they are, by the contract.
        unsafe { io.prepare(Self::raw(this), vecs.as_mut_ptr(), max) }
    }

    /// Submits the bio at `this`; `end_io` is called when it is done.
    ///
    /// # Safety
    ///
    /// The bio was prepared and is not in flight. Until `end_io` is called it is the block layer's,
    /// and the device stays open. `end_io` may be called with it, and find `private` in it.
    pub unsafe fn submit(
        this: NonNull<Self>,
        end_io: unsafe extern "C" fn(*mut bindings::bio),
        private: *mut c_void,
    ) {
        let raw = Self::raw(this);
        // SAFETY: By the contract the bio is initialised, and not in flight.
        unsafe {
            (*raw).bi_end_io = Some(end_io);
            (*raw).bi_private = private;
        }
        // SAFETY: By the contract the bio is initialised, with all that it needs, and given up
        // until it was completed.
        unsafe { bindings::submit_bio(raw) };
    }

    /// Gives up what the block layer attached to the bio at `this`.
    ///
    /// # Safety
    ///
    /// The bio was prepared and is not in flight.
    pub unsafe fn finish(this: NonNull<Self>) {
        // SAFETY: By the contract the bio is initialised, and not in flight.
        unsafe { bindings::bio_uninit(Self::raw(this)) };
    }

    fn raw(this: NonNull<Self>) -> *mut bindings::bio {
        // SAFETY: All callers have a valid pointer; no reference is made.
        unsafe { Opaque::cast_into(core::ptr::addr_of!((*this.as_ptr()).bio)) }
    }
}

/// What a bio of our own is to do.
struct OwnIo<'a> {
    device: &'a BlockDevice,
    operation: Operation,
    sector: u64,
    sectors: u32,
    pieces: &'a [crate::pages::Piece],
    /// The first page of the pieces.
    page: usize,
}

impl OwnIo<'_> {
    /// Makes the bio at `raw` ready, with a table of `max` segments at `vecs`.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the pieces are too small or too many; there is nothing to finish then.
    ///
    /// # Safety
    ///
    /// The bio and the table are ours, and neither moves before the bio was completed. The bio is
    /// not in flight. The pieces outlive the I/O.
    unsafe fn prepare(
        &self,
        raw: *mut bindings::bio,
        vecs: *mut bindings::bio_vec,
        max: u16,
    ) -> Result {
        let left = u32::try_from(u64::from(self.sectors) << SECTOR_SHIFT)?;
        let skip = u32::try_from(self.page.saturating_mul(PAGE_SIZE))?;
        // SAFETY: `raw` is valid for writes, and the table for `max` segments. Both stay where they
        // are until the bio was completed, by the contract. The device is open.
        unsafe {
            dm_bindings::dmox_bio_init_internal(
                raw,
                self.device.as_raw(),
                vecs,
                max,
                self.operation.0,
            );
        }
        // SAFETY: `raw` is valid, and not in flight.
        unsafe { (*raw).bi_iter.bi_sector = self.sector };
        // SAFETY: The bio was initialised just now, and the pieces outlive the I/O.
        let added = unsafe { self.add(raw, skip, left) };
        if added.is_err() {
            // SAFETY: The bio was initialised just now, and is not in flight.
            unsafe { bindings::bio_uninit(raw) };
        }
        added
    }

    /// Adds `left` bytes of the pieces to the bio, those after the first `skip`.
    ///
    /// # Safety
    ///
    /// The bio is initialised and ours, and the pieces are valid.
    unsafe fn add(&self, raw: *mut bindings::bio, mut skip: u32, mut left: u32) -> Result {
        for piece in self.pieces {
            if left == 0 {
                break;
            }
            let offset = skip.min(piece.bytes());
            skip = skip.saturating_sub(offset);
            let part = left.min(piece.bytes().saturating_sub(offset));
            if part == 0 {
                continue;
            }
            // SAFETY: By the contract the bio and the page are valid. The part is inside the piece,
            // whose pages are contiguous.
            let added = unsafe { bindings::bio_add_page(raw, piece.as_ptr(), part, offset) };
            if u32::try_from(added) != Ok(part) {
                return Err(EINVAL);
            }
            left = left.saturating_sub(part);
        }
        if left == 0 {
            Ok(())
        } else {
            Err(EINVAL)
        }
    }
}

/// Returns the `bi_private` of a bio whose completion function runs, and its status.
///
/// # Safety
///
/// The bio is valid, and given to the completion function.
pub unsafe fn completion(bio: *mut bindings::bio) -> (*mut c_void, Status) {
    // SAFETY: By the contract the bio is valid, and nobody else looks at it.
    unsafe { ((*bio).bi_private, Status((*bio).bi_status)) }
}
