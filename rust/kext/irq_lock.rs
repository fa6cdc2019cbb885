// SPDX-License-Identifier: GPL-2.0

//! A spin lock that interrupt handlers may take too, held only for the length of a closure.
//!
//! The kernel crate's `SpinLock` leaves interrupts on, and 7.2 has no `SpinLockIrq`. This one
//! saves and disables them. All locks are of one lockdep class: no two are ever held at once, and
//! a debug kernel reports violations. A closure instead of a guard, because no future may keep
//! the lock while it waits.

use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use kernel::bindings;

/// A value that is reached only with interrupts off and the lock held.
///
/// It needs no pinning: nothing points to an unlocked spin lock, and while it is locked it is
/// borrowed.
pub struct IrqLock<T> {
    raw: UnsafeCell<bindings::spinlock_t>,
    value: UnsafeCell<T>,
}

// SAFETY: Who owns the lock owns the value, which is `Send`; a lock that is not held belongs to no
// thread.
unsafe impl<T: Send> Send for IrqLock<T> {}

// SAFETY: The value is reached only by who holds the lock, one thread at a time.
unsafe impl<T: Send> Sync for IrqLock<T> {}

impl<T> IrqLock<T> {
    /// Creates the lock around `value`.
    pub fn new(value: T) -> Self {
        let mut raw = MaybeUninit::uninit();
        // SAFETY: The pointer is valid for writes.
        unsafe { dm_bindings::dmox_irq_lock_init(raw.as_mut_ptr()) };
        Self {
            // SAFETY: Initialised just now. It may be moved, as with an initialiser in C: a lock
            // that is not held has no pointer to itself.
            raw: UnsafeCell::new(unsafe { raw.assume_init() }),
            value: UnsafeCell::new(value),
        }
    }

    /// Runs `f` with the lock held. `f` takes no other lock and does not wait.
    #[inline]
    pub fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        // SAFETY: The lock was initialised in `new`, and does not move while it is held: it is
        // borrowed.
        let flags = unsafe { dm_bindings::dmox_spin_lock_irqsave(self.raw.get()) };
        // SAFETY: The lock is held, so that nobody else has a reference to the value.
        let result = f(unsafe { &mut *self.value.get() });
        // SAFETY: This thread holds the lock, and `flags` are those from when it took it.
        unsafe { dm_bindings::dmox_spin_unlock_irqrestore(self.raw.get(), flags) };
        result
    }
}
