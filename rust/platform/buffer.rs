// SPDX-License-Identifier: GPL-2.0

//! Buffers with all that I/O needs beside the memory.

mod parts;

use core::ptr::NonNull;
use core::task::Waker;
use kernel::alloc::flags::GFP_NOWAIT;
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
use runtime::disk::View;
use runtime::sync::Arc;
use runtime::sync::AtomicU32;
use runtime::sync::Lock;

/// Pages with a bio and the place where its completion is told, in one box.
///
/// # Invariants
///
/// The pointer is that of a box that the buffer owns. Of its fields there are shared references
/// only, and to the bio none. While the bio is in flight, nobody but the block layer changes the
/// pages. While there are views, nobody does.
pub struct KernelBuffer(NonNull<Inner>);

/// Pages of which there may be views.
struct Viewed {
    pages: Pages,
    views: AtomicU32,
}

struct Inner {
    pages: Arc<Viewed>,
    bio: OwnBio,
    flight: Lock<Flight>,
    /// For parts that are in flight at once.
    group: Option<parts::Group>,
}

enum Flight {
    /// With whom to wake, once somebody waits.
    Flying(Option<Waker>),
    Landed(Status),
}

// SAFETY: The buffer owns a box of things that are `Send`.
unsafe impl Send for KernelBuffer {}

impl KernelBuffer {
    /// Allocates a buffer of `pages` pages, of which `parts` parts can be in flight at once; may sleep
    /// if it `may_wait`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(pages: usize, parts: usize, may_wait: bool) -> Result<Self> {
        let flags = if may_wait { GFP_KERNEL } else { GFP_NOWAIT };
        let views = AtomicU32::new(0);
        let pages = Pages::new(pages, may_wait)?;
        let bio = OwnBio::new(pages.pieces().len(), flags)?;
        let group = match parts {
            0 | 1 => None,
            _ => Some(parts::Group::new(parts, pages.pieces().len(), flags)?),
        };
        let pages = Arc::new(Viewed { pages, views }, flags)?;
        let flight = Lock::new(Flight::Landed(Status::from_result(Ok(()))));
        let inner = Inner {
            pages,
            bio,
            flight,
            group,
        };
        let inner = KBox::new(inner, flags)?;
        // INVARIANT: Nobody else has the box, and its bio is not in flight.
        // SAFETY: `into_raw` never returns null.
        Ok(Self(unsafe {
            NonNull::new_unchecked(KBox::into_raw(inner))
        }))
    }

    fn bio(&self) -> NonNull<OwnBio> {
        // SAFETY: By the type invariant the box is alive, and no reference is made. The address of
        // a field is not null.
        unsafe { NonNull::new_unchecked(core::ptr::addr_of_mut!((*self.0.as_ptr()).bio)) }
    }

    fn flight(&self) -> &Lock<Flight> {
        // SAFETY: By the type invariant the box is alive, and nobody has a mutable reference.
        unsafe { &(*self.0.as_ptr()).flight }
    }

    fn memory(&self) -> &Pages {
        &self.viewed().pages
    }

    fn viewed(&self) -> &Arc<Viewed> {
        // SAFETY: By the type invariant the box is alive, and nobody has a mutable reference.
        unsafe { &(*self.0.as_ptr()).pages }
    }

    /// Starts an I/O between the buffer, from page `page` on, and `sector` of `device`.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the buffer is too small, `EBUSY` for a read while there are views; then nothing
    /// was started.
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
    ) -> Result {
        if operation.is_read() && self.is_viewed() {
            return Err(EBUSY);
        }
        // SAFETY: The bio is valid and ours, and not in flight: who has started an I/O does not use
        // the buffer before it is done. It does not move, in its box, and the pages stay as long.
        unsafe {
            OwnBio::prepare(
                self.bio(),
                device,
                operation,
                sector,
                sectors,
                self.memory().pieces(),
                page,
            )
        }?;
        // Nobody waits yet: what is done at once wakes nobody, who would be polled for nothing.
        self.flight().with(|flight| *flight = Flight::Flying(None));
        // SAFETY: The bio was prepared just now. By the contract nobody touches it before it is
        // back, and the device stays open. `landed` is for bios whose `bi_private` is the box.
        unsafe { OwnBio::submit(self.bio(), landed, self.0.as_ptr().cast()) };
        Ok(())
    }

    /// Returns the result of the I/O if it is done; otherwise `waker` will be called.
    pub(crate) fn land(&mut self, waker: &Waker) -> Option<Result> {
        let status = self.flight().with(|flight| match flight {
            Flight::Flying(old) => {
                match old {
                    Some(old) => old.clone_from(waker),
                    None => *old = Some(waker.clone()),
                }
                None
            }
            Flight::Landed(status) => Some(*status),
        })?;
        // SAFETY: The bio was prepared, and is back: its completion function has left the status.
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
    // SAFETY: By the contract the bio is valid, and the completion function's.
    let (inner, status) = unsafe { bio::completion(raw) };
    // SAFETY: `launch` put a pointer to the box there, which is alive until the status is seen.
    // Nobody has a mutable reference.
    let flight = unsafe { &(*inner.cast::<Inner>()).flight };
    let before = flight.with(|flight| core::mem::replace(flight, Flight::Landed(status)));
    // The buffer may be gone from here on.
    if let Flight::Flying(Some(waker)) = before {
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
        if self.is_viewed() {
            return None;
        }
        let mut page = self.memory().page_ptr(index)?;
        // SAFETY: There is no view, and none can be made while `self` is borrowed for writing. The
        // bio is not in flight: who has started an I/O does not use the buffer before it is done.
        // So nobody else has a reference.
        Some(unsafe { page.as_mut() })
    }

    fn copy_page(&mut self, from: usize, to: usize) {
        let (Some(from), Some(to)) = (self.memory().page_ptr(from), self.memory().page_ptr(to))
        else {
            return;
        };
        if from != to && !self.is_viewed() {
            // SAFETY: Both are pages of this buffer, and not the same. There is no view, none can
            // be made while `self` is borrowed for writing, and no bio is in flight.
            unsafe { to.as_ptr().copy_from_nonoverlapping(from.as_ptr(), 1) };
        }
    }

    type View = KernelView;

    fn view(&self) -> KernelView {
        KernelView::new(self.viewed().clone())
    }

    fn is_viewed(&self) -> bool {
        self.viewed().views.load_acquire() != 0
    }
}

/// The content of a [`KernelBuffer`], for others to read.
pub struct KernelView(Arc<Viewed>);

impl KernelView {
    fn new(viewed: Arc<Viewed>) -> Self {
        viewed.views.fetch_add(1);
        Self(viewed)
    }
}

impl Clone for KernelView {
    fn clone(&self) -> Self {
        Self::new(self.0.clone())
    }
}

impl View for KernelView {
    fn page(&self, index: usize) -> Option<&Page> {
        self.0.pages.page(index)
    }
}

impl Drop for KernelView {
    fn drop(&mut self) {
        self.0.views.fetch_sub(1);
    }
}

impl Drop for KernelBuffer {
    fn drop(&mut self) {
        // SAFETY: The pointer came from a box, and the bio is not in flight.
        drop(unsafe { KBox::from_raw(self.0.as_ptr()) });
    }
}
