// SPDX-License-Identifier: GPL-2.0

//! Where other CPUs may come in between, for simulators; on the host only.
//!
//! What one task does between two locks (or atomics) seems atomic to all others if tasks run one at
//! a time. So whoever polls a task may have it stop at the edges of each: a [`Hook`] runs there, on
//! the stack of the task, and may poll other tasks before it returns. No lock is held at an edge.
//!
//! Loom has its own means: there are no edges then.

#![cfg_attr(loom, allow(dead_code))]

use core::cell::Cell;
use core::cell::RefCell;
use core::panic::Location;
use std::rc::Rc;
use std::thread_local;

/// An edge, before or after something that other CPUs can see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Edge {
    /// What it is: the type in the lock, or the file that uses the atomic.
    pub what: &'static str,
    /// Which side of it.
    pub side: Side,
}

/// A side of what other CPUs can see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// It comes next.
    Before,
    /// It has just been.
    After,
}

/// What runs at each edge.
pub type Hook = Rc<dyn Fn(Edge)>;

thread_local! {
    static HOOK: RefCell<Option<Hook>> = const { RefCell::new(None) };
    static LOCKED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `f` with `hook` at each edge on this thread.
pub fn with_hook<R>(hook: Hook, f: impl FnOnce() -> R) -> R {
    struct Restore(Option<Hook>);
    impl Drop for Restore {
        fn drop(&mut self) {
            HOOK.set(self.0.take());
        }
    }
    let _restore = Restore(HOOK.replace(Some(hook)));
    f()
}

fn edge(what: &'static str, side: Side) {
    let hook = HOOK.with_borrow(Clone::clone);
    if let Some(hook) = hook.filter(|_| !LOCKED.get()) {
        hook(Edge { what, side });
    }
}

/// The task is about to use an atomic, at `place`.
pub(crate) fn before_atomic(place: &'static Location<'static>) {
    let path = place.file();
    let file = path.rsplit('/').next();
    edge(file.unwrap_or(path), Side::Before);
}

/// Runs `f`, which takes the lock of a `what` and gives it back.
///
/// # Panics
///
/// If this thread holds a lock already.
pub(crate) fn around_lock<R>(what: &'static str, f: impl FnOnce() -> R) -> R {
    struct Unlock;
    impl Drop for Unlock {
        fn drop(&mut self) {
            LOCKED.set(false);
        }
    }
    edge(what, Side::Before);
    assert!(!LOCKED.replace(true), "a lock is taken under another");
    let unlock = Unlock;
    let result = f();
    drop(unlock);
    edge(what, Side::After);
    result
}
