// SPDX-License-Identifier: GPL-2.0

//! A machine for tests that tell a story: the disk holds what it is told to hold, and it is seen
//! who waits for it.

use crate::device::Kind as Region;
use crate::machine::Machine;
use crate::plan::Plan;
use crate::space::Space;
use crate::toy::BLOCK_SECTORS;
use crate::user::User;
use crate::witness;
use crate::witness::Found;
use sim::clock::sleep;
use sim::executor::Join;
use sim::fault::Kind;
use sim::world::Record;
use sim::Executor;
use sim::Outcome;
use sim::World;
use std::future::Future;
use std::ops::Range;
use vdo::format::Lbn;
use vdo::format::Pbn;

/// Returns the plan of a volume with two leaf pages, of sectors of 512 bytes: blocks 0 to 8 of the
/// model are on the first page, 8 to 12 on its end, 12 to 16 on the second.
pub fn plan() -> Plan {
    Plan {
        space: Space::new(&[0..8, 808..816]),
        small_sectors: true,
        ..Plan::default()
    }
}

/// A machine with its user.
pub struct Scene {
    executor: Executor<'static>,
    /// The user.
    pub user: User,
}

impl Scene {
    /// Boots the machine of `plan` with a new volume.
    pub fn new(plan: &Plan) -> Self {
        let mut scene = Self::off(plan, plan.image());
        scene.play(|user| async move { user.machine.start().await.expect("a healthy machine") });
        scene
    }

    /// Switches a machine on whose disk holds `image`; the volume is not started.
    pub fn off(plan: &Plan, image: Vec<u8>) -> Self {
        let world = World::new(7);
        let mut executor = Executor::new(&world);
        executor.set_limits(2_000_000, 3_600_000_000);
        let machine = Machine::new(&world, executor.spawner(), plan, image);
        let user = User::new(&machine, plan.model());
        Self { executor, user }
    }

    /// Plays what `tell` tells about the user to its end; nothing that the volume shows or says
    /// may be wrong.
    pub fn play<T: 'static, F>(&mut self, tell: impl FnOnce(User) -> F) -> T
    where
        F: Future<Output = T> + 'static,
    {
        let act = self.executor.spawn("act", tell(self.user.clone()));
        let outcome = self.executor.run_until(|_| act.is_done());
        if let Some(text) = self.user.violation() {
            panic!("{text}");
        }
        match (outcome, act.take()) {
            (Outcome::Done, Some(value)) => value,
            (outcome, _) => panic!("the act did not end: {outcome:?}"),
        }
    }
}

/// Returns the sectors of some blocks of the model.
pub fn sectors(blocks: Range<u64>) -> Range<u64> {
    blocks.start * BLOCK_SECTORS..blocks.end * BLOCK_SECTORS
}

impl User {
    /// Starts something that the user does beside.
    pub fn beside<T: 'static, F>(&self, deed: impl FnOnce(Self) -> F) -> Join<T>
    where
        F: Future<Output = T> + 'static,
    {
        self.machine.spawner().spawn("beside", deed(self.clone()))
    }

    /// Lets time go by until everything has happened that will.
    pub async fn rest(&self) {
        sleep(&self.machine.world, 2_000_000).await;
    }

    /// Sees that a deed waits, whatever time goes by.
    pub async fn waits<T>(&self, deed: &Join<T>) {
        self.rest().await;
        assert!(!deed.is_done(), "it does not wait");
    }

    /// Holds the writes to all blocks that are for this.
    pub fn hold(&self, region: Region) {
        for sectors in self.regions(region) {
            self.machine.disk.hold_at(Kind::Write, sectors);
        }
    }

    /// Lets the writes to blocks go that are for this, and holds them no more.
    pub fn release(&self, region: Region) {
        for sectors in self.regions(region) {
            self.machine.disk.release_at(Kind::Write, &sectors);
        }
    }

    /// Returns the sectors of the blocks that are for this. (Pages of the block map are among the
    /// data.)
    fn regions(&self, region: Region) -> Vec<Range<u64>> {
        let layout = self.machine.toy().layout;
        let pbns = 0..layout.physical_blocks();
        pbns.filter(|&pbn| layout.kind(pbn) == region)
            .map(block)
            .collect()
    }

    /// Returns what is on the disk, if nothing gets lost.
    pub fn found(&self) -> Found {
        let image = self.machine.world.images().swap_remove(0);
        witness::read(&self.machine.toy(), &image).expect("a volume")
    }

    /// Returns the block of a logical block on the disk, as the disk says.
    pub fn pbn(&self, lbn: Lbn) -> Pbn {
        self.found().map[&lbn].pbn
    }

    /// Returns how many operations were issued so far.
    pub fn log_len(&self) -> usize {
        self.machine.world.log().len()
    }

    /// Returns the writes since number `since` of the log, to blocks that are for this.
    pub fn writes(&self, since: usize, region: Region) -> Vec<Record> {
        let layout = self.machine.toy().layout;
        let log = self.machine.world.log().into_iter().skip(since);
        log.filter(|record| {
            record.kind == Kind::Write && layout.kind(record.sector / BLOCK_SECTORS) == region
        })
        .collect()
    }

    /// Sees that a flush of the disk lies between two moments.
    pub fn flushed_between(&self, after: u64, before: u64) -> bool {
        let log = self.machine.world.log();
        log.iter().any(|record| {
            record.kind == Kind::Flush
                && record.issued > after
                && record.completed.is_some_and(|(at, _)| at < before)
        })
    }
}

/// Returns the sectors of a block of the storage.
pub fn block(pbn: Pbn) -> Range<u64> {
    pbn * BLOCK_SECTORS..(pbn + 1) * BLOCK_SECTORS
}
