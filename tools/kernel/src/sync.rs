// SPDX-License-Identifier: GPL-2.0

//! Shared ownership, as `kernel::sync`.

use crate::alloc::{self, AllocError, Flags};
use core::ops::Deref;

/// A reference-counted pointer whose creation can fail.
pub struct Arc<T: ?Sized>(std::sync::Arc<T>);

impl<T> Arc<T> {
    /// Allocates `value`.
    pub fn new(value: T, flags: Flags) -> Result<Self, AllocError> {
        alloc::attempt(flags)?;
        Ok(Self(std::sync::Arc::new(value)))
    }
}

impl<T: ?Sized> Arc<T> {
    /// Returns true if both point to the same allocation.
    pub fn ptr_eq(this: &Self, other: &Self) -> bool {
        std::sync::Arc::ptr_eq(&this.0, &other.0)
    }
}

impl<T: ?Sized> Clone for Arc<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: ?Sized> Deref for Arc<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}
