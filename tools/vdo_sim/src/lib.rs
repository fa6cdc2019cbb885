// SPDX-License-Identifier: GPL-2.0

//! The vdo core in the simulator.
//!
//! | File | What it holds |
//! |---|---|
//! | [`toy`] | a volume of a few slabs whose journals have a few blocks of a few entries each |
//! | [`space`] | the few logical blocks that a run uses |
//! | [`plan`] | what a machine is made of |
//! | [`bio`] | requests in the hands of the core |
//! | [`device`], [`flaw`], [`host`] | the storage as the core gets it, with a rule to break; what else it sees |
//! | [`witness`], [`inspect`] | what an image says, and what must be true of it |
//! | [`formatting`] | formatting, crashed at every moment |

pub mod bio;
pub mod device;
pub mod flaw;
pub mod formatting;
pub mod host;
pub mod inspect;
pub mod plan;
pub mod space;
pub mod toy;
pub mod witness;
