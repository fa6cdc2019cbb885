// SPDX-License-Identifier: GPL-2.0

//! Which volumes there are, and who uses them.
//!
//! A storage device belongs to one mapped device. A table that is loaded for a mapped device that
//! has a volume already is for that volume, which goes on with it.

use crate::log::Log;
use crate::volume::Volume;
use dm::TargetRef;
use kernel::prelude::*;
use kernel::sync::Arc;
use kext::atomic::AtomicU32;
use kext::block::DevT;
use platform::disk::KernelDisk;
use platform::registry::Registry;
use platform::registry::Use;

kernel::sync::global_lock! {
    // SAFETY: Initialised in `init`, which runs before the target is registered.
    pub(crate) unsafe(uninit) static REGISTRY: Mutex<Registry<Volume>> = Registry::new();
}

/// The claim of one line to its storage device.
pub(crate) type Claim = platform::registry::Claim<Volume, REGISTRY>;

/// The number of the next volume.
static NEXT: AtomicU32 = AtomicU32::new(0);

/// Makes the registry ready.
///
/// # Safety
///
/// Called once, before anything else here.
pub(crate) unsafe fn init() {
    // SAFETY: By the contract.
    unsafe { REGISTRY.init() };
}

/// Returns the log of the volume that a mapped device has.
pub(crate) fn log_of(mapped: DevT) -> Option<Log> {
    let uses = REGISTRY.lock();
    let log = uses.by(mapped).find_map(usable).map(|volume| volume.log());
    log
}

/// Returns the volume of a use. One whose start was given up is of no use.
fn usable(other: &Use<Volume>) -> Option<&Arc<Volume>> {
    let volume = other.volume.as_ref();
    volume.filter(|volume| !volume.engine().has_given_up())
}

/// Returns the number of a new volume. It will be long before it comes again.
pub(crate) fn number() -> u32 {
    NEXT.fetch_add(1)
}

/// Claims the storage that `disk` is for `line`, which is being loaded. Returns the volume that the
/// mapped device has, if it has one: no other line makes one at the same time, since device-mapper
/// loads one table of a mapped device after the other.
///
/// # Errors
///
/// `EBUSY` if another mapped device has the storage.
pub(crate) fn claim(
    line: &TargetRef,
    disk: Arc<KernelDisk>,
) -> Result<(Claim, Option<Arc<Volume>>)> {
    let mapped = line.mapped_device();
    Claim::new(&REGISTRY, line, disk, |uses| {
        Ok(uses.by(mapped).find_map(usable).cloned())
    })
}
