// SPDX-License-Identifier: GPL-2.0

//! A reference to a `struct dm_target`: its events, its log, and its identity.

use crate::log;
use crate::log::Level;
use core::ptr::NonNull;
use kernel::fmt::Arguments;
use kernel::prelude::*;
use kext::block::DevT;
use kext::lease::Lease;

/// A `struct dm_target`, from constructor to destructor.
///
/// The destructor waits until all clones of the reference are gone.
///
/// # Invariants
///
/// `raw` is valid, with its table and the mapped device of that, as long as `_alive` lives.
#[derive(Clone)]
pub struct TargetRef {
    raw: NonNull<dm_bindings::dm_target>,
    name: &'static str,
    _alive: Lease,
}

// SAFETY: A target belongs to no thread.
unsafe impl Send for TargetRef {}

// SAFETY: What is read of the C structure does not change once it is constructed, and while it is,
// one thread alone does that. The functions that are called do their own locking.
unsafe impl Sync for TargetRef {}

impl TargetRef {
    /// Makes a reference to a target that is called `name` in the log.
    ///
    /// # Safety
    ///
    /// `raw` is valid, and its table is not destroyed before the lender of `alive` has waited.
    pub(crate) unsafe fn from_raw(
        raw: NonNull<dm_bindings::dm_target>,
        name: &'static str,
        alive: Lease,
    ) -> Self {
        // INVARIANT: By the contract; a table does not outlive its mapped device.
        Self {
            raw,
            name,
            _alive: alive,
        }
    }

    fn table(&self) -> *mut dm_bindings::dm_table {
        // SAFETY: By the type invariant the target is valid.
        unsafe { (*self.raw.as_ptr()).table }
    }

    /// Returns the first sector of the target in its table.
    pub fn begin(&self) -> u64 {
        // SAFETY: By the type invariant the target is valid.
        unsafe { (*self.raw.as_ptr()).begin }
    }

    /// Returns the length of the target in sectors.
    pub fn len(&self) -> u64 {
        // SAFETY: By the type invariant the target is valid.
        unsafe { (*self.raw.as_ptr()).len }
    }

    /// Returns false: device-mapper refuses targets without sectors.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Raises an event: increments the event counter and wakes all waiters. May sleep.
    pub fn event(&self) {
        // SAFETY: By the type invariant the table is valid.
        unsafe { dm_bindings::dm_table_event(self.table()) };
    }

    /// Returns true while the mapped device is being suspended without waiting for its I/O.
    pub fn is_noflush_suspending(&self) -> bool {
        // SAFETY: By the type invariant the target is valid, with its mapped device.
        unsafe { dm_bindings::dm_noflush_suspending(self.raw.as_ptr()) != 0 }
    }

    /// Returns the number of the mapped device.
    pub fn mapped_device(&self) -> DevT {
        // SAFETY: By the type invariant the target is valid, with its mapped device.
        DevT::from_raw(unsafe { dm_bindings::dmox_dm_dev(self.raw.as_ptr()) })
    }

    /// Returns true if `other` belongs to the same table.
    pub fn is_same_table(&self, other: &Self) -> bool {
        self.table() == other.table()
    }

    /// Returns true if `other` is this one.
    pub fn is_same_target(&self, other: &Self) -> bool {
        self.raw == other.raw
    }

    /// Logs an error, as `device-mapper: clone: 254:3: Text`.
    pub fn error(&self, text: Arguments<'_>) {
        self.log(Level::Error, text);
    }

    /// Logs an error unless there were too many of late: see [`kext::print::ratelimit`].
    pub fn error_limited(&self, line: u32, name: &'static CStr, text: Arguments<'_>) {
        if kext::print::ratelimit(line, name) {
            self.error(text);
        }
    }

    /// Logs an informational message.
    pub fn info(&self, text: Arguments<'_>) {
        self.log(Level::Info, text);
    }

    fn log(&self, level: Level, text: Arguments<'_>) {
        let device = self.mapped_device();
        log::line(level, fmt!("{}: {device}: {text}", self.name));
    }
}
