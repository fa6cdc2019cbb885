// SPDX-License-Identifier: GPL-2.0

//! A world in which one seed decides everything: schedule, latencies, faults, and what a crash
//! leaves on the disks.
//!
//! A [`World`] holds virtual time and the disks. An [`Executor`] runs tasks in it, one at a time,
//! in an order that the seed picks. [`SimDisk`] and [`SimClock`] are what a core sees of it. At a
//! crash the tasks are dropped where they stand, [`World::survivors`] says what the disks hold
//! now, and a new world boots from that. A [`Model`] says what each sector may hold.
//!
//! Nothing here knows what it simulates.

pub mod bio;
pub mod choices;
pub mod clock;
pub mod disk;
pub mod executor;
pub mod fault;
pub mod flawed;
pub mod harness;
pub mod model;
pub mod pattern;
pub mod preemption;
pub mod rng;
pub mod world;

pub use bio::SimBio;
pub use clock::SimClock;
pub use disk::SimDisk;
pub use executor::Executor;
pub use executor::Outcome;
pub use flawed::FlawedDisk;
pub use model::Model;
pub use preemption::Preemption;
pub use rng::Rng;
pub use world::World;

#[cfg(test)]
mod tests;
