// SPDX-License-Identifier: GPL-2.0

//! Buffers with all that one I/O needs beside the memory.

use core::ptr::NonNull;
use core::task::Waker;
use kernel::bindings;
use kernel::prelude::*;
use kext::bio;
use kext::bio::Operation;
use kext::bio::OwnBio;
use kext::bio::Status;
use kext::block::BlockDevice;
use kext::pages::Pages;
use runtime::disk::Buffer;
use runtime::disk::Page;
use runtime::sync::Lock;

/// Pages with a bio and the place where its completion is told, in one box.
///
/// # Invariants
///
/// While the bio is in flight, nobody but the block layer touches the pages.
pub struct KernelBuffer(NonNull<Inner>);

struct Inner {
    pages: Pages,
    bio: OwnBio,
    flight: Lock<Flight>,
}

enum Flight {
    Flying(Waker),
    Landed(Status),
}

// SAFETY: The buffer is an owned box of things that are `Send`.
unsafe impl Send for KernelBuffer {}

impl KernelBuffer {
    /// Allocates a buffer of `pages` pages; may sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(pages: usize) -> Result<Self> {
        let pages = Pages::new(pages)?;
        let bio = OwnBio::new(pages.pieces().len())?;
        let flight = Lock::new(Flight::Landed(Status::from_result(Ok(()))));
        let inner = KBox::new(Inner { pages, bio, flight }, GFP_KERNEL)?;
        // SAFETY: `into_raw` never returns null.
        Ok(Self(unsafe {
            NonNull::new_unchecked(KBox::into_raw(inner))
        }))
    }

    fn bio(&self) -> NonNull<OwnBio> {
        // SAFETY: The box is alive; no reference is made.
        unsafe { NonNull::new_unchecked(core::ptr::addr_of_mut!((*self.0.as_ptr()).bio)) }
    }

    fn flight(&self) -> &Lock<Flight> {
        // SAFETY: The box is alive; only this field is borrowed, never mutably.
        unsafe { &(*self.0.as_ptr()).flight }
    }

    fn memory(&self) -> &Pages {
        // SAFETY: The box is alive, and `self` borrowed.
        unsafe { &(*self.0.as_ptr()).pages }
    }

    /// Starts an I/O between the buffer, from page `page` on, and `sector` of `device`; `waker` is
    /// called when it is done.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the buffer is too small; then nothing was started.
    ///
    /// # Safety
    ///
    /// Until [`KernelBuffer::land`] says that it is done, the buffer is neither used nor dropped,
    /// and the device stays open.
    pub(crate) unsafe fn launch(
        &mut self,
        device: &BlockDevice,
        operation: Operation,
        sector: u64,
        sectors: u32,
        page: usize,
        waker: Waker,
    ) -> Result {
        // SAFETY: The bio is not in flight, and stays where it is, in a box; so do the pages.
        let prepared = unsafe {
            OwnBio::prepare(
                self.bio(),
                device,
                operation,
                sector,
                sectors,
                self.memory().pieces(),
                page,
            )
        };
        if let Err(error) = prepared {
            // SAFETY: The bio was initialised and not submitted.
            unsafe { OwnBio::finish(self.bio()) };
            return Err(error);
        }
        self.flight().with(|flight| *flight = Flight::Flying(waker));
        // SAFETY: The bio was prepared, and nobody touches it before it has landed.
        unsafe { OwnBio::submit(self.bio(), landed, self.0.as_ptr().cast()) };
        Ok(())
    }

    /// Returns the result of the I/O if it is done; otherwise `waker` will be called.
    pub(crate) fn land(&mut self, waker: &Waker) -> Option<Result> {
        let status = self.flight().with(|flight| match flight {
            Flight::Flying(old) => {
                old.clone_from(waker);
                None
            }
            Flight::Landed(status) => Some(*status),
        })?;
        // SAFETY: The bio is back.
        unsafe { OwnBio::finish(self.bio()) };
        Some(status.to_result())
    }
}

/// Completion function: leaves the status, wakes the task.
///
/// # Safety
///
/// Called by the block layer, once, for a bio that [`KernelBuffer::launch`] submitted.
unsafe extern "C" fn landed(raw: *mut bindings::bio) {
    // SAFETY: The bio is the block layer's gift to this function.
    let (inner, status) = unsafe { bio::completion(raw) };
    // SAFETY: `launch` put a pointer to the box there, which is alive until the status is seen;
    // only the lock is borrowed.
    let flight = unsafe { &(*inner.cast::<Inner>()).flight };
    let before = flight.with(|flight| core::mem::replace(flight, Flight::Landed(status)));
    // The buffer may be gone from here on.
    if let Flight::Flying(waker) = before {
        waker.wake();
    }
}

impl Buffer for KernelBuffer {
    fn pages(&self) -> usize {
        self.memory().len()
    }

    fn page(&self, index: usize) -> Option<&Page> {
        self.memory().page(index)
    }

    fn page_mut(&mut self, index: usize) -> Option<&mut Page> {
        // SAFETY: The box is alive, and `self` borrowed for writing.
        unsafe { &mut (*self.0.as_ptr()).pages }.page_mut(index)
    }
}

impl Drop for KernelBuffer {
    fn drop(&mut self) {
        // SAFETY: The pointer came from a box, and the bio is not in flight.
        drop(unsafe { KBox::from_raw(self.0.as_ptr()) });
    }
}
