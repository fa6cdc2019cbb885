// SPDX-License-Identifier: GPL-2.0

//! Device-mapper targets in Rust.
//!
//! A target is a type that implements [`Target`]; a [`TargetType`] makes it known under its name.
//! One value of the type exists for each line of a table. Every method gets it by shared
//! reference, since device-mapper calls them from all CPUs at once.
//!
//! C header: `include/linux/device-mapper.h`

pub mod args;
pub mod ctr;
pub mod device;
pub mod log;
pub mod map;
pub mod status;
pub mod target;
pub mod target_ref;

mod callbacks;

pub use args::Args;
pub use ctr::CtrError;
pub use ctr::CtrResultExt;
pub use ctr::CtrTarget;
pub use device::Device;
pub use device::Mode;
pub use map::BioInfo;
pub use map::MapBio;
pub use map::MapResult;
pub use status::StatusType;
pub use status::StatusWriter;
pub use target::DeviceCallout;
pub use target::Features;
pub use target::Registration;
pub use target::Target;
pub use target::TargetType;
pub use target_ref::TargetRef;

/// What [`log`] prints before each line.
const __LOG_PREFIX: &[u8] = b"device-mapper\0";
