// SPDX-License-Identifier: GPL-2.0

//! The journal of one slab: a ring on disk, and the block under construction in memory.
//!
//! ```text
//!   head                      summarised              tail
//!    | on disk, needed until   | closed, on the way    | under construction: `header`, `page`
//!    | counts are on disk      | to disk and summary   |
//! ```
//!
//! A block that is closed because it is full (or has no room for the next entry) is followed by
//! the next at once: a recovery would close it at the same entry. A block that is *sealed*, closed
//! before that, is followed by the next only when the summary on stable storage has it, for a
//! recovery that did not know of it would put more entries into it.
//!
//! A block of the ring is overwritten only when neither counts need it (`head`), nor a recovery
//! that starts from the newest block in the summary would read it (`published_head`). That newest
//! block itself stays in any case.

use super::fits;
use super::holds::Held;
use super::IMPOSSIBLE;
use crate::error::Result;
use crate::format::slab_journal::Change;
use crate::format::slab_journal::Header;
use crate::format::slab_journal::Shape;
use crate::format::slab_journal::SlabEntry;
use crate::format::JournalPoint;
use crate::format::Page;
use crate::format::Sbn;
use crate::format::Sequence;
use crate::format::SlabConfig;
use crate::format::SlabNumber;
use runtime::disk::Buffer;

/// The journal of one slab.
pub(super) struct SlabJournal<B> {
    /// The oldest block that is needed.
    pub(super) head: Sequence,
    /// The head in the newest block that the summary on stable storage counts.
    published_head: Sequence,
    /// The first block that the summary on stable storage does not count.
    pub(super) summarised: Sequence,
    /// The first block that the committer has not taken.
    taken: Sequence,
    /// The header of the block under construction.
    header: Header,
    /// Where the last entry comes from.
    pub(super) recovery_point: JournalPoint,
    /// What the block under construction holds of the recovery journal. It has an entry before that;
    /// nobody closes or seals it so soon.
    held: Option<Held>,
    /// The block under construction is to be sealed as soon as it can be.
    is_seal_due: bool,
    /// The block under construction is closed before it is full.
    is_sealed: bool,
    /// The memory of the block under construction.
    page: Option<B>,
}

/// A block that is closed, on its way to disk.
pub(super) struct Closed<B> {
    pub(super) slab: SlabNumber,
    pub(super) sequence: Sequence,
    /// The head in it.
    head: Sequence,
    /// What it holds of the recovery journal, until that is released.
    pub(super) held: Option<Held>,
    /// Nothing may follow it before the summary counts it.
    pub(super) is_sealed: bool,
    pub(super) page: Option<B>,
}

/// The block under construction, as long as nothing but entries of data blocks come.
pub(super) struct OpenBlock<'a> {
    /// So many entries may come.
    left: u16,
    page: &'a mut Page,
    header: &'a mut Header,
    recovery_point: &'a mut JournalPoint,
    shape: Shape,
}

impl OpenBlock<'_> {
    /// Returns the place of the next entry, if there may be one that comes from `point`.
    #[inline]
    pub(super) fn place(&self, point: JournalPoint) -> Option<JournalPoint> {
        let is_next = self.left > 0 && point > *self.recovery_point;
        is_next.then(|| JournalPoint::new(self.header.sequence, self.header.entry_count))
    }

    /// Adds the entry for which there is a [`place`](Self::place).
    #[inline]
    pub(super) fn push(&mut self, entry: SlabEntry, point: JournalPoint) -> Result {
        fits(
            self.header
                .push(self.page, self.shape, entry, point)
                .ok_or(()),
        )?;
        *self.recovery_point = point;
        self.left = self.left.saturating_sub(1);
        Ok(())
    }
}

/// Why an entry has to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blocked {
    /// The block under construction is sealed.
    Sealed,
    /// The next block needs memory.
    NoPage,
    /// The journal is so long that counts are to be written first.
    TooLong,
    /// The next block of the ring is still needed.
    RingFull,
    /// The counts are just being read.
    Scrubbing,
    /// The journal of this slab has no memory yet.
    NoMemory,
}

