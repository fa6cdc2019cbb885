// SPDX-License-Identifier: GPL-2.0

//! Volumes that have been used: what a start may find.

use crate::machine::Machine;
use crate::plan::Plan;
use crate::random::make_requests;
use crate::toy;
use crate::user::User;
use sim::clock::sleep;
use sim::Executor;
use sim::Model;
use sim::Rng;
use sim::World;
use vdo::format::geometry::Geometry;
use vdo::format::super_block::State;

/// How a volume was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// Formatted only.
    New,
    /// Stopped in order.
    Stopped,
    /// The power failed.
    Crashed,
    /// The power failed; then it was stopped as soon as it ran again.
    Recovering,
    /// The power failed, and an administrator wants it rebuilt.
    Forced,
}

/// All of them.
pub const ALL: [Left; 5] = [
    Left::New,
    Left::Stopped,
    Left::Crashed,
    Left::Recovering,
    Left::Forced,
];

/// A volume that has been used.
#[derive(Clone)]
pub struct Used {
    /// The machine that it was used on.
    pub plan: Plan,
    /// What is on the storage.
    pub image: Vec<u8>,
    /// What it must show.
    pub model: Model,
    /// How it was left.
    pub left: Left,
}

impl Used {
    /// Uses a volume, and leaves it like this. The seed decides of the rest.
    pub fn new(seed: u64, left: Left) -> Self {
        let mut rng = Rng::new(seed);
        let plan = match seed {
            0 => Plan::default(),
            _ => Plan::random(&mut rng),
        };
        Self::of(plan, &mut rng, left)
    }

    /// Uses a volume on such a machine.
    pub fn of(plan: Plan, rng: &mut Rng, left: Left) -> Self {
        let mut used = Self {
            image: plan.image(),
            model: plan.model(),
            plan,
            left,
        };
        match left {
            Left::New => {}
            Left::Stopped => used.live(rng, 60, true),
            Left::Crashed => used.live(rng, 60, false),
            Left::Recovering => {
                used.live(rng, 60, false);
                used.live(rng, 0, true);
            }
            Left::Forced => {
                used.live(rng, 60, false);
                used.set_state(State::ForceRebuild);
            }
        }
        used
    }

    /// Changes what the super block says of the volume.
    pub fn set_state(&mut self, state: State) {
        let geometry = Geometry::decode(toy::block(&self.image, 0)).expect("a geometry block");
        let mut found = toy::super_block(&self.image).expect("a super block");
        found.state = state;
        found.encode(toy::block_mut(&mut self.image, geometry.data_start));
    }

    fn live(&mut self, rng: &mut Rng, requests: u64, stops: bool) {
        let world = World::new(rng.next_u64());
        let mut executor = Executor::new(&world);
        let image = std::mem::take(&mut self.image);
        let machine = Machine::new(&world, executor.spawner(), &self.plan, image);
        let user = User::new(&machine, self.model.clone());
        let (own, mut choices) = (user.clone(), rng.fork());
        executor.spawn("life", async move {
            own.machine.start().await.expect("nothing fails");
            own.settle(None).await.expect("nothing fails");
            for _ in 0..requests / 20 {
                make_requests(own.clone(), choices.fork()).await;
                sleep(&own.machine.world, choices.below(20_000)).await;
            }
            if stops {
                own.machine.remove().await;
            }
        });
        let outcome = executor.run();
        assert_eq!(outcome, sim::Outcome::Done, "nothing fails");
        assert_eq!(user.violation(), None, "nothing fails");
        executor.power_off();
        self.model = user.model.borrow().clone();
        self.model.crash();
        self.image = world.survivors(&[], rng).swap_remove(0);
    }
}
