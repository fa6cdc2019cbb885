// SPDX-License-Identifier: GPL-2.0

//! A scope in which no memory allocation of this thread starts I/O.

/// Runs `f` so that what it allocates, with whatever flags, does not wait for I/O.
///
/// Code that serves I/O runs in such a scope: memory reclaim may want to write to the very device
/// that waits for the allocation.
#[inline]
pub fn noio<R>(f: impl FnOnce() -> R) -> R {
    // SAFETY: May be called in any context. In an interrupt it is the interrupted task whose flags
    // change, which notices nothing: they are put back before it goes on.
    let flags = unsafe { dm_bindings::dmox_noio_save() };
    let result = f();
    // SAFETY: `flags` are from the save above, in this thread, and all scopes in between have
    // ended: they are calls.
    unsafe { dm_bindings::dmox_noio_restore(flags) };
    result
}
