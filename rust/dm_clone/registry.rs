// SPDX-License-Identifier: GPL-2.0

//! Who uses which metadata device.
//!
//! A metadata device belongs to one line of one mapped device. A table that is loaded to replace
//! another one of the same mapped device shares the volume of the one that is active, so that
//! nothing that was ever set is lost on the way.

use kernel::prelude::*;
use kernel::sync::Arc;
use platform::disk::KernelDisk;
use platform::registry::Registry;

/// What tables over the same metadata share.
pub(crate) type Volume = clone::volume::Volume<KernelDisk>;

kernel::sync::global_lock! {
    // SAFETY: Initialised in `init`, which runs before the target is registered.
    pub(crate) unsafe(uninit) static REGISTRY: Mutex<Registry<Volume>> = Registry::new();
}

/// The claim of one line to its metadata device.
pub(crate) type Claim = platform::registry::Claim<Volume, REGISTRY>;

/// Makes the registry ready.
///
/// # Safety
///
/// Called once, before anything else here.
pub(crate) unsafe fn init() {
    // SAFETY: By the contract.
    unsafe { REGISTRY.init() };
}

/// Claims the metadata device that `metadata` is for `line`, which is being loaded. Returns the
/// volume that the mapped device uses now, if it does.
///
/// # Errors
///
/// `EBUSY` if another mapped device, or another line of the same table, uses it.
pub(crate) fn claim(
    line: &dm::TargetRef,
    metadata: Arc<KernelDisk>,
) -> Result<(Claim, Option<Arc<Volume>>)> {
    let device = metadata.device().dev();
    Claim::new(&REGISTRY, line, metadata, |uses| {
        if uses
            .on(device)
            .any(|other| other.target.is_same_table(line))
        {
            return Err(EBUSY);
        }
        // A table that was loaded, but never active, knows nothing.
        let mut volumes = uses.on(device).filter_map(|other| other.volume.as_ref());
        Ok(volumes.find(|volume| volume.is_loaded()).cloned())
    })
}
