// SPDX-License-Identifier: GPL-2.0

//! Parts of a bio, each from another place: those that come from below, by bios of our own that
//! share its memory, all at once; and those that are filled here.

use super::BioIo;
use super::Core;
use crate::executor::WorkHeader;
use crate::task::Header;
use core::cell::UnsafeCell;
use core::future::Future;
use core::pin::Pin;
use core::ptr::NonNull;
use core::task::Context;
use core::task::Poll;
use dm::Device;
use kernel::bindings;
use kernel::prelude::*;
use kext::bio;
use kext::bio::BioSet;
use kext::bio::DataWriter;
use kext::bio::Status;
use runtime::sync::AtomicU32;

/// A part of a bio that reads, and where it is to come from.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// The sectors of the bio before it.
    pub skip: u32,
    /// Its length.
    pub sectors: u32,
    /// Where it begins below.
    pub sector: u64,
}

/// The parts that are below.
///
/// # Invariants
///
/// While `open` is true or `out` is not 0, the parts have one reference to the task, which is given
/// up by the one that takes `out` to 0.
pub(super) struct Parts {
    /// How many they are, plus one while `open`.
    out: AtomicU32,
    /// The status of the first one that failed.
    failed: AtomicU32,
    /// Parts have been started and not been waited for. Accessed by the poller only.
    open: UnsafeCell<bool>,
}

impl Parts {
    pub(super) fn new() -> Self {
        Self {
            out: AtomicU32::new(0),
            failed: AtomicU32::new(0),
            open: UnsafeCell::new(false),
        }
    }

    fn failure(&self) -> Result {
        let status = u8::try_from(self.failed.load_acquire()).unwrap_or(u8::MAX);
        Status::from_raw(status).to_result()
    }
}

impl<'a> BioIo<'a> {
    /// Starts reading `part` from `device`, by a bio of `set`; waits if there is none.
    ///
    /// To be awaited by the bio's own future, not inside a combinator with a waker of its own.
    ///
    /// # Errors
    ///
    /// That of a part that was started before; `EINVAL` if it is not inside the bio, `EBUSY` if the
    /// bio is below.
    pub async fn start_part(&mut self, set: &'a BioSet, device: &'a Device, part: Part) -> Result {
        match self.try_start(set, device, part, false) {
            Err(error) if error == ENOMEM => (),
            result => return result,
        }
        // A task that waits for a bio must hold none itself, and not keep others from progress.
        self.leave_map().await;
        AllBack(self).await;
        self.try_start(set, device, part, true)
    }

    /// Waits for all parts that were started.
    ///
    /// To be awaited by the bio's own future, not inside a combinator with a waker of its own.
    ///
    /// # Errors
    ///
    /// That of the first one that failed.
    pub async fn finish_parts(&mut self) -> Result {
        AllBack(self).await;
        self.core().parts.failure()
    }

    /// Puts zeroes into `bytes` bytes of a bio that reads, from byte `offset` on. Does nothing for
    /// others, or if the bio is below.
    pub fn zero(&mut self, offset: u32, bytes: u32) {
        if let Some(mut writer) = self.writer_at(offset) {
            writer.zero(bytes);
        }
    }

    /// Copies `data` into a bio that reads, from byte `offset` on. Does nothing for others, or if
    /// the bio is below.
    pub fn copy_in(&mut self, offset: u32, data: &[u8]) {
        if let Some(mut writer) = self.writer_at(offset) {
            writer.copy_from(data);
        }
    }

    fn writer_at(&mut self, offset: u32) -> Option<DataWriter<'_>> {
        if !self.is_back() {
            return None;
        }
        let mut writer = self.bio_mut().writer();
        writer.skip(offset);
        Some(writer)
    }

    fn try_start(&mut self, set: &'a BioSet, device: &'a Device, part: Part, wait: bool) -> Result {
        if !self.is_back() {
            return Err(EBUSY);
        }
        let core = self.core();
        core.parts.failure()?;
        let below = set.clone_part(
            self.bio(),
            part.skip,
            part.sectors,
            device,
            part.sector,
            wait,
        )?;
        // SAFETY: This runs in a poll of the task, and only who polls looks at it.
        let open = unsafe { &mut *core.parts.open.get() };
        if !core::mem::replace(open, true) {
            // SAFETY: The task's future has not returned, so that the task is alive.
            unsafe { WorkHeader::header(self.task.cast()) }.acquire();
            core.parts.out.store_release(1);
        }
        core.parts.out.fetch_add(1);
        // SAFETY: The bio and its memory stay until it is completed, which is not before its parts
        // are back: they have a reference to the task. The set and the device live for `'a`, that
        // is as long as the bio. The completion function may be called with this bio, and
        // `bi_private` a task.
        unsafe { below.submit(part_done, self.task.as_ptr().cast()) };
        Ok(())
    }

    /// Starts to wait for the parts, or goes on. Returns true if none is out any more.
    pub(super) fn land_parts(&mut self) -> bool {
        let core = self.core();
        // SAFETY: This runs in a poll of the task, and only who polls looks at it.
        let open = unsafe { &mut *core.parts.open.get() };
        if !core::mem::replace(open, false) {
            return core.parts.out.load_acquire() == 0;
        }
        if core.parts.out.fetch_sub(1) != 1 {
            return false;
        }
        // SAFETY: This has taken `out` to 0, so that the reference of the parts is given up here.
        unsafe { Header::release(self.task.cast()) };
        true
    }

    /// Nobody waits for the parts any more: the last one, if there is one, gives up the reference.
    pub(super) fn abandon_parts(&mut self) {
        let _ = self.land_parts();
    }
}

/// Waits until no part is below any more.
struct AllBack<'f, 'a>(&'f mut BioIo<'a>);

impl Future for AllBack<'_, '_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if self.0.land_parts() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

/// Completion function of a part: leaves its status if it failed; the last one wakes the task.
///
/// # Safety
///
/// Called by the block layer, once, for a bio that [`BioIo::start_part`] submitted.
unsafe extern "C" fn part_done(raw: *mut bindings::bio) {
    // SAFETY: By the contract the bio is valid, and the completion function's.
    let (task, status) = unsafe { bio::completion(raw) };
    // SAFETY: It came from a set, was completed, and is not used after this.
    unsafe { bio::free(raw) };
    // SAFETY: `try_start` put a pointer to the task there, which is not null.
    let task: NonNull<Core> = unsafe { NonNull::new_unchecked(task) }.cast();
    // SAFETY: The reference of the parts keeps the task alive.
    let parts = unsafe { &task.as_ref().parts };
    if status.to_result().is_err() {
        let _ = parts.failed.compare_exchange(0, status.as_raw().into());
    }
    if parts.out.fetch_sub(1) == 1 {
        // SAFETY: This has taken `out` to 0, so that the reference of the parts is given up here.
        unsafe { Header::wake(task.cast()) };
    }
}
