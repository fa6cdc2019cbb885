// SPDX-License-Identifier: GPL-2.0

//! Changes of counts, in the order of the recovery journal.

use super::desk::Work;
use super::fits;
use super::slab::Changes;
use super::slab::Effects;
use super::slab::Progress;
use super::slab::Rules;
use super::slab::State;
use super::slab_journal::Blocked;
use super::BufferOf;
use super::Depot;
use super::Flaw;
use crate::error::Error;
use crate::error::Result;
use crate::error::Status;
use crate::format::JournalPoint;
use crate::format::RecoveryEntry;
use crate::format::References;
use crate::format::SlabNumber;
use crate::world::World;

impl<W: World> Depot<W> {
    /// Returns the latest recovery point that a slab journal has on the storage.
    pub(crate) fn latest_recovery_point(&self) -> JournalPoint {
        let slabs = 0..self.layout().slab_count;
        slabs
            .filter_map(|number| self.slab(number, |slab| slab.journal.recovery_point).ok())
            .max()
            .unwrap_or(JournalPoint::NONE)
    }

    /// As [`apply`](Self::apply), in a recovery after [`load`](Self::load): changes that a slab journal
    /// has already are skipped. Returns how many entries of slab journals the others gave.
    ///
    /// # Errors
    ///
    /// The same; nothing is read-only because of them yet.
    pub(crate) async fn replay(&self, entries: &[(JournalPoint, RecoveryEntry)]) -> Result<u64> {
        self.apply_all(entries, true).await
    }
}

impl<W: World> Depot<W> {
    /// Makes the changes of these entries, which are committed: the increment of each, then its
    /// decrement, in the slab journal and in the count. One task does this, in the order of the
    /// recovery journal. Waits until slab journals have room; that depends on the depot's own
    /// tasks only.
    ///
    /// # Errors
    ///
    /// `RefCountInvalid` and others: the volume is read-only then.
    pub async fn apply<E: References>(&self, entries: &[(JournalPoint, E)]) -> Result {
        let result = self.apply_all(entries, false).await;
        self.health.watch(result)?;
        Ok(())
    }

    async fn apply_all<E: References>(
        &self,
        entries: &[(JournalPoint, E)],
        is_replay: bool,
    ) -> Result<u64> {
        let mut spare = self.desk.with(|work| work.pages.pop());
        let result = self.apply_with(entries, is_replay, &mut spare).await;
        self.give_page(spare)?;
        result
    }

    async fn apply_with<E: References>(
        &self,
        entries: &[(JournalPoint, E)],
        is_replay: bool,
        spare: &mut Option<BufferOf<W>>,
    ) -> Result<u64> {
        let rules = Rules {
            layout: self.layout(),
            shape: self.shape,
            is_replay,
            is_ring_kept: !self.breaks(Flaw::RingIsReused),
        };
        let mut changes = Changes::new(entries);
        // Set while a change is blocked: why, and how far things had got before it was last tried.
        let mut wait = None;
        let mut made = 0;
        while let Some(next) = changes.next() {
            let number = rules.layout.slab_of(next.pbn);
            let (number, _) = number.ok_or(Error::Status(Status::OutOfRange))?;
            let mut effects = Effects::new();
            let progress = self.slab(number, |slab| {
                slab.apply(&rules, number, &mut changes, spare, &mut effects)
            })?;
            if effects.made > 0 {
                // Whatever blocks the next one is new, though it may look the same.
                made += u64::from(effects.made);
                wait = None;
            }
            self.spread(number, effects)?;
            let Progress::Blocked(blocked) = progress? else {
                wait = None;
                continue;
            };
            match wait {
                Some((same, seen)) if same == blocked && seen == self.desk.progress() => {
                    self.desk.progress_since(seen, &self.health).await?;
                }
                Some((same, _)) if same == blocked => {}
                _ => self.ask_for(number, blocked)?,
            }
            // Noted before it is looked for a page: one may be given back right afterwards, and nothing
            // else happen then.
            let seen = self.desk.progress();
            if blocked == Blocked::NoPage {
                *spare = self.desk.with(|work| work.pages.pop());
            }
            wait = Some((blocked, seen));
        }
        Ok(made)
    }

    /// Tells others what changes of a slab mean to them.
    ///
    /// A block that was begun is not sealed before the desk has what it holds, and the slab the proof
    /// of that: the committer would release a hold that is yet to be taken.
    ///
    /// # Errors
    ///
    /// `LockError`, or there was no room for the closed block.
    pub(super) fn spread(&self, number: SlabNumber, mut effects: Effects<BufferOf<W>>) -> Result {
        if effects.freed != 0 {
            self.allocator
                .with(|allocator| allocator.adjust(number, effects.freed));
        }
        if effects.flushed > 0 {
            self.counters
                .journal_flushed
                .fetch_add(effects.flushed.into());
        }
        let closed = effects.closed.take();
        let is_work = closed.is_some() || effects.write;
        if effects.begun.is_none() && !is_work {
            return Ok(());
        }
        let tell = |work: &mut Work<BufferOf<W>>| {
            let held = effects.begun.map(|hold| work.holds.take(hold));
            if effects.write {
                work.write.insert(number);
            }
            (held, closed.map(|closed| work.closed.push(closed)))
        };
        let (held, pushed) = if is_work {
            self.desk.tell(tell)
        } else {
            self.desk.with(tell)
        };
        if let Some(pushed) = pushed {
            fits(pushed)?;
        }
        if let Some(held) = held {
            let held = held?;
            if self.slab(number, |slab| slab.journal.hold(held))? {
                self.desk.tell(|work| work.seal.insert(number));
            }
        }
        Ok(())
    }

    /// Asks for what a blocked change waits for.
    fn ask_for(&self, number: SlabNumber, blocked: Blocked) -> Result {
        let counters = &self.counters;
        match blocked {
            Blocked::Scrubbing => {}
            // Most often, there is one.
            Blocked::NoPage if self.desk.with(|work| !work.pages.is_empty()) => {}
            Blocked::NoPage | Blocked::Sealed => {
                counters.journal_tail_busy.fetch_add(1);
            }
            Blocked::NoMemory => {
                let page = self.storage.buffer(1)?;
                let old = self.slab(number, |slab| slab.journal.set_page(page))?;
                drop(old);
            }
            Blocked::TooLong => {
                counters.journal_blocked.fetch_add(1);
                self.write_now(number)?;
            }
            Blocked::RingFull => {
                counters.journal_full.fetch_add(1);
                self.write_now(number)?;
            }
        }
        Ok(())
    }

    /// Has all counts of a slab written, or read if they are not in memory.
    fn write_now(&self, number: SlabNumber) -> Result {
        let (is_unscrubbed, is_dirty, can_be_clean) =
            self.slab(number, |slab| -> Result<_> {
                let is_unscrubbed = matches!(slab.state, State::Unscrubbed);
                slab.touch_first()?;
                Ok((is_unscrubbed, slab.write_all(), slab.can_be_clean()))
            })??;
        self.desk.tell(|work| {
            if is_unscrubbed {
                work.scrubbing.urgent = Some(number);
            }
            if is_dirty {
                work.write.insert(number);
            }
            if can_be_clean {
                work.clean.insert(number);
            }
        });
        Ok(())
    }

    /// Gives back memory for blocks of slab journals. Wakes nobody.
    pub(super) fn give_page(&self, page: Option<BufferOf<W>>) -> Result {
        let Some(page) = page else { return Ok(()) };
        let given = self.desk.with(|work| work.pages.push_within_capacity(page));
        fits(given)
    }
}
