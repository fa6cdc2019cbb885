// SPDX-License-Identifier: GPL-2.0

//! Memory for I/O. Whatever stands for a disk on the host uses it, in the simulator or not.

use kernel::alloc::Flags;
use kernel::prelude::*;
use runtime::disk::Buffer;
use runtime::disk::Page;
use runtime::disk::View;
use runtime::disk::PAGE_SIZE;
use runtime::disk::SECTOR_SIZE;
use std::sync::Arc;

/// Memory for one I/O.
pub struct SimBuffer {
    pages: KVec<KBox<Page>>,
    parts: usize,
    /// Each view has another handle of it.
    views: Arc<()>,
}

impl SimBuffer {
    /// Allocates a buffer, which is full of junk.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, when the stand-in's allocator is made to fail.
    pub fn new(pages: usize) -> Result<Self> {
        Self::new_by(pages, GFP_KERNEL)
    }

    /// As [`new`](Self::new), by an allocation with these flags.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, when the stand-in's allocator is made to fail.
    pub fn new_by(pages: usize, flags: Flags) -> Result<Self> {
        let mut all = KVec::with_capacity(pages, flags)?;
        for _ in 0..pages {
            all.push(KBox::new([0xA5; PAGE_SIZE], flags)?, flags)?;
        }
        Ok(Self {
            pages: all,
            parts: 1,
            views: Arc::default(),
        })
    }

    /// Lets so many parts be on their way at once.
    pub fn in_parts(mut self, parts: usize) -> Self {
        self.parts = parts;
        self
    }

    /// Returns how many parts can be on their way at once.
    pub fn parts(&self) -> usize {
        self.parts
    }

    /// Returns the bytes of `sectors` sectors from page `page` on.
    ///
    /// # Panics
    ///
    /// If the buffer is smaller than that.
    pub fn to_bytes(&self, page: usize, sectors: u64) -> Vec<u8> {
        let bytes = sectors as usize * SECTOR_SIZE;
        self.must_hold(page, bytes);
        let mut data = Vec::with_capacity(bytes);
        for page in self.pages.iter().skip(page) {
            data.extend_from_slice(&page[..PAGE_SIZE.min(bytes - data.len())]);
        }
        data
    }

    /// Puts `data` into the pages from page `page` on.
    ///
    /// # Panics
    ///
    /// If the buffer is smaller than that.
    pub fn scatter(&mut self, page: usize, data: &[u8]) {
        self.must_hold(page, data.len());
        for (page, bytes) in self.pages.iter_mut().skip(page).zip(data.chunks(PAGE_SIZE)) {
            page[..bytes.len()].copy_from_slice(bytes);
        }
    }

    fn must_hold(&self, page: usize, bytes: usize) {
        assert!(
            bytes + page * PAGE_SIZE <= self.pages.len() * PAGE_SIZE,
            "an I/O larger than its buffer"
        );
    }
}

impl Buffer for SimBuffer {
    fn pages(&self) -> usize {
        self.pages.len()
    }

    fn page(&self, index: usize) -> Option<&Page> {
        self.pages.get(index).map(|page| &**page)
    }

    fn page_mut(&mut self, index: usize) -> Option<&mut Page> {
        if self.is_viewed() {
            return None;
        }
        self.pages.get_mut(index).map(|page| &mut **page)
    }

    fn copy_page(&mut self, from: usize, to: usize) {
        if let (Some(content), Some(to)) = (self.page(from).copied(), self.page_mut(to)) {
            *to = content;
        }
    }

    type View = SimView;

    fn view(&self) -> SimView {
        SimView {
            pages: self.pages.iter().map(|page| **page).collect(),
            _views: self.views.clone(),
        }
    }

    fn is_viewed(&self) -> bool {
        Arc::strong_count(&self.views) > 1
    }
}

/// A copy of what a buffer held.
#[derive(Clone)]
pub struct SimView {
    pages: Arc<[Page]>,
    _views: Arc<()>,
}

impl View for SimView {
    fn page(&self, index: usize) -> Option<&Page> {
        self.pages.get(index)
    }
}
