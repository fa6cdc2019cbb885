// SPDX-License-Identifier: GPL-2.0

//! Memory whose allocation can fail, as `kernel::alloc`.

use core::cell::Cell;
use core::fmt;
use core::ops::Deref;
use core::ops::DerefMut;
use core::pin::Pin;

/// Allocation flags: of these, the host only looks at whether the allocation may wait.
#[derive(Clone, Copy)]
pub struct Flags {
    may_wait: bool,
}

/// The flags that library crates use.
pub mod flags {
    use super::Flags;

    /// An allocation that may sleep.
    pub const GFP_KERNEL: Flags = Flags { may_wait: true };
    /// An allocation that may not sleep.
    pub const GFP_NOWAIT: Flags = Flags { may_wait: false };
}

/// An allocation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllocError;

thread_local! {
    static ALLOCATIONS_LEFT: Cell<Option<u64>> = const { Cell::new(None) };
    static MAY_WAIT: Cell<bool> = const { Cell::new(true) };
    static IS_SHORT: Cell<bool> = const { Cell::new(false) };
}

/// Makes the allocations of this thread fail after the next `allocations`; `None` lets all succeed.
pub fn fail_after(allocations: Option<u64>) {
    ALLOCATIONS_LEFT.set(allocations);
}

/// Returns how many allocations of this thread will succeed; `None` if all will.
pub fn allocations_left() -> Option<u64> {
    ALLOCATIONS_LEFT.get()
}

/// Runs `f`, in which this thread must not ask for memory that it would have to wait for: in the
/// kernel such an allocation does not fail, and the memory may have to be written to the very
/// device that asks.
pub fn without_waiting<R>(f: impl FnOnce() -> R) -> R {
    let _before = Before(MAY_WAIT.replace(false));
    f()
}

/// Runs `f`, in which this thread may wait for memory: for another task, in the middle of one that
/// must not.
pub fn with_waiting<R>(f: impl FnOnce() -> R) -> R {
    let _before = Before(MAY_WAIT.replace(true));
    f()
}

/// What held before; it holds again when this is dropped.
struct Before(bool);

impl Drop for Before {
    fn drop(&mut self) {
        MAY_WAIT.set(self.0);
    }
}

/// Makes memory short for this thread, or ends that: allocations fail that may not wait.
pub fn set_short(short: bool) {
    IS_SHORT.set(short);
}

/// Counts an allocation, and fails it if the countdown says so, or if memory is short.
pub(crate) fn attempt(flags: Flags) -> Result<(), AllocError> {
    assert!(
        MAY_WAIT.get() || !flags.may_wait,
        "an allocation may wait where nobody must wait for memory"
    );
    if IS_SHORT.get() && !flags.may_wait {
        return Err(AllocError);
    }
    match ALLOCATIONS_LEFT.get() {
        None => Ok(()),
        Some(0) => Err(AllocError),
        Some(left) => {
            ALLOCATIONS_LEFT.set(Some(left - 1));
            Ok(())
        }
    }
}

/// A box.
pub struct KBox<T: ?Sized>(Box<T>);

impl<T> KBox<T> {
    /// Allocates `value`.
    pub fn new(value: T, flags: Flags) -> Result<Self, AllocError> {
        attempt(flags)?;
        Ok(Self(Box::new(value)))
    }

    /// Allocates `value`, which will not move any more.
    pub fn pin(value: T, flags: Flags) -> Result<Pin<Self>, AllocError> {
        let boxed = Self::new(value, flags)?;
        // SAFETY: The value stays on the heap until the box drops it.
        Ok(unsafe { Pin::new_unchecked(boxed) })
    }

    /// Returns the value.
    pub fn into_inner(boxed: Self) -> T {
        *boxed.0
    }
}

impl<T: ?Sized> Deref for KBox<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: ?Sized> DerefMut for KBox<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T: fmt::Debug + ?Sized> fmt::Debug for KBox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A vector; it grows only with flags, and can fail to.
pub struct KVec<T>(Vec<T>);

/// A vector that may be backed by virtually contiguous memory.
pub type KVVec<T> = KVec<T>;

/// A value for which a vector had no room, given back.
pub struct PushError<T>(pub T);

impl<T> KVec<T> {
    /// Creates an empty vector.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Creates an empty vector with room for `capacity` values.
    pub fn with_capacity(capacity: usize, flags: Flags) -> Result<Self, AllocError> {
        let mut vec = Self::new();
        vec.reserve(capacity, flags)?;
        Ok(vec)
    }

    /// Creates a vector of `len` copies of `value`.
    pub fn from_elem(value: T, len: usize, flags: Flags) -> Result<Self, AllocError>
    where
        T: Clone,
    {
        let mut vec = Self::with_capacity(len, flags)?;
        vec.0.resize(len, value);
        Ok(vec)
    }

    /// Makes room for `additional` more values.
    pub fn reserve(&mut self, additional: usize, flags: Flags) -> Result<(), AllocError> {
        if self.0.capacity() - self.0.len() >= additional {
            return Ok(());
        }
        attempt(flags)?;
        self.0.try_reserve(additional).map_err(|_| AllocError)
    }

    /// Appends `value`.
    pub fn push(&mut self, value: T, flags: Flags) -> Result<(), AllocError> {
        self.reserve(1, flags)?;
        self.0.push(value);
        Ok(())
    }

    /// Appends `value` if there is room without allocating.
    pub fn push_within_capacity(&mut self, value: T) -> Result<(), PushError<T>> {
        if self.0.len() == self.0.capacity() {
            return Err(PushError(value));
        }
        self.0.push(value);
        Ok(())
    }

    /// Appends a copy of `values`.
    pub fn extend_from_slice(&mut self, values: &[T], flags: Flags) -> Result<(), AllocError>
    where
        T: Clone,
    {
        self.reserve(values.len(), flags)?;
        self.0.extend_from_slice(values);
        Ok(())
    }

    /// Sets the length to `len`, filling with `value`.
    pub fn resize(&mut self, len: usize, value: T, flags: Flags) -> Result<(), AllocError>
    where
        T: Clone,
    {
        self.reserve(len.saturating_sub(self.0.len()), flags)?;
        self.0.resize(len, value);
        Ok(())
    }

    /// Removes the last value.
    pub fn pop(&mut self) -> Option<T> {
        self.0.pop()
    }

    /// Drops all values from `len` on.
    pub fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }

    /// Drops all values.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Returns for how many values there is room in all.
    pub fn capacity(&self) -> usize {
        self.0.capacity()
    }
}

impl<T> Default for KVec<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Deref for KVec<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T> DerefMut for KVec<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.0
    }
}

impl<T> IntoIterator for KVec<T> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a, T> IntoIterator for &'a KVec<T> {
    type Item = &'a T;
    type IntoIter = core::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl<T: fmt::Debug> fmt::Debug for KVec<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
