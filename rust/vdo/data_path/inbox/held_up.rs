// SPDX-License-Identifier: GPL-2.0

//! Writes whose blocks somebody else has.
//!
//! A worker takes those bios into its batch whose blocks it can claim at once, so that it never
//! waits for a claim, nor do the others in the batch. The rest is put into a line here. A few
//! *claimers* take the first of it, wait for its blocks with no other claim in their hands, and bring
//! the bio back to the workers. They have no memory for data, so there can be more of them.
//!
//! Nobody is overtaken for ever: the line goes in order of arrival, and so do claims.

use crate::data_path::batch::lbns_of;
use crate::data_path::locks::Access;
use crate::data_path::write::Writer;
use crate::world::BioList;
use crate::world::World;
use core::pin::pin;
use runtime::monitor::Entries;
use runtime::monitor::Monitor;
use runtime::monitor::Rules;
use runtime::sync::Arc;

/// The line of writes that wait for a claimer.
pub(crate) struct HeldUp<L: BioList> {
    monitor: Monitor<Line<L>>,
}

struct Line<L> {
    bios: L,
    stopping: bool,
}

impl<L: BioList> Rules for Line<L> {
    type Key = ();

    fn left(&mut self, (): &(), rest: &mut Entries<'_, ()>) {
        if self.bios.first().is_some() || self.stopping {
            rest.wake_first();
        }
    }
}

impl<L: BioList> HeldUp<L> {
    pub(crate) fn new() -> Self {
        Self {
            monitor: Monitor::new(Line {
                bios: L::default(),
                stopping: false,
            }),
        }
    }

    /// Adds a bio to the line.
    pub(crate) fn push(&self, bio: L::Bio) {
        self.monitor.with(|line, claimers| {
            line.bios.push(bio);
            claimers.wake_first();
        });
    }

    /// Waits for the first of the line; returns none when the volume goes.
    async fn next(&self) -> Option<L::Bio> {
        let entry = pin!(self.monitor.entry(()));
        entry
            .as_ref()
            .wait(|turn| match turn.state.bios.pop() {
                None if turn.state.stopping => Some(None),
                bio => bio.map(Some),
            })
            .await
    }

    /// Returns true if nobody is in the line.
    pub(crate) fn is_empty(&self) -> bool {
        self.monitor.with(|line, _| line.bios.first().is_none())
    }

    /// Lets every claimer end when the line is empty.
    pub(crate) fn stop(&self) {
        self.monitor.with(|line, claimers| {
            line.stopping = true;
            claimers.wake_first();
        });
    }
}

impl<W: World> Writer<W> {
    /// A claimer: waits for the blocks of writes that are held up, until there are no more.
    pub(crate) async fn run_claimer(writer: Arc<Self>) {
        while let Some(bio) = writer.held_up.next().await {
            writer.packer.hurry(&lbns_of(&bio));
            // The worker that gets the bio finds the claim by its blocks.
            let _kept = writer.locks.token(lbns_of(&bio), Access::Exclusive).await;
            writer.inbox.push_claimed(bio);
        }
    }
}
