// SPDX-License-Identifier: GPL-2.0

//! Atomic integers with the operations of `runtime::sync`, by the kernel crate's `Atomic`.
//!
//! That has no bit operations yet: those are C's.

use kernel::sync::atomic::Acquire;
use kernel::sync::atomic::Atomic;
use kernel::sync::atomic::Full;
use kernel::sync::atomic::Relaxed;
use kernel::sync::atomic::Release;

macro_rules! atomic {
    ($name:ident, $int:ty, $fetch_or:ident, $fetch_and:ident) => {
        /// An integer that several CPUs may touch at once.
        pub struct $name(Atomic<$int>);

        impl $name {
            /// Creates the atomic with `value`.
            pub const fn new(value: $int) -> Self {
                Self(Atomic::new(value))
            }

            /// Reads without ordering.
            #[inline(always)]
            pub fn load_relaxed(&self) -> $int {
                self.0.load(Relaxed)
            }

            /// Reads; what comes later in this task stays later.
            #[inline(always)]
            pub fn load_acquire(&self) -> $int {
                self.0.load(Acquire)
            }

            /// Writes without ordering.
            #[inline(always)]
            pub fn store_relaxed(&self, value: $int) {
                self.0.store(value, Relaxed);
            }

            /// Writes; what came earlier in this task stays earlier.
            #[inline(always)]
            pub fn store_release(&self, value: $int) {
                self.0.store(value, Release);
            }

            /// Replaces the value, fully ordered, and returns the old one.
            #[inline(always)]
            pub fn swap(&self, value: $int) -> $int {
                self.0.xchg(value, Full)
            }

            /// Replaces `old` by `new`, fully ordered; fails with the value found.
            ///
            /// # Errors
            ///
            /// The value found, if it was not `old`.
            #[inline(always)]
            pub fn compare_exchange(&self, old: $int, new: $int) -> Result<$int, $int> {
                self.0.cmpxchg(old, new, Full)
            }

            /// Adds, fully ordered, and returns the old value.
            #[inline(always)]
            pub fn fetch_add(&self, value: $int) -> $int {
                self.0.fetch_add(value, Full)
            }

            /// Subtracts, fully ordered, and returns the old value.
            #[inline(always)]
            pub fn fetch_sub(&self, value: $int) -> $int {
                self.0.fetch_sub(value, Full)
            }

            /// Sets bits, fully ordered, and returns the old value.
            #[inline(always)]
            pub fn fetch_or(&self, bits: $int) -> $int {
                // SAFETY: The pointer is valid, and aligned as C's atomic of this size is: the kernel
                // crate's functions take it for one, too.
                unsafe { dm_bindings::$fetch_or(bits, self.0.as_ptr()) }
            }

            /// Keeps only `bits`, fully ordered, and returns the old value.
            #[inline(always)]
            pub fn fetch_and(&self, bits: $int) -> $int {
                // SAFETY: The pointer is valid, and aligned as C's atomic of this size is: the kernel
                // crate's functions take it for one, too.
                unsafe { dm_bindings::$fetch_and(bits, self.0.as_ptr()) }
            }
        }
    };
}

atomic!(AtomicU32, u32, dmox_fetch_or_u32, dmox_fetch_and_u32);
atomic!(AtomicU64, u64, dmox_fetch_or_u64, dmox_fetch_and_u64);
