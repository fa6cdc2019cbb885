// SPDX-License-Identifier: GPL-2.0

//! Who uses which metadata device.
//!
//! A metadata device belongs to one line of one mapped device. A table that is loaded to replace
//! another one of the same mapped device shares the volume of the one that is active, so that
//! nothing that was ever set is lost on the way.

use clone::volume::Volume;
use dm::TargetRef;
use kernel::prelude::*;
use kernel::sync::Arc;
use kext::block::DevT;
use platform::disk::KernelDisk;

kernel::sync::global_lock! {
    // SAFETY: Initialised in `init`, which runs before the target is registered.
    pub(crate) unsafe(uninit) static REGISTRY: Mutex<KVec<Use>> = KVec::new();
}

/// The use of a metadata device by one line of a table.
pub(crate) struct Use {
    metadata: DevT,
    line: TargetRef,
    /// `None` while the line is being loaded.
    volume: Option<Arc<Volume<KernelDisk>>>,
}

/// A line's entry in the registry, until it is dropped.
pub(crate) struct Claim {
    metadata: DevT,
    line: TargetRef,
}

/// Makes the registry ready.
///
/// # Safety
///
/// Called once, before anything else here.
pub(crate) unsafe fn init() {
    // SAFETY: By the contract.
    unsafe { REGISTRY.init() };
}

impl Claim {
    /// Claims `metadata` for `line`, which is being loaded. Returns the volume that the mapped
    /// device uses now, if it does.
    ///
    /// # Errors
    ///
    /// `EBUSY` if another mapped device, or another line of the same table, uses it.
    pub(crate) fn new(
        metadata: DevT,
        line: &TargetRef,
    ) -> Result<(Self, Option<Arc<Volume<KernelDisk>>>)> {
        let mut uses = REGISTRY.lock();
        let mut volume = None;
        for other in uses.iter().filter(|other| other.metadata == metadata) {
            if other.line.mapped_device() != line.mapped_device() || other.line.is_same_table(line)
            {
                return Err(EBUSY);
            }
            // A table that was loaded, but never active, knows nothing.
            volume = volume.or_else(|| other.volume.clone().filter(|volume| volume.is_loaded()));
        }
        uses.push(
            Use {
                metadata,
                line: line.clone(),
                volume: None,
            },
            GFP_KERNEL,
        )?;
        Ok((
            Self {
                metadata,
                line: line.clone(),
            },
            volume,
        ))
    }

    /// The line uses `volume`.
    pub(crate) fn set_volume(&self, volume: &Arc<Volume<KernelDisk>>) {
        for own in REGISTRY.lock().iter_mut().filter(|own| self.is(own)) {
            own.volume = Some(volume.clone());
        }
    }

    fn is(&self, other: &Use) -> bool {
        other.metadata == self.metadata && other.line.is_same_line(&self.line)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let (own, unused) = {
            let mut uses = REGISTRY.lock();
            let at = uses.iter().position(|other| self.is(other));
            let own = at.and_then(|at| uses.remove(at).ok());
            // A static is not dropped with its module, so it may own nothing then.
            let unused = uses.is_empty().then(|| core::mem::take(&mut *uses));
            (own, unused)
        };
        // The volume may go with its last use: not under the lock.
        drop((own, unused));
    }
}
