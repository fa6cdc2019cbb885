// SPDX-License-Identifier: GPL-2.0

//! Handles whose return is waited for before the object that they refer to is released.
//!
//! Device-mapper tears a target down when it says so, not when the last handle to a device of the
//! target is dropped. A [`Lender`] gives out [`Lease`]s and, when it is dropped, waits until all
//! have come back. What a lease stands for is therefore alive as long as the lease.

use crate::atomic::AtomicU32;
use core::ptr::NonNull;
use kernel::prelude::*;
use kernel::sync::Completion;

/// # Invariants
///
/// `out` is the number of leases, plus one while the lender has not begun to wait.
#[pin_data]
struct Shared {
    out: AtomicU32,
    #[pin]
    all_back: Completion,
}

impl Shared {
    /// Drops a lease, or the lender's own count. The caller must not access `self` after this.
    fn give_back(&self) {
        if self.out.fetch_sub(1) == 1 {
            self.all_back.complete_all();
        }
    }
}

/// Gives out leases; its drop waits for all of them, so it may sleep.
pub struct Lender(Pin<KBox<Shared>>);

impl Lender {
    /// Creates a lender without leases.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new() -> Result<Self> {
        let shared = KBox::pin_init(
            pin_init!(Shared {
                out: AtomicU32::new(1),
                all_back <- Completion::new(),
            }),
            GFP_KERNEL,
        )?;
        Ok(Self(shared))
    }

    /// Gives out a lease.
    pub fn lease(&self) -> Lease {
        Lease::new(&self.0)
    }
}

impl Drop for Lender {
    fn drop(&mut self) {
        self.0.give_back();
        // Nobody looks at the shared part after this: each lease was given back before, and the
        // completion lets nobody pass before it is done with itself.
        self.0.all_back.wait_for_completion();
    }
}

/// A promise of the lender to wait; may be dropped in any context. One that is forgotten is waited
/// for for ever.
///
/// # Invariants
///
/// The shared part is alive, and this lease counted in it.
pub struct Lease(NonNull<Shared>);

// SAFETY: A lease is a reference to the shared part, which is `Sync`.
unsafe impl Send for Lease {}

// SAFETY: A lease is a reference to the shared part, which is `Sync`.
unsafe impl Sync for Lease {}

impl Lease {
    fn new(shared: &Shared) -> Self {
        shared.out.fetch_add(1);
        // INVARIANT: Counted just now. While it is, the lender waits before it frees the shared
        // part.
        Self(NonNull::from(shared))
    }

    fn shared(&self) -> &Shared {
        // SAFETY: By the type invariant.
        unsafe { self.0.as_ref() }
    }
}

impl Clone for Lease {
    fn clone(&self) -> Self {
        Self::new(self.shared())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.shared().give_back();
    }
}