/// What it takes to seal the block under construction.
pub(super) enum Sealing<B> {
    /// Here it is.
    Sealed(Closed<B>),
    /// There is no entry in it, or it is sealed already.
    Nothing,
    /// A block before it has not been taken yet, or nobody knows what it holds: who sees to that
    /// says that it can be sealed now.
    NotYet,
}

impl<B: Buffer> SlabJournal<B> {
    /// A journal that goes on with block `tail`; `head` is the oldest one that counts lack.
    pub(super) fn new(
        head: Sequence,
        tail: Sequence,
        recovery_point: JournalPoint,
        nonce: u64,
    ) -> Self {
        Self {
            head,
            // The newest block says how far the journal has got: it stays.
            published_head: head.min(tail.saturating_sub(1)),
            summarised: tail,
            taken: tail,
            header: Header::new(head, tail, nonce),
            recovery_point,
            held: None,
            is_seal_due: false,
            is_sealed: false,
            page: None,
        }
    }

    /// Returns the sequence of the block under construction.
    pub(super) fn tail(&self) -> Sequence {
        self.header.sequence
    }

    /// Returns the header of the block under construction.
    pub(super) fn header(&self) -> &Header {
        &self.header
    }

    /// Returns the number of entries in the block under construction.
    pub(super) fn entries(&self) -> u16 {
        self.header.entry_count
    }

    /// Returns whether nothing was ever written to it.
    pub(super) fn is_blank(&self) -> bool {
        self.tail() == 1 && self.entries() == 0
    }

    /// Returns how many blocks the ring has in use.
    pub(super) fn len(&self) -> u64 {
        self.tail().saturating_sub(self.head)
    }

    /// Lends memory for the block under construction.
    pub(super) fn set_page(&mut self, page: B) -> Option<B> {
        self.page.replace(page)
    }

    /// Returns the memory of the block under construction, unless that is out of our hands.
    pub(super) fn page(&self) -> Option<&B> {
        self.page.as_ref()
    }

    /// Returns whether all closed blocks are on disk and none is on its way.
    pub(super) fn is_settled(&self) -> bool {
        self.summarised == self.tail() && !self.is_sealed
    }

    /// Returns whether the block under construction has to be closed before such an entry.
    pub(super) fn must_close(&self, shape: Shape, change: Change) -> bool {
        !self.is_sealed && !self.header.has_room_for(shape, change)
    }

    pub(super) fn is_full(&self, shape: Shape) -> bool {
        self.header.is_full(shape)
    }

    /// Returns why there can be no entry now, if it has room in the block under construction.
    /// A slab that is being recovered does not wait for its counts.
    pub(super) fn blocked(&self, slab: &SlabConfig, is_replay: bool) -> Option<Blocked> {
        if self.is_sealed {
            return Some(Blocked::Sealed);
        }
        if self.page.is_none() {
            return Some(Blocked::NoMemory);
        }
        if self.entries() == 0 {
            let used = self.tail().saturating_sub(self.published_head);
            if used >= slab.journal_blocks.into() {
                return Some(Blocked::RingFull);
            }
            if !is_replay && self.len() >= slab.blocking.into() {
                return Some(Blocked::TooLong);
            }
        }
        None
    }

    /// Adds an entry for which there is room; returns its place.
    pub(super) fn push(
        &mut self,
        shape: Shape,
        sbn: Sbn,
        change: Change,
        point: JournalPoint,
    ) -> Option<JournalPoint> {
        let page = self.page.as_mut()?.page_mut(0)?;
        let entry = SlabEntry { sbn, change };
        let index = self.header.push(page, shape, entry, point)?;
        self.recovery_point = point;
        Some(JournalPoint::new(self.header.sequence, index))
    }

