// SPDX-License-Identifier: GPL-2.0

//! Clones that have been used: what a start may find.

use crate::machine::Machine;
use crate::machine::Plan;
use crate::scene;
use crate::user::User;
use clone::geometry::Geometry;
use clone::message::Message;
use sim::clock::sleep;
use sim::Executor;
use sim::Model;
use sim::Outcome;
use sim::Rng;
use sim::World;

/// How a clone was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// Nobody has used its disks.
    Blank,
    /// The device was removed.
    Stopped,
    /// The power failed.
    Crashed,
    /// It was removed when everything was hydrated.
    Complete,
    /// It was removed, and has several bitmap blocks, with room for one in a transaction.
    Large,
}

/// All of them.
pub const ALL: [Left; 5] = [
    Left::Blank,
    Left::Stopped,
    Left::Crashed,
    Left::Complete,
    Left::Large,
];

/// A clone that has been used.
#[derive(Clone)]
pub struct Used {
    /// The machine that it was used on.
    pub plan: Plan,
    /// What is on the disks.
    pub images: Vec<Vec<u8>>,
    /// What it must show.
    pub model: Model,
    /// How it was left.
    pub left: Left,
}

/// Returns the plan of a clone of 16 regions with few workers, or of a few regions in each of three
/// bitmap blocks.
fn plan(left: Left) -> Plan {
    let mut plan = match left {
        Left::Large => scene::large_plan(3),
        _ => Plan {
            geometry: Geometry::new(16 * 8 - 3, 3).expect("a small device"),
            ..scene::plan()
        },
    };
    plan.workers = (1, 1);
    plan.settings.large_pages = 2;
    plan
}

impl Used {
    /// Uses a clone, and leaves it like this. The seed decides of the rest.
    pub fn new(seed: u64, left: Left) -> Self {
        Self::of(plan(left), seed, left)
    }

    /// Uses a clone on such a machine.
    pub fn of(plan: Plan, seed: u64, left: Left) -> Self {
        let mut rng = Rng::new(seed);
        let mut used = Self {
            images: plan.blank(),
            model: Model::new(plan.geometry.length()),
            plan,
            left,
        };
        if left != Left::Blank {
            used.live(&mut rng);
            used.live(&mut rng);
        }
        used
    }

    fn live(&mut self, rng: &mut Rng) {
        let world = World::new(rng.next_u64());
        let mut executor = Executor::new(&world);
        let images = std::mem::take(&mut self.images);
        let machine = Machine::new(&world, executor.spawner(), &self.plan, images);
        let user = User::new(&machine, self.model.clone());
        let left = self.left;
        executor.spawn("life", use_it(user.clone(), left, rng.fork()));
        let outcome = executor.run();
        assert_eq!(outcome, Outcome::Done, "nothing fails");
        assert_eq!(user.violation(), None, "nothing fails");
        executor.power_off();
        self.model = user.model.borrow().clone();
        self.images = match left {
            Left::Crashed => {
                self.model.crash();
                world.survivors(&[], rng)
            }
            _ => world.images(),
        };
    }
}

async fn use_it(user: User, left: Left, mut rng: Rng) {
    let machine = &user.machine;
    machine.start().await.expect("nothing fails");
    user.settle("at the start").await;
    let length = machine.plan.geometry.length();
    for _ in 0..6 {
        // The other half is left for who finds the clone.
        let start = length / 2 + rng.below(length / 2);
        let sectors = start..start + 1 + rng.below((length - start).min(12));
        let done = match rng.below(6) {
            0..=2 => user.write(sectors, rng.chance(1, 3)).await,
            3 => user.discard(sectors).await,
            _ => user.flush().await,
        };
        done.expect("nothing fails");
    }
    if left == Left::Complete {
        user.engine().message(Message::EnableHydration);
        let volume = user.engine().volume().clone();
        while !volume.map().is_complete() {
            sleep(&machine.world, 10_000).await;
            machine.tick();
        }
    }
    if left != Left::Crashed {
        machine.remove().await;
    }
}
