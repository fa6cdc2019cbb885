// SPDX-License-Identifier: GPL-2.0

//! Which volumes there are, and who uses them.
//!
//! A storage device belongs to one mapped device. A table that is loaded for a mapped device that
//! has a volume already is for that volume, which goes on with it.

use crate::volume::Volume;
use dm::TargetRef;
use kernel::prelude::*;
use kernel::sync::Arc;
use kext::block::DevT;
use platform::disk::KernelDisk;

kernel::sync::global_lock! {
    // SAFETY: Initialised in `init`, which runs before the target is registered.
    unsafe(uninit) static REGISTRY: Mutex<Registry> = Registry::EMPTY;
}

struct Registry {
    uses: KVec<Use>,
    /// The number of the next volume.
    next: u32,
}

impl Registry {
    const EMPTY: Self = Self {
        uses: KVec::new(),
        next: 0,
    };
}

/// The use of a storage device by a line of a table.
struct Use {
    storage: DevT,
    line: TargetRef,
    disk: Arc<KernelDisk>,
    /// `None` while the line is being loaded.
    volume: Option<Arc<Volume>>,
}

/// A line's entry in the registry, until it is dropped.
pub(crate) struct Claim {
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

/// Returns the volume that a mapped device has. One whose start was given up is of no use.
pub(crate) fn find(mapped: DevT) -> Option<Arc<Volume>> {
    let registry = REGISTRY.lock();
    let mut own = registry
        .uses
        .iter()
        .filter(|other| other.line.mapped_device() == mapped);
    let has_given_up = |volume: &Arc<Volume>| volume.engine().has_given_up();
    own.find_map(|other| other.volume.clone().filter(|volume| !has_given_up(volume)))
}

/// Returns the number of a new volume. It will be long before it comes again.
pub(crate) fn number() -> u32 {
    let mut registry = REGISTRY.lock();
    let number = registry.next;
    registry.next = number.wrapping_add(1);
    number
}

impl Claim {
    /// Claims `storage`, which `disk` is, for `line`, which is being loaded.
    ///
    /// # Errors
    ///
    /// `EBUSY` if another mapped device has it.
    pub(crate) fn new(storage: DevT, line: TargetRef, disk: Arc<KernelDisk>) -> Result<Self> {
        let mut registry = REGISTRY.lock();
        let mapped = line.mapped_device();
        let is_foreign =
            |other: &Use| other.storage == storage && other.line.mapped_device() != mapped;
        if registry.uses.iter().any(is_foreign) {
            return Err(EBUSY);
        }
        let own = Use {
            storage,
            line: line.clone(),
            disk,
            volume: None,
        };
        registry.uses.push(own, GFP_KERNEL)?;
        Ok(Self { line })
    }

    /// The line uses `volume`.
    pub(crate) fn set_volume(&self, volume: &Arc<Volume>) {
        let mut registry = REGISTRY.lock();
        for own in registry.uses.iter_mut().filter(|own| self.is(own)) {
            own.volume = Some(volume.clone());
        }
    }

    /// Returns another line that uses `volume`, if there is one, with its way to the storage.
    pub(crate) fn successor(&self, volume: &Arc<Volume>) -> Option<(TargetRef, Arc<KernelDisk>)> {
        let registry = REGISTRY.lock();
        let mut others = registry.uses.iter().filter(|other| !self.is(other));
        let other = others.find(|other| {
            let theirs = other.volume.as_ref();
            theirs.is_some_and(|theirs| Arc::ptr_eq(theirs, volume))
        })?;
        Some((other.line.clone(), other.disk.clone()))
    }

    fn is(&self, other: &Use) -> bool {
        other.line.is_same_line(&self.line)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let (own, unused) = {
            let mut registry = REGISTRY.lock();
            let at = registry.uses.iter().position(|other| self.is(other));
            let own = at.and_then(|at| registry.uses.remove(at).ok());
            // A static is not dropped with its module, so it may own nothing then.
            let unused = registry
                .uses
                .is_empty()
                .then(|| core::mem::take(&mut registry.uses));
            (own, unused)
        };
        // The volume may go with its last use: not under the lock.
        drop((own, unused));
    }
}
