// SPDX-License-Identifier: GPL-2.0

//! Handles that somebody waits for before he takes away what they refer to.
//!
//! Device-mapper tears a target down when it says so, not when the last handle to a device of the
//! target is dropped. A [`Lender`] gives out [`Lease`]s and, when it is dropped, waits until all
//! have come back. What a lease stands for is therefore alive as long as the lease.

use crate::atomic::AtomicU32;
use kernel::prelude::*;
use kernel::sync::Arc;
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
    fn give_back(&self) {
        if self.out.fetch_sub(1) == 1 {
            self.all_back.complete_all();
        }
    }
}

/// Gives out leases; its drop waits for all of them, so it may sleep.
pub struct Lender(Arc<Shared>);

impl Lender {
    /// Creates a lender without leases.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new() -> Result<Self> {
        let shared = Arc::pin_init(
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
        self.0.out.fetch_add(1);
        Lease(self.0.clone())
    }
}

impl Drop for Lender {
    fn drop(&mut self) {
        self.0.give_back();
        self.0.all_back.wait_for_completion();
    }
}

/// A promise of the lender to wait; may be dropped in any context.
pub struct Lease(Arc<Shared>);

impl Clone for Lease {
    fn clone(&self) -> Self {
        self.0.out.fetch_add(1);
        Self(self.0.clone())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.give_back();
    }
}
