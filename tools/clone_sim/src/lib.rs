// SPDX-License-Identifier: GPL-2.0

//! The clone core in the simulator.
//!
//! A [`Machine`](machine::Machine) is a simulated machine with a clone device; it does to the core
//! what device-mapper and the glue do in the kernel. [`user`] is who uses the device, and holds
//! the model that says what it must show. [`small`] runs every short sequence of operations and
//! crashes it after every step; [`random`] lets a seed choose operations, faults and crashes.
//! [`scene`] is for tests that tell a story. [`flaw`] breaks a rule that the core lives by, to show that the simulator would notice.

pub mod bitmap;
pub mod crowd;
pub mod device;
pub mod flaw;
pub mod hostile;
pub mod image;
pub mod inspect;
pub mod islands;
pub mod machine;
pub mod random;
pub mod scene;
pub mod small;
pub mod starts;
pub mod used;
pub mod user;