    /// Returns the block under construction, which is not sealed, for at most `most` more entries of
    /// data blocks.
    pub(super) fn open(&mut self, shape: Shape, most: u16) -> Option<OpenBlock<'_>> {
        let capacity = shape.capacity(self.header.has_block_map_increments);
        let room = capacity.saturating_sub(self.header.entry_count);
        Some(OpenBlock {
            left: room.min(most),
            page: self.page.as_mut()?.page_mut(0)?,
            header: &mut self.header,
            recovery_point: &mut self.recovery_point,
            shape,
        })
    }

    /// The block under construction, which was begun, holds this. Returns whether it is to be sealed.
    pub(super) fn hold(&mut self, held: Held) -> bool {
        self.held = Some(held);
        core::mem::take(&mut self.is_seal_due)
    }

    /// Closes the block under construction, which is full, and begins the next in `page`.
    pub(super) fn close(&mut self, slab: SlabNumber, page: B) -> Result<Closed<B>> {
        let held = self.held.take().ok_or(IMPOSSIBLE)?;
        let old = self.page.replace(page);
        let closed = self.closed(slab, held, old);
        self.header = Header::new(self.head, closed.sequence + 1, self.header.nonce);
        Ok(closed)
    }

    /// Seals the block under construction, for the committer.
    pub(super) fn seal(&mut self, slab: SlabNumber) -> Sealing<B> {
        if self.entries() == 0 || self.is_sealed {
            return Sealing::Nothing;
        }
        if self.taken != self.tail() {
            self.is_seal_due = true;
            return Sealing::NotYet;
        }
        let Some(held) = self.held.take() else {
            self.is_seal_due = true;
            return Sealing::NotYet;
        };
        self.is_sealed = true;
        self.taken = self.tail() + 1;
        let page = self.page.take();
        Sealing::Sealed(Closed {
            is_sealed: true,
            ..self.closed(slab, held, page)
        })
    }

    fn closed(&mut self, slab: SlabNumber, held: Held, mut page: Option<B>) -> Closed<B> {
        self.is_seal_due = false;
        self.header.head = self.head;
        if let Some(page) = page.as_mut().and_then(|page| page.page_mut(0)) {
            self.header.encode(page);
        }
        Closed {
            slab,
            sequence: self.tail(),
            head: self.head,
            held: Some(held),
            is_sealed: false,
            page,
        }
    }

    /// The committer has taken a closed block. Returns whether the one under construction is to be
    /// sealed.
    pub(super) fn take(&mut self, closed: &mut Closed<B>) -> bool {
        self.taken = self.taken.max(closed.sequence + 1);
        // Since it was closed, the summary may have let the ring be overwritten further than it says.
        closed.head = self.head;
        if let Some(page) = closed.page.as_mut().and_then(|page| page.page_mut(0)) {
            let mut header = Header::decode(page);
            header.head = self.head;
            header.encode(page);
        }
        core::mem::take(&mut self.is_seal_due)
    }

    /// The summary on stable storage counts a block, and all before it.
    pub(super) fn summarised(&mut self, closed: &mut Closed<B>) {
        self.summarised = self.summarised.max(closed.sequence + 1);
        self.published_head = self.published_head.max(closed.head);
        self.unseal(closed);
    }

    /// Begins the next block behind a sealed one, in the same memory.
    pub(super) fn unseal(&mut self, closed: &mut Closed<B>) {
        if closed.is_sealed {
            closed.is_sealed = false;
            self.is_sealed = false;
            self.page = closed.page.take();
            self.header = Header::new(self.head, closed.sequence + 1, self.header.nonce);
        }
    }

    /// The summary on stable storage says that the counts on disk have all its blocks.
    pub(super) fn cleaned(&mut self) {
        let newest = self.summarised.saturating_sub(1);
        self.published_head = self.published_head.max(newest);
    }

    /// Advances the head: the counts on disk lack nothing before `needed`.
    pub(super) fn reap(&mut self, needed: Sequence) {
        let head = needed.min(self.summarised).min(self.tail());
        self.head = self.head.max(head);
    }

    /// Fails if the order of the picture above does not hold.
    #[cfg(test)]
    pub(super) fn check(&self, slab: &SlabConfig) {
        assert!(self.published_head <= self.head || self.head == self.summarised);
        assert!(self.head <= self.tail() && self.summarised <= self.tail());
        assert!(self.taken <= self.tail() + 1 && self.taken >= self.summarised);
        let used = self.tail() + u64::from(self.entries() > 0) - self.published_head;
        assert!(used <= slab.journal_blocks.into(), "the ring holds {used}");
    }
}

#[cfg(test)]
mod tests;
