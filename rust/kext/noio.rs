// SPDX-License-Identifier: GPL-2.0

//! A scope in which no memory allocation of this thread starts I/O.

/// Runs `f` so that what it allocates, with whatever flags, does not wait for I/O.
///
/// Code that serves I/O runs in such a scope: memory reclaim may want to write to the very device
/// that waits for the allocation.
#[inline]
pub fn noio<R>(f: impl FnOnce() -> R) -> R {
    // SAFETY: May be called in any context.
    let flags = unsafe { dm_bindings::dmox_noio_save() };
    let result = f();
    // SAFETY: `flags` are from the save in this thread; scopes nest, being calls.
    unsafe { dm_bindings::dmox_noio_restore(flags) };
    result
}
