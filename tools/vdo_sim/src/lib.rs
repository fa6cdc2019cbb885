// SPDX-License-Identifier: GPL-2.0

//! The vdo core in the simulator.
//!
//! A [`Machine`](machine::Machine) is a simulated machine with a vdo volume; it does to the core
//! what device-mapper and the glue do in the kernel. [`user`] is who uses the volume, and holds
//! the model that says what it must show. [`every`] runs the short workloads of [`script`] and
//! crashes them at every moment; [`random`] lets a seed choose sizes, requests, faults and
//! crashes. [`witness`] reads an image in another way than the core does, and says what a boot
//! must show. [`flaw`] breaks the rules of order that the core lives by, one at a time, to show
//! that the simulator would notice.
//!
//! | File | What it holds |
//! |---|---|
//! | [`toy`] | a volume of a few slabs whose journals have a few blocks of a few entries each |
//! | [`space`] | the few logical blocks that a run uses |
//! | [`plan`] | what a machine is made of |
//! | [`answers`] | what requests may be answered with |
//! | [`bio`], [`reader`] | requests in the hands of the core |
//! | [`device`], [`host`] | the storage as the core gets it, and what else it sees |
//! | [`inherited`] | volumes as mainline leaves them, to start from |
//! | [`scene`] | a machine for tests that tell a story |
//! | [`inspect`] | what must be true of an image |
//! | [`formatting`] | formatting, crashed at every moment |
//! | [`used`] | volumes as a start may find them |
//! | [`starts`] | starts and growths without memory, or on storage that fails for a while |
//! | [`hostile`] | volumes with any field changed |
//! | [`converted`] | volumes of the old manager that were converted for LVM |

pub mod answers;
pub mod bio;
pub mod codec;
pub mod converted;
pub mod device;
pub mod every;
pub mod flaw;
pub mod formatting;
pub mod host;
pub mod hostile;
pub mod inherited;
pub mod inspect;
pub mod machine;
pub mod plan;
pub mod random;
pub mod reader;
pub mod scene;
pub mod script;
pub mod space;
pub mod starts;
pub mod toy;
pub mod used;
pub mod user;
pub mod witness;
