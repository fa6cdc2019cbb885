// SPDX-License-Identifier: GPL-2.0

//! Atomics, the lock, RCU, and shared ownership: the kernel's, std's, or loom's.
//!
//! Whatever several CPUs touch at once goes through here, so that loom can explore it.
//!
//! No two [`Lock`]s are held at once. They share one lockdep class, which makes a debug kernel
//! report any code that nests them.

#[cfg(MODULE)]
mod imp {
    pub use kernel::sync::Arc;
    pub use kext::atomic::AtomicU32;
    pub use kext::atomic::AtomicU64;
    pub use kext::irq_lock::IrqLock as Lock;
    pub use kext::rcu::RcuBox;
}

#[cfg(not(MODULE))]
mod imp {
    pub use super::host::AtomicU32;
    pub use super::host::AtomicU64;
    pub use super::host::Lock;
    pub use super::host::RcuBox;
    pub use kernel::sync::Arc;
}

pub use imp::*;

/// Host twins of `kext::atomic`, `kext::irq_lock` and `kext::rcu`, with the same methods.
#[cfg(not(MODULE))]
mod host {
    #[cfg(not(loom))]
    use crate::preempt;
    #[cfg(loom)]
    use loom::sync::{atomic, Mutex};
    #[cfg(not(loom))]
    use std::sync::{atomic, Mutex};

    use atomic::Ordering;
    use kernel::prelude::*;

    /// The next thing that this task does is seen by others without a lock.
    #[track_caller]
    fn before_atomic() {
        #[cfg(not(loom))]
        preempt::before_atomic(core::panic::Location::caller());
    }

    macro_rules! atomic {
        ($name:ident, $std:ident, $int:ty) => {
            /// An integer that several CPUs may touch at once.
            pub struct $name(atomic::$std);

            impl $name {
                /// Creates the atomic with `value`.
                pub fn new(value: $int) -> Self {
                    Self(atomic::$std::new(value))
                }

                /// Reads without ordering.
                #[track_caller]
                pub fn load_relaxed(&self) -> $int {
                    before_atomic();
                    self.0.load(Ordering::Relaxed)
                }

                /// Reads; what comes later in this task stays later.
                #[track_caller]
                pub fn load_acquire(&self) -> $int {
                    before_atomic();
                    self.0.load(Ordering::Acquire)
                }

                /// Writes without ordering.
                #[track_caller]
                pub fn store_relaxed(&self, value: $int) {
                    before_atomic();
                    self.0.store(value, Ordering::Relaxed);
                }

                /// Writes; what came earlier in this task stays earlier.
                #[track_caller]
                pub fn store_release(&self, value: $int) {
                    before_atomic();
                    self.0.store(value, Ordering::Release);
                }

                /// Replaces the value, fully ordered, and returns the old one.
                #[track_caller]
                pub fn swap(&self, value: $int) -> $int {
                    before_atomic();
                    self.0.swap(value, Ordering::SeqCst)
                }

                /// Replaces `old` by `new`, fully ordered; fails with the value found.
                #[track_caller]
                pub fn compare_exchange(
                    &self,
                    old: $int,
                    new: $int,
                ) -> core::result::Result<$int, $int> {
                    before_atomic();
                    self.0
                        .compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst)
                }

                /// Adds, fully ordered, and returns the old value.
                #[track_caller]
                pub fn fetch_add(&self, value: $int) -> $int {
                    before_atomic();
                    self.0.fetch_add(value, Ordering::SeqCst)
                }

                /// Subtracts, fully ordered, and returns the old value.
                #[track_caller]
                pub fn fetch_sub(&self, value: $int) -> $int {
                    before_atomic();
                    self.0.fetch_sub(value, Ordering::SeqCst)
                }

                /// Sets bits, fully ordered, and returns the old value.
                #[track_caller]
                pub fn fetch_or(&self, bits: $int) -> $int {
                    before_atomic();
                    self.0.fetch_or(bits, Ordering::SeqCst)
                }

                /// Keeps only `bits`, fully ordered, and returns the old value.
                #[track_caller]
                pub fn fetch_and(&self, bits: $int) -> $int {
                    before_atomic();
                    self.0.fetch_and(bits, Ordering::SeqCst)
                }
            }
        };
    }

    atomic!(AtomicU32, AtomicU32, u32);
    atomic!(AtomicU64, AtomicU64, u64);

    /// A lock that completions may take too (the kernel's disables interrupts).
    pub struct Lock<T>(Mutex<T>);

    impl<T> Lock<T> {
        /// Creates the lock around `value`.
        pub fn new(value: T) -> Self {
            Self(Mutex::new(value))
        }

        /// Runs `f` with the lock held. `f` takes no other lock and does not wait.
        pub fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
            let locked = || {
                let mut guard = self
                    .0
                    .lock()
                    .unwrap_or_else(|poisoned| poisoned.into_inner());
                crate::steps::hold(|| f(&mut guard))
            };
            #[cfg(not(loom))]
            return preempt::around_lock(core::any::type_name::<T>(), locked);
            #[cfg(loom)]
            locked()
        }
    }

    /// A boxed value that is read without a lock until somebody takes it away.
    pub struct RcuBox<T>(Mutex<Option<std::sync::Arc<T>>>);

    impl<T: Send + Sync> RcuBox<T> {
        /// Creates the box.
        pub fn new(value: KBox<T>) -> Self {
            Self(Mutex::new(Some(std::sync::Arc::new(KBox::into_inner(
                value,
            )))))
        }

        /// The kernel's takes no lock: readers may hold others.
        #[track_caller]
        fn with<R>(&self, f: impl FnOnce(&mut Option<std::sync::Arc<T>>) -> R) -> R {
            before_atomic();
            f(&mut self
                .0
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner()))
        }

        /// Runs `f` with the value, or with `None` after it was taken. `f` must not wait.
        #[track_caller]
        pub fn read<R>(&self, f: impl FnOnce(Option<&T>) -> R) -> R {
            let value = self.with(|value| value.clone());
            f(value.as_deref())
        }

        /// Returns true if the value was taken away, for good.
        #[track_caller]
        pub fn is_taken(&self) -> bool {
            self.with(|value| value.is_none())
        }

        /// Takes the value away. The kernel's waits for the last reader; here, if there is one,
        /// that one drops the value, and nothing is returned.
        #[track_caller]
        pub fn take(&self) -> Option<KBox<T>> {
            let value = self.with(Option::take)?;
            let value = std::sync::Arc::into_inner(value)?;
            KBox::new(value, GFP_KERNEL).ok()
        }
    }
}
