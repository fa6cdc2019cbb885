// SPDX-License-Identifier: GPL-2.0

//! A box that readers look into under RCU and that can be emptied once.

use core::ptr;
use kernel::prelude::*;
use kernel::sync::atomic::Atomic;
use kernel::sync::atomic::Full;
use kernel::sync::atomic::Relaxed;
use kernel::sync::rcu;

/// A boxed value that is read without a lock until somebody takes it away.
///
/// # Invariants
///
/// `value` is null, or came from [`KBox::into_raw`] and is owned by `self`. It is never changed but
/// to null.
pub struct RcuBox<T: Send + Sync> {
    value: Atomic<*mut T>,
}

// SAFETY: The box owns a `T`, which may move.
unsafe impl<T: Send + Sync> Send for RcuBox<T> {}

// SAFETY: Readers share a `T`, and whoever takes it gets it after the last of them.
unsafe impl<T: Send + Sync> Sync for RcuBox<T> {}

impl<T: Send + Sync> RcuBox<T> {
    /// Creates the box.
    pub fn new(value: KBox<T>) -> Self {
        // INVARIANT: It came from there just now.
        Self {
            value: Atomic::new(KBox::into_raw(value)),
        }
    }

    /// Runs `f` with the value, or with `None` after it was taken. `f` must not sleep.
    pub fn read<R>(&self, f: impl FnOnce(Option<&T>) -> R) -> R {
        let _guard = rcu::read_lock();
        // What is read through the result is ordered by the dependency, as in `rcu_dereference`.
        let value = self.value.load(Relaxed);
        // SAFETY: By the type invariant the pointer is null or valid: it was read under the guard,
        // and `take` gives the value away only after a grace period, that is not before the guard
        // is dropped. Until then there are only shared references.
        f(unsafe { value.as_ref() })
    }

    /// Returns true if the value was taken away, for good.
    #[inline]
    pub fn is_taken(&self) -> bool {
        // What it points to is not looked at, so that no reader's section is needed.
        self.value.load(Relaxed).is_null()
    }

    /// Takes the value away, when the last reader is done; sleeps.
    pub fn take(&self) -> Option<KBox<T>> {
        let value = self.value.xchg(ptr::null_mut(), Full);
        if value.is_null() {
            return None;
        }
        // SAFETY: May be called where one may sleep, and outside of a reader's section; `read`
        // takes a closure that does not sleep, so that this is not called in one.
        unsafe { kernel::bindings::synchronize_rcu() };
        // SAFETY: By the type invariant it came from `KBox::into_raw`. Nobody else has it: the
        // exchange gave it to this thread, and those who had read it before are done.
        Some(unsafe { KBox::from_raw(value) })
    }
}

impl<T: Send + Sync> Drop for RcuBox<T> {
    fn drop(&mut self) {
        let value = self.value.xchg(ptr::null_mut(), Full);
        if !value.is_null() {
            // SAFETY: By the type invariant it came from `KBox::into_raw`. Nobody else has it: this
            // has the box for itself, so that nobody reads.
            drop(unsafe { KBox::from_raw(value) });
        }
    }
}
