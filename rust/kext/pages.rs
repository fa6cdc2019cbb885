// SPDX-License-Identifier: GPL-2.0

//! Memory for I/O: whole pages, in as few contiguous pieces as can be had.

use crate::atomic::AtomicU64;
use core::ptr::NonNull;
use kernel::alloc::flags::GFP_NOWAIT;
use kernel::alloc::Flags;
use kernel::bindings;
use kernel::page::PAGE_SIZE;
use kernel::prelude::*;

/// The largest piece is this many times doubled: 64 KiB of pages of 4 KiB. A larger one would
/// shorten a bio's list of segments only a little more and be hard to get.
const MAX_ORDER: u32 = 4;

/// Bytes in pages of this module now, and at most since it was loaded.
static USED: AtomicU64 = AtomicU64::new(0);
static PEAK: AtomicU64 = AtomicU64::new(0);

/// Returns how many bytes this module has in pages.
pub fn bytes_used() -> u64 {
    USED.load_relaxed()
}

/// Returns how many bytes this module had in pages at most.
pub fn bytes_peak() -> u64 {
    PEAK.load_relaxed()
}

fn count_in(bytes: u64) {
    let used = USED.fetch_add(bytes).saturating_add(bytes);
    let mut peak = PEAK.load_relaxed();
    while used > peak {
        match PEAK.compare_exchange(peak, used) {
            Ok(_) => break,
            Err(found) => peak = found,
        }
    }
}

/// One page as bytes.
pub type PageBytes = [u8; PAGE_SIZE];

/// A contiguous piece.
#[derive(Clone, Copy)]
pub struct Piece {
    page: NonNull<bindings::page>,
    order: u32,
    bytes: u32,
}

impl Piece {
    /// Returns the first page.
    pub fn as_ptr(&self) -> *mut bindings::page {
        self.page.as_ptr()
    }

    /// Returns the length in bytes.
    pub fn bytes(&self) -> u32 {
        self.bytes
    }
}

/// Pages, always mapped.
///
/// # Invariants
///
/// `pieces` were allocated with their `order` and are ours. `pages` are the addresses of their
/// pages, in order. Nobody has a reference to a page but through `self`, or by a pointer of
/// `page_ptr`.
pub struct Pages {
    pieces: KVec<Piece>,
    pages: KVec<NonNull<PageBytes>>,
}

// SAFETY: The pages are memory that `self` owns, and belong to no thread.
unsafe impl Send for Pages {}

// SAFETY: Through a shared reference pages are only read. Who writes to them through a pointer of
// `page_ptr` sees to it that nobody else has a reference.
unsafe impl Sync for Pages {}

impl Pages {
    /// Allocates `count` zeroed pages; may sleep if it `may_wait`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new(count: usize, may_wait: bool) -> Result<Self> {
        let flags = if may_wait { GFP_KERNEL } else { GFP_NOWAIT };
        let mut this = Self {
            pieces: KVec::new(),
            pages: KVec::with_capacity(count, flags)?,
        };
        while this.pages.len() < count {
            this.grow(count - this.pages.len(), may_wait, flags)?;
        }
        Ok(this)
    }

    /// Adds a piece of at most `wanted` pages.
    fn grow(&mut self, wanted: usize, may_wait: bool, flags: Flags) -> Result {
        self.pieces.reserve(1, flags)?;
        let mut order = wanted.checked_ilog2().unwrap_or(0).min(MAX_ORDER);
        let page = loop {
            // SAFETY: Any order may be asked for. This may sleep if it `may_wait`, as `new` says.
            let page = unsafe { dm_bindings::dmox_alloc_pages(order, may_wait) };
            if let Some(page) = NonNull::new(page) {
                break page;
            }
            order = order.checked_sub(1).ok_or(ENOMEM)?;
        };
        let pages = 1usize << order;
        let bytes = (PAGE_SIZE as u32) << order;
        self.pieces.push(Piece { page, order, bytes }, flags)?;
        count_in(bytes.into());
        // SAFETY: The page is valid, and not from high memory, so that it has an address.
        let start = unsafe { dm_bindings::dmox_page_address(page.as_ptr()) };
        let start = NonNull::new(start.cast::<PageBytes>()).ok_or(ENOMEM)?;
        for index in 0..pages {
            // SAFETY: The piece has this many pages, one behind the other.
            self.pages.push(unsafe { start.add(index) }, flags)?;
        }
        Ok(())
    }

    /// Returns the number of pages.
    pub fn len(&self) -> usize {
        self.pages.len()
    }

    /// Returns true if there are no pages.
    pub fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    /// Returns the pieces, in order.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// Returns page `index`.
    pub fn page(&self, index: usize) -> Option<&PageBytes> {
        let page = self.pages.get(index)?;
        // SAFETY: By the type invariant the page lives as long as `self`. Who writes to it sees to
        // it that there is no such reference.
        Some(unsafe { page.as_ref() })
    }

    /// Returns the address of page `index`. The caller may write through it while it ensures that
    /// there is no reference to the page.
    pub fn page_ptr(&self, index: usize) -> Option<NonNull<PageBytes>> {
        self.pages.get(index).copied()
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        for piece in &self.pieces {
            // SAFETY: By the type invariant the piece is ours, and was allocated with this order.
            // Nobody uses it after this: references borrow `self`.
            unsafe { bindings::__free_pages(piece.page.as_ptr(), piece.order) };
            USED.fetch_sub(piece.bytes.into());
        }
    }
}
