// SPDX-License-Identifier: GPL-2.0

//! The devices that a module's targets use, and the volumes on them.
//!
//! A volume may outlive the table that made it: another one of the same mapped device takes its
//! place and goes on with it. The registry is where that one finds it, and where a table is refused
//! that would use the storage of somebody else.
//!
//! A module has one, in a [`kernel::sync::global_lock!`].

use crate::disk::KernelDisk;
use dm::TargetRef;
use kernel::prelude::*;
use kernel::sync::Arc;
use kernel::sync::GlobalLock;
use kernel::sync::GlobalLockBackend;
use kext::block::DevT;

/// The uses of devices by a module's targets.
pub struct Registry<V>(KVec<Use<V>>);

/// The use of a device by one target.
pub struct Use<V> {
    /// The target.
    pub target: TargetRef,
    /// The device, as the target has opened it.
    pub disk: Arc<KernelDisk>,
    /// What the target does with it; `None` while it is being constructed.
    pub volume: Option<Arc<V>>,
}

/// A target's entry in the registry, until it is dropped.
pub struct Claim<V: 'static, L>
where
    L: GlobalLockBackend<Item = Registry<V>> + 'static,
{
    registry: &'static GlobalLock<L>,
    target: TargetRef,
}

impl<V> Registry<V> {
    /// Creates an empty registry.
    #[expect(clippy::new_without_default, reason = "for statics")]
    pub const fn new() -> Self {
        Self(KVec::new())
    }

    /// Returns a volume of the mapped device `mapped` that is `usable`.
    pub fn find(&self, mapped: DevT, usable: impl Fn(&V) -> bool) -> Option<Arc<V>> {
        let mut own = self
            .0
            .iter()
            .filter(|other| other.target.mapped_device() == mapped);
        let usable = |volume: &&Arc<V>| usable(volume);
        own.find_map(|other| other.volume.as_ref().filter(usable).cloned())
    }
}

impl<V: 'static, L> Claim<V, L>
where
    L: GlobalLockBackend<Item = Registry<V>> + 'static,
{
    /// Claims the device of `disk` for `target`, which is being constructed.
    ///
    /// # Errors
    ///
    /// `EBUSY` if the device is used by a target of another mapped device, or by one that
    /// `excludes` this one.
    pub fn new(
        registry: &'static GlobalLock<L>,
        target: &TargetRef,
        disk: Arc<KernelDisk>,
        excludes: impl Fn(&TargetRef) -> bool,
    ) -> Result<Self> {
        let mut uses = registry.lock();
        let device = disk.device().dev();
        let mapped = target.mapped_device();
        let is_foreign = |other: &Use<V>| {
            other.disk.device().dev() == device
                && (other.target.mapped_device() != mapped || excludes(&other.target))
        };
        if uses.0.iter().any(is_foreign) {
            return Err(EBUSY);
        }
        let own = Use {
            target: target.clone(),
            disk,
            volume: None,
        };
        uses.0.push(own, GFP_KERNEL)?;
        Ok(Self {
            registry,
            target: target.clone(),
        })
    }

    /// The target uses the device for `volume`.
    pub fn set_volume(&self, volume: &Arc<V>) {
        let mut uses = self.registry.lock();
        for own in uses.0.iter_mut().filter(|own| self.is(own)) {
            own.volume = Some(volume.clone());
        }
    }

    /// Returns a volume that another target has on the same device, and that is `usable`.
    pub fn find(&self, usable: impl Fn(&V) -> bool) -> Option<Arc<V>> {
        let uses = self.registry.lock();
        let device = uses.0.iter().find(|own| self.is(own))?.disk.device().dev();
        let mut others = uses
            .0
            .iter()
            .filter(|other| other.disk.device().dev() == device);
        let usable = |volume: &&Arc<V>| usable(volume);
        others.find_map(|other| other.volume.as_ref().filter(usable).cloned())
    }

    /// Returns another target that uses `volume`, if there is one, with its way to the device.
    pub fn successor(&self, volume: &Arc<V>) -> Option<(TargetRef, Arc<KernelDisk>)> {
        let uses = self.registry.lock();
        let mut others = uses.0.iter().filter(|other| !self.is(other));
        let other = others.find(|other| {
            let theirs = other.volume.as_ref();
            theirs.is_some_and(|theirs| Arc::ptr_eq(theirs, volume))
        })?;
        Some((other.target.clone(), other.disk.clone()))
    }

    fn is(&self, other: &Use<V>) -> bool {
        other.target.is_same_target(&self.target)
    }
}

impl<V: 'static, L> Drop for Claim<V, L>
where
    L: GlobalLockBackend<Item = Registry<V>> + 'static,
{
    fn drop(&mut self) {
        let (own, unused) = {
            let mut uses = self.registry.lock();
            let at = uses.0.iter().position(|other| self.is(other));
            let own = at.and_then(|at| uses.0.remove(at).ok());
            // A static is not dropped with its module, so it may own nothing then.
            let unused = uses.0.is_empty().then(|| core::mem::take(&mut uses.0));
            (own, unused)
        };
        // The volume may go with its last use: not under the lock.
        drop((own, unused));
    }
}
