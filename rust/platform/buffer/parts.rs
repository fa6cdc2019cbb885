// SPDX-License-Identifier: GPL-2.0

//! Several parts of a buffer in flight at once: a bio each, and one wake for all.

use super::Flight;
use super::Inner;
use super::KernelBuffer;
use core::ptr::NonNull;
use core::task::Waker;
use kernel::alloc::Flags;
use kernel::bindings;
use kernel::prelude::*;
use kext::bio;
use kext::bio::BioGroup;
use kext::bio::Operation;
use kext::bio::Status;
use kext::block::BlockDevice;
use runtime::disk::Buffer;
use runtime::disk::Part;
use runtime::sync::AtomicU32;

/// Bios for the parts of a buffer.
///
/// # Invariants
///
/// While bios of a round are in flight, or are being launched, `out` is their number, plus one
/// during the launch. Who takes it to 0 ends the flight of the buffer.
pub(super) struct Group {
    bios: BioGroup,
    out: AtomicU32,
}

impl Group {
    /// Creates bios for `parts` parts of a buffer of `pieces` pieces.
    pub(super) fn new(parts: usize, pieces: usize, flags: Flags) -> Result<Self> {
        // What does not begin with a piece has one more: parts do not overlap.
        let segments = parts.saturating_add(pieces);
        Ok(Self {
            bios: BioGroup::new(parts, segments, flags)?,
            out: AtomicU32::new(0),
        })
    }
}

impl KernelBuffer {
    fn group(&self) -> Option<&Group> {
        // SAFETY: By the type invariant the box is alive, and nobody has a mutable reference.
        unsafe { (*self.0.as_ptr()).group.as_ref() }
    }

    /// Returns how many parts can be in flight at once.
    pub(crate) fn parts(&self) -> usize {
        self.group().map_or(1, |group| group.bios.bios())
    }

    /// Starts an I/O for each of the first of `parts`, as many as there are bios. Parts that cannot
    /// be started have their error then, and the others none.
    ///
    /// Returns how many of the parts this was about. All of them are to be
    /// [landed](Self::land_parts).
    ///
    /// # Safety
    ///
    /// Until [`KernelBuffer::land_parts`] says that they are done, the buffer is neither used nor
    /// dropped, and the device stays open.
    pub(crate) unsafe fn launch_parts(
        &mut self,
        device: &BlockDevice,
        operation: Operation,
        parts: &mut [Part],
    ) -> usize {
        let is_refused = operation.is_read() && self.is_viewed();
        let Some(group) = self.group() else {
            return 0;
        };
        // Nobody waits yet: what is done at once wakes nobody.
        self.flight().with(|flight| *flight = Flight::Flying(None));
        group.out.store_release(1);
        let (mut count, mut segment) = (0, 0);
        for (index, part) in parts.iter_mut().enumerate().take(group.bios.bios()) {
            count = index.saturating_add(1);
            if is_refused {
                part.result = Err(EBUSY);
                continue;
            }
            group.out.fetch_add(1);
            // SAFETY: No bio of the group is in flight but those with lower numbers, which were
            // submitted here. The buffer, of which the pieces are, stays until all have landed, and
            // the device is open. The function is for bios with a pointer to the box.
            let submitted = unsafe {
                group.bios.submit(
                    (index, segment),
                    device,
                    operation,
                    (part.sector, part.sectors),
                    (self.memory().pieces(), part.page),
                    part_landed,
                    self.0.as_ptr().cast(),
                )
            };
            part.result = submitted.map(|next| segment = next);
            if part.result.is_err() {
                group.out.fetch_sub(1);
            }
        }
        if group.out.fetch_sub(1) == 1 {
            // Nobody else will.
            let landed = Flight::Landed(Status::from_result(Ok(())));
            self.flight().with(|flight| *flight = landed);
        }
        count
    }

    /// Returns true if all the parts that were launched are done, with what became of each;
    /// otherwise `waker` will be called.
    pub(crate) fn land_parts(&mut self, parts: &mut [Part], waker: &Waker) -> bool {
        let is_flying = self.flight().with(|flight| match flight {
            Flight::Flying(old) => {
                match old {
                    Some(old) => old.clone_from(waker),
                    None => *old = Some(waker.clone()),
                }
                true
            }
            Flight::Landed(_) => false,
        });
        if is_flying {
            return false;
        }
        if let Some(group) = self.group() {
            for (index, part) in parts.iter_mut().enumerate() {
                if part.result.is_ok() {
                    // SAFETY: The bio was submitted, since there was no error, and is back.
                    part.result = unsafe { group.bios.finish(index) };
                }
            }
        }
        true
    }
}

/// Completion function of a part: the last one wakes the task.
///
/// # Safety
///
/// Called by the block layer, once, for a bio that [`KernelBuffer::launch_parts`] submitted.
unsafe extern "C" fn part_landed(raw: *mut bindings::bio) {
    // SAFETY: By the contract the bio is valid, and the completion function's.
    let (inner, _) = unsafe { bio::completion(raw) };
    // SAFETY: `launch_parts` put a pointer to the box there, which is alive until all parts have
    // landed, and this one has not: `out` counts it. Only fields are borrowed, never mutably.
    let (flight, group) = unsafe {
        let inner = NonNull::new_unchecked(inner.cast::<Inner>());
        (&(*inner.as_ptr()).flight, &(*inner.as_ptr()).group)
    };
    let is_last = group
        .as_ref()
        .is_some_and(|group| group.out.fetch_sub(1) == 1);
    // Unless it was the last one, the buffer may be gone from here on.
    if is_last {
        let landed = Flight::Landed(Status::from_result(Ok(())));
        let before = flight.with(|flight| core::mem::replace(flight, landed));
        // It may be gone from here on in any case.
        if let Flight::Flying(Some(waker)) = before {
            waker.wake();
        }
    }
}
