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
    /// What the target does with it; `None` while it is being constructed, and when it has left.
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

    /// Returns the uses of the device `device`.
    pub fn on(&self, device: DevT) -> impl Iterator<Item = &Use<V>> {
        let uses = self.0.iter();
        uses.filter(move |own| own.disk.device().dev() == device)
    }

    /// Returns the uses by targets of the mapped device `mapped`.
    pub fn by(&self, mapped: DevT) -> impl Iterator<Item = &Use<V>> {
        let uses = self.0.iter();
        uses.filter(move |own| own.target.mapped_device() == mapped)
    }
}

impl<V: 'static, L> Claim<V, L>
where
    L: GlobalLockBackend<Item = Registry<V>> + 'static,
{
    /// Claims the device of `disk` for `target`, which is being constructed. Of the other uses
    /// `choose` picks the volume that it goes on with, if there is one, and no other load or
    /// destruction comes between: it is this target's from then on.
    ///
    /// # Errors
    ///
    /// `EBUSY` if the device is used by a target of another mapped device; those of `choose`.
    pub fn new(
        registry: &'static GlobalLock<L>,
        target: &TargetRef,
        disk: Arc<KernelDisk>,
        choose: impl FnOnce(&Registry<V>) -> Result<Option<Arc<V>>>,
    ) -> Result<(Self, Option<Arc<V>>)> {
        let mut uses = registry.lock();
        let mapped = target.mapped_device();
        let is_foreign = |other: &Use<V>| other.target.mapped_device() != mapped;
        if uses.on(disk.device().dev()).any(is_foreign) {
            return Err(EBUSY);
        }
        let volume = choose(&uses)?;
        let own = Use {
            target: target.clone(),
            disk,
            volume: volume.clone(),
        };
        uses.0.push(own, GFP_KERNEL)?;
        let claim = Self {
            registry,
            target: target.clone(),
        };
        Ok((claim, volume))
    }

    /// The target has made the volume that it has from now on.
    pub fn set_volume(&self, volume: &Arc<V>) {
        let mut uses = self.registry.lock();
        for own in uses.0.iter_mut().filter(|own| self.is(own)) {
            own.volume = Some(volume.clone());
        }
    }

    /// The target leaves `volume`. Another one that has it, if there is one, is given to
    /// `hand_over`, before that one may leave, too. Returns whether there is one.
    pub fn leave(&self, volume: &Arc<V>, hand_over: impl FnOnce(&Use<V>)) -> bool {
        let mut uses = self.registry.lock();
        for own in uses.0.iter_mut().filter(|own| self.is(own)) {
            // Not the last reference: the caller has one.
            own.volume = None;
        }
        let successor = uses.0.iter().find(|other| {
            let theirs = other.volume.as_ref();
            theirs.is_some_and(|theirs| Arc::ptr_eq(theirs, volume))
        });
        successor.map(hand_over).is_some()
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
