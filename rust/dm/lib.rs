// SPDX-License-Identifier: GPL-2.0

//! Device-mapper targets in Rust.
//!
//! A target is a type that implements [`Target`]; a [`TargetType`] makes it known under its name.
//! One value of the type exists for each line of a table. Every method gets it by shared
//! reference, since device-mapper calls them from all CPUs at once.
//!
//! C header: `include/linux/device-mapper.h`

pub mod args;
pub mod device;
pub mod handle;
pub mod log;
pub mod map;
pub mod setup;
pub mod status;
pub mod target;

mod callbacks;

pub use args::Args;
pub use device::Device;
pub use device::Mode;
pub use handle::TargetHandle;
pub use map::MapBio;
pub use map::Mapped;
pub use setup::LoadError;
pub use setup::OrFail;
pub use setup::Setup;
pub use status::StatusKind;
pub use status::StatusWriter;
pub use target::DeviceVisitor;
pub use target::Features;
pub use target::Registration;
pub use target::Target;
pub use target::TargetType;

/// What [`handle`] and [`log`] print before each line.
const __LOG_PREFIX: &[u8] = b"device-mapper\0";
