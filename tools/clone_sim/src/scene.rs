// SPDX-License-Identifier: GPL-2.0

//! A machine for tests that tell a story.

use crate::machine::Machine;
use crate::machine::Plan;
use crate::user::User;
use clone::engine::Engine;
use clone::engine::Settings;
use clone::geometry::Geometry;
use clone::hydration::Tuning;
use kernel::sync::Arc;
use sim::clock::sleep;
use sim::disk::Discards;
use sim::executor::Join;
use sim::fault::Kind;
use sim::world::Record;
use sim::Executor;
use sim::Model;
use sim::Outcome;
use sim::World;
use std::future::Future;

/// The disks by their numbers.
pub const METADATA: usize = 0;
/// The destination.
pub const DESTINATION: usize = 1;
/// The source.
pub const SOURCE: usize = 2;
/// The disk to spare.
pub const SPARE: usize = 3;

/// Returns the plan of a clone of 64 regions of 8 sectors, which nothing hydrates by itself.
pub fn plan() -> Plan {
    Plan {
        geometry: Geometry::new(64 * 8, 3).expect("a small device"),
        island: None,
        metadata_blocks: 16,
        discards: Discards::Zero,
        workers: (4, 2),
        settings: Settings {
            hydration: false,
            discard_passdown: true,
            large_pages: clone::copier::LARGE_PAGES,
            tuning: Tuning {
                threshold: None,
                batch_size: None,
            },
            read_only: false,
        },
        throttle_percent: 100,
        preempted: false,
        hostile: false,
        flaw: None,
    }
}

/// Returns the plan of a clone of `blocks` bitmap blocks with four regions of data each, whose
/// metadata has room for one block of bits a transaction.
pub fn large_plan(blocks: u64) -> Plan {
    Plan {
        geometry: Geometry::new(blocks * 4 * 8, 3).expect("a small device"),
        island: Some(4),
        metadata_blocks: blocks + 9,
        ..plan()
    }
}

/// A machine with its user.
pub struct Scene {
    executor: Executor<'static>,
    /// The user.
    pub user: User,
}

impl Scene {
    /// Boots the machine of `plan` on blank disks; the device is there.
    pub fn new(plan: &Plan) -> Self {
        let mut scene = Self::off(plan, plan.blank());
        scene.play(|user| async move { user.machine.start().await.expect("a healthy machine") });
        scene
    }

    /// Switches a machine on whose disks hold `images`; there is no device yet.
    pub fn off(plan: &Plan, images: Vec<Vec<u8>>) -> Self {
        let world = World::new(7);
        let mut executor = Executor::new(&world);
        executor.set_limits(2_000_000, 3_600_000_000);
        let machine = Machine::new(&world, executor.spawner(), plan, images);
        let user = User::new(&machine, Model::new(plan.geometry.length()));
        Self { executor, user }
    }

    /// Plays what `tell` tells about the user to its end; nothing that the device shows may be
    /// wrong.
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

impl User {
    /// Returns the engine of the active table.
    pub fn engine(&self) -> Arc<Engine<crate::machine::Host>> {
        self.machine
            .active()
            .expect("an active table")
            .engine
            .clone()
    }

    /// Starts something that the user does beside.
    pub fn beside<T: 'static>(&self, deed: impl Future<Output = T> + 'static) -> Join<T> {
        self.machine.spawner().spawn("beside", deed)
    }

    /// Lets `seconds` go by, with what the device does every second.
    pub async fn seconds(&self, seconds: u64) {
        for _ in 0..seconds {
            sleep(&self.machine.world, 1_000_000).await;
            self.machine.tick();
        }
    }

    /// Waits until `condition` holds, at most `seconds`.
    pub async fn until(&self, seconds: u64, mut condition: impl FnMut() -> bool) {
        for step in 1..=seconds * 1000 {
            if condition() {
                return;
            }
            sleep(&self.machine.world, 1000).await;
            if step % 1000 == 0 {
                self.machine.tick();
            }
        }
        panic!("it did not happen within {seconds} s");
    }

    /// Returns the operations of `kind` on `disk` since number `since` of the log.
    pub fn operations(&self, since: usize, disk: usize, kind: Kind) -> Vec<Record> {
        let log = self.machine.world.log().into_iter().skip(since);
        log.filter(|record| record.disk == disk && record.kind == kind)
            .collect()
    }

    /// Returns how many operations were issued so far.
    pub fn log_len(&self) -> usize {
        self.machine.world.log().len()
    }
}
